//! Waiting for the outside: for input, for real time, for signals.
//!
//! Virtual time passes at once, so most waits are none. What really waits: a read of input; a wait for
//! the input of a terminal, which may never come; everything, where the clock is the host's.

use super::clock::ClockMode;
use super::error::SysError;
use super::kernel::Kernel;
use super::signal::number::MAX;
use super::signal::{Info, SI_KERNEL};
use super::syscall::number;
use super::timers::Which;
use crate::world::{Source, Wake, Woken};

impl Kernel {
    /// Makes signals that came from outside pending.
    pub fn take_signals(&mut self) -> Result<(), SysError> {
        if !self.outside.world().may_have_signal() {
            return Ok(());
        }
        // At most one of each waits.
        for _ in 1..=MAX {
            let Some(signal) = self.outside.world().signal(None)? else { break };
            if (1..=MAX).contains(&signal) {
                self.signals().send(Info { signal, code: SI_KERNEL, ..Default::default() });
            }
        }
        Ok(())
    }

    /// Takes the host's time over, where that is the clock.
    pub(super) fn refresh_clock(&mut self) -> Result<(), SysError> {
        if self.clock.mode == ClockMode::Host {
            let now = self.outside.world().clock()?;
            self.clock.set(now);
        }
        Ok(())
    }

    /// Nanoseconds until the timer of real time expires.
    pub(super) fn until_alarm(&self) -> Option<u64> {
        let at = self.process.timers.get(Which::Real).expiry()?;
        Some(at.saturating_sub(self.clock.monotonic()))
    }

    /// Waits on the host for input, for so long at most, or until a timer goes off or a signal comes.
    pub(super) fn wait_outside(&mut self, input: Option<Source>, ns: Option<u64>) -> Result<Woken, SysError> {
        let limit = ns.into_iter().chain(self.until_alarm()).min();
        let woken = self.outside.world().wait(input, limit)?;
        match self.clock.mode {
            ClockMode::Virtual => self.clock.advance(&mut self.memory, &mut self.space, woken.ns)?,
            ClockMode::Host => self.refresh_clock()?,
        }
        self.fire_timers();
        if woken.by == Wake::Signal {
            self.take_signals()?;
        }
        Ok(woken)
    }

    /// Waits until there is input. Whether a signal interrupts the wait.
    pub(super) fn wait_for_input(&mut self, source: Source) -> Result<bool, SysError> {
        loop {
            let woken = self.wait_outside(Some(source), None)?;
            if self.signals().any_deliverable() {
                return Ok(true);
            }
            match woken.by {
                Wake::Input => return Ok(false),
                Wake::Never => return Err(SysError::Block),
                Wake::Time | Wake::Signal => {}
            }
        }
    }

    /// Waits for a signal from outside, which only a terminal is expected to send. `false` when there
    /// will be none.
    pub(super) fn wait_for_signal(&mut self) -> Result<bool, SysError> {
        if !self.outside.fs().has_terminal() {
            return Ok(false);
        }
        loop {
            let woken = self.wait_outside(None, None)?;
            if self.signals().any_deliverable() {
                return Ok(true);
            }
            if woken.by == Wake::Never {
                return Ok(false);
            }
        }
    }

    /// Lets time pass, less of it when a signal comes: really, where the clock is the host's. Returns how
    /// much passed.
    pub(super) fn pass(&mut self, ns: u64) -> Result<u64, SysError> {
        match self.clock.mode {
            ClockMode::Virtual => {
                self.clock.advance(&mut self.memory, &mut self.space, ns)?;
                Ok(ns)
            }
            ClockMode::Host => {
                let woken = self.outside.world().wait(None, Some(ns))?;
                self.refresh_clock()?;
                if woken.by == Wake::Signal {
                    self.take_signals()?;
                }
                Ok(woken.ns.min(ns))
            }
        }
    }

    /// What a call that can never come back waits for, in words.
    pub(super) fn waits_for(&mut self, call: u64, args: [u64; 6]) -> String {
        let file = |process: &mut Kernel| {
            let path = process.with_files(|fs, files, _, _| {
                files.get(args[0] as i32).map(|description| fs.path_of(description.inode()))
            });
            let path = path.map(|path| String::from_utf8_lossy(&path).escape_debug().to_string());
            format!("descriptor {} ({})", args[0] as i32, path.unwrap_or_default())
        };
        match call {
            number::READ | number::READV => format!("to read from {}", file(self)),
            number::WRITE | number::WRITEV => format!("to write to {}", file(self)),
            number::PAUSE | number::RT_SIGSUSPEND | number::RT_SIGTIMEDWAIT => "for a signal".into(),
            number::POLL | number::PPOLL | number::SELECT | number::PSELECT6 => {
                "for one of its descriptors to be ready".into()
            }
            number::FUTEX => "for a futex that nobody can wake".into(),
            number::OPEN | number::OPENAT => "for the other end of a FIFO".into(),
            _ => format!("in system call {call}"),
        }
    }
}
