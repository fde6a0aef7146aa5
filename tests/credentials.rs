//! Users, groups and capabilities, and which files they open: the same as natively, where the tests run
//! as root.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{ENVIRONMENT, Finished, Input};

fn build(dir: &Path) -> PathBuf {
    common::require_kvm();
    let program = dir.join("credentials");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/credentials.c");
    let gcc = Command::new("gcc").args(["-O1", "-w", "-o"]).args([&program, &source]).status();
    assert!(gcc.expect("gcc: install it (Debian: gcc, libc6-dev)").success(), "{}", source.display());
    program
}

fn sandboxed(dir: &Path, program: &str, args: &[&str]) -> Finished {
    let mut command = common::dejavm(["run", "-q", "--deadline", "60s", "--workdir", "/tmp", "--ro"]);
    command.arg(dir).arg("--").arg(program).args(args);
    common::finish(&mut command, Input::Pipe(b""))
}

/// Compares a deed of the guest with what Linux says, or, where the tests do not run as root, with
/// what it said once, as far as `known` tells.
#[track_caller]
fn same(deed: &str, known: &[&str]) {
    let dir = tempfile::tempdir().expect("a directory");
    let program = build(dir.path());
    let seen = sandboxed(dir.path(), program.to_str().unwrap(), &[deed]).text();
    for line in known {
        assert!(seen.lines().any(|seen| seen.trim() == *line), "{line:?} in {seen}");
    }
    if rustix::process::geteuid().is_root() {
        let work = tempfile::tempdir().expect("a directory");
        // Everybody must find the way there.
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(work.path(), all).expect("its mode");
        let mut command = Command::new(&program);
        command.arg(deed).env_clear().envs(ENVIRONMENT).current_dir(work.path());
        assert_eq!(seen, common::finish(&mut command, Input::Pipe(b"")).text());
    }
}

#[test]
fn user_ids() {
    same("ids", &["setuid(0): EPERM", "setresuid(-1, 1000, -1): ok"]);
}

#[test]
fn groups() {
    same("groups", &["setgroups(65537, list): EINVAL", "setgid(4): EPERM"]);
}

#[test]
fn capabilities() {
    same("capabilities", &["open(\"secret\", O_RDONLY): EACCES", "open(\"secret\", O_RDONLY): ok"]);
}

#[test]
fn files() {
    same("files", &["chmod(\"secret\", 0666): EPERM", "unlink(\"sticky/theirs\"): EPERM"]);
}

#[test]
fn programs_with_the_set_id_bit() {
    same("set-id", &["setuid(1000): ok"]);
}

/// -1 is everybody else, and there is nobody.
#[test]
fn a_signal_to_everybody_spares_the_caller() {
    let dir = tempfile::tempdir().expect("a directory");
    common::require_kvm();
    let seen = sandboxed(dir.path(), "/bin/sh", &["-c", "kill -s TERM -- -1; echo still here"]);
    assert_eq!((seen.status, &seen.stdout[..]), (0, &b"still here\n"[..]), "{seen:?}");
}

/// The issue's own lines.
#[test]
fn perl_drops_its_privileges() {
    let dir = tempfile::tempdir().expect("a directory");
    common::require_kvm();
    let perl = |code: &str| sandboxed(dir.path(), "/usr/bin/perl", &["-MPOSIX", "-e", code]).text();
    assert_eq!(perl("$> = 1000; print $>"), "1000");
    assert_eq!(perl("POSIX::setuid(1000); print POSIX::setuid(0) // 'no', ' ', $!+0"), "no 1");
    let secret =
        "open F, '>', 's'; chmod 0600, 's'; POSIX::setuid(1000); print open(F, '<', 's') ? 'yes' : $!+0";
    assert_eq!(perl(secret), "13");
    let status = "POSIX::setgid(5); POSIX::setuid(7); open F, '<', '/proc/self/status'; print grep /^([UG]id|CapEff)/, <F>";
    assert_eq!(perl(status), "Uid:\t7\t7\t7\t7\nGid:\t5\t5\t5\t5\nCapEff:\t0000000000000000\n");
}
