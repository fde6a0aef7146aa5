//! The state of a program's machine.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::clock::{Clock, ClockMode, DEFAULT_START};
use super::exec::Command;
use super::files::FdTable;
use super::fs::{Fs, FsOptions, InodeId, Mount, MountError, Stdio};
use super::mm::{
    Account, BLOCK_BYTES, CHUNK_BYTES, MAPPING_BYTES, MAX_MAPPINGS, MemoryState, Object, SpaceState, USER_END,
};
use super::process::Task;
use super::signal::Signals;
use crate::host::CpuIdentity;
use crate::machine::{BadState, MAX_EXITS, expect};
use crate::ram::{CHUNK_PAGES, PAGE_SIZE};
use crate::random::Random;
use crate::vcpu::registers::{ExtendedState, USER_COMPONENTS, UserRegisters};

/// The stream of the seed that a program's random bytes are drawn from.
pub const PROGRAM_STREAM: u64 = 0;
/// The most guest memory, bytes: what the address bits of every x86-64 CPU reach.
pub const MAX_MEMORY: u64 = 64 << 30;
/// Chunks of guest-physical memory for what costs next to nothing.
const SPARE_CHUNKS: u64 = 1024;
/// The most chunks: with them and what lies below, physical addresses have 39 bits.
const MOST_CHUNKS: u64 = (1 << 18) - (1 << 11);
/// `RLIM_INFINITY`.
const INFINITY: u64 = u64::MAX;
/// Resource limits by number (`include/uapi/asm-generic/resource.h`).
pub const RLIMIT_CPU: usize = 0;
/// See [`RLIMIT_CPU`].
pub const RLIMIT_FSIZE: usize = 1;
/// See [`RLIMIT_CPU`].
pub const RLIMIT_DATA: usize = 2;
/// See [`RLIMIT_CPU`].
pub const RLIMIT_STACK: usize = 3;
const RLIMIT_CORE: usize = 4;
const RLIMIT_NPROC: usize = 6;
/// See [`RLIMIT_CPU`].
pub const RLIMIT_NOFILE: usize = 7;
const RLIMIT_MEMLOCK: usize = 8;
/// See [`RLIMIT_CPU`].
pub const RLIMIT_AS: usize = 9;
const RLIMIT_MSGQUEUE: usize = 12;
/// See [`RLIMIT_CPU`].
pub const RLIMIT_NICE: usize = 13;
/// See [`RLIMIT_CPU`].
pub const RLIMIT_RTPRIO: usize = 14;

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
            ram_pages: ram_pages_for(memory),
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
        let ProgramState {
            cpu,
            // It only starts random streams.
            seed: _,
            pending,
            regs,
            fp,
            space,
            memory,
            ram_pages,
            fs,
            files,
            signals,
            clock,
            // Any position of the stream is one.
            random: _,
            task,
            exits,
        } = self;
        expect(cpu.is_valid(), "the CPU")?;
        expect(*exits < MAX_EXITS, "the count of exits")?;
        expect(regs.is_valid(USER_END), "registers")?;
        expect(fp.is_valid(USER_COMPONENTS), "floating-point registers")?;
        let granted = memory.account.limit();
        expect(granted <= MAX_MEMORY && *ram_pages == ram_pages_for(granted), "memory size")?;
        let is_held = |content| task.frozen.contains(&content);
        space.check(memory, is_held)?;
        let objects = memory.objects.values().map(Object::cost).fold(0, u64::saturating_add);
        let cost = objects.saturating_add(space.cost()).saturating_add(files.text_cost());
        expect(cost <= memory.account.charged(), "the account of memory")?;
        let chunks = u32::try_from(ram_pages / CHUNK_PAGES).unwrap_or(u32::MAX);
        let lies_below = |content| memory.objects.values().any(|object| object.is_above(content));
        memory.check(space, chunks, |content| is_held(content) || lies_below(content))?;
        if let Some(command) = pending {
            command.check()?;
            let empty = space.vmas.is_empty() && space.regions.is_empty() && memory.chunks.used() == 0;
            expect(empty, "memory of a program that is not loaded")?;
        }
        let inconsistent = |e: super::fs::Inconsistent| BadState(e.0);
        fs.check().map_err(inconsistent)?;
        fs.check_stored(memory.stored_pages..snapshot_pages).map_err(inconsistent)?;
        fs.check_shared(|object| memory.objects.get(&object).map(|object| (object.len, object.below)))
            .map_err(inconsistent)?;
        let stray = memory.objects.iter().any(|(number, o)| o.below.is_some() && !fs.has_object(*number));
        expect(!stray, "what lies below a shared object")?;
        files.check(fs).map_err(inconsistent)?;
        signals.check()?;
        clock.check()?;
        task.check(fs, memory)?;
        let mut uses = BTreeMap::from([(task.cwd, 1)]);
        files.count_uses(&mut uses);
        task.executable.iter().for_each(|inode| *uses.entry(*inode).or_insert(0) += 1);
        task.shared.values().for_each(|inode| *uses.entry(*inode).or_insert(0) += 1);
        fs.check_holds(&uses).map_err(inconsistent)
    }
}

/// Pages of guest RAM for a program that may use so much memory, bytes: the numbers of pages that what may
/// be charged can take, not what is taken of the host. Each mapping may have its first and its last page in
/// chunks of their own; without reservation, each block may be in one.
fn ram_pages_for(memory: u64) -> u64 {
    let mappings = (memory / MAPPING_BYTES).min(MAX_MAPPINGS as u64);
    let chunks = memory / CHUNK_BYTES * 2 + mappings * 2 + memory / BLOCK_BYTES + SPARE_CHUNKS;
    chunks.min(MOST_CHUNKS) * CHUNK_PAGES
}

/// The limits that the first processes have.
pub(super) fn first_limits() -> [(u64, u64); 16] {
    let mut limits = [(INFINITY, INFINITY); 16];
    limits[RLIMIT_STACK] = (super::exec::STACK_BYTES, INFINITY);
    limits[RLIMIT_CORE] = (0, INFINITY);
    limits[RLIMIT_NPROC] = (1, 1);
    limits[RLIMIT_NOFILE] = (1024, 4096);
    limits[RLIMIT_MEMLOCK] = (8 << 20, 8 << 20);
    limits[RLIMIT_MSGQUEUE] = (819_200, 819_200);
    limits[RLIMIT_NICE] = (0, 0);
    limits[RLIMIT_RTPRIO] = (0, 0);
    limits
}

fn task(cwd: InodeId, workdir: Vec<u8>) -> Task {
    Task {
        exe: Vec::new(),
        executable: None,
        name: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        auxv: Vec::new(),
        cwd,
        workdir,
        umask: 0o022,
        limits: first_limits(),
        stack: 0,
        sigreturn: 0,
        credentials: super::credentials::ROOT.clone(),
        settings: Default::default(),
        frozen: Default::default(),
        shared: Default::default(),
        timers: Default::default(),
    }
}
