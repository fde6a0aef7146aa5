//! Counting a program's branches between two exits, by running it in copies of its code
//! ([`crate::program::translate`]): when that is done, and what becomes of a program that leaves them by an exit.
//!
//! Where it runs in its own code all the same, instruction by instruction as it is stepped, its branches are counted
//! as well. Of code that is not translated none are, up to the next exit: so the count follows from the program
//! alone.

use std::collections::{BTreeMap, BTreeSet};

use super::Machine;
use super::debug::Halt;
use super::delivery::Resume;
use super::exceptions::Trap;
use iced_x86::Instruction;

use crate::exit::ExitKind;
use crate::machine::{RunEnd, RunError, RunOptions};
use crate::program::clock::EXIT_STEP;
use crate::program::coverage::{ConstantMemory, Edge, Modules, Way};
use crate::program::entry::Entry;
use crate::program::exception;
use crate::program::kernel::Kernel;
use crate::program::mm::{Access, FaultAnswer, Memory, USER_END};
use crate::program::translate::{
    Breakpoints, Caches, Edges, Landing, Leaves, is_counted, is_inside, is_translated, way,
};
use crate::ram::PageError;
use crate::vcpu::Exit;
use crate::vcpu::registers::ExtendedState;
use crate::x86::flags::rflags::{RESUME_FLAG, TRAP_FLAG};
use crate::x86::frame::Frame;
use crate::x86::vector;

/// Virtual time that a branch takes, nanoseconds.
const BRANCH_NS: u64 = 1;

/// What is known of branches since the last exit.
#[derive(Debug, Default)]
pub(super) struct Branches {
    caches: Caches,
    /// The ways that are counted, if any are.
    edges: Option<Box<Edges>>,
    /// Branches since the last compared exit.
    done: u64,
    /// Steps since the last of these, as far as the program was stepped.
    since: u64,
    /// The program was entered in a copy. Whoever is found in one else has jumped there.
    entered: bool,
    /// What the copies were told to count then.
    told: Option<u64>,
    /// Some were not counted.
    lost: bool,
    /// Branches between the last two exits, if all were counted.
    before: Option<u64>,
    /// The program came to code that is not translated: nothing is counted up to the next exit.
    suspended: bool,
    /// Where an indirect branch went that did not come to a copy yet: it is to be found there, and counted.
    missed: Option<u64>,
    /// The program was sent to where it leaves at once, and came there by no branch.
    sent_away: bool,
    /// One instruction is stepped, since it is not copied.
    steps: bool,
    /// An exception is about to be told to the program, which has run an instruction where it is.
    awaits_exception: bool,
}

impl Branches {
    /// An exit was answered.
    pub fn exit(&mut self) {
        self.before = (!self.lost).then_some(self.done);
        (self.done, self.since, self.lost, self.suspended) = (0, 0, false, false);
    }

    /// The machine is put back to an exit. Of address spaces that are gone, which `stays` does not know, there are no copies
    /// any more.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn restart(&mut self, memory: &mut Memory, stays: impl Fn(u32) -> bool) -> Result<(), PageError> {
        let (mut caches, edges) = (std::mem::take(&mut self.caches), self.edges.take());
        caches.retain(memory, stays)?;
        *self = Branches { caches, edges, ..Branches::default() };
        Ok(())
    }

    /// Whether an instruction is to be stepped.
    pub fn steps(&self) -> bool {
        self.steps
    }

    /// An instruction was stepped.
    pub fn stepped(&mut self) {
        self.steps = false;
    }
}

impl Machine {
    /// Counts from here on which ways control flow takes in the code of these files, of all programs. Nothing changes for
    /// them. In code that can be written nothing is counted.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn count_edges(&mut self, modules: Modules) -> Result<(), RunError> {
        let before = self.branches.edges.take().map(|edges| *edges);
        self.branches.edges = Some(Box::new(Edges::new(modules, before, &self.kernel.memory)));
        Ok(self.branches.caches.clear(&mut self.kernel)?)
    }

    /// How often each way was gone since the last call, by its number; 255 is as often or more. Ways have numbers as they
    /// are met first.
    pub fn take_counts(&self, counts: &mut Vec<u8>) {
        counts.clear();
        if let Some(edges) = &self.branches.edges {
            edges.take(&self.kernel.memory, counts);
        }
    }

    /// The ways that were met, by number.
    pub fn edges(&self) -> Vec<Edge> {
        self.branches.edges.as_ref().map_or(Vec::new(), |edges| edges.met())
    }

    /// Whether there are as many ways as can be counted.
    pub fn edges_are_full(&self) -> bool {
        self.branches.edges.as_ref().is_some_and(|edges| edges.is_full())
    }

    /// What the running process has of these files that it cannot write there.
    pub fn constant_memory(&self, modules: &Modules) -> Vec<ConstantMemory> {
        let all = self.kernel.space.mappings_in(&(0..USER_END)).filter(|(_, vma)| !vma.protection.write);
        let of = all.filter_map(|(start, vma)| {
            let file = std::str::from_utf8(&vma.name).ok().filter(|name| modules.has(name))?.into();
            let offset = vma.backing.offset()?;
            Some(ConstantMemory { file, offset, addresses: start..vma.end, is_code: vma.protection.exec })
        });
        of.collect()
    }

    /// Branches since the last compared exit, if all of them were counted.
    pub fn branches(&self) -> Option<u64> {
        (!self.branches.lost).then_some(self.branches.done)
    }

    /// Branches between the last two compared exits, if all of them were counted.
    pub fn branches_before_exit(&self) -> Option<u64> {
        self.branches.before
    }

    /// Steps since the last of these branches, or since the exit if there is none, as far as the program was stepped.
    pub fn steps_since_branch(&self) -> u64 {
        self.branches.since
    }

    /// The machine goes on for one that had made so many branches since its last compared exit, if that is known, and
    /// so many steps since.
    pub fn set_branches(&mut self, branches: Option<u64>, steps: u64) {
        (self.branches.lost, self.branches.since) = (branches.is_none(), steps);
        self.branches.done = branches.unwrap_or(0);
    }

    /// Whether branches are counted from here on.
    pub(super) fn counts_branches(&self) -> bool {
        self.needs_branches() || self.branches.edges.is_some() && !self.branches.suspended
    }

    /// Whether it matters how many they are.
    pub(super) fn needs_branches(&self) -> bool {
        let wanted = self.debug.counts_branches() || self.kernel.sched.counts_branches();
        wanted && !self.branches.suspended
    }

    /// Branches until the program is to be left.
    fn branches_left(&self) -> u64 {
        let slice = match self.kernel.sched.counts_branches() {
            true => self.kernel.sched.branches_left(),
            false => u64::MAX,
        };
        self.debug.branches.map_or(u64::MAX, |most| most.saturating_sub(self.branches.done)).min(slice)
    }

    /// So many branches were made.
    fn made_branches(&mut self, branches: u64) {
        self.branches.done = self.branches.done.saturating_add(branches);
        self.branches.since = 0;
        if self.kernel.sched.counts_branches() {
            self.kernel.sched.count_branches(branches);
        }
    }

    /// The program is about to be entered: in copies, if its branches are counted.
    pub(super) fn enter_copies(&mut self) -> Result<(), RunError> {
        let regs = *self.core.vcpu.regs();
        let counts = self.counts_branches();
        self.branches.lost |= !counts && !self.branches.suspended;
        if !counts || self.stepper.on || regs.rflags & TRAP_FLAG != 0 {
            self.branches.entered = false;
            if self.branches.missed.take_if(|missed| *missed == regs.rip).is_some() {
                self.count_way(regs.rip, Way::Entered)?;
            }
            return Ok(());
        }
        let left = self.branches_left();
        if regs.rip >= USER_END || std::mem::take(&mut self.branches.awaits_exception) {
            // In a stub, on the way to a copy or into the program's own code, or to one.
            if let Some(cache) = self.branches.caches.of(self.kernel.space.id()) {
                cache.set_left(&self.kernel.memory, left.max(1));
                self.branches.told = Some(left.max(1));
            }
            return Ok(());
        }
        let kernel = &mut self.kernel;
        let breakpoints = match kernel.pid() == self.debug.process {
            true => Breakpoints { at: &self.debug.breakpoints, conditions: &self.debug.conditions },
            false => Breakpoints { at: &BTreeSet::new(), conditions: &BTreeMap::new() },
        };
        let cache = self.branches.caches.make(kernel, breakpoints)?;
        self.branches.entered = true;
        if left == 0 {
            self.core.vcpu.regs_mut().rip = cache.leave_at(&kernel.memory, regs.rip);
            self.branches.sent_away = true;
            return Ok(());
        }
        let Some(copy) = cache.block(kernel, regs.rip, self.branches.edges.as_deref_mut())? else {
            (self.branches.suspended, self.branches.entered) = (true, false);
            self.core.stats.uncounted += 1;
            return Ok(());
        };
        let missed = self.branches.missed.take_if(|missed| *missed == regs.rip).is_some();
        if missed {
            cache.add_target(&kernel.memory, regs.rip, copy);
        }
        cache.set_left(&kernel.memory, left);
        self.branches.told = Some(left);
        self.core.vcpu.regs_mut().rip = if missed { copy.indirect } else { copy.direct };
        Ok(())
    }

    /// The program was left: what it has counted is known.
    pub(super) fn left_copies(&mut self) {
        let Some(told) = self.branches.told.take() else { return };
        if let Some(cache) = self.branches.caches.of(self.kernel.space.id()) {
            // The word is in the program's reach.
            let left = cache.left(&self.kernel.memory).min(told);
            self.made_branches(told - left);
        }
    }

    /// What the program is, at an instruction of a copy.
    fn landing(&self, rip: u64) -> Option<(Landing, u64)> {
        let is_copy = self.branches.entered && is_inside(rip);
        let cache = self.branches.caches.of(self.kernel.space.id()).filter(|_| is_copy)?;
        cache.landing(&self.kernel.memory, rip)
    }

    /// The address of the instruction that a program is at, wherever it runs.
    pub(super) fn program_rip(&self, rip: u64) -> u64 {
        self.landing(rip).map_or(rip, |(_, at)| at)
    }

    /// The program was left by no doing of its own. Where it was in a copy, it is at the original.
    pub(super) fn leave_copies(&mut self, exit: &Exit) -> Result<(), RunError> {
        let rip = self.core.vcpu.regs().rip;
        let foreign = matches!(exit, Exit::Signal | Exit::BareFault | Exit::MemoryFault { .. });
        // An exception that is about to be told would be told of the original, or be lost.
        let landing = self.landing(rip);
        let at = landing.as_ref().map_or(rip, |(_, at)| *at);
        let is_told = foreign && (landing.is_some() || self.counts_branches()) && self.has_exception(at)?;
        self.branches.awaits_exception = is_told && landing.is_none();
        if foreign
            && !is_told
            && let Some((landing, at)) = landing
        {
            let regs = *self.core.vcpu.regs();
            let frame = Frame { rip, rsp: regs.rsp, rflags: regs.rflags, ..Frame::default() };
            let frame = self.land(&landing, at, &frame)?;
            let regs = self.core.vcpu.regs_mut();
            (regs.rip, regs.rsp, regs.rflags) = (frame.rip, frame.rsp, frame.rflags);
        }
        Ok(())
    }

    /// Gives the program its registers back. Its frame, where this one is the copy's: a branch to where nothing can be is
    /// left to the CPU, which is to find it.
    fn land(&mut self, landing: &Landing, at: u64, frame: &Frame) -> Result<Frame, RunError> {
        let mut program = Frame { rip: at, ..*frame };
        if let Some(cache) = self.branches.caches.of(self.kernel.space.id()) {
            program = cache.restore(&self.kernel.memory, landing, self.core.vcpu.regs_mut(), at, frame);
        }
        if exception::unreachable(at).is_some() && landing.is_target() {
            if !landing.to_count {
                self.branches.done = self.branches.done.saturating_sub(1);
                if self.kernel.sched.counts_branches() {
                    self.kernel.sched.take_back_branch();
                }
            }
            self.branches.steps = true;
            let cache = self.branches.caches.of(self.kernel.space.id());
            let from = cache.and_then(|cache| cache.branch(&self.kernel.memory)).unwrap_or(at);
            return Ok(Frame { rip: from, rsp: frame.rsp.wrapping_sub(self.stack_taken(from)?), ..*frame });
        }
        if landing.to_count {
            self.made_branches(1);
        }
        if landing.to_enter && !std::mem::take(&mut self.branches.sent_away) {
            self.branches.missed = Some(at);
        }
        Ok(program)
    }

    /// The vector state and the x87's, whose last instruction is the program's own.
    pub(super) fn extended_state(&self) -> Result<ExtendedState, RunError> {
        let mut state = self.core.vcpu.extended_state()?;
        let pointer = state.x87_pointer();
        let cache = self.branches.caches.of(self.kernel.space.id()).filter(|_| is_inside(pointer));
        if let Some((_, at)) = cache.and_then(|cache| cache.landing(&self.kernel.memory, pointer)) {
            state.set_x87_pointer(at);
        }
        Ok(state)
    }

    /// Bytes that an indirect branch adds to RSP.
    fn stack_taken(&mut self, branch: u64) -> Result<u64, RunError> {
        Ok(self.instruction(branch)?.stack_pointer_increment() as i64 as u64)
    }

    /// An exception in a copy: the program's own, at the original, or one because the copy ends there.
    pub(super) fn exception_in_copies(
        &mut self,
        trap: &Trap,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let Trap { vector, rsp, frame, .. } = *trap;
        let Some((landing, at)) = self.landing(frame.rip) else {
            return self.jumped_to_copies(&frame, options);
        };
        let frame = self.land(&landing, at, &frame)?;
        if landing.is_condition() {
            return self.exception_in_condition(&Trap { frame, ..*trap }, options);
        }
        self.kernel.entry.set_frame(&self.kernel.memory, vector, rsp, &frame);
        // Where a KVM emulates it, `hlt` may be an invalid opcode.
        let is_hlt = matches!(vector, vector::PROTECTION | vector::INVALID_OPCODE);
        if !is_hlt || landing.leaves == Leaves::Not {
            return self.exception_with(&Trap { frame, ..*trap }, options);
        }
        self.take_frame(&Frame { rflags: frame.rflags & !RESUME_FLAG, ..frame });
        match landing.leaves {
            Leaves::Over if !self.branches.steps => return self.branches_are_made(&frame, options),
            Leaves::Step => {
                self.branches.steps = true;
                // It may store where the last instruction of the x87 was.
                let state = self.extended_state()?;
                self.core.vcpu.set_extended_state(&state)?;
            }
            _ => {}
        }
        self.resume(Resume::Full)?;
        Ok(None)
    }

    /// A condition of a breakpoint could not be computed in the guest: the monitor does it, once the memory that it reads
    /// is there.
    fn exception_in_condition(
        &mut self,
        trap: &Trap,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let Trap { vector, rsp, frame, .. } = *trap;
        self.kernel.entry.set_frame(&self.kernel.memory, vector, rsp, &frame);
        if vector == vector::PAGE_FAULT {
            let address = self.core.vcpu.sregs()?.cr2;
            if self.kernel.space.is_backed(&self.kernel.memory, address) {
                return self.page_fault(trap, options);
            }
        }
        match self.debug_trap(&frame)? {
            Some(end) => Ok(end),
            None => self.exception_with(trap, options),
        }
    }

    /// The program has jumped to where nothing of its own can be.
    fn jumped_to_copies(
        &mut self,
        frame: &Frame,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.take_frame(&Frame { rflags: frame.rflags & !RESUME_FLAG, ..*frame });
        self.bad_access(FaultAnswer::NotMapped, Access::Exec, frame.rip, options)
    }

    /// As many branches were made as were asked for.
    fn branches_are_made(
        &mut self,
        frame: &Frame,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        if self.debug.branches.is_some_and(|most| most <= self.branches.done) {
            return self.halt(Halt::Branched, frame).map(Some);
        }
        self.end_slice(frame.rip, options)?;
        self.go_on(options)
    }

    /// The running task's time slice is over.
    pub(super) fn end_slice(&mut self, rip: u64, options: &mut RunOptions<'_>) -> Result<(), RunError> {
        self.kernel.sched.slice_out(self.kernel.tid());
        self.core.stats.exits.preemptions += 1;
        self.pass_time(self.branches.done.saturating_mul(BRANCH_NS).max(EXIT_STEP))?;
        self.record(ExitKind::Sliced { branches: self.branches.done }, rip, 0, options)
    }

    /// The handler of an exception is left for the program's own code: it goes on in copies.
    pub(super) fn goes_on_in_copies(&mut self, vector: u8) -> Result<(), RunError> {
        let regs = self.core.vcpu.regs();
        let is_there = Entry::vector_at(regs.rip) == Some(vector) || Entry::is_handler(regs.rip);
        if !self.counts_branches() || !is_there {
            return Ok(());
        }
        let Some((_, frame)) = self.kernel.entry.frame(&self.kernel.memory, vector, regs.rsp) else {
            return Ok(());
        };
        if frame.rip < USER_END && frame.rflags & TRAP_FLAG == 0 {
            self.take_frame(&frame);
            self.resume(Resume::Full)?;
        }
        Ok(())
    }

    /// An instruction was stepped, to here: counts it if it was a branch. Whether the task's time slice is over by
    /// that.
    pub(super) fn count_stepped_branch(&mut self, frame: &Frame) -> Result<bool, RunError> {
        self.branches.stepped();
        self.branches.since += 1;
        if !self.counts_branches() {
            return Ok(false);
        }
        let runs = self
            .kernel
            .space
            .find(frame.rip)
            .is_none_or(|(_, vma)| is_translated(vma) || !vma.protection.exec);
        if !runs {
            self.branches.suspended = true;
        }
        let branch = self.instruction(self.stepper.at.0)?;
        self.count_stepped_way(&branch, frame.rip)?;
        if !is_counted(&branch, frame.rip) {
            return Ok(false);
        }
        self.made_branches(1);
        Ok(self.kernel.sched.counts_branches() && self.kernel.sched.branches_left() == 0)
    }
    /// An instruction was stepped, and the program goes on at an address: counts the way, as a copy of it would.
    fn count_stepped_way(&mut self, branch: &Instruction, to: u64) -> Result<(), RunError> {
        way(branch, to).map_or(Ok(()), |(at, way)| self.count_way(at, way))
    }

    /// Counts a way that no copy has counted.
    fn count_way(&mut self, at: u64, way: Way) -> Result<(), RunError> {
        let Some(edges) = &mut self.branches.edges else { return Ok(()) };
        let Kernel { memory, space, .. } = &mut self.kernel;
        if let Some((start, vma)) = space.find(at).filter(|(_, vma)| is_translated(vma))
            && let Some(offset) = vma.backing.offset()
        {
            edges.add(memory, &vma.name, offset.wrapping_add(at - start), way)?;
        }
        Ok(())
    }
}
