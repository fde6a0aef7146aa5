//! The copies of one address space.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use kvm_bindings::kvm_regs;

use super::block::{Block, Breakpoints, translate};
use super::dispatch::{dispatch, first_entry};
use super::edges::{Counts, Edges};
use super::emit::Emitter;
use super::layout::{
    CODE, CODE_BYTES, COUNTER, COUNTS, ENTRIES, ENTRY_BYTES, FEWER_CODE_BYTES, FROM, HASH_BITS, TABLE,
    TABLE_PAGES, TARGET, WORDS,
};
use super::piece::{Landing, Piece, Spot};
use super::source::{Source, Sources};
use crate::machine::RunError;
use crate::program::kernel::Kernel;
use crate::program::mm::{AddressSpace, Memory};
use crate::program::patch::Condition;
use crate::ram::{PAGE_SIZE, PageError};
use crate::x86::frame::Frame;
use crate::x86::paging::{NO_EXEC, USER, WRITABLE};

const PAGE: u64 = PAGE_SIZE as u64;
/// Blocks that are translated at once: those that the first may go on to, and so on. Where there is no room for what may
/// be needed, fewer are.
const AT_ONCE: usize = 48;
/// Entries of the table that are used at most: three of four, so that the search is short.
const MOST_TARGETS: u64 = 3 << (HASH_BITS - 2);

/// Where the copy of a block begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    /// For whoever comes by an indirect branch.
    pub indirect: u64,
    /// For all others.
    pub direct: u64,
}

/// The copies of one address space, and what they work with.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Guest-physical addresses of the pages: of the words, the table, and the copies.
    words: u64,
    table: Vec<u64>,
    code: Vec<u64>,
    /// Bytes of copies.
    used: u64,
    /// Blocks that are translated at once.
    at_once: usize,
    /// The copies of blocks, by the program's addresses.
    blocks: HashMap<u64, Copy>,
    /// Pages of counts that are mapped.
    counts: usize,
    /// What holds where in the copies, ascending.
    pieces: Vec<Piece>,
    /// Pieces of the routine that all copies share.
    shared: usize,
    /// Its `hlt` for a program that is at its target.
    over: u64,
    /// Jumps that are to go to the copy of a block, which is none yet.
    open: HashMap<u64, Vec<u64>>,
    /// Entries of the table.
    targets: u64,
    /// Instructions at which the guest is left.
    breakpoints: BTreeSet<u64>,
    /// Where something must hold for that.
    conditions: BTreeMap<u64, Vec<Condition>>,
    /// The handler of breakpoints knows all code of files.
    all_known: bool,
    /// Pages of the program of which there are copies, by number.
    sources: BTreeSet<u64>,
}

impl Cache {
    /// One without copies.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(memory: &mut Memory, space: &mut AddressSpace) -> Result<Cache, PageError> {
        let words = memory.system.take_page()?;
        let table = (0..TABLE_PAGES).map(|_| memory.system.take_page()).collect::<Result<_, _>>()?;
        let (_, pieces, over) = dispatch();
        let shared = pieces.len();
        let mut cache = Cache {
            words,
            table,
            code: Vec::new(),
            used: 0,
            at_once: AT_ONCE,
            blocks: HashMap::new(),
            counts: 0,
            pieces,
            shared,
            over,
            open: HashMap::new(),
            targets: 0,
            breakpoints: BTreeSet::new(),
            conditions: BTreeMap::new(),
            all_known: true,
            sources: BTreeSet::new(),
        };
        cache.map(memory, space)?;
        cache.clear(memory, space)?;
        Ok(cache)
    }

    /// Maps its pages into an address space that has none of it.
    ///
    /// # Errors
    /// When there is no memory for page tables.
    pub fn map(&mut self, memory: &mut Memory, space: &mut AddressSpace) -> Result<(), PageError> {
        self.counts = 0;
        space.map_system(memory, WORDS, self.words, NO_EXEC | USER | WRITABLE)?;
        for (at, page) in (TABLE..).step_by(PAGE_SIZE).zip(&self.table) {
            space.map_system(memory, at, *page, NO_EXEC | USER)?;
        }
        for (at, page) in (CODE..).step_by(PAGE_SIZE).zip(&self.code) {
            space.map_system(memory, at, *page, USER)?;
        }
        Ok(())
    }

    /// Its pages, which it gives up.
    pub fn into_pages(self) -> Vec<u64> {
        [vec![self.words], self.table, self.code].concat()
    }

    /// Forgets all copies.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn clear(&mut self, memory: &mut Memory, space: &mut AddressSpace) -> Result<(), PageError> {
        memory.system.clear(self.words);
        self.clear_table(memory);
        self.blocks.clear();
        self.open.clear();
        self.sources.clear();
        self.pieces.truncate(self.shared);
        self.used = 0;
        let (routine, ..) = dispatch();
        self.write(memory, space, CODE, &routine)?;
        self.used = routine.len() as u64;
        Ok(())
    }

    /// Forgets all copies if the program's code in one of these ranges has any.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn forget(
        &mut self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        ranges: &[Range<u64>],
    ) -> Result<(), PageError> {
        let has = |range: &Range<u64>| {
            self.sources.range(range.start / PAGE..range.end.div_ceil(PAGE)).next().is_some()
        };
        if ranges.iter().filter(|range| !range.is_empty()).any(has) {
            self.clear(memory, space)
        } else {
            Ok(())
        }
    }

    /// The guest is left at these instructions, and at no others; and the handler of breakpoints answers replaced
    /// instructions in all code of files, or not: forgets all copies that were made otherwise.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn adapt(
        &mut self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        breakpoints: Breakpoints<'_>,
        all_known: bool,
    ) -> Result<(), PageError> {
        let Breakpoints { at, conditions } = breakpoints;
        if self.breakpoints != *at || self.conditions != *conditions || self.all_known != all_known {
            self.breakpoints.clone_from(at);
            self.conditions.clone_from(conditions);
            self.all_known = all_known;
            self.clear(memory, space)?;
        }
        Ok(())
    }

    /// Writes copies, in pages that are taken as they are needed.
    fn write(
        &mut self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), PageError> {
        let mut done = 0;
        while done < bytes.len() {
            let offset = at - CODE + done as u64;
            let number = (offset / PAGE) as usize;
            if number == self.code.len() {
                let page = memory.system.take_page()?;
                space.map_system(memory, CODE + number as u64 * PAGE, page, USER)?;
                self.code.push(page);
            }
            let n = ((PAGE - offset % PAGE) as usize).min(bytes.len() - done);
            memory.system.write(self.code[number] + offset % PAGE, &bytes[done..done + n]);
            done += n;
        }
        Ok(())
    }

    /// The copy of the block at an address, which is made if there is none, and with it copies of what it goes on
    /// to. `None` where that is not to be translated. Ways are counted if there are `edges`.
    ///
    /// # Errors
    /// When the program's code cannot be brought in, or there is no memory.
    pub fn block(
        &mut self,
        kernel: &mut Kernel,
        rip: u64,
        mut edges: Option<&mut Edges>,
    ) -> Result<Option<Copy>, RunError> {
        if let Some(copy) = self.blocks.get(&rip) {
            return Ok(Some(*copy));
        }
        let room = if edges.is_some() { CODE_BYTES } else { FEWER_CODE_BYTES };
        let (mut wanted, mut returns, mut sources) = (vec![rip], Vec::new(), Sources::default());
        for number in 0..self.at_once {
            let Some(at) = wanted.pop() else { break };
            if self.blocks.contains_key(&at) {
                continue;
            }
            let Some(source) = sources.block(kernel, at, number == 0)? else { continue };
            let mut block = self.made(at, &source, edges.as_deref_mut())?;
            if self.used + block.code.len() as u64 > room {
                if number > 0 {
                    break;
                }
                self.clear(&mut kernel.memory, &mut kernel.space)?;
                self.at_once = (self.at_once / 4).max(1);
                block = self.made(at, &source, edges.as_deref_mut())?;
            }
            // Before there is a copy that adds to them.
            if let Some(edges) = edges.as_deref_mut() {
                self.map_counts(kernel, edges)?;
            }
            self.sources.extend(source.pages);
            // The last is the next: what follows a call is likely to be come to, and last.
            wanted.extend(block.links.iter().rev().map(|(_, to)| *to));
            wanted.splice(0..0, block.returns);
            returns.extend(block.returns);
            self.add(kernel, at, block)?;
        }
        for target in returns {
            if let Some(copy) = self.blocks.get(&target).copied() {
                self.add_target(&kernel.memory, target, copy);
            }
        }
        Ok(self.blocks.get(&rip).copied())
    }

    /// Behind the last copy.
    fn end(&self) -> u64 {
        CODE + self.used
    }

    fn made(&self, rip: u64, source: &Source, edges: Option<&mut Edges>) -> Result<Block, RunError> {
        let counts = edges.and_then(|edges| {
            let (name, to_offset) = source.file.as_ref()?;
            Some(Counts { file: edges.file(name)?, edges, to_offset: *to_offset })
        });
        let breakpoints = Breakpoints { at: &self.breakpoints, conditions: &self.conditions };
        let answered = source.is_file && self.all_known;
        translate(self.end(), rip, &source.code, answered, breakpoints, counts)
            .map_err(|e| RunError::Translation { rip, reason: e.to_string() })
    }

    /// Maps the counts that copies may add to.
    fn map_counts(&mut self, kernel: &mut Kernel, edges: &mut Edges) -> Result<(), PageError> {
        let Kernel { memory, space, .. } = kernel;
        for page in &edges.pages(memory)?[self.counts..] {
            let at = COUNTS + (self.counts * PAGE_SIZE) as u64;
            space.map_system(memory, at, *page, NO_EXEC | USER | WRITABLE)?;
            self.counts += 1;
        }
        Ok(())
    }

    fn add(&mut self, kernel: &mut Kernel, rip: u64, block: Block) -> Result<(), RunError> {
        let Kernel { memory, space, .. } = kernel;
        let copy = Copy { indirect: self.end(), direct: block.direct };
        self.write(memory, space, copy.indirect, &block.code)?;
        self.used += block.code.len() as u64;
        self.pieces.extend(block.pieces);
        self.blocks.insert(rip, copy);
        for (from, to) in block.links {
            match self.blocks.get(&to).copied() {
                Some(to) => self.link(memory, space, from, to.direct)?,
                None => self.open.entry(to).or_default().push(from),
            }
        }
        for from in self.open.remove(&rip).unwrap_or_default() {
            self.link(memory, space, from, copy.direct)?;
        }
        Ok(())
    }

    fn link(
        &mut self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        from: u64,
        to: u64,
    ) -> Result<(), PageError> {
        let mut jump = Emitter::new(from);
        jump.jump(to);
        self.write(memory, space, from, &jump.finish())
    }

    /// An indirect branch goes to an address, which has a copy: it finds it from now on. A table that is full begins anew.
    pub fn add_target(&mut self, memory: &Memory, target: u64, copy: Copy) {
        let mut number = first_entry(target);
        if self.targets >= MOST_TARGETS {
            self.clear_table(memory);
        }
        loop {
            match memory.system.read_u64(self.entry(number)) {
                0 => break,
                known if known == target.wrapping_neg() => return,
                _ => number += 1,
            }
            // The last stays empty, as the search ends there.
            if number == ENTRIES - 1 {
                self.clear_table(memory);
                number = first_entry(target);
            }
        }
        let entry = self.entry(number);
        memory.system.write_u64(entry + 8, copy.indirect);
        memory.system.write_u64(entry, target.wrapping_neg());
        self.targets += 1;
    }

    fn entry(&self, number: u64) -> u64 {
        let at = number * ENTRY_BYTES;
        self.table[(at / PAGE) as usize] + at % PAGE
    }

    fn clear_table(&mut self, memory: &Memory) {
        self.table.iter().for_each(|page| memory.system.clear(*page));
        self.targets = 0;
    }

    /// What the program is that is at an instruction of the copies.
    pub fn landing(&self, memory: &Memory, rip: u64) -> Option<(Landing, u64)> {
        let behind = self.pieces.partition_point(|piece| piece.at <= rip);
        let piece = self.pieces.get(behind.checked_sub(1)?)?;
        let landing = piece.landing_at(rip);
        let at = match landing.spot {
            Spot::At(at) => at,
            Spot::Target => self.word(memory, TARGET),
        };
        (rip < self.end()).then_some((landing, at))
    }

    /// The indirect branch of the program that was made last.
    pub fn branch(&self, memory: &Memory) -> Option<u64> {
        self.landing(memory, self.word(memory, FROM)).map(|(_, at)| at)
    }

    /// Gives the registers back that a copy has for itself; and the frame that the program would have at `rip`.
    pub fn restore(
        &self,
        memory: &Memory,
        landing: &Landing,
        regs: &mut kvm_regs,
        rip: u64,
        frame: &Frame,
    ) -> Frame {
        let word = |address| self.word(memory, address);
        landing.restore(regs, word);
        landing.frame(rip, frame, word)
    }

    /// A word that the copies keep.
    fn word(&self, memory: &Memory, address: u64) -> u64 {
        memory.system.read_u64(self.words + (address - WORDS))
    }

    /// Branches that are left of what was asked for.
    pub fn left(&self, memory: &Memory) -> u64 {
        self.word(memory, COUNTER)
    }

    /// So many branches are asked for, which are not none.
    pub fn set_left(&self, memory: &Memory, left: u64) {
        memory.system.write_u64(self.words + (COUNTER - WORDS), left);
    }

    /// Where a program goes that is to leave at once, as it has made all its branches.
    pub fn leave_at(&self, memory: &Memory, rip: u64) -> u64 {
        memory.system.write_u64(self.words + (TARGET - WORDS), rip);
        self.over
    }
}
