//! System calls that a debugger is told of: before they are made, and when they have come back. Of a program that runs,
//! the run stops there; of a recorded one the log knows where they are.

use std::collections::BTreeSet;

use super::call::CALL_BYTES;
use super::delivery::Resume;
use super::{Halt, Machine};
use crate::machine::{RunEnd, RunError};
use crate::program::syscall::table::{self, Argument, Pointee};
use crate::program::wait::{Call, Way};

/// Which system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// None.
    #[default]
    None,
    /// All of them.
    All,
    /// Those of these numbers.
    These(BTreeSet<u64>),
    /// Those of any process that name this path, in these words; not when they come back.
    Naming(Vec<u8>),
}

impl Calls {
    /// Whether this number is one of them.
    pub fn has(&self, number: u64) -> bool {
        match self {
            Calls::None | Calls::Naming(_) => false,
            Calls::All => true,
            Calls::These(numbers) => numbers.contains(&number),
        }
    }
}

impl Machine {
    /// Whether a debugger is to be told of a call of the running task.
    fn tells_of(&self, number: u64) -> bool {
        self.debug.calls.has(number) && self.kernel.pid() == self.debug.process
    }

    /// Whether one of a call's arguments is the path that is waited for.
    fn names_path(&mut self, call: &Call) -> bool {
        let Calls::Naming(wanted) = &self.debug.calls else { return false };
        let Some(row) = table::find(call.number) else { return false };
        let paths = row.arguments().iter().zip(call.args);
        let mut paths = paths.filter(|(argument, _)| **argument == Argument::In(Pointee::Path));
        // What cannot be read names nothing, as the call itself will say.
        paths.any(|(_, address)| self.kernel.read_path(address).is_ok_and(|path| path == *wanted))
    }

    /// The running task is about to make a call. Some when the run stops for that: the instruction is about to run
    /// then, and when the task goes on, it is made.
    pub(super) fn stop_before_call(&mut self, call: &Call) -> Result<Option<RunEnd>, RunError> {
        // One into the vsyscall page returned already.
        if self.debug.calls == Calls::None || call.way == Way::Vsyscall {
            return Ok(None);
        }
        let here = Some((self.kernel.tid(), self.kernel.task.regs.general.rip));
        if self.debug.called.take() == here || !(self.tells_of(call.number) || self.names_path(call)) {
            return Ok(None);
        }
        self.debug.called = here;
        self.debug.halt = Some(Halt::Called(call.number));
        self.kernel.task.regs.general.rip = self.kernel.task.regs.general.rip.wrapping_sub(CALL_BYTES);
        self.resume(Resume::Full)?;
        Ok(Some(RunEnd::Paused))
    }

    /// Whether the run is to stop because a call of the running task has come back.
    pub(super) fn stops_behind_call(&mut self, number: u64) -> bool {
        let stops = self.tells_of(number);
        if stops {
            self.debug.halt = Some(Halt::Returned(number));
        }
        stops
    }
}
