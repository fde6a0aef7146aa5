//! Guests of several parts, of which each is a program: its first argument is the name of the part.

use std::path::Path;
use std::process::Command;

use super::{Finished, Input, dejavm, finish, tool};

/// Long enough for the slowest host.
const RUN: [&str; 4] = ["run", "-q", "--deadline", "600s"];

/// Runs a guest with what stands in its directory: `verb` is what the tool does, with options.
#[track_caller]
pub fn sandboxed(program: &Path, verb: &[&str], args: &[&str]) -> Finished {
    run(program, verb, args, b"")
}

#[track_caller]
fn run(program: &Path, verb: &[&str], args: &[&str], input: &[u8]) -> Finished {
    let mut command = dejavm(verb);
    let dir = program.parent().expect("the program lies in a directory");
    command.arg("--ro").arg(dir).arg("--").arg(program).args(args);
    finish(&mut command, Input::Pipe(input))
}

/// A part of a guest, and what it did natively.
pub struct Part<'a> {
    program: &'a Path,
    name: &'a str,
    input: &'a [u8],
    /// What it did natively.
    pub native: Finished,
}

impl<'a> Part<'a> {
    /// Runs it natively, with this input, and with these arguments besides its name.
    #[track_caller]
    pub fn new(program: &'a Path, name: &'a str, input: &'a [u8], natively: &[&str]) -> Part<'a> {
        let native = finish(Command::new(program).arg(name).args(natively), Input::Pipe(input));
        assert!(native.text().ends_with("to the end\n"), "{native:?}");
        Part { program, name, input, native }
    }

    #[track_caller]
    fn sandboxed(&self, verb: &[&str]) -> Finished {
        run(self.program, verb, &[self.name], self.input)
    }

    /// In the sandbox the same; then recorded and replayed, also with pages taken away. Returns the text of
    /// the log.
    #[track_caller]
    pub fn is_the_same(&self) -> String {
        let Part { name, native, .. } = self;
        assert_eq!(self.sandboxed(&RUN), *native, "{name}");
        let evicting = [&RUN[..], &["--evict", "every=7,seed=3"]].concat();
        assert_eq!(self.sandboxed(&evicting), *native, "{name}, with evictions");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let to = dir.path().join("recording");
        let to = to.to_str().expect("a path in UTF-8");
        assert_eq!(self.sandboxed(&["record", "-q", "-o", to]), *native, "{name}, recorded");
        assert_eq!(tool(dir.path(), ["replay", "-q", to]), *native, "{name}, replayed");
        tool(dir.path(), ["log", "--raw", to]).text()
    }

    /// A snapshot at each of these points (`--at`) goes on to the same end.
    #[track_caller]
    pub fn goes_on(&self, points: &[&str]) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("snapshot.dvm");
        let to = file.to_str().expect("a path in UTF-8");
        for at in points {
            let first = self.sandboxed(&["snapshot", "-q", "--at", at, "-o", to]);
            assert_eq!(first.status, 0, "{first:?}");
            let mut restore = dejavm(["restore", "-q", to]);
            let rest = finish(restore.current_dir(dir.path()), Input::Pipe(self.input));
            let all = format!("{}{}", first.text(), rest.text());
            assert_eq!(all, self.native.text(), "{}, at {at}", self.name);
        }
    }
}

/// Natively and in the sandbox the same: see [`Part::is_the_same`].
#[track_caller]
pub fn same(program: &Path, name: &str) -> String {
    Part::new(program, name, b"", &[]).is_the_same()
}

/// A snapshot behind each of these exits goes on: see [`Part::goes_on`].
#[track_caller]
pub fn go_on(program: &Path, name: &str, exits: &[u32]) {
    let points: Vec<String> = exits.iter().map(|at| format!("exit:{at}")).collect();
    let points: Vec<&str> = points.iter().map(String::as_str).collect();
    Part::new(program, name, b"", &[]).goes_on(&points);
}

/// A part that can never go on ends, and says what it waits for.
#[track_caller]
pub fn is_stuck(program: &Path, name: &str, says: &[&str]) {
    let seen = sandboxed(program, &["run"], &[name]);
    let said = String::from_utf8_lossy(&seen.stderr).into_owned();
    assert_eq!(seen.status, 123, "{seen:?}");
    assert!(says.iter().all(|words| said.contains(words)), "{said}");
}
