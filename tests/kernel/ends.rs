//! How bare-metal guests end, and images that are none.

use std::fs;

use crate::common::{DEJAVM, Finished};
use crate::guests::{image, kernel, run};

#[test]
fn every_end_has_its_status() {
    for (cmdline, status) in [
        ("exit=0", 0),
        ("exit=77", 77),
        ("exit=255", 255),
        ("end=halt", 121),
        ("end=shutdown", 121),
        ("end=reset", 0),
    ] {
        let seen = kernel("guest", &["--memory", "16M", "--cmdline", cmdline], b"");
        assert_eq!(seen.status, status, "{cmdline}: {seen:?}");
    }
    let image = image("guest");
    let seen = run(&["kernel", &image, "--deadline", "1s", "--cmdline", "end=loop"], b"");
    assert_eq!(seen.status, 124, "{seen:?}");
    let says = |cmdline: &str| {
        String::from_utf8_lossy(&run(&["kernel", &image, "--cmdline", cmdline], b"").stderr).into_owned()
    };
    assert!(says("end=halt").contains("halted, and nothing can wake it"));
    assert!(says("end=shutdown").contains("a triple fault"));
}

/// A guest that waits for input can be ended.
#[test]
fn a_deadline_ends_a_wait_for_input() {
    let image = image("guest");
    // A pipe that stays open, with nothing in it.
    let mut child = std::process::Command::new(DEJAVM)
        .args(["kernel", "-q", &image, "--deadline", "1s"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("dejavm starts");
    let pipe = child.stdin.take();
    let status = child.wait().expect("it ends");
    drop(pipe);
    assert_eq!(status.code(), Some(124));
}

#[test]
fn the_input_may_be_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("input");
    fs::write(&file, "from a file\n").expect("a file");
    let seen = kernel("guest", &["--memory", "16M", "--input", file.to_str().expect("UTF-8")], b"not this\n");
    assert!(seen.text().contains("line 1: 11 bytes"), "{seen:?}");
}

#[test]
fn images_that_are_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = fs::read(image("hello")).expect("an image");
    let refused = |name: &str, bytes: &[u8], words: &[&str]| -> String {
        let file = dir.path().join(name);
        fs::write(&file, bytes).expect("a file");
        let file = file.to_str().expect("UTF-8");
        let Finished { status, stderr, stdout } = run(&[&["kernel", file], words].concat(), b"");
        let text = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!((status, stdout.len()), (125, 0), "{name}: {text}");
        assert_eq!(text.lines().count(), 1, "one line: {text}");
        assert!(text.contains(file), "names the file: {text}");
        text
    };
    refused("empty", b"", &[]);
    refused("text", b"#!/bin/sh\necho no kernel\n", &[]);
    refused("cut", &good[..100], &[]);
    assert!(refused("small", &good, &["--memory", "0"]).contains("memory"));
    assert!(refused("large", &good, &["--memory", "64G"]).contains("memory"));
    assert!(refused("pvh", &good, &["--protocol", "pvh"]).to_lowercase().contains("pvh"));
    let initrd = dir.path().join("ramdisk");
    fs::write(&initrd, vec![1; 32 << 20]).expect("a file");
    let initrd = initrd.to_str().expect("UTF-8");
    assert!(refused("initrd", &good, &["--memory", "16M", "--initrd", initrd]).contains("initrd"));
    // The entry point, at byte 24, outside of all segments.
    let mut entry = good.clone();
    entry[24..32].copy_from_slice(&0xdead_0000u64.to_le_bytes());
    assert!(refused("entry", &entry, &[]).contains("entry"));
}

/// Options of a bare-metal guest are not for programs.
#[test]
fn options_that_do_not_fit() {
    for words in [
        &["run", "--initrd", "x", "--", "true"][..],
        &["run", "--cmdline", "x", "--", "true"],
        &["run", "--unpack", "--", "true"],
    ] {
        let seen = run(words, b"");
        assert_eq!(seen.status, 125, "{seen:?}");
    }
    let image = image("hello");
    for more in
        [&["--", "true"][..], &["--seed", "3"], &["--clock", "host"], &["--env", "A=b"], &["--ro", "/"]]
    {
        let seen = run(&[&["run", "--kernel", &image], more].concat(), b"");
        assert_eq!(seen.status, 125, "{more:?}: {seen:?}");
    }
    assert_eq!(run(&["run", "-q", "--kernel", &image], b"").status, 0);
}

/// Memory is read by the guest's own page tables.
#[test]
fn memory_is_read_by_its_addresses() {
    let path = image("hello");
    let host = dejavm::Host::probe().expect("KVM");
    let mut guest = dejavm::Kernel::new(&path).memory(16 << 20).start(&host).expect("a guest");
    guest.run().expect("a run");
    let rip = guest.machine().registers().general.rip;
    let mut code = [0; 16];
    guest.read_memory(rip - 8, &mut code).expect("its code");
    let file = fs::read(&path).expect("an image");
    assert!(file.windows(code.len()).any(|bytes| bytes == code), "{code:x?} at {rip:#x}");
    let error = guest.read_memory(1 << 63, &mut code).expect_err("no canonical address").to_string();
    assert!(error.contains("0x8000000000000000"), "{error}");
}
