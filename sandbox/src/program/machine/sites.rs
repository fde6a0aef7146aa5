//! Breakpoints with conditions that are answered in the guest ([`Sites`]): when they are, and what becomes of a
//! program that leaves their code by an exit.

use super::Machine;
use super::exceptions::Trap;
use crate::host::IoMap;
use crate::machine::{RunEnd, RunError, RunOptions};
use crate::program::entry::Entry;
use crate::program::kernel::Kernel;
use crate::program::mm::{USER_END, patch};
use crate::program::patch::{Place, Site, Sites, restore};
use crate::ram::PAGE_SIZE;
use crate::vcpu::Exit;
use crate::x86::frame::Frame;
use crate::x86::vector;

impl Machine {
    /// Has the breakpoints with conditions answered in the guest at the next entry, if they can be. Not while the
    /// program is stepped, where the trap behind a step would be lost.
    pub(super) fn ready_sites(&mut self) -> Result<bool, RunError> {
        let rip = self.core.vcpu.regs().rip;
        let can = !self.debug.conditions.is_empty()
            && !self.stepper.on
            && !self.debug.steps()
            && !self.counts_branches()
            && self.core.host.io_map != IoMap::Ignored
            && !Entry::is_under_redirection(rip);
        if !can {
            return Ok(false);
        }
        let wanted = self.wanted_sites()?;
        let Kernel { entry, memory, space, .. } = &mut self.kernel;
        let sites = &mut self.debug.sites;
        let page = match sites.page() {
            Some(page) => page,
            None => {
                let page = memory.system.take_page()?;
                sites.set_page(page);
                page
            }
        };
        if !sites.are(&wanted) {
            if Sites::has(rip) {
                return Ok(false);
            }
            let code = sites.make(wanted);
            memory.system.clear(page);
            memory.system.write(page, &code);
        }
        if sites.is_empty() {
            return Ok(false);
        }
        entry.map_sites(memory, space, page)?;
        entry.redirect(memory, true);
        Ok(true)
    }

    /// The breakpoints with conditions whose instructions are in memory.
    fn wanted_sites(&self) -> Result<Vec<Site>, RunError> {
        let Kernel { space, memory, .. } = &self.kernel;
        let with_conditions = self
            .debug
            .conditions
            .iter()
            .filter(|(at, of)| !of.is_empty() && self.debug.breakpoints.contains(at));
        let mut wanted = Vec::new();
        for (address, conditions) in with_conditions {
            let mut site = Site { address: *address, conditions: conditions.clone(), code: [0; _] };
            let in_page = (PAGE_SIZE - (address % PAGE_SIZE as u64) as usize).min(site.code.len());
            let (first, second) = site.code.split_at_mut(in_page);
            let mut is_there = true;
            for (at, part) in [(*address, first), (address.wrapping_add(in_page as u64), second)] {
                if part.is_empty() {
                    continue;
                }
                match space.walk(memory, at).filter(|page| memory.ram.is_there(*page)) {
                    Some(page) => {
                        let offset = page * PAGE_SIZE as u64 + at % PAGE_SIZE as u64;
                        memory.ram.read(memory.ram.base() + offset, part)?;
                    }
                    None => is_there = false,
                }
            }
            if is_there {
                wanted.push(site);
            }
        }
        Ok(wanted)
    }

    /// The address of the breakpoint that an exception may be for: `hlt` is a #GP, and where a KVM emulates that or
    /// `int3`, it may be an invalid opcode.
    pub(super) fn debug_trap_at(&mut self, vector: u8, frame: &Frame) -> Result<Option<u64>, RunError> {
        let (at, is_trap) = match vector {
            vector::PROTECTION => (frame.rip, true),
            vector::BREAKPOINT => (frame.rip.wrapping_sub(1), self.is_site(frame.rip.wrapping_sub(1))?),
            vector::INVALID_OPCODE => (frame.rip, self.debug.passes != Some(frame.rip)),
            _ => (frame.rip, false),
        };
        Ok(is_trap.then_some(at))
    }

    /// Whether a breakpoint exception at this address is for a debugger's: the program has none there.
    pub(super) fn is_site(&mut self, address: u64) -> Result<bool, RunError> {
        let answers = self.breaks_at(address) && self.debug.sites.answers(address);
        Ok(answers && self.code(address)?.first() != Some(&patch::BREAKPOINT))
    }

    /// The program was left by no doing of its own. Where it was in a copy of an instruction, it is at the original.
    pub(super) fn leave_copy(&mut self, exit: &Exit) {
        let rip = self.core.vcpu.regs().rip;
        if Sites::has(rip)
            && matches!(exit, Exit::Signal | Exit::BareFault | Exit::MemoryFault { .. })
            && let Some(place) = self.debug.sites.place(rip)
        {
            self.restore_saved(place);
            self.core.vcpu.regs_mut().rip = place.rip();
        }
    }

    fn restore_saved(&mut self, place: Place) {
        if let Some((slot, register)) = place.saved(self.core.vcpu.regs_mut()) {
            *register = self.kernel.entry.slot(&self.kernel.memory, slot);
        }
    }

    /// An exception in the code of breakpoints: the program's own, in a copy of one of its instructions, or one
    /// because a condition could not be computed there.
    pub(super) fn exception_in_sites(
        &mut self,
        trap: &Trap,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let Trap { vector, rsp, frame, .. } = *trap;
        if let Some(place) = self.debug.sites.place(frame.rip) {
            self.restore_saved(place);
            let frame = Frame { rip: place.rip(), ..frame };
            self.kernel.entry.set_frame(&self.kernel.memory, vector, rsp, &frame);
            return self.exception_with(&Trap { frame, ..*trap }, options);
        }
        if vector == vector::PAGE_FAULT {
            let address = self.core.vcpu.sregs()?.cr2;
            if self.kernel.space.is_backed(&self.kernel.memory, address) {
                return self.page_fault(trap, options);
            }
        }
        let Kernel { entry, memory, .. } = &self.kernel;
        let (hit, saved) = (entry.interrupted(memory), entry.saved(memory));
        let at = hit.rip.wrapping_sub(1);
        if hit.rip < USER_END && self.is_site(at)? {
            restore(saved, self.core.vcpu.regs_mut());
            if let Some(end) = self.debug_trap(&Frame { rip: at, ..hit })? {
                return Ok(end);
            }
        }
        // The program has jumped there.
        self.exception_with(trap, options)
    }
}
