//! A machine of either kind.

use std::path::Path;
use std::sync::Arc;

use dejavm_snapshot::{DictionaryMode, Summary, WriteOptions};

use super::MachineState;
use super::save::encode;
use crate::host::HostProfile;
use crate::host::stop::StopHandle;
use crate::machine::{
    Core, Difference, MachineOptions, Memory, ReadError, RunEnd, RunError, RunOptions, SaveError, StartError,
    run,
};
use crate::ram::Ram;
use crate::vcpu::registers::UserRegisters;
use crate::world::World;
use crate::{kernel, program};

/// A machine at one moment of its run, kept in memory. [`Machine::start`] makes machines of it that go on from
/// there, any number of them.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// All but the contents of its memory.
    pub state: MachineState,
    /// Its memory. What several checkpoints of one run have in common is there once.
    pub memory: Memory,
}

/// A moment of a machine's run that it is put back to, any number of times.
#[derive(Debug)]
pub enum ResetPoint {
    /// Of a Linux program's.
    Program(Box<program::machine::ResetPoint>),
    /// Of a bare-metal guest's.
    Kernel(Box<kernel::reset::ResetPoint>),
}

impl ResetPoint {
    /// Compared exits until then.
    pub fn exits(&self) -> u64 {
        match self {
            ResetPoint::Program(point) => point.state().exits,
            ResetPoint::Kernel(point) => point.state().exits,
        }
    }

    /// Pages that are copied back each time.
    pub fn hot_pages(&self) -> usize {
        match self {
            ResetPoint::Program(point) => point.hot_pages(),
            ResetPoint::Kernel(point) => point.hot_pages(),
        }
    }
}

/// A machine.
#[derive(Debug)]
pub enum Machine {
    /// With a Linux program.
    Program(Box<program::machine::Machine>),
    /// With a bare-metal guest.
    Kernel(Box<kernel::machine::Machine>),
}

impl From<program::machine::Machine> for Machine {
    fn from(machine: program::machine::Machine) -> Machine {
        Machine::Program(Box::new(machine))
    }
}

impl From<kernel::machine::Machine> for Machine {
    fn from(machine: kernel::machine::Machine) -> Machine {
        Machine::Kernel(Box::new(machine))
    }
}

impl Machine {
    /// Makes a machine from its state and its memory.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        state: MachineState,
        memory: Memory,
        world: Box<dyn World>,
        host: Arc<HostProfile>,
        stop: StopHandle,
        options: &MachineOptions,
    ) -> Result<Machine, StartError> {
        Ok(match state {
            MachineState::Program(state) => {
                program::machine::Machine::start(*state, memory, world, host, stop, options)?.into()
            }
            MachineState::Kernel(state) => {
                kernel::machine::Machine::start(*state, memory, world, host, stop, options)?.into()
            }
        })
    }

    /// Runs the guest until it ends, pauses, or is ended.
    ///
    /// # Errors
    /// [`RunError`]; the machine cannot be run on after one.
    pub fn run(&mut self, options: RunOptions<'_>) -> Result<RunEnd, RunError> {
        self.ram().run_begins(self.core().host_profile().cpus);
        match self {
            Machine::Program(machine) => run(&mut **machine, options),
            Machine::Kernel(machine) => run(&mut **machine, options),
        }
    }

    /// Keeps the machine as it is now, in memory. Nothing changes for the guest.
    ///
    /// # Errors
    /// When KVM refuses, or a page cannot be read.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, RunError> {
        let (state, memory) = match self {
            Machine::Program(machine) => {
                let (state, memory) = machine.checkpoint()?;
                (MachineState::Program(Box::new(state)), memory)
            }
            Machine::Kernel(machine) => {
                let (state, memory) = machine.checkpoint()?;
                (MachineState::Kernel(Box::new(state)), memory)
            }
        };
        Ok(Checkpoint { state, memory })
    }

    /// Marks this moment of the run, to which [`Machine::reset_to`] puts the machine back. Nothing changes for the guest.
    /// An earlier mark is over.
    ///
    /// # Errors
    /// When KVM refuses, or a page cannot be read.
    pub fn reset_point(&mut self) -> Result<ResetPoint, RunError> {
        Ok(match self {
            Machine::Program(machine) => ResetPoint::Program(Box::new(machine.reset_point()?)),
            Machine::Kernel(machine) => ResetPoint::Kernel(Box::new(machine.reset_point()?)),
        })
    }

    /// Puts the machine back to the moment that was marked last: one of its own.
    ///
    /// # Errors
    /// When KVM or the host refuses; the machine cannot be used after that.
    pub fn reset_to(&mut self, point: &mut ResetPoint) -> Result<(), RunError> {
        match (self, point) {
            (Machine::Program(machine), ResetPoint::Program(point)) => machine.reset_to(point),
            (Machine::Kernel(machine), ResetPoint::Kernel(point)) => machine.reset_to(point),
            _ => Err(RunError::Machine("the moment is one of another machine's run".into())),
        }
    }

    /// Looks for anything of the machine that is not what it was at the moment that it was put back to just now: for
    /// tests of that.
    ///
    /// # Errors
    /// When KVM refuses, or a page cannot be read.
    pub fn difference_from(&mut self, point: &ResetPoint) -> Result<Option<Difference>, RunError> {
        match (self, point) {
            (Machine::Program(machine), ResetPoint::Program(point)) => machine.difference_from(point),
            (Machine::Kernel(machine), ResetPoint::Kernel(point)) => machine.difference_from(point),
            _ => Err(RunError::Machine("the moment is one of another machine's run".into())),
        }
    }

    /// Writes a snapshot. With `options.parent`, the snapshot that this machine was restored from,
    /// only pages that differ from it.
    ///
    /// # Errors
    /// [`SaveError`].
    pub fn save(
        &mut self,
        path: impl AsRef<Path>,
        options: &WriteOptions,
        with_files: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Summary, SaveError> {
        let path = path.as_ref();
        match self {
            Machine::Program(machine) => machine.save(path, options, with_files, progress, |state| {
                encode(&MachineState::Program(Box::new(state)))
            }),
            Machine::Kernel(machine) => {
                machine.save(path, options, progress, |state| encode(&MachineState::Kernel(Box::new(state))))
            }
        }
    }

    /// Writes a snapshot of the machine as it is now, from which its run can be replayed. Nothing changes for
    /// the guest, as with [`Machine::checkpoint`]: pages of files that it has not looked at are not in it. The
    /// caller brings it to the disk.
    ///
    /// # Errors
    /// [`SaveError`].
    pub fn keep(&mut self, path: impl AsRef<Path>) -> Result<Summary, SaveError> {
        // Quickly: the run waits.
        let (path, options) = (
            path.as_ref(),
            WriteOptions {
                level: 1,
                dictionary: DictionaryMode::Never,
                durable: false,
                ..WriteOptions::default()
            },
        );
        match self {
            Machine::Program(machine) => {
                machine.keep(path, &options, |state| encode(&MachineState::Program(Box::new(state))))
            }
            Machine::Kernel(machine) => machine
                .save(path, &options, &mut |_, _| {}, |state| encode(&MachineState::Kernel(Box::new(state)))),
        }
    }

    /// Gives up the blocks of host files that are at hand: what is read of them from now on is asked of the
    /// outside again, so that a log that begins here has it. Nothing changes for the guest.
    pub fn drop_blocks(&mut self) {
        match self {
            Machine::Program(machine) => machine.kernel.outside.fs().drop_blocks(),
            // It reads no files.
            Machine::Kernel(_) => {}
        }
    }

    /// Reads the guest's memory by its virtual addresses, whatever their protection. Nothing changes
    /// for the guest, and no page is brought in.
    ///
    /// # Errors
    /// [`ReadError`] names the first address that could not be read; what is before it in `out` was.
    pub fn read_memory(&self, address: u64, out: &mut [u8]) -> Result<(), ReadError> {
        match self {
            Machine::Program(machine) => {
                let program::kernel::Kernel { space, memory, .. } = &machine.kernel;
                space.peek(memory, address, out)
            }
            Machine::Kernel(machine) => machine.read_memory(address, out),
        }
    }

    /// What all machines have.
    pub fn core(&self) -> &Core {
        match self {
            Machine::Program(machine) => &machine.core,
            Machine::Kernel(machine) => &machine.core,
        }
    }

    /// The guest's memory.
    pub fn ram(&self) -> &Ram {
        match self {
            Machine::Program(machine) => &machine.kernel.memory.ram,
            Machine::Kernel(machine) => &machine.ram,
        }
    }

    /// The guest's registers, as of the last exit.
    pub fn registers(&self) -> UserRegisters {
        match self {
            Machine::Program(machine) => machine.kernel.task.regs,
            Machine::Kernel(machine) => {
                UserRegisters { general: machine.core.vcpu.regs().into(), ..Default::default() }
            }
        }
    }

    /// The machine, if it has a program.
    pub fn program(&self) -> Option<&program::machine::Machine> {
        match self {
            Machine::Program(machine) => Some(machine),
            Machine::Kernel(_) => None,
        }
    }

    /// The machine, if it has a program, to change.
    pub fn program_mut(&mut self) -> Option<&mut program::machine::Machine> {
        match self {
            Machine::Program(machine) => Some(machine),
            Machine::Kernel(_) => None,
        }
    }

    /// The machine, if it has a bare-metal guest.
    pub fn kernel(&self) -> Option<&kernel::machine::Machine> {
        match self {
            Machine::Kernel(machine) => Some(machine),
            Machine::Program(_) => None,
        }
    }
}
