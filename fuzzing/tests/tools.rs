//! Single inputs, smaller inputs and sets of them, and wrong usage.

mod common;

use std::fs;

use common::{ended, fuzz, names, workshop};

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
fn a_hang_is_kept_and_all_first_inputs_may_not_crash() {
    let dir = workshop();
    fs::write(dir.path().join("hang"), "loop!").expect("an input");
    let args = ["-i", "hang", "-o", "out", "--timeout", "500ms", "--", "./bugs"];
    let said = ended(&fuzz(dir.path(), &args), 1);
    assert!(said.contains("hang: out/default/hangs/id:000000,") && said.contains("give one by -i"), "{said}");
    let hangs = names(&dir.path().join("out/default/hangs"));
    assert_eq!(fs::read(hangs[0].join("input")).expect("the input"), b"loop!");
    assert!(hangs[0].join("recording/manifest.json").is_file());
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
