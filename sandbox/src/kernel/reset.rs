//! Putting a bare-metal guest's machine back to what it was at one moment of its run, again and again.

use super::machine::Machine;
use super::state::KernelState;
use crate::host::thread::BlockedSignals;
use crate::machine::{Difference, Memory, RunError};
use crate::ram::{Mark, PageError, Was};

/// A moment of a guest's run that its machine is put back to.
#[derive(Debug)]
pub struct ResetPoint {
    state: KernelState,
    memory: Memory,
    mark: Mark,
}

impl ResetPoint {
    /// The state then.
    pub fn state(&self) -> &KernelState {
        &self.state
    }

    /// Pages that are copied back each time.
    pub fn hot_pages(&self) -> usize {
        self.mark.hot_pages()
    }
}

/// What a page was in this memory.
fn was(memory: &Memory, page: u64) -> Was {
    memory.checkpoint().map_or(Was::InSource, |kept| kept.was(page))
}

impl Machine {
    /// Marks this moment of the run, to which [`Machine::reset_to`] puts the machine back. Nothing changes for the guest.
    /// An earlier mark is over.
    ///
    /// # Errors
    /// As [`Machine::state`].
    pub fn reset_point(&mut self) -> Result<ResetPoint, RunError> {
        let (state, memory) = self.checkpoint()?;
        Ok(ResetPoint { state, memory, mark: self.ram.mark()? })
    }

    /// Puts the machine back to the moment that was marked last, whatever it did since and however its run ended. What
    /// was counted goes on.
    ///
    /// # Errors
    /// When KVM or the host refuses; the machine cannot be used after that.
    pub fn reset_to(&mut self, point: &mut ResetPoint) -> Result<(), RunError> {
        self.ram.check_mark(&point.mark)?;
        // What KVM has begun would else be finished in the state that is put in.
        self.complete(&BlockedSignals::new())?;
        let ResetPoint { state, memory, mark } = point;
        let Machine {
            core,
            ram,
            devices,
            world: _,
            start: _,
            search: _,
            out_retires: _,
            end,
            pending,
            tail,
            first_read_done,
            trap_is_set,
            kicked_at,
            kicked_in_vain,
            raw: _,
        } = self;
        ram.put_back(mark, &|page| was(memory, page))?;
        if core.host.bare_metal().is_ok_and(|host| host.shadow_paging) {
            // KVM has seen nothing of what was put back into the guest's page tables.
            ram.forget_tables()?;
        }
        devices.return_to(&state.devices);
        core.vcpu.set_state(&state.vcpu)?;
        (core.exits, core.memory) = (state.exits, memory.clone());
        core.forget_faults();
        (*end, *pending, *kicked_at) = (None, None, None);
        (*first_read_done, *trap_is_set, *kicked_in_vain) = (false, false, 0);
        tail.clear();
        self.set_double_fault_trap()?;
        Ok(())
    }

    /// Looks for anything of the machine that is not what it was at the moment that it was put back to just now: for
    /// tests of that.
    ///
    /// # Errors
    /// As [`Machine::state`].
    pub fn difference_from(&mut self, point: &ResetPoint) -> Result<Option<Difference>, RunError> {
        let now = self.state()?;
        if let Some(part) = now.differs_in(&point.state).map_err(PageError::from)? {
            return Ok(Some(Difference::State(part)));
        }
        for page in 0..self.ram.pages() {
            if let Some(offset) = self.ram.differs(page, was(&point.memory, page))? {
                return Ok(Some(Difference::Memory { page, offset }));
            }
        }
        Ok(None)
    }
}
