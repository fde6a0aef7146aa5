//! Whether an address space and a physical memory that came out of a file can be ones.

use std::collections::HashSet;

use super::cow::MAX_LENT;
use super::lending::{Lent, Pages};
use super::{
    Backing, CHUNK_BYTES, MAX_MAPPINGS, MemoryState, Region, SpaceState, USER_END, USER_MIN, Vma, tables,
};
use crate::machine::{BadState, expect};
use crate::program::fs::{ContentRef, Fs, InodeId};
use crate::ram::{CHUNK_PAGES, PAGE_SIZE};

/// No offset in a file or object comes near this.
const OFFSET_END: u64 = 1 << 62;

impl SpaceState {
    /// Checks mappings and regions, and what they hold of the file system.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self, memory: &MemoryState, fs: &Fs) -> Result<(), BadState> {
        let is_held = |content| self.contents.contains(&content);
        let SpaceState {
            vmas,
            regions,
            copied,
            brk_start,
            brk,
            mmap_top,
            // What new mappings are like, and how far they grow, the program sets at will.
            lock_new: _,
            stack_limit: _,
            image,
            contents,
            files,
        } = self;
        image.check(fs)?;
        expect(contents.iter().all(|content| fs.has_frozen_content(*content)), "a mapped file's content")?;
        let in_memory = |(object, inode): (&u64, &InodeId)| {
            fs.object_of(*inode) == Some(*object) && memory.objects.contains_key(object)
        };
        expect(files.iter().all(in_memory), "a mapped file")?;
        let mut free_from = USER_MIN;
        for (start, vma) in vmas {
            // What stands in `/proc/self/maps` is for the program alone.
            // Whether it is charged says what it costs, which the account must have.
            let Vma {
                end,
                protection,
                backing,
                no_reserve: _,
                charged,
                may_write,
                locked: _,
                grows_down,
                name: _,
            } = vma;
            expect(*charged || !protection.any() || !vma.has_own_pages(), "a mapping that is not charged")?;
            expect(*may_write || !protection.write, "a mapping's protection")?;
            expect(!grows_down || matches!(backing, Backing::Anonymous), "a mapping that grows")?;
            let aligned = is_aligned(*start) && is_aligned(*end);
            expect(aligned && *start >= free_from && *start < *end && *end <= USER_END, "a mapping")?;
            let span = end - start;
            match backing {
                Backing::Anonymous => {}
                Backing::File { content, offset, len, shared, tracked: _ } => {
                    expect(!shared || !may_write, "a shared mapping of a file's content")?;
                    expect(fits(*offset, span) && *len < OFFSET_END, "a mapping's offset")?;
                    expect(is_held(*content), "a mapping of a file's content")?;
                }
                Backing::Shared { object, offset } | Backing::Private { object, offset } => {
                    expect(fits(*offset, span), "a mapping's offset")?;
                    expect(memory.objects.contains_key(object), "a mapping of a shared object")?;
                }
            }
            free_from = *end;
        }
        expect(vmas.len() <= MAX_MAPPINGS + 1, "mappings")?;
        // Any blocks may be in use.
        for (number, Region { chunk: _, blocks: _, lent }) in regions {
            expect(*number < USER_END / CHUNK_BYTES && lent.len() <= MAX_LENT, "a region")?;
            let mut seen = Pages::default();
            for Lent { chunk: _, pages } in lent {
                expect(!pages.is_empty() && !seen.meets(pages), "pages of another chunk")?;
                seen = pages.runs().into_iter().fold(seen, Pages::with);
            }
        }
        expect(copied.iter().all(|page| *page < USER_END && is_aligned(*page)), "a copied page")?;
        debug_assert_eq!(tables::region_start(1), CHUNK_BYTES);
        expect(brk_start <= brk && *brk <= USER_END, "the heap")?;
        expect(*mmap_top <= USER_END, "where mappings go")
    }

    /// Chunks of private pages.
    fn chunks(&self) -> impl Iterator<Item = u32> {
        self.regions.values().map(|region| region.chunk)
    }

    /// Chunks that regions see pages of besides.
    fn lent_chunks(&self) -> impl Iterator<Item = u32> {
        self.regions.values().flat_map(|region| region.lent.iter().map(|lent| lent.chunk))
    }
}

impl MemoryState {
    /// Checks that each chunk has one use, that none lies beyond `limit`, and that shared objects and
    /// pages of files lie in chunks. `is_held` says whether the program holds a file's content.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(
        &self,
        spaces: &[&SpaceState],
        limit: u32,
        is_held: impl Fn(ContentRef) -> bool,
    ) -> Result<(), BadState> {
        // The account is checked with what it is charged for.
        let MemoryState { chunks, objects, next_object, stored_pages, withheld, account: _ } = self;
        expect(chunks.used() <= limit, "chunks")?;
        expect(*next_object < 1 << 48, "a counter")?;
        let mut taken = HashSet::new();
        let in_objects = objects.values().flat_map(|object| object.pieces.values().map(|piece| piece.chunk));
        let private = spaces.iter().flat_map(|space| space.chunks());
        let all = private.chain(in_objects).chain(chunks.free());
        for chunk in all {
            expect(chunk < chunks.used() && taken.insert(chunk), "a chunk")?;
        }
        for chunk in spaces.iter().flat_map(|space| space.lent_chunks()) {
            expect(chunk < chunks.used() && !taken.contains(&chunk), "a chunk that several have in common")?;
        }
        for (number, object) in objects {
            expect(object.is_valid(), "a shared object")?;
            expect(self.may_have_object(*number), "a shared object's number")?;
        }
        let pages = self.used_pages();
        expect(*stored_pages <= pages, "pages in the snapshot")?;
        let mut from = 0;
        for run in withheld {
            expect(run.is_valid(from, pages) && is_held(run.content), "pages of a file")?;
            from = run.end;
        }
        Ok(())
    }
}

fn is_aligned(address: u64) -> bool {
    address.is_multiple_of(PAGE_SIZE as u64)
}

/// Whether a mapping of `span` bytes can start at an offset.
fn fits(offset: u64, span: u64) -> bool {
    is_aligned(offset) && offset.checked_add(span).is_some_and(|end| end < OFFSET_END)
}

const _: () = assert!(CHUNK_BYTES == CHUNK_PAGES * PAGE_SIZE as u64);
