//! A program: its memory, files, signals and clock, and what the monitor knows of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::credentials::Credentials;
use super::exception;
use super::exec::CpuInfo;
use super::files::FdTable;
use super::fs::{ContentRef, Fs, FsError, InodeId};
use super::mm::{AddressSpace, Held, MemError, Memory, MemoryState, USER_END};
use super::outside::SharedOutside;
use super::settings::Settings;
use super::signal::number::{SIGKILL, SIGSEGV, SIGXCPU};
use super::signal::{Delivery, Info, Signals};
use super::state::RLIMIT_CPU;
use super::timers::Timers;
use crate::errno::Errno;
use crate::host::stop::StopHandle;
use crate::machine::{BadState, End, expect};
use crate::ram::PageError;
use crate::random::Random;
use crate::vcpu::registers::{ExtendedState, UserRegisters};
use crate::world::{Source, WorldError};
use crate::x86::vector;

/// The process id of a program: the first that a container's first program would start.
pub const PID: u32 = 2;

/// The process that started the program, and does nothing more.
pub const FIRST_PID: u32 = 1;

/// Soft and hard resource limits (`RLIMIT_*` in their order).
pub type Limits = [(u64, u64); 16];

/// What the monitor keeps of the calling task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Path of the program.
    pub exe: Vec<u8>,
    /// The program's file: held, and not to be written, while it runs.
    pub executable: Option<InodeId>,
    /// `comm`: at most 15 bytes.
    pub name: Vec<u8>,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
    /// Its environment at its start.
    pub env: Vec<Vec<u8>>,
    /// The auxiliary vector at its start.
    pub auxv: Vec<(u64, u64)>,
    /// Working directory.
    pub cwd: InodeId,
    /// Where the program starts: entered when it is loaded.
    pub workdir: Vec<u8>,
    /// File mode creation mask.
    pub umask: u32,
    /// Resource limits.
    pub limits: Limits,
    /// Lowest and highest address of the stack's arguments, for `/proc/self/stat`.
    pub stack: u64,
    /// Where the trampoline of handlers without a restorer is.
    pub sigreturn: u64,
    /// Who it is and what it may do.
    pub credentials: Credentials,
    /// What it has set of itself.
    pub settings: Settings,
    /// Frozen contents that mappings hold, once each.
    pub frozen: BTreeSet<ContentRef>,
    /// Files whose content is in guest memory, by object: held while they are mapped.
    pub shared: BTreeMap<u64, InodeId>,
    /// Interval timers.
    pub timers: Timers,
}

/// Bytes of `comm`, without its end (`TASK_COMM_LEN`).
pub const NAME_BYTES: usize = 15;
/// Entries of an auxiliary vector at most; there are some twenty.
const AUXV_MAX: usize = 64;

impl Task {
    /// Checks what a file claims of a task whose files are `fs`.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self, fs: &Fs, memory: &MemoryState) -> Result<(), BadState> {
        let Task {
            // These three go to `/proc` as they are.
            exe: _,
            args: _,
            env: _,
            name,
            auxv,
            cwd,
            workdir,
            umask,
            limits,
            stack,
            sigreturn,
            executable,
            credentials,
            settings,
            frozen,
            shared,
            // Any time and any interval may be asked for.
            timers: _,
        } = self;
        expect(name.len() <= NAME_BYTES && !name.contains(&0), "the program's name")?;
        expect(auxv.len() <= AUXV_MAX, "the auxiliary vector")?;
        expect(fs.is_dir(*cwd) && !workdir.contains(&0), "the working directory")?;
        expect(executable.is_none_or(|inode| fs.exists(inode)), "the program's file")?;
        expect(credentials.is_sound(), "the credentials")?;
        expect(settings.is_sound(), "the process's settings")?;
        expect(*umask <= 0o777, "the file mode mask")?;
        expect(limits.iter().all(|(soft, hard)| soft <= hard), "a resource limit")?;
        expect(*stack <= USER_END && *sigreturn <= USER_END, "the stack")?;
        expect(frozen.iter().all(|content| fs.has_frozen_content(*content)), "a mapped file's content")?;
        let in_memory = |(object, inode): (&u64, &InodeId)| {
            fs.object_of(*inode) == Some(*object) && memory.objects.contains_key(object)
        };
        expect(shared.iter().all(in_memory), "a mapped file")
    }
}

/// The digest of what was written into guest memory to answer an exit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effects(u64);

impl Effects {
    /// Adds a write.
    pub fn add(&mut self, address: u64, data: &[u8]) {
        let seed = self.0.rotate_left(5) ^ address ^ (data.len() as u64) << 48;
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(data, seed);
    }

    /// The digest so far, which starts anew.
    pub fn take(&mut self) -> u64 {
        std::mem::take(&mut self.0)
    }
}

/// Why a system call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// The program gets this.
    #[error("{0}")]
    Errno(Errno),
    /// The call waits for something that no task can bring about: with a pending signal it is
    /// interrupted, else the program is stuck.
    #[error("the call would wait for ever")]
    Block,
    /// A signal from outside came while the call waited: it is taken, and interrupts the call, or the
    /// call is made again.
    #[error("a signal came")]
    Signal,
    /// The call waits for input until a timer goes off, and is made again when there is some.
    #[error("the call waits for input")]
    Input(Source),
    /// A page could not be brought in: the run ends.
    #[error(transparent)]
    Page(PageError),
    /// The outside gave no answer: the run ends.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The monitor failed: the run ends.
    #[error("{0}")]
    Machine(String),
}

impl From<Errno> for SysError {
    fn from(errno: Errno) -> SysError {
        SysError::Errno(errno)
    }
}

impl From<PageError> for SysError {
    fn from(e: PageError) -> SysError {
        match e {
            PageError::World(e) => SysError::World(e),
            e => SysError::Page(e),
        }
    }
}

impl From<MemError> for SysError {
    fn from(e: MemError) -> SysError {
        match e {
            MemError::BadAddress(_) => SysError::Errno(Errno::EFAULT),
            MemError::Page(e) => e.into(),
        }
    }
}

impl From<FsError> for SysError {
    fn from(e: FsError) -> SysError {
        match e {
            FsError::Errno(errno) => SysError::Errno(errno),
            FsError::World(e) => SysError::World(e),
            FsError::Block => SysError::Block,
            FsError::Signal => SysError::Signal,
            FsError::Input(source) => SysError::Input(source),
            FsError::Machine(e) => match e.downcast::<PageError>() {
                Ok(e) => (*e).into(),
                Err(e) => SysError::Machine(e.to_string()),
            },
        }
    }
}

impl From<super::mm::MapError> for SysError {
    fn from(e: super::mm::MapError) -> SysError {
        match e {
            super::mm::MapError::Errno(errno) => SysError::Errno(errno),
            super::mm::MapError::Page(e) => e.into(),
        }
    }
}

/// What system calls give: RAX.
pub type SysResult = Result<u64, SysError>;

/// A program in its machine.
#[derive(Debug)]
pub struct Process {
    /// Physical memory.
    pub memory: Memory,
    /// Its address space.
    pub space: AddressSpace,
    /// File system and world.
    pub outside: SharedOutside,
    /// Its descriptors.
    pub files: FdTable,
    /// Its signals.
    pub signals: Signals,
    /// Its clock.
    pub clock: Clock,
    /// When the run must be over.
    pub stop: StopHandle,
    /// Its random stream.
    pub random: Random,
    /// The rest.
    pub task: Task,
    /// Registers, while the monitor answers an exit.
    pub regs: UserRegisters,
    /// Floating-point state that `rt_sigreturn` puts back.
    pub fp: Option<ExtendedState>,
    /// Bytes of the XSAVE area in a signal frame.
    pub fp_size: usize,
    /// Its components: XCR0.
    pub fp_components: u64,
    /// What a program is told of its CPU.
    pub cpu: CpuInfo,
    /// What the current exit wrote.
    pub effects: Effects,
    /// System calls that are not implemented, by number: how often.
    pub unknown: BTreeMap<u64, u64>,
    /// Set when the program has ended.
    pub end: Option<End>,
    /// Words that the program wrote to `/dev/dejavm` in this exit.
    pub control: Vec<Vec<u8>>,
}

impl Process {
    /// Counts a system call that is not implemented. A program may make up any number of numbers, so
    /// that only the first kinds are told apart.
    pub fn count_unknown(&mut self, number: u64) {
        /// Kinds that are told apart.
        const KINDS: usize = 512;
        /// All others.
        const OTHERS: u64 = u64::MAX;
        let known = self.unknown.contains_key(&number) || self.unknown.len() < KINDS;
        *self.unknown.entry(if known { number } else { OTHERS }).or_default() += 1;
    }

    /// Reads the program's memory.
    pub fn read(&mut self, address: u64, out: &mut [u8]) -> Result<(), SysError> {
        Ok(self.space.read(&mut self.memory, address, out)?)
    }

    /// Writes the program's memory.
    pub fn write(&mut self, address: u64, data: &[u8]) -> Result<(), SysError> {
        self.space.write(&mut self.memory, address, data)?;
        self.effects.add(address, data);
        Ok(())
    }

    /// Reads a 64-bit word.
    pub fn read_u64(&mut self, address: u64) -> Result<u64, SysError> {
        let mut bytes = [0u8; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a 32-bit word.
    pub fn read_u32(&mut self, address: u64) -> Result<u32, SysError> {
        let mut bytes = [0u8; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a path.
    pub fn read_path(&mut self, address: u64) -> Result<Vec<u8>, SysError> {
        match self.space.read_string(&mut self.memory, address, super::fs::PATH_MAX)? {
            Some(path) => Ok(path),
            None => Err(Errno::ENAMETOOLONG.into()),
        }
    }

    /// Reads `N` 64-bit words.
    pub fn read_words<const N: usize>(&mut self, address: u64) -> Result<[u64; N], SysError> {
        let mut bytes = vec![0u8; N * 8];
        self.read(address, &mut bytes)?;
        let words = bytes.as_chunks::<8>().0;
        Ok(std::array::from_fn(|i| u64::from_le_bytes(words[i])))
    }

    /// Writes 64-bit words.
    pub fn write_words(&mut self, address: u64, words: &[u64]) -> Result<(), SysError> {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.write(address, &bytes)
    }

    /// Gives back file contents and shared objects that nothing maps any more.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn release_unmapped(&mut self) -> Result<(), SysError> {
        for held in self.space.take_lost() {
            let object = match held {
                Held::Content(content) => {
                    if self.task.frozen.remove(&content) {
                        self.outside.fs().release_frozen(content);
                    }
                    continue;
                }
                Held::Object(object) => object,
            };
            if !self.memory.state.objects.contains_key(&object) {
                continue;
            }
            match self.task.shared.remove(&object) {
                // The file goes on without a mapping; if there is no room outside guest memory, it
                // stays where it is.
                Some(inode) => {
                    self.with_files(|fs, _, env, _| match fs.make_unshared(env, inode) {
                        Ok(()) | Err(FsError::Errno(_)) => fs.release(env, inode),
                        Err(e) => Err(e),
                    })?;
                }
                None if super::mm::is_anonymous_object(object) => self.memory.drop_object(object)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Goes back to where a signal handler was entered: `rt_sigreturn`. A frame that cannot be read, or
    /// that the CPU would refuse, is a `SIGSEGV`.
    ///
    /// # Errors
    /// When a page cannot be brought in.
    pub fn sigreturn(&mut self) -> Result<(), SysError> {
        let Process { signals, memory, space, regs, fp_size, fp_components, .. } = self;
        let left = match signals.leave(memory, space, &mut regs.general, *fp_size, *fp_components) {
            Ok(left) => left,
            Err(MemError::BadAddress(_)) => {
                self.signals.force(Info::by_kernel(SIGSEGV));
                return Ok(());
            }
            Err(MemError::Page(e)) => return Err(e.into()),
        };
        if left.fp.is_none() {
            self.signals.force(Info::by_kernel(SIGSEGV));
        } else if let Some(selector) = left.bad_selector {
            // The `iret` that goes back would fault.
            self.signals.force(exception::signal(vector::PROTECTION, (selector & !3).into(), 0));
        }
        self.fp = Some(left.fp.unwrap_or_else(ExtendedState::initial));
        Ok(())
    }

    /// Takes the next signal to deliver.
    pub fn take_signal(&mut self) -> Option<Delivery> {
        loop {
            let delivery = self.signals.take_next()?;
            self.task.timers.signal_taken(delivery.info().signal, self.clock.monotonic());
            if !matches!(delivery, Delivery::Ignore(_)) {
                return Some(delivery);
            }
        }
    }

    /// Takes a pending signal out of a set, whether it is blocked or not.
    pub fn take_signal_of(&mut self, set: u64) -> Option<Info> {
        let info = self.signals.take_of(set)?;
        self.task.timers.signal_taken(info.signal, self.clock.monotonic());
        Some(info)
    }

    /// Sends the signals of interval timers that have expired. Returns whether any has.
    pub fn fire_timers(&mut self) -> bool {
        let Process { task, clock, signals, .. } = self;
        let mut fired = false;
        for signal in task.timers.expire(clock.monotonic(), clock.cpu()) {
            signals.send(Info::by_kernel(signal));
            fired = true;
        }
        self.check_cpu_limit() || fired
    }

    /// Sends `SIGXCPU` for each second of CPU time beyond `RLIMIT_CPU`, and `SIGKILL` at its hard limit
    /// (`check_process_timers`). Returns whether it has.
    fn check_cpu_limit(&mut self) -> bool {
        const SECOND: u64 = 1_000_000_000;
        let (soft, hard) = &mut self.task.limits[RLIMIT_CPU];
        let seconds = self.clock.cpu() / SECOND;
        let signal = match (seconds >= *hard, seconds >= *soft) {
            _ if *soft == u64::MAX => return false,
            (true, _) => SIGKILL,
            (false, true) => SIGXCPU,
            (false, false) => return false,
        };
        if signal == SIGXCPU {
            *soft += 1;
        }
        self.signals.send(Info::by_kernel(signal));
        true
    }
}
