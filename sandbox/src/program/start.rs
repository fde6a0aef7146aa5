//! From a program's state to its machine, and from the machine to a snapshot.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use dejavm_snapshot::{Content, ContentsError, PageContents, Summary, WriteOptions};

use super::effects::Effects;
use super::entry::Entry;
use super::error::SysError;
use super::fs::{KeptContent, StoredBlocks};
use super::kernel::Kernel;
use super::machine::Machine;
use super::mm::source::{FilePages, ProgramPages};
use super::mm::{AddressSpace, Lending, Memory, MemoryState};
use super::outside::Outside;
use super::state::ProgramState;
use crate::errno::Errno;
use crate::exit::{Rung, SourceKind};
use crate::host::basics::RAM_BASE;
use crate::host::stop::StopHandle;
use crate::host::{HostProfile, create_vm, open_kvm};
use crate::machine::{
    CheckpointPages, Core, MachineOptions, Memory as MemorySource, RamContents, RunError, SaveError,
    SnapshotPages, StartError, check_level, marking,
};
use crate::ram::{PAGE_SIZE, PageError, PageSource, Ram, SystemArea};
use crate::vcpu::Vcpu;
use crate::world::World;

/// Shadow pages that KVM may have besides those of the guest's page tables.
const SHADOW_PAGES: usize = 1024;

impl Machine {
    /// Makes a machine from its state; the contents of its memory come from `memory`.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        state: ProgramState,
        contents: MemorySource,
        world: Box<dyn World>,
        host: Arc<HostProfile>,
        stop: StopHandle,
        options: &MachineOptions,
    ) -> Result<Machine, StartError> {
        state.check(contents.page_count())?;
        check_level(state.cpu, &host, options.any_cpu)?;
        let marking = marking(&host, options.rung)?;
        let kvm = open_kvm()?;
        let vm = Arc::new(create_vm(&kvm)?);
        let mut vcpu = Vcpu::new(&vm, 0)?;
        vcpu.keep_tsc_faulting(options.allocator_reads_no_clock);
        if host.syscall_stays_user {
            // A KVM that is a guest itself.
            vcpu.bring_sregs();
        }
        let snapshot = contents.snapshot().map(|snapshot| {
            let pages = SnapshotPages::new(snapshot.clone()).with_ram(state.memory.stored_pages);
            Arc::new(pages.by_cluster(options.prefetch))
        });
        let stored = snapshot.clone().map(|pages| pages as Arc<dyn PageSource>);
        let mut fs = state.fs;
        fs.connect(stored.clone());
        let outside = Outside::new(fs, world);
        let stored = contents.over(stored);
        let pages = Arc::new(ProgramPages::new(outside.contents(), stored));
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
            lending: Lending::of(state.space.iter().map(|(_, space)| space)),
            stop: stop.clone(),
        };
        memory.ram.stop_by(stop.clone());
        // A shadow page for each page table, and some for KVM's own.
        memory.system.set_shadow_pages(memory.table_budget() + SHADOW_PAGES);
        let entry = Entry::new(&mut memory, &host, state.cpu)?;
        let space = state.space.try_map(|state| {
            let mut space = AddressSpace::new(&mut memory, state)?;
            entry.map(&mut memory, &mut space)?;
            Ok::<_, PageError>(space)
        })?;
        let mut kernel = Kernel {
            memory,
            outside,
            task: state.task,
            process: state.process,
            entry,
            space,
            files: state.files,
            context: state.context,
            actions: state.actions,
            ipc: state.ipc,
            sched: state.sched,
            next_tid: state.next_tid,
            clock: state.clock,
            stop: stop.clone(),
            random: state.random,
            names: state.names,
            fp_size: state.cpu.xsave_bytes(),
            fp_components: state.cpu.xcr0(),
            cpu: state.cpu,
            effects: Effects::default(),
            unknown: Default::default(),
            end: None,
            control: Vec::new(),
        };
        if let Some(command) = state.pending {
            enter_workdir(&mut kernel, state.workdir)?;
            kernel.load(command, state.seed).map_err(|e| match *e.error {
                SysError::Errno(errno) => StartError::Program { path: e.path, of: e.of, errno },
                error => StartError::Run(error.into()),
            })?;
        }
        let core = Core::new(vcpu, host, stop, contents, options, state.exits, state.seed);
        let mut machine = Machine::new(core, kernel)?;
        if let (true, Some(snapshot)) = (options.prefetch, snapshot) {
            machine.prefetch_working_set(&snapshot)?;
        }
        machine.warm_up()?;
        if options.eager {
            machine.bring_in_everything()?;
        }
        Ok(machine)
    }

    /// The machine's state as of now, for a snapshot, which holds the pages of mapped files.
    ///
    /// # Errors
    /// When memory is used up by what file mappings need.
    pub fn state(&mut self) -> Result<ProgramState, RunError> {
        let Kernel { space, memory, .. } = &mut self.kernel;
        for (_, space) in space.iter_mut() {
            if !space.back_all_files(memory)? {
                return Err(RunError::Machine("guest memory is used up: the mapped files do not fit".into()));
            }
        }
        let withheld = memory.pages.runs_of_files(|page| memory.ram.is_withheld(page));
        self.state_without(withheld)
    }

    /// The machine's state as of now, and its memory. Nothing changes for the program.
    ///
    /// # Errors
    /// When KVM refuses, or a page cannot be read.
    pub fn checkpoint(&mut self) -> Result<(ProgramState, MemorySource), RunError> {
        let Memory { ram, pages, state, .. } = &self.kernel.memory;
        let last = self.core.memory.checkpoint();
        let kept = CheckpointPages::of(ram, state.used_pages(), last.map(|last| &**last), |page| {
            pages.is_of_file(page)
        })?;
        let absent = pages.runs_of_files(|page| ram.is_absent(page));
        let memory = self.core.memory.with(Arc::new(kept));
        self.core.memory = memory.clone();
        Ok((self.state_without(absent)?, memory))
    }

    /// The state, of which these pages are in files alone.
    pub(super) fn state_without(&mut self, withheld: Vec<FilePages>) -> Result<ProgramState, RunError> {
        let task = self.tasks()?;
        let cpu = self.kernel.cpu;
        let (exits, seed) = (self.core.exits, self.core.seed);
        let k = &mut self.kernel;
        Ok(ProgramState {
            cpu,
            seed,
            pending: None,
            workdir: Vec::new(),
            task,
            process: k.process.clone(),
            space: k.space.map_ref(|space| (*space.state).clone()),
            files: k.files.clone(),
            context: k.context.clone(),
            actions: k.actions.clone(),
            ipc: k.ipc.clone(),
            sched: k.sched.clone(),
            next_tid: k.next_tid,
            memory: MemoryState { withheld, ..k.memory.state.clone() },
            ram_pages: k.memory.ram.pages(),
            fs: k.outside.look(|fs, ()| fs.clone(), ()),
            clock: k.clock.clone(),
            random: k.random.clone(),
            names: k.names.clone(),
            exits,
        })
    }

    /// Writes a snapshot. With `options.parent`, the snapshot that this machine was restored from,
    /// only pages that differ from it; with `with_files`, the content of the host's files that the program
    /// knows, too. `encode` makes of the state what a snapshot holds.
    ///
    /// # Errors
    /// [`SaveError`].
    pub fn save(
        &mut self,
        path: &Path,
        options: &WriteOptions,
        with_files: bool,
        progress: &mut dyn FnMut(u64, u64),
        encode: impl FnOnce(ProgramState) -> Result<Vec<u8>, SaveError>,
    ) -> Result<Summary, SaveError> {
        if self.kernel.end.is_some() {
            return Err(SaveError::Ended);
        }
        let state = self.state()?;
        self.write(state, path, options, with_files, progress, encode)
    }

    /// Writes a checkpoint. Nothing changes for the program, as with [`Machine::checkpoint`]. Pages of mapped
    /// files that it has not looked at are not in it.
    ///
    /// # Errors
    /// [`SaveError`].
    pub fn keep(
        &mut self,
        path: &Path,
        options: &WriteOptions,
        encode: impl FnOnce(ProgramState) -> Result<Vec<u8>, SaveError>,
    ) -> Result<Summary, SaveError> {
        if self.kernel.end.is_some() {
            return Err(SaveError::Ended);
        }
        let Memory { ram, pages, .. } = &self.kernel.memory;
        let absent = pages.runs_of_files(|page| ram.is_absent(page));
        let state = self.state_without(absent)?;
        self.write(state, path, options, false, &mut |_, _| {}, encode)
    }

    /// Writes a state and what its memory holds.
    fn write(
        &self,
        mut state: ProgramState,
        path: &Path,
        options: &WriteOptions,
        with_files: bool,
        progress: &mut dyn FnMut(u64, u64),
        encode: impl FnOnce(ProgramState) -> Result<Vec<u8>, SaveError>,
    ) -> Result<Summary, SaveError> {
        let pages = state.memory.used_pages();
        state.memory.stored_pages = pages;
        let files = state.fs.place(pages);
        let from = files.end().unwrap_or(pages);
        let kept =
            state.fs.keep_files(&self.kernel.outside.contents(), from, with_files).map_err(SysError::from);
        let kept = kept.map_err(RunError::from)?;
        let withheld: Vec<Range<u64>> = state.memory.withheld.iter().map(|run| run.first..run.end).collect();
        let in_files = |page| {
            let at = withheld.partition_point(|run| run.end <= page);
            withheld.get(at).is_some_and(|run| run.contains(&page))
        };
        let encoded = encode(state)?;
        let ram = RamContents::new(&self.kernel.memory.ram, pages, in_files)?;
        let mut contents = MachineContents { ram, files, kept };
        Ok(dejavm_snapshot::write(path, options, &encoded, &mut contents, progress)?)
    }

    fn prefetch_working_set(&mut self, source: &SnapshotPages) -> Result<(), StartError> {
        let wanted = source.wanted_first()?;
        if wanted.is_empty() {
            return Ok(());
        }
        let _span = tracing::info_span!("fault-in", pages = wanted.len()).entered();
        let brought = source.prefetch(&self.kernel.memory.ram, self.core.host_profile().cpus)?;
        let Kernel { memory, space, .. } = &mut self.kernel;
        space.map_present(memory, &wanted)?;
        self.core.stats.count_fault(Rung::Prefetch, SourceKind::Snapshot, brought);
        Ok(())
    }
}

fn enter_workdir(kernel: &mut Kernel, path: Vec<u8>) -> Result<(), StartError> {
    let entered = kernel.with_files(|fs, files, env, context| {
        let at = super::fs::At { base: context.cwd, fds: files };
        let inode = fs.lookup(env, at, &path, true)?;
        if !fs.is_dir(inode) {
            return Err(super::fs::FsError::Errno(Errno::ENOTDIR));
        }
        fs.hold(inode);
        fs.release(env, context.cwd)?;
        Ok(inode)
    });
    match entered.map_err(SysError::from) {
        Ok(inode) => {
            kernel.context.cwd = inode;
            Ok(())
        }
        Err(SysError::Errno(errno)) => Err(StartError::Workdir { path, errno }),
        Err(other) => Err(StartError::Run(other.into())),
    }
}

/// RAM, behind it the files that the guest wrote, and behind those the host's, as the snapshot writer
/// wants to see them.
struct MachineContents<'a> {
    ram: RamContents<'a>,
    files: StoredBlocks,
    kept: KeptContent,
}

impl PageContents for MachineContents<'_> {
    fn page_count(&self) -> u64 {
        self.kept.end().or(self.files.end()).unwrap_or_else(|| self.ram.page_count())
    }

    fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
        if page < self.ram.page_count() {
            return self.ram.page(page, out);
        }
        match self.files.end() {
            Some(end) if page < end => self.files.read(page, out)?,
            _ => self.kept.read(page, out)?,
        }
        Ok(Content::Data)
    }

    fn next_data(&mut self, from: u64) -> Option<u64> {
        let behind = from.max(self.ram.page_count());
        let in_ram = self.ram.next_data(from);
        in_ram.or_else(|| self.files.next_page(behind)).or_else(|| self.kept.next_page(behind))
    }
}
