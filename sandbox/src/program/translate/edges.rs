//! The counts of the ways that control flow took ([`crate::program::coverage`]): words of 32 bits that copies of code add
//! to ([`super::block`]), in pages that all address spaces of the machine share.

use std::collections::HashMap;
use std::sync::Arc;

use super::layout::{COUNTS, MOST_COUNTS};
use crate::program::coverage::{Edge, Modules, Way};
use crate::program::mm::Memory;
use crate::ram::{PAGE_SIZE, PageError};

/// Bytes of a count.
const COUNT_BYTES: usize = 4;
const COUNTS_A_PAGE: usize = PAGE_SIZE / COUNT_BYTES;
/// Files that are told apart at most. A program can make names without end.
const MOST_FILES: usize = 1024;

/// What is counted of a machine's programs.
#[derive(Debug)]
pub(crate) struct Edges {
    modules: Modules,
    /// The files that were met, by their paths; `None` where nothing is counted.
    files: HashMap<Arc<[u8]>, Option<u32>>,
    paths: Vec<Arc<str>>,
    /// Numbers of counts: by file, offset and way.
    numbers: HashMap<(u32, u64, Way), u32>,
    /// What they count, in the order in which they were met.
    met: Vec<(u32, u64, Way)>,
    /// Pages of the counts.
    pages: Vec<u64>,
}

impl Edges {
    /// Nothing was met yet. Address spaces may have mapped the counts of `before`, whose pages these take over.
    pub fn new(modules: Modules, before: Option<Edges>, memory: &Memory) -> Edges {
        let pages = before.map_or(Vec::new(), |before| before.pages);
        pages.iter().for_each(|page| memory.system.clear(*page));
        Edges { pages, ..Edges::none(modules) }
    }

    pub(super) fn none(modules: Modules) -> Edges {
        Edges {
            modules,
            files: HashMap::new(),
            paths: Vec::new(),
            numbers: HashMap::new(),
            met: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// The number of a file, by its path, if ways in it are counted.
    pub fn file(&mut self, name: &Arc<[u8]>) -> Option<u32> {
        if let Some(known) = self.files.get(name) {
            return *known;
        }
        if self.files.len() == MOST_FILES {
            return None;
        }
        let path = String::from_utf8_lossy(name);
        let number = (path.starts_with('/') && self.modules.has(&path)).then(|| {
            self.paths.push(Arc::from(&*path));
            self.paths.len() as u32 - 1
        });
        self.files.insert(Arc::clone(name), number);
        number
    }

    /// The address of a count. `None` where there is no room for one more.
    fn count(&mut self, file: u32, offset: u64, way: Way) -> Option<u64> {
        let Edges { numbers, met, .. } = self;
        let key = (file, offset, way);
        let number = match numbers.get(&key) {
            Some(number) => *number,
            None if met.len() == MOST_COUNTS => return None,
            None => {
                met.push(key);
                numbers.insert(key, met.len() as u32 - 1);
                met.len() as u32 - 1
            }
        };
        Some(COUNTS + u64::from(number) * COUNT_BYTES as u64)
    }

    /// The pages of the counts that were met so far, which are taken as they are needed.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn pages(&mut self, memory: &mut Memory) -> Result<&[u64], PageError> {
        while self.pages.len() < self.met.len().div_ceil(COUNTS_A_PAGE) {
            self.pages.push(memory.system.take_page()?);
        }
        Ok(&self.pages)
    }

    /// Counts a way that was gone by no copy, if it is one of a chosen file's.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn add(
        &mut self,
        memory: &mut Memory,
        name: &Arc<[u8]>,
        offset: u64,
        way: Way,
    ) -> Result<(), PageError> {
        let Some(count) = self.file(name).and_then(|file| self.count(file, offset, way)) else {
            return Ok(());
        };
        let at = (count - COUNTS) as usize;
        let page = self.pages(memory)?[at / PAGE_SIZE] + (at % PAGE_SIZE) as u64;
        let mut word = [0; COUNT_BYTES];
        memory.system.read(page, &mut word);
        memory.system.write(page, &u32::from_le_bytes(word).wrapping_add(1).to_le_bytes());
        Ok(())
    }

    /// The counts, by number, of what was met so far; what is more than 255 is 255. They are 0 from then on.
    pub fn take(&self, memory: &Memory, counts: &mut Vec<u8>) {
        counts.clear();
        let mut bytes = [0; PAGE_SIZE];
        for page in &self.pages {
            memory.system.read(*page, &mut bytes);
            let (words, _) = bytes.as_chunks::<COUNT_BYTES>();
            counts.extend(words.iter().map(|word| u32::from_le_bytes(*word).min(255) as u8));
            if bytes != [0; PAGE_SIZE] {
                memory.system.clear(*page);
            }
        }
        counts.truncate(self.met.len());
    }

    /// What was met so far: what the counts are of, by number.
    pub fn met(&self) -> Vec<Edge> {
        let edge = |&(file, offset, way): &(u32, u64, Way)| {
            let file = Arc::clone(&self.paths[file as usize]);
            Edge { file, offset, way }
        };
        self.met.iter().map(edge).collect()
    }

    /// Whether there are as many ways as can be counted.
    pub fn is_full(&self) -> bool {
        self.met.len() == MOST_COUNTS
    }
}

/// The counts of code that lies in one mapping of a file.
#[derive(Debug)]
pub(super) struct Counts<'a> {
    pub edges: &'a mut Edges,
    pub file: u32,
    /// What is to be added to an address, to have its offset in the file.
    pub to_offset: u64,
}

impl Counts<'_> {
    /// The address of a count.
    pub fn of(&mut self, rip: u64, way: Way) -> Option<u64> {
        self.edges.count(self.file, rip.wrapping_add(self.to_offset), way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Arc<[u8]> {
        Arc::from(path.as_bytes())
    }

    #[test]
    fn a_way_keeps_its_number() {
        let mut edges = Edges::none(Modules::Own);
        assert_eq!(edges.file(&name("[vdso]")), None);
        let file = edges.file(&name("/bin/a")).unwrap();
        assert_eq!(edges.file(&name("/bin/a")), Some(file));
        let mut counts = Counts { edges: &mut edges, file, to_offset: 0x1000u64.wrapping_sub(0x40_0000) };
        let first = counts.of(0x40_0010, Way::Taken);
        assert_eq!(first, Some(COUNTS));
        assert_eq!(counts.of(0x40_0010, Way::NotTaken), Some(COUNTS + 4));
        assert_eq!(counts.of(0x40_0010, Way::Taken), first);
        assert_eq!(edges.met()[0], Edge { file: Arc::from("/bin/a"), offset: 0x1010, way: Way::Taken });
    }

    #[test]
    fn files_are_so_many_at_most() {
        let mut edges = Edges::none(Modules::All);
        let numbers: Vec<_> = (0..2000).map(|n| edges.file(&name(&format!("/bin/{n}")))).collect();
        assert_eq!((numbers[MOST_FILES - 1], numbers[MOST_FILES]), (Some(MOST_FILES as u32 - 1), None));
        assert_eq!((edges.file(&name("/bin/7")), edges.files.len()), (Some(7), MOST_FILES));
    }

    #[test]
    fn there_are_so_many_at_most() {
        let mut edges = Edges::none(Modules::All);
        let all: Vec<_> = (0..=MOST_COUNTS as u64).map(|at| edges.count(0, at, Way::Entered)).collect();
        assert!(
            edges.is_full() && all.last() == Some(&None) && all[..MOST_COUNTS].iter().all(Option::is_some)
        );
        assert_eq!(edges.count(0, 7, Way::Entered), Some(COUNTS + 28), "one that it has");
    }
}
