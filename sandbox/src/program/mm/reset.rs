//! Putting an address space back to what it was.
//!
//! Page tables are no part of a state: they follow from it, and are written as the guest asks for what they say. So
//! what differs between the two states is taken out of them, and told again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::tables::region_start;
use super::{AddressSpace, Memory, MemoryState, PAGE, SpaceState, USER_END, Vma};
use crate::ram::{PAGE_SIZE, PageError};
use crate::x86::paging::{ADDRESS, ENTRIES, NO_EXEC, PRESENT, WRITABLE};

impl AddressSpace {
    /// Becomes what `then` says. `objects` are other than they were then; with `lent`, so is what other address spaces
    /// see of pages that this one was left with. Gives the ranges of addresses whose entries in the page tables are
    /// gone, which are to be filled once the memory behind them is what it was: [`AddressSpace::refill`].
    ///
    /// # Errors
    /// When the host refuses.
    pub fn return_to(
        &mut self,
        memory: &Memory,
        then: &SpaceState,
        objects: &BTreeSet<u64>,
        lent: bool,
    ) -> Result<Vec<Range<u64>>, PageError> {
        if !(self.state.is_touched() || lent) && objects.is_empty() {
            self.restore_code();
            return Ok(Vec::new());
        }
        let mut changed = self.changes(then);
        let shows = |vma: &Vma| vma.backing.object().is_some_and(|(object, _)| objects.contains(&object));
        for (start, vma) in self.state.vmas.iter().chain(&then.vmas) {
            if shows(vma) {
                changed.push(*start..vma.end);
            }
        }
        if lent {
            let left =
                self.state.regions.iter().chain(&then.regions).filter(|(_, region)| !region.lent.is_empty());
            changed.extend(left.map(|(number, _)| region_start(*number)..region_start(number + 1)));
        }
        let changed = joined(changed);
        for range in &changed {
            for pages in self.clear_entries(memory, range.clone()) {
                memory.ram.invalidate(pages)?;
            }
        }
        for run in code_in(&self.state, &changed).chain(code_in(then, &changed)).collect::<Vec<_>>() {
            self.note_change_of_code(run);
        }
        self.restore_code();
        (*self.state).clone_from(then);
        self.state.settle();
        self.lost.clear();
        self.gaps = Default::default();
        self.code = None;
        self.own_cost = then.vmas.values().map(Vma::own_cost).sum();
        self.own_charged = self.own_cost;
        Ok(changed)
    }

    /// Writes the entries of ranges again, where there are tables for them.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn refill(&mut self, memory: &mut Memory, ranges: &[Range<u64>]) -> Result<(), PageError> {
        ranges.iter().try_for_each(|range| self.fill(memory, range.clone()))
    }

    /// The first address that the page tables map to what is not behind it, or allow to be used as its mapping does not.
    pub fn wrong_entry(&self, memory: &Memory) -> Option<u64> {
        self.tables.leaves(&(0..USER_END)).find_map(|(region, leaf)| {
            let mut table = [0; ENTRIES];
            memory.system.read_entries(leaf, &mut table);
            let mut present = (region_start(region)..)
                .step_by(PAGE_SIZE)
                .zip(table)
                .filter(|(_, entry)| entry & PRESENT != 0);
            present.find(|(address, entry)| !self.allows_entry(memory, *address, *entry)).map(|(at, _)| at)
        })
    }

    fn allows_entry(&self, memory: &Memory, address: u64, entry: u64) -> bool {
        let Some((start, vma)) = self.find(address) else { return false };
        let page = memory.ram.page_at(entry & ADDRESS);
        let may = self.page_protection(memory, vma, address);
        page.is_some()
            && page == self.page_behind(memory, start, vma, address)
            && may.any()
            && (entry & WRITABLE == 0 || may.write)
            && (entry & NO_EXEC != 0 || may.exec)
    }

    /// Where mappings, or the memory behind them, differ.
    fn changes(&self, then: &SpaceState) -> Vec<Range<u64>> {
        let now = &self.state;
        let mut changed = Vec::new();
        differences(&now.vmas, &then.vmas, |start, vma| changed.push(start..vma.end));
        differences(&now.regions, &then.regions, |number, _| {
            changed.push(region_start(number)..region_start(number + 1));
        });
        changed.extend(now.copied.symmetric_difference(&then.copied).map(|page| *page..page + PAGE));
        changed
    }
}

impl MemoryState {
    /// Becomes what `then` says: nothing is withheld of a machine that runs.
    pub fn return_to(&mut self, then: &MemoryState) {
        let MemoryState { account, chunks, objects, next_object, stored_pages, withheld: _ } = self;
        (*account, *next_object, *stored_pages) = (then.account, then.next_object, then.stored_pages);
        chunks.clone_from(&then.chunks);
        if *objects != then.objects {
            objects.clone_from(&then.objects);
        }
    }

    /// Shared objects that are others than they were, or not there on one side.
    pub fn changed_objects(&self, then: &MemoryState) -> BTreeSet<u64> {
        let mut changed = BTreeSet::new();
        differences(&self.objects, &then.objects, |number, _| {
            changed.insert(number);
        });
        changed
    }
}

/// Mappings that can be run, of those that lie in one of these ranges.
fn code_in(state: &SpaceState, ranges: &[Range<u64>]) -> impl Iterator<Item = Range<u64>> {
    let code = state.vmas.iter().filter(|(_, vma)| vma.protection.exec).map(|(start, vma)| *start..vma.end);
    code.filter(|run| ranges.iter().any(|range| range.start < run.end && run.start < range.end))
}

/// Calls `act` for the values that are in one of two maps only, or another one there.
fn differences<V: PartialEq>(now: &BTreeMap<u64, V>, then: &BTreeMap<u64, V>, mut act: impl FnMut(u64, &V)) {
    let only = |some: &BTreeMap<u64, V>, others: &BTreeMap<u64, V>, act: &mut dyn FnMut(u64, &V)| {
        for (key, value) in some {
            if others.get(key) != Some(value) {
                act(*key, value);
            }
        }
    };
    if now == then {
        return;
    }
    only(now, then, &mut act);
    only(then, now, &mut act);
}

/// Ranges in order, those that meet as one.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
