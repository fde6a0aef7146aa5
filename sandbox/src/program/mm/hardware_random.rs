//! `RDRAND` and `RDSEED`, answered by the monitor.
//!
//! No control register makes these two fault at CPL 3, and a `CPUID` that hides them is obeyed only
//! where KVM traps `CPUID`. So code that comes from files has them replaced, as its pages come in, by
//! `UD1` with the same operand: one byte of the opcode differs, `0F C7` becomes `0F B9`, the
//! instruction keeps its length, and its execution is an exception that the monitor answers from the
//! run's seed.
//!
//! The two bytes also stand in code that means something else, as in the distance of a jump. Only
//! what is certainly the instruction is replaced: decoding from before agrees that one starts there,
//! and the code behind looks at the carry flag, by which the instruction says whether it had a
//! number, before anything changes it. Code that a program makes itself is not looked at, nor is
//! code that becomes executable only by `mprotect`, or that is in a file that changes while it is mapped.
//!
//! Encodings: Intel SDM volume 2, `RDRAND`, `RDSEED`, `UD`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use iced_x86::{Code, Decoder, DecoderOptions, RflagsBits};

use crate::program::fs::{ContentRef, FsResult};
use crate::program::outside::SharedOutside;
use crate::world::BLOCK_SIZE;

/// First byte of the opcode of `RDRAND` and `RDSEED`, the second, and that of what stands in their place.
const ESCAPE: u8 = 0x0f;
const OPCODE: u8 = 0xc7;
const REPLACED: u8 = 0xb9;

/// Bytes before an instruction from which decoding is begun to see whether it comes to the
/// instruction's start: x86 code that is decoded from a wrong place falls into step soon.
const LEAD: usize = 96;
/// Places from which it is begun.
const TRIES: usize = 16;
/// Instructions behind, the carry flag's use among them.
const BEHIND: usize = 5;

/// A random number that a program asks the CPU for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// `RDSEED`, not `RDRAND`.
    pub seed: bool,
    /// Number of the general register that it goes to, 0 (RAX) to 15.
    pub register: u8,
    /// Bytes of the number: 2, 4 or 8.
    pub bytes: u8,
    /// Length of the instruction.
    pub len: u64,
}

/// The number that the replaced instruction at the start of `code` asks for, if one is there.
pub fn draw_at(code: &[u8]) -> Option<Draw> {
    let wide = code.first() == Some(&0x66);
    let mut at = usize::from(wide);
    let rex = code.get(at).filter(|byte| **byte & 0xf0 == 0x40).copied();
    at += usize::from(rex.is_some());
    let rex = rex.unwrap_or(0);
    let [0x0f, REPLACED, modrm @ 0xf0..=0xff, ..] = code[at..] else { return None };
    let bytes = match (rex & 8 != 0, wide) {
        (true, _) => 8,
        (false, true) => 2,
        (false, false) => 4,
    };
    Some(Draw { seed: modrm & 8 != 0, register: modrm & 7 | (rex & 1) << 3, bytes, len: at as u64 + 3 })
}

/// Whether a page holds something else than a file does, replaced instructions apart: whether a page
/// was touched, and so has them, must not matter.
pub fn differs(held: &[u8], of_file: &[u8]) -> bool {
    let replaced =
        |at: usize| (held[at], of_file[at]) == (REPLACED, OPCODE) && (at == 0 || of_file[at - 1] == 0x0f);
    held != of_file && (0..held.len()).any(|at| held[at] != of_file[at] && !replaced(at))
}

/// Where the instructions are: offsets in `code` of the byte to replace, ascending.
fn find(code: &[u8]) -> Vec<usize> {
    let mut steps = Steps { code, lengths: vec![0; code.len()] };
    memchr::memmem::find_iter(code, &[ESCAPE, OPCODE])
        .map(|at| at + 1)
        .filter(|at| is_one(&mut steps, *at))
        .collect()
}

/// Whether the byte at `at` belongs to one of the instructions.
fn is_one(steps: &mut Steps<'_>, at: usize) -> bool {
    let code = steps.code;
    if at == 0 || code[at - 1] != ESCAPE || code.get(at + 1).is_none_or(|modrm| *modrm < 0xf0) {
        return false;
    }
    let mut start = at - 1;
    if start > 0 && code[start - 1] & 0xf0 == 0x40 {
        start -= 1;
    }
    if start > 0 && code[start - 1] == 0x66 {
        start -= 1;
    }
    // Of a REX prefix it is not known whether it is one, or the end of the instruction before.
    [start, at - 1].into_iter().any(|start| carry_is_used(&code[start..]) && steps.come_to(start))
}

/// The steps of a decoder through code, each place decoded once: code may be nothing but instructions
/// to look for.
struct Steps<'a> {
    code: &'a [u8],
    /// Bytes from a place to the next; 0 where that is not known yet.
    lengths: Vec<u8>,
}

impl Steps<'_> {
    fn length(&mut self, at: usize) -> usize {
        if self.lengths[at] == 0 {
            let mut decoder = Decoder::new(64, &self.code[at..], DecoderOptions::NONE);
            let instruction = decoder.decode();
            // Not code, as seen from here: one byte on, it may be.
            let length = if instruction.is_invalid() { 1 } else { instruction.len() };
            self.lengths[at] = length as u8;
        }
        self.lengths[at].into()
    }

    /// Whether decoding from before comes to this place, from most places where it may be begun.
    fn come_to(&mut self, start: usize) -> bool {
        let first = start.saturating_sub(LEAD);
        let tries = TRIES.min(start - first);
        // Of each place before, the nearest last.
        let mut comes = [false; LEAD + 1];
        comes[0] = true;
        for back in 1..=start - first {
            let length = self.length(start - back);
            comes[back] = length <= back && comes[back - length];
        }
        let come = (first..first + tries).filter(|from| comes[start - from]).count();
        come * 2 >= tries
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

/// The instructions in a block of a file: offsets in the block.
type BlockSites = Arc<[usize]>;

/// Blocks, and instructions in them, that are kept in mind at most. What is forgotten is found again.
const BLOCKS_MAX: usize = 1024;
const SITES_MAX: usize = 1 << 17;

/// The instructions in blocks of files that were looked at.
#[derive(Debug, Default)]
pub struct Sites {
    blocks: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: HashMap<(ContentRef, u64), BlockSites>,
    /// Instructions in all of them.
    sites: usize,
}

impl Kept {
    fn insert(&mut self, key: (ContentRef, u64), sites: BlockSites) {
        if self.blocks.len() >= BLOCKS_MAX || self.sites + sites.len() > SITES_MAX {
            *self = Kept::default();
        }
        self.sites += sites.len();
        if let Some(before) = self.blocks.insert(key, sites) {
            self.sites -= before.len();
        }
    }
}

impl Sites {
    /// Replaces the instructions in `out`, which holds code of a file from `offset` on.
    ///
    /// # Errors
    /// When a block of the file that `out` lies in cannot be read.
    pub fn replace(
        &self,
        outside: &SharedOutside,
        content: ContentRef,
        offset: u64,
        out: &mut [u8],
    ) -> FsResult<()> {
        let end = offset + out.len() as u64;
        for block in offset / BLOCK_SIZE as u64..end.div_ceil(BLOCK_SIZE as u64) {
            let whole = (block * BLOCK_SIZE as u64)
                .checked_sub(offset)
                .and_then(|start| out.get(start as usize..)?.get(..BLOCK_SIZE));
            for site in self.in_block(outside, content, block, whole)?.iter() {
                let at = (block * BLOCK_SIZE as u64 + *site as u64).checked_sub(offset);
                if let Some(byte) = at.and_then(|at| out.get_mut(at as usize)) {
                    *byte = REPLACED;
                }
            }
        }
        Ok(())
    }

    /// A whole block is looked at, whichever of its pages come in first: what is found must not
    /// depend on that. `whole` is the block, where it is at hand.
    fn in_block(
        &self,
        outside: &SharedOutside,
        content: ContentRef,
        block: u64,
        whole: Option<&[u8]>,
    ) -> FsResult<BlockSites> {
        let key = (content, block);
        let blocks = || self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sites) = blocks().blocks.get(&key) {
            return Ok(sites.clone());
        }
        let sites: BlockSites = match whole {
            Some(code) => find(code).into(),
            None => {
                let mut code = vec![0; BLOCK_SIZE];
                let len = outside.read_frozen(content, block * BLOCK_SIZE as u64, &mut code)?;
                find(&code[..len]).into()
            }
        };
        blocks().insert(key, sites.clone());
        Ok(sites)
    }
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

    fn replaced(code: &[u8]) -> Vec<u8> {
        let mut code = code.to_vec();
        for at in find(&code) {
            code[at] = REPLACED;
        }
        code
    }

    #[test]
    fn replaced_instructions_are_no_difference() {
        let of_file = [0x90, 0x0f, OPCODE, 0xf0, OPCODE];
        let with = |at: usize, byte| {
            let mut held = of_file;
            held[at] = byte;
            differs(&held, &of_file)
        };
        assert!(!with(2, REPLACED) && !with(0, 0x90));
        assert!(with(4, REPLACED) && with(2, 0x00) && with(0, 0x91));
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
        assert_eq!(find(&code), [53, 59, 65, 78, 84]);
    }

    #[test]
    fn the_same_bytes_in_another_instruction_are_left_alone() {
        // The distance of a call, with a jump on carry behind.
        let call = code(|a| {
            a.db(&[0xe8, 0x0f, 0xc7, 0xf0, 0xff])?;
            a.jb(0x2000)
        });
        assert_eq!(find(&call), [0usize; 0]);
        // A number that is moved.
        let number = code(|a| {
            a.mov(eax, 0x72f0_c70fu32)?;
            a.jb(0x2000)
        });
        assert_eq!(find(&number), [0usize; 0]);
    }

    #[test]
    fn what_stands_in_their_place_says_what_they_were() {
        let draws = |middle: fn(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>, prefixes: usize| {
            let code = replaced(&code(middle));
            let at = memchr::memmem::find(&code, &[0x0f, REPLACED]).expect("replaced");
            draw_at(&code[at - prefixes..]).expect("one is there")
        };
        let draw = Draw { seed: false, register: 0, bytes: 4, len: 3 };
        assert_eq!(
            draws(
                |a| {
                    a.rdrand(eax)?;
                    a.jb(0x2000)
                },
                0
            ),
            draw
        );
        assert_eq!(
            draws(
                |a| {
                    a.rdrand(r10)?;
                    a.jb(0x2000)
                },
                1
            ),
            Draw { register: 10, bytes: 8, len: 4, ..draw }
        );
        assert_eq!(
            draws(
                |a| {
                    a.rdseed(dx)?;
                    a.jb(0x2000)
                },
                1
            ),
            Draw { seed: true, register: 2, bytes: 2, len: 4 }
        );
        assert_eq!(
            draws(
                |a| {
                    a.rdseed(r9w)?;
                    a.jb(0x2000)
                },
                2
            ),
            Draw { seed: true, register: 9, bytes: 2, len: 5 }
        );
        for other in [&[0x0f, 0x0b][..], &[0x0f, 0xb9, 0x40, 0x10], &[0x0f], &[], &[0x66], &[0x66, 0x48]] {
            assert_eq!(draw_at(other), None, "{other:x?}");
        }
    }

    #[test]
    fn any_bytes_can_be_looked_at() {
        let mut state = 1u64;
        for len in [0, 1, 2, 3, 17, 500] {
            for _ in 0..200 {
                let bytes: Vec<u8> = (0..len)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        [0x0f, 0xc7, 0xf0, 0x48, 0x66, (state >> 40) as u8][(state >> 33) as usize % 6]
                    })
                    .collect();
                let _ = (find(&bytes), draw_at(&bytes));
            }
        }
    }
}
