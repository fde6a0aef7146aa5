//! What ends the tool itself: a message and an exit status.

use std::fmt::Display;
use std::io::{self, Write};

use crate::campaign;

/// The tool's exit statuses.
pub mod status {
    /// Something went wrong.
    pub const FAILED: u8 = 1;
    /// There are crashes: libFuzzer's.
    pub const CRASHED: u8 = 77;
    /// Wrong usage.
    pub const USAGE: u8 = 125;
}

/// Why the tool ends.
#[derive(Debug)]
pub struct Failure {
    pub status: u8,
    pub message: String,
}

impl Failure {
    /// Something went wrong.
    pub fn new(message: impl Display) -> Failure {
        Failure { status: status::FAILED, message: message.to_string() }
    }

    /// Wrong usage.
    pub fn usage(message: impl Display) -> Failure {
        Failure { status: status::USAGE, message: message.to_string() }
    }
}

impl From<campaign::Error> for Failure {
    fn from(e: campaign::Error) -> Failure {
        match e {
            campaign::Error::Target(e) => e.into(),
            e => Failure::new(e),
        }
    }
}

impl From<dejavm_fuzz::Error> for Failure {
    fn from(e: dejavm_fuzz::Error) -> Failure {
        use dejavm_fuzz::Error;
        match e {
            // The target is part of the command line.
            e @ (Error::ReadsNothing { .. }
            | Error::OpensNothing { .. }
            | Error::NoSymbol { .. }
            | Error::NeverCalled { .. }
            | Error::Sandbox(dejavm::Error::NotFound { .. } | dejavm::Error::BadText { .. })) => {
                Failure::usage(e)
            }
            Error::Sandbox(e @ dejavm::Error::Start(_)) => Failure::usage(format_args!(
                "the target cannot be started: {e}; it sees the system's programs, this directory, and what --ro shows it"
            )),
            e => Failure::new(e),
        }
    }
}

impl From<campaign::FileError> for Failure {
    fn from(e: campaign::FileError) -> Failure {
        Failure::new(e)
    }
}

/// A message on standard error. That it is closed is no reason to fail.
pub fn say(message: impl Display) {
    let _ = writeln!(io::stderr(), "dejavm-fuzz: {}", harmless(&message.to_string()));
}

/// Text with its control characters but line ends and tabs escaped: some of it may come from a file or a guest, and a
/// terminal would obey.
pub fn harmless(text: &str) -> String {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.chars().fold(String::new(), |mut out, c| {
        if obeyed(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(harmless("two\nlines\tand 'words'"), "two\nlines\tand 'words'");
        assert_eq!(harmless("\x1b[31mred\r"), "\\u{1b}[31mred\\r");
    }
}
