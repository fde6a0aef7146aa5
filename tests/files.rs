//! Calls on files: each gives what Linux gives, which is found out by running the same program natively.

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The guest, built once, in a directory of its own.
fn guest() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let program = common::guest(dir.path(), "files.c", &[]);
        (dir, program)
    });
    program
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command in the sandbox.
fn run(options: &[&str], here: &Path, command: &[&str]) -> Output {
    let mut dejavm = common::dejavm(["run", "--deadline", "60s"]);
    output(dejavm.args(options).arg("--").args(command).current_dir(here))
}

/// Compares what a part of the guest prints.
#[track_caller]
fn same_as_natively(part: &str) {
    let native = output(Command::new(guest()).args([part, "clean"]));
    let dir = guest().parent().expect("a directory");
    let path = guest().display().to_string();
    let seen = run(&["-q"], dir, &[&path, part]);
    let (expected, found) = (text(&native.stdout), text(&seen.stdout));
    assert_eq!(expected.lines().last(), Some("done"), "natively: {native:?}");
    let different = common::linux::differences(&expected, &found);
    assert!(different.is_empty(), "natively, and in the sandbox: {different:#?}");
    assert_eq!(expected.lines().count(), found.lines().count(), "{seen:?}");
    assert_eq!(seen.status.code(), Some(0), "{seen:?}");
}

#[test]
fn flags_of_one_read_or_write() {
    same_as_natively("rwf");
}

#[test]
fn flags_of_other_calls() {
    same_as_natively("flags");
}

#[test]
fn openat2() {
    same_as_natively("openat2");
}

#[test]
fn names_change_places() {
    same_as_natively("exchange");
}

#[test]
fn locks_between_descriptions() {
    same_as_natively("locks");
}

#[test]
fn files_in_memory_and_seals() {
    same_as_natively("memfd");
}

#[test]
fn extended_attributes() {
    same_as_natively("xattr");
}

#[test]
fn edges_of_descriptors_paths_and_offsets() {
    same_as_natively("edges");
}

#[test]
fn old_getdents() {
    same_as_natively("dents");
}

/// What others may not read is no part of the system that is shown, nor is what has a secret's name.
#[test]
fn settings_are_shown_and_secrets_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let command = |words: &[&str]| run(&["-q"], dir.path(), words);
    let seen = command(&["ls", "-A", "/etc"]);
    let seen: Vec<String> = text(&seen.stdout).lines().map(str::to_owned).collect();
    assert!(seen.len() > 20 && seen.contains(&"passwd".to_owned()), "{seen:?}");
    for hidden in ["shadow", "gshadow", "machine-id", "hostname", "fstab", "shadow-", "passwd-"] {
        assert!(!seen.contains(&hidden.to_owned()), "{hidden} is listed");
        let output = command(&["cat", &format!("/etc/{hidden}")]);
        assert_eq!(output.status.code(), Some(1), "{hidden}");
        assert!(text(&output.stderr).contains("No such file"), "{hidden}: {output:?}");
    }
    for entry in std::fs::read_dir("/etc").expect("settings").flatten() {
        let name = entry.file_name().into_string().expect("a name");
        let metadata = entry.metadata().expect("metadata");
        let wanted = if metadata.is_dir() { 0o5 } else { 0o4 };
        if !metadata.is_symlink() && metadata.permissions().mode() & wanted != wanted {
            assert!(!seen.contains(&name), "{name}: others may not read it");
        }
    }
}

/// The list in the documentation is the one that the code has.
#[test]
fn the_rule_is_written_down() {
    use dejavm::sandbox::world::{HIDDEN_SETTINGS as TOP, SECRET_NAMES as ANYWHERE};
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/view.md");
    let docs = std::fs::read_to_string(path).expect("docs/view.md");
    let missing: Vec<_> =
        TOP.iter().chain(ANYWHERE).filter(|name| !docs.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/view.md lacks {missing:?}");
    let listed = docs
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    let unknown: Vec<_> =
        listed.filter(|name| !TOP.contains(&name.as_str()) && !ANYWHERE.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "docs/view.md has {unknown:?}, which the code does not");
}

/// The current directory is shown, but not if it holds the user's home directory.
#[test]
fn a_home_directory_is_shown_only_if_asked_for() {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("f"), "content").expect("a file");
    let project = home.path().join("project");
    std::fs::create_dir(&project).expect("a directory");
    std::fs::write(project.join("f"), "project").expect("a file");
    let cat = |here: &Path, options: &[&str]| {
        let mut dejavm = common::dejavm(["run", "--deadline", "60s"]);
        dejavm.args(options).args(["--", "cat", "/work/f"]).current_dir(here).env("HOME", home.path());
        output(&mut dejavm)
    };
    let refused = cat(home.path(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("--ro ."), "it says so: {refused:?}");
    assert!(!text(&cat(home.path(), &["-q"]).stderr).contains("--ro ."));
    assert_eq!(text(&cat(home.path(), &["--ro", "."]).stdout), "content");
    let shown = cat(&project, &[]);
    assert_eq!((text(&shown.stdout).as_str(), text(&shown.stderr).as_str()), ("project", ""));
    let root = cat(Path::new("/"), &[]);
    assert!(root.status.code() == Some(1) && text(&root.stderr).contains("--ro ."), "{root:?}");
    // By whatever name.
    let elsewhere = tempfile::tempdir().expect("a directory");
    symlink(home.path(), elsewhere.path().join("link")).expect("a link");
    let linked = cat(&elsewhere.path().join("link"), &[]);
    assert!(text(&linked.stderr).contains("--ro ."), "{linked:?}");
}
