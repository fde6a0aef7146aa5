//! System calls: from the exit to the answer, and back into the program.

use super::Machine;
use super::delivery::Resume;
use crate::errno::Errno;
use crate::exit::ExitKind;
use crate::machine::{PauseAt, RunEnd, RunError, RunOptions};
use crate::program::entry::SYSCALL_STUB;
use crate::program::exception::{self, code};
use crate::program::process::{Process, SysError};
use crate::program::signal::number::SIGSEGV;
use crate::program::signal::{self, Info};
use crate::program::syscall::{self, After, number};
use crate::vcpu::registers::{ExtendedState, General};
use crate::world::WorldError;
use crate::x86::flags::page_fault;
use crate::x86::vector;

/// Bytes of `syscall`, and of `int 0x80`.
const CALL_BYTES: u64 = 2;

/// A system call on its way to the answer. The program's registers are those behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 6],
    /// RAX before it.
    pub rax: u64,
    /// It came by `SYSCALL`.
    pub by_syscall: bool,
}

impl Machine {
    pub(super) fn syscall(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        let general = self.program_registers();
        if !self.is_behind_syscall(general.rcx)? {
            return self.jumped_to_stub(general, options);
        }
        let number = general.rax;
        let args = [general.rdi, general.rsi, general.rdx, general.r10, general.r8, general.r9];
        self.process.regs.general =
            General { rip: general.rcx, rflags: signal::sanitize_flags(general.r11), ..general };
        if options.pause == PauseAt::FirstRead && !self.first_read_done && self.reads_stdin(number, args) {
            // Paused before the call: it is made again when the program goes on.
            self.first_read_done = true;
            self.again(number);
            self.resume(Resume::Full)?;
            return Ok(Some(RunEnd::Paused));
        }
        self.answer_call(Call { number, args, rax: number, by_syscall: true }, options)
    }

    /// Answers a system call, and goes on behind it.
    pub(super) fn answer_call(
        &mut self,
        call: Call,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.answer_call_then(call, options, |_, _| {})
    }

    /// Answers a system call, does one more thing with its result, and goes on behind it.
    pub(super) fn answer_call_then(
        &mut self,
        call: Call,
        options: &mut RunOptions<'_>,
        then: impl FnOnce(&mut Process, u64),
    ) -> Result<Option<RunEnd>, RunError> {
        let Call { number, args, rax, by_syscall } = call;
        let behind = self.process.regs.general.rip;
        self.core.stats.exits.syscalls += 1;
        *self.core.stats.syscalls.entry(number).or_default() += 1;
        if matches!(number, number::ARCH_PRCTL | number::EXECVE | number::EXECVEAT) {
            self.refresh_bases()?;
        }
        let Process { clock, memory, space, .. } = &mut self.process;
        clock.tick(memory, space).map_err(SysError::from)?;
        if self.process.task.timers.any_armed() {
            self.process.refresh_clock()?;
        }
        // A handler's end is not the moment, or one whose timer is faster than an exit would run again and
        // again, and the program not at all.
        if number != number::RT_SIGRETURN {
            self.process.fire_timers();
        }
        let mut resume = if by_syscall { Resume::Syscall } else { Resume::Full };
        let result = match self.call(number, args) {
            Ok(After::Return(value)) => {
                self.process.regs.general.rax = value;
                value
            }
            Ok(After::Replaced) => {
                if let Some(fp) = self.process.fp.take() {
                    self.put_extended_state(&fp)?;
                }
                resume = Resume::Full;
                self.process.regs.general.rax
            }
            Ok(After::Ended) => 0,
            Err(SysError::Block) => {
                let woken = match self.process.sleep_until_alarm() {
                    Ok(false) => self.process.wait_for_signal(),
                    other => other,
                };
                match woken {
                    Ok(true) => {}
                    Ok(false) => {
                        self.waits_for = Some(self.process.waits_for(number, args));
                        self.not_made(rax)?;
                        return Ok(Some(RunEnd::Stuck));
                    }
                    Err(e) => {
                        self.not_made(rax)?;
                        return Err(e.into());
                    }
                }
                if syscall::restarts(number) && self.process.signals.next_restarts() {
                    // Behind the handler, whose frame gets these registers.
                    self.again(rax);
                } else {
                    self.process.regs.general.rax = Errno::EINTR.to_rax();
                }
                Errno::EINTR.to_rax()
            }
            Err(SysError::World(WorldError::Interrupted)) => {
                self.not_made(rax)?;
                return Err(WorldError::Interrupted.into());
            }
            Err(e) => return Err(e.into()),
        };
        self.process.take_signals()?;
        self.record(ExitKind::Syscall { number, args }, behind, result, options)?;
        if let Some(end) = self.ended(options)? {
            return Ok(Some(end));
        }
        then(&mut self.process, result);
        resume = self.deliver(resume)?;
        if let Some(end) = self.ended(options)? {
            return Ok(Some(end));
        }
        self.resume(resume)?;
        let ready =
            std::mem::take(&mut self.process.control).iter().any(|word| word.trim_ascii() == b"snapshot");
        let paused = match options.pause {
            PauseAt::Ready => ready,
            PauseAt::FirstOutput => result as i64 > 0 && self.writes_stdout(number, args),
            _ => self.reached(options),
        };
        Ok(paused.then_some(RunEnd::Paused))
    }

    /// Makes a system call, again and again while it waits and what wakes it is not what it waits for.
    fn call(&mut self, number: u64, args: [u64; 6]) -> Result<After, SysError> {
        loop {
            let interrupted = match syscall::call(&mut self.process, number, args) {
                Err(SysError::Signal) => {
                    self.process.take_signals()?;
                    self.process.signals.any_deliverable()
                }
                Err(SysError::Input(source)) => self.process.wait_for_input(source)?,
                other => return other,
            };
            // What was read to make the call is read again.
            self.process.effects.take();
            if interrupted {
                return Err(SysError::Block);
            }
        }
    }

    /// Leaves a system call that was not made: it is made when the program goes on.
    fn not_made(&mut self, rax: u64) -> Result<(), RunError> {
        self.process.effects.take();
        self.again(rax);
        self.resume(Resume::Full)
    }

    /// Points the registers back at the system call that is being answered, and the signal mask to
    /// what it was before it.
    fn again(&mut self, rax: u64) {
        self.process.signals.end_wait();
        self.process.regs.general.rip = self.process.regs.general.rip.wrapping_sub(CALL_BYTES);
        self.process.regs.general.rax = rax;
    }

    fn reads_stdin(&mut self, number: u64, args: [u64; 6]) -> bool {
        let reads = matches!(number, number::READ | number::READV);
        reads && self.process.is_stdin(args[0])
    }

    fn writes_stdout(&mut self, number: u64, args: [u64; 6]) -> bool {
        let writes = matches!(number, number::WRITE | number::WRITEV | number::SENDFILE);
        writes && self.process.is_stdout(args[0])
    }

    /// Whether RCX is as `SYSCALL` leaves it. A program that jumps to the stub may have anything there.
    fn is_behind_syscall(&mut self, rcx: u64) -> Result<bool, RunError> {
        const SYSCALL: [u8; CALL_BYTES as usize] = [0x0f, 0x05];
        let mut code = [0u8; SYSCALL.len()];
        match self.process.read(rcx.wrapping_sub(CALL_BYTES), &mut code) {
            Ok(()) => Ok(code == SYSCALL),
            // Code need not be readable.
            Err(SysError::Errno(_)) => Ok(self.process.space.find(rcx.wrapping_sub(1)).is_some()),
            Err(e) => Err(e.into()),
        }
    }

    /// To a program, there is nothing where the stub is.
    fn jumped_to_stub(
        &mut self,
        general: General,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.process.regs.general = General { rip: SYSCALL_STUB, ..general };
        let error = page_fault::USER | page_fault::FETCH;
        self.record_exception(vector::PAGE_FAULT, error, SYSCALL_STUB, options)?;
        self.raise(exception::page_fault_signal(false, code::SEGV_MAPERR, error, SYSCALL_STUB), options)
    }

    /// Puts in the floating-point state of a signal frame.
    fn put_extended_state(&mut self, state: &ExtendedState) -> Result<(), RunError> {
        if self.core.vcpu.set_extended_state(state).is_err() {
            // A bit of MXCSR that this CPU lacks: all else was looked at before.
            self.core.vcpu.set_extended_state(&ExtendedState::initial())?;
            self.process.signals.force(Info::by_kernel(SIGSEGV));
        }
        Ok(())
    }
}
