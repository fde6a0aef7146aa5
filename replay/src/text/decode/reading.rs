//! Values out of a guest's memory. Addresses and contents are hostile: whatever is read is bounded here.

use dejavm_sandbox::exit::GuestMemory;

/// `PATH_MAX`: a longer path is none.
pub(super) const MOST_OF_PATH: usize = 4096;

/// Some bytes; `None` unless all are there.
pub(super) fn bytes<const N: usize>(memory: &dyn GuestMemory, address: u64) -> Option<[u8; N]> {
    let mut out = [0; N];
    (memory.read(address, &mut out) == N).then_some(out)
}

pub(super) fn u32_at(memory: &dyn GuestMemory, address: u64) -> Option<u32> {
    bytes(memory, address).map(u32::from_le_bytes)
}

pub(super) fn u64_at(memory: &dyn GuestMemory, address: u64) -> Option<u64> {
    bytes(memory, address).map(u64::from_le_bytes)
}

/// A field of a structure that was read.
pub(super) fn field<const N: usize>(of: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&of[at..at + N]);
    out
}

pub(super) fn u16_in(of: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(of, at))
}

pub(super) fn u32_in(of: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(of, at))
}

pub(super) fn u64_in(of: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(of, at))
}

/// A string up to its NUL, or its first `most` bytes, and whether there are more; `None` where it cannot be read.
pub(super) fn string(memory: &dyn GuestMemory, address: u64, most: usize) -> Option<(Vec<u8>, bool)> {
    let mut out = vec![0; most + 1];
    let n = memory.read(address, &mut out);
    out.truncate(n);
    match out.iter().position(|byte| *byte == 0) {
        Some(end) => {
            out.truncate(end);
            Some((out, false))
        }
        None if n == most + 1 => {
            out.truncate(most);
            Some((out, true))
        }
        // It runs into what is not there: the call failed with `EFAULT`.
        None => None,
    }
}

/// Text in quotation marks as C and strace write it, with dots behind it if there is more.
pub(super) fn quoted(bytes: &[u8], more: bool) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for (i, &byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            0x0b => out.push_str("\\v"),
            0x0c => out.push_str("\\f"),
            b' '..=b'~' => out.push(byte.into()),
            // A digit behind it would be taken for a part of it.
            _ if bytes.get(i + 1).is_some_and(u8::is_ascii_digit) => out.push_str(&format!("\\{byte:03o}")),
            _ => out.push_str(&format!("\\{byte:o}")),
        }
    }
    out.push('"');
    if more {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(&'static [u8]);

    impl GuestMemory for Bytes {
        fn read(&self, address: u64, out: &mut [u8]) -> usize {
            let from = self.0.get(address as usize..).unwrap_or(&[]);
            let n = from.len().min(out.len());
            out[..n].copy_from_slice(&from[..n]);
            n
        }
    }

    #[test]
    fn strings_end() {
        let memory = Bytes(b"one\0without an end");
        assert_eq!(string(&memory, 0, 32), Some((b"one".to_vec(), false)));
        assert_eq!(string(&memory, 0, 3), Some((b"one".to_vec(), false)));
        assert_eq!(string(&memory, 0, 2), Some((b"on".to_vec(), true)));
        assert_eq!(string(&memory, 4, 32), None);
        assert_eq!(string(&memory, u64::MAX, 32), None);
    }

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(quoted(b"a\x1b[31m\"\\\n\x007\xc3\xa9", true), r#""a\33[31m\"\\\n\0007\303\251"..."#);
    }
}
