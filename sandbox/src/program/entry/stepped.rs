//! What the handler of breakpoints answers, for a program that is stepped: the handler leaves those to the
//! monitor, as the trap behind a step would be lost. By the same facts and with the same results, so that the
//! exits of a run are the same whether it is stepped or not.

use super::{CLOCK, Entry, LEAF, LEAF_BYTES, LEAVES, PAUSE_EXITS, RANGE, RANGES, RANGES_MAX, XCR0};
use crate::program::mm::Memory;
use crate::ram::PAGE_SIZE;

impl Entry {
    fn fact(&self, memory: &Memory, offset: u64) -> u64 {
        memory.system.read_u64(self.facts + offset)
    }

    /// Whether the handler looks at a breakpoint, behind whose first byte RIP is.
    pub fn looks_at(&self, memory: &Memory, rip: u64) -> bool {
        let ranges = self.fact(memory, RANGES).min(RANGES_MAX as u64);
        let bounds = |n: u64| (self.fact(memory, RANGE + n * 16), self.fact(memory, RANGE + n * 16 + 8));
        let in_code = (0..ranges).map(bounds).any(|(start, end)| (start..end).contains(&rip));
        in_code && !rip.is_multiple_of(PAGE_SIZE as u64)
    }

    /// Whether `PAUSE` exits.
    pub fn pause_exits(&self, memory: &Memory) -> bool {
        self.fact(memory, PAUSE_EXITS) as u32 != 0
    }

    /// The address of the running program's clock page.
    pub fn clock(&self, memory: &Memory) -> Option<u64> {
        Some(self.fact(memory, CLOCK)).filter(|clock| *clock != 0)
    }

    /// What `XGETBV` gives.
    pub fn xcr0(&self, memory: &Memory) -> u64 {
        self.fact(memory, XCR0)
    }

    /// EAX, EBX, ECX and EDX of a leaf of `CPUID`.
    pub fn leaf(&self, memory: &Memory, eax: u32, ecx: u32) -> Option<[u32; 4]> {
        let leaves = self.fact(memory, LEAVES) / LEAF_BYTES;
        let word =
            |n: u64, i: u64| (self.fact(memory, LEAF + n * LEAF_BYTES + i / 2 * 8) >> (i % 2 * 32)) as u32;
        // The last one first.
        let n = (0..leaves).rev().find(|n| word(*n, 0) == eax && ecx & word(*n, 2) == word(*n, 1))?;
        Some([3, 4, 5, 6].map(|i| word(n, i)))
    }
}
