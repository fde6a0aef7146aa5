//! Instructions in the code of files that are replaced as its pages come in, since they would not give the
//! same on every host and nothing else makes them trap.
//!
//! * `RDRAND`, `RDSEED`, `RDPID` become `UD1` with the same operand ([`random`]). No control register
//!   makes them fault at CPL 3, and a `CPUID` that hides them is obeyed only where KVM traps `CPUID`.
//! * `CPUID`, `0F A2`, becomes `CC 06`. Where KVM traps it, too: so the bytes are the same everywhere, and
//!   what is answered in the guest ([`crate::program::entry`]) takes the same virtual time.
//! * `PAUSE`, `F3 90`, becomes `CC 0E`: it is where a task waits in a loop for another.
//! * `RDTSC`, `0F 31`, becomes `CC 1E`: every start of a dynamically linked program has ten, which would exit each.
//! * `XGETBV`, `0F 01 D0`, becomes `CC 16 D0`: some KVMs run guests with the CPU's own XCR0.
//!
//! Each keeps its length. `CC` is `int3`, which comes to the guest's handler in a few microseconds on any host; an
//! invalid opcode takes as long as an exit where KVM looks at it first, and `INT n` comes only where
//! the guest's own table of interrupts is the hardware's. `06`, `0E`, `16` and `1E` are no instructions in 64-bit mode, so that no
//! program has them behind an `int3` of its own.
//!
//! Code that a program makes itself is not looked at, nor is code that becomes executable only by `mprotect`,
//! or that is in a file that changes while it is mapped; nor an instruction that lies in two blocks of its
//! file.

mod find;
pub mod random;
mod usual;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::program::fs::{ContentRef, FsResult};
use crate::program::outside::Contents;
use crate::world::BLOCK_SIZE;

/// What stands in the place of the first byte of `CPUID` and of `PAUSE`: `int3`.
pub const BREAKPOINT: u8 = 0xcc;
/// What stands in the place of the second byte of `CPUID`.
pub const CPUID: u8 = 0x06;
/// The same of `PAUSE`.
pub const PAUSE: u8 = 0x0e;
/// The same of `RDTSC`.
pub const RDTSC: u8 = 0x1e;
/// The same of `XGETBV`, which has a third.
pub const XGETBV: u8 = 0x16;
/// That third byte.
pub const XGETBV_END: u8 = 0xd0;

/// What is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The second byte of the opcode of `RDRAND`, `RDSEED` or `RDPID`, behind the first.
    Opcode,
    /// `CPUID`.
    Cpuid,
    /// `PAUSE`.
    Pause,
    /// `RDTSC`.
    Rdtsc,
    /// The first two bytes of `XGETBV`.
    Xgetbv,
}

impl Kind {
    /// Two bytes, and what they become.
    fn bytes(self) -> ([u8; 2], [u8; 2]) {
        match self {
            Kind::Opcode => ([0x0f, random::OPCODE], [0x0f, random::REPLACED]),
            Kind::Cpuid => ([0x0f, 0xa2], [BREAKPOINT, CPUID]),
            Kind::Pause => ([0xf3, 0x90], [BREAKPOINT, PAUSE]),
            Kind::Rdtsc => ([0x0f, 0x31], [BREAKPOINT, RDTSC]),
            Kind::Xgetbv => ([0x0f, 0x01], [BREAKPOINT, XGETBV]),
        }
    }

    /// Whether a byte of a page may have been replaced so. Bytes beyond the page are not known.
    fn may_be_at(self, held: &[u8], of_file: &[u8], at: usize) -> bool {
        let ([first, second], [new_first, new_second]) = self.bytes();
        let is = |at: Option<usize>, byte| at.and_then(|at| of_file.get(at)).is_none_or(|b| *b == byte);
        let change = (of_file[at], held[at]);
        change == (first, new_first) && is(Some(at + 1), second)
            || change == (second, new_second) && is(at.checked_sub(1), first)
    }
}

/// Where two bytes are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Site {
    /// Offset of the first in its block.
    at: u32,
    kind: Kind,
}

/// Whether a page holds something else than a file does, replaced instructions apart: whether a page
/// was touched, and so has them, must not matter.
pub fn differs(held: &[u8], of_file: &[u8]) -> bool {
    let kinds = [Kind::Opcode, Kind::Cpuid, Kind::Pause, Kind::Rdtsc, Kind::Xgetbv];
    let replaced = |at: usize| kinds.iter().any(|kind| kind.may_be_at(held, of_file, at));
    held != of_file && (0..held.len()).any(|at| held[at] != of_file[at] && !replaced(at))
}

/// The sites in a block of a file.
type BlockSites = Arc<[Site]>;

/// Blocks, and instructions in them, that are kept in mind at most. What is forgotten is found again.
const BLOCKS_MAX: usize = 1024;
const SITES_MAX: usize = 1 << 17;

/// The sites in blocks of files that were looked at.
#[derive(Debug, Default)]
pub struct Sites {
    blocks: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: BTreeMap<(ContentRef, u64), BlockSites>,
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
    /// Forgets what was found in the latest contents, up to one that was `there`: others will have their numbers.
    pub fn return_to(&self, there: impl Fn(ContentRef) -> bool) {
        let mut kept = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { blocks, sites } = &mut *kept;
        while let Some(last) = blocks.last_entry().filter(|last| !there(last.key().0)) {
            *sites -= last.remove().len();
        }
    }

    /// Replaces the instructions in `out`, which holds code of a file from `offset` on.
    ///
    /// # Errors
    /// When a block of the file that `out` lies in cannot be read.
    pub fn replace(
        &self,
        contents: &Contents,
        content: ContentRef,
        offset: u64,
        out: &mut [u8],
    ) -> FsResult<()> {
        let end = offset + out.len() as u64;
        for block in offset / BLOCK_SIZE as u64..end.div_ceil(BLOCK_SIZE as u64) {
            let whole = (block * BLOCK_SIZE as u64)
                .checked_sub(offset)
                .and_then(|start| out.get(start as usize..)?.get(..BLOCK_SIZE));
            for site in self.in_block(contents, content, block, whole)?.iter() {
                let at = block * BLOCK_SIZE as u64 + u64::from(site.at);
                for (at, byte) in (at..).zip(site.kind.bytes().1) {
                    if let Some(place) = at.checked_sub(offset).and_then(|at| out.get_mut(at as usize)) {
                        *place = byte;
                    }
                }
            }
        }
        Ok(())
    }

    /// A whole block is looked at, whichever of its pages come in first: what is found must not
    /// depend on that. `whole` is the block, where it is at hand.
    fn in_block(
        &self,
        contents: &Contents,
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
            Some(code) => find::find(code).into(),
            None => {
                let mut code = vec![0; BLOCK_SIZE];
                let len = contents.read_frozen(content, block * BLOCK_SIZE as u64, &mut code)?;
                find::find(&code[..len]).into()
            }
        };
        blocks().insert(key, sites.clone());
        Ok(sites)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_instructions_are_no_difference() {
        let of_file = [0x90, 0x0f, 0xc7, 0xf0, 0xc7, 0x0f, 0xa2, 0xf3, 0x90, 0xf3, 0x0f];
        let with = |at: usize, byte| {
            let mut held = of_file;
            held[at] = byte;
            differs(&held, &of_file)
        };
        assert!(!with(2, 0xb9) && !with(0, 0x90) && !with(5, 0xcc) && !with(6, 0x06) && !with(8, 0x0e));
        assert!(with(4, 0xb9) && with(2, 0x00) && with(0, 0x91) && with(1, 0xcc) && with(9, 0xcc));
        assert!(with(8, 0x06) && with(6, 0x0e));
        assert!(!with(10, 0xcc), "what follows may be in the next page");
    }
}
