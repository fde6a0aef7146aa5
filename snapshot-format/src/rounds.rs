//! Compressing pages on several threads, with a result that does not depend on
//! how many there are.

use std::sync::Mutex;
use std::thread;

use crate::error::Result;
use crate::frame::Compressor;
use crate::index::Encoding;
use crate::limits::PAGE_SIZE;

/// Most pages in a round: 4 MiB, some ten milliseconds of work for two
/// threads, so that starting the threads costs little.
pub(crate) const ROUND_PAGES: usize = 1024;

/// Pages a thread takes at a time.
const CHUNK_PAGES: usize = 32;

/// A frame must save at least this many bytes; else the page is stored raw,
/// which is faster to read.
const LEAST_SAVING: usize = 128;

/// A chunk of pages, ready for the file.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    /// The stored bytes of the pages, one after the other.
    pub(crate) bytes: Vec<u8>,
    /// How each page is stored, and in how many bytes.
    pub(crate) pages: Vec<(Encoding, u16)>,
}

/// A fixed set of compressors, one a thread.
pub(crate) struct Workers {
    compressors: Vec<Compressor>,
}

impl Workers {
    /// `count` threads' worth of compressors, at least one.
    pub(crate) fn new(count: usize, level: i32, dictionary: Option<&[u8]>) -> Result<Self> {
        let compressors = (0..count.max(1))
            .map(|_| Compressor::new(PAGE_SIZE, level, dictionary))
            .collect::<Result<_>>()?;
        Ok(Self { compressors })
    }

    /// Packs a round of pages, and meanwhile does something else on this
    /// thread. The chunks come in the order of the pages.
    pub(crate) fn pack<T>(
        &mut self,
        pages: &[u8],
        meanwhile: impl FnOnce() -> T,
    ) -> (Result<Vec<Packed>>, T) {
        let chunks = pages.chunks(CHUNK_PAGES * PAGE_SIZE);
        let mut packed: Vec<Packed> = chunks.clone().map(|_| Packed::default()).collect();
        // A chunk's place in the result is settled here, whoever takes it.
        let queue = Mutex::new(chunks.zip(packed.iter_mut()));
        let take = || {
            let mut queue = queue.lock().unwrap_or_else(|poison| poison.into_inner());
            queue.next()
        };
        let (outcome, other) = thread::scope(|scope| {
            let threads: Vec<_> = self
                .compressors
                .iter_mut()
                .map(|compressor| {
                    scope.spawn(|| {
                        while let Some((pages, packed)) = take() {
                            pack_chunk(compressor, pages, packed)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            let other = meanwhile();
            let outcome = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .fold(Ok(()), Result::and);
            (outcome, other)
        });
        (outcome.map(|()| packed), other)
    }
}

/// Packs one chunk.
fn pack_chunk(compressor: &mut Compressor, pages: &[u8], packed: &mut Packed) -> Result<()> {
    for page in pages.chunks(PAGE_SIZE) {
        let frame = compressor.compress(page)?;
        let (encoding, stored) = if frame.len() + LEAST_SAVING <= PAGE_SIZE {
            (Encoding::Zstd, frame)
        } else {
            (Encoding::Raw, page)
        };
        packed.bytes.extend_from_slice(stored);
        // At most a page, which fits.
        packed.pages.push((encoding, stored.len() as u16));
    }
    Ok(())
}
