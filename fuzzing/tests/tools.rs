//! Single inputs, smaller inputs and sets of them, and wrong usage.

mod common;

use std::fs;

use common::{build, ended, fuzz, names, workshop};
use dejavm::{Host, Outcome, Replay};

#[test]
fn inputs_are_run_and_made_smaller() {
    let dir = workshop();
    let inputs = [
        ("abort", "abort!"),
        ("bug", "BUGbugbug"),
        ("exhaust", "exhaust!"),
        ("fine", "fine"),
        ("loop", "loop!"),
    ];
    let set = dir.path().join("inputs");
    fs::create_dir(&set).expect("a directory");
    inputs.iter().for_each(|(name, input)| fs::write(set.join(name), input).expect("an input"));
    let run = ["run", "inputs", "--timeout", "500ms", "--memory", "64M", "--", "./bugs"];
    let said = ended(&fuzz(dir.path(), &run), 77);
    let ends = ["abort: killed by SIGABRT", "bug: killed by SIGSEGV", "fine: exit status 0", "loop: hang"];
    assert!(ends.iter().all(|end| said.contains(&format!("inputs/{end}"))), "{said}");
    assert!(!said.contains("exhaust: killed"), "{said}");
    ended(&fuzz(dir.path(), &["run", "inputs/fine", "--", "./bugs", "@@"]), 0);

    ended(&fuzz(dir.path(), &["tmin", "-i", "inputs/bug", "-o", "small", "--", "./bugs"]), 0);
    assert_eq!(fs::read(dir.path().join("small")).expect("a file"), b"BUG");

    fs::write(set.join("fine too"), "fine, but longer").expect("an input");
    let cmin = ["cmin", "-i", "inputs", "-o", "few", "--timeout", "500ms", "--memory", "64M", "--", "./bugs"];
    ended(&fuzz(dir.path(), &cmin), 0);
    let few = names(&dir.path().join("few"));
    assert!(
        few.iter().any(|path| path.ends_with("fine")) && !few.iter().any(|path| path.ends_with("fine too")),
        "{few:?}"
    );
}

#[test]
fn a_file_may_be_sought_in_and_mapped() {
    let dir = workshop();
    build(dir.path(), &["gcc", "-O0", "-g"], "seeks.c", "seeks");
    let inputs = dir.path().join("inputs");
    fs::create_dir(&inputs).expect("a directory");
    for (name, len) in [("long", 70_000), ("short", 3), ("none", 0)] {
        fs::write(inputs.join(name), vec![b'a'; len]).expect("an input");
    }
    fs::write(inputs.join("woe"), "woe!").expect("an input");
    let run = ["run", "inputs", "inputs", "--verify-reset", "1", "--", "./seeks", "@@.bin"];
    let said = ended(&fuzz(dir.path(), &run), 77);
    let ends =
        ["long: exit status 10", "none: exit status 2", "short: exit status 13", "woe: killed by SIGABRT"];
    assert!(ends.iter().all(|end| said.matches(&format!("inputs/{end}")).count() == 2), "{said}");

    // A crash is recorded with its file.
    let args = ["-i", "inputs", "-o", "out", "--runs", "4", "--", "./seeks", "@@.bin"];
    let said = ended(&fuzz(dir.path(), &args), 77);
    assert!(said.contains("crash: SIGABRT at"), "{said}");
    let crash = &names(&dir.path().join("out/default/crashes"))[0];
    let stack = fs::read_to_string(crash.join("stack.txt")).expect("the stack");
    assert!(stack.contains("main+") && stack.contains("seeks.c:"), "{stack}");
    let replay = Replay::open(crash.join("recording")).expect("a recording");
    let report = replay.start(&Host::probe().expect("KVM")).expect("a replay").run().expect("the same run");
    assert_eq!(report.outcome, Outcome::Signalled(6));

    let said = ended(&fuzz(dir.path(), &["--", "cat", "/nothing", "@@txt"]), 125);
    assert!(said.contains("did not open /fuzz/input,") && said.contains("/fuzz/inputtxt"), "{said}");
}

#[test]
fn lines_that_inputs_reach_are_told() {
    let dir = workshop();
    build(dir.path(), &["gcc", "-O0", "-g"], "lines.c", "lines");
    fs::write(dir.path().join("a"), "abc").expect("an input");
    fs::write(dir.path().join("b"), "abcde").expect("an input");
    let said = ended(&fuzz(dir.path(), &["cov", "a", "b", "--", "./lines"]), 0);
    assert!(said.contains("2 inputs reach 10 of 16 lines"), "{said}");
    let text = fs::read_to_string(dir.path().join("cov.info")).expect("a file");
    // `twice`, `never`, the loop, what it calls, the condition, and what it does not come to.
    for line in ["DA:6,8", "DA:9,0", "DA:15,10", "DA:16,8", "DA:17,2", "DA:18,0", "LF:16", "LH:10"] {
        assert!(text.lines().any(|told| told == line), "{line}: {text}");
    }
    let said = ended(&fuzz(dir.path(), &["cov", "a", "--", "sed", "p"]), 125);
    assert!(said.contains("-g"), "{said}");
}

#[test]
fn a_hang_is_kept_and_all_first_inputs_may_not_crash() {
    let dir = workshop();
    fs::write(dir.path().join("hang"), "loop!").expect("an input");
    let args = ["-i", "hang", "-o", "out", "--timeout", "500ms", "--", "./bugs"];
    let said = ended(&fuzz(dir.path(), &args), 1);
    assert!(said.contains("hang: out/default/hangs/id:000000,") && said.contains("give one by -i"), "{said}");
    let hangs = names(&dir.path().join("out/default/hangs"));
    assert_eq!(fs::read(hangs[0].join("input")).expect("the input"), b"loop!");
    assert!(hangs[0].join("recording/manifest.json").is_file());
    let stack = fs::read_to_string(hangs[0].join("stack.txt")).expect("the stack");
    assert!(stack.contains("its last system call") && stack.contains(" main+"), "{stack}");
}

#[test]
fn wrong_usage_ends_with_125() {
    let dir = workshop();
    let cases: [(&[&str], &str); 8] = [
        (&[], "TARGET"),
        (&["--", "./none"], "cannot be started"),
        (&["--", "nonesuch"], "not found"),
        (&["--", "true"], "did not read its input"),
        (&["--memory", "x", "--", "./bugs"], "not a size"),
        (&["--timeout", "0", "--", "./bugs"], "too short"),
        (&["-x", "none", "--", "./bugs"], "-x none"),
        (&["run", "--", "./bugs"], "INPUT"),
    ];
    for (args, why) in cases {
        let said = ended(&fuzz(dir.path(), args), 125);
        assert!(said.contains(why), "{args:?}: {said}");
    }
    fs::write(dir.path().join("words"), "not a dictionary\n").expect("a file");
    let said = ended(&fuzz(dir.path(), &["-x", "words", "--", "./bugs"]), 125);
    assert!(said.contains("not a dictionary of AFL's"), "{said}");
    ended(&fuzz(dir.path(), &["--help"]), 0);
}
