//! Changes from outside to a program, which no log knows of: what a debugger sets.

use super::Machine;
use super::delivery::Resume;
use crate::errno::Errno;
use crate::machine::RunError;
use crate::program::error::SysError;
use crate::program::fs::{At, FsError};
use crate::program::kernel::Kernel;
use crate::program::signal;
use crate::vcpu::registers::{ExtendedState, General, USER_COMPONENTS, UserRegisters};

/// Where the lower half of the address space ends.
const USER_END: u64 = 1 << 47;

impl Machine {
    /// Gives the running task other registers; of RFLAGS, what a program can set. Whether that can be: if they are
    /// such that no program can have, or the task waits in a system call, nothing is changed.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn set_registers(&mut self, regs: &UserRegisters, fp: &ExtendedState) -> Result<bool, RunError> {
        let Some(regs) = self.settable(regs).filter(|_| fp.is_valid(USER_COMPONENTS)) else {
            return Ok(false);
        };
        if self.core.vcpu.set_extended_state(fp).is_err() {
            // This CPU lacks something of it.
            return Ok(false);
        }
        self.kernel.task.regs = regs;
        self.resume(Resume::Full)?;
        Ok(true)
    }

    /// [`Machine::set_registers`] of the general ones alone, which costs less.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn set_general(&mut self, general: &General) -> Result<bool, RunError> {
        let regs = UserRegisters { general: *general, ..self.kernel.task.regs };
        let Some(regs) = self.settable(&regs) else { return Ok(false) };
        self.kernel.task.regs = regs;
        self.resume(Resume::Full)?;
        Ok(true)
    }

    /// What the running task can be given of these registers, if it can.
    fn settable(&self, regs: &UserRegisters) -> Option<UserRegisters> {
        let rflags = signal::kept_flags(regs.general.rflags);
        let regs = UserRegisters { general: General { rflags, ..regs.general }, ..*regs };
        (!self.is_waiting() && regs.is_valid(USER_END)).then_some(regs)
    }

    /// Writes memory of the running process, whatever its protection; returns how many bytes were written before
    /// the first that is not mapped.
    ///
    /// # Errors
    /// When a page cannot be brought in.
    pub fn write_memory(&mut self, address: u64, data: &[u8]) -> Result<usize, RunError> {
        let Kernel { space, memory, .. } = &mut self.kernel;
        Ok(space.write_any(memory, address, data)?)
    }

    /// Replaces the content of a regular file, whoever may write to it, as a program does that empties it and writes to
    /// it. Whether that could be done: there is such a file, that output does not go to, and room.
    ///
    /// # Errors
    /// When a page that has to do with it cannot be brought in, or the outside gives no answer.
    pub fn write_file(&mut self, path: &[u8], data: &[u8]) -> Result<bool, RunError> {
        let written = self.kernel.with_files(|fs, files, env, context| {
            let id = fs.lookup(env, At { base: context.cwd, fds: files }, path, true)?;
            // That one is the host's.
            if fs.is_output_file(id) {
                return Err(Errno::EPERM.into());
            }
            fs.set_len(env, id, 0)?;
            let mut done = 0;
            while done < data.len() {
                match fs.write_at(env, id, done as u64, &data[done..])? {
                    0 => break,
                    n => done += n,
                }
            }
            Ok::<_, FsError>(done)
        });
        match written.map_err(SysError::from) {
            Ok(done) => Ok(done == data.len()),
            Err(SysError::Errno(_)) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}
