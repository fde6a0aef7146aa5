//! Lines of the byte channel.

use dejavm_example_guest::port;

use crate::pages::{fold, fold_bytes, word};

/// A line `=N` says that N bytes of any kind follow it; this many at most.
const BLOCK_MAX: usize = 4 << 10;

/// A line.
pub struct Line {
    /// Bytes without its end.
    pub len: u64,
    /// Its bytes, and words of pages that these choose.
    pub sum: u64,
    /// The bytes that follow, when it is `=N`.
    pub block: Option<usize>,
}

/// Reads a line, byte by byte; none at the end of the input.
pub fn line(start: u64) -> Option<Line> {
    let mut next = port::next_byte()?;
    let mut line = Line { len: 0, sum: start, block: (next == b'=').then_some(0) };
    while next != b'\n' {
        line.sum = fold(line.sum, next.into());
        // SAFETY: the window is mapped.
        line.sum = fold(line.sum, unsafe { word(line.sum >> 32).read_volatile() });
        if let Some(block) = line.block.filter(|_| line.len > 0) {
            let digit = usize::from(next.wrapping_sub(b'0'));
            line.block = (digit < 10).then(|| (block * 10 + digit).min(BLOCK_MAX));
        }
        line.len += 1;
        match port::next_byte() {
            Some(byte) => next = byte,
            None => break,
        }
    }
    Some(line)
}

/// Reads so many bytes by one instruction. Behind the end of the input there are zeros.
pub fn block(start: u64, len: usize) -> u64 {
    let mut bytes = [0; BLOCK_MAX];
    let bytes = &mut bytes[..len];
    port::input_bytes(port::CHANNEL, bytes);
    fold_bytes(start, bytes)
}
