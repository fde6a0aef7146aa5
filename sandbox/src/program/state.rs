//! The state of a program's machine.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::clock::{Clock, ClockMode, DEFAULT_START};
use super::exec::Command;
use super::files::FdTable;
use super::fs::{Fs, FsOptions, InodeId, Mount, MountError, Stdio};
use super::mm::{Account, MemoryState, SpaceState, USER_END, Vma};
use super::process::Task;
use super::signal::Signals;
use crate::host::CpuIdentity;
use crate::machine::BadState;
use crate::ram::{CHUNK_PAGES, PAGE_SIZE};
use crate::random::Random;
use crate::vcpu::registers::{ExtendedState, UserRegisters};

/// The stream of the seed that a program's random bytes are drawn from.
pub const PROGRAM_STREAM: u64 = 0;
/// The most guest memory, bytes: what the address bits of every x86-64 CPU reach.
pub const MAX_MEMORY: u64 = 64 << 30;
/// Chunks of address space beyond what may be charged: code, stacks, and regions that are only
/// partly used.
const SPARE_CHUNKS: u64 = 1024;
/// `RLIM_INFINITY`.
const INFINITY: u64 = u64::MAX;
/// `RLIMIT_STACK`, `RLIMIT_CORE`, `RLIMIT_NPROC`, `RLIMIT_NOFILE`.
const LIMIT_STACK: usize = 3;
const LIMIT_CORE: usize = 4;
const LIMIT_NPROC: usize = 6;
const LIMIT_NOFILE: usize = 7;

/// A program's machine at one moment of its run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgramState {
    /// The CPU that it ran on.
    pub cpu: CpuIdentity,
    /// The run's seed.
    pub seed: u64,
    /// A program that is yet to be loaded; until then there is no memory.
    pub pending: Option<Command>,
    /// Registers.
    pub regs: UserRegisters,
    /// Floating-point registers.
    pub fp: ExtendedState,
    /// The address space.
    pub space: SpaceState,
    /// Physical memory.
    pub memory: MemoryState,
    /// Pages of guest RAM.
    pub ram_pages: u64,
    /// The file system.
    pub fs: Fs,
    /// Descriptors.
    pub files: FdTable,
    /// Signals.
    pub signals: Signals,
    /// The clock.
    pub clock: Clock,
    /// The random stream.
    pub random: Random,
    /// The rest of the process.
    pub task: Task,
    /// Compared exits so far.
    pub exits: u64,
}

/// What a program is started with.
#[derive(Clone, Debug)]
pub struct ProgramSpec {
    /// The program.
    pub command: Command,
    /// What it sees of the host.
    pub mounts: Vec<Mount>,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Its working directory, an absolute path in the guest.
    pub workdir: Vec<u8>,
    /// The run's seed.
    pub seed: u64,
    /// Which clock it sees.
    pub clock: ClockMode,
    /// Where the clock starts, nanoseconds since the Unix epoch.
    pub start: u64,
    /// Nanoseconds that an instruction takes while an interval timer is armed; with none, only
    /// exits and reads of the clock take time.
    pub timer_step: Option<NonZeroU64>,
    /// Bytes of memory that it may use.
    pub memory: u64,
    /// Bytes that it may write to files.
    pub disk: u64,
}

impl ProgramSpec {
    /// A program with no access to the host, 1 GiB of memory and of disk, and a virtual clock.
    pub fn new(command: Command) -> ProgramSpec {
        ProgramSpec {
            command,
            mounts: Vec::new(),
            stdio: Stdio::default(),
            workdir: b"/".to_vec(),
            seed: 0,
            clock: ClockMode::Virtual,
            start: DEFAULT_START,
            timer_step: None,
            memory: 1 << 30,
            disk: 1 << 30,
        }
    }
}

impl ProgramState {
    /// The state in which a program is about to be loaded.
    ///
    /// # Errors
    /// When the mounts make no tree.
    pub fn start(spec: ProgramSpec, cpu: CpuIdentity) -> Result<ProgramState, MountError> {
        let mut fs = Fs::new(FsOptions {
            mounts: spec.mounts,
            stdio: spec.stdio,
            quota: spec.disk,
            time: i64::try_from(spec.start).unwrap_or(i64::MAX),
        })?;
        let files = FdTable::with_stdio(&mut fs);
        let memory = spec.memory.clamp(PAGE_SIZE as u64, MAX_MEMORY);
        let chunks = memory.div_ceil(CHUNK_PAGES * PAGE_SIZE as u64) * 2 + SPARE_CHUNKS;
        let cwd = fs.root();
        fs.hold(cwd);
        Ok(ProgramState {
            cpu,
            seed: spec.seed,
            pending: Some(spec.command),
            regs: UserRegisters::default(),
            fp: ExtendedState::initial(),
            space: SpaceState::default(),
            memory: MemoryState { account: Account::new(memory), ..MemoryState::default() },
            ram_pages: chunks * CHUNK_PAGES,
            fs,
            files,
            signals: Signals::default(),
            clock: Clock::new(spec.clock, spec.start, spec.timer_step),
            random: Random::new(spec.seed, PROGRAM_STREAM),
            task: task(cwd, spec.workdir),
            exits: 0,
        })
    }

    /// Starts the random stream anew.
    pub fn reseed(&mut self, seed: u64) {
        self.seed = seed;
        self.random = Random::new(seed, PROGRAM_STREAM);
    }

    /// Checks what a file claims, as far as the monitor relies on it. The snapshot that it came with
    /// has `snapshot_pages` pages, 0 if there is none.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self, snapshot_pages: u64) -> Result<(), BadState> {
        let check = |good: bool, what: &'static str| if good { Ok(()) } else { Err(BadState(what)) };
        let chunk_limit = u32::try_from(self.ram_pages / CHUNK_PAGES).unwrap_or(u32::MAX);
        let most = MAX_MEMORY / PAGE_SIZE as u64 * 2 + SPARE_CHUNKS * CHUNK_PAGES;
        check(self.ram_pages <= most && self.ram_pages.is_multiple_of(CHUNK_PAGES), "memory size")?;
        check(self.memory.chunks.is_valid(chunk_limit), "chunks")?;
        let mut end = 0;
        for (start, vma) in &self.space.vmas {
            let aligned = start.is_multiple_of(PAGE_SIZE as u64) && vma.end.is_multiple_of(PAGE_SIZE as u64);
            check(aligned && *start >= end && *start < vma.end && vma.end <= USER_END, "a mapping")?;
            check(offset_fits(*start, vma), "a mapping's offset")?;
            end = vma.end;
        }
        let used = self.memory.chunks.used();
        let mut taken = std::collections::HashSet::new();
        let objects = self.memory.objects.values();
        let private = self.space.regions.values().map(|region| region.chunk);
        let mut chunks = private.chain(objects.clone().flat_map(|o| o.chunks.iter().copied()));
        check(chunks.all(|chunk| chunk < used && taken.insert(chunk)), "a chunk")?;
        check(self.space.regions.keys().all(|r| *r < USER_END / super::mm::CHUNK_BYTES), "a region")?;
        check(
            objects.into_iter().all(|o| o.len <= o.chunks.len() as u64 * super::mm::CHUNK_BYTES),
            "a shared object",
        )?;
        check(self.space.brk >= self.space.brk_start && self.space.brk <= USER_END, "the heap")?;
        check(self.space.mmap_top <= USER_END && self.memory.account.limit() <= MAX_MEMORY, "limits")?;
        check(self.memory.account.charged() <= self.memory.account.limit(), "the account of memory")?;
        let pages = self.memory.used_pages();
        check(self.memory.stored_pages <= pages, "pages in the snapshot")?;
        let mut from = 0;
        for run in &self.memory.withheld {
            check(run.is_valid(from, pages), "pages of a file")?;
            from = run.end;
        }
        let bases = self.regs.fs_base < USER_END && self.regs.gs_base < USER_END;
        check(bases && self.regs.general.rip < USER_END, "registers")?;
        let inconsistent = |e: super::fs::Inconsistent| BadState(e.0);
        self.fs.check().map_err(inconsistent)?;
        self.fs.check_stored(self.memory.stored_pages..snapshot_pages).map_err(inconsistent)?;
        self.files.check(&self.fs).map_err(inconsistent)
    }
}

fn offset_fits(start: u64, vma: &Vma) -> bool {
    use super::mm::Backing;
    let (offset, len) = match &vma.backing {
        Backing::Anonymous => return true,
        Backing::File { offset, len, .. } => (*offset, *len),
        Backing::Shared { offset, .. } => (*offset, 0),
    };
    let in_range = |end: u64| end < 1 << 62;
    offset.is_multiple_of(PAGE_SIZE as u64)
        && offset.checked_add(vma.end - start).is_some_and(in_range)
        && in_range(len)
}

fn task(cwd: InodeId, workdir: Vec<u8>) -> Task {
    let mut limits = [(INFINITY, INFINITY); 16];
    limits[LIMIT_STACK] = (super::exec::STACK_BYTES, INFINITY);
    limits[LIMIT_CORE] = (0, INFINITY);
    limits[LIMIT_NPROC] = (1, 1);
    limits[LIMIT_NOFILE] = (1024, 4096);
    Task {
        exe: Vec::new(),
        name: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        auxv: Vec::new(),
        cwd,
        workdir,
        umask: 0o022,
        limits,
        stack: 0,
        sigreturn: 0,
        dumpable: true,
        frozen: Default::default(),
        shared: Default::default(),
        alarm: None,
    }
}
