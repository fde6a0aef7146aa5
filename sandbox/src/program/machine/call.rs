//! System calls: from the exit to the answer, and back into the program.

use super::Machine;
use super::delivery::Resume;
use crate::errno::Errno;
use crate::exit::ExitKind;
use crate::machine::{PauseAt, RunEnd, RunError, RunOptions};
use crate::program::exception::{self, vector};
use crate::program::process::{Process, SysError};
use crate::program::signal;
use crate::program::syscall::{self, After, number};
use crate::vcpu::registers::General;
use crate::world::WorldError;

/// Lowest address that is not canonical.
const CANONICAL_END: u64 = 1 << 47;

impl Machine {
    pub(super) fn syscall(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        let general = self.program_registers();
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
        self.core.stats.exits.syscalls += 1;
        *self.core.stats.syscalls.entry(number).or_default() += 1;
        if matches!(number, number::ARCH_PRCTL | number::EXECVE | number::EXECVEAT) {
            self.refresh_bases()?;
        }
        let Process { clock, memory, space, .. } = &mut self.process;
        clock.tick(memory, space).map_err(SysError::from)?;
        if self.process.task.alarm.is_some() {
            self.process.refresh_clock()?;
        }
        self.process.fire_alarm();
        let mut resume = Resume::Syscall;
        let result = match self.call(number, args) {
            Ok(After::Return(value)) => {
                self.process.regs.general.rax = value;
                value
            }
            Ok(After::Replaced) => {
                if let Some(fp) = self.process.fp.take() {
                    self.core.vcpu.set_extended_state(&fp)?;
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
                        self.not_made(number)?;
                        return Ok(Some(RunEnd::Stuck));
                    }
                    Err(e) => {
                        self.not_made(number)?;
                        return Err(e.into());
                    }
                }
                self.process.regs.general.rax = Errno::EINTR.to_rax();
                self.process.regs.general.rax
            }
            Err(SysError::World(WorldError::Interrupted)) => {
                self.not_made(number)?;
                return Err(WorldError::Interrupted.into());
            }
            Err(e) => return Err(e.into()),
        };
        self.process.take_signals()?;
        self.record(ExitKind::Syscall { number, args }, general.rcx, result, options)?;
        if let Some(end) = self.ended(options)? {
            return Ok(Some(end));
        }
        if !canonical(self.process.regs.general.rip) {
            self.process.signals.force(exception::signal(vector::PROTECTION, 0, 0));
        }
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
                return Ok(After::Return(Errno::EINTR.to_rax()));
            }
        }
    }

    /// Leaves a system call that was not made: it is made when the program goes on.
    fn not_made(&mut self, number: u64) -> Result<(), RunError> {
        if let Some(mask) = self.process.signals.saved_mask.take() {
            self.process.signals.mask = mask;
        }
        self.process.effects.take();
        self.again(number);
        self.resume(Resume::Full)
    }

    /// Points the registers back at the system call that is being answered.
    fn again(&mut self, number: u64) {
        const SYSCALL_BYTES: u64 = 2;
        self.process.regs.general.rip = self.process.regs.general.rip.wrapping_sub(SYSCALL_BYTES);
        self.process.regs.general.rax = number;
    }

    fn reads_stdin(&mut self, number: u64, args: [u64; 6]) -> bool {
        let reads = matches!(number, number::READ | number::READV);
        reads && self.process.is_stdin(args[0])
    }

    fn writes_stdout(&mut self, number: u64, args: [u64; 6]) -> bool {
        let writes = matches!(number, number::WRITE | number::WRITEV | number::SENDFILE);
        writes && self.process.is_stdout(args[0])
    }
}

fn canonical(address: u64) -> bool {
    address < CANONICAL_END
}
