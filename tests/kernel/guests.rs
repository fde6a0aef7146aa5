//! The examples' guests, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{Finished, Input, dejavm, finish, require_kvm};

/// What the example guest reads: lines, an empty one, one that asks for bytes by a string instruction,
/// and no newline at the end.
pub const INPUT: &[u8] = b"one line\n\nanother\n=5\nabcde\nthe last";

/// Where they are.
fn directory() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/guests/build");
        let status = Command::new(script).arg(&to).status().expect("the guests' build script runs");
        assert!(
            status.success(),
            "the guests were not built; scripts/install-test-programs installs what they need"
        );
        to
    })
}

/// The image of a guest.
pub fn image(name: &str) -> String {
    require_kvm();
    directory().join(name).to_str().expect("a path in UTF-8").to_owned()
}

/// Runs the tool with these words, and gives the guest this input.
#[track_caller]
pub fn run(words: &[&str], input: &[u8]) -> Finished {
    finish(&mut dejavm(words), Input::Pipe(input))
}

/// Runs a guest: the tool's `kernel` with its image and more words.
#[track_caller]
pub fn kernel(name: &str, words: &[&str], input: &[u8]) -> Finished {
    let image = image(name);
    run(&[&["kernel", "-q", "--deadline", "60s", &image], words].concat(), input)
}
