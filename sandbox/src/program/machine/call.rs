//! System calls: from the exit to the answer, and back into the program.

use super::Machine;
use super::delivery::Resume;
use crate::errno::Errno;
use crate::exit::ExitKind;
use crate::machine::{PauseAt, RunEnd, RunError, RunOptions};
use crate::program::entry::SYSCALL_STUB;
use crate::program::error::SysError;
use crate::program::exception::{self, code};
use crate::program::signal::number::SIGSEGV;
use crate::program::signal::{self, Info};
use crate::program::syscall::{self, After, number};
use crate::program::wait::{Call, Wait, Way};
use crate::vcpu::registers::{ExtendedState, General};
use crate::world::WorldError;
use crate::x86::flags::page_fault;
use crate::x86::vector;

/// Bytes of `syscall`, and of `int 0x80`.
pub(super) const CALL_BYTES: u64 = 2;

/// What became of a call.
#[derive(Debug)]
pub(super) enum Made {
    /// It was answered: the task goes on so.
    Answered(Resume),
    /// It waits, or its task has ended: another task runs.
    Left,
    /// The run comes back.
    End(RunEnd),
}

impl Machine {
    pub(super) fn syscall(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        let general = self.program_registers();
        if !self.is_behind_syscall(general.rcx)? {
            return self.jumped_to_stub(SYSCALL_STUB, general, options);
        }
        // The upper half is not looked at (`do_syscall_64`).
        let number = u64::from(general.rax as u32);
        let args = [general.rdi, general.rsi, general.rdx, general.r10, general.r8, general.r9];
        self.kernel.task.regs.general =
            General { rip: general.rcx, rflags: signal::kept_flags(general.r11), ..general };
        if options.pause == PauseAt::FirstRead && !self.first_read_done && self.reads_stdin(number, args) {
            // Paused before the call: it is made again when the program goes on.
            self.first_read_done = true;
            self.again(number);
            self.resume(Resume::Full)?;
            return Ok(Some(RunEnd::Paused));
        }
        self.answer_call(Call { number, args, rax: number, way: Way::Syscall }, options)
    }

    /// Answers a system call, and goes on behind it, or with another task.
    pub(super) fn answer_call(
        &mut self,
        call: Call,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        if let Some(end) = self.stop_before_call(&call)? {
            return Ok(Some(end));
        }
        let number = call.number;
        self.leave_circles();
        self.core.stats.exits.syscalls += 1;
        *self.core.stats.syscalls.entry(number).or_default() += 1;
        if matches!(number, number::ARCH_PRCTL | number::EXECVE | number::EXECVEAT) {
            self.refresh_bases()?;
        }
        self.kernel.tick()?;
        if self.kernel.process.timers.any_armed() {
            self.kernel.refresh_clock()?;
        }
        // A handler's end is not the moment, or one whose timer is faster than an exit would run again and
        // again, and the program not at all.
        if number != number::RT_SIGRETURN {
            self.kernel.fire_timers();
        }
        self.kernel.pass_horizon();
        // If the run pauses behind it.
        self.kernel.sched.count_later();
        let made = self.make_call(call, options);
        if !matches!(made, Ok(Made::End(RunEnd::Paused))) {
            self.kernel.sched.take_uncounted();
        }
        match made? {
            Made::Answered(resume) => self.go(resume, options),
            Made::Left => self.schedule(options),
            Made::End(end) => Ok(Some(end)),
        }
    }

    /// Makes a call of the running task, for the first time or again.
    pub(super) fn make_call(&mut self, call: Call, options: &mut RunOptions<'_>) -> Result<Made, RunError> {
        let Call { number, args, rax, way } = call;
        self.tell_made(&call, options);
        let behind = self.kernel.task.regs.general.rip;
        let mut resume = if way == Way::Syscall { Resume::Syscall } else { Resume::Full };
        if self.kernel.resumed().is_some() {
            resume = Resume::Full;
        }
        let result = match self.call(number, args) {
            Ok(After::Return(value)) => {
                self.kernel.task.regs.general.rax = value;
                value
            }
            Ok(After::Replaced) => {
                if let Some(fp) = self.kernel.task.fp.take() {
                    self.put_extended_state(&fp)?;
                }
                resume = Resume::Full;
                self.told.forget_space();
                // A thread that executes a program takes its process's number.
                self.on_vcpu = self.kernel.tid();
                self.kernel.task.regs.general.rax
            }
            Ok(After::Ended) => 0,
            Err(SysError::Wait(wait)) => {
                // What was read to make the call is read again.
                self.kernel.effects.take();
                self.kernel.drop_ignored();
                let signals = self.kernel.signals();
                let wait_is_made_again = wait.made_again;
                let ends = if wait.killable { signals.any_fatal() } else { signals.any_deliverable() };
                if !ends {
                    self.kernel.park(call, wait);
                    // A part of it may be done.
                    self.kernel.wake_for_files();
                    return Ok(Made::Left);
                }
                if wait_is_made_again || syscall::restarts(number) && self.kernel.signals().next_restarts() {
                    // Behind the handler, whose frame gets these registers.
                    self.again(rax);
                } else {
                    self.kernel.task.regs.general.rax = Errno::EINTR.to_rax();
                }
                Errno::EINTR.to_rax()
            }
            Err(SysError::World(WorldError::Interrupted)) => {
                self.kernel.effects.take();
                self.kernel.make_again(call);
                return Err(WorldError::Interrupted.into());
            }
            Err(e) => return Err(e.into()),
        };
        self.kernel.call_is_over();
        self.kernel.take_signals()?;
        self.kernel.wake_for_files();
        self.record(ExitKind::Syscall { number, args }, behind, result, options)?;
        if let Some(end) = self.ended(options)? {
            return Ok(Made::End(end));
        }
        if self.kernel.task.dead {
            return Ok(if self.reached(options) { Made::End(RunEnd::Paused) } else { Made::Left });
        }
        if way == Way::Vsyscall && result == Errno::EFAULT.to_rax() {
            self.kernel.signals().force(Info::by_kernel(SIGSEGV));
        }
        let ready =
            std::mem::take(&mut self.kernel.control).iter().any(|word| word.trim_ascii() == b"snapshot");
        let paused = match options.pause {
            PauseAt::Ready => ready,
            PauseAt::FirstOutput => result as i64 > 0 && self.writes_stdout(number, args),
            _ => false,
        };
        if paused || self.stops_behind_call(number) || self.reached(options) {
            // Before signals are delivered, so that one can see what led to them.
            self.resume(Resume::Full)?;
            return Ok(Made::End(RunEnd::Paused));
        }
        resume = self.deliver(resume, options)?;
        if let Some(end) = self.ended(options)? {
            return Ok(Made::End(end));
        }
        if self.kernel.task.dead {
            return Ok(Made::Left);
        }
        Ok(Made::Answered(resume))
    }

    /// Makes a system call; again when a signal came from outside that nobody takes.
    fn call(&mut self, number: u64, args: [u64; 6]) -> Result<After, SysError> {
        // The vCPU has the registers of a task that makes a call for the first time.
        let forks = self.kernel.resumed().is_none()
            && matches!(number, number::CLONE | number::CLONE3 | number::FORK | number::VFORK);
        if forks {
            // The child gets it, too.
            self.refresh_bases().map_err(|e| SysError::Machine(e.to_string()))?;
            let fp = self.extended_state().map_err(|e| SysError::Machine(e.to_string()))?;
            self.kernel.task.fp = Some(Box::new(fp));
        }
        let result = loop {
            match syscall::call(&mut self.kernel, number, args) {
                Err(SysError::Signal) => {
                    self.kernel.take_signals()?;
                    self.kernel.effects.take();
                    if self.kernel.signals().any_deliverable() {
                        break Err(SysError::Wait(Wait::default()));
                    }
                }
                other => break other,
            }
        };
        if forks {
            self.kernel.task.fp = None;
        }
        result
    }

    /// Points the registers back at the system call that is being answered, and the signal mask to
    /// what it was before it.
    fn again(&mut self, rax: u64) {
        self.kernel.task.signals.end_wait();
        self.kernel.task.regs.general.rip = self.kernel.task.regs.general.rip.wrapping_sub(CALL_BYTES);
        self.kernel.task.regs.general.rax = rax;
    }

    fn reads_stdin(&mut self, number: u64, args: [u64; 6]) -> bool {
        let reads = matches!(number, number::READ | number::READV);
        reads && self.kernel.is_stdin(args[0])
    }

    fn writes_stdout(&mut self, number: u64, args: [u64; 6]) -> bool {
        let writes = matches!(number, number::WRITE | number::WRITEV | number::SENDFILE);
        writes && self.kernel.is_stdout(args[0])
    }

    /// Whether RCX is as `SYSCALL` leaves it. A program that jumps to the stub may have anything there.
    fn is_behind_syscall(&mut self, rcx: u64) -> Result<bool, RunError> {
        const SYSCALL: [u8; CALL_BYTES as usize] = [0x0f, 0x05];
        let mut code = [0u8; SYSCALL.len()];
        match self.kernel.read(rcx.wrapping_sub(CALL_BYTES), &mut code) {
            Ok(()) => Ok(code == SYSCALL),
            // Code need not be readable.
            Err(SysError::Errno(_)) => Ok(self.kernel.space.find(rcx.wrapping_sub(1)).is_some()),
            Err(e) => Err(e.into()),
        }
    }

    /// To a program, there is nothing where the stubs are.
    pub(super) fn jumped_to_stub(
        &mut self,
        stub: u64,
        general: General,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.kernel.task.regs.general = General { rip: stub, ..general };
        let error = page_fault::USER | page_fault::FETCH;
        self.record_exception(vector::PAGE_FAULT, error, stub, options)?;
        self.raise(exception::page_fault_signal(false, code::SEGV_MAPERR, error, stub), options)
    }

    /// Puts in the floating-point state of a signal frame.
    fn put_extended_state(&mut self, state: &ExtendedState) -> Result<(), RunError> {
        if self.core.vcpu.set_extended_state(state).is_err() {
            // A bit of MXCSR that this CPU lacks: all else was looked at before.
            self.core.vcpu.set_extended_state(&ExtendedState::initial())?;
            self.kernel.signals().force(Info::by_kernel(SIGSEGV));
        }
        Ok(())
    }
}
