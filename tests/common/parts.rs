//! Guests of several parts, of which each is a program: its only argument is the name of the part.

use std::path::Path;
use std::process::Command;

use super::{Finished, Input, dejavm, finish, tool};

/// Long enough for the slowest host.
const RUN: [&str; 4] = ["run", "-q", "--deadline", "600s"];

/// Runs a guest with what stands in its directory: `verb` is what the tool does, with options.
#[track_caller]
pub fn sandboxed(program: &Path, verb: &[&str], args: &[&str]) -> Finished {
    let mut command = dejavm(verb);
    let dir = program.parent().expect("the program lies in a directory");
    command.arg("--ro").arg(dir).arg("--").arg(program).args(args);
    finish(&mut command, Input::Pipe(b""))
}

#[track_caller]
fn natively(program: &Path, part: &str) -> Finished {
    let native = finish(Command::new(program).arg(part), Input::Pipe(b""));
    assert!(native.text().ends_with("to the end\n"), "{native:?}");
    native
}

/// Natively and in the sandbox the same; then recorded and replayed, also with pages taken away. Returns
/// the text of the log.
#[track_caller]
pub fn same(program: &Path, part: &str) -> String {
    let native = natively(program, part);
    assert_eq!(sandboxed(program, &RUN, &[part]), native, "{part}");
    let evicting = [&RUN[..], &["--evict", "every=7,seed=3"]].concat();
    assert_eq!(sandboxed(program, &evicting, &[part]), native, "{part}, with evictions");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let to = dir.path().join("recording");
    let to = to.to_str().expect("a path in UTF-8");
    assert_eq!(sandboxed(program, &["record", "-q", "-o", to], &[part]), native, "{part}, recorded");
    assert_eq!(tool(dir.path(), ["replay", "-q", to]), native, "{part}, replayed");
    tool(dir.path(), ["log", to]).text()
}

/// A snapshot behind each of these exits goes on to the same end.
#[track_caller]
pub fn go_on(program: &Path, part: &str, exits: &[u32]) {
    let native = natively(program, part);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("snapshot.dvm");
    let to = file.to_str().expect("a path in UTF-8");
    for at in exits {
        let point = format!("exit:{at}");
        let first = sandboxed(program, &["snapshot", "-q", "--at", &point, "-o", to], &[part]);
        assert_eq!(first.status, 0, "{first:?}");
        let rest = tool(dir.path(), ["restore", "-q", to]);
        assert_eq!(format!("{}{}", first.text(), rest.text()), native.text(), "{part}, at exit {at}");
    }
}
