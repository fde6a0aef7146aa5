//! What a debugger wants to know of memory besides its changes: that an instruction uses it.
//!
//! Pages with such memory in them are out of the program's reach meanwhile, by the entries of its page tables
//! alone: the monitor reaches them, so that what a system call reads or writes is none of the program's uses. An
//! instruction that uses such a page all the same is let through alone; what memory it uses is told from the
//! instruction and its registers, before it runs.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Machine;
use super::debug::PAGE;
use crate::fault::{MemoryUse, Place, used};
use crate::machine::RunError;
use crate::program::kernel::Kernel;
use crate::program::mm::Access;
use crate::vcpu::registers::UserRegisters;
use crate::x86::frame::Frame;

/// Memory whose uses by instructions are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessWatch {
    /// Where it is.
    pub addresses: Range<u64>,
    /// An instruction that writes there counts, too, and not only one that reads.
    pub writes: bool,
}

/// What is looked for, and was met.
#[derive(Debug, Default)]
pub(super) struct Accesses {
    watched: Vec<AccessWatch>,
    /// What of it the instruction uses that is let through.
    hit: Option<Range<u64>>,
}

impl Accesses {
    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// What of it the instruction used that was let through.
    pub(super) fn take_hit(&mut self) -> Option<Range<u64>> {
        self.hit.take()
    }

    /// The pages that are out of reach.
    pub(super) fn pages(&self) -> BTreeSet<u64> {
        let pages = |watch: &AccessWatch| pages_of(&watch.addresses);
        self.watched.iter().flat_map(pages).collect()
    }

    /// What of it an instruction uses that makes these uses of memory. If they are not known, it is what lies in
    /// the page that the instruction was stopped for.
    fn used_by(&self, uses: Option<&[MemoryUse]>, page: u64) -> Option<Range<u64>> {
        let meets = |watch: &&AccessWatch| match uses {
            None => pages_of(&watch.addresses).any(|watched| watched == page),
            Some(uses) => uses.iter().any(|used| {
                let end = used.address.saturating_add(used.len);
                let there = used.address < watch.addresses.end && watch.addresses.start < end;
                there && (used.reads || used.writes && watch.writes)
            }),
        };
        self.watched.iter().find(meets).map(|watch| watch.addresses.clone())
    }
}

/// The pages that a range of addresses lies in.
pub(super) fn pages_of(addresses: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
    (addresses.start / PAGE..addresses.end.div_ceil(PAGE)).map(|page| page * PAGE)
}

impl Machine {
    /// Looks for other uses of memory from now on: a run stops behind the instruction that makes one.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn watch_accesses(&mut self, watches: &[AccessWatch]) -> Result<(), RunError> {
        if self.debug.accesses.watched == watches {
            return Ok(());
        }
        let before = self.debug.accesses.pages();
        self.debug.accesses = Accesses { watched: watches.to_vec(), hit: None };
        self.debug.lets_through.clear();
        let Kernel { space, memory, process, .. } = &self.kernel;
        if process.id() == self.debug.process {
            for page in before.difference(&self.debug.accesses.pages()) {
                space.set_reachable(memory, *page, true)?;
            }
        }
        Ok(())
    }

    /// Takes the pages out of the program's reach, but for those that an instruction uses which is let through.
    pub(super) fn close_pages(&self) -> Result<(), RunError> {
        if self.debug.accesses.is_empty() {
            return Ok(());
        }
        let Kernel { space, memory, .. } = &self.kernel;
        let clock = space.state.image.clock_page;
        for page in self.debug.accesses.pages() {
            // The clock's is used by the handler of breakpoints, too.
            if page != clock && !self.debug.lets_through.contains(&page) {
                space.set_reachable(memory, page, false)?;
            }
        }
        Ok(())
    }

    /// Lets the instruction at this frame, which made a page fault, use a page of what is watched: whether it was
    /// for that.
    pub(super) fn open_page(&mut self, page: u64, access: Access, frame: &Frame) -> Result<bool, RunError> {
        let closed = self.debug.accesses.pages().contains(&page);
        let Kernel { space, memory, .. } = &self.kernel;
        if !closed || !space.set_reachable(memory, page, true)? {
            return Ok(false);
        }
        if access == Access::Write {
            space.set_writable(memory, page, true)?;
        }
        self.refresh_bases()?;
        let code = self.code(frame.rip)?;
        let regs = UserRegisters { general: self.general_at(frame), ..self.kernel.task.regs };
        let uses = used(&code, &Place::from(&regs));
        self.debug.accesses.hit = self.debug.accesses.used_by(uses.as_deref(), page);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_that_meet_what_is_watched() {
        let watch = |addresses, writes| AccessWatch { addresses, writes };
        let accesses =
            Accesses { watched: vec![watch(0x1004..0x1008, false), watch(0x1ffc..0x2004, true)], hit: None };
        let uses = |address, len, reads, writes| {
            accesses.used_by(Some(&[MemoryUse { address, len, reads, writes }]), 0x1000)
        };
        assert_eq!(accesses.pages(), BTreeSet::from([0x1000, 0x2000]));
        assert_eq!(uses(0x1000, 4, true, false), None);
        assert_eq!(uses(0x1000, 5, true, false), Some(0x1004..0x1008));
        assert_eq!(uses(0x1007, 1, true, true), Some(0x1004..0x1008));
        assert_eq!(uses(0x1008, 8, true, false), None);
        assert_eq!(uses(0x1004, 4, false, true), None, "only read");
        assert_eq!(uses(0x2000, 1, false, true), Some(0x1ffc..0x2004));
        assert_eq!(uses(u64::MAX, 8, true, true), None);
        assert_eq!(accesses.used_by(Some(&[]), 0x1000), None);
        assert_eq!(accesses.used_by(None, 0x2000), Some(0x1ffc..0x2004));
        assert_eq!(accesses.used_by(None, 0x3000), None);
    }
}
