//! Instructions in a bare-metal image that no monitor can answer, and whose results differ from run to
//! run: at CPL 0 they neither trap nor can be made to.
//!
//! Whether one of them ran cannot be seen from outside either, so what is told is that the code has
//! them. What a guest writes or unpacks into memory by itself is not looked at.

use crate::x86::MAX_INSTRUCTION;
use std::collections::BTreeMap;
use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic};
use serde::{Deserialize, Serialize};

use super::staged::StagedMemory;

/// Bytes that are looked through at once.
const WINDOW: usize = 1 << 20;
/// From how far before an instruction the bytes are decoded, to see whether decoding comes to it. From
/// a wrong start, it falls in step with the code after a few instructions.
const RUN_UP: usize = 64;
/// Starts in the run-up that must come to the instruction, of those that are tried: most.
const STARTS: usize = 16;
const ENOUGH: usize = 12;

/// An instruction whose result no run can repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unrepeatable {
    /// The time stamp counter.
    Rdtsc,
    /// The same, with the number of the CPU.
    Rdtscp,
    /// A random number.
    Rdrand,
    /// A random seed.
    Rdseed,
    /// The number of the CPU.
    Rdpid,
}

impl Unrepeatable {
    /// Its mnemonic.
    pub fn text(self) -> &'static str {
        match self {
            Unrepeatable::Rdtsc => "RDTSC",
            Unrepeatable::Rdtscp => "RDTSCP",
            Unrepeatable::Rdrand => "RDRAND",
            Unrepeatable::Rdseed => "RDSEED",
            Unrepeatable::Rdpid => "RDPID",
        }
    }

    fn of(instruction: &Instruction) -> Option<Unrepeatable> {
        match (instruction.code(), instruction.mnemonic()) {
            (Code::Rdtsc, _) => Some(Unrepeatable::Rdtsc),
            (Code::Rdtscp, _) => Some(Unrepeatable::Rdtscp),
            (_, Mnemonic::Rdrand) => Some(Unrepeatable::Rdrand),
            (_, Mnemonic::Rdseed) => Some(Unrepeatable::Rdseed),
            (_, Mnemonic::Rdpid) => Some(Unrepeatable::Rdpid),
            _ => None,
        }
    }
}

/// Where an image has one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// How many there are.
    pub count: u64,
    /// The physical address of the first.
    pub first: u64,
}

/// What an image has of each.
pub type Found = BTreeMap<Unrepeatable, Places>;

/// Looks through code that was loaded.
pub fn search(memory: &StagedMemory, code: &[Range<u64>]) -> Found {
    let mut found = Found::new();
    for range in code {
        let mut at = range.start;
        while at < range.end {
            let from = at.saturating_sub(RUN_UP as u64).max(range.start);
            let end = range.end.min(at + WINDOW as u64);
            let behind = range.end.min(end + MAX_INSTRUCTION as u64);
            let mut bytes = vec![0; (behind - from) as usize];
            // All code lies in memory: the loader checked it.
            if memory.read(from, &mut bytes).is_err() {
                break;
            }
            search_in(&bytes, (at - from) as usize..(end - from) as usize, from, &mut found);
            at = end;
        }
    }
    found
}

/// Looks for instructions that start in `range` of `bytes`, which lie at physical address `base`.
fn search_in(bytes: &[u8], range: Range<usize>, base: u64, found: &mut Found) {
    for opcode in memchr::memchr_iter(0x0f, &bytes[range.clone()]).map(|at| at + range.start) {
        // RDTSC is 0f 31, RDTSCP 0f 01 f9, the others 0f c7 with a register.
        if !matches!(bytes.get(opcode + 1..), Some([0x31, ..] | [0x01, 0xf9, ..] | [0xc7, 0xf0..=0xff, ..])) {
            continue;
        }
        // Prefixes stand before the opcode: REX, operand size, and F3 of RDPID.
        let start = (opcode.saturating_sub(2)..=opcode).find(|start| {
            let instruction = decode(&bytes[*start..]);
            Unrepeatable::of(&instruction).is_some() && *start + instruction.len() > opcode
        });
        let Some(start) = start else { continue };
        let Some(what) = Unrepeatable::of(&decode(&bytes[start..])) else { continue };
        if is_reached(bytes, opcode, start) {
            let places = found.entry(what).or_insert(Places { count: 0, first: base + opcode as u64 });
            places.count += 1;
        }
    }
}

fn decode(bytes: &[u8]) -> Instruction {
    Decoder::new(64, &bytes[..bytes.len().min(MAX_INSTRUCTION)], DecoderOptions::NONE).decode()
}

/// Whether decoding from before comes to the instruction, whose opcode is at `opcode` and whose first
/// prefix may be at `start`.
fn is_reached(bytes: &[u8], opcode: usize, start: usize) -> bool {
    let from = opcode.saturating_sub(RUN_UP);
    let starts = (from..opcode).take(STARTS);
    let tried = starts.len();
    let reached = starts
        .filter(|from| {
            let mut at = *from;
            while at < start {
                let mut decoder = Decoder::new(64, &bytes[at..opcode + 2], DecoderOptions::NONE);
                let instruction = decoder.decode();
                at += instruction.len().max(1);
            }
            (start..=opcode).contains(&at)
        })
        .count();
    // At the start of the code there is nothing before it.
    reached * STARTS >= tried * ENOUGH
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few instructions that are no function of anything.
    const PLAIN: &[u8] = &[0x48, 0x89, 0xc3, 0x48, 0x83, 0xc0, 0x10, 0x8b, 0x07, 0x50, 0x58, 0x90];

    fn found(code: &[u8]) -> Found {
        let mut memory = StagedMemory::new(1 << 20).expect("memory");
        memory.write(0x1000, code).expect("room");
        search(&memory, std::slice::from_ref(&(0x1000..0x1000 + code.len() as u64)))
    }

    fn with(instruction: &[u8]) -> Vec<u8> {
        [&PLAIN.repeat(8), instruction, &PLAIN.repeat(2)].concat()
    }

    #[test]
    fn each_is_found() {
        for (bytes, what) in [
            (&[0x0f, 0x31][..], Unrepeatable::Rdtsc),
            (&[0x0f, 0x01, 0xf9], Unrepeatable::Rdtscp),
            (&[0x0f, 0xc7, 0xf0], Unrepeatable::Rdrand),
            (&[0x48, 0x0f, 0xc7, 0xf1], Unrepeatable::Rdrand),
            (&[0x48, 0x0f, 0xc7, 0xf8], Unrepeatable::Rdseed),
            (&[0xf3, 0x0f, 0xc7, 0xf8], Unrepeatable::Rdpid),
        ] {
            let found = found(&with(bytes));
            assert_eq!(found.keys().copied().collect::<Vec<_>>(), [what], "{bytes:x?}");
            assert_eq!(found[&what].count, 1);
        }
    }

    #[test]
    fn at_the_start_and_the_end() {
        assert_eq!(found(&[0x0f, 0x31])[&Unrepeatable::Rdtsc], Places { count: 1, first: 0x1000 });
        let twice = [&with(&[0x0f, 0x31])[..], &[0x0f, 0x31]].concat();
        assert_eq!(found(&twice)[&Unrepeatable::Rdtsc].count, 2);
        assert!(found(&[0x0f]).is_empty());
        assert!(found(&[0x0f, 0x01]).is_empty());
    }

    #[test]
    fn numbers_in_instructions_are_not() {
        // mov eax, 0x0001310f; cmpxchg8b [rdi]; wbinvd
        for bytes in [&[0xb8, 0x0f, 0x31, 0x01, 0x00][..], &[0x0f, 0xc7, 0x0f], &[0x0f, 0x09]] {
            assert!(found(&with(bytes)).is_empty(), "{bytes:x?}");
        }
    }

    #[test]
    fn across_the_border_of_a_window() {
        let mut code = PLAIN.repeat(2 * WINDOW / PLAIN.len());
        code[WINDOW - 1..WINDOW + 1].copy_from_slice(&[0x0f, 0x31]);
        let mut memory = StagedMemory::new(4 << 20).expect("memory");
        memory.write(0x1000, &code).expect("room");
        let found = search(&memory, std::slice::from_ref(&(0x1000..0x1000 + code.len() as u64)));
        assert_eq!(found[&Unrepeatable::Rdtsc].count, 1);
    }
}
