//! Lines of text on the serial port, without `core::fmt`, which is long and wants SSE.

use crate::serial;
use crate::shared::Shared;

/// Bytes of a line that are sent together.
const LINE: usize = 128;

/// What has been said and not yet sent.
struct Buffer {
    bytes: [u8; LINE],
    len: usize,
}

static BUFFER: Shared<Buffer> = Shared::new(Buffer { bytes: [0; LINE], len: 0 });

/// Says all its arguments, each of which is [`Say`], and ends the line.
#[macro_export]
macro_rules! say {
    ($($part:expr),* $(,)?) => {{
        $($crate::text::Say::say(&$part);)*
        $crate::text::end_line();
    }};
}

/// What can be said.
pub trait Say {
    /// Adds it to the line.
    fn say(&self);
}

/// A number in 16 hexadecimal digits.
pub struct Hex(pub u64);

impl Say for &str {
    fn say(&self) {
        self.as_bytes().say();
    }
}

impl Say for &[u8] {
    fn say(&self) {
        for &byte in *self {
            add(byte);
        }
    }
}

impl Say for Hex {
    fn say(&self) {
        for digit in 0..16 {
            let digit = (self.0 >> (60 - 4 * digit)) as u8 & 15;
            add(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
        }
    }
}

impl Say for u64 {
    fn say(&self) {
        // 2^64 has 20 digits.
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = *self;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        (&digits[at..]).say();
    }
}

fn add(byte: u8) {
    let buffer = BUFFER.get();
    // SAFETY: one CPU, and nothing here faults.
    let buffer = unsafe { &mut *buffer };
    if buffer.len == LINE {
        flush(buffer);
    }
    buffer.bytes[buffer.len] = byte;
    buffer.len += 1;
}

/// Ends the line and sends it.
pub fn end_line() {
    add(b'\n');
    // SAFETY: as above.
    flush(unsafe { &mut *BUFFER.get() });
}

fn flush(buffer: &mut Buffer) {
    serial::send(&buffer.bytes[..buffer.len]);
    buffer.len = 0;
}
