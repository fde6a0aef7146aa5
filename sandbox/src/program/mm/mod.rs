//! A program's address space: mappings, the page tables that follow from them, and access to it by
//! the monitor.
//!
//! Physical memory is given out in chunks of 2 MiB, one for each 2 MiB region of an address space
//! that has private pages in use: so where a virtual page lies follows from its region's chunk
//! alone, no page-by-page map is kept, and a snapshot's state is small whatever its size. Most
//! pages of a chunk are never touched and cost the host nothing.

mod account;
mod attach;
mod behind;
mod check;
mod clear;
mod code;
mod copy;
mod cow;
mod fork;
mod free;
mod grow;
mod image;
mod lending;
mod map;
mod memory;
pub mod patch;
mod region;
mod remap;
mod reset;
pub mod source;
pub mod tables;
mod user;
mod vma;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use account::Account;
pub use grow::GUARD_GAP;
pub use image::Image;
pub use lending::{Lending, Lent};
pub use map::{MAX_MAPPINGS, MapError};
pub use memory::{Below, CHUNK_BYTES, Memory, MemoryState, Object, chunk_page, is_anonymous_object};
pub use region::{BLOCK_BYTES, Region};
pub use remap::Remap;
pub use user::MemError;
pub use vma::{Access, Backing, Held, MAPPING_BYTES, Protection, Vma};

use crate::program::fs::{ContentRef, InodeId};
use crate::program::touched::Touched;
use crate::ram::{PAGE_SIZE, PageError};
use crate::x86::paging::{ACCESSED, DIRTY, PRESENT};
use free::Gaps;
use tables::Tables;

const PAGE: u64 = PAGE_SIZE as u64;

/// Lowest address that a program may map (`vm.mmap_min_addr`).
pub const USER_MIN: u64 = 0x1_0000;
/// Address behind the highest that a program may map. Above it, below the end of the lower half,
/// are the monitor's own pages: the entry stubs must lie in the lower half (see `program::entry`).
pub const USER_END: u64 = 0x7fff_ff00_0000;

/// The part of an address space that a snapshot keeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SpaceState {
    /// Mappings by start address.
    pub vmas: BTreeMap<u64, Vma>,
    /// The private pages of each 2 MiB region in use.
    pub regions: BTreeMap<u64, Region>,
    /// Pages, by address, that a mapping that notices writes has written: its own copies.
    pub copied: BTreeSet<u64>,
    /// Where the heap starts.
    pub brk_start: u64,
    /// Where it ends.
    pub brk: u64,
    /// Mappings are placed below this address.
    pub mmap_top: u64,
    /// New mappings are `mlock`ed: `mlockall(MCL_FUTURE)`.
    pub lock_new: bool,
    /// The most bytes that a mapping may grow down to: `RLIMIT_STACK`.
    pub stack_limit: u64,
    /// The program that it was laid out for.
    pub image: Image,
    /// Frozen contents that mappings hold, once each.
    pub contents: BTreeSet<ContentRef>,
    /// Files whose content is in guest memory, by object: held while they are mapped.
    pub files: BTreeMap<u64, InodeId>,
}

impl SpaceState {
    /// Bytes that are charged for the mappings.
    pub fn cost(&self) -> u64 {
        let mapping = |(start, vma): (&u64, &Vma)| vma.own_cost() + self.cost_of(*start, vma, &(0..USER_END));
        self.vmas.iter().map(mapping).fold(0, u64::saturating_add)
    }

    /// Bytes that are charged for the part of a mapping in a range: without reservation, what is in use
    /// of it.
    fn cost_of(&self, start: u64, vma: &Vma, range: &Range<u64>) -> u64 {
        let part = range.start.max(start)..range.end.min(vma.end);
        match vma.charged {
            false => 0,
            true if !vma.no_reserve => part.end - part.start,
            true => self.in_use(&part),
        }
    }

    /// Bytes of a range whose blocks are in use.
    fn in_use(&self, range: &Range<u64>) -> u64 {
        self.regions_in(range)
            .flat_map(|(number, region)| region.blocks.runs(tables::indexes_in(number, range)))
            .map(|pages| (pages.end - pages.start) * PAGE)
            .sum()
    }

    /// The regions in use that a range of addresses lies in.
    fn regions_in(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Region)> + use<'_> {
        let regions = match range.is_empty() {
            true => 0..0,
            false => tables::region_of(range.start)..tables::region_of(range.end - 1) + 1,
        };
        self.regions.range(regions).map(|(number, region)| (*number, region))
    }
}

/// An address space.
#[derive(Debug)]
pub struct AddressSpace {
    /// What a snapshot keeps.
    pub state: Touched<SpaceState>,
    tables: Tables,
    /// Regions whose tables hold pages that were brought in beforehand and nothing else yet.
    partial: BTreeSet<u64>,
    /// What mappings that went away held: [`AddressSpace::take_lost`].
    lost: BTreeSet<Held>,
    /// What is known of free addresses.
    gaps: Gaps,
    /// [`AddressSpace::code`], while it is known.
    code: Option<Vec<Range<u64>>>,
    /// Where what can be run has changed: [`AddressSpace::take_changed_code`].
    changed_code: Vec<Range<u64>>,
    /// The same, since it was put back to a moment, or was made.
    code_to_restore: Vec<Range<u64>>,
    /// [`Vma::own_cost`] of all mappings together.
    own_cost: u64,
    /// How much of it is charged.
    own_charged: u64,
}

/// What a page fault of the guest means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAnswer {
    /// The region's table was attached: try again.
    Attached,
    /// The tables allow the access already: a stale translation. Try again.
    Stale,
    /// `SIGSEGV` with `SEGV_MAPERR`: nothing is mapped there.
    NotMapped,
    /// `SIGSEGV` with `SEGV_ACCERR`: the mapping does not allow it.
    NotAllowed,
    /// `SIGBUS` with `BUS_ADRERR`: behind the end of a mapped file.
    BeyondFile,
    /// Memory is used up.
    OutOfMemory,
}

impl AddressSpace {
    /// An empty one, whose entry stubs are mapped by the caller.
    pub fn new(memory: &mut Memory, state: SpaceState) -> Result<AddressSpace, PageError> {
        let tables = Tables::new(&mut memory.system)?;
        let own_cost = state.vmas.values().map(Vma::own_cost).sum();
        Ok(AddressSpace {
            state: Touched::new(state),
            tables,
            partial: BTreeSet::new(),
            lost: BTreeSet::new(),
            gaps: Gaps::default(),
            code: None,
            changed_code: Vec::new(),
            code_to_restore: Vec::new(),
            own_cost,
            own_charged: own_cost,
        })
    }

    /// Gives up an address space that is empty, whose tables nothing runs on any more.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn retire(self, memory: &mut Memory) -> Result<(), PageError> {
        memory.system.retire(self.tables.into_pages())
    }

    /// Whether there is a mapping of an object.
    pub fn maps_object(&self, object: u64) -> bool {
        self.state.vmas.values().any(|vma| vma.backing.object().is_some_and(|(number, _)| number == object))
    }

    /// CR3.
    pub fn root(&self) -> u64 {
        self.tables.root()
    }

    /// Maps a page of the system area at an address above [`USER_END`].
    pub fn map_system(
        &mut self,
        memory: &mut Memory,
        address: u64,
        gpa: u64,
        flags: u64,
    ) -> Result<(), PageError> {
        self.tables.keep(&mut memory.system, address, gpa | flags | PRESENT | ACCESSED | DIRTY)
    }

    /// Takes pages of the system area out of an address space. KVM may have shadows of their entries.
    pub fn unmap_system(&mut self, memory: &Memory, addresses: Range<u64>) {
        self.tables.give_up(&memory.system, addresses);
    }

    /// The mapping at an address, with its start.
    pub fn find(&self, address: u64) -> Option<(u64, &Vma)> {
        let (start, vma) = self.state.vmas.range(..=address).next_back()?;
        (address < vma.end).then_some((*start, vma))
    }

    /// What mappings that went away since the last call held, and none holds any more.
    pub fn take_lost(&mut self) -> BTreeSet<Held> {
        let mut lost = std::mem::take(&mut self.lost);
        if !lost.is_empty() {
            for held in self.state.vmas.values().filter_map(|vma| vma.backing.held()) {
                if lost.remove(&held) && lost.is_empty() {
                    break;
                }
            }
        }
        lost
    }

    /// Says that what a mapping held, or would have held, is not needed for it.
    pub fn note_lost(&mut self, held: impl IntoIterator<Item = Held>) {
        self.lost.extend(held);
    }

    /// The first mapping that ends above an address, with its start.
    pub fn first_from(&self, address: u64) -> Option<(u64, &Vma)> {
        self.find(address).or_else(|| self.state.vmas.range(address..).next().map(|(s, vma)| (*s, vma)))
    }

    /// Mappings that overlap a range, with their starts.
    pub fn mappings_in(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Vma)> + use<'_> {
        self.overlapping(range)
    }

    /// The nearest mapping to an address, for messages.
    pub fn nearest(&self, address: u64) -> Option<(u64, &Vma)> {
        let below = self.state.vmas.range(..=address).next_back();
        let above = self.state.vmas.range(address..).next();
        let distance = |(start, vma): &(&u64, &Vma)| {
            if address >= **start { address.saturating_sub(vma.end.max(1) - 1) } else { **start - address }
        };
        [below, above].into_iter().flatten().min_by_key(distance).map(|(start, vma)| (*start, vma))
    }

    /// Mappings that overlap a range, with their starts.
    fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Vma)> + use<'_> {
        let first = self.find(range.start).map_or(range.start, |(start, _)| start);
        self.state.vmas.range(first..range.end).map(|(start, vma)| (*start, vma))
    }
}
