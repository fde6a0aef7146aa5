//! Finding instructions in the code of files.
//!
//! The bytes of an instruction also stand in code that means something else, as in the distance of a jump, and
//! in tables that lie between functions. Only what is certainly the instruction is found:
//! * decoding from before comes to it: from most of the places before it where it may be begun;
//! * and what is around is code. Of `RDRAND` and `RDSEED`, the code behind looks at the carry flag, by which the
//!   instruction says whether it had a number, before anything changes it. The others say nothing of
//!   the kind: before and behind them there must be nothing but [usual](super::usual) instructions, a
//!   row that random bytes make once in a million times.

use iced_x86::{Code, Decoder, DecoderOptions, RflagsBits};

use super::{Kind, Site, XGETBV_END, usual};

/// Bytes before an instruction from which decoding is begun to see whether it comes to the
/// instruction's start: x86 code that is decoded from a wrong place falls into step soon.
const LEAD: usize = 96;
/// Places from which it is begun.
const TRIES: usize = 16;
/// Instructions behind a random number, the carry flag's use among them.
const BEHIND: usize = 5;
/// Usual instructions that count, before and behind, how many there must be at least, and in all.
const USUAL_BEFORE: usize = 14;
const USUAL_BEHIND: usize = 24;
const USUAL_LEAST: usize = 3;
const USUAL_IN_ALL: usize = 22;

/// Where the instructions are, ascending.
pub(super) fn find(code: &[u8]) -> Vec<Site> {
    let mut decoded = Steps::new(code, decoded_length);
    let mut usual = Steps::new(code, usual::length);
    let mut sites: Vec<Site> = Vec::new();
    for at in memchr::memmem::find_iter(code, &[0x0f, 0xc7]) {
        if let Some(kind) = random_at(&mut decoded, &mut usual, at) {
            sites.push(Site { at: at as u32, kind });
        }
    }
    let wanted: [(&[u8], Kind); 4] = [
        (&[0x0f, 0xa2], Kind::Cpuid),
        (&[0xf3, 0x90], Kind::Pause),
        (&[0x0f, 0x31], Kind::Rdtsc),
        (&[0x0f, 0x01, XGETBV_END], Kind::Xgetbv),
    ];
    for (bytes, kind) in wanted {
        let found = memchr::memmem::find_iter(code, bytes).filter(|at| is_code(&mut usual, *at));
        sites.extend(found.map(|at| Site { at: at as u32, kind }));
    }
    sites.sort_unstable_by_key(|site| site.at);
    sites
}

/// What the opcode `0F C7` at `at` belongs to, of what is looked for.
fn random_at(decoded: &mut Steps<'_>, usual: &mut Steps<'_>, at: usize) -> Option<Kind> {
    let code = decoded.code;
    if code.get(at + 2).is_none_or(|modrm| *modrm < 0xf0) {
        return None;
    }
    let mut start = at;
    if start > 0 && code[start - 1] & 0xf0 == 0x40 {
        start -= 1;
    }
    if start > 0 && code[start - 1] == 0xf3 && code[at + 2] >= 0xf8 && is_code(usual, start - 1) {
        return Some(Kind::Opcode);
    }
    if start > 0 && code[start - 1] == 0x66 {
        start -= 1;
    }
    // Of a REX prefix it is not known whether it is one, or the end of the instruction before.
    [start, at]
        .into_iter()
        .any(|start| carry_is_used(&code[start..]) && decoded.come_to(start).is_some())
        .then_some(Kind::Opcode)
}

/// Whether the instruction that starts at `at` stands among usual ones.
fn is_code(steps: &mut Steps<'_>, at: usize) -> bool {
    let Some(from) = steps.come_to(at) else { return false };
    let (mut before, mut place) = (0, from);
    while place < at {
        match steps.length(place) {
            (length, true) => (before, place) = (before + 1, place + length),
            (length, false) => (before, place) = (0, place + length),
        }
    }
    let (mut behind, mut place) = (0, at);
    while behind < USUAL_BEHIND && place < steps.code.len() {
        let (length, true) = steps.length(place) else { break };
        (behind, place) = (behind + 1, place + length);
    }
    let at_edge = |usual: usize, edge: bool| usual >= USUAL_LEAST || edge;
    at_edge(before, from == 0)
        && at_edge(behind, place == steps.code.len())
        && before.min(USUAL_BEFORE) + behind >= USUAL_IN_ALL
}

fn decoded_length(code: &[u8]) -> Option<usize> {
    let instruction = Decoder::new(64, code, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction.len())
}

/// The steps of a decoder through code, each place decoded once: code may be nothing but instructions
/// to look for.
struct Steps<'a> {
    code: &'a [u8],
    decode: fn(&[u8]) -> Option<usize>,
    /// Bytes from a place to the next; 0 where that is not known yet, [`NO_CODE`] where there is no
    /// instruction.
    lengths: Vec<u8>,
}

const NO_CODE: u8 = u8::MAX;

impl<'a> Steps<'a> {
    fn new(code: &'a [u8], decode: fn(&[u8]) -> Option<usize>) -> Steps<'a> {
        Steps { code, decode, lengths: Vec::new() }
    }

    /// Bytes to the next place, and whether an instruction is here. Where none is, as seen from here, one
    /// may be a byte on.
    fn length(&mut self, at: usize) -> (usize, bool) {
        if self.lengths.is_empty() {
            self.lengths = vec![0; self.code.len()];
        }
        if self.lengths[at] == 0 {
            self.lengths[at] = (self.decode)(&self.code[at..]).map_or(NO_CODE, |length| length as u8);
        }
        match self.lengths[at] {
            NO_CODE => (1, false),
            length => (length.into(), true),
        }
    }

    /// If decoding from before comes to this place from most places where it may be begun: the first
    /// of them.
    fn come_to(&mut self, start: usize) -> Option<usize> {
        let first = start.saturating_sub(LEAD);
        let tries = TRIES.min(start - first);
        // Of each place before, the nearest last.
        let mut comes = [false; LEAD + 1];
        comes[0] = true;
        for back in 1..=start - first {
            let (length, _) = self.length(start - back);
            comes[back] = length <= back && comes[back - length];
        }
        let come = (first..first + tries).filter(|from| comes[start - from]);
        if come.clone().count() * 2 < tries {
            return None;
        }
        Some(come.min().unwrap_or(start))
    }
}

/// Whether the instruction at the start of `code` is one of the two, and the carry flag that it sets
/// is looked at behind it.
fn carry_is_used(code: &[u8]) -> bool {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let is_draw = matches!(
        decoder.decode().code(),
        Code::Rdrand_r16
            | Code::Rdrand_r32
            | Code::Rdrand_r64
            | Code::Rdseed_r16
            | Code::Rdseed_r32
            | Code::Rdseed_r64
    );
    if !is_draw {
        return false;
    }
    for instruction in decoder.iter().take(BEHIND) {
        if instruction.rflags_read() & RflagsBits::CF != 0 {
            return true;
        }
        if instruction.is_invalid() || instruction.rflags_modified() & RflagsBits::CF != 0 {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use iced_x86::code_asm::*;

    use super::*;

    /// Some code, as compilers make it, before and behind what `middle` makes.
    fn code(middle: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>) -> Vec<u8> {
        let assemble = || {
            let mut a = CodeAssembler::new(64)?;
            for n in 0..20 {
                a.mov(rax, qword_ptr(rsp + 8 * n))?;
                a.add(ecx, n)?;
            }
            middle(&mut a)?;
            a.ret()?;
            a.assemble(0x1000)
        };
        assemble().expect("constant code")
    }

    fn places(code: &[u8]) -> Vec<u32> {
        find(code).iter().map(|site| site.at).collect()
    }

    #[test]
    fn instructions_whose_carry_is_used_are_found() {
        let found =
            |middle: fn(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>| find(&code(middle)).len();
        assert_eq!(
            found(|a| {
                a.rdrand(r10)?;
                a.jb(0x2000)
            }),
            1
        );
        assert_eq!(
            found(|a| {
                a.rdseed(eax)?;
                a.mov(dword_ptr(rcx), eax)?;
                a.cmovb(eax, edx)
            }),
            1
        );
        assert_eq!(
            found(|a| {
                a.rdrand(cx)?;
                a.setb(al)
            }),
            1
        );
        assert_eq!(
            found(|a| {
                a.rdrand(eax)?;
                a.test(eax, eax)?;
                a.jb(0x2000)
            }),
            0,
            "another's carry"
        );
        assert_eq!(found(|a| a.mov(eax, 1)), 0);
    }

    /// From a program that gcc 12 made: numbers lie between the instructions before.
    #[test]
    fn instructions_behind_numbers_are_found() {
        #[rustfmt::skip]
        let code = [
            0xe9, 0x5d, 0xf6, 0xff, 0xff, 0xbe, 0x0f, 0xc7, 0xf0, 0x72, 0x72, 0x00, 0x48, 0x8d, 0x3d, 0x3b,
            0x13, 0x00, 0x00, 0xb8, 0x00, 0x00, 0x00, 0x00, 0xe8, 0x6a, 0xf3, 0xff, 0xff, 0xbb, 0x04, 0x00,
            0x00, 0x00, 0x49, 0xbd, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x4c, 0x8d, 0x25, 0x20,
            0x13, 0x00, 0x00, 0x48, 0x0f, 0xc7, 0xf6, 0x73, 0xfa, 0x48, 0x0f, 0xc7, 0xfa, 0x73, 0xfa, 0x41,
            0x0f, 0xc7, 0xf2, 0x73, 0xfa, 0x44, 0x89, 0xd0, 0x4d, 0x89, 0xe8, 0x66, 0x41, 0x0f, 0xc7, 0xf0,
            0x73, 0xf9, 0x49, 0x0f, 0xc7, 0xf9, 0xb9, 0x00, 0x00, 0x00, 0x00, 0x49, 0x0f, 0x42, 0xc9, 0x49,
        ];
        assert_eq!(places(&code), [52, 58, 64, 77, 83]);
    }

    #[test]
    fn the_same_bytes_in_another_instruction_are_left_alone() {
        // The distance of a call, with a jump on carry behind.
        let call = code(|a| {
            a.db(&[0xe8, 0x0f, 0xc7, 0xf0, 0xff])?;
            a.jb(0x2000)
        });
        assert_eq!(places(&call), [0u32; 0]);
        // A number that is moved.
        let number = code(|a| {
            a.mov(eax, 0x72f0_c70fu32)?;
            a.jb(0x2000)
        });
        assert_eq!(places(&number), [0u32; 0]);
    }

    #[test]
    fn any_bytes_can_be_looked_at() {
        let mut state = 1u64;
        for len in [0, 1, 2, 3, 17, 500] {
            for _ in 0..200 {
                let bytes: Vec<u8> = (0..len)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        [0x0f, 0xc7, 0xf0, 0x48, 0x66, 0xf3, 0x90, 0xa2, (state >> 40) as u8]
                            [(state >> 33) as usize % 9]
                    })
                    .collect();
                let _ = find(&bytes);
            }
        }
    }

    /// The bytes of a function that asks for the CPU's name, as gcc makes it.
    #[rustfmt::skip]
    const ASKS: [u8; 64] = [
        0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x83, 0xec, 0x28, 0x31, 0xc9, 0xb8,
        0x01, 0x00, 0x00, 0x00, 0x0f, 0xa2, 0x89, 0x45, 0xe4, 0x89, 0x5d, 0xe8, 0x89, 0x4d, 0xec, 0x89,
        0x55, 0xf0, 0x8b, 0x45, 0xe8, 0x89, 0xc6, 0x48, 0x8d, 0x05, 0xb4, 0x0e, 0x00, 0x00, 0x48, 0x89,
        0xc7, 0xb8, 0x00, 0x00, 0x00, 0x00, 0xe8, 0xf5, 0xfe, 0xff, 0xff, 0x90, 0x48, 0x8b, 0x5d, 0xf8,
    ];

    #[test]
    fn instructions_among_usual_ones_are_found() {
        let asks = [&ASKS[..], &ASKS].concat();
        assert_eq!(find(&asks), [20, 84].map(|at| Site { at, kind: Kind::Cpuid }));
        let with = |bytes: &[u8]| find(&code(|a| a.db(bytes)));
        let at = code(|_| Ok(())).len() as u32 - 1;
        let behind = [0x8b, 0x07, 0x85, 0xc0, 0x75, 0xf8, 0x31, 0xc0].repeat(3);
        let pause = [&[0xf3, 0x90][..], &behind].concat();
        assert_eq!(with(&pause), [Site { at, kind: Kind::Pause }]);
        let rdpid = [&[0xf3, 0x0f, 0xc7, 0xf8][..], &behind].concat();
        assert_eq!(with(&rdpid), [Site { at: at + 1, kind: Kind::Opcode }]);
        let rdpid = [&[0xf3, 0x41, 0x0f, 0xc7, 0xf9][..], &behind].concat();
        assert_eq!(with(&rdpid), [Site { at: at + 2, kind: Kind::Opcode }]);
        let xgetbv = [&[0x0f, 0x01, 0xd0][..], &behind].concat();
        assert_eq!(with(&xgetbv), [Site { at, kind: Kind::Xgetbv }]);
        let rdtsc = [&[0x0f, 0x31][..], &behind].concat();
        assert_eq!(with(&rdtsc), [Site { at, kind: Kind::Rdtsc }]);
        // In a number, and in a distance.
        assert_eq!(with(&[&[0xb8, 0x0f, 0xa2, 0xf3, 0x90][..], &behind].concat()), []);
        assert_eq!(with(&[&[0x0f, 0x84, 0xf3, 0x90, 0x0f, 0x00][..], &behind].concat()), []);
        // In front of a table.
        let table: Vec<u8> = (0..64u8).flat_map(|n| [n.wrapping_mul(37) ^ 0x61, 0x07]).collect();
        assert_eq!(with(&[&[0x0f, 0xa2][..], &table].concat()), []);
    }

    /// Tables of random bytes, as cryptography has them between its functions.
    #[test]
    fn tables_are_left_alone() {
        let mut state = 7u64;
        let mut candidates = 0;
        for _ in 0..24 {
            let mut table: Vec<u8> = (0..1 << 16)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            for at in (128..table.len() - 128).step_by(256) {
                let bytes = if at % 512 == 128 { [0x0f, 0xa2] } else { [0xf3, 0x90] };
                table[at..at + 2].copy_from_slice(&bytes);
                candidates += 1;
            }
            assert_eq!(find(&table), []);
        }
        assert!(candidates > 6000);
    }
}
