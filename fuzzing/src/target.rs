//! What is fuzzed.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use dejavm::{Host, Program};

use crate::{Error, Modules, Place, Ready};

/// The path at which a program finds its input when it is told to open a file; a name may go on with a suffix.
pub const INPUT_PATH: &str = "/fuzz/input";

/// The variable with which the dynamic linker binds all symbols at the start (ld.so(8)).
pub const BIND_NOW: &str = "LD_BIND_NOW";

/// An argument with `@@` in it replaced by the path of the input, as AFL does. What follows as a suffix is the file's, too:
/// `@@.png`.
pub fn with_input_path(arg: &OsStr) -> OsString {
    let (mut rest, mut out) = (arg.as_bytes(), Vec::new());
    while let Some(at) = rest.windows(2).position(|pair| pair == b"@@") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(INPUT_PATH.as_bytes());
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
    OsString::from_vec(out)
}

/// How an input comes to a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Door {
    /// By libFuzzer's function [`FUZZ_FUNCTION`](crate::FUZZ_FUNCTION), if the executable has one; else by the file
    /// [`INPUT_PATH`], if an argument names it; else by standard input.
    #[default]
    Any,
    /// It is read from standard input.
    Input,
    /// It is the content of the file [`INPUT_PATH`], which an argument names.
    File,
    /// This function is called with its address and its length: `int f(const uint8_t *data, size_t size)`. It is
    /// called each time as the program itself did first.
    Function(String),
}

/// A program that is fuzzed.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) program: Program,
    pub(crate) door: Door,
    pub(crate) at: Option<Place>,
    pub(crate) until: Option<Place>,
    pub(crate) sanitizer_options: bool,
    pub(crate) timeout: Duration,
    pub(crate) modules: Modules,
    pub(crate) verify_every: Option<NonZeroU64>,
}

impl Target {
    /// This program. Where its input comes from is replaced. Its dynamic linker binds all symbols at the start, unless
    /// [`BIND_NOW`] is set otherwise: each run would bind those again that were not called until its input came.
    #[must_use]
    pub fn new(program: Program) -> Target {
        let program = match program.variable(BIND_NOW) {
            Some(_) => program,
            None => program.env(BIND_NOW, "1"),
        };
        Target {
            program,
            door: Door::default(),
            at: None,
            until: None,
            sanitizer_options: true,
            timeout: Duration::from_secs(1),
            modules: Modules::default(),
            verify_every: None,
        }
    }

    /// How an input comes to it.
    #[must_use]
    pub fn by(mut self, door: Door) -> Target {
        self.door = door;
        self
    }

    /// Where it is paused, and each run begins: before it reads its input, or opens the file. Without one, it is paused when it
    /// is about to do that. Of a function it is the first call behind that place.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Target {
        self.at = place;
        self
    }

    /// Where a run is over, besides where the program ends: it is paused then, and what follows is not run. A function's run is
    /// over when it returns, and has no other end.
    #[must_use]
    pub fn until(mut self, place: Option<Place>) -> Target {
        self.until = place;
        self
    }

    /// Whether a program with sanitizers is given options with which what they find ends it by a signal; so by default.
    #[must_use]
    pub fn with_sanitizer_options(mut self, given: bool) -> Target {
        self.sanitizer_options = given;
        self
    }

    /// How long it may take for an input before that counts as a hang; a second by default.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Target {
        self.timeout = timeout;
        self
    }

    /// Which code's edges are counted; that of all files but the C library's by default.
    #[must_use]
    pub fn cover(mut self, modules: Modules) -> Target {
        self.modules = modules;
        self
    }

    /// Compares the sandbox with what it was, each time that it was put back so often: to find mistakes of dejavm's.
    /// It takes milliseconds.
    #[must_use]
    pub fn verify_every(mut self, runs: Option<NonZeroU64>) -> Target {
        self.verify_every = runs;
        self
    }

    /// How long it may take for an input.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Starts the program, and runs it to its place, or to where it is about to read, to use the file, or to call the function.
    ///
    /// # Errors
    /// [`Error::ReadsNothing`], [`Error::OpensNothing`], [`Error::NeverCalled`], [`Error::NeverThere`], [`Error::NoSymbol`],
    /// [`Error::NoPlace`], [`Error::FunctionReturns`], and those of the sandbox.
    pub fn start(&self, host: &Host) -> Result<Ready, Error> {
        Ready::start(self.clone(), host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_has_a_path() {
        let of = |arg: &str| with_input_path(OsStr::new(arg));
        assert_eq!(of("@@"), INPUT_PATH);
        assert_eq!(of("--in=@@.png"), "--in=/fuzz/input.png");
        assert_eq!(of("a@b"), "a@b");
        assert_eq!(of("@@,@@@"), "/fuzz/input,/fuzz/input@");
    }
}
