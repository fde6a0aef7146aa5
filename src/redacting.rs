//! Making a recording anew without secrets.
//!
//! Nothing can be cut out of a recording: where a secret lies in memory, what calls give and the digests of all exits
//! follow from it. So the run is done again with something of the same shape in its place, and that is recorded.

use std::collections::BTreeSet;
use std::sync::Arc;

use dejavm_replay::redact;
use dejavm_sandbox::program::fs::guest_path;
use dejavm_sandbox::program::state::ProgramState;
use dejavm_sandbox::world::HostPath;

use crate::program::ENVIRONMENT;

/// What is taken out of a recording: see [`Replay::redact`](crate::Replay::redact).
///
/// The values of all variables of the environment but those that are kept, those of the terminal and the language
/// (`TERM`, `LANG`, `LANGUAGE`, `LC_*`), and of `PATH` and `HOME` what programs have unless told otherwise; and what is
/// named. Letters become `x` or `X` and digits `0`; white space
/// and punctuation stay, and the length does.
#[derive(Clone, Default)]
pub struct Redaction {
    keep: BTreeSet<Vec<u8>>,
    files: Option<Arc<Files>>,
    input: bool,
}

/// Whether a file is one of those, by its absolute path in the guest.
type Files = dyn Fn(&[u8]) -> bool + Send + Sync;

impl Redaction {
    /// Of the environment alone.
    pub fn new() -> Redaction {
        Redaction::default()
    }

    /// Keeps the value of a variable: for one that the run depends on.
    #[must_use]
    pub fn keep(mut self, name: impl AsRef<[u8]>) -> Redaction {
        self.keep.insert(name.as_ref().to_vec());
        self
    }

    /// Takes out the contents of the host's files that are of these, by their absolute paths in the guest.
    #[must_use]
    pub fn files(mut self, which: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Redaction {
        self.files = Some(Arc::new(which));
        self
    }

    /// Takes out what the program read from its standard input.
    #[must_use]
    pub fn input(mut self) -> Redaction {
        self.input = true;
        self
    }

    /// Takes the variables out of a program that is yet to be loaded, and gives what is to be taken out later.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub(crate) fn begin(&self, state: &mut ProgramState) -> Result<dejavm_replay::Redaction, &'static str> {
        let Some(command) = &mut state.pending else {
            return Err(
                "it starts from a snapshot of a program that had run, in whose memory anything may be",
            );
        };
        for variable in &mut command.env {
            let Some(at) = variable.iter().position(|b| *b == b'=') else { continue };
            let (name, value) = variable.split_at_mut(at);
            if !self.keeps(name, &value[1..]) {
                redact(&mut value[1..]);
            }
        }
        let (mounts, files) = (state.fs.mounts().to_vec(), self.files.clone());
        let covers = move |file: &HostPath| {
            let path = guest_path(&mounts, file);
            files.as_ref().zip(path).is_some_and(|(files, path)| files(&path))
        };
        Ok(dejavm_replay::Redaction { files: Arc::new(covers), input: self.input })
    }

    fn keeps(&self, name: &[u8], value: &[u8]) -> bool {
        let usual = |(n, v): &(&str, &str)| n.as_bytes() == name && v.as_bytes() == value;
        // Few runs would be the same without them.
        let public = matches!(name, b"TERM" | b"LANG" | b"LANGUAGE") || name.starts_with(b"LC_");
        public || ENVIRONMENT.iter().any(usual) || self.keep.contains(name)
    }
}

impl std::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redaction").field("keep", &self.keep).finish_non_exhaustive()
    }
}
