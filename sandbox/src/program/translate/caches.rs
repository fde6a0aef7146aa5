//! The caches of the address spaces that ran last.

use super::block::Breakpoints;
use super::cache::Cache;
use super::layout;
use crate::program::kernel::Kernel;
use crate::program::mm::Memory;
use crate::ram::PageError;

/// Address spaces that have copies at most: of some MiB each ([`layout`]).
const MOST: usize = 8;

/// The caches, the one that was used last at the end.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    /// By the number of the address space.
    caches: Vec<(u32, Cache)>,
}

impl Caches {
    /// The cache of the running address space, if it has one.
    pub fn of(&self, space: u32) -> Option<&Cache> {
        self.caches.iter().rev().find(|(id, _)| *id == space).map(|(_, cache)| cache)
    }

    /// The cache of the running address space, which is made if it has none. It knows what code has changed since,
    /// and leaves the guest at these breakpoints.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn make(
        &mut self,
        kernel: &mut Kernel,
        breakpoints: Breakpoints<'_>,
    ) -> Result<&mut Cache, PageError> {
        let id = kernel.space.id();
        match self.caches.iter().position(|(space, _)| *space == id) {
            Some(last) if last + 1 == self.caches.len() => {}
            Some(place) => {
                let cache = self.caches.remove(place);
                self.caches.push(cache);
            }
            None => {
                let cache = self.new_cache(kernel)?;
                self.caches.push((id, cache));
            }
        }
        let (changed, all_known) = (kernel.space.take_changed_code(), kernel.space.is_all_code_known());
        let (_, cache) = self.caches.last_mut().expect("one was found or added");
        cache.forget(&mut kernel.memory, &mut kernel.space, &changed)?;
        cache.adapt(&mut kernel.memory, &mut kernel.space, breakpoints, all_known)?;
        Ok(cache)
    }

    /// Forgets all copies.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn clear(&mut self, kernel: &mut Kernel) -> Result<(), PageError> {
        let Kernel { memory, space, .. } = kernel;
        for (id, cache) in &mut self.caches {
            if let Some(space) = space.of_mut(*id) {
                cache.clear(memory, space)?;
            }
        }
        Ok(())
    }

    /// Gives up those of address spaces that are gone: whose numbers `stays` does not know.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn retain(&mut self, memory: &mut Memory, stays: impl Fn(u32) -> bool) -> Result<(), PageError> {
        let gone = self.caches.extract_if(.., |(id, _)| !stays(*id));
        gone.into_iter().try_for_each(|(_, cache)| memory.system.retire(cache.into_pages()))
    }

    /// A new one, or that of an address space that has not run for long.
    fn new_cache(&mut self, kernel: &mut Kernel) -> Result<Cache, PageError> {
        let Kernel { memory, space, .. } = kernel;
        self.retain(memory, |id| space.of(id).is_some())?;
        if self.caches.len() < MOST {
            return Cache::new(memory, space);
        }
        let (before, mut cache) = self.caches.remove(0);
        if let Some(before) = space.of_mut(before) {
            before.unmap_system(memory, layout::RANGE);
        }
        // KVM may have kept what was there.
        memory.system.recycle(Vec::new())?;
        cache.map(memory, space)?;
        cache.clear(memory, space)?;
        Ok(cache)
    }
}
