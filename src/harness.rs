//! Running a program up to an address, and calling its functions: for harnesses that try one function with many inputs.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dejavm_replay::{loaded_at, symbol_address};
use dejavm_sandbox::machine::PauseAt;
use dejavm_sandbox::program::machine::{Calls, Machine};
use dejavm_sandbox::vcpu::registers::General;

use crate::{Error, Outcome, Sandbox};

/// Bytes below RSP that a function may use without saying so (System V ABI, AMD64, 3.2.2).
const RED_ZONE: u64 = 128;

/// The entry point in the auxiliary vector (`include/uapi/linux/auxvec.h`).
const AT_ENTRY: u64 = 9;

/// What became of a call of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// It returned this.
    Returned(u64),
    /// It did not return: the run ended, or was ended.
    Ended(Outcome),
}

/// These run and change the guest's first process.
impl Sandbox {
    /// The address of a symbol, by its name as it stands in the file: mangled, in C++ and Rust. The executable's and, once they
    /// are loaded, those of its libraries are known; of a file that was stripped, those that other files see.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        symbol_address(self.machine(), name)
    }

    /// Where the running process's executable begins. Its libraries are loaded by then. `None` of bare-metal guests.
    pub fn entry(&self) -> Option<u64> {
        let program = self.machine().program()?;
        let auxv = &program.kernel.space.state.image.auxv;
        auxv.iter().find_map(|(kind, value)| (*kind == AT_ENTRY).then_some(*value))
    }

    /// Where a file is loaded in the running process: the lowest address of its mappings. It is given by its path in the guest,
    /// or by its name.
    pub fn loaded_at(&self, file: &str) -> Option<u64> {
        loaded_at(self.machine(), file)
    }

    /// Runs the guest until its first process is about to run an instruction at one of these addresses
    /// ([`Outcome::Paused`]), at once where it is at one, or until it ends, or is ended before.
    ///
    /// # Errors
    /// [`Error::NotChanged`] of bare-metal guests, and of runs that are recorded or replayed; as [`Sandbox::run`].
    pub fn run_to(&mut self, addresses: impl IntoIterator<Item = u64>) -> Result<Outcome, Error> {
        let addresses: BTreeSet<u64> = addresses.into_iter().collect();
        self.changeable()?.debug.breakpoints = addresses;
        let outcome = self.run_until(PauseAt::Never);
        if let Some(program) = self.machine_mut().program_mut() {
            program.debug.breakpoints.clear();
        }
        outcome
    }

    /// Runs the guest until a process of it is about to make a system call that names this path, in these words, such as
    /// `open` or `stat` ([`Outcome::Paused`]), or until it ends, or is ended before.
    ///
    /// # Errors
    /// As [`Sandbox::run_to`].
    pub fn run_to_use_of(&mut self, path: impl AsRef<Path>) -> Result<Outcome, Error> {
        let path = path.as_ref().as_os_str().as_bytes().to_vec();
        self.changeable()?.debug.calls = Calls::Naming(path);
        let outcome = self.run_until(PauseAt::Never);
        if let Some(program) = self.machine_mut().program_mut() {
            program.debug.calls = Calls::None;
        }
        outcome
    }

    /// Replaces the content of a regular file that the running process can open, whoever may write to it. The file of the
    /// host's that it may be stays as it is. [`Sandbox::reset_to`] undoes it.
    ///
    /// # Errors
    /// [`Error::NotChanged`] where there is no such file, or no room for it: it may have a part of the bytes then; of a file
    /// that standard output or error goes to, which is the host's; and of bare-metal guests, and of runs that are recorded or replayed; [`Error::Run`]; [`Error::Unusable`].
    pub fn write_file(&mut self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
        match self.changeable()?.write_file(path.as_ref().as_os_str().as_bytes(), bytes) {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(Error::NotChanged { why: "there is no such regular file, or no room for its bytes" })
            }
            Err(e) => Err(self.fail(e)),
        }
    }

    /// The general registers of the running task.
    pub fn registers(&self) -> General {
        self.machine().registers().general
    }

    /// Gives the running task other ones. Of RFLAGS, what a program can set is taken.
    ///
    /// # Errors
    /// [`Error::NotChanged`] if no program can have them, and of bare-metal guests, and of runs that are recorded or
    /// replayed; [`Error::Run`]; [`Error::Unusable`].
    pub fn set_registers(&mut self, registers: &General) -> Result<(), Error> {
        match self.changeable()?.set_general(registers) {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(Error::NotChanged { why: "no program has such registers, or it waits in a system call" })
            }
            Err(e) => Err(self.fail(e)),
        }
    }

    /// Writes memory of the running process, whatever its protection.
    ///
    /// # Errors
    /// [`Error::NotChanged`] where not all of it is mapped: what lies before is written then; and of bare-metal guests, and
    /// of runs that are recorded or replayed; [`Error::Run`]; [`Error::Unusable`].
    pub fn write_memory(&mut self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        match self.changeable()?.write_memory(address, bytes) {
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(_) => Err(Error::NotChanged { why: "no memory is mapped there" }),
            Err(e) => Err(self.fail(e)),
        }
    }

    /// Calls a function with up to six arguments, integers or pointers (System V ABI), and comes back behind it; registers
    /// are as before then, and the process goes on where it was.
    ///
    /// # Errors
    /// As [`Sandbox::run_to`], [`Sandbox::set_registers`] and [`Sandbox::write_memory`].
    ///
    /// # Panics
    /// With more than six arguments.
    pub fn call(&mut self, function: u64, arguments: &[u64]) -> Result<Called, Error> {
        let before = self.registers();
        let rsp = (before.rsp.wrapping_sub(RED_ZONE) & !15).wrapping_sub(8);
        let mut registers = General { rip: function, rsp, rax: 0, ..before };
        let General { rdi, rsi, rdx, rcx, r8, r9, .. } = &mut registers;
        let places = [rdi, rsi, rdx, rcx, r8, r9];
        assert!(arguments.len() <= places.len(), "a call has six arguments at most");
        places.into_iter().zip(arguments).for_each(|(place, argument)| *place = *argument);
        // An instruction that is hardly ever run again.
        let back = self.entry().unwrap_or(before.rip);
        self.write_memory(rsp, &back.to_le_bytes())?;
        self.set_registers(&registers)?;
        loop {
            match self.run_to([back])? {
                Outcome::Paused => {}
                outcome => return Ok(Called::Ended(outcome)),
            }
            let now = self.registers();
            if now.rsp == rsp.wrapping_add(8) {
                self.set_registers(&before)?;
                return Ok(Called::Returned(now.rax));
            }
            // The function has come there itself.
            match self.step()? {
                Outcome::Paused => {}
                outcome => return Ok(Called::Ended(outcome)),
            }
        }
    }

    /// Runs one instruction.
    fn step(&mut self) -> Result<Outcome, Error> {
        let program = self.changeable()?;
        program.debug.steps = Some(program.steps().saturating_add(1));
        let outcome = self.run_until(PauseAt::Never);
        self.changeable()?.debug.steps = None;
        outcome
    }

    fn changeable(&mut self) -> Result<&mut Machine, Error> {
        self.check()?;
        if self.is_logged() {
            return Err(Error::NotChanged { why: "what it is given would be in no log" });
        }
        self.machine_mut().program_mut().ok_or(Error::NotChanged { why: "it is a bare-metal guest" })
    }
}
