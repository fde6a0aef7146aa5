//! From a state to a machine, and from a machine to a snapshot.

use std::path::Path;
use std::sync::Arc;

use dejavm_snapshot::{Content, ContentsError, PageContents, Snapshot, Summary, WriteOptions};

use super::exec::CpuInfo;
use super::fs::StoredBlocks;
use super::machine::{Evict, Machine, RunError};
use super::mm::source::{ProgramPages, SnapshotPages};
use super::mm::{AddressSpace, Memory, MemoryState};
use super::outside::Outside;
use super::process::{Effects, Process, SysError};
use super::state::{BadState, MachineState};
use crate::errno::Errno;
use crate::exit::{Rung, SourceKind};
use crate::host::basics::RAM_BASE;
use crate::host::thread::StopHandle;
use crate::host::{HostError, HostProfile, open_kvm};
use crate::ram::{Marking, PAGE_SIZE, PageError, PageSource, PageState, Ram, SystemArea};
use crate::vcpu::Vcpu;
use crate::world::World;

/// Bytes of a signal frame besides the XSAVE area, at most.
const FRAME_BYTES: u64 = 1024;

/// How a machine is made from its state.
#[derive(Clone, Debug, Default)]
pub struct MachineOptions {
    /// Uses only this rung of the fault ladder and those below it.
    pub rung: Option<Rung>,
    /// Fault injection.
    pub evict: Option<Evict>,
    /// Brings in more than what is touched: what the snapshot's working set says is wanted first
    /// before the first entry, its other pages with their clusters, and more of a row of pages that
    /// is touched in order. Without it, each page of the snapshot comes alone.
    pub prefetch: bool,
    /// Brings in everything before the first entry.
    pub eager: bool,
    /// Runs on a CPU that differs from the one the state comes from.
    pub any_cpu: bool,
    /// The process's allocator reads no clock, so that RDTSC may go on faulting while pages come in.
    pub allocator_reads_no_clock: bool,
}

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The host cannot run sandboxes.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] dejavm_snapshot::Error),
    /// The snapshot's state makes no sense.
    #[error(transparent)]
    State(#[from] BadState),
    /// The CPUs differ.
    #[error(
        "this CPU differs from the one of the snapshot: here {here}; there {there}; programs may have chosen \
             code by it (use --any-cpu to try all the same)"
    )]
    Cpu {
        /// This host's.
        here: String,
        /// The snapshot's.
        there: String,
    },
    /// The program could not be loaded.
    #[error("{}: {errno}", String::from_utf8_lossy(.path))]
    Program {
        /// The program's path.
        path: Vec<u8>,
        /// What `execve` said.
        errno: Errno,
    },
    /// The working directory is not there.
    #[error("working directory {}: {errno}", String::from_utf8_lossy(.path))]
    Workdir {
        /// Its path in the guest.
        path: Vec<u8>,
        /// What `chdir` said.
        errno: Errno,
    },
    /// This host lacks a rung that was asked for.
    #[error("this host has no {0} faults; `dejavm doctor` shows what it has")]
    Rung(&'static str),
    /// The machine could not be set up.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<PageError> for StartError {
    fn from(e: PageError) -> StartError {
        StartError::Run(e.into())
    }
}

impl From<crate::vcpu::VcpuError> for StartError {
    fn from(e: crate::vcpu::VcpuError) -> StartError {
        StartError::Run(e.into())
    }
}

/// How absent pages are marked for a forced rung.
fn marking(host: &HostProfile, rung: Option<Rung>) -> Result<Marking, StartError> {
    match rung {
        None => Ok(host.marking()),
        Some(Rung::Poison) if host.poison => Ok(Marking::Poison),
        Some(Rung::Poison) => Err(StartError::Rung("poison")),
        // The same marks as for bare faults; a kernel that annotates them says more.
        Some(Rung::Decode | Rung::Populate) if host.missing => Ok(Marking::Missing),
        Some(Rung::Decode | Rung::Populate) => Err(StartError::Rung("bare")),
        Some(Rung::Annotated) => Err(StartError::Rung("annotated")),
        Some(_) => Ok(Marking::Eager),
    }
}

impl Machine {
    /// Makes a machine from its state; the contents of its memory come from `snapshot`.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        state: MachineState,
        snapshot: Option<Arc<Snapshot>>,
        world: Box<dyn World>,
        host: Arc<HostProfile>,
        stop: StopHandle,
        options: &MachineOptions,
    ) -> Result<Machine, StartError> {
        state.check(snapshot.as_ref().map_or(0, |snapshot| snapshot.page_count()))?;
        if state.cpu != host.cpu && !options.any_cpu {
            return Err(StartError::Cpu { here: host.cpu.to_string(), there: state.cpu.to_string() });
        }
        let marking = marking(&host, options.rung)?;
        let kvm = open_kvm()?;
        let vm = kvm.create_vm().map_err(|e| HostError::Kvm { what: "KVM_CREATE_VM", error: e.into() })?;
        let vm = Arc::new(vm);
        let mut vcpu = Vcpu::new(&vm, 0)?;
        vcpu.keep_tsc_faulting(options.allocator_reads_no_clock);
        let stored = snapshot.map(|snapshot| {
            let pages = SnapshotPages::new(snapshot).with_ram(state.memory.stored_pages);
            Arc::new(pages.by_cluster(options.prefetch))
        });
        let mut fs = state.fs;
        fs.connect(stored.clone().map(|pages| pages as Arc<dyn PageSource>));
        let outside = Outside::new(fs, world);
        let pages = Arc::new(ProgramPages::new(outside.clone(), stored));
        let mut memory_state = state.memory;
        for run in std::mem::take(&mut memory_state.withheld) {
            pages.map_file(run.first..run.end, run.content, run.offset, run.exec);
        }
        let mut memory = Memory {
            ram: Ram::new(vm.clone(), RAM_BASE, state.ram_pages, marking, pages.clone())?
                .with_readahead(options.prefetch),
            system: SystemArea::new(vm),
            pages,
            state: memory_state,
        };
        let space = AddressSpace::new(&mut memory, state.space)?;
        let mut process = Process {
            memory,
            space,
            outside,
            files: state.files,
            signals: state.signals,
            clock: state.clock,
            random: state.random,
            task: state.task,
            regs: state.regs,
            fp: None,
            fp_size: host.xsave_bytes,
            effects: Effects::default(),
            unknown: Default::default(),
            end: None,
            control: Vec::new(),
        };
        if let Some(command) = state.pending {
            enter_workdir(&mut process)?;
            let cpu = CpuInfo {
                hwcap: host.cpu.features[0].into(),
                hwcap2: if host.fsgsbase { 2 } else { 0 },
                signal_frame: host.xsave_bytes as u64 + FRAME_BYTES,
            };
            let path = command.path.clone();
            process.load(command, state.seed, &cpu).map_err(|e| match e {
                SysError::Errno(errno) => StartError::Program { path, errno },
                other => StartError::Run(other.into()),
            })?;
        }
        let mut machine = Machine::new(vcpu, process, &state.fp, host, stop, options.rung, options.evict)?;
        machine.exits = state.exits;
        machine.seed = state.seed;
        if options.prefetch {
            machine.prefetch_working_set()?;
        }
        machine.warm_up()?;
        if options.eager {
            machine.bring_in_everything()?;
        }
        Ok(machine)
    }

    /// The machine's state as of now, and which pages of RAM belong to it.
    ///
    /// # Errors
    /// When memory is used up by what file mappings need.
    pub fn state(&mut self) -> Result<MachineState, RunError> {
        self.refresh_bases()?;
        let fp = self.extended_state()?;
        let cpu = self.host_profile().cpu.clone();
        let (exits, seed) = (self.exits, self.seed);
        let p = &mut self.process;
        if !p.space.back_all_files(&mut p.memory)? {
            return Err(RunError::Machine("guest memory is used up: the mapped files do not fit".into()));
        }
        Ok(MachineState {
            cpu,
            seed,
            pending: None,
            regs: p.regs,
            fp,
            space: p.space.state.clone(),
            memory: MemoryState {
                withheld: p.memory.pages.withheld(&p.memory.ram),
                ..p.memory.state.clone()
            },
            ram_pages: p.memory.ram.pages(),
            fs: p.outside.fs().clone(),
            files: p.files.clone(),
            signals: p.signals.clone(),
            clock: p.clock.clone(),
            random: p.random.clone(),
            task: p.task.clone(),
            exits,
        })
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
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Summary, SaveError> {
        if self.process.end.is_some() {
            return Err(SaveError::Ended);
        }
        let mut state = self.state()?;
        let pages = state.memory.used_pages();
        state.memory.stored_pages = pages;
        let files = state.fs.place(pages);
        let encoded = dejavm_snapshot::codec::encode(&state)?;
        let mut contents = MachineContents::new(&self.process.memory.ram, pages, files)?;
        Ok(dejavm_snapshot::write(path, options, &encoded, &mut contents, progress)?)
    }

    fn prefetch_working_set(&mut self) -> Result<(), StartError> {
        let pages = self.process.memory.pages.clone();
        let Some(source) = pages.snapshot() else { return Ok(()) };
        let wanted = source.wanted_first()?;
        if wanted.is_empty() {
            return Ok(());
        }
        let brought = source.prefetch(&self.process.memory.ram, self.host_profile().cpus)?;
        let Process { memory, space, .. } = &mut self.process;
        space.map_present(memory, &wanted)?;
        self.stats.count_fault(Rung::Prefetch, SourceKind::Snapshot, brought);
        Ok(())
    }
}

/// The state and pages of a snapshot file.
///
/// # Errors
/// When it is not a snapshot, or damaged.
pub fn open(path: impl AsRef<Path>) -> Result<(MachineState, Arc<Snapshot>), StartError> {
    let snapshot = Snapshot::open(path)?;
    let state: MachineState = dejavm_snapshot::codec::decode(snapshot.state()?)?;
    state.check(snapshot.page_count())?;
    Ok((state, snapshot))
}

/// Writes the snapshot of a state that has no memory yet: the head of a recording, which brings it
/// to the disk along with the rest.
///
/// # Errors
/// [`SaveError`].
pub fn save_start(path: impl AsRef<Path>, state: &MachineState) -> Result<Summary, SaveError> {
    let encoded = dejavm_snapshot::codec::encode(state)?;
    let mut nothing: &[u8] = &[];
    Ok(dejavm_snapshot::write(
        path,
        &WriteOptions { durable: false, ..WriteOptions::default() },
        &encoded,
        &mut nothing,
        &mut |_, _| {},
    )?)
}

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The file could not be written.
    #[error(transparent)]
    Snapshot(#[from] dejavm_snapshot::Error),
    /// The machine could not be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// There is nothing to go on from.
    #[error("the program has ended: there is nothing to go on from")]
    Ended,
}

impl From<PageError> for SaveError {
    fn from(e: PageError) -> SaveError {
        SaveError::Run(e.into())
    }
}

fn enter_workdir(process: &mut Process) -> Result<(), StartError> {
    let path = process.task.workdir.clone();
    let entered = process.with_files(|fs, files, env, task| {
        let at = super::fs::At { base: task.cwd, fds: files };
        let inode = fs.lookup(env, at, &path, true)?;
        if !fs.is_dir(inode) {
            return Err(super::fs::FsError::Errno(Errno::ENOTDIR));
        }
        fs.hold(inode);
        fs.release(env, task.cwd)?;
        Ok(inode)
    });
    match entered.map_err(SysError::from) {
        Ok(inode) => {
            process.task.cwd = inode;
            Ok(())
        }
        Err(SysError::Errno(errno)) => Err(StartError::Workdir { path, errno }),
        Err(other) => Err(StartError::Run(other.into())),
    }
}

/// RAM, and behind it the files that the guest wrote, as the snapshot writer wants to see them.
struct MachineContents<'a> {
    ram: &'a Ram,
    /// Pages of RAM.
    pages: u64,
    /// Pages of RAM that may hold something, ascending.
    present: Vec<u64>,
    files: StoredBlocks,
}

impl<'a> MachineContents<'a> {
    fn new(ram: &'a Ram, pages: u64, files: StoredBlocks) -> Result<MachineContents<'a>, PageError> {
        let mut present = Vec::new();
        for (page, state) in ram.contents(0..pages)? {
            // What a replay lacks is in the state: the page comes from its file still.
            let held = state != PageState::Fresh || ram.has_source(page)?;
            if held && !ram.is_withheld(page) {
                present.push(page);
            }
        }
        Ok(MachineContents { ram, pages, present, files })
    }
}

impl PageContents for MachineContents<'_> {
    fn page_count(&self) -> u64 {
        self.files.end().unwrap_or(self.pages)
    }

    fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
        if page >= self.pages {
            self.files.read(page, out)?;
            return Ok(Content::Data);
        }
        if self.present.binary_search(&page).is_err() {
            return Ok(Content::Zero);
        }
        self.ram.peek(page, out)?;
        Ok(Content::Data)
    }

    fn next_data(&mut self, from: u64) -> Option<u64> {
        let at = self.present.partition_point(|page| *page < from);
        self.present.get(at).copied().or_else(|| self.files.next_page(from.max(self.pages)))
    }
}
