//! Signals on their way into the program, and how the vCPU goes on after an exit.

use serde::{Deserialize, Serialize};

use super::Machine;
use crate::exit::SignalEffect;
use crate::machine::{RunEnd, RunError, RunOptions};
use crate::program::entry;
use crate::program::exception;
use crate::program::kernel::Kernel;
use crate::program::mm::MemError;
use crate::program::process::PROGRAM_PID;
use crate::program::signal::number::SIGSEGV;
use crate::program::signal::{self, Action, Context, Delivery, Info};
use crate::program::task::Task;
use crate::vcpu::registers::ExtendedState;
use crate::x86::flags::rflags::TRAP_FLAG;

/// What a program died of, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// The signal.
    pub signal: u32,
    /// Where the program was.
    pub rip: u64,
    /// The address that a fault was about.
    pub address: Option<u64>,
    /// What lies at or next to it.
    pub nearest: String,
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "killed by {} at RIP {:#x}", signal::name(self.signal), self.rip)?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        if !self.nearest.is_empty() {
            write!(f, " ({})", self.nearest)?;
        }
        Ok(())
    }
}

/// How the guest is entered again after an exit was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// Behind a system call, with the process's registers.
    Syscall,
    /// Anywhere, with all of the process's registers.
    Full,
}

impl Machine {
    /// Sends the program a signal for what it did, and delivers it.
    pub(super) fn raise(
        &mut self,
        info: Info,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.kernel.signals().force(info);
        self.go_on(options)
    }

    /// Goes on behind an exit that was no system call: pending signals first.
    pub(super) fn go_on(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        if self.reached(options) {
            // Before signals are delivered, so that one can see what led to them.
            self.kernel.sched.count_later();
            self.resume(Resume::Full)?;
            return Ok(Some(RunEnd::Paused));
        }
        let resume = self.deliver(Resume::Full, options)?;
        match self.ended(options)? {
            Some(end) => Ok(Some(end)),
            None => self.go(resume, options),
        }
    }

    /// Goes on where the run came back: signals that came with the exit that it paused behind are delivered
    /// now, and that exit is counted if it was not.
    pub(super) fn go_on_behind_pause(
        &mut self,
        uncounted: bool,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let delivers = self.kernel.signals().any_deliverable();
        let resume = self.deliver(Resume::Full, options)?;
        if let Some(end) = self.ended(options)? {
            return Ok(Some(end));
        }
        match uncounted {
            true => self.go(resume, options),
            false if self.kernel.task.dead || self.kernel.sched.is_stopped(self.kernel.tid()) => {
                self.schedule(options)
            }
            false if delivers => self.resume(resume).map(|()| None),
            false => Ok(None),
        }
    }

    /// Delivers pending signals: the last handler to be entered runs first.
    pub(super) fn deliver(
        &mut self,
        mut resume: Resume,
        options: &mut RunOptions<'_>,
    ) -> Result<Resume, RunError> {
        loop {
            while let Some(delivery) = self.kernel.take_signal() {
                match delivery {
                    Delivery::Ignore(_) => {}
                    Delivery::Stop(info) => {
                        self.tell_signal(&info, SignalEffect::Stops, options);
                        self.kernel.stop_if_due(info.signal);
                    }
                    Delivery::Terminate(info) => {
                        self.die(&info, options)?;
                        return Ok(resume);
                    }
                    Delivery::Handle(info, action) => {
                        resume = Resume::Full;
                        self.enter_handler(&info, &action, options)?;
                        if self.kernel.task.dead {
                            return Ok(resume);
                        }
                    }
                }
            }
            // The CPU would fault on its way there, on some hosts in the monitor's own hands. A handler
            // may lie there too, so that this may go on until the stack is used up.
            let Some(info) = exception::unreachable(self.kernel.task.regs.general.rip) else { break };
            self.kernel.stop.check()?;
            self.kernel.signals().force(info);
        }
        self.kernel.task.signals.end_wait();
        Ok(resume)
    }

    fn enter_handler(
        &mut self,
        info: &Info,
        action: &Action,
        options: &mut RunOptions<'_>,
    ) -> Result<(), RunError> {
        let fp = self.extended_state()?;
        let Kernel { memory, space, task, fp_size, fp_components, .. } = &mut self.kernel;
        let Task { signals, regs, .. } = &mut **task;
        let trampoline = space.state.image.sigreturn;
        let context =
            Context { regs: &mut regs.general, fp: &fp, fp_size: *fp_size, fp_components: *fp_components };
        match signals.enter(memory, space, context, info, action, trampoline) {
            Ok(()) => {
                self.core.vcpu.set_extended_state(&ExtendedState::initial())?;
                self.tell_signal(info, SignalEffect::Handler(action.handler), options);
            }
            Err(MemError::BadAddress(address)) if info.signal == SIGSEGV => {
                self.die(&Info { value: address, ..*info }, options)?;
            }
            Err(MemError::BadAddress(_)) => self.kernel.signals().force(Info::by_kernel(SIGSEGV)),
            Err(MemError::Page(e)) => return Err(e.into()),
        }
        Ok(())
    }

    pub(super) fn die(&mut self, info: &Info, options: &mut RunOptions<'_>) -> Result<(), RunError> {
        self.tell_signal(info, SignalEffect::Ends, options);
        if self.kernel.pid() != PROGRAM_PID {
            return Ok(self.kernel.exit_process(info.signal as i32)?);
        }
        let address = info.fault.and_then(|trap| trap.address);
        let nearest = match address {
            Some(address) => match self.kernel.space.nearest(address) {
                Some((start, vma)) => {
                    let name = String::from_utf8_lossy(&vma.name).into_owned();
                    let name = if name.is_empty() { "an anonymous mapping".to_string() } else { name };
                    let p = vma.protection;
                    let rights: String = [(p.read, 'r'), (p.write, 'w'), (p.exec, 'x')]
                        .map(|(on, c)| if on { c } else { '-' })
                        .iter()
                        .collect();
                    let place = if address < start {
                        format!("{:#x} below", start - address)
                    } else if address >= vma.end {
                        format!("{:#x} behind", address - vma.end)
                    } else {
                        "inside".to_string()
                    };
                    format!("{place} {name}, {start:#x}-{:#x} {rights}", vma.end)
                }
                None => "nothing is mapped".to_string(),
            },
            None => String::new(),
        };
        self.death =
            Some(Death { signal: info.signal, rip: self.kernel.task.regs.general.rip, address, nearest });
        Ok(self.kernel.exit_process(info.signal as i32)?)
    }

    /// Makes the vCPU go on with the process's registers.
    pub(super) fn resume(&mut self, resume: Resume) -> Result<(), RunError> {
        self.kernel.set_horizon(&mut self.told)?;
        let mut regs = self.kernel.task.regs;
        self.look_at_circle(regs.general)?;
        regs.general.rflags = self.prepare_step(&regs.general)?;
        let bases = (regs.fs_base, regs.gs_base);
        let full = match resume {
            Resume::Full => true,
            // `sysretq` with RFLAGS.TF traps before the first instruction, not behind it; and it leaves RIP in RCX,
            // which would be a copy's.
            Resume::Syscall => {
                let in_copies = self.counts_branches() && !self.core.host.syscall_stays_user;
                bases != self.loaded_bases || regs.general.rflags & TRAP_FLAG != 0 || in_copies
            }
        };
        if full {
            // All that matters to a program is set, but for bases that it may have changed itself.
            let own_bases = bases == self.loaded_bases;
            let mut sregs = match own_bases {
                true => self.core.vcpu.sregs()?,
                false => self.core.vcpu.sregs_set_last()?,
            };
            let (fs, gs) = if own_bases { (sregs.fs.base, sregs.gs.base) } else { bases };
            entry::set_user_mode(&mut sregs, &self.core.host, self.kernel.space.root(), (fs, gs));
            self.core.vcpu.set_sregs_at_entry(sregs);
            self.loaded_bases = (fs, gs);
            *self.core.vcpu.regs_mut() = (&regs.general).into();
        } else if self.core.host.syscall_stays_user {
            *self.core.vcpu.regs_mut() = (&regs.general).into();
        } else {
            // `sysretq` in the stub takes RIP from RCX and RFLAGS from R11.
            let stub = *self.core.vcpu.regs();
            let mut next: kvm_bindings::kvm_regs = (&regs.general).into();
            (next.rip, next.rsp, next.rflags) = (stub.rip, regs.general.rsp, stub.rflags);
            (next.rcx, next.r11) = (regs.general.rip, regs.general.rflags);
            *self.core.vcpu.regs_mut() = next;
        }
        self.kernel.entry.clear_handler_stack(&self.kernel.memory);
        Ok(())
    }
}
