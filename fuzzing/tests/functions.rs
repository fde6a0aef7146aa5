//! Functions that are called with inputs, of programs that were built for other fuzzers, too.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{build, ended, fuzz, names, workshop};
use dejavm::{Host, Outcome, Replay};

/// Fuzzes `./parser` from two small inputs, with more arguments, and gives the only crash's directory.
fn found(dir: &Path, args: &[&str], target: &[&str]) -> PathBuf {
    fs::write(dir.join("seed"), "N:1234").expect("a seed");
    let _ = fs::remove_dir_all(dir.join("out"));
    let all = [&["-i", "seed", "-o", "out", "--deterministic"], args, &["--"], target].concat();
    let said = ended(&fuzz(dir, &all), 77);
    let crashes = names(&dir.join("out/default/crashes"));
    let [crash] = &crashes[..] else { panic!("{crashes:?}: {said}") };
    crash.clone()
}

/// How the recording of a crash ends.
fn replayed(crash: &Path) -> Outcome {
    let replay = Replay::open(crash.join("recording")).expect("a recording");
    replay.start(&Host::probe().expect("KVM")).expect("a replay").run().expect("the same run").outcome
}

#[test]
fn a_function_is_fuzzed_and_its_crash_replays() {
    let dir = workshop();
    build(dir.path(), &["gcc", "-O1", "-g"], "parser.c", "parser");
    let crash = found(dir.path(), &["--runs", "2000", "--verify-reset", "500"], &["./parser"]);
    assert!(fs::read(crash.join("input")).expect("the input").starts_with(b"N:"));
    assert_eq!(replayed(&crash), Outcome::Signalled(6));
    let larger = [fs::read(crash.join("input")).expect("the input"), b"0123456789".to_vec()].concat();
    fs::write(dir.path().join("larger"), larger).expect("an input");
    ended(&fuzz(dir.path(), &["tmin", "-i", "larger", "-o", "small", "--", "./parser"]), 0);
    assert_eq!(fs::read(dir.path().join("small")).expect("a file"), b"N:00000");
    let stack = fs::read_to_string(crash.join("stack.txt")).expect("the stack");
    assert!(stack.contains(" digits+") && stack.contains("parser.c:"), "{stack}");

    // One that no driver gives a file to has no recording, and is found all the same.
    let crash = found(dir.path(), &["--runs", "2000", "--call", "other"], &["./parser"]);
    assert!(fs::read(crash.join("input")).expect("the input").starts_with(b"X"));
    assert!(!crash.join("recording").exists());
    let said = fs::read_to_string(crash.join("stack.txt")).expect("a text");
    assert!(said.contains("SIGSEGV") && said.contains("and not other"), "{said}");
    fs::write(dir.path().join("larger"), "Xenon").expect("an input");
    ended(
        &fuzz(dir.path(), &["tmin", "-i", "larger", "-o", "small", "--call", "other", "--", "./parser"]),
        0,
    );
    assert_eq!(fs::read(dir.path().join("small")).expect("a file"), b"X0");
    let run = ["run", "seed", "--call", "other", "--", "./parser"];
    assert!(ended(&fuzz(dir.path(), &run), 0).contains("seed: returned"));

    for (args, why) in [
        (&["--call", "nonesuch", "--", "./parser"][..], "no symbol nonesuch"),
        (&["--call", "crash", "--", "./bugs"], "did not call crash"),
        (&["--stdin", "--", "./parser"], "did not read its input"),
    ] {
        let said = ended(&fuzz(dir.path(), args), 125);
        assert!(said.contains(why), "{args:?}: {said}");
    }
}

/// The sanitizer is a library here, and its frames are not what tells crashes apart.
#[test]
fn what_a_sanitizer_finds_is_a_crash() {
    let dir = workshop();
    build(dir.path(), &["gcc", "-O1", "-g", "-fsanitize=address"], "overflow.c", "overflow");
    fs::write(dir.path().join("seed"), "H\u{1}x").expect("a seed");
    let args =
        ["-i", "seed", "-o", "out", "--deterministic", "--until-crash", "--runs", "2000", "--", "./overflow"];
    let said = ended(&fuzz(dir.path(), &args), 77);
    assert!(said.contains(" header+") && said.contains("overflow.c:"), "{said}");
    let crashes = names(&dir.path().join("out/default/crashes"));
    assert_eq!(replayed(&crashes[0]), Outcome::Signalled(6));
}

#[test]
fn programs_that_were_built_for_other_fuzzers_run_unmodified() {
    let dir = workshop();
    for (name, compiler) in [
        ("libfuzzer", &["clang", "-O1", "-g", "-Dmain=unused", "-fsanitize=fuzzer"][..]),
        ("libfuzzer-asan", &["clang", "-O1", "-g", "-Dmain=unused", "-fsanitize=fuzzer,address,undefined"]),
        ("afl-driver", &["afl-clang-fast", "-O1", "-g", "-Dmain=unused", "-fsanitize=fuzzer"]),
        ("afl-main", &["afl-clang-fast", "-O1", "-g"]),
    ] {
        build(dir.path(), compiler, "parser.c", name);
        let target = format!("./{name}");
        let how = ["--runs", "40000", "--until-crash", "--memory", "1G"];
        let crash = found(dir.path(), &how, &[&target]);
        assert!(matches!(replayed(&crash), Outcome::Signalled(_)), "{name}");
    }
}
