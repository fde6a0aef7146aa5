//! `dejavm cat`, `find` and `where`: what was in files, what happened when, and who touched what.

mod common;

use std::path::{Path, PathBuf};

use common::{Finished, tool};
use dejavm::replay::{FileError, FoundKind, Moment, Position, Timeline};
use dejavm::{Exit, ExitKind, Host, Replay};

/// A recording of `tests/guests/when.c` as `rec` in a directory, in which the program is not any more.
fn recorded(flags: &[&str]) -> (tempfile::TempDir, PathBuf) {
    recorded_with(&[], flags)
}

fn recorded_with(options: &[&str], flags: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "when.c", &[&["-g", "-O0"], flags].concat());
    let own_path = program.to_str().expect("a path in UTF-8");
    let done = tool(dir.path(), [&["record", "-q", "-o", "rec"], options, &["--", own_path]].concat());
    assert_eq!(done.status, 128 + 11, "{done:?}");
    std::fs::remove_file(program).expect("the program is removed");
    let path = dir.path().to_owned();
    (dir, path)
}

/// Records a shell's script in a directory.
fn script(dir: &Path, script: &str) {
    let done = tool(dir, ["record", "-q", "-o", "rec", "--", "sh", "-c", script]);
    assert_eq!(done.status, 0, "{done:?}");
}

fn said(done: &Finished) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn text(done: &Finished) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[track_caller]
fn cat(dir: &Path, file: &str) -> String {
    tool(dir, ["cat", "rec", file]).text()
}

/// Fails unless it fails, and says these words.
#[track_caller]
fn refuses(done: &Finished, words: &[&str]) {
    assert_eq!(done.status, 125, "{done:?}");
    let said = said(done);
    assert!(words.iter().all(|word| said.contains(word)) && said.lines().count() == 1, "{words:?}: {said}");
}

/// The lines of `dejavm find` or `where`: position and text. It fails unless something was found.
#[track_caller]
fn found(dir: &Path, command: &str, words: &[&str]) -> Vec<(String, String)> {
    let done = tool(dir, [&[command, "rec"], words].concat());
    let lines = done.text();
    let parts = lines.lines().map(|line| line.split_once('\t').expect("a tab"));
    parts.map(|(position, text)| (position.to_owned(), text.to_owned())).collect()
}

/// The position of the only thing that is found.
#[track_caller]
fn only(dir: &Path, words: &[&str]) -> String {
    match &found(dir, "find", words)[..] {
        [(position, _)] => position.clone(),
        several => panic!("{words:?}: {several:?}"),
    }
}

/// What gdb says to these commands at a position.
#[track_caller]
fn gdb(dir: &Path, position: &str, commands: &[&str]) -> String {
    common::native("gdb");
    let mut words = vec!["debug", "rec", "--at", position, "--", "-nx", "-batch"];
    words.extend(commands.iter().flat_map(|command| ["-ex", *command]));
    let done = tool(dir, words);
    // What `monitor` says comes on standard error.
    done.text() + &said(&done)
}

#[test]
fn files_are_as_the_program_saw_them() {
    let (_keep, dir) = recorded(&[]);
    assert_eq!(cat(&dir, "/tmp/kept"), "First\nsecond\nthird\nchild\n");
    assert_eq!(cat(&dir, "kept"), "First\nsecond\nthird\nchild\n", "from the working directory");
    let second = only(&dir, &["write", r"second\n"]);
    assert!(second.ends_with('-'), "{second}");
    assert_eq!(cat(&dir, &format!("/tmp/made@{second}")), "first\n");
    let behind: u64 = second.trim_end_matches('-').parse().expect("a number");
    assert_eq!(cat(&dir, &format!("/tmp/made@{behind}")), "first\nsecond\n");
    assert_eq!(cat(&dir, &format!("/tmp/made@{behind}+1")), "first\nsecond\n");
    // Before it was there, and when it had another name.
    refuses(&tool(&dir, ["cat", "rec", "/tmp/kept@1"]), &["/tmp/kept", "no such file at this moment"]);
    refuses(&tool(&dir, ["cat", "rec", "/tmp/made"]), &["/tmp/made", "no such file at this moment"]);
    let removed = only(&dir, &["call", "unlink"]);
    assert_eq!(cat(&dir, &format!("/tmp/gone@{removed}")), "not for long\n");
    refuses(&tool(&dir, ["cat", "rec", "/tmp/gone"]), &["no such file at this moment"]);
    let names = cat(&dir, "/tmp");
    assert!(
        names.starts_with(".\n..\n") && names.ends_with("\nkept\n") && !names.contains("gone"),
        "{names}"
    );
    assert!(cat(&dir, "/proc/self/maps").contains("/when"));
    assert!(cat(&dir, "/proc/self/fd/3").starts_with("First\n"));
    refuses(&tool(&dir, ["cat", "rec", "/dev/zero"]), &["neither a regular file nor a directory"]);
    refuses(&tool(&dir, ["cat", "rec", "/tmp/kept/x"]), &["Not a directory"]);
    refuses(&tool(&dir, ["cat", "rec", "/tmp/kept@100000"]), &["there is no position 100000"]);
    refuses(&tool(&dir, ["cat", "rec", "/tmp/kept@100000-"]), &["there is no position 100000-"]);
}

#[test]
fn of_the_hosts_files_there_is_what_was_read() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let big: Vec<u8> = (0..200_000u32).flat_map(|n| [n as u8]).collect();
    std::fs::write(dir.join("big"), &big).expect("written");
    std::fs::write(dir.join("small"), "all of it\n").expect("written");
    std::fs::write(dir.join("changed"), "before\n").expect("written");
    script(
        dir,
        "head -c 10 big >/dev/null; read line <small; echo after >>changed; test -e unread; ls /opt >/dev/null",
    );
    for file in ["big", "small", "changed"] {
        std::fs::remove_file(dir.join(file)).expect("removed");
    }
    assert_eq!(cat(dir, "small"), "all of it\n");
    assert_eq!(cat(dir, "changed"), "before\nafter\n");
    let done = tool(dir, ["cat", "rec", "big"]);
    refuses(&done, &["big", "65536 bytes at offset 65536"]);
    assert!(done.stdout == big[..65536], "what is before it is written");
    refuses(&tool(dir, ["cat", "rec", "unread"]), &["no such file at this moment"]);
    refuses(&tool(dir, ["cat", "rec", "/etc/hostname-that-nobody-asked-for"]), &["had not looked at it"]);
    // Listed by the shell's path only, and not by name.
    refuses(&tool(dir, ["cat", "rec", "."]), &["had not listed this directory"]);
    assert!(cat(dir, "/opt").starts_with(".\n..\n"));
    // At the start nothing was looked at.
    refuses(&tool(dir, ["cat", "rec", "small@0"]), &["had not looked at it"]);
}

/// Whoever looks at files changes nothing of the run.
#[test]
fn looking_changes_nothing() {
    let (_keep, dir) = recorded(&["-static"]);
    let host = Host::probe().expect("a host");
    let open = || -> Timeline {
        Replay::open(dir.join("rec")).expect("a recording").timeline(&host).expect("a timeline")
    };
    let mut untouched = open();
    untouched.seek_end().expect("an end");
    let (end, digest) = (untouched.position().expect("a position"), untouched.digest().expect("a digest"));
    let mut timeline = open();
    for exit in 0..end.exit {
        timeline.seek(Position::behind(exit)).expect("a position");
        let before = timeline.digest().expect("a digest");
        let mut files = timeline.files().expect("files");
        let _ = files.find(b"/etc/never-looked-at");
        let _ = files.find(b"/proc/self/environ").and_then(|found| files.read(&found, 0, &mut [0; 99]));
        let top = files.find(b"/dev").expect("a directory");
        assert_eq!(top.kind(), FoundKind::Directory);
        assert!(files.list(&top).expect("names").contains(&b"null".to_vec()));
        if let Ok(made) = files.find(b"/tmp/made") {
            let mut bytes = [0; 64];
            let n = files.read(&made, 0, &mut bytes).expect("content");
            assert_eq!(n as u64, made.size());
        }
        assert!(matches!(files.find(b"/dev/null"), Err(FileError::NoContent { .. })));
        drop(files);
        assert_eq!(timeline.digest().expect("a digest"), before, "at {exit}");
    }
    timeline.seek_end().expect("an end");
    assert_eq!(
        (timeline.position().expect("a position"), timeline.digest().expect("a digest")),
        (end, digest)
    );
}

/// The moment before a call has its number and arguments in the registers of its task: in threads and children, and
/// where it waits.
#[test]
fn before_each_call_its_arguments_are_there() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let threads = "import threading, queue, os\n\
                   q, r = queue.Queue(), queue.Queue()\n\
                   def work():\n  while (n := q.get()): r.put(n + 1)\n\
                   t = [threading.Thread(target=work) for _ in range(2)]\n\
                   for x in t: x.start()\n\
                   for n in range(3): q.put(n + 1); r.get()\n\
                   for x in t: q.put(0)\n\
                   for x in t: x.join()\n\
                   os.close(os.dup(1))";
    let shell =
        "for i in 1 2; do echo $i; sleep 0.01; done | while read x; do echo $x$x; done | (wc -l; exit 3)";
    let host = Host::probe().expect("a host");
    for program in [&["python3", "-c", threads][..], &["sh", "-c", shell]] {
        let _ = std::fs::remove_dir_all(dir.join("rec"));
        tool(dir, [&["record", "-q", "-o", "rec", "--"], program].concat());
        let mut timeline =
            Replay::open(dir.join("rec")).expect("a recording").timeline(&host).expect("a timeline");
        let exits: Vec<Exit> =
            timeline.recording().exits().collect::<Result<_, _>>().expect("a recording that can be read");
        // Near the end, where all tasks are there, each; before, some.
        let last = exits.len() as u64;
        let (mut waited, mut others) = (0, 0);
        for exit in exits {
            let ExitKind::Syscall { number, args } = exit.kind else { continue };
            if exit.number + 50 < last && exit.number % 80 != 0 {
                continue;
            }
            timeline.seek(Moment::Before(exit.number)).expect("a moment");
            let general = timeline.registers().general;
            let found = [general.rdi, general.rsi, general.rdx, general.r10, general.r8, general.r9];
            let task = timeline.machine().program().expect("a program").kernel.tid();
            assert_eq!((task, general.rax as u32), (exit.task, number as u32), "before {exit:?}");
            assert_eq!(found, args, "before {exit:?}");
            waited += u32::from(timeline.exit() + 1 < exit.number);
            others += u32::from(exit.task != 2);
        }
        assert!(waited > 3 && others > 10, "{waited} waited, {others} of others");
    }
}

#[test]
fn calls_are_found_and_gdb_shows_them() {
    let (_keep, dir) = recorded(&[]);
    let second = only(&dir, &["write", "second"]);
    let shown = gdb(&dir, &second, &["printf \"%d %d %d\\n\", $rax, $rdi, $rdx", "x/s $rsi", "x/i $rip"]);
    assert!(
        shown.contains("\n1 3 7\n") && shown.contains(r#""second\n""#) && shown.contains("syscall"),
        "{shown}"
    );
    let opened = found(&dir, "find", &["open", "/tmp/*"]);
    let texts: Vec<&str> = opened.iter().map(|(_, text)| &**text).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(
        texts[0].starts_with(r#"[pid 2] openat(AT_FDCWD, "/tmp/made", O_RDWR|O_CREAT|O_TRUNC, 0644) = 3"#)
    );
    assert!(texts[2].starts_with(r#"[pid 3] openat(AT_FDCWD, "/tmp/kept""#), "{texts:?}");
    // By a duplicate of its descriptor, and by the child's own.
    assert_eq!(found(&dir, "find", &["write", "to", "made"]).len(), 3);
    assert_eq!(found(&dir, "find", &["write", "to", "kept"]).len(), 1);
    let config = only(&dir, &["failed", "ENOENT", "and", "open", "config"]);
    assert_eq!(config, only(&dir, &["open config and failed and not failed EACCES"]));
    // A call that waited is shown where it was made: in the parent, before the child has run.
    let waited = only(&dir, &["-p", "2", "--last", "call", "read"]);
    let shown = gdb(&dir, &waited, &["printf \"%d %d\\n\", $rax, $rdx", "monitor tasks"]);
    assert!(shown.contains("\n0 1\n") && shown.contains("=> task 2 of process 2"), "{shown}");
    // What the child does, with its registers.
    let ended = only(&dir, &["exit", "3"]);
    let shown = gdb(&dir, &ended, &["printf \"%d %d\\n\", $rax, $rdi", "monitor tasks"]);
    assert!(shown.contains("\n231 3\n") && shown.contains("=> task 3 of process 3"), "{shown}");
}

#[test]
fn ends_signals_and_faults_are_found() {
    let (_keep, dir) = recorded(&[]);
    let handled = only(&dir, &["signal", "SIGUSR1"]);
    assert!(handled.ends_with("+1"), "{handled}");
    let shown = gdb(&dir, &handled, &["backtrace", "printf \"%d %d\\n\", $rdi, seen"]);
    assert!(shown.contains("handler (signal=") && shown.contains("<signal handler called>"), "{shown}");
    assert!(shown.contains("\n10 0\n"), "{shown}");
    let fault = found(&dir, "find", &["fault"]);
    assert_eq!(fault.len(), 1, "{fault:?}");
    assert!(fault[0].1.contains("#PF") && fault[0].1.contains("address 0x1234"), "{fault:?}");
    let shown = gdb(&dir, &fault[0].0, &["frame", "x/i $rip"]);
    assert!(shown.contains("main () at") && shown.contains("movl"), "{shown}");
    let killed = found(&dir, "find", &["signal", "SEGV"]);
    assert_eq!(killed, [(fault[0].0.clone(), "[pid 2] +++ killed by SIGSEGV +++".into())]);
    let ends = found(&dir, "find", &["exit"]);
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert_eq!(found(&dir, "find", &["exit", "status", "!=", "3"]), ends[1..]);
    assert_eq!(found(&dir, "find", &["exit", "139"]), ends[1..]);
    let child = found(&dir, "find", &["signal", "CHLD", "or", "exit", "3"]);
    assert_eq!(child, ends[..1], "a signal that is ignored is not taken");
}

#[test]
fn writes_to_memory_are_found() {
    let large: &[&str] = &["-static", "-no-pie"];
    for (options, flags) in [(&[][..], &[][..]), (&[], large), (&["--max-log", "2M"], large)] {
        let (_keep, dir) = recorded_with(options, flags);
        if !options.is_empty() {
            // Of a large program such a recording lacks the symbol table, which this machine may have.
            let done = tool(&dir, ["where", "rec", "counter"]);
            assert!(done.status == 1 && said(&done).contains("counter was taken for a file"), "{done:?}");
            common::guest(&dir, "when.c", &[&["-g", "-O0"], flags].concat());
        }
        let touched = found(&dir, "where", &["counter"]);
        assert_eq!(touched.len(), 5, "{touched:?}");
        let (position, first) = &touched[0];
        assert!(first.contains(": 0x0 -> 0x3 by an instruction"), "{first}");
        let shown = gdb(&dir, position, &["frame", "print counter", "stepi", "print counter"]);
        assert!(shown.contains("count () at") && shown.contains("= 0") && shown.contains("= 3"), "{shown}");
        let address = first.split_whitespace().nth(2).expect("an address").trim_end_matches(':');
        let place = format!("{address}:4");
        assert_eq!(found(&dir, "find", &["write", "to", &place]), touched);
        assert_eq!(found(&dir, "find", &["-n", "2", &format!("write to {place}")]), touched[..2]);
        assert_eq!(found(&dir, "find", &["--last", "write", "to", &place]), touched[4..]);
        assert_eq!(found(&dir, "where", &[&place, "--last", "-n", "3"]), touched[2..]);
        // The child has its own.
        let child = found(&dir, "find", &["-p", "3", "write", "to", &place]);
        assert!(matches!(&child[..], [(_, text)] if text.contains("0xf -> 0x3e8")), "{child:?}");
        let buffer = found(&dir, "where", &["buffer"]);
        assert!(
            matches!(&buffer[..], [(at, text)] if text.ends_with(&format!("by exit {}", at.trim_end_matches('-')))
                && text.starts_with(r#"[pid 2] filled in: pread64(3, "first\nsecond\n""#)),
            "{buffer:?}"
        );
    }
}

#[test]
fn files_are_followed() {
    let (_keep, dir) = recorded(&[]);
    let touched = found(&dir, "where", &["/tmp/made"]);
    let told: Vec<String> = touched
        .iter()
        .map(|(_, text)| {
            let (task, rest) = text.split_once("] ").expect("a task");
            let (verb, call) = rest.split_once(": ").expect("a verb");
            format!("{} {verb} {}", &task[5..], call.split('(').next().unwrap_or_default())
        })
        .collect();
    let expected = [
        "2 opened openat",
        "2 wrote write",
        "2 wrote write",
        "2 read pread64",
        // By a duplicate of the descriptor.
        "2 wrote write",
        "2 renamed rename",
        // By its new name from here on, and by another process.
        "2 mapped mmap",
        "3 opened openat",
        "3 wrote write",
    ];
    assert_eq!(told, expected);
    let gone = found(&dir, "where", &["gone"]);
    assert_eq!(gone.len(), 3, "{gone:?}");
    assert!(gone[2].1.contains("removed: unlink"), "{gone:?}");
}

#[test]
fn what_a_shell_and_a_python_did() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    script(
        dir,
        "cd /tmp; echo one >a; cat a >b; mv b c; (exec 7>>c; echo two >&7); ln -s c link; cat link; exit 0",
    );
    assert_eq!(cat(dir, "c"), "one\ntwo\n");
    assert_eq!(cat(dir, "link"), "one\ntwo\n");
    let appended = only(dir, &["write", "two", "and", "write", "to", "/tmp/c"]);
    assert_eq!(cat(dir, &format!("/tmp/c@{appended}")), "one\n");
    let programs = found(dir, "find", &["exec"]);
    assert_eq!(programs.len(), 4, "{programs:?}");
    assert_eq!(found(dir, "find", &["exec", "cat"]).len(), 2);
    assert_eq!(found(dir, "find", &["exit", "0"]).len(), 6);
    let link = found(dir, "where", &["/tmp/link"]);
    assert!(
        link.iter().any(|(_, text)| text.contains("read: read(") && text.contains("one\\ntwo")),
        "{link:?}"
    );
    let python = "import os\nopen('/tmp/x', 'w').write('words')\n\
                  if os.fork() == 0: os._exit(os.WEXITSTATUS(os.system('exit 9')))\nos.wait()";
    std::fs::remove_dir_all(dir.join("rec")).expect("removed");
    let done = tool(dir, ["record", "-q", "-o", "rec", "--", "python3", "-c", python]);
    assert_eq!(done.status, 0, "{done:?}");
    assert_eq!(cat(dir, "/tmp/x"), "words");
    assert_eq!(found(dir, "find", &["exit", "status", "!=", "0"]).len(), 2);
    let json = tool(dir, ["find", "rec", "--json", "--first", "exit", "9"]).text();
    let object: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&object["kind"], &object["call"]), (&"call".into(), &"exit_group".into()));
    assert!(object["position"].as_str().is_some_and(|at| at.ends_with('-')), "{object}");
}

#[test]
fn exit_statuses_are_those_of_grep() {
    let (_keep, dir) = recorded(&["-static"]);
    let status = |words: &[&str]| {
        let done = tool(&dir, words);
        assert!(done.status == 125 || said(&done).is_empty(), "{done:?}");
        (done.status, text(&done).lines().count())
    };
    assert_eq!(status(&["find", "rec", "open", "/no/**"]), (0, 1));
    assert_eq!(status(&["find", "rec", "open", "nothing-such"]), (1, 0));
    assert_eq!(status(&["find", "rec", "--first", "call", "write"]), (0, 1));
    assert_eq!(status(&["find", "rec", "-n", "2", "call", "write"]), (0, 2));
    assert_eq!(status(&["find", "rec", "frobnicate"]), (125, 0));
    assert_eq!(status(&["find", "nothing", "fault"]), (125, 0));
    assert_eq!(status(&["find", "rec", "write", "to", "0x10:0"]), (125, 0));
    assert_eq!(status(&["where", "rec", "./nothing-such"]), (1, 0));
    assert_eq!(status(&["where", "rec", "0x10"]), (1, 0));
    assert_eq!(status(&["where", "nothing", "x"]), (125, 0));
    // What cannot be replayed here is not said to hold nothing.
    std::fs::remove_file(dir.join("rec/start.dvm")).expect("removed");
    assert_eq!(status(&["find", "rec", "fault"]), (125, 0));
}

/// A recording may come from anybody, and say that its guest may use all of the host's memory.
#[test]
fn large_recordings_are_looked_into_only_if_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let done =
        tool(dir, ["record", "-q", "--memory", "3G", "-o", "rec", "--", "sh", "-c", "echo words >/tmp/x"]);
    assert_eq!(done.status, 0, "{done:?}");
    for words in
        [&["cat", "rec", "/tmp/x"][..], &["find", "rec", "write", "words"], &["where", "rec", "/tmp/x"]]
    {
        refuses(&tool(dir, words), &["--memory"]);
        assert_eq!(tool(dir, [words, &["--memory", "3G"]].concat()).status, 0, "{words:?}");
    }
}
