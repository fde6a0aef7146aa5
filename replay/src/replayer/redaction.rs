//! A replay that is given less than the recorded run was: secrets are taken out of files and input.

use std::sync::Arc;

use dejavm_sandbox::exit::{Exit, ExitKind};
use dejavm_sandbox::world::{HostPath, OutputChange, Request, Response, STDIN_GRANT, TerminalAnswer};

use crate::record::{Asked, AskedChange};

/// Which contents a replay is not given; see [`Replayer::redacting`](super::Replayer::redacting).
#[derive(Clone)]
pub struct Redaction {
    /// Those of the host's files for which this holds.
    pub files: Arc<dyn Fn(&HostPath) -> bool + Send + Sync>,
    /// Standard input, whatever it is.
    pub input: bool,
}

/// Takes a secret out of a text: each letter becomes an `x` or `X`, each digit a `0`, and what is neither ASCII
/// text nor a line's end an `x`. The length, white space and punctuation stay, so that most of what a program does
/// with the text, such as finding its lines and words, is the same.
pub fn redact(text: &mut [u8]) {
    for byte in text {
        *byte = match *byte {
            b'0'..=b'9' => b'0',
            b'A'..=b'Z' => b'X',
            b'\t' | b'\n' | b'\r' => *byte,
            b if b.is_ascii_graphic() && !b.is_ascii_lowercase() || b == b' ' => b,
            _ => b'x',
        };
    }
}

impl Redaction {
    /// Takes out of the answer to an ordered question what this covers.
    pub(super) fn take_out(&self, response: &mut Response) {
        match response {
            Response::Input(Ok(text)) | Response::Terminal(Ok(TerminalAnswer::Read(text))) if self.input => {
                redact(text);
            }
            _ => {}
        }
    }

    /// Takes a file's contents out, if this covers it; whether it does.
    pub(super) fn take_out_of_file(&self, path: &HostPath, response: &mut Response) -> bool {
        let covered = match path.grant {
            STDIN_GRANT => self.input,
            _ => (self.files)(path),
        };
        if let (true, Response::Block(Ok(text))) = (covered, response) {
            redact(Arc::make_mut(text));
        }
        covered
    }
}

/// Whether two exits are the same but for contents: of what was written to memory, and of registers that a system
/// call has no argument in.
pub(super) fn same_exit(a: &Exit, b: &Exit) -> bool {
    let kind = match (&a.kind, &b.kind) {
        (ExitKind::Syscall { number: a, .. }, ExitKind::Syscall { number: b, .. }) => a == b,
        (a, b) => a == b,
    };
    let place = |exit: &Exit| (exit.number, exit.task, exit.rip, exit.result, exit.clock);
    kind && place(a) == place(b)
}

/// Whether a question is the recorded one but for the contents of output.
pub(super) fn same_question(asked: &Asked, request: &Request<'_>) -> bool {
    match (asked, request) {
        (Asked::Output { stream, len, .. }, Request::Output { stream: s, data }) => {
            stream == s && *len == data.len() as u64
        }
        (Asked::OutputFile { stream, change }, Request::OutputFile { stream: s, change: c }) => {
            stream == s
                && match (change, c) {
                    (AskedChange::Write { offset, len, .. }, OutputChange::Write { offset: o, data }) => {
                        offset == o && *len == data.len() as u64
                    }
                    (AskedChange::Append { len, .. }, OutputChange::Append { data }) => {
                        *len == data.len() as u64
                    }
                    _ => asked.is(request),
                }
        }
        _ => asked.is(request),
    }
}

impl std::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redaction").field("input", &self.input).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_shape() {
        let mut text = "Key_1: s3cr3t/Wört\n\t\0\u{7f}".as_bytes().to_vec();
        redact(&mut text);
        assert_eq!(text, b"Xxx_0: x0xx0x/Xxxxx\n\txx");
    }
}
