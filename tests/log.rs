//! What is shown of recordings: `dejavm log` with what calls point to, `ps`, `stdout` and `diff`.

mod common;

use std::path::{Path, PathBuf};

use common::{Finished, tool};

/// A recording of `tests/guests/decoded.c`, and the directory that it is in.
fn recorded() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "decoded.c", &["-static"]);
    let shown = dir.path().to_str().expect("a path in UTF-8");
    let program = program.to_str().expect("a path in UTF-8").to_owned();
    let done = tool(dir.path(), ["record", "-q", "-o", "rec", "--ro", shown, "--", &program]);
    assert_eq!(done.status, 3, "{done:?}");
    let path = dir.path().to_owned();
    (dir, path)
}

fn said(done: &Finished) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// Lines without the number of the exit, with each address as `0x*`.
fn lines(dir: &Path, args: &[&str]) -> Vec<String> {
    let text = tool(dir, [&["log", "rec"], args].concat()).text();
    text.lines().map(|line| without_addresses(line[8..].trim_start())).collect()
}

fn without_addresses(line: &str) -> String {
    let mut parts = line.split("0x");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        let short = part.len() - rest.len() < 5;
        out.push_str(if short { "0x" } else { "0x*" });
        out.push_str(if short { part } else { rest });
    }
    out
}

/// The lines are strace's, but for the numbers of processes.
#[test]
fn calls_are_decoded() {
    let (_keep, dir) = recorded();
    let program = dir.join("decoded");
    let program = program.display();
    let shown = lines(&dir, &["-s", "200"]);
    let expected = [
        r#"openat(AT_FDCWD, "/tmp/decoded", O_RDWR|O_CREAT|O_TRUNC, 0640) = 3"#.to_owned(),
        r#"writev(3, [{iov_base="one", iov_len=3}, {iov_base="two\n", iov_len=4}], 2) = 7"#.into(),
        "fstat(3, {st_mode=S_IFREG|0640, st_size=7, ...}) = 0".into(),
        r#"pread64(3, "onetwo\n", 64, 0) = 7"#.into(),
        r#"openat(AT_FDCWD, "/no/such/file", O_RDONLY) = -1 ENOENT (No such file or directory)"#.into(),
        "open(0x10, O_RDONLY) = -1 EFAULT (Bad address)".into(),
        // What a call points to that the recorded run never read is not there to be shown.
        "write(-1, 0x*, 5) = -1 EBADF (Bad file descriptor)".into(),
        "rt_sigaction(SIGUSR1, {sa_handler=0x*, sa_mask=[INT], sa_flags=SA_RESTORER|SA_RESTART, \
         sa_restorer=0x*}, NULL, 8) = 0"
            .into(),
        "pipe2([4, 5], O_CLOEXEC) = 0".into(),
        "poll([{fd=4, events=POLLIN}], 1, 10) = 0 (Timeout)".into(),
        "clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x*) = 3"
            .into(),
        r#"[pid 3] write(5, "from the child", 14) = 14"#.into(),
        format!(r#"[pid 3] execve("{program}", ["{program}", "child", "with words"], 0x* /* 1 var */) = 0"#),
        r#"[pid 2] read(4, "from the child", 32) = 14"#.into(),
        "[pid 3] exit_group(7) = ?".into(),
        "[pid 2] wait4(3, [{WIFEXITED(s) && WEXITSTATUS(s) == 7}], 0, NULL) = 3".into(),
        "[pid 2] nanosleep({tv_sec=0, tv_nsec=1000}, NULL) = 0".into(),
        "[pid 2] socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 6".into(),
        r#"[pid 2] bind(6, {sa_family=AF_UNIX, sun_path="/tmp/socket"}, 110) = 0"#.into(),
        "[pid 2] socketpair(AF_UNIX, SOCK_STREAM, 0, [7, 8]) = 0".into(),
        r#"[pid 2] sendmsg(7, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="message", iov_len=7}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, 0) = 7"#.into(),
        r#"[pid 2] write(1, "an end\n", 7) = 7"#.into(),
        "[pid 2] +++ exited with 3 +++".into(),
    ];
    for line in &expected {
        assert!(shown.contains(line), "{line}\nis not in\n{}", shown.join("\n"));
    }
    // Without a replay there are the numbers alone.
    let raw = tool(&dir, ["log", "rec", "--raw"]).text();
    assert!(raw.contains("open(0x") && !raw.contains("/tmp/decoded"), "{raw}");
    assert_eq!(raw.lines().count(), shown.len());
    let json = tool(&dir, ["log", "rec", "--json"]).text();
    assert!(json.contains(r#""decoded":"pipe2([4, 5], O_CLOEXEC) = 0""#), "{json}");
    assert!(!tool(&dir, ["log", "rec", "--json", "--raw"]).text().contains("decoded"));
}

#[test]
fn filters_choose_lines() {
    let (_keep, dir) = recorded();
    let opened = lines(&dir, &["-e", "trace=open,openat"]);
    assert_eq!(opened.iter().filter(|line| line.starts_with("open")).count(), 4);
    assert_eq!(opened.len(), 5, "and the end: {opened:?}");
    let network = lines(&dir, &["-e", "%network", "-s", "3"]);
    assert!(network.iter().any(|line| line.contains(r#"iov_base="mes"..., iov_len=7"#)), "{network:?}");
    let others = lines(&dir, &["-e", "trace=!desc,memory"]);
    assert!(
        others.iter().any(|line| line.contains("wait4("))
            && !others.iter().any(|line| line.contains("write("))
    );
    let child = lines(&dir, &["-p", "3"]);
    assert!(child.len() > 3 && child.iter().all(|line| line.starts_with("[pid 3] ")), "{child:?}");
    let all = lines(&dir, &[]);
    let part = lines(&dir, &["--from", "5", "--to", "9"]);
    assert_eq!(part, all[4..9]);
    let timed = lines(&dir, &["-T", "-e", "nanosleep,poll"]);
    assert!(timed[0].contains("(Timeout) <0.01"), "ten milliseconds have passed: {timed:?}");
    let faults = lines(&dir, &["-e", "fault"]);
    assert!(faults.len() > all.len() && faults.iter().any(|line| line.starts_with(". page ")));
    let table = tool(&dir, ["log", "rec", "-c"]).text();
    assert!(table.starts_with("% time     seconds  usecs/call     calls    errors syscall\n"), "{table}");
    assert!(table.lines().any(|line| line.ends_with("3         1 openat")), "{table}");
    let wrong = tool(&dir, ["log", "rec", "-e", "trace=frobnicate"]);
    assert!(wrong.status == 125 && said(&wrong).contains("frobnicate"), "{wrong:?}");
}

/// What cannot be replayed is shown as the log has it, and standard error says why.
#[test]
fn without_a_replay_the_numbers_are_shown() {
    let (_keep, dir) = recorded();
    let raw = tool(&dir, ["log", "rec", "--raw"]).text();
    std::fs::rename(dir.join("rec/start.dvm"), dir.join("rec/elsewhere.dvm")).expect("renamed");
    let done = tool(&dir, ["log", "rec"]);
    assert!(said(&done).contains("not decoded") && said(&done).lines().count() == 1, "{done:?}");
    assert_eq!(done.text().lines().count(), raw.lines().count());
    assert!(!done.text().contains("/tmp/decoded"));
}

#[test]
fn a_call_that_waits_at_the_end_is_shown() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let done = tool(dir.path(), ["record", "-q", "-o", "rec", "--", "sh", "-c", "sleep inf; true"]);
    assert_eq!(done.status, 123, "nothing can wake them: {done:?}");
    let log = tool(dir.path(), ["log", "rec"]).text();
    let last = log.lines().last().expect("a line");
    assert!(last.contains("[pid 2] wait4(-1, 0x") && last.ends_with(", 0, NULL <unfinished ...>"), "{log}");
    let filtered = tool(dir.path(), ["log", "rec", "-e", "read"]).text();
    assert!(!filtered.contains("unfinished"), "{filtered}");
}

#[test]
fn processes_are_a_tree() {
    let (_keep, dir) = recorded();
    let program = dir.join("decoded");
    let program = program.display();
    let text = tool(&dir, ["ps", "rec"]).text();
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows[0].starts_with("   PID    FIRST     LAST"), "{text}");
    assert!(rows[1].contains("  exited 3 ") && rows[1].ends_with(&format!(" {program}")), "{text}");
    assert!(rows[2].contains("  exited 7 "), "{text}");
    assert!(rows[2].ends_with(&format!(r#" \_ {program} child "with words""#)), "{text}");
    let json = tool(&dir, ["ps", "rec", "--json"]).text();
    let child: serde_json::Value =
        serde_json::from_str(json.lines().nth(1).expect("a second line")).expect("JSON");
    assert_eq!((&child["pid"], &child["parent"], &child["thread"]), (&3.into(), &2.into(), &false.into()));
    assert_eq!(child["command"][2], "with words");
}

#[test]
fn threads_and_signals_in_the_tree() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let script = "import os, signal, threading\n\
                  thread = threading.Thread(target=lambda: None); thread.start(); thread.join()\n\
                  if os.fork() == 0: os.kill(os.getpid(), signal.SIGKILL)\n\
                  os.wait()";
    let done = tool(dir.path(), ["record", "-q", "-o", "rec", "--", "python3", "-c", script]);
    assert_eq!(done.status, 0, "{done:?}");
    let text = tool(dir.path(), ["ps", "rec"]).text();
    assert!(text.contains("exited 0") && text.contains("\\_ {thread}"), "{text}");
    assert!(text.contains("killed by SIGKILL"), "{text}");
}

#[test]
fn what_was_written_is_written_again() {
    let (_keep, dir) = recorded();
    let done = tool(&dir, ["stdout", "rec"]);
    assert_eq!((done.text().as_str(), said(&done).as_str()), ("an end\n", ""));
    let done = tool(&dir, ["stdout", "rec", "--stderr"]);
    assert_eq!((done.text().as_str(), said(&done).as_str()), ("an error\n", ""));
    let none = tool(&dir, ["stdout", "nothing"]);
    assert_eq!(none.status, 125, "{none:?}");
}

#[test]
fn recordings_are_compared() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let record = |name: &str, seed: &str, script: &str| {
        let args = ["record", "-q", "-o", name, "--seed", seed, "--", "sh", "-c", script];
        let done = tool(dir.path(), args);
        assert_eq!(done.status, 0, "{done:?}");
    };
    record("one", "0", "echo one; echo two; cd /tmp; echo three");
    record("again", "0", "echo one; echo two; cd /tmp; echo three");
    record("other", "0", "echo one; echo TWO; cd /tmp; umask 022; echo three");
    record("moved", "5", "echo one; echo two; cd /tmp; echo three");
    let diff = |args: &[&str]| tool(dir.path(), [&["diff"], args].concat());
    let same = diff(&["one", "again"]);
    assert_eq!((same.status, same.stdout.len()), (0, 0), "{same:?}");
    let differ = diff(&["one", "other"]);
    let text = String::from_utf8_lossy(&differ.stdout).into_owned();
    assert_eq!((differ.status, said(&differ).as_str()), (1, ""), "{differ:?}");
    let signed: Vec<&str> = text.lines().filter(|line| line.starts_with(['-', '+', '!'])).collect();
    assert!(
        signed.iter().any(|line| line.starts_with('-') && line.contains(r#"write(1, "two\n", 4) = 4"#)),
        "{text}"
    );
    assert!(
        signed.iter().any(|line| line.starts_with('+') && line.contains(r#"write(1, "TWO\n", 4) = 4"#)),
        "{text}"
    );
    assert!(signed.contains(&"!           differs: argument 2"), "{text}");
    assert!(signed.iter().any(|line| line.starts_with('+') && line.contains("umask(")), "{text}");
    assert!(text.contains(" exits are the same @@"), "{text}");
    // Another layout of memory is no difference of its own; random bytes are.
    let moved = diff(&["one", "moved"]);
    let text = String::from_utf8_lossy(&moved.stdout).into_owned();
    assert!(!text.contains("write(") && !text.contains("mmap("), "{text}");
    assert_eq!(diff(&["one", "other", "--raw"]).status, 1);
    assert_eq!(diff(&["one", "nothing"]).status, 125);
    let quiet = diff(&["-q", "one", "other"]);
    assert_eq!((quiet.status, quiet.stdout.len()), (1, 0), "{quiet:?}");
}
