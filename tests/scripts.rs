//! The scripts say what they are about to do, before they do it. They run here among programs that only
//! pretend.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use tempfile::TempDir;

/// A checkout that has nothing but scripts, and in `bin` a program for each given name.
fn checkout(programs: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    for name in ["scripts", "bin", "target/release", "target/test-kernel"] {
        fs::create_dir_all(dir.path().join(name)).expect("a directory");
    }
    for script in ["demo", "test", "test-binaries", "install-test-programs"] {
        fs::copy(scripts.join(script), dir.path().join("scripts").join(script)).expect("a copy");
    }
    fs::write(dir.path().join("target/test-kernel/linux-image-1"), "").expect("a file");
    for (path, text) in programs {
        let path = dir.path().join(path);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    dir
}

fn run(checkout: &TempDir, script: &str) -> Output {
    let mut command = Command::new(checkout.path().join("scripts").join(script));
    let path = format!("{}:{}", checkout.path().join("bin").display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).env_remove("CARGO_TARGET_DIR");
    // Another test that forked while a script was written holds it open until it executes its own.
    loop {
        match command.output() {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
            output => return output.expect("the script starts"),
        }
    }
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_demo_shows_its_build_and_has_a_seed_of_its_own() {
    let dir =
        checkout(&[("bin/cargo", "echo cargo \"$@\" >&2"), ("target/release/dejavm", "echo \"$@\"; exit 9")]);
    let seeds = [(), ()].map(|()| {
        let output = run(&dir, "demo");
        let (stdout, stderr) = words(&output);
        assert_eq!(output.status.code(), Some(9), "{output:?}");
        assert!(stderr.starts_with("demo: building dejavm"), "{stderr}");
        // Nothing keeps the build's progress from being seen.
        assert!(stderr.contains("cargo build --release\n"), "{stderr}");
        let line = stdout.lines().find_map(|line| line.strip_prefix("demo: seed ")).expect("a seed");
        assert!(stdout.contains(&format!("--seed {line} ")), "{stdout}");
        line.to_owned()
    });
    assert_ne!(seeds[0], seeds[1]);
}

const APT_CACHE: (&str, &str) = ("bin/apt-cache", "echo '  Depends: linux-image-1'");

#[test]
fn the_tests_name_what_they_install_and_how_long_they_take() {
    let sudo = ("bin/sudo", "exec \"$@\"");
    let apt = ("bin/apt-get", "echo apt-get \"$@\" >&2; exit 7");
    let cargo = ("bin/cargo", "echo cargo \"$@\" >&2");
    let lacks = ("bin/dpkg", "case $2 in bc | jq) exit 1 ;; *) echo 'Status: install ok installed' ;; esac");
    let output = run(&checkout(&[sudo, apt, cargo, lacks, APT_CACHE]), "test");
    let (_, stderr) = words(&output);
    let (named, rest) = stderr.split_once('\n').expect("lines");
    assert!(named.contains("installing") && named.ends_with(": bc jq"), "{stderr}");
    assert!(rest.starts_with("apt-get ") && output.status.code() == Some(7), "{output:?}");

    let has = ("bin/dpkg", "echo 'Status: install ok installed'");
    let output = run(&checkout(&[sudo, apt, cargo, has, APT_CACHE]), "test");
    let (_, stderr) = words(&output);
    assert!(!stderr.contains("apt-get"), "nothing is changed where nothing is missing: {stderr}");
    assert!(stderr.starts_with("test: ") && stderr.contains(" minutes"), "{stderr}");
    assert!(stderr.contains("\ncargo test ") && output.status.success(), "{output:?}");
}

#[test]
fn a_test_that_fails_is_shown_and_fails_the_whole() {
    let artifact = |package: &str, name: &str| {
        format!(
            r#"{{"manifest_path":"'"$PWD"'/Cargo.toml","package_id":"path+file:///x#{package}@0.1.0",
            "target":{{"kind":["test"],"name":"{name}"}},"profile":{{"test":true}},"executable":"'"$PWD"'/bin/{name}"}}"#
        )
        .replace('\n', "")
    };
    let cargo = |names: &[&str]| {
        let lines: Vec<String> = names.iter().map(|name| artifact("dejavm", name)).collect();
        format!("case \"$*\" in *json*) echo '{}' ;; esac", lines.join("'; echo '"))
    };
    let has = ("bin/dpkg", "echo 'Status: install ok installed'");
    let good = ("bin/good", "echo 'test one ... ok'; echo 'test two ... ok'");
    let bad = ("bin/bad", "echo 'test three ... FAILED'; echo why it failed; exit 101");
    let test = |names: &[&str]| {
        let cargo = cargo(names);
        let output = run(&checkout(&[("bin/cargo", &cargo), has, APT_CACHE, good, bad]), "test");
        (output.status.code(), words(&output).0)
    };
    let (status, said) = test(&["good"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("ok     dejavm/good: 2 tests") && said.contains("2 tests passed, 0 failed"),
        "{said}"
    );
    let (status, said) = test(&["good", "bad"]);
    assert_eq!(status, Some(1), "{said}");
    for text in ["ok     dejavm/good: 2 tests", "FAILED dejavm/bad: status 101", "\nwhy it failed\n"] {
        assert!(said.contains(text), "{said}");
    }
    assert!(said.contains("2 tests passed, 1 failed"), "{said}");
}
