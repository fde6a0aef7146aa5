//! `RDRAND`, `RDSEED` and `RDPID`, as they are replaced: by `UD1` with the same operand. One byte of the opcode
//! differs, `0F C7` becomes `0F B9`.
//!
//! Encodings: Intel SDM volume 2, `RDRAND`, `RDSEED`, `RDPID`, `UD`.

/// The second byte of the opcode, and that of what stands in its place.
pub(super) const OPCODE: u8 = 0xc7;
pub(super) const REPLACED: u8 = 0xb9;

/// Which number a program asks the CPU for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `RDRAND`.
    Random,
    /// `RDSEED`.
    Seed,
    /// `RDPID`: the number of the CPU.
    Processor,
}

/// A number that a program asks the CPU for, into a general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Which.
    pub of: Source,
    /// Number of the general register that it goes to, 0 (RAX) to 15.
    pub register: u8,
    /// Bytes of the number: 2, 4 or 8.
    pub bytes: u8,
    /// Length of the instruction.
    pub len: u64,
}

/// The number that the replaced instruction at the start of `code` asks for, if one is there.
pub fn draw_at(code: &[u8]) -> Option<Draw> {
    let (wide, repeat) = (code.first() == Some(&0x66), code.first() == Some(&0xf3));
    let mut at = usize::from(wide || repeat);
    let rex = code.get(at).filter(|byte| **byte & 0xf0 == 0x40).copied();
    at += usize::from(rex.is_some());
    let rex = rex.unwrap_or(0);
    let [0x0f, REPLACED, modrm @ 0xf0..=0xff, ..] = code[at..] else { return None };
    let of = match (modrm & 8 != 0, repeat) {
        (true, true) => Source::Processor,
        (true, false) => Source::Seed,
        (false, true) => return None,
        (false, false) => Source::Random,
    };
    let bytes = match (rex & 8 != 0, wide) {
        // A number of 32 bits, extended by zeros.
        _ if repeat => 8,
        (true, _) => 8,
        (false, true) => 2,
        (false, false) => 4,
    };
    Some(Draw { of, register: modrm & 7 | (rex & 1) << 3, bytes, len: at as u64 + 3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_their_place_says_what_they_were() {
        let draw = Draw { of: Source::Random, register: 0, bytes: 4, len: 3 };
        let draws: [(&[u8], Draw); 6] = [
            (&[0x0f, 0xb9, 0xf0], draw),
            (&[0x49, 0x0f, 0xb9, 0xf2], Draw { register: 10, bytes: 8, len: 4, ..draw }),
            (&[0x66, 0x0f, 0xb9, 0xfa], Draw { of: Source::Seed, register: 2, bytes: 2, len: 4 }),
            (&[0x66, 0x41, 0x0f, 0xb9, 0xf9], Draw { of: Source::Seed, register: 9, bytes: 2, len: 5 }),
            (&[0xf3, 0x0f, 0xb9, 0xf8], Draw { of: Source::Processor, register: 0, bytes: 8, len: 4 }),
            (&[0xf3, 0x41, 0x0f, 0xb9, 0xf9], Draw { of: Source::Processor, register: 9, bytes: 8, len: 5 }),
        ];
        for (code, draw) in draws {
            assert_eq!(draw_at(code), Some(draw), "{code:02x?}");
        }
        for other in
            [&[0x0f, 0x0b][..], &[0x0f, 0xb9, 0x40, 0x10], &[0xf3, 0x0f, 0xb9, 0xf0], &[], &[0x66, 0x48]]
        {
            assert_eq!(draw_at(other), None, "{other:x?}");
        }
    }
}
