//! What a guest may ask of its terminal.

use serde::{Deserialize, Serialize};

use crate::host::tty::{TERMIOS_SIZE, Termios, Winsize};

/// A question to a terminal, or a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminalRequest {
    /// Its modes.
    Modes,
    /// Set its modes.
    SetModes(TerminalModes),
    /// Its size.
    Size,
    /// Set its size: rows, columns, pixels across and down.
    SetSize(Winsize),
    /// Throw away what waits in a queue (`TCIFLUSH`, `TCOFLUSH`, `TCIOFLUSH`).
    Flush(u32),
    /// Wait until all output has gone out.
    Drain,
    /// How many bytes can be read at once.
    Available,
    /// Read at most so many bytes, without waiting: from the terminal where standard input is something
    /// else.
    Read(u32),
}

/// What a terminal answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminalAnswer {
    /// It is done.
    Done,
    /// Its modes.
    Modes(TerminalModes),
    /// Its size: rows, columns, pixels across and down.
    Size(Winsize),
    /// So many bytes.
    Available(u32),
    /// These bytes; none at the end.
    Read(Vec<u8>),
}

/// A terminal's modes: the kernel's `struct termios`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalModes {
    /// Of input, output, control and local.
    pub flags: [u32; 4],
    /// The line discipline.
    pub line: u8,
    /// The control characters.
    pub control: [u8; 19],
}

/// Number of the control flags among the four.
const CONTROL_FLAGS: usize = 2;

impl TerminalModes {
    /// From the kernel's structure.
    pub fn from_bytes(bytes: &Termios) -> TerminalModes {
        let words = bytes.as_chunks::<4>().0;
        let mut control = [0; 19];
        control.copy_from_slice(&bytes[17..]);
        TerminalModes {
            flags: std::array::from_fn(|n| u32::from_le_bytes(words[n])),
            line: bytes[16],
            control,
        }
    }

    /// As the kernel's structure.
    pub fn to_bytes(&self) -> Termios {
        let mut bytes = [0; TERMIOS_SIZE];
        for (to, flags) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.flags) {
            *to = flags.to_le_bytes();
        }
        bytes[16] = self.line;
        bytes[17..].copy_from_slice(&self.control);
        bytes
    }

    /// These modes, with the line itself (speed, bits, line discipline) as `other` has it: that is not
    /// for a guest to change.
    pub(super) fn on_the_line_of(mut self, other: &TerminalModes) -> TerminalModes {
        self.flags[CONTROL_FLAGS] = other.flags[CONTROL_FLAGS];
        self.line = other.line;
        self
    }
}

impl TerminalRequest {
    /// Whether this is an answer to it: a log can say anything.
    pub fn takes(&self, answer: &TerminalAnswer) -> bool {
        match (self, answer) {
            (TerminalRequest::Modes, TerminalAnswer::Modes(_))
            | (TerminalRequest::Size, TerminalAnswer::Size(_))
            | (TerminalRequest::Available, TerminalAnswer::Available(_)) => true,
            (TerminalRequest::Read(max), TerminalAnswer::Read(bytes)) => bytes.len() <= *max as usize,
            (
                TerminalRequest::SetModes(_)
                | TerminalRequest::SetSize(_)
                | TerminalRequest::Flush(_)
                | TerminalRequest::Drain,
                TerminalAnswer::Done,
            ) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_the_bytes_of_the_kernel() {
        let bytes: Termios = std::array::from_fn(|n| n as u8 + 1);
        let modes = TerminalModes::from_bytes(&bytes);
        assert_eq!((modes.flags[0], modes.line, modes.control[0]), (0x0403_0201, 17, 18));
        assert_eq!(modes.to_bytes(), bytes);
    }
}
