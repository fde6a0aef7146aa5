//! What a debugger changes, and calls: all of it happens in a copy of the program, until the recording is moved in
//! again.

use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;

use super::arch::Registers;
use super::{Debugger, Move};
use crate::timeline::{Scratch, ScratchStop, TimelineError};

/// What gdb is told that stopped a copy that cannot go on.
const GONE: Signal = Signal::SIGABRT;

impl Debugger {
    /// The copy that is changed, made now if there is none. `None` where there can be none.
    fn copy(&mut self) -> Result<Option<&mut Scratch>, TimelineError> {
        if self.copy.is_none() {
            self.copy = self.timeline.scratch()?;
        }
        Ok(self.copy.as_mut())
    }

    /// A task's registers.
    pub(super) fn registers(&mut self, tid: Tid) -> Result<Option<Registers>, TimelineError> {
        let tid = tid.get() as u32;
        let found = match &mut self.copy {
            Some(copy) => copy.task(tid)?,
            None => self.timeline.task(tid)?,
        };
        Ok(found.map(|(regs, fp)| Registers::of(&regs, &fp)))
    }

    /// Sets a task's registers in a copy; whether that can be: of the running task.
    pub(super) fn set_registers(&mut self, new: &Registers, tid: Tid) -> Result<bool, TimelineError> {
        if tid != self.current() || self.registers(tid)?.is_none() {
            return Ok(false);
        }
        let Some(copy) = self.copy()? else { return Ok(false) };
        let Some((regs, fp)) = copy.task(tid.get() as u32)? else { return Ok(false) };
        match new.put(&regs, &fp) {
            Some((regs, fp)) => copy.set_registers(&regs, &fp),
            None => Ok(false),
        }
    }

    /// Reads memory, as much as there is.
    pub(super) fn read_memory(&self, address: u64, out: &mut [u8]) -> usize {
        match &self.copy {
            Some(copy) => copy.look_at_memory(address, out),
            None => self.timeline.look_at_memory(address, out),
        }
    }

    /// Writes memory in a copy; how many bytes.
    pub(super) fn write_memory(&mut self, address: u64, data: &[u8]) -> Result<usize, TimelineError> {
        self.copy()?.map_or(Ok(0), |copy| copy.write_memory(address, data))
    }

    /// Whether the next move is one of the copy: its task is not where the recorded one is. If not, there is no
    /// copy any more.
    pub(super) fn moves_copy(&mut self) -> Result<bool, TimelineError> {
        let Some(copy) = &mut self.copy else { return Ok(false) };
        let recorded = self.timeline.machine().program().map(|program| program.kernel.tid());
        let mut unmoved = Some(copy.current()) == recorded;
        if let Some(tid) = recorded.filter(|_| unmoved) {
            let registers = |(regs, fp)| Registers::of(&regs, &fp);
            unmoved = copy.task(tid)?.map(registers) == self.timeline.task(tid)?.map(registers);
        }
        let forwards = matches!(self.next, Move::Run | Move::Step);
        if unmoved || !forwards || self.goto.is_some() {
            self.copy = None;
        }
        Ok(self.copy.is_some())
    }

    /// Lets the copy go on. What it has written comes with why it stopped.
    pub(super) fn go_in_copy(&mut self) -> (MultiThreadStopReason<u64>, String) {
        let Some(copy) = &mut self.copy else { return (self.arrived(), String::new()) };
        let stop = copy.run(&self.stops.breakpoints, self.next == Move::Step);
        let mut output = String::from_utf8_lossy(&copy.take_output()).into_owned();
        let reason = match stop {
            ScratchStop::Breakpoint => MultiThreadStopReason::SwBreak(self.current()),
            ScratchStop::Stepped => self.arrived(),
            ScratchStop::Gone(why) => {
                self.copy = None;
                output.push_str(&format!("what was called is given up: {why}\n"));
                MultiThreadStopReason::SignalWithThread { tid: self.current(), signal: GONE }
            }
        };
        (reason, output)
    }
}
