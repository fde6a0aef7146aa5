//! Recordings that leave the host where they were made, for one after it or of another kind: an emulated
//! host of `scripts/on-svm` is gone when its command ends. `scripts/test-on-svm` runs this.

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{DEJAVM, Finished, tool};

/// Asks for what no two runs have in common.
const WORDS: [&str; 3] =
    ["perl", "-e", "open R, '</dev/urandom'; read R, $r, 8; print unpack('H*', $r), ' ', time, ' ', rand"];

/// Runs a shell's text on an emulated host, with this file as its standard input.
fn on_svm(text: &str, input: &Path) -> Finished {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/on-svm");
    let mut command = Command::new(script);
    command.arg("--stdin").arg(input).args(["--", "bash", "-euc", text, DEJAVM]).args(WORDS);
    let out = command.stdin(Stdio::null()).output().expect("scripts/on-svm");
    Finished { status: out.status.code().unwrap_or(-1), stdout: out.stdout, stderr: out.stderr }
}

#[test]
#[ignore = "starts emulated hosts: scripts/test-on-svm runs it"]
fn a_recording_outlives_its_host_and_replays_on_another_kind() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let (here, there) = (dir.path().join("here"), dir.path().join("there.tar"));

    // Made there, it comes back as a file.
    let text = "cd $TMPDIR; \"$0\" record -q --seed 5 -o rec -- \"$@\" >said; tar c rec said";
    let made = on_svm(text, Path::new("/dev/null"));
    assert_eq!(made.status, 0, "{made:?}");
    std::fs::write(&there, &made.stdout).expect("the recording");

    // After a restart it replays, and here.
    let again = on_svm("cd $TMPDIR; tar x; \"$0\" replay -q rec >again; cmp said again; cat again", &there);
    assert_eq!(again.status, 0, "{again:?}");
    assert_eq!(again.text().split_whitespace().count(), 3, "{again:?}");
    let untar =
        Command::new("tar").arg("x").current_dir(&dir).stdin(File::open(&there).expect("it")).status();
    assert!(untar.expect("tar").success());
    assert_eq!(tool(dir.path(), ["replay", "-q", "rec"]).text(), again.text());

    // And the other way round.
    let words = [&["record", "-q", "--seed", "5", "-o", "here", "--"], &WORDS[..]].concat();
    let mine = tool(dir.path(), words).text();
    assert!(here.is_dir() && !mine.is_empty());
    let tar = Command::new("tar").args(["cf", "here.tar", "here"]).current_dir(&dir).status();
    assert!(tar.expect("tar").success());
    let replayed = on_svm("cd $TMPDIR; tar x; exec \"$0\" replay -q here", &dir.path().join("here.tar"));
    assert_eq!(replayed.text(), mine, "{replayed:?}");
}
