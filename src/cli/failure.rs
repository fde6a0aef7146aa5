//! What ends the tool itself: a message and an exit status.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};

use dejavm::replay::debugger::DebugError;
use dejavm::replay::{FileError, TimelineError};
use dejavm::sandbox::errno::Errno;
use dejavm::sandbox::machine::{RunError, StartError};
use dejavm::{Error, Outcome, WorldError};

/// The tool's own exit statuses.
pub mod status {
    /// The log of a recording came to its limit.
    pub const LOG_FULL: u8 = 119;
    /// A recording ends before its guest did: it was interrupted.
    pub const LOG_ENDS: u8 = 120;
    /// A bare-metal guest halted for ever, or met an exception that it could not take.
    pub const STOPPED_DEAD: u8 = 121;
    /// A replay did something else than the recorded run.
    pub const DIVERGED: u8 = 122;
    /// The guest waits for something that can never come.
    pub const STUCK: u8 = 123;
    /// The deadline passed.
    pub const DEADLINE: u8 = 124;
    /// dejavm failed.
    pub const FAILED: u8 = 125;
    /// The program cannot be executed.
    pub const NOT_EXECUTABLE: u8 = 126;
    /// The program was not found.
    pub const NOT_FOUND: u8 = 127;
}

/// Why the tool ends.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: u8,
    message: String,
}

impl Failure {
    /// A failure of dejavm's own.
    pub fn new(message: impl Display) -> Failure {
        Failure { status: status::FAILED, message: message.to_string() }
    }

    /// A signal came before there was a guest to take it.
    pub fn signal(number: u8) -> Failure {
        Failure { status: 128 + number, message: "stopped by a signal while the guest was loaded".into() }
    }

    /// The output of a replay that could not be written.
    pub fn output(errno: Errno) -> Failure {
        match errno {
            Errno::EPIPE => Failure { status: 128 + 13, message: String::new() },
            errno => Failure::new(format_args!("the replayed output is not complete: {}", errno.text())),
        }
    }

    /// Another process of this tool ended with this status, and has said why; `None` when a signal ended it.
    pub fn told(status: Option<i32>) -> Failure {
        let status = status.and_then(|status| u8::try_from(status).ok());
        Failure { status: status.unwrap_or(status::FAILED), message: String::new() }
    }

    /// The same failure, once more.
    pub fn in_other_words(&self, message: impl Display) -> Failure {
        Failure { status: self.status, message: message.to_string() }
    }

    /// What it says.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Says it on standard error.
    pub fn print(&self) {
        if !self.message.is_empty() {
            say(&self.message);
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let of_program = |errno: Errno| match errno {
            Errno::ENOENT => status::NOT_FOUND,
            _ => status::NOT_EXECUTABLE,
        };
        let (status, message) = match &e {
            Error::NotFound { errno, .. } => (of_program(*errno), e.to_string()),
            Error::Start(start) => match &**start {
                StartError::Program { path, of, errno } => {
                    let path = String::from_utf8_lossy(path);
                    let role = match of {
                        Some(of) => format!(", the interpreter of {}", String::from_utf8_lossy(of)),
                        None => String::new(),
                    };
                    let hint = match *errno {
                        Errno::ENOENT => "; the guest sees only what --ro and --root show it",
                        Errno::EACCES => "; it must be a file with its execute bit set",
                        Errno::ENOEXEC => {
                            "; it is neither an x86-64 program nor a script that starts with #!"
                        }
                        Errno::ENOMEM => "; it needs more memory than --memory gives it",
                        _ => "",
                    };
                    (of_program(*errno), format!("{path}{role}: {}{hint}", errno.text()))
                }
                // The recorder was killed while the program was being loaded: there is no more to do again.
                StartError::Run(RunError::World(WorldError::EndOfLog)) => {
                    (status::LOG_ENDS, "the recording ends here, before the program ran (interrupted)".into())
                }
                StartError::Run(RunError::World(e @ WorldError::LogFull { .. })) => {
                    (status::LOG_FULL, format!("the program was not loaded: {e} (--max-log)"))
                }
                _ => (status::FAILED, e.to_string()),
            },
            Error::Loading(Outcome::Deadline) => (status::DEADLINE, e.to_string()),
            Error::Diverged(diverged) => (status::DIVERGED, diverged.to_string()),
            Error::Timeline(timeline) if matches!(**timeline, TimelineError::Diverged(_)) => {
                (status::DIVERGED, e.to_string())
            }
            _ => (status::FAILED, e.to_string()),
        };
        Failure { status, message }
    }
}

impl From<dejavm::replay::Error> for Failure {
    fn from(e: dejavm::replay::Error) -> Failure {
        Failure::new(e)
    }
}

impl From<TimelineError> for Failure {
    fn from(e: TimelineError) -> Failure {
        Error::from(e).into()
    }
}

impl From<FileError> for Failure {
    fn from(e: FileError) -> Failure {
        Failure::new(e)
    }
}

impl From<DebugError> for Failure {
    fn from(e: DebugError) -> Failure {
        match e {
            DebugError::Timeline(e) => e.into(),
            e => Failure::new(e),
        }
    }
}

impl From<dejavm::snapshot::Error> for Failure {
    fn from(e: dejavm::snapshot::Error) -> Failure {
        Failure::new(e)
    }
}

/// Output to a pipe that nobody reads any more ends the tool without a word, as it ends others.
impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Failure {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Failure { status: 128 + 13, message: String::new() },
            _ => Failure::new(format_args!("standard output: {e}")),
        }
    }
}

/// A message on standard error. That it is closed is no reason to fail.
pub fn say(message: impl Display) {
    let text = format!("dejavm: {message}");
    let _ = writeln!(io::stderr(), "{}", harmless(text.trim_end()));
}

/// Text with its control characters but line ends and tabs escaped: some of it may come from a file or
/// a guest, and a terminal would obey.
fn harmless(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    match text.contains(obeyed) {
        false => Cow::Borrowed(text),
        true => text
            .chars()
            .flat_map(|c| {
                let (plain, escaped) =
                    if obeyed(c) { (None, Some(c.escape_default())) } else { (Some(c), None) };
                plain.into_iter().chain(escaped.into_iter().flatten())
            })
            .collect::<String>()
            .into(),
    }
}

/// Words out of a file or from a guest, on one line, with control characters escaped.
pub fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}

/// A value as one line of JSON. JSON escapes only some of the control characters.
pub fn json_line(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.contains(char::is_control) {
        false => text,
        // They stand nowhere but in strings.
        true => text.chars().fold(String::new(), |mut out, c| {
            match c.is_control() {
                true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                false => out.push(c),
            }
            out
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(harmless("two\nlines\tand words"), "two\nlines\tand words");
        assert_eq!(harmless("\x1b[31mred\u{9b}1m\r"), "\\u{1b}[31mred\\u{9b}1m\\r");
        assert_eq!(shown("a\n\x1b]0;x\x07"), "a\\n\\u{1b}]0;x\\u{7}");
        let value = serde_json::json!({ "a": "\u{9b}\u{7f}\x1b" });
        let line = json_line(&value);
        assert!(!line.contains(char::is_control), "{line}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).expect("JSON"), value);
    }
}
