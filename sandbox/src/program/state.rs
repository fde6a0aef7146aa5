//! The state of a program's machine.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use dejavm_snapshot::codec;
use serde::{Deserialize, Serialize};

use super::clock::{Clock, ClockMode, DEFAULT_START};
use super::current::{Current, Shared};
use super::exec::Command;
use super::files::FdTable;
use super::fs::{Fs, FsOptions, Mount, MountError, Stdio};
use super::ipc::Ipc;
use super::kernel::FsContext;
use super::mm::{
    Account, BLOCK_BYTES, CHUNK_BYTES, MAPPING_BYTES, MAX_MAPPINGS, MemoryState, Object, SpaceState,
};
use super::process::{PROGRAM_PID, Process};
use super::sched::Scheduler;
use super::settings::SystemNames;
use super::signal::Actions;
use super::task::{TASK_BYTES, Task};
use super::wait::Wait;
use crate::machine::{BadState, MAX_EXITS, expect, first_difference};
use crate::ram::{CHUNK_PAGES, PAGE_SIZE};
use crate::random::Random;
use crate::x86::processor::Level;

/// The stream of the seed that a program's random bytes are drawn from.
pub const PROGRAM_STREAM: u64 = 0;
/// The most guest memory, bytes: what the address bits of every x86-64 CPU reach.
pub const MAX_MEMORY: u64 = 64 << 30;
/// The file mode creation mask of the first program.
const UMASK: u32 = 0o022;
/// Tasks at most (`kernel.threads-max`).
pub const MAX_TASKS: usize = 4096;
/// Chunks of guest-physical memory for what costs next to nothing.
const SPARE_CHUNKS: u64 = 1024;
/// The most chunks: with them and what lies below, physical addresses have 39 bits.
const MOST_CHUNKS: u64 = (1 << 18) - (1 << 11);
/// A program's machine at one moment of its run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgramState {
    /// The processor that its programs see.
    pub cpu: Level,
    /// The run's seed.
    pub seed: u64,
    /// A program that is yet to be loaded; until then there is no memory.
    pub pending: Option<Command>,
    /// Where that program starts, an absolute path in the guest.
    pub workdir: Vec<u8>,
    /// Tasks.
    pub task: Current<Task>,
    /// Processes.
    pub process: Current<Process>,
    /// Address spaces.
    pub space: Shared<SpaceState>,
    /// Descriptors.
    pub files: FdTable,
    /// Where paths start.
    pub context: Shared<FsContext>,
    /// Signal actions.
    pub actions: Shared<Actions>,
    /// System V IPC and POSIX message queues.
    pub ipc: Ipc,
    /// Who runs next, and who waits.
    pub sched: Scheduler,
    /// The number of the next task.
    pub next_tid: u32,
    /// Physical memory.
    pub memory: MemoryState,
    /// Pages of guest RAM.
    pub ram_pages: u64,
    /// The file system.
    pub fs: Fs,
    /// The clock.
    pub clock: Clock,
    /// The random stream.
    pub random: Random,
    /// What the machine is called.
    pub names: SystemNames,
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
    /// Schedules its tasks so that its mistakes show, in a way that follows from this seed.
    pub chaos: Option<u64>,
    /// Branches in a time slice, about, as [`Scheduler::set_slice`] has it; none where only exits end one.
    pub time_slice: Option<NonZeroU64>,
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
            chaos: None,
            time_slice: None,
            clock: ClockMode::Virtual,
            start: DEFAULT_START,
            timer_step: None,
            memory: 1 << 30,
            disk: 1 << 30,
        }
    }
}

impl ProgramState {
    /// The first part, by name, in which another state of the same run differs. What comes from files is left out.
    ///
    /// # Errors
    /// When one cannot be encoded.
    pub fn differs_in(&self, other: &ProgramState) -> Result<Option<&'static str>, dejavm_snapshot::Error> {
        let differs = first_difference!(ProgramState, self, other, {
            task "a task",
            process "a process",
            space "an address space",
            files "a descriptor table",
            context "a working directory",
            actions "a signal action",
            ipc "System V IPC or a message queue",
            sched "the scheduler",
            next_tid "the next thread's number",
            ram_pages "the size of memory",
            fs "the file system",
            clock "the clock",
            random "the random stream",
            names "a name of the machine",
            exits "the number of exits",
        }, but { memory, cpu, seed, pending, workdir, });
        let own =
            |memory: &MemoryState| codec::encode(&MemoryState { withheld: Vec::new(), ..memory.clone() });
        let same_memory = own(&self.memory)? == own(&other.memory)?;
        Ok(differs.or((!same_memory).then_some("what memory is in use")))
    }

    /// The state in which a program is about to be loaded.
    ///
    /// # Errors
    /// When the mounts make no tree.
    pub fn start(spec: ProgramSpec, cpu: Level) -> Result<ProgramState, MountError> {
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
        let mut sched = Scheduler::new(spec.seed);
        sched.set_chaos(spec.chaos);
        sched.set_slice(spec.time_slice);
        Ok(ProgramState {
            cpu,
            seed: spec.seed,
            pending: Some(spec.command),
            workdir: spec.workdir,
            task: Current::new(PROGRAM_PID, Task::first(PROGRAM_PID)),
            process: Current::new(PROGRAM_PID, Process::first()),
            space: Shared::new(SpaceState::default()),
            files,
            context: Shared::new(FsContext { cwd, umask: UMASK }),
            actions: Shared::new(Actions::default()),
            ipc: Ipc::default(),
            sched,
            next_tid: PROGRAM_PID + 1,
            memory: MemoryState { account: Account::new(memory), ..MemoryState::default() },
            ram_pages: ram_pages_for(memory),
            fs,
            clock: Clock::new(spec.clock, spec.start, spec.timer_step),
            random: Random::new(spec.seed, PROGRAM_STREAM),
            names: SystemNames::default(),
            exits: 0,
        })
    }

    /// Starts the random stream anew.
    pub fn reseed(&mut self, seed: u64) {
        self.seed = seed;
        self.random = Random::new(seed, PROGRAM_STREAM);
        self.sched.reseed(seed);
    }

    /// Checks what a file claims, as far as the monitor relies on it. The snapshot that it came with
    /// has `snapshot_pages` pages, 0 if there is none.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self, snapshot_pages: u64) -> Result<(), BadState> {
        let ProgramState {
            // Any is one: whether the host has it is found out when it is started.
            cpu: _,
            // It only starts random streams.
            seed: _,
            pending,
            workdir,
            task,
            process,
            space,
            files,
            context,
            actions,
            ipc,
            sched: _,
            next_tid,
            memory,
            ram_pages,
            fs,
            clock,
            // Any position of the stream is one.
            random: _,
            names,
            exits,
        } = self;
        expect(*exits < MAX_EXITS, "the count of exits")?;
        expect((PROGRAM_PID..1 << 22).contains(next_tid), "the number of the next task")?;
        self.check_tasks()?;
        let granted = memory.account.limit();
        expect(granted <= MAX_MEMORY && *ram_pages == ram_pages_for(granted), "memory size")?;
        let spaces: Vec<&SpaceState> = space.iter().map(|(_, space)| space).collect();
        for space in &spaces {
            space.check(memory, fs)?;
        }
        // More may be charged than what is there costs, never less: it is given back.
        let costs = memory.objects.values().map(Object::cost).chain(spaces.iter().map(|space| space.cost()));
        let tasks = (task.len() as u64 - 1) * TASK_BYTES;
        let timers = process.iter().map(|(_, process)| process.timers.posix.cost());
        let fixed = files.charged_cost() + tasks + ipc.cost();
        let cost = costs.chain(timers).fold(fixed, u64::saturating_add);
        let charged = memory.account.charged();
        expect(cost <= charged && charged <= granted, "the account of memory")?;
        let chunks = u32::try_from(ram_pages / CHUNK_PAGES).unwrap_or(u32::MAX);
        let is_held = |content| spaces.iter().any(|space| space.contents.contains(&content));
        let lies_below = |content| memory.objects.values().any(|object| object.is_above(content));
        memory.check(&spaces, chunks, |content| is_held(content) || lies_below(content))?;
        expect(!workdir.contains(&0), "the working directory")?;
        if let Some(command) = pending {
            command.check()?;
            let unused = |space: &&SpaceState| space.vmas.is_empty() && space.regions.is_empty();
            let empty = task.len() == 1 && spaces.iter().all(unused) && memory.chunks.used() == 0;
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
        ipc.check(memory, fs, |tid| task.has(tid))?;
        clock.check()?;
        expect(names.is_sound(), "the machine's name")?;
        process.iter().try_for_each(|(_, process)| process.check())?;
        actions.iter().try_for_each(|(_, actions)| actions.check())?;
        let mut uses = BTreeMap::new();
        for (_, context) in context.iter() {
            context.check(fs)?;
            *uses.entry(context.cwd).or_insert(0) += 1;
        }
        files.count_uses(&mut uses);
        ipc.queues.held().for_each(|inode| *uses.entry(inode).or_insert(0) += 1);
        for space in spaces {
            let held = space.image.executable.iter().chain(space.files.values());
            held.for_each(|inode| *uses.entry(*inode).or_insert(0) += 1);
        }
        fs.check_holds(&uses).map_err(inconsistent)
    }

    /// What each task waits for.
    fn waits(&self) -> BTreeMap<u32, Option<&Wait>> {
        self.task.iter().map(|(tid, task)| (tid, task.parked.as_ref().map(|parked| &parked.wait))).collect()
    }

    /// Checks that each task is sound, and that the tables are those that tasks have.
    fn check_tasks(&self) -> Result<(), BadState> {
        let ProgramState { task, process, space, files, context, actions, sched, .. } = self;
        expect(task.len() <= MAX_TASKS, "the number of tasks")?;
        task.iter().try_for_each(|(_, task)| task.check())?;
        let of = |table: fn(&Task) -> u32| task.iter().map(|(_, task)| table(task)).collect::<Vec<u32>>();
        let had = space.is_had(&of(|task| task.space), task.space)
            && files.is_had(&of(|task| task.files), task.files)
            && context.is_had(&of(|task| task.context), task.context)
            && actions.is_had(&of(|task| task.actions), task.actions);
        expect(had, "what the tasks have")?;
        let processes = of(|task| task.process);
        let had = processes.iter().all(|pid| process.has(*pid)) && process.id() == task.process;
        expect(had, "the tasks' processes")?;
        expect(sched.is_sound(task.id(), &self.waits()), "who runs and who waits")
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
