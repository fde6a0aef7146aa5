//! Places at which runs begin, and are over.

mod common;

use std::fs;
use std::process::Command;

use common::{build, ended, fuzz, names, workshop};
use dejavm::{Host, Outcome, Replay};

#[test]
fn runs_begin_and_end_where_they_are_told_to() {
    let dir = workshop();
    build(dir.path(), &["gcc", "-O1", "-g"], "places.c", "places");
    for (name, bytes) in [("seed", "text"), ("quits", "q"), ("crashes", "bug")] {
        fs::write(dir.path().join(name), bytes).expect("an input");
    }
    let nm = Command::new("nm").arg(dir.path().join("places")).output().expect("nm");
    let nm = String::from_utf8(nm.stdout).expect("a text");
    let line = nm.lines().find(|line| line.ends_with(" work")).expect("a symbol");
    let offset = format!("places+0x{}", &line[..16]);

    let run = |args: &[&str], target: &[&str], status| {
        let all = [&["run", "seed", "quits", "crashes"], args, &["--"], target].concat();
        ended(&fuzz(dir.path(), &all), status)
    };
    let edges = |said: &str| -> u32 {
        let line = said.lines().find(|line| line.starts_with("seed")).expect("a line");
        line.rsplit(' ').nth(1).and_then(|number| number.parse().ok()).expect("a number")
    };
    for at in [&["--at", "work"][..], &["--at", &offset], &["--at", "ready"], &[]] {
        for target in [&["./places"][..], &["./places", "@@"]] {
            let whole = run(at, target, 77);
            assert!(
                whole.contains("seed: exit status 9,") && whole.contains("quits: exit status 4"),
                "{whole}"
            );
            let said = run(&[at, &["--until", "finish"]].concat(), target, 77);
            assert!(said.contains("seed: came to finish,"), "{at:?}, {target:?}: {said}");
            assert!(said.contains("quits: exit status 4") && said.contains("SIGABRT"), "{said}");
            assert!(edges(&said) < edges(&whole), "what follows is not run: {said}{whole}");
        }
    }

    let mut all =
        vec!["-i", "seed", "-o", "out", "--deterministic", "--runs", "3000", "--verify-reset", "500"];
    all.extend(["--at", "work", "--until", "finish", "--until-crash", "--", "./places", "@@"]);
    let said = ended(&fuzz(dir.path(), &all), 77);
    let crashes = names(&dir.path().join("out/default/crashes"));
    let [crash] = &crashes[..] else { panic!("{crashes:?}: {said}") };
    assert!(fs::read(crash.join("input")).expect("the input").starts_with(b"bug"));
    let replay = Replay::open(crash.join("recording")).expect("a recording");
    let mut replay = replay.start(&Host::probe().expect("KVM")).expect("a replay");
    assert_eq!(replay.run().expect("the same run").outcome, Outcome::Signalled(6));
}

#[test]
fn places_that_are_none() {
    let dir = workshop();
    build(dir.path(), &["gcc", "-O1", "-g"], "places.c", "places");
    build(dir.path(), &["gcc", "-O1", "-g"], "parser.c", "parser");
    fs::write(dir.path().join("seed"), "text").expect("an input");
    for (args, target, why) in [
        (["--at", "never"], "./places", "did not come to never, and ended with status 9"),
        (["--at", "nonesuch"], "./places", "no symbol nonesuch"),
        (["--until", "libnone.so+0x10"], "./places", "no such file loaded as is meant by libnone.so+0x10"),
        (["--at", "0xzz"], "./places", "invalid digit"),
        (["--until", "digits"], "./parser", "over when it returns, and not at digits"),
    ] {
        let done = fuzz(dir.path(), &[&["run", "seed"], &args[..], &["--", target]].concat());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(why), "{args:?}: {said}");
    }
}
