//! What a debugger wants of a run: to stop before instructions, and behind some number of steps.
//!
//! A breakpoint is a `hlt` in the code, which raises #GP at CPL 3, and unlike `int3` it is never taken for
//! one of the monitor's own. It stands there while the guest runs and at no other time: whoever reads the code
//! then, the monitor for a system call of the program or the debugger, sees what the program has there. Nothing
//! of this is part of the machine's state.

use std::collections::BTreeSet;

use super::Machine;
use super::delivery::Resume;
use crate::machine::{RunEnd, RunError};
use crate::program::process::PROGRAM_PID;
use crate::ram::PAGE_SIZE;
use crate::x86::frame::Frame;

/// `hlt`.
const TRAP: u8 = 0xf4;

/// Why a run came back paused, where a debugger asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The first instruction behind an exit is about to run: signals are delivered, and it is known which task
    /// runs.
    Entry,
    /// The instruction at this address, which has a breakpoint, is about to run.
    Breakpoint(u64),
    /// As many steps were made as were asked for.
    Stepped,
}

/// What a debugger wants of the next runs.
#[derive(Debug)]
pub struct Debug {
    /// Stops before the instructions at these addresses, but for the one that a run begins with while the
    /// program is stepped, or that it was stopped before already.
    pub breakpoints: BTreeSet<u64>,
    /// The process that they are in.
    pub process: u32,
    /// Stops before the first instruction behind an exit.
    pub entry: bool,
    /// Stops when so many steps have been made since the last compared exit: the program is single-stepped. A
    /// step is an instruction, or one round of a repeated one.
    pub steps: Option<u64>,
    /// Why the last run came back.
    pub halt: Option<Halt>,
    /// No instruction has run since the last exit.
    behind_exit: bool,
    /// What stands in memory: address there, and what belongs there.
    inserted: Vec<(u64, u8)>,
}

impl Default for Debug {
    fn default() -> Debug {
        Debug {
            breakpoints: BTreeSet::new(),
            process: PROGRAM_PID,
            entry: false,
            steps: None,
            halt: None,
            behind_exit: true,
            inserted: Vec::new(),
        }
    }
}

impl Debug {
    /// Whether anything is to be looked for while the program is not stepped.
    pub(super) fn is_idle(&self) -> bool {
        self.breakpoints.is_empty() && !self.entry
    }

    /// An exit was answered.
    pub(super) fn exit(&mut self) {
        self.behind_exit = true;
    }
}

impl Machine {
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

    fn breaks_at(&self, rip: u64) -> bool {
        self.kernel.pid() == self.debug.process && self.debug.breakpoints.contains(&rip)
    }

    /// The program is about to be entered: puts the breakpoints into its code, where that is in memory. Some
    /// when the run stops here.
    pub(super) fn begin_entry(&mut self) -> Result<Option<RunEnd>, RunError> {
        let behind_exit = std::mem::take(&mut self.debug.behind_exit);
        if self.debug.is_idle() {
            return Ok(None);
        }
        let rip = self.kernel.task.regs.general.rip;
        if behind_exit && (self.debug.entry || self.breaks_at(rip)) {
            self.debug.halt = Some(Halt::Entry);
            return Ok(Some(RunEnd::Paused));
        }
        if self.kernel.pid() != self.debug.process {
            return Ok(None);
        }
        // Each step looks at the address by itself.
        let skip = self.stepper.on.then(|| self.core.vcpu.regs().rip);
        let ram = &self.kernel.memory.ram;
        for address in self.debug.breakpoints.iter().copied().filter(|address| Some(*address) != skip) {
            let Some(page) = self.kernel.space.walk(&self.kernel.memory, address) else { continue };
            if !ram.is_there(page) {
                continue;
            }
            let at = ram.base() + page * PAGE_SIZE as u64 + address % PAGE_SIZE as u64;
            let mut byte = [0];
            ram.read(at, &mut byte)?;
            ram.write(at, &[TRAP])?;
            self.debug.inserted.push((at, byte[0]));
        }
        Ok(None)
    }

    /// The program was left: takes the breakpoints out again.
    pub(super) fn end_entry(&mut self) -> Result<(), RunError> {
        let ram = &self.kernel.memory.ram;
        for (at, byte) in self.debug.inserted.drain(..).rev() {
            let mut now = [0];
            ram.read(at, &mut now)?;
            // The program may have written there itself.
            if now[0] == TRAP {
                ram.write(at, &[byte])?;
            }
        }
        Ok(())
    }

    /// A step was made, to this frame. Some when the run stops here.
    pub(super) fn debug_step(&mut self, frame: &Frame) -> Result<Option<RunEnd>, RunError> {
        let halt = match self.debug.steps {
            _ if self.breaks_at(frame.rip) => Halt::Breakpoint(frame.rip),
            Some(steps) if self.stepper.steps >= steps => Halt::Stepped,
            _ => return Ok(None),
        };
        self.halt(halt, frame).map(Some)
    }

    /// A #GP at this frame: some when it is a breakpoint of the debugger.
    pub(super) fn debug_trap(&mut self, frame: &Frame) -> Result<Option<RunEnd>, RunError> {
        match self.breaks_at(frame.rip) {
            true => self.halt(Halt::Breakpoint(frame.rip), frame).map(Some),
            false => Ok(None),
        }
    }

    fn halt(&mut self, halt: Halt, frame: &Frame) -> Result<RunEnd, RunError> {
        self.debug.halt = Some(halt);
        self.take_frame(frame);
        self.resume(Resume::Full)?;
        Ok(RunEnd::Paused)
    }
}
