//! What the tests of the tool need: the tool, a program with bugs, a directory of one's own.

// Each test binary uses its part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The tool under test.
pub const TOOL: &str = env!("CARGO_BIN_EXE_dejavm-fuzz");

/// A directory with a program in it that has bugs: `./bugs`.
pub fn workshop() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    build(dir.path(), &["gcc", "-O0", "-g"], "bugs.c", "bugs");
    dir
}

/// Builds a program of `tests/guests` with a compiler and its flags.
pub fn build(dir: &Path, compiler: &[&str], source: &str, name: &str) {
    require_kvm();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(source);
    let built =
        Command::new(compiler[0]).args(&compiler[1..]).arg("-o").arg(dir.join(name)).arg(source).output();
    let built = built
        .unwrap_or_else(|e| panic!("{}: {e}; scripts/install-test-programs installs compilers", compiler[0]));
    assert!(
        built.status.success(),
        "{compiler:?} could not build {name}: {}",
        String::from_utf8_lossy(&built.stderr)
    );
}

/// Fails, and says so, where there is no `/dev/kvm`: a test that is left out looks like one that passed.
fn require_kvm() {
    if let Err(e) = File::options().read(true).write(true).open("/dev/kvm") {
        panic!("these tests need /dev/kvm, readable and writable: {e}");
    }
}

/// The tool with these arguments, in a directory.
pub fn tool(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(TOOL);
    command.args(args).current_dir(dir);
    command
}

/// What came of the tool with these arguments.
pub fn fuzz(dir: &Path, args: &[&str]) -> Output {
    tool(dir, args).output().expect("the tool runs")
}

/// Fails with all there is unless the tool ended with this status.
#[track_caller]
pub fn ended(output: &Output, status: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(status), "{said}{out}");
    format!("{said}{out}")
}

/// The names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.expect("an entry").path()).collect(),
        Err(_) => Vec::new(),
    };
    names.sort();
    names
}

/// The files in a directory, with what is in them.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    names(dir).into_iter().map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}
