//! `dejavm diff` names the cause: eight pairs of runs, each with another one.

mod common;

use std::path::Path;
use std::process::Command;

use common::tool;

/// Records a run of these words as `name`.
fn record(dir: &Path, name: &str, words: &[&str]) {
    tool(dir, [&["record", "-q", "-o", name], words].concat());
    assert!(dir.join(name).join("manifest.json").exists(), "{words:?}");
}

/// What is said of two runs that differ, without addresses that nobody knows before.
fn diff(dir: &Path) -> String {
    let said = tool(dir, ["diff", "one", "other"]);
    assert_eq!(said.status, 1, "{said:?}");
    String::from_utf8(said.stdout).expect("UTF-8")
}

/// Two runs of a shell's script, with these options.
fn scripts(dir: &Path, script: &str, one: &[&str], other: &[&str]) -> String {
    for (name, options) in [("one", one), ("other", other)] {
        record(dir, name, &[options, &["--", "/bin/sh", "-c", script]].concat());
    }
    diff(dir)
}

/// Fails unless one of the lines that begin the comparison is this one.
#[track_caller]
fn names(said: &str, cause: &str) {
    let first: Vec<&str> = said.lines().skip(2).take_while(|line| line.starts_with('!')).collect();
    assert!(first.contains(&cause), "no {cause:?} in\n{said}");
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file is written");
}

#[test]
fn another_seed() {
    let said = scripts(dir().path(), "mktemp -u", &["--seed", "1"], &["--seed", "2"]);
    names(&said, "! seed: 1 | 2");
}

#[test]
fn another_environment() {
    let script = "case $MODE in fast) echo fast;; *) ls /etc/hostname; echo slow;; esac";
    let said = scripts(dir().path(), script, &["--env", "MODE=fast"], &["--env", "MODE=slow"]);
    names(&said, r#"! environment, MODE: "fast" | "slow""#);
    let said = scripts(dir().path(), script, &["--env", "MODE=fast"], &[]);
    names(&said, r#"! environment, MODE: "fast" | not set"#);
}

#[test]
fn another_locale() {
    let said = scripts(dir().path(), "date", &["--env", "LC_ALL=C"], &["--env", "LC_ALL=C.UTF-8"]);
    names(&said, r#"! environment, LC_ALL: "C" | "C.UTF-8""#);
    assert!(said.contains("C.utf8/LC_CTYPE"), "{said}");
}

#[test]
fn another_clock() {
    let said = scripts(dir().path(), "date", &[], &["--clock", "host"]);
    names(&said, "! clock: virtual | host");
    let said =
        scripts(dir().path(), "date", &["--start-time", "@1000000000"], &["--start-time", "@1000000001"]);
    names(&said, "! time at the start: @1000000000 | @1000000001");
}

#[test]
fn another_content_of_a_file() {
    let dir = dir();
    let script = "read word < settings; test \"$word\" = yes && echo yes";
    let runs = ["# first\nyes\n", "# first\nnot\n"];
    for (name, text) in ["one", "other"].into_iter().zip(runs) {
        write(&dir.path().join("settings"), text);
        record(dir.path(), name, &["--", "/bin/sh", "-c", "grep -q yes settings && echo yes"]);
    }
    let said = diff(dir.path());
    names(&said, r#"! /work/settings: "yes\n" at byte 8 | "not\n" at byte 8"#);
    // Its length is another one, too; and it is no more there.
    for (name, text) in ["one", "other"].into_iter().zip(["yes\n", "maybe\n"]) {
        let _ = std::fs::remove_dir_all(dir.path().join(name));
        write(&dir.path().join("settings"), text);
        record(dir.path(), name, &["--", "/bin/sh", "-c", script]);
    }
    names(&diff(dir.path()), "! /work/settings: 4 bytes, mode 0o644 | 6 bytes, mode 0o644");
}

#[test]
fn a_file_that_is_missing() {
    let dir = dir();
    let words = ["--", "/bin/sh", "-c", "read word < settings; echo $word"];
    write(&dir.path().join("settings"), "yes\n");
    record(dir.path(), "one", &words);
    std::fs::remove_file(dir.path().join("settings")).expect("it is removed");
    record(dir.path(), "other", &words);
    let said = diff(dir.path());
    names(&said, "! /work/settings: 4 bytes, mode 0o644 | not there");
    assert!(said.contains("ENOENT"), "{said}");
}

#[test]
fn another_build() {
    let dir = dir();
    let source = dir.path().join("built.c");
    for (name, answer) in [("one", 41), ("other", 42)] {
        write(&source, &format!("int main(void) {{ return {answer}; }}\n"));
        let built = Command::new(common::native("gcc"))
            .current_dir(dir.path())
            .args(["-o", "built", "built.c"])
            .status();
        assert!(built.is_ok_and(|status| status.success()), "gcc");
        record(dir.path(), name, &["--", "./built"]);
    }
    let said = diff(dir.path());
    assert!(said.lines().any(|line| line.starts_with("! /work/built: ")), "{said}");
    assert!(said.contains("exit_group(41)") && said.contains("exit_group(42)"), "{said}");
}

#[test]
fn a_race() {
    let dir = dir();
    common::guest(dir.path(), "races.c", &["-pthread"]);
    for (name, chaos) in [("one", "0"), ("other", "7")] {
        record(dir.path(), name, &["--chaos", chaos, "--", "./races", "wake-up"]);
    }
    let said = diff(dir.path());
    assert!(said.lines().any(|line| line.starts_with("! chaos: ")), "{said}");
    assert!(said.contains("the tasks ran in another order"), "{said}");
}

/// Behind the first difference: the registers that differ and the stacks, also where the program is not installed.
#[test]
fn the_state_at_the_first_difference() {
    let dir = dir();
    let source = "#include <unistd.h>\n\
        __attribute__((noinline)) int inner(int n) {\n  if (n > 1) return getpgid(n);\n  return getpgid(n);\n}\n\
        int main(int count, char **words) {\n  getppid();\n  inner(count);\n  return 0;\n}\n";
    write(&dir.path().join("stacks.c"), source);
    let words = ["-g", "-O0", "-o", "stacks", "stacks.c"];
    let built = Command::new(common::native("gcc")).current_dir(dir.path()).args(words).status();
    assert!(built.is_ok_and(|status| status.success()), "gcc");
    record(dir.path(), "one", &["--", "./stacks"]);
    record(dir.path(), "other", &["--", "./stacks", "more"]);
    std::fs::remove_file(dir.path().join("stacks")).expect("removed");
    // Without what its start may do besides.
    let state = |said: &str| -> Vec<String> {
        let from = said.lines().skip_while(|line| !line.starts_with("@@ before exit"));
        let until = |line: &&str| {
            let is_frame = line[1..].trim_start().starts_with('#');
            is_frame || line.contains(" | 0x") || line.starts_with("@@ before")
        };
        from.take_while(until).map(str::to_owned).collect()
    };
    let check = |said: &str| {
        let state = state(said);
        assert!(state.len() > 3 && state.len() < 40, "{said}");
        let has = |what: &[&str]| state.iter().any(|line| what.iter().all(|what| line.contains(what)));
        assert!(has(&["!", "rsp", "0x", " | 0x"]) && !has(&["!", " rip "]), "{said}");
        assert_eq!(said.matches("@@ before exit").count(), 1, "the first one's only: {said}");
    };
    let said = diff(dir.path());
    check(&said);

    // The first difference is the one that is looked for, with the program's arguments being the same.
    let run = |name: &str, text: &str, memory: &str| {
        write(&dir.path().join("n"), text);
        record(dir.path(), name, &["--memory", memory, "--", "./reads"]);
    };
    let source = "#include <unistd.h>\n#include <fcntl.h>\n\
        __attribute__((noinline)) int inner(int n) {\n  return getpgid(n);\n}\n\
        int main(void) {\n  char c[2] = {0};\n  int fd = open(\"n\", O_RDONLY);\n  read(fd, c, 1);\n  return inner(c[0]) & 0;\n}\n";
    write(&dir.path().join("reads.c"), source);
    let words = ["-g", "-O0", "-o", "reads", "reads.c"];
    let built = Command::new(common::native("gcc")).current_dir(dir.path()).args(words).status();
    assert!(built.is_ok_and(|status| status.success()), "gcc");
    std::fs::remove_dir_all(dir.path().join("one")).expect("removed");
    std::fs::remove_dir_all(dir.path().join("other")).expect("removed");
    run("one", "5", "512M");
    run("other", "7", "512M");
    run("large", "7", "2G");
    std::fs::remove_file(dir.path().join("reads")).expect("removed");
    let said = tool(dir.path(), ["diff", "one", "other", "--addresses"]);
    assert_eq!(said.status, 1, "{said:?}");
    let said = String::from_utf8(said.stdout).expect("UTF-8");
    let lines = state(&said);
    assert!(lines.iter().any(|line| line.contains(" main+") && line.contains("reads.c:9")), "{said}");
    assert!(!lines.iter().any(|line| line.starts_with('!')), "what was read comes behind it: {said}");
    assert!(lines[1..].iter().all(|line| line.starts_with(' ')), "one stack: {said}");

    // As packs, and where one side cannot be moved in.
    for name in ["one", "other"] {
        tool(dir.path(), ["pack", name, "-o", &format!("{name}.dvr")]).text();
    }
    let packs = tool(dir.path(), ["diff", "one.dvr", "other.dvr", "--addresses"]);
    assert_eq!(state(&String::from_utf8_lossy(&packs.stdout)), lines);
    // One that claims more memory than is allowed.
    let refused = tool(dir.path(), ["diff", "one", "large", "--addresses"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    let refused = String::from_utf8(refused.stdout).expect("UTF-8");
    let known = refused.lines().filter(|line| line.contains("its state is not known: "));
    assert!(known.collect::<Vec<_>>()[..].iter().all(|line| line.starts_with("! large: ")), "{refused}");
    assert!(
        refused.contains("! large: its state is not known: ") && refused.contains("\n-        #0  0x"),
        "{refused}"
    );
    assert!(!tool(dir.path(), ["diff", "--raw", "one", "other"]).stdout.is_empty());
}
