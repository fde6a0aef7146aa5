//! Whether a dictionary pays, and training it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::contents::{Content, PageContents};
use crate::error::{Error, Result};
use crate::frame::Compressor;
use crate::limits::PAGE_SIZE;

/// Most pages read to find samples.
const MAX_READS: u64 = 4096;
/// Most samples used; more make training slower and the dictionary no better.
const MAX_SAMPLES: usize = 768;
/// Fewest samples to train on: with less the dictionary is the data itself.
const MIN_SAMPLES: usize = 64;
/// One sample in this many is held out of the training, for the comparison.
const HELD_OUT: usize = 4;
/// Size of a dictionary in bytes. Twice that saves hardly more, and takes more
/// room in the processor's cache.
const DICTIONARY_BYTES: usize = 32 << 10;
/// A dictionary must make the stored pages smaller by one part in this many,
/// its own size included: it takes time to train and to compress with.
const LEAST_GAIN: u128 = 50;

/// Whether a snapshot gets a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DictionaryMode {
    /// When it makes the stored pages smaller by at least 2 %, as far as
    /// samples tell. Finding out takes some tenths of a second, and compressing
    /// with a dictionary two to three times as long as without at low levels;
    /// reading is about as fast.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Always, unless there are too few pages to train one.
    Always,
}

/// Trains a dictionary for these pages, if the mode and the data call for it.
pub(crate) fn choose(
    mode: DictionaryMode,
    level: i32,
    pages: &mut dyn PageContents,
) -> Result<Option<Vec<u8>>> {
    if mode == DictionaryMode::Never {
        return Ok(None);
    }
    let sample = Sample::take(pages)?;
    let (held_out, training): (Vec<_>, Vec<_>) =
        sample.pages.chunks_exact(PAGE_SIZE).enumerate().partition(|(number, _)| number % HELD_OUT == 0);
    if training.len() < MIN_SAMPLES {
        return Ok(None);
    }
    let training: Vec<u8> = training.iter().flat_map(|(_, page)| *page).copied().collect();
    let sizes = vec![PAGE_SIZE; training.len() / PAGE_SIZE];
    // Training fails on data with nothing in common; then none is of use.
    let Ok(dictionary) = zstd::dict::from_continuous(&training, &sizes, DICTIONARY_BYTES) else {
        return Ok(None);
    };
    if mode == DictionaryMode::Auto {
        let held_out: Vec<_> = held_out.into_iter().map(|(_, page)| page).collect();
        if !pays(&dictionary, level, &held_out, sample.distinct_pages)? {
            return Ok(None);
        }
    }
    Ok(Some(dictionary))
}

/// Whether the dictionary is worth having in a file with this many pages like
/// the held-out ones.
fn pays(dictionary: &[u8], level: i32, held_out: &[&[u8]], pages: u64) -> Result<bool> {
    let with = compressed_size(held_out, Compressor::new(PAGE_SIZE, level, Some(dictionary))?)?;
    let without = compressed_size(held_out, Compressor::new(PAGE_SIZE, level, None)?)?;
    // Both for all pages of the image, times the number of pages held out.
    let scale = |size: u64| u128::from(size) * u128::from(pages);
    let with = scale(with) + dictionary.len() as u128 * held_out.len() as u128;
    let without = scale(without);
    Ok(with + without / LEAST_GAIN < without)
}

/// How many bytes the pages take, compressed.
fn compressed_size(pages: &[&[u8]], mut compressor: Compressor) -> Result<u64> {
    pages.iter().try_fold(0, |size, page| Ok(size + compressor.compress(page)?.len().min(PAGE_SIZE) as u64))
}

/// Pages from all over an image.
struct Sample {
    /// The contents of distinct pages that are not zero, in page order.
    pages: Vec<u8>,
    /// Estimate of how many such pages the image has.
    distinct_pages: u64,
}

impl Sample {
    /// Reads evenly spaced pages.
    fn take(pages: &mut dyn PageContents) -> Result<Self> {
        let candidates = Candidates::find(pages);
        let step = candidates.total.div_ceil(MAX_READS).max(1);
        let mut sample = Vec::new();
        let mut seen = HashSet::new();
        let mut reads = 0;
        let mut page = [0; PAGE_SIZE];
        for number in (0..candidates.total).step_by(step as usize) {
            let at = candidates.nth(number);
            reads += 1;
            let content = pages.page(at, &mut page).map_err(|source| Error::Contents { page: at, source })?;
            if content == Content::Data && page != [0; PAGE_SIZE] && seen.insert(xxh3_64(&page)) {
                sample.extend_from_slice(&page);
            }
        }
        let found = (sample.len() / PAGE_SIZE) as u64;
        Ok(Self {
            pages: thin_out(sample),
            // Cannot overflow: both are below 2^32.
            distinct_pages: (candidates.total * found).checked_div(reads).unwrap_or(0),
        })
    }
}

/// Keeps at most [`MAX_SAMPLES`] pages, evenly spaced.
fn thin_out(pages: Vec<u8>) -> Vec<u8> {
    let step = (pages.len() / PAGE_SIZE).div_ceil(MAX_SAMPLES);
    if step <= 1 {
        return pages;
    }
    pages.chunks_exact(PAGE_SIZE).step_by(step).flatten().copied().collect()
}

/// The pages outside of holes, as runs.
struct Candidates {
    /// First page of each run, and how many pages the runs before it have.
    runs: Vec<(u64, u64)>,
    /// How many pages all runs have.
    total: u64,
}

impl Candidates {
    /// Asks for all runs.
    fn find(pages: &mut dyn PageContents) -> Self {
        let page_count = pages.page_count();
        let mut found = Self { runs: Vec::new(), total: 0 };
        let mut next = 0;
        while next < page_count {
            // A source that goes backwards is reported by the writer; here it
            // must only not loop for ever.
            let Some(page) = pages.next_data(next).filter(|page| *page < page_count) else {
                break;
            };
            let page = page.max(next);
            if page > next || found.runs.is_empty() {
                found.runs.push((page, found.total));
            }
            found.total += 1;
            next = page + 1;
        }
        found
    }

    /// The page number of the `number`th candidate, which must exist.
    fn nth(&self, number: u64) -> u64 {
        let after = self.runs.partition_point(|(_, before)| *before <= number);
        let (first, before) = self.runs[after - 1];
        first + (number - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::ContentsError;

    /// Only every page whose number is in `data` is outside of holes.
    struct Sparse {
        page_count: u64,
        data: Vec<u64>,
    }

    impl PageContents for Sparse {
        fn page_count(&self) -> u64 {
            self.page_count
        }

        fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
            assert!(self.data.contains(&page));
            out.fill(page as u8);
            Ok(Content::Data)
        }

        fn next_data(&mut self, from: u64) -> Option<u64> {
            self.data.iter().copied().find(|page| *page >= from)
        }
    }

    #[test]
    fn candidates_are_the_pages_outside_of_holes() {
        for data in
            [vec![], vec![0], vec![99], vec![0, 1, 2, 50, 51, 99], vec![3, 5, 7, 8], (0..100).collect()]
        {
            let mut source = Sparse { page_count: 100, data: data.clone() };
            let candidates = Candidates::find(&mut source);
            let found: Vec<_> = (0..candidates.total).map(|n| candidates.nth(n)).collect();
            assert_eq!(found, data);
        }
    }

    #[test]
    fn repeated_and_zero_pages_are_no_samples() {
        let mut image = vec![1; 3 * PAGE_SIZE];
        image.extend([0; PAGE_SIZE]);
        image.extend([2; PAGE_SIZE]);
        let sample = Sample::take(&mut image.as_slice()).unwrap();
        assert_eq!(sample.pages.len(), 2 * PAGE_SIZE);
        assert_eq!(sample.distinct_pages, 2);
    }

    #[test]
    fn too_little_data_gives_no_dictionary() {
        let image = vec![5; 10 * PAGE_SIZE];
        let choice = choose(DictionaryMode::Always, 3, &mut image.as_slice()).unwrap();
        assert!(choice.is_none());
        assert!(choose(DictionaryMode::Auto, 3, &mut &[][..]).unwrap().is_none());
    }
}
