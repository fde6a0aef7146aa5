//! Putting a machine back to what it was at one moment of its run, again and again.
//!
//! What a checkpoint has is what comes back ([`Machine::checkpoint`]), and nothing of the machine is made anew: memory
//! is copied where it was written ([`crate::ram::Mark`]), page tables change where mappings did
//! ([`AddressSpace::return_to`]), and the rest is the state's. Whoever adds a field to a machine or its kernel is asked
//! here what becomes of it.

use std::ops::Range;

use super::circle::Watch;
use super::debug::Debug;
use super::delivery::Resume;
use super::stepping::Stepper;
use super::{Machine, Told};
use crate::machine::{Difference, Memory as MemorySource, RunError};
use crate::program::effects::Effects;
use crate::program::kernel::Kernel;
use crate::program::mm::source::{FilePages, MappedFiles};
use crate::program::mm::{AddressSpace, Lending, Lent, Memory, SpaceState};
use crate::program::state::ProgramState;
use crate::ram::{CHUNK_PAGES, Mark, PageError, Was};

/// A moment of a program's run that its machine is put back to.
#[derive(Debug)]
pub struct ResetPoint {
    state: ProgramState,
    memory: MemorySource,
    mapped: MappedFiles,
    mark: Mark,
}

impl ResetPoint {
    /// The state then.
    pub fn state(&self) -> &ProgramState {
        &self.state
    }

    /// Pages that are copied back each time.
    pub fn hot_pages(&self) -> usize {
        self.mark.hot_pages()
    }

    fn was(&self, page: u64) -> Was {
        was(&self.state, &self.memory, page)
    }
}

impl Machine {
    /// Marks this moment of the run, to which [`Machine::reset_to`] puts the machine back. Nothing changes for the
    /// program. An earlier mark is over.
    ///
    /// # Errors
    /// When KVM refuses, or a page cannot be read.
    pub fn reset_point(&mut self) -> Result<ResetPoint, RunError> {
        self.kernel.back_ahead()?;
        let (state, memory) = self.checkpoint()?;
        self.kernel.outside.fs().mark();
        self.kernel.space.iter_mut().for_each(|(_, space)| space.state.settle());
        let Memory { ram, pages, .. } = &self.kernel.memory;
        Ok(ResetPoint { state, memory, mapped: pages.mapped(), mark: ram.mark()? })
    }

    /// Puts the machine back to the moment that was marked last, whatever it did since and however its run ended. What
    /// was counted goes on. What a debugger wanted is over.
    ///
    /// # Errors
    /// When KVM or the host refuses; the machine cannot be used after that.
    pub fn reset_to(&mut self, point: &mut ResetPoint) -> Result<(), RunError> {
        self.kernel.memory.ram.check_mark(&point.mark)?;
        let Machine {
            core,
            kernel,
            death,
            spinning,
            on_vcpu,
            loaded_bases,
            stale,
            stepper,
            watch,
            search,
            debug,
            branches,
            told,
            first_read_done,
            waits_for,
            spins,
            exit_rip,
            exited_at: _,
        } = self;
        let is_same = |id: u32| kernel.space.of(id).is_some() && point.state.space.of(id).is_some();
        branches.restart(&mut kernel.memory, is_same)?;
        kernel.reset_memory(point)?;
        kernel.reset_state(&point.state);

        (core.exits, core.memory) = (point.state.exits, point.memory.clone());
        core.forget_faults();
        if core.interrupted {
            core.vcpu.clear_exception()?;
        }
        if let Some(fp) = kernel.task.fp.take() {
            core.vcpu.set_extended_state(&fp)?;
        }
        (*on_vcpu, *loaded_bases) = (kernel.tid(), (u64::MAX, u64::MAX));
        *told = Told::at_start(kernel.space.id());

        (*death, *waits_for, *spins, *search) = (None, None, None, None);
        (*spinning, *stale, *first_read_done) = (false, (0, 0), false);
        *stepper = Stepper::default();
        *watch = Watch::new();
        *debug = Debug::default();
        *exit_rip = kernel.task.regs.general.rip;
        self.resume(Resume::Full)
    }

    /// Looks for anything of the machine that is not what it was at the moment that it was put back to just now: for
    /// tests of that.
    ///
    /// # Errors
    /// When KVM refuses, or a page cannot be read.
    pub fn difference_from(&mut self, point: &ResetPoint) -> Result<Option<Difference>, RunError> {
        let now = self.state_without(Vec::new())?;
        if let Some(part) = now.differs_in(&point.state).map_err(PageError::from)? {
            return Ok(Some(Difference::State(part)));
        }
        let Kernel { memory, space, .. } = &self.kernel;
        for page in 0..point.state.memory.used_pages() {
            if let Some(offset) = memory.ram.differs(page, point.was(page))? {
                return Ok(Some(Difference::Memory { page, offset }));
            }
        }
        let wrong = space.iter().find_map(|(number, space)| Some((number, space.wrong_entry(memory)?)));
        Ok(wrong.map(|(space, address)| Difference::Tables { space, address }))
    }
}

impl Kernel {
    /// Gives memory to what runs from here on are likely to touch, each of which would do that anew.
    fn back_ahead(&mut self) -> Result<(), PageError> {
        /// Chunks that an address space gets at most. A hundred times as many must be left: there are enough for all memory that
        /// can be charged, so that these are never the ones that a run lacks.
        const MOST: usize = 4;
        let Kernel { memory, space, .. } = self;
        for (_, space) in space.iter_mut() {
            let left = memory.ram.pages() / CHUNK_PAGES - u64::from(memory.state.chunks.used());
            if left >= MOST as u64 * 100 {
                space.back_ahead(memory, MOST)?;
            }
        }
        Ok(())
    }

    /// Physical memory and address spaces.
    fn reset_memory(&mut self, point: &mut ResetPoint) -> Result<(), RunError> {
        let ResetPoint { state, memory: then, mapped, mark } = point;
        let Kernel { memory, space, entry, .. } = self;
        let objects = memory.state.changed_objects(&state.memory);
        // Whoever sees other pages has changed, or has come or gone.
        let touched =
            space.len() != state.space.len() || space.iter().any(|(_, space)| space.state.is_touched());
        let lent = touched
            && views(space.iter().map(|(id, space)| (id, &*space.state))) != views(state.space.iter());

        let mut changed: Vec<(u32, Vec<Range<u64>>)> = Vec::new();
        let gone = space.return_to(&state.space, |id, space, then| match space {
            Some(space) => {
                let ranges = space.return_to(memory, then, &objects, lent)?;
                if !ranges.is_empty() {
                    changed.push((id, ranges));
                }
                Ok::<_, PageError>(None)
            }
            None => {
                let mut space = AddressSpace::new(memory, then.clone())?;
                space.state.settle();
                entry.map(memory, &mut space)?;
                Ok(Some(space))
            }
        })?;
        gone.into_iter().try_for_each(|space| space.retire(memory))?;
        if lent {
            memory.lending = Lending::of(state.space.iter().map(|(_, space)| space));
        }
        memory.state.return_to(&state.memory);
        memory.pages.return_to(mapped, |content| state.fs.has_given(content));

        memory.ram.put_back(mark, &|page| was(state, then, page))?;
        for (id, ranges) in changed {
            if let Some(space) = space.of_mut(id) {
                space.refill(memory, &ranges)?;
            }
        }
        Ok(())
    }

    /// All but memory.
    fn reset_state(&mut self, then: &ProgramState) {
        let Kernel {
            memory: _,
            outside,
            task,
            process,
            entry: _,
            space: _,
            files,
            context,
            actions,
            ipc,
            sched,
            next_tid,
            clock,
            stop: _,
            random,
            names,
            fp_size: _,
            fp_components: _,
            cpu: _,
            effects,
            unknown: _,
            end,
            control,
        } = self;
        outside.fs().return_to(&then.fs);
        task.clone_from(&then.task);
        process.clone_from(&then.process);
        files.clone_from(&then.files);
        context.clone_from(&then.context);
        actions.clone_from(&then.actions);
        ipc.clone_from(&then.ipc);
        sched.clone_from(&then.sched);
        *next_tid = then.next_tid;
        clock.clone_from(&then.clock);
        random.clone_from(&then.random);
        names.clone_from(&then.names);
        *effects = Effects::default();
        *end = None;
        control.clear();
    }
}

/// What address spaces see of pages that are not in their regions' own chunks.
fn views<'a>(spaces: impl Iterator<Item = (u32, &'a SpaceState)>) -> Vec<(u32, u64, Vec<Lent>)> {
    spaces
        .flat_map(|(id, space)| {
            let left = space.regions.iter().filter(|(_, region)| !region.lent.is_empty());
            left.map(move |(number, region)| (id, *number, region.lent.clone()))
        })
        .collect()
}

/// What a page was in a state with this memory.
fn was(state: &ProgramState, memory: &MemorySource, page: u64) -> Was {
    match memory.checkpoint() {
        _ if is_among(&state.memory.withheld, page) => Was::InSource,
        Some(kept) => kept.was(page),
        None => Was::InSource,
    }
}

/// Whether a page is in one of these runs, which ascend.
fn is_among(runs: &[FilePages], page: u64) -> bool {
    let at = runs.partition_point(|run| run.end <= page);
    runs.get(at).is_some_and(|run| run.first <= page)
}
