//! The example guest says the same, however its memory comes to it.

use std::fs;
use std::path::Path;

use crate::common::{Finished, possible};
use crate::guests::{INPUT, image, kernel, run};

/// Each way in which pages can come in. The first has all of memory resident.
const WAYS: [&[&str]; 9] = [
    &["--eager"],
    &[],
    &["--no-prefetch"],
    &["--rung", "poison"],
    &["--rung", "decode"],
    &["--rung", "populate"],
    &["--evict", "every=37,seed=1"],
    &["--evict", "every=5,seed=2", "--no-prefetch"],
    &["--evict", "every=101,seed=3", "--rung", "decode"],
];

/// The image's words: a status, and memory that keeps the test small.
const WORDS: [&str; 4] = ["--cmdline", "exit=3", "--memory", "16M"];

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn from_its_image() {
    let mut first = None;
    for way in possible(&WAYS) {
        let seen = kernel("guest", &[&WORDS, way].concat(), INPUT);
        let first = first.get_or_insert_with(|| seen.clone());
        check(first);
        assert_eq!(seen, *first, "{way:?}");
    }
}

/// That the guest went all the way.
#[track_caller]
fn check(seen: &Finished) {
    assert_eq!(seen.status, 3, "{seen:?}");
    let text = String::from_utf8_lossy(&seen.stdout);
    for part in ["#PF at CPL 3", "the same at CPL 3", "ready\n", "lines: 6\n", "digest "] {
        assert!(text.contains(part), "{part:?} is missing: {seen:?}");
    }
    assert_eq!(String::from_utf8_lossy(&seen.stderr), "guest: booted\nguest: done\n");
}

/// Each fault was told by KVM, or found at the instruction: nothing was brought in because nobody knew
/// what was wanted.
#[test]
fn no_fault_is_without_a_name() {
    for way in
        possible(&WAYS).into_iter().filter(|way| !way.contains(&"--eager") && !way.contains(&"populate"))
    {
        let seen = kernel("guest", &[&WORDS, way, &["--stats=json"]].concat(), INPUT);
        let text = String::from_utf8_lossy(&seen.stderr).into_owned();
        let json = text.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let faults = json.expect("statistics")["faults"]["by_rung"].clone();
        let faults = faults.as_object().expect("faults by rung");
        assert!(!faults.contains_key("populate"), "{way:?}: {faults:?}");
        assert!(faults.len() > 1, "{way:?}: more than what is kept comes in: {faults:?}");
    }
}

/// Restored from a point on the way, from a snapshot, and from one of a restored guest.
#[test]
fn from_a_snapshot() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, second) = (path(dir.path(), "first.dvm"), path(dir.path(), "second.dvm"));
    let whole = kernel("guest", &[&WORDS[..], &["--eager"]].concat(), INPUT);
    let image = image("guest");
    for point in ["serial:lines: ", "serial:ready\n", "ready", "first-read", "exit:500", "first-output"] {
        let words = ["snapshot", "-q", "-o", &first, "--at", point, "--kernel", &image];
        let before = run(&[&words, &WORDS[..]].concat(), INPUT);
        assert_eq!(before.status, 0, "{point}: {before:?}");
        // Of the input, what was read before the point is gone.
        let input = if point.starts_with("serial:lines") { b"" } else { INPUT };
        for way in possible(&WAYS) {
            let after = run(&[&["restore", "-q", "--deadline", "60s", &first], way].concat(), input);
            assert_eq!(join(&before, &after), whole, "{point} {way:?}");
        }
    }
    // The last one is early. A second snapshot, of a guest that was restored lazily.
    let recording = path(dir.path(), "recording");
    let words = ["restore", "-q", &first, "--record", &recording];
    let recorded = run(&words, INPUT);
    let replayed = run(&["replay", "-q", &recording], b"");
    assert_eq!(recorded, replayed);
    assert!(fs::metadata(&second).is_err());
}

/// Two parts of one run.
fn join(before: &Finished, after: &Finished) -> Finished {
    Finished {
        status: after.status,
        stdout: [&before.stdout[..], &after.stdout].concat(),
        stderr: [&before.stderr[..], &after.stderr].concat(),
    }
}

/// The library: a guest that is paused, kept, run on, and restored from a layer over the first file.
#[test]
fn in_layers() {
    use dejavm::{Host, Image, Kernel, Outcome, PauseAt, Restore, WriteOptions};
    let dir = tempfile::tempdir().expect("a directory");
    let host = Host::probe().expect("KVM");
    let (base, layer) = (dir.path().join("base.dvm"), dir.path().join("layer.dvm"));
    let new = || Kernel::new(image("guest")).cmdline("exit=3").memory(16 << 20).stdin(INPUT).capture_output();
    let whole = new().start(&host).and_then(|mut guest| guest.run()).expect("a run");
    assert_eq!(whole.outcome, Outcome::Exited(3));

    let mut guest = new().start(&host).expect("a guest");
    assert_eq!(guest.run_until(PauseAt::Exit(200)).expect("a run"), Outcome::Paused);
    guest.snapshot(&base, &WriteOptions::default()).expect("a snapshot");
    let first = guest.report(Outcome::Paused).stdout;

    let open = |path| Restore::open(path).expect("an image").stdin(INPUT).capture_output();
    let mut guest = open(&base).start(&host).expect("a guest");
    let ready = PauseAt::Serial(b"ready\n".to_vec());
    assert_eq!(guest.run_until(ready).expect("a run"), Outcome::Paused);
    let options =
        WriteOptions { parent: Some(Image::open(&base).unwrap().snapshot().clone()), ..Default::default() };
    let summary = guest.snapshot(&layer, &options).expect("a layer");
    assert!(summary.pages.parent > 0, "{summary:?}");
    let second = guest.report(Outcome::Paused).stdout;

    // The one that was kept goes on, and so does its copy.
    let rest = guest.run().expect("a run");
    let copy = open(&layer).prefetch(false).start(&host).and_then(|mut guest| guest.run()).expect("a run");
    for last in [rest, copy] {
        assert_eq!(last.outcome, Outcome::Exited(3));
        assert_eq!([&first[..], &second, &last.stdout].concat(), whole.stdout);
    }
}

/// What a restored guest wants first can be stored.
#[test]
fn warmed() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = path(dir.path(), "guest.dvm");
    let image = image("guest");
    let words = ["snapshot", "-q", "-o", &file, "--at", "ready", "--kernel", &image];
    assert_eq!(run(&[&words, &WORDS[..]].concat(), b"").status, 0);
    let cold = run(&["restore", "-q", &file], INPUT);
    let warm = run(&["warm", &file], INPUT);
    assert!(warm.text().contains("working set of"), "{warm:?}");
    let warmed = run(&["restore", "-q", &file], INPUT);
    assert_eq!(warmed, cold);
}

/// `inspect` says which pages are there before the guest runs, why, and their share.
#[test]
fn kept_pages_are_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = path(dir.path(), "guest.dvm");
    let image = image("guest");
    let words = ["snapshot", "-q", "-o", &file, "--at", "ready", "--kernel", &image];
    assert_eq!(run(&[&words, &WORDS[..]].concat(), b"").status, 0);
    let text = run(&["inspect", &file], b"").text();
    let line = text.lines().find(|line| line.starts_with("kept ")).expect("a line about kept pages");
    for part in ["page tables", "descriptor tables", "stacks", "% of memory"] {
        assert!(line.contains(part), "{line}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&run(&["inspect", &file, "--json", "--verify"], b"").text()).expect("JSON");
    let kept = &json["kept"];
    let by_reason = kept["by_reason"].as_object().expect("reasons");
    let sum: u64 = by_reason.values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(kept["pages"].as_u64(), Some(sum));
    assert!(sum > 0 && kept["share"].as_f64().is_some_and(|share| share > 0.0 && share < 0.05), "{kept}");
}
