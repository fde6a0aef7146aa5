//! The dejavm snapshot file: a virtual machine's state and memory, to be
//! restored page by page.
//!
//! A file holds the machine state as opaque bytes, an index with one entry a
//! page, and the pages, each compressed by itself, so that any page can be read
//! without the others. Zero pages and repeated pages take no room beyond the
//! index. A snapshot may be a layer over a parent and hold only the pages that
//! differ. It may also record a working set: the pages a run touches first,
//! regrouped for fast prefetching.
//!
//! Opening takes the same time for any image size. Everything read from the
//! file is checked before it is used; damaged or hostile files give errors. The
//! checks find damage, not forgery: who can write the file can write right
//! checksums as well.
//!
//! The format is described byte by byte in `docs/snapshot-format.md`.
//!
//! ```
//! use dejavm_snapshot::{PAGE_SIZE, PageReader, Snapshot, WriteOptions, write};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("machine.djv");
//!
//! let memory = vec![7_u8; 3 * PAGE_SIZE];
//! let summary = write(
//!     &path,
//!     &WriteOptions::default(),
//!     b"machine state",
//!     &mut memory.as_slice(),
//!     &mut |_done, _total| {},
//! )?;
//!
//! let snapshot = Snapshot::open(&path)?;
//! assert_eq!(snapshot.id(), summary.id);
//! assert_eq!(snapshot.state()?, b"machine state");
//!
//! let mut page = [0; PAGE_SIZE];
//! PageReader::new(snapshot)?.read(2, &mut page)?;
//! assert_eq!(page, [7; PAGE_SIZE]);
//! # Ok(())
//! # }
//! ```

mod bytes;
pub mod codec;
mod content_hash;
mod contents;
mod dictionary;
mod error;
mod file;
mod frame;
mod header;
mod id;
mod index;
mod info;
mod layer;
mod limits;
mod lookup;
mod new_file;
mod output;
mod place;
mod planner;
mod reader;
mod regroup;
mod rounds;
mod snapshot;
mod verify;
mod working_set;
mod writer;

pub use contents::{Content, ContentsError, Hole, PageContents};
pub use dictionary::DictionaryMode;
pub use error::{Error, Result, Section};
pub use id::ContentId;
pub use index::Encoding;
pub use info::{Info, PageCounts, WorkingSetInfo};
pub use limits::{
    CLUSTER_PAGES, FORMAT_VERSION, MAX_DICTIONARY_BYTES, MAX_LAYERS, MAX_PAGES, MAX_STATE_BYTES,
    MAX_WORKING_SET_PAGES, PAGE_SIZE,
};
pub use new_file::{NewFile, directory_of};
pub use place::{Place, Span, SpanReader};
pub use reader::PageReader;
pub use regroup::add_working_set;
pub use snapshot::{PageEntry, ParentQuery, Snapshot};
pub use working_set::WorkingSet;
pub use writer::{Summary, WriteOptions, write};
