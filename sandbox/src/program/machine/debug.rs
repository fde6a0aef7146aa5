//! What a debugger wants of a run: to stop before instructions, and behind some number of steps.
//!
//! A breakpoint is a `hlt` in the code, which raises #GP at CPL 3, and unlike `int3` it is never taken for
//! one of the monitor's own; one with conditions is an `int3`, where those are answered in the guest. It stands
//! there while the guest runs and at no other time: whoever reads the code then, the monitor for a system call of
//! the program or the debugger, sees what the program has there.
//!
//! What is watched lies in pages that the program may not write meanwhile. An instruction that does so all the
//! same is let through alone, and what it changed is looked at behind it. For what instructions only read, see
//! [`super::access`].
//!
//! Nothing of this is part of the machine's state.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use super::Machine;
use super::access::{Accesses, pages_of};
use super::calls::Calls;
use super::delivery::Resume;
use crate::machine::{RunEnd, RunError};
use crate::program::kernel::Kernel;
use crate::program::mm::{Access, patch};
use crate::program::patch::{Condition, Sites};
use crate::program::process::PROGRAM_PID;
use crate::ram::PAGE_SIZE;
use crate::vcpu::InFlight;
use crate::x86::flags::rflags::RESUME_FLAG;
use crate::x86::frame::Frame;

/// `hlt`.
const TRAP: u8 = 0xf4;

pub(super) const PAGE: u64 = PAGE_SIZE as u64;

/// Why a run came back paused, where a debugger asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The first instruction behind an exit is about to run: signals are delivered, and it is known which task
    /// runs.
    Entry,
    /// The instruction at this address, which has a breakpoint, is about to run.
    Breakpoint(u64),
    /// As many steps were made as were asked for.
    Stepped,
    /// As many branches were made as were asked for.
    Branched,
    /// The program has made no exit for as long as was asked for. Where it is depends on the host.
    Quiet,
    /// The instruction that ran last changed what is watched at these addresses, or used it in a way that is
    /// looked for.
    Watched {
        /// Where it is.
        addresses: Range<u64>,
        /// Whether it was changed.
        changed: bool,
    },
    /// The first instruction behind an exit is about to run, and what is watched has changed since the last.
    WrittenByExit(Range<u64>),
    /// An instruction is about to write to a page in which something is watched, for the last time that was
    /// asked for.
    Trap,
    /// Behind an exit, or before another task runs on, this signal is about to be delivered.
    Signal(u32),
    /// The system call of this number is about to be made.
    Called(u64),
    /// The system call of this number has come back. Signals are not delivered yet.
    Returned(u64),
}

/// Memory of the process that is looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Watched {
    addresses: Range<u64>,
    /// What was there when it was looked at last.
    content: Vec<u8>,
}

/// What a debugger wants of the next runs.
#[derive(Debug)]
pub struct Debug {
    /// Stops before the instructions at these addresses, but for the one that a run begins with while the
    /// program is stepped, or that it was stopped before already.
    pub breakpoints: BTreeSet<u64>,
    /// What must hold at those that stop only then: one of these. Where there is nothing, nothing must.
    pub conditions: BTreeMap<u64, Vec<Condition>>,
    /// The process that they are in.
    pub process: u32,
    /// Stops before the first instruction behind an exit.
    pub entry: bool,
    /// Stops when so many steps have been made since the last compared exit: the program is single-stepped. A
    /// step is an instruction, or one round of a repeated one.
    pub steps: Option<u64>,
    /// Stops when so many branches have been made since the last compared exit.
    pub branches: Option<u64>,
    /// Comes back when there was no exit for so long.
    pub patience: Option<Duration>,
    /// Branches are counted, whether there is a number to stop at or not.
    pub counts: bool,
    /// Stops before an instruction is let through for so many times since the run's start or the last exit,
    /// instead of looking at what it changed.
    pub trap: Option<u64>,
    /// Stops before one of the next instructions: wherever that can be, behind an exit at the latest.
    pub soon: bool,
    /// Stops before a signal is delivered, but for one that a run begins with.
    pub signals: bool,
    /// Stops before these system calls, and behind them.
    pub calls: Calls,
    /// The task that was stopped before a call last, and where that returns to.
    pub(super) called: Option<(u32, u64)>,
    /// How often since then one was let through, or was about to be.
    pub traps: u64,
    /// Why the last run came back.
    pub halt: Option<Halt>,
    watched: Vec<Watched>,
    /// Of which instructions, and not only changes, are looked for.
    pub(super) accesses: Accesses,
    /// The pages that an instruction writes to, or uses, which is let through.
    pub(super) lets_through: BTreeSet<u64>,
    /// The address of the instruction that runs next, where that is not to stop for its breakpoint.
    pub(super) passes: Option<u64>,
    /// No instruction has run since the last exit.
    behind_exit: bool,
    /// What stands in memory: address there, what belongs there, and what stands there.
    inserted: Vec<(u64, u8, u8)>,
    /// The breakpoints that are answered in the guest.
    pub(super) sites: Sites,
    /// The handler of breakpoints goes to them.
    redirected: bool,
    /// Times that the monitor evaluated conditions itself, since that was set to 0.
    pub judged: u64,
}

impl Default for Debug {
    fn default() -> Debug {
        Debug {
            breakpoints: BTreeSet::new(),
            conditions: BTreeMap::new(),
            process: PROGRAM_PID,
            entry: false,
            steps: None,
            branches: None,
            patience: None,
            counts: false,
            trap: None,
            soon: false,
            signals: false,
            calls: Calls::None,
            called: None,
            traps: 0,
            halt: None,
            watched: Vec::new(),
            accesses: Accesses::default(),
            lets_through: BTreeSet::new(),
            passes: None,
            behind_exit: true,
            inserted: Vec::new(),
            sites: Sites::default(),
            redirected: false,
            judged: 0,
        }
    }
}

impl Debug {
    /// Whether anything is to be looked for while the program is not stepped.
    pub(super) fn is_idle(&self) -> bool {
        self.breakpoints.is_empty() && self.watched.is_empty() && self.accesses.is_empty() && !self.entry
    }

    /// An exit was answered.
    pub(super) fn exit(&mut self) {
        self.behind_exit = true;
        self.traps = 0;
        self.lets_through.clear();
        self.passes = None;
    }

    /// Whether the next instruction is to be stepped.
    pub(super) fn steps(&self) -> bool {
        self.steps.is_some() || !self.lets_through.is_empty() || self.passes.is_some()
    }

    /// Whether branches are counted.
    pub(super) fn counts_branches(&self) -> bool {
        self.counts || self.branches.is_some()
    }

    fn pages(&self) -> BTreeSet<u64> {
        let pages = |watched: &Watched| pages_of(&watched.addresses);
        self.watched.iter().flat_map(pages).collect()
    }
}

impl Machine {
    /// Whether no instruction has run since the last compared exit.
    pub fn is_behind_exit(&self) -> bool {
        self.debug.behind_exit
    }

    /// Steps that were made since the last compared exit, as far as the program was stepped since.
    pub fn steps(&self) -> u64 {
        self.stepper.steps
    }

    /// The machine goes on for one that had made so many steps since its last compared exit, and was about to
    /// make the next.
    pub fn set_steps(&mut self, steps: u64) {
        self.stepper.steps = steps;
        self.debug.behind_exit = false;
    }

    /// Watches other memory from now on: a run stops where it changes.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn watch(&mut self, ranges: &[Range<u64>]) -> Result<(), RunError> {
        let before = self.debug.pages();
        let watched = |addresses: &Range<u64>| Watched { addresses: addresses.clone(), content: Vec::new() };
        self.debug.watched = ranges.iter().map(watched).collect();
        self.debug.lets_through.clear();
        for page in before.difference(&self.debug.pages()) {
            self.allow_writes(*page)?;
        }
        self.changed();
        Ok(())
    }

    /// Lets the program write to a page again, where its mapping does.
    fn allow_writes(&self, page: u64) -> Result<(), RunError> {
        let Kernel { space, memory, process, .. } = &self.kernel;
        if process.id() == self.debug.process {
            space.set_writable(memory, page, true)?;
        }
        Ok(())
    }

    /// What is watched and has changed since it was looked at last.
    pub fn changed(&mut self) -> Option<Range<u64>> {
        if self.kernel.pid() != self.debug.process {
            return None;
        }
        let Kernel { space, memory, .. } = &self.kernel;
        let mut changed = None;
        for Watched { addresses, content } in &mut self.debug.watched {
            let mut now = vec![0; (addresses.end - addresses.start) as usize];
            // What is not mapped is as good as zeros.
            if space.peek(memory, addresses.start, &mut now).is_err() {
                now.fill(0);
            }
            if now != *content {
                if !content.is_empty() {
                    changed.get_or_insert(addresses.clone());
                }
                *content = now;
            }
        }
        changed
    }

    /// The program is about to be entered. Some when the run stops here.
    pub(super) fn begin_entry(&mut self) -> Result<Option<RunEnd>, RunError> {
        let behind_exit = std::mem::take(&mut self.debug.behind_exit);
        if self.debug.is_idle() {
            return Ok(None);
        }
        if behind_exit && let Some(changed) = self.changed() {
            self.debug.halt = Some(Halt::WrittenByExit(changed));
            return Ok(Some(RunEnd::Paused));
        }
        let general = self.kernel.task.regs.general;
        if behind_exit && (self.debug.entry || self.stops_at(&general)?) {
            self.debug.halt = Some(Halt::Entry);
            return Ok(Some(RunEnd::Paused));
        }
        if self.kernel.pid() != self.debug.process {
            return Ok(None);
        }
        self.close_pages()?;
        let clock = self.kernel.space.state.image.clock_page;
        let closed = self.debug.accesses.pages();
        for page in self.debug.pages() {
            // The clock's is written by the handler of breakpoints, too: what changes there is seen at exits.
            if page != clock && !closed.contains(&page) && !self.debug.lets_through.contains(&page) {
                self.kernel.space.set_writable(&self.kernel.memory, page, false)?;
            }
        }
        Ok(None)
    }

    /// Puts the breakpoints into the program's code, where that is in memory.
    pub(super) fn put_breakpoints(&mut self) -> Result<(), RunError> {
        if self.debug.breakpoints.is_empty() || self.kernel.pid() != self.debug.process {
            return Ok(());
        }
        // A debugger's step goes on from there. Whoever else steps has not been stopped there yet: KVM may have been
        // interrupted before it told of the trap.
        let stepped = || self.debug.steps().then(|| self.core.vcpu.regs().rip);
        let skip = self.debug.passes.or_else(stepped);
        self.debug.redirected = self.ready_sites()?;
        let ram = &self.kernel.memory.ram;
        for address in self.debug.breakpoints.iter().copied().filter(|address| Some(*address) != skip) {
            let Some(page) = self.kernel.space.walk(&self.kernel.memory, address) else { continue };
            if !ram.is_there(page) {
                continue;
            }
            let at = ram.base() + page * PAGE_SIZE as u64 + address % PAGE_SIZE as u64;
            let mut byte = [0];
            ram.read(at, &mut byte)?;
            let in_guest = self.debug.redirected && self.debug.sites.answers(address);
            let trap = if in_guest { patch::BREAKPOINT } else { TRAP };
            ram.write(at, &[trap])?;
            self.debug.inserted.push((at, byte[0], trap));
        }
        Ok(())
    }

    /// The program was left: takes the breakpoints out again.
    pub(super) fn end_entry(&mut self) -> Result<(), RunError> {
        if std::mem::take(&mut self.debug.redirected) {
            self.kernel.entry.redirect(&self.kernel.memory, false);
        }
        let ram = &self.kernel.memory.ram;
        for (at, byte, trap) in self.debug.inserted.drain(..).rev() {
            let mut now = [0];
            ram.read(at, &mut now)?;
            // The program may have written there itself.
            if now[0] == trap {
                ram.write(at, &[byte])?;
            }
        }
        Ok(())
    }

    /// Whether an exception is on its way to the program, which is at this address.
    pub(super) fn has_exception(&mut self, rip: u64) -> Result<bool, RunError> {
        let breakpoint = rip.wrapping_sub(1);
        Ok(match self.core.vcpu.exception()? {
            InFlight::No => false,
            InFlight::Yes => true,
            InFlight::IfBehindBreakpoint => {
                self.debug.breakpoints.contains(&breakpoint)
                    || self.code(breakpoint)?.first() == Some(&patch::BREAKPOINT)
            }
        })
    }

    /// A step was made, to this frame. Some when the run stops here.
    pub(super) fn debug_step(&mut self, frame: &Frame) -> Result<Option<RunEnd>, RunError> {
        let through = !std::mem::take(&mut self.debug.lets_through).is_empty();
        let changed = if through { self.changed() } else { None };
        let used = self.debug.accesses.take_hit().filter(|_| through);
        let stops = changed.is_none() && used.is_none() && self.stops_at(&self.general_at(frame))?;
        self.debug.passes = (!stops && self.breaks_at(frame.rip)).then_some(frame.rip);
        let halt = match (changed, used, self.debug.steps) {
            (Some(addresses), ..) => Halt::Watched { addresses, changed: true },
            (None, Some(addresses), _) => Halt::Watched { addresses, changed: false },
            _ if stops => Halt::Breakpoint(frame.rip),
            (.., Some(steps)) if self.stepper.steps >= steps => Halt::Stepped,
            _ if self.debug.branches.is_some_and(|most| self.branches().is_some_and(|done| most <= done)) => {
                Halt::Branched
            }
            _ => return Ok(None),
        };
        self.halt(halt, frame).map(Some)
    }

    /// A #GP at this frame: some when it is a breakpoint of the debugger. What has to go on then is inside.
    pub(super) fn debug_trap(&mut self, frame: &Frame) -> Result<Option<Option<RunEnd>>, RunError> {
        if !self.breaks_at(frame.rip) {
            return Ok(None);
        }
        if self.stops_at(&self.general_at(frame))? {
            return self.halt(Halt::Breakpoint(frame.rip), frame).map(|end| Some(Some(end)));
        }
        self.debug.passes = Some(frame.rip);
        self.take_frame(&Frame { rflags: frame.rflags & !RESUME_FLAG, ..*frame });
        self.resume(Resume::Full)?;
        Ok(Some(None))
    }

    /// A page fault at this frame: some when it is for what is watched. What has to go on then is inside.
    pub(super) fn watch_trap(
        &mut self,
        address: u64,
        access: Access,
        frame: &Frame,
    ) -> Result<Option<Option<RunEnd>>, RunError> {
        let page = address / PAGE * PAGE;
        let watches = !self.debug.watched.is_empty() || !self.debug.accesses.is_empty();
        if !watches || self.kernel.pid() != self.debug.process {
            return Ok(None);
        }
        let Kernel { space, memory, .. } = &self.kernel;
        if !space.find(address).is_some_and(|(_, vma)| vma.protection.allows(access)) {
            return Ok(None);
        }
        let is_write = access == Access::Write && self.debug.pages().contains(&page);
        let allowed = is_write && space.set_writable(memory, page, true)?;
        if !self.open_page(page, access, frame)? && !allowed {
            return Ok(None);
        }
        // One instruction may write to several.
        if self.debug.lets_through.is_empty() {
            self.debug.traps += 1;
            if self.debug.trap == Some(self.debug.traps) {
                return self.halt(Halt::Trap, frame).map(|end| Some(Some(end)));
            }
        }
        self.debug.lets_through.insert(page);
        self.take_frame(frame);
        self.resume(Resume::Full)?;
        Ok(Some(None))
    }

    pub(super) fn halt(&mut self, halt: Halt, frame: &Frame) -> Result<RunEnd, RunError> {
        self.debug.halt = Some(halt);
        // A fault leaves RF set, a step does not: it is the debugger's, and no matter of the place.
        self.take_frame(&Frame { rflags: frame.rflags & !RESUME_FLAG, ..*frame });
        self.resume(Resume::Full)?;
        Ok(RunEnd::Paused)
    }
}
