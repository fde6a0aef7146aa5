//! The command line as its users meet it: help, exit statuses, errors, and the way from a recording
//! or a snapshot back to a run.

mod common;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{DEJAVM, Input, finish, tool};

/// Runs the tool with this input, in `dir`.
fn dejavm(dir: &Path, input: &[u8], args: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dejavm"))
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    // A tool that does not read its input closes it.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    child.wait_with_output().expect("the tool ends")
}

fn in_temp(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    dejavm(dir.path(), b"", args)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails unless the tool gave this status and said one line, with these words in it.
#[track_caller]
fn refused(output: &Output, status: i32, words: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("dejavm: "), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in {stderr}");
    }
}

#[track_caller]
fn gave(output: &Output, status: i32, stdout: &str) {
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(status), stdout), "{output:?}");
}

#[test]
fn help_has_examples_and_exit_statuses() {
    let help = in_temp(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let help = text(&help.stdout);
    for word in ["Examples:", "122", "124", "125", "126", "127", "dejavm record -o"] {
        assert!(help.contains(word), "{word}");
    }
    for command in [
        "run", "record", "replay", "snapshot", "restore", "warm", "log", "ps", "stdout", "trace", "report",
        "diff", "cat", "find", "where", "inspect", "pack", "unpack", "redact", "doctor",
    ] {
        assert!(help.contains(&format!("  {command} ")), "{command}");
        let of_command = in_temp(&[command, "--help"]);
        assert_eq!(of_command.status.code(), Some(0), "{command}");
        assert!(text(&of_command.stdout).contains("Examples:"), "{command}");
    }
    let version = in_temp(&["--version"]);
    gave(&version, 0, concat!("dejavm ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn wrong_use_is_one_line_and_125() {
    refused(&in_temp(&["run"]), 125, &["PROGRAM", "dejavm run --help"]);
    refused(&in_temp(&["frobnicate"]), 125, &["frobnicate"]);
    refused(&in_temp(&["run", "--memory", "much", "--", "true"]), 125, &["--memory", "512M"]);
    refused(&in_temp(&["run", "--deadline", "soon", "--", "true"]), 125, &["--deadline", "500ms"]);
    refused(&in_temp(&["run", "--ro", "/does/not/exist", "--", "true"]), 125, &["/does/not/exist"]);
    refused(&in_temp(&["run", "--ro", "/etc/passwd:/dev/x", "--", "true"]), 125, &["/dev/x"]);
    refused(&in_temp(&["run", "--workdir", "/nowhere", "--", "true"]), 125, &["/nowhere"]);
    let no_recording = ["no recording is there", "dejavm record -o DIR"];
    refused(&in_temp(&["replay", "nothing"]), 125, &[&["nothing"], &no_recording[..]].concat());
    refused(
        &in_temp(&["replay", "/etc/passwd"]),
        125,
        &["/etc/passwd is not a recording", "neither a recording's directory nor its pack"],
    );
    refused(&in_temp(&["log", "nothing"]), 125, &no_recording);
    refused(&in_temp(&["restore", "/etc/passwd"]), 125, &["/etc/passwd", "not a dejavm snapshot"]);
    refused(&in_temp(&["inspect", "/etc/passwd"]), 125, &["/etc/passwd", "not a dejavm snapshot"]);
}

#[test]
fn programs_that_cannot_be_run() {
    refused(&in_temp(&["run", "--", "no-such-program"]), 127, &["no-such-program", "PATH"]);
    refused(&in_temp(&["run", "--", "./no-such-program"]), 127, &["./no-such-program"]);
    refused(&in_temp(&["run", "--", "/etc/passwd"]), 126, &["/etc/passwd", "Permission denied"]);
    refused(&in_temp(&["run", "--", "/usr"]), 126, &["/usr"]);
}

#[test]
fn the_program_s_own_end_is_the_tool_s() {
    gave(&in_temp(&["run", "--", "sh", "-c", "echo out; exit 7"]), 7, "out\n");
    gave(&in_temp(&["run", "sh", "-c", "exit 3", "--", "--memory"]), 3, "");
    refused(&in_temp(&["run", "--", "sh", "-c", "kill -SEGV $$"]), 139, &["killed by SIGSEGV at RIP"]);
    let quiet = in_temp(&["-q", "run", "--", "sh", "-c", "kill -TERM $$"]);
    gave(&quiet, 143, "");
    assert_eq!(text(&quiet.stderr), "");
    let spin = ["run", "--deadline", "200ms", "--", "sh", "-c", "while :; do :; done"];
    refused(&in_temp(&spin), 124, &["deadline of 200ms"]);
}

#[test]
fn a_guest_that_waits_for_input_has_its_deadline_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_dejavm"))
        .args(["run", "--deadline", "200ms", "--", "cat"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the tool starts");
    let stdin = child.stdin.take();
    assert_eq!(child.wait().expect("the tool ends").code(), Some(124));
    drop(stdin);
}

#[test]
fn the_environment_is_the_guest_s_own() {
    let output = Command::new(env!("CARGO_BIN_EXE_dejavm"))
        .args(["run", "--env", "GIVEN=1", "--env", "COPIED", "--env", "NOT_SET", "--", "env"])
        .envs([("COPIED", "2"), ("SECRET", "3")])
        .stdin(Stdio::null())
        .output()
        .expect("the tool runs");
    let mut lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["COPIED=2", "GIVEN=1", "HOME=/root", "LANG=C.UTF-8", path]);
}

#[test]
fn the_guest_sees_this_directory_and_what_it_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("here"), "content\n").expect("a file");
    let own = dir.path().join("here");
    let own = own.to_str().expect("a plain path");
    gave(
        &dejavm(dir.path(), b"", &["run", "--", "cat", "here", "/work/here", own]),
        0,
        &"content\n".repeat(3),
    );
    gave(
        &dejavm(
            dir.path(),
            b"",
            &["run", "--", "sh", "-c", "pwd; echo new >here; read line <here; echo $line"],
        ),
        0,
        "/work\nnew\n",
    );
    assert_eq!(std::fs::read(own).expect("a file"), b"content\n", "the guest writes to memory only");

    let shown = format!("{own}:/elsewhere/file");
    gave(&in_temp(&["run", "--ro", &shown, "--", "cat", "/elsewhere/file"]), 0, "content\n");
    gave(&in_temp(&["run", "--ro", own, "--", "cat", own]), 0, "content\n");
    assert_eq!(in_temp(&["run", "--", "cat", own]).status.code(), Some(1), "not shown");
    assert_eq!(in_temp(&["run", "--", "cat", "/etc/shadow"]).status.code(), Some(1), "never shown");
}

#[test]
fn a_replay_gives_the_same_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let code = "import sys, time; print(time.time(), sys.stdin.read()); sys.exit('error')";
    let args = ["record", "-o", "rec", "--clock", "host", "--", "python3", "-c", code];
    let recorded = dejavm(dir.path(), b"some input\n", &args);
    assert!(text(&recorded.stdout).ends_with(" some input\n\n"), "{recorded:?}");
    let replayed = dejavm(dir.path(), b"other input\n", &["replay", "rec"]);
    assert_eq!(recorded, replayed);

    refused(&dejavm(dir.path(), b"", &["record", "-o", "rec", "--", "true"]), 125, &["rec", "not empty"]);
    refused(&dejavm(dir.path(), b"", &["record", "-o", "no", "--", "./nope"]), 127, &["./nope"]);
    assert!(!dir.path().join("no").exists(), "nothing is left of a run that never began");

    let log = dejavm(dir.path(), b"", &["log", "rec"]);
    let log = text(&log.stdout);
    assert!(log.contains("openat("), "{log}");
    assert!(log.trim_end().ends_with("+++ exited with 1 +++"), "{log}");
    let json = text(&dejavm(dir.path(), b"", &["log", "rec", "--json"]).stdout);
    assert_eq!(json.lines().count(), log.lines().count());
    let digest = text(&dejavm(dir.path(), b"", &["log", "rec", "--digest"]).stdout);
    let inspected = text(&dejavm(dir.path(), b"", &["inspect", "rec", "--verify"]).stdout);
    assert!(inspected.contains(digest.trim()) && inspected.contains("verified"), "{inspected}");
}

#[test]
fn a_replay_of_another_run_diverges() {
    let dir = tempfile::tempdir().expect("a directory");
    let args = ["record", "-o", "rec", "--seed", "1", "--", "sh", "-c", "echo x"];
    gave(&dejavm(dir.path(), b"", &args), 0, "x\n");
    // Another seed is another address-space layout.
    let manifest = dir.path().join("rec/manifest.json");
    let json = std::fs::read_to_string(&manifest).expect("a manifest");
    std::fs::write(&manifest, json.replace("\"seed\": 1,", "\"seed\": 1, \"anew\": { \"seed\": 2 },"))
        .expect("a manifest");
    let output = dejavm(dir.path(), b"", &["replay", "rec"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(122), "{stderr}");
    assert!(stderr.starts_with("dejavm: the replay diverged at exit "), "{stderr}");
    for word in ["recorded:", "replayed:", "registers:", "rip"] {
        assert!(stderr.contains(word), "no {word:?} in {stderr}");
    }
}

#[test]
fn a_deadline_is_replayed() {
    let dir = tempfile::tempdir().expect("a directory");
    let args =
        ["record", "-o", "rec", "--deadline", "300ms", "--", "sh", "-c", "echo one; while :; do :; done"];
    gave(&dejavm(dir.path(), b"", &args), 124, "one\n");
    gave(&dejavm(dir.path(), b"", &["replay", "rec"]), 124, "one\n");
}

#[test]
fn a_snapshot_goes_on_with_other_input() {
    let dir = tempfile::tempdir().expect("a directory");
    let code = "echo before; read line; echo \"got $line\"; exit 4";
    let made =
        dejavm(dir.path(), b"", &["snapshot", "-o", "s.dvm", "--at", "first-read", "--", "sh", "-c", code]);
    gave(&made, 0, "before\n");
    gave(&dejavm(dir.path(), b"this\n", &["restore", "s.dvm"]), 4, "got this\n");
    gave(&dejavm(dir.path(), b"that\n", &["restore", "s.dvm", "--eager"]), 4, "got that\n");

    let warmed = dejavm(dir.path(), b"x\n", &["warm", "s.dvm"]);
    assert!(text(&warmed.stdout).contains("working set of "), "{warmed:?}");
    gave(&dejavm(dir.path(), b"that\n", &["restore", "s.dvm"]), 4, "got that\n");
    gave(&dejavm(dir.path(), b"kept\n", &["restore", "s.dvm", "--record", "rec"]), 4, "got kept\n");
    gave(&dejavm(dir.path(), b"", &["replay", "rec"]), 4, "got kept\n");
    gave(&dejavm(dir.path(), b"", &["replay", "rec", "--no-prefetch"]), 4, "got kept\n");

    let inspected = text(&dejavm(dir.path(), b"", &["inspect", "s.dvm", "--verify"]).stdout);
    assert!(inspected.contains("working set") && inspected.contains("verified"), "{inspected}");
}

#[test]
fn points_of_a_snapshot() {
    let dir = tempfile::tempdir().expect("a directory");
    let code = "x=1; echo before; echo snapshot >/dev/dejavm; echo after $x";
    gave(&dejavm(dir.path(), b"", &["snapshot", "-o", "r.dvm", "--", "sh", "-c", code]), 0, "before\n");
    gave(&dejavm(dir.path(), b"", &["restore", "r.dvm"]), 0, "after 1\n");
    gave(
        &dejavm(dir.path(), b"", &["snapshot", "-o", "e.dvm", "--at", "exit:20", "--", "sh", "-c", code]),
        0,
        "",
    );
    gave(&dejavm(dir.path(), b"", &["restore", "e.dvm"]), 0, "before\nafter 1\n");
    let missed = dejavm(dir.path(), b"", &["snapshot", "-o", "n.dvm", "--", "sh", "-c", "echo x; exit 4"]);
    refused(&missed, 125, &["status 4", "/dev/dejavm"]);
    gave(&missed, 125, "x\n");
    assert!(!dir.path().join("n.dvm").exists());
}

#[test]
fn statistics_go_to_standard_error() {
    let output = in_temp(&["run", "--stats=json", "--", "true"]);
    let line = text(&output.stderr);
    assert_eq!(line.lines().count(), 1, "{line}");
    for key in ["\"exits\"", "\"by_rung\"", "\"syscalls\"", "\"time_ns\"", "\"process_peak_bytes\""] {
        assert!(line.contains(key), "no {key} in {line}");
    }
    let plain = text(&in_temp(&["run", "--stats", "--", "true"]).stderr);
    assert!(plain.lines().all(|line| line.starts_with("dejavm: ")) && plain.contains("poison"), "{plain}");
}

#[test]
fn a_reader_that_goes_away_ends_the_guest() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dejavm"))
        .args(["-q", "run", "--deadline", "20s", "--", "yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    drop(child.stdout.take());
    const SIGPIPE: i32 = 13;
    assert_eq!(child.wait().expect("the tool ends").code(), Some(128 + SIGPIPE));
}

#[test]
fn a_program_s_arguments_are_its_own() {
    let args =
        [OsStr::new("run"), OsStr::new("echo"), OsStr::new("-q"), OsStr::new("--"), OsStr::new("--stats")];
    let output = Command::new(env!("CARGO_BIN_EXE_dejavm")).args(args).output().expect("the tool runs");
    gave(&output, 0, "-q -- --stats\n");
}

/// What a shell or a manual reader gets names every subcommand.
#[test]
fn completions_and_manual_pages() {
    let dir = tempfile::tempdir().unwrap();
    let commands = [
        "run", "record", "replay", "snapshot", "restore", "warm", "log", "ps", "stdout", "trace", "report",
        "diff", "cat", "find", "where", "inspect", "pack", "unpack", "redact", "doctor",
    ];
    for shell in ["bash", "zsh", "fish"] {
        let script = tool(dir.path(), ["completions", shell]).text();
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}: {script}");
    }
    assert!(tool(dir.path(), ["man"]).text().contains("Exit status"));
    tool(dir.path(), ["man", "."]).text();
    for command in commands {
        let page = std::fs::read_to_string(dir.path().join(format!("dejavm-{command}.1"))).unwrap();
        assert!(page.contains(command), "{page}");
    }
    let failed = tool(dir.path(), ["man", "nowhere"]);
    assert_eq!(failed.status, 125);
    assert!(String::from_utf8_lossy(&failed.stderr).contains("nowhere"), "{failed:?}");
}

/// `-v` tells how long starting and running took.
#[test]
fn verbose_runs_tell_their_spans() {
    common::require_kvm();
    let dir = tempfile::tempdir().unwrap();
    let ended = tool(dir.path(), ["run", "-v", "--", "/bin/true"]);
    let text = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status, 0, "{text}");
    for span in ["start{program=/bin/true}", "run{exits="] {
        assert!(text.lines().any(|line| line.contains(span) && line.contains("time.busy=")), "{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour where there is no terminal: {text}");
}

#[test]
fn limits_that_were_hit_are_named() {
    let code = "import os\ntry: bytearray(1 << 30)\nexcept MemoryError: os._exit(int(input()))";
    let run = |args: &[&str], status: &[u8]| {
        let dir = tempfile::tempdir().expect("a directory");
        let all = [&["run"][..], args, &["--memory", "64M", "--", "python3", "-S", "-c", code]].concat();
        dejavm(dir.path(), status, &all)
    };
    let failed = run(&[], b"3\n");
    refused(&failed, 3, &["python3", "its limit of memory (--memory)"]);
    // One that made do with less is left alone.
    let done = run(&[], b"0\n");
    assert_eq!((done.status.code(), text(&done.stderr).as_str()), (Some(0), ""));
    let told = run(&["--stats"], b"0\n");
    assert!(text(&told.stderr).contains("limits       came to those of memory"), "{told:?}");
    let json: serde_json::Value =
        serde_json::from_slice(&run(&["--stats=json"], b"0\n").stderr).expect("JSON");
    assert_eq!(json["limits_hit"], serde_json::json!(["memory"]));
}

/// Where nobody reads the output, the recording has it all the same; a replay that cannot show it says so.
#[test]
fn output_is_recorded_and_shown_or_missed() {
    let dir = tempfile::tempdir().expect("a directory");
    let to = |path: &str, args: &[&str]| {
        let file = std::fs::File::options().write(true).open(path).expect("a device");
        let mut command = common::dejavm(args);
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(file).output().expect("the tool runs")
    };
    let recorded =
        to("/dev/null", &["record", "-q", "-o", "rec", "--", "sh", "-c", "echo one; echo two; exit 3"]);
    assert_eq!(recorded.status.code(), Some(3), "{recorded:?}");
    gave(&dejavm(dir.path(), b"", &["replay", "rec"]), 3, "one\ntwo\n");
    refused(&to("/dev/full", &["replay", "rec"]), 125, &["No space left", "output"]);
    // The program itself is told.
    let told = to("/dev/full", &["run", "-q", "--", "/bin/echo", "hi"]);
    assert!(told.status.code() == Some(1) && text(&told.stderr).contains("No space left"), "{told:?}");
}

/// What cannot be is said with the name of what it is.
#[test]
fn too_little_memory_and_relative_paths_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = "static char big[3ul << 30]; int main() { big[5] = 1; return 0; }";
    std::fs::write(dir.path().join("big.c"), source).expect("a source");
    let gcc =
        Command::new("gcc").args(["-mcmodel=large", "-o", "big", "big.c"]).current_dir(dir.path()).status();
    assert!(gcc.expect("gcc").success());
    let run = |args: &[&str]| dejavm(dir.path(), b"", args);
    refused(&run(&["run", "--memory", "1G", "--", "./big"]), 126, &["./big", "--memory"]);
    gave(&run(&["run", "--memory", "4G", "--", "./big"]), 0, "");
    refused(&run(&["run", "--workdir", "here", "--", "true"]), 125, &["(here)", "absolute path"]);
    refused(&run(&["run", "--ro", "big:there", "--", "true"]), 125, &["there"]);
}

/// With few open files allowed it works, or the limit is named, wherever it came to that; what the guest
/// looks for is never missing instead.
#[test]
fn a_limit_of_open_files_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = "ulimit -n $0 && exec \"$@\"";
    let mut worked = 0;
    for limit in 9..50 {
        let mut shell = Command::new("sh");
        shell.current_dir(&dir).args([
            "-c",
            script,
            &limit.to_string(),
            DEJAVM,
            "run",
            "-q",
            "--",
            "ls",
            "/",
        ]);
        let ended = finish(&mut shell, Input::Pipe(b""));
        let text = String::from_utf8_lossy(&ended.stderr);
        match ended.status {
            0 => worked += 1,
            125 => {
                let named = text.contains(&format!("may have {limit} (RLIMIT_NOFILE)"));
                assert!(named && text.contains("ulimit -n"), "{limit}: {text}");
            }
            _ => panic!("{limit}: {ended:?}"),
        }
    }
    assert!(worked > 0, "50 are enough");
}
