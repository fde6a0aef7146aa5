//! What gdbstub asks of a target.

use std::ops::Range;

use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::auxv::{Auxv, AuxvOps};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::reverse_exec::{ReverseCont, ReverseContOps, ReverseStep, ReverseStepOps};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::catch_syscalls::{CatchSyscalls, CatchSyscallsOps, SyscallNumbers};
use gdbstub::target::ext::exec_file::ExecFileOps;
use gdbstub::target::ext::host_io::HostIoOps;
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use dejavm_sandbox::program::machine::{AccessWatch, Calls};

use super::Debugger;
use super::arch::{Amd64, Registers};
use super::host_io::part;
use super::signals::to_linux;
use super::subject::{Going, Move};
use crate::looking;
use crate::timeline::{Stops, TimelineError};

/// What gdb is told of what cannot be changed.
const READ_ONLY: u8 = 30;

impl Target for Debugger<'_> {
    type Arch = Amd64;
    type Error = TimelineError;

    fn base_ops(&mut self) -> BaseOps<'_, Amd64, TimelineError> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_catch_syscalls(&mut self) -> Option<CatchSyscallsOps<'_, Self>> {
        Some(self)
    }

    fn support_auxv(&mut self) -> Option<AuxvOps<'_, Self>> {
        Some(self)
    }

    fn support_exec_file(&mut self) -> Option<ExecFileOps<'_, Self>> {
        Some(self)
    }

    fn support_host_io(&mut self) -> Option<HostIoOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        // gdb puts none of its own into memory: it cannot be written.
        true
    }
}

impl MultiThreadBase for Debugger<'_> {
    fn read_registers(&mut self, registers: &mut Registers, tid: Tid) -> TargetResult<(), Self> {
        let found = self.registers(tid).map_err(TargetError::Fatal)?;
        *registers = found.ok_or(TargetError::NonFatal)?;
        Ok(())
    }

    fn write_registers(&mut self, registers: &Registers, tid: Tid) -> TargetResult<(), Self> {
        match self.set_registers(registers, tid).map_err(TargetError::Fatal)? {
            true => Ok(()),
            false => Err(TargetError::Errno(READ_ONLY)),
        }
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], _tid: Tid) -> TargetResult<usize, Self> {
        // As much as there is.
        match self.read_memory(start, data) {
            0 => Err(TargetError::NonFatal),
            n => Ok(n),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], _tid: Tid) -> TargetResult<(), Self> {
        match self.write_memory(start, data).map_err(TargetError::Fatal)? {
            n if n == data.len() => Ok(()),
            _ => Err(TargetError::Errno(READ_ONLY)),
        }
    }

    fn list_active_threads(&mut self, found: &mut dyn FnMut(Tid)) -> Result<(), TimelineError> {
        // gdbstub tells a debugger that has just come of the first one, which is to be the one that runs.
        let current = looking::current_task(self.subject.machine());
        let mut tids = looking::tasks(self.subject.machine());
        tids.sort_by_key(|tid| *tid != current);
        tids.into_iter().filter_map(|tid| Tid::new(tid as usize)).for_each(found);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Debugger<'_> {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, TimelineError> {
        let text = looking::described(self.subject.machine(), tid.get() as u32).unwrap_or_default();
        Ok(part(text.as_bytes(), 0, text.len(), buf))
    }
}

impl MultiThreadResume for Debugger<'_> {
    fn resume(&mut self) -> Result<(), TimelineError> {
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), TimelineError> {
        self.going = Going::default();
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, signal: Option<Signal>) -> Result<(), TimelineError> {
        // Which tasks go on besides is not the debugger's to say.
        if let Some(signal) = signal {
            (self.going.task, self.going.signal) = (tid.get() as u32, to_linux(signal));
        }
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }

    fn support_reverse_step(&mut self) -> Option<ReverseStepOps<'_, Tid, Self>> {
        self.subject.recorded().is_some().then_some(self)
    }

    fn support_reverse_cont(&mut self) -> Option<ReverseContOps<'_, Tid, Self>> {
        self.subject.recorded().is_some().then_some(self)
    }
}

impl MultiThreadSingleStep for Debugger<'_> {
    fn set_resume_action_step(&mut self, tid: Tid, signal: Option<Signal>) -> Result<(), TimelineError> {
        let signal = signal.and_then(to_linux);
        self.going = Going { movement: Move::Step, task: tid.get() as u32, signal };
        Ok(())
    }
}

/// Which task runs is as it was recorded, or up to the program's scheduler, whatever the debugger would like; it
/// says so when it steps.
impl MultiThreadSchedulerLocking for Debugger<'_> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), TimelineError> {
        Ok(())
    }
}

impl ReverseCont<Tid> for Debugger<'_> {
    fn reverse_cont(&mut self) -> Result<(), TimelineError> {
        self.going.movement = Move::ReverseRun;
        Ok(())
    }
}

impl ReverseStep<Tid> for Debugger<'_> {
    fn reverse_step(&mut self, _tid: Tid) -> Result<(), TimelineError> {
        self.going.movement = Move::ReverseStep;
        Ok(())
    }
}

impl Breakpoints for Debugger<'_> {
    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }

    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }
}

/// Bytes that a watchpoint may have: gdb asks for no more than a few words.
const WATCHED: u64 = 4096;

impl HwWatchpoint for Debugger<'_> {
    fn add_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        if len == 0 || len > WATCHED {
            return Ok(false);
        }
        let Some(end) = address.checked_add(len) else { return Ok(false) };
        // A system call that changes what is watched stops, one that reads it does not.
        if kind != WatchKind::Read {
            self.stops.writes.push(address..end);
        }
        if kind != WatchKind::Write {
            let writes = kind == WatchKind::ReadWrite;
            self.stops.accesses.push(AccessWatch { addresses: address..end, writes });
        }
        Ok(true)
    }

    fn remove_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        let known = |range: &Range<u64>| range.start == address && range.end - address == len;
        let Stops { writes, accesses, .. } = &mut self.stops;
        let mut found = true;
        if kind != WatchKind::Read {
            found &= writes.iter().position(known).map(|at| writes.remove(at)).is_some();
        }
        if kind != WatchKind::Write {
            let same = |watch: &AccessWatch| {
                known(&watch.addresses) && watch.writes == (kind == WatchKind::ReadWrite)
            };
            found &= accesses.iter().position(same).map(|at| accesses.remove(at)).is_some();
        }
        Ok(found)
    }
}

impl SwBreakpoint for Debugger<'_> {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.stops.breakpoints.insert(address);
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.stops.breakpoints.remove(&address))
    }
}

impl CatchSyscalls for Debugger<'_> {
    fn enable_catch_syscalls(&mut self, filter: Option<SyscallNumbers<'_, u64>>) -> TargetResult<(), Self> {
        self.stops.calls = filter.map_or(Calls::All, |numbers| Calls::These(numbers.collect()));
        Ok(())
    }

    fn disable_catch_syscalls(&mut self) -> TargetResult<(), Self> {
        self.stops.calls = Calls::None;
        Ok(())
    }
}

impl Auxv for Debugger<'_> {
    fn get_auxv(&self, offset: u64, length: usize, buf: &mut [u8]) -> TargetResult<usize, Self> {
        Ok(part(&looking::auxv(self.subject.machine()), offset, length, buf))
    }
}

impl MonitorCmd for Debugger<'_> {
    fn handle_monitor_cmd(
        &mut self,
        command: &[u8],
        mut out: ConsoleOutput<'_>,
    ) -> Result<(), TimelineError> {
        let text = self.monitor(&String::from_utf8_lossy(command))?;
        out.write_raw(text.as_bytes());
        Ok(())
    }
}
