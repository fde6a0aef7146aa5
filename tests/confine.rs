//! The process confines itself: what a monitor that a guest has taken over would try is refused, and
//! what sandboxes need is not.
//!
//! What is refused is tried by this test's own program, run again for each try, since confinement
//! cannot be undone and some tries end the process.

// Some of the tries are system calls that nothing wraps.
#![allow(unsafe_code)]

mod common;

use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Input, dejavm, finish, require_kvm, tool};
use dejavm::{Confinement, Grant, Host, Program, View};

/// 128 and `SIGSYS`: what a shell gives for a process that seccomp ended.
const KILLED: i32 = 128 + 31;

/// The name of a try, and the directory that it is made in, reach the program in these.
const TRY: &str = "DEJAVM_TEST_TRY";
const DIR: &str = "DEJAVM_TEST_DIR";

/// One try: what is done, as a raw system call. Negative with `errno` set where it is refused.
type Try = fn(&Path) -> libc::c_long;

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

fn open(path: &Path, flags: libc::c_int) -> libc::c_long {
    // SAFETY: the path ends in NUL and lives for the call.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, c(path).as_ptr(), flags, 0o600) }
}

fn openat2(path: &Path, flags: libc::c_int) -> libc::c_long {
    let how: [u64; 3] = [flags as u64, if flags & libc::O_CREAT != 0 { 0o600 } else { 0 }, 0];
    // SAFETY: path and `open_how` are valid for the call.
    unsafe { libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, c(path).as_ptr(), how.as_ptr(), 24) }
}

fn call(number: libc::c_long, args: [u64; 4]) -> libc::c_long {
    // SAFETY: the arguments are numbers, or null where the call takes a pointer.
    unsafe { libc::syscall(number, args[0], args[1], args[2], args[3]) }
}

const WRITE: libc::c_int = libc::O_WRONLY | libc::O_CREAT;

/// What is tried in a process that may write nothing, and how it ends: with an error number, or by
/// `SIGSYS`.
const FORBIDDEN: &[(&str, Try, Option<i32>)] = &[
    ("read /var/log", |_| open(Path::new("/var/log"), libc::O_RDONLY), Some(libc::EACCES)),
    ("read a file outside", |dir| open(&dir.join("secret"), libc::O_RDONLY), Some(libc::EACCES)),
    ("read it by openat2", |dir| openat2(&dir.join("secret"), libc::O_RDONLY), Some(libc::EACCES)),
    ("read the directory", |dir| open(dir, libc::O_RDONLY | libc::O_DIRECTORY), Some(libc::EACCES)),
    ("read a disk", |_| open(Path::new("/dev/null"), libc::O_RDONLY), Some(libc::EACCES)),
    ("read /dev/kvm", |_| open(Path::new("/dev/kvm"), libc::O_RDONLY), Some(libc::EACCES)),
    ("write a file", |dir| open(&dir.join("new"), WRITE), None),
    ("write what may be read", |dir| open(&dir.join("shown/file"), libc::O_RDWR), None),
    ("write by openat2", |dir| openat2(&dir.join("new"), WRITE), Some(libc::EACCES)),
    (
        "cut by openat2",
        |dir| openat2(&dir.join("shown/file"), libc::O_WRONLY | libc::O_TRUNC),
        Some(libc::EACCES),
    ),
    ("socket", |_| call(libc::SYS_socket, [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0]), None),
    ("execve", |_| call(libc::SYS_execve, [0; 4]), None),
    ("fork", |_| call(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0]), None),
    ("vfork", |_| call(libc::SYS_vfork, [0; 4]), None),
    ("clone3", |_| call(libc::SYS_clone3, [0; 4]), Some(libc::ENOSYS)),
    ("ptrace", |_| call(libc::SYS_ptrace, [libc::PTRACE_TRACEME as u64, 0, 0, 0]), None),
    ("a signal to another", |_| call(libc::SYS_kill, [1, 0, 0, 0]), None),
    ("io_uring", |_| call(libc::SYS_io_uring_setup, [1, 0, 0, 0]), None),
    ("type into the terminal", |_| call(libc::SYS_ioctl, [0, 0x5412, 0, 0]), None),
    ("make a machine", |_| call(libc::SYS_ioctl, [0, 0xae01, 0, 0]), None),
    ("dumpable", |_| call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0, 0]), None),
    ("executable memory", |_| call(libc::SYS_mprotect, [4096, 4096, libc::PROT_EXEC as u64, 0]), None),
    ("change the user", |_| call(libc::SYS_setuid, [0; 4]), None),
    ("rename", |_| call(libc::SYS_rename, [0; 4]), None),
    ("an unknown call", |_| call(4000, [0; 4]), None),
];

/// What is tried in a process that may write in one directory.
const WRITING: &[(&str, Try, Option<i32>)] = &[
    ("write a file", |dir| open(&dir.join("new"), WRITE), Some(libc::EACCES)),
    ("cut a file", |dir| open(&dir.join("shown/file"), libc::O_WRONLY | libc::O_TRUNC), Some(libc::EACCES)),
    ("make a device", |dir| call(libc::SYS_mknodat, [0, dir as *const Path as *const u8 as u64, 0, 0]), None),
    ("socket", |_| call(libc::SYS_socket, [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0]), None),
];

/// What must still go well there.
fn write_where_allowed(dir: &Path) {
    let (from, to) = (dir.join("out/from"), dir.join("out/to"));
    std::fs::write(&from, "content").expect("a file is written");
    std::fs::rename(&from, &to).expect("it is renamed");
    assert_eq!(std::fs::read_to_string(&to).expect("it is read"), "content");
    std::fs::remove_file(&to).expect("it is removed");
}

/// A directory with what the tries need.
fn scene() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("shown")).expect("a directory");
    std::fs::create_dir(dir.path().join("out")).expect("a directory");
    std::fs::write(dir.path().join("shown/file"), "shown").expect("a file");
    std::fs::write(dir.path().join("secret"), "secret").expect("a file");
    dir
}

/// Not a test: what a test runs in a process of its own.
#[test]
#[ignore = "run by the tests, in a process of its own"]
fn try_it() {
    let (Ok(name), Some(dir)) = (std::env::var(TRY), std::env::var_os(DIR).map(PathBuf::from)) else {
        return;
    };
    let host = Host::probe().expect("a host");
    let mut sandbox = Program::new("/bin/cat")
        .arg("/shown/file")
        .view(View::system().show("/shown", Grant::directory(dir.join("shown"))))
        .capture_output()
        .start(&host)
        .expect("a sandbox");
    let writes = name.starts_with("writing: ");
    let mut confinement: Confinement = sandbox.confinement();
    if writes {
        confinement = confinement.write(dir.join("out"));
    }
    let confined = confinement.apply().expect("confined");
    assert_eq!(confined.missing(), [] as [String; 0], "these tests need a kernel that has it all");
    let done = sandbox.run().expect("a run");
    assert_eq!(done.stdout, b"shown", "{done:?}");
    if writes {
        write_where_allowed(&dir);
    }
    let table = if writes { WRITING } else { FORBIDDEN };
    let name = name.trim_start_matches("writing: ");
    let (_, attempt, _) = table.iter().find(|(known, ..)| *known == name).expect("a try of the table");
    let result = attempt(&dir);
    let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    // Past the test harness, which keeps what is printed.
    let text = format!("tried: {}\n", if result < 0 { error } else { 0 });
    rustix::io::write(std::io::stderr(), text.as_bytes()).expect("a line");
}

#[test]
fn what_a_guest_in_the_monitor_would_try_is_refused() {
    require_kvm();
    let mut complaints = Vec::new();
    for (prefix, table) in [("", FORBIDDEN), ("writing: ", WRITING)] {
        for (name, _, expected) in table {
            let dir = scene();
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.args(["--exact", "try_it", "--ignored", "--nocapture"]);
            command.env(TRY, format!("{prefix}{name}")).env(DIR, dir.path());
            let done = finish(&mut command, Input::Pipe(b""));
            let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
            let right = match expected {
                None => done.status == KILLED && !stderr.contains("tried: "),
                Some(errno) => done.status == 0 && stderr.contains(&format!("tried: {errno}\n")),
            };
            if !right {
                complaints.push(format!("{prefix}{name}: expected {expected:?}, got {done:?}"));
            }
            assert!(!dir.path().join("new").exists());
            assert_eq!(std::fs::read(dir.path().join("shown/file")).expect("a file"), b"shown");
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Every line of every thread's `status` that says how it is confined.
fn state_of(pid: u32) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads") {
        let path = task.expect("a thread").path().join("status");
        let text = std::fs::read_to_string(path).expect("a status");
        for line in text.lines() {
            if let Some((key, value)) = line.split_once(':') {
                found.push((key.to_owned(), value.trim().to_owned()));
            }
        }
    }
    found
}

/// Runs `cat` by these arguments, and looks at the tool once it has answered.
fn while_running(dir: &Path, args: &[&str], look: impl FnOnce(u32)) {
    let mut command = dejavm(args);
    command.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the tool");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"line\n").expect("input");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("output");
    assert_eq!(line, "line\n");
    look(child.id());
    drop(stdin);
    assert!(child.wait().expect("an end").success());
}

#[test]
fn every_thread_of_the_tool_is_confined() {
    require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    for args in [&["run", "--", "cat"][..], &["record", "-o", "rec", "--", "cat"]] {
        while_running(dir.path(), args, |pid| {
            let state = state_of(pid);
            for (key, value) in [
                ("Seccomp", "2"),
                ("NoNewPrivs", "1"),
                ("CapEff", "0000000000000000"),
                ("CapPrm", "0000000000000000"),
                ("CapInh", "0000000000000000"),
                ("CapAmb", "0000000000000000"),
            ] {
                let values: Vec<&str> =
                    state.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect();
                assert!(
                    !values.is_empty() && values.iter().all(|v| *v == value),
                    "{args:?}: {key} {values:?}"
                );
            }
        });
    }
    while_running(dir.path(), &["run", "--no-confine", "--", "cat"], |pid| {
        assert!(state_of(pid).contains(&("Seccomp".into(), "0".into())));
    });
}

#[test]
fn confinement_is_told_when_asked_for() {
    require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let done = tool(dir.path(), ["-v", "run", "--", "true"]);
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status, 0, "{done:?}");
    assert!(stderr.contains("confined by ") && stderr.contains("seccomp"), "{stderr}");
    assert_eq!(tool(dir.path(), ["run", "--", "true"]).stderr, b"");
}

/// All that the tool does with files of its own, by relative paths, absolute ones, and through links.
#[test]
fn recordings_and_snapshots_are_made_and_used() {
    require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path();
    for sub in ["a", "a/b", "elsewhere"] {
        std::fs::create_dir(at.join(sub)).expect("a directory");
    }
    std::os::unix::fs::symlink("elsewhere", at.join("link")).expect("a link");
    let absolute = at.join("a/abs").to_str().expect("text").to_owned();
    let code = "import sys; n = int(sys.stdin.readline()); print(n * 2)";
    for rec in ["rec", "a/rec", "./a/b/../rec2", "link/rec", &absolute] {
        let done = finish(
            dejavm(["record", "-o", rec, "--", "sh", "-c", "read x; echo $x"]).current_dir(at),
            Input::Pipe(b"in\n"),
        );
        assert_eq!(done.text(), "in\n");
        assert_eq!(tool(at, ["replay", rec]).text(), "in\n");
    }
    for file in ["s.dvm", "a/s.dvm", "link/s.dvm"] {
        let made =
            tool(at, ["snapshot", "-q", "-o", file, "--at", "first-read", "--", "python3", "-c", code]);
        assert_eq!(made.text(), "");
        let restored = |rec: Option<&str>| {
            let record = rec.iter().flat_map(|rec| ["--record", rec]);
            let args = ["restore", file].into_iter().chain(record);
            finish(dejavm(args).current_dir(at), Input::Pipe(b"21\n")).text()
        };
        assert_eq!(restored(None), "42\n");
        let warmed = finish(dejavm(["warm", file]).current_dir(at), Input::Pipe(b"21\n"));
        assert_eq!(warmed.status, 0, "{warmed:?}");
        let rec = format!("{file}.rec");
        assert_eq!(restored(Some(&rec)), "42\n");
        assert_eq!(tool(at, ["replay", &rec]).text(), "42\n");
    }
    std::os::unix::fs::symlink("a/s.dvm", at.join("link.dvm")).expect("a link");
    let warmed = finish(dejavm(["warm", "link.dvm"]).current_dir(at), Input::Pipe(b"21\n"));
    assert_eq!(warmed.status, 0, "{warmed:?}");
    // What is cut short is replayed, and goes on live.
    let done = finish(
        dejavm([
            "record",
            "-o",
            "cut",
            "--deadline",
            "1s",
            "--",
            "sh",
            "-c",
            "echo one; while :; do :; done",
        ])
        .current_dir(at),
        Input::Pipe(b""),
    );
    assert_eq!(done.status, 124, "{done:?}");
    assert_eq!(tool(at, ["replay", "cut"]).stdout, b"one\n");
    let live = tool(at, ["replay", "cut", "--live", "--deadline", "1s"]);
    assert_eq!((live.status, &live.stdout[..]), (124, &b"one\n"[..]), "{live:?}");
}
