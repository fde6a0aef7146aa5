//! Lengths of the instructions that compilers and people write.
//!
//! A decoder takes nearly any bytes for code: tables and text, too, come out as instructions, but as ones
//! that nobody writes. So this one knows only what user code is made of (Intel SDM volume 2, appendix
//! A), and what it does not know is taken for data. Of random bytes less than half begin a usual
//! instruction, so that a row of them is code.

/// What a distance or an offset of 32 bits may be: programs and their tables are not larger.
const FAR: u32 = 1 << 27;
/// What a conditional jump may go over: functions are not larger.
const IN_FUNCTION: u32 = 1 << 20;
/// The most bytes of an instruction.
const MOST: usize = 15;

/// The length of the instruction at the start of `code`, if it is a usual one and all there.
pub(super) fn length(code: &[u8]) -> Option<usize> {
    let mut at = Bytes { code: &code[..code.len().min(MOST)], at: 0 };
    at.instruction()?;
    Some(at.at)
}

/// Prefixes of an instruction.
#[derive(Clone, Copy, Default)]
struct Prefixes {
    operand: bool,
    lock: bool,
    repeat: bool,
    wide: bool,
    /// FS or GS: thread-local storage.
    segment: bool,
    /// CS or DS: padding, and what branches do not track.
    hint: bool,
}

/// Code that is being decoded.
struct Bytes<'a> {
    code: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.code.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at += bytes;
        (self.at <= self.code.len()).then_some(())
    }

    /// A signed number of 32 bits that is smaller than `below`.
    fn near(&mut self, below: u32) -> Option<()> {
        let bytes = self.code.get(self.at..self.at + 4)?;
        self.at += 4;
        (i32::from_le_bytes(bytes.try_into().ok()?).unsigned_abs() < below).then_some(())
    }

    fn instruction(&mut self) -> Option<()> {
        let mut p = Prefixes::default();
        let opcode = loop {
            match self.byte()? {
                0x66 => p.operand = true,
                0xf2 | 0xf3 => p.repeat = true,
                0xf0 => p.lock = true,
                0x64 | 0x65 => p.segment = true,
                0x2e | 0x3e => p.hint = true,
                rex @ 0x40..=0x4f => {
                    p.wide = rex & 8 != 0;
                    break self.byte()?;
                }
                opcode => break opcode,
            }
        };
        let immediate = if p.operand && !p.wide { 2 } else { 4 };
        let of_prefix = match opcode {
            0x0f => !(p.repeat && p.operand),
            _ if p.repeat => matches!(opcode, 0x90 | 0xa4..=0xa7 | 0xaa | 0xab | 0xae | 0xaf | 0xc3),
            _ if p.hint => opcode == 0xff,
            0xa4..=0xa7 | 0xaa | 0xab | 0xae | 0xaf => false,
            _ => true,
        };
        let of_threads = matches!(opcode, 0x03 | 0x0f | 0x2b | 0x31 | 0x33 | 0x39 | 0x3b | 0x80..=0x83 | 0x88..=0x8b | 0xc6 | 0xc7 | 0xff);
        if !of_prefix || p.segment && !of_threads {
            return None;
        }
        match opcode {
            // Few write sums and masks of bytes, or use the carry, but for a flag out of it.
            0x00 | 0x02 | 0x04 | 0x08 | 0x10..=0x18 | 0x1a | 0x1c | 0x1d | 0x20 | 0x22 | 0x28 | 0x2a
                if !p.lock =>
            {
                None
            }
            0x19 | 0x1b if !p.lock => self.modrm().filter(|modrm| *modrm >= 0xc0).map(drop),
            0x0f => self.two_bytes(p),
            0x00..=0x3f => match opcode & 7 {
                0..=3 => self.changes(p, opcode & 2 == 0 && opcode < 0x38).map(drop),
                4 if !p.lock => self.skip(1),
                5 if !p.lock => self.skip(immediate),
                _ => None,
            },
            0x80 | 0x83 => self.changes(p, true).and_then(|_| self.skip(1)),
            0x81 => self.changes(p, true).and_then(|_| self.skip(immediate)),
            0x87 => self.changes(p, true).map(drop),
            0xf6 | 0xf7 => {
                let field = self.changes(p, true)? >> 3 & 7;
                match field {
                    0 if p.lock => None,
                    0 if opcode == 0xf6 => self.skip(1),
                    0 => self.skip(immediate),
                    1 => None,
                    _ => (!p.lock || field < 4).then_some(()),
                }
            }
            0xfe => self.changes(p, true).filter(|modrm| modrm >> 3 & 7 < 2).map(drop),
            0xff if p.lock => self.changes(p, true).filter(|modrm| modrm >> 3 & 7 < 2).map(drop),
            _ if p.lock => None,
            0x50..=0x5f => (!p.operand && !p.repeat).then_some(()),
            0x63 => p.wide.then_some(()).and_then(|()| self.modrm()).map(drop),
            0x84 | 0x85 | 0x88..=0x8b => self.modrm().map(drop),
            0x68 => (!p.operand).then_some(()).and_then(|()| self.skip(4)),
            0x69 => self.modrm().and_then(|_| self.skip(immediate)),
            0x6a | 0xa8 | 0xb0..=0xb7 => self.skip(1),
            0x6b => self.modrm().and_then(|_| self.skip(1)),
            0x70..=0x7f => (!p.operand).then_some(()).and_then(|()| self.skip(1)),
            0x8d => self.modrm().filter(|modrm| *modrm < 0xc0).map(drop),
            0x90 | 0x98 | 0x99 | 0x9c | 0x9d => Some(()),
            0xa4..=0xa7 | 0xaa | 0xab | 0xae | 0xaf => Some(()),
            0xa9 => self.skip(immediate),
            0xb8..=0xbf => self.skip(if p.wide { 8 } else { immediate }),
            0xc0 | 0xc1 => self.shift().and_then(|()| self.skip(1)),
            0xd1 | 0xd3 => self.shift(),
            0xc3 | 0xc9 | 0xcc => (!p.operand && !p.wide).then_some(()),
            0xc4 | 0xc5 | 0x62 => self.vector(opcode, p),
            0xc6 => self.modrm().filter(|modrm| modrm >> 3 & 7 == 0).and_then(|_| self.skip(1)),
            0xc7 => self.modrm().filter(|modrm| modrm >> 3 & 7 == 0).and_then(|_| self.skip(immediate)),
            0xe8 | 0xe9 if !p.operand => self.near(FAR),
            0xeb if !p.operand => self.skip(1),
            0xfc => Some(()),
            0xff => match self.modrm()? >> 3 & 7 {
                0 | 1 => Some(()),
                2 | 4 | 6 => (!p.operand).then_some(()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The opcodes behind `0F`.
    fn two_bytes(&mut self, p: Prefixes) -> Option<()> {
        let opcode = self.byte()?;
        if p.lock {
            return match opcode {
                0xab | 0xb0 | 0xb1 | 0xb3 | 0xbb | 0xc0 | 0xc1 => self.changes(p, true).map(drop),
                0xba => self.changes(p, true).filter(|modrm| modrm >> 3 & 7 > 4).and_then(|_| self.skip(1)),
                0xc7 => self.changes(p, true).filter(|modrm| modrm >> 3 & 7 == 1).map(drop),
                _ => None,
            };
        }
        match opcode {
            // `xgetbv`, `xend`, `rdtscp`.
            0x01 => matches!(self.byte()?, 0xd0 | 0xd5 | 0xf9).then_some(()),
            0x05 | 0x0b | 0x31 | 0x77 | 0xa2 | 0xc8..=0xcf => (!p.operand && !p.repeat).then_some(()),
            0x10..=0x11 | 0x14..=0x15 | 0x28 | 0x2e..=0x2f | 0x40..=0x4f | 0x51 | 0x54..=0x6f => {
                self.modrm().map(drop)
            }
            0x12 | 0x16 | 0x2a | 0x2c | 0x2d | 0x74..=0x76 | 0x7e..=0x7f => self.modrm().map(drop),
            0x0d | 0x13 | 0x17 | 0x18 | 0x29 | 0x2b => self.modrm().filter(|modrm| *modrm < 0xc0).map(drop),
            0x1e => {
                let modrm = self.byte()?;
                // `endbr64`, `rdsspq`.
                (p.repeat && modrm >= 0xc0).then_some(())
            }
            0x1f | 0xa3 | 0xa5 | 0xab | 0xad | 0xaf | 0xb0 | 0xb1 | 0xb3 | 0xb6 | 0xb7 => {
                self.modrm().map(drop)
            }
            0xb8 => p.repeat.then_some(()).and_then(|()| self.modrm()).map(drop),
            0xbb..=0xc1 => self.modrm().map(drop),
            0x70 | 0xa4 | 0xac | 0xc2 | 0xc6 => self.modrm().and_then(|_| self.skip(1)),
            0x71..=0x73 => self.modrm().filter(|modrm| *modrm >= 0xc0).and_then(|_| self.skip(1)),
            0x80..=0x8f => (!p.operand).then_some(()).and_then(|()| self.near(IN_FUNCTION)),
            0x90..=0x9f => self.modrm().filter(|modrm| modrm >> 3 & 7 == 0).map(drop),
            0xae => self.modrm().map(drop),
            0xba => self.modrm().filter(|modrm| modrm >> 3 & 7 >= 4).and_then(|_| self.skip(1)),
            0xc3 => self.modrm().filter(|modrm| *modrm < 0xc0).map(drop),
            0xc4 | 0xc5 => self.modrm().filter(|modrm| *modrm >= 0xc0).and_then(|_| self.skip(1)),
            // `cmpxchg16b`; `rdrand`, `rdseed`, `rdpid`.
            0xc7 => {
                self.modrm().filter(|modrm| matches!(modrm >> 3, 0o01 | 0o11 | 0o21 | 0o36 | 0o37)).map(drop)
            }
            0xd4..=0xd7 | 0xdb | 0xde | 0xdf | 0xe7 | 0xeb | 0xef | 0xf3 | 0xfa | 0xfb | 0xfc..=0xfe => {
                self.modrm().filter(|modrm| opcode != 0xe7 || *modrm < 0xc0).map(drop)
            }
            _ => None,
        }
    }

    /// Instructions of AVX and AVX-512, and of general registers that are encoded like them.
    fn vector(&mut self, escape: u8, p: Prefixes) -> Option<()> {
        if p.operand || p.repeat || p.wide || p.lock {
            return None;
        }
        let map = match escape {
            0xc5 => {
                self.byte()?;
                1
            }
            0xc4 => {
                let map = self.byte()? & 0x1f;
                self.byte()?;
                map
            }
            _ => {
                let [first, second] = [self.byte()?, self.byte()?];
                self.byte()?;
                if first & 0x08 != 0 || second & 0x04 == 0 {
                    return None;
                }
                first & 7
            }
        };
        let opcode = self.byte()?;
        match map {
            1 if opcode == 0x77 && escape == 0xc5 => Some(()),
            1 => self
                .modrm()
                .and_then(|_| self.skip(usize::from(matches!(opcode, 0x70..=0x73 | 0xc2 | 0xc4..=0xc6)))),
            2 => self.modrm().map(drop),
            3 => self.modrm().and_then(|_| self.skip(1)),
            _ => None,
        }
    }

    /// An operand that the instruction may change, so that `lock` may stand before it.
    fn changes(&mut self, p: Prefixes, lockable: bool) -> Option<u8> {
        let modrm = self.modrm()?;
        (!p.lock || lockable && modrm < 0xc0).then_some(modrm)
    }

    fn shift(&mut self) -> Option<()> {
        self.modrm().filter(|modrm| !matches!(modrm >> 3 & 7, 2 | 3 | 6)).map(drop)
    }

    /// ModRM, SIB and an offset: gives the first.
    fn modrm(&mut self) -> Option<u8> {
        let modrm = self.byte()?;
        let (mode, rm) = (modrm >> 6, modrm & 7);
        if mode == 3 {
            return Some(modrm);
        }
        let base = if rm == 4 { self.byte()? & 7 } else { rm };
        match mode {
            0 if base == 5 => self.near(FAR)?,
            1 => self.skip(1)?,
            2 => self.near(FAR)?,
            _ => {}
        }
        Some(modrm)
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    /// Whatever is taken for an instruction is one, of this length.
    #[test]
    fn a_decoder_agrees() {
        let mut state = 1u64;
        let (mut usual, mut invalid) = (0, 0);
        for _ in 0..400_000 {
            let mut bytes = [0u8; MOST];
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (state >> 56) as u8;
                // More of what is rare: prefixes, the second table.
                if state >> 40 & 7 == 0 {
                    *byte = [0x0f, 0x48, 0x66, 0xf3, 0xf0, 0xc5, 0xc4, 0x24][(state >> 48) as usize % 8];
                }
            }
            let Some(len) = length(&bytes) else { continue };
            usual += 1;
            let instruction = Decoder::new(64, &bytes, DecoderOptions::NONE).decode();
            // Some opcodes have no instruction with some prefixes and operands: those that nobody writes.
            if instruction.is_invalid() {
                invalid += 1;
                continue;
            }
            assert_eq!(instruction.len(), len, "{bytes:02x?}");
        }
        assert!((40_000..200_000).contains(&usual) && invalid < usual / 20, "{usual}, {invalid} invalid");
    }

    #[test]
    fn instructions_of_programs_are_usual() {
        #[rustfmt::skip]
        let programs: [&[u8]; 10] = [
            &[0xf3, 0x0f, 0x1e, 0xfa], &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], &[0x0f, 0xa2],
            &[0xf3, 0x90], &[0xf0, 0x0f, 0xb1, 0x0d, 1, 0, 0, 0], &[0x48, 0x8d, 0x3d, 0x3b, 0x13, 0, 0],
            &[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], &[0x49, 0xbd, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0xc5, 0xf8, 0x77], &[0x62, 0xf1, 0x7c, 0x48, 0x10, 0x06],
        ];
        for code in programs {
            assert_eq!(length(code), Some(code.len()), "{code:02x?}");
        }
        for code in
            [&[0x06][..], &[0, 0], &[0xcd, 0x80], &[0xe8, 0, 0, 0, 0x50], &[0xf4], &[0x0f, 0x80, 0, 0, 0]]
        {
            assert_eq!(length(code), None, "{code:02x?}");
        }
    }
}
