//! What an observer that reads memory is told of system calls.

use super::Machine;
use crate::exit::{DeliveredSignal, Exit, ExitKind, GuestMemory, Holdings, MadeCall, Observer, SignalEffect};
use crate::machine::{RunError, RunOptions};
use crate::program::fs::{FdLinks, Fs};
use crate::program::kernel::Kernel;
use crate::program::signal::Info;
use crate::program::wait::Call;

/// The memory of the running task.
struct Looked<'a>(&'a Kernel);

impl GuestMemory for Looked<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> usize {
        self.0.space.look(&self.0.memory, address, out)
    }

    fn holdings(&self) -> Option<Holdings> {
        let mapped = self.0.space.mapped_bytes(|_| true);
        Some(Holdings { mapped, descriptors: self.0.files.count() })
    }

    fn path_of(&self, descriptor: u32) -> Option<Vec<u8>> {
        self.0.files.target(descriptor).map(|file| self.0.outside.look(Fs::path_of, file))
    }

    fn working_directory(&self) -> Option<Vec<u8>> {
        Some(self.0.outside.look(Fs::path_of, self.0.context.cwd))
    }

    fn process(&self) -> Option<(u32, usize)> {
        let process = self.0.pid();
        Some((process, self.0.tasks_of(process).len()))
    }
}

/// The most descriptors that are looked for.
const DESCRIPTORS_MAX: u32 = 1 << 20;

impl Machine {
    /// The open descriptors of the running task, and the path of what each is open on, as `/proc/self/fd` has them.
    pub fn descriptors(&self) -> Vec<(u32, Vec<u8>)> {
        let looked = Looked(&self.kernel);
        let open = (0..DESCRIPTORS_MAX).filter_map(|number| Some((number, looked.path_of(number)?)));
        open.take(usize::try_from(self.kernel.files.count()).unwrap_or(usize::MAX)).collect()
    }

    /// The working directory of the running task.
    pub fn working_directory(&self) -> Vec<u8> {
        Looked(&self.kernel).working_directory().unwrap_or_default()
    }

    /// Tells an observer that reads memory of a call that is made for the first time.
    pub(super) fn tell_made(&mut self, call: &Call, options: &mut RunOptions<'_>) {
        if self.kernel.resumed().is_some() {
            return;
        }
        let Some(observer) = self.looker(options) else { return };
        let made = MadeCall {
            task: self.kernel.tid(),
            process: self.kernel.pid(),
            clock: self.kernel.clock.realtime(),
            number: call.number,
            args: call.args,
        };
        observer.made(&made, &Looked(&self.kernel));
    }

    /// Tells an observer that reads memory of a signal that is delivered to the running task.
    pub(super) fn tell_signal(&mut self, info: &Info, effect: SignalEffect, options: &mut RunOptions<'_>) {
        let Some(observer) = self.looker(options) else { return };
        observer.signal(&DeliveredSignal {
            task: self.kernel.tid(),
            process: self.kernel.pid(),
            clock: self.kernel.clock.realtime(),
            exits: self.core.exits,
            signal: info.signal,
            code: info.code,
            effect,
        });
    }

    /// The observer, if it is one that reads memory. It may do what it likes: RDTSC does not fault any more.
    fn looker<'a>(&mut self, options: &'a mut RunOptions<'_>) -> Option<&'a mut dyn Observer> {
        let observer = options.observer.as_deref_mut().filter(|observer| observer.reads_memory())?;
        if !observer.reads_no_clock() {
            self.core.vcpu.settle();
        }
        Some(observer)
    }

    /// Tells an observer that reads memory of a call that was answered, behind its exit.
    pub(super) fn tell_answered(&self, exit: &Exit, options: &mut RunOptions<'_>) -> Result<(), RunError> {
        match &mut options.observer {
            Some(observer) if matches!(exit.kind, ExitKind::Syscall { .. }) && observer.reads_memory() => {
                Ok(observer.answered(exit, &Looked(&self.kernel))?)
            }
            _ => Ok(()),
        }
    }
}
