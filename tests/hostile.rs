//! Programs that mean harm: each gets the error that Linux gives, or its signal, and never the
//! monitor's memory or files. What Linux gives is found out by running the same program natively.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "hostile.c", &[])
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("the command starts")
}

/// Natively, in a directory with a short name, as the sandbox's `/work` has: whether `getcwd` finds its
/// buffer too small before it finds it bad depends on the name's length.
fn native(program: &Path, args: &[&str]) -> Output {
    run(Command::new(program).args(args).env_clear().current_dir("/"))
}

fn sandboxed(program: &Path, args: &[&str]) -> Output {
    let dir = program.parent().expect("the program lies in a directory");
    let output = run(Command::new(env!("CARGO_BIN_EXE_dejavm"))
        .args(["run", "-q", "--deadline", "60s", "--ro"])
        .arg(dir)
        .arg("--")
        .arg(program)
        .args(args));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(125), "dejavm itself failed (is /dev/kvm there?): {text}");
    output
}

/// The status as a shell gives it.
fn code(output: &Output) -> i32 {
    output.status.code().or_else(|| output.status.signal().map(|s| 128 + s)).expect("it ended")
}

/// Bad pointers, lengths and descriptors in every system call that is answered.
#[test]
fn bad_arguments() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let (expected, seen) = (native(&program, &[]), sandboxed(&program, &[]));
    let (native, answers) =
        (String::from_utf8_lossy(&expected.stdout), String::from_utf8_lossy(&seen.stdout));
    assert!(native.lines().count() > 1000, "the guest made its calls");
    let different = common::linux::differences(&native, &answers);
    assert!(different.is_empty(), "native and sandboxed: {different:#?}");
    assert_eq!(native.lines().count(), answers.lines().count());
    assert_eq!(code(&seen), 0);
}

/// Wild jumps, forbidden instructions, writes to what may only be read, stack overflow.
#[test]
fn wild_behaviour() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let deeds = [
        "jump-null",
        "jump-unmapped",
        "jump-noncanonical",
        "jump-kernel",
        "jump-data",
        "read-null",
        "read-kernel",
        "write-text",
        "write-string",
        "overflow",
        "ud2",
        "hlt",
        "cli",
        "out",
        "out-exception",
        "in",
        "in-open",
        "in-string",
        "to-the-stub",
        "by-the-stub",
        "int3",
        "int-80",
        "wrmsr",
        "cr3",
        "lgdt",
        "stack-gone",
        "abort",
        "raise-kill",
        "handled-segv",
        "overflow-on-alt-stack",
        "beyond-file",
        "bad-sigreturn",
        "guard",
        "write-after-protect",
        "use-after-unmap",
        "exec-after-protect",
    ];
    for deed in deeds {
        let (expected, seen) = (native(&program, &[deed]), sandboxed(&program, &[deed]));
        assert_eq!(code(&seen), code(&expected), "{deed}: exit status");
        assert_eq!(seen.stdout, expected.stdout, "{deed}: standard output");
        assert!(!String::from_utf8_lossy(&seen.stdout).contains("still here"), "{deed} had its way");
    }
}

/// Files that were not granted stay out of reach, by whatever path.
#[test]
fn ungranted_files() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let granted = dir.path().join("granted");
    std::fs::create_dir(&granted).expect("a directory");
    std::fs::write(dir.path().join("secret"), "SECRET").expect("a file");
    std::os::unix::fs::symlink("../secret", granted.join("relative")).expect("a link");
    std::os::unix::fs::symlink(dir.path().join("secret"), granted.join("absolute")).expect("a link");
    std::os::unix::fs::symlink(dir.path(), granted.join("directory")).expect("a link");
    let paths = [
        "relative",
        "absolute",
        "directory/secret",
        "../secret",
        "./../granted/../secret",
        "/proc/1/root/etc/shadow",
        "/proc/self/root/etc/shadow",
        "/etc/shadow",
        "/etc/../etc/shadow",
        "/usr/../etc/shadow",
        "/proc/self/mem",
        "/proc/kcore",
        "/dev/kvm",
        "/dev/mem",
        "/dev/vda",
        "/sys/kernel/debug",
        "/root/.ssh/id_rsa",
    ];
    for path in paths {
        let output = run(Command::new(env!("CARGO_BIN_EXE_dejavm"))
            .args(["run", "-q", "--deadline", "60s", "--ro"])
            .arg(&granted)
            .arg("--workdir")
            .arg(&granted)
            .args(["--", "/bin/cat", path]));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 1, "{path}: cat fails: {text}");
        assert!(output.stdout.is_empty(), "{path}: nothing is shown");
        assert!(
            text.contains("No such file")
                || text.contains("Permission denied")
                || text.contains("Is a directory")
                // Nothing is mapped at address 0 of its own memory.
                || path == "/proc/self/mem" && text.contains("Input/output error"),
            "{path}: {text}"
        );
    }
}

/// Memory and time are limited.
#[test]
fn limits() {
    let dejavm = |args: &[&str]| run(Command::new(env!("CARGO_BIN_EXE_dejavm")).args(args));
    let hungry = dejavm(&[
        "run",
        "-q",
        "--memory",
        "128M",
        "--deadline",
        "60s",
        "--",
        "/usr/bin/perl",
        "-e",
        "my $x = 'a' x (1 << 30); print length $x",
    ]);
    // ENOMEM, of which perl makes its status.
    assert_eq!(code(&hungry), 12, "a gibibyte does not fit into 128 MiB: {hungry:?}");
    assert!(String::from_utf8_lossy(&hungry.stderr).contains("Out of memory"), "{hungry:?}");
    assert!(hungry.stdout.is_empty());
    let endless = dejavm(&["run", "-q", "--deadline", "300ms", "--", "/usr/bin/perl", "-e", "1 while 1"]);
    assert_eq!(code(&endless), 124, "a loop without exits is stopped");
}
