//! What the handler of replaced instructions must know of an address space: where files are executable, and
//! whether the clock page may be written.

use std::ops::Range;

use super::{Access, AddressSpace, Backing, Vma};
use crate::program::entry::RANGES_MAX;

/// Changes of code that are told apart.
const CHANGES_MAX: usize = 64;

impl Vma {
    /// Whether it is code of a file, in which instructions may be replaced.
    pub fn is_code(&self) -> bool {
        self.protection.exec && !matches!(self.backing, Backing::Anonymous)
    }
}

impl AddressSpace {
    /// Ranges where files are executable, ascending, as many as the handler takes; and whether they are
    /// others than at the last call.
    pub fn code(&mut self) -> (&[Range<u64>], bool) {
        let changed = self.code.is_none();
        let vmas = &self.state.vmas;
        let code = self.code.get_or_insert_with(|| {
            let mut ranges: Vec<Range<u64>> = Vec::new();
            for (start, vma) in vmas.iter().filter(|(_, vma)| vma.is_code()) {
                let full = ranges.len() == RANGES_MAX;
                match ranges.last_mut() {
                    Some(last) if last.end == *start => last.end = vma.end,
                    _ if full => break,
                    _ => ranges.push(*start..vma.end),
                }
            }
            ranges
        });
        (code, changed)
    }

    /// Whether the handler answers replaced instructions in all code of files: it takes as many ranges as there are.
    pub fn is_all_code_known(&mut self) -> bool {
        self.code().0.len() < RANGES_MAX
    }

    /// The address of the clock page, if the program has left it as it was.
    pub fn writable_clock_page(&self) -> Option<u64> {
        let page = self.state.image.clock_page;
        self.find(page).filter(|(_, vma)| vma.protection.allows(Access::Write)).map(|_| page)
    }

    /// Says where the clock page is.
    pub fn set_clock_page(&mut self, page: u64) {
        self.state.image.clock_page = page;
        self.code = None;
    }

    /// Forgets what was known of code, if this mapping, which comes or goes, is a part of it.
    pub(super) fn note_code(&mut self, start: u64, vma: &Vma) {
        if vma.is_code() || (start..vma.end).contains(&self.state.image.clock_page) {
            self.code = None;
        }
    }

    /// What may be run in a range is not what it was.
    pub(super) fn note_change_of_code(&mut self, range: Range<u64>) {
        add_change(&mut self.changed_code, range.clone());
        add_change(&mut self.code_to_restore, range);
    }

    /// What may be run is again what it was when it was put back last, or made: not what it has been since.
    pub(super) fn restore_code(&mut self) {
        for range in std::mem::take(&mut self.code_to_restore) {
            add_change(&mut self.changed_code, range);
        }
    }

    /// Where what may be run is not what it was at the last call.
    pub fn take_changed_code(&mut self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.changed_code)
    }
}

/// Adds a change to those that are told apart.
fn add_change(changes: &mut Vec<Range<u64>>, range: Range<u64>) {
    if changes.len() >= CHANGES_MAX {
        let all = changes.drain(..).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        changes.extend(all);
    }
    changes.push(range);
}
