//! An open snapshot: a file and the chain of its parents.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::ContentId;
use crate::error::{Error, Result, Section};
use crate::index::{Encoding, Entry, Stored};
use crate::layer::Layer;
use crate::limits::MAX_LAYERS;
use crate::lookup::Lookup;
use crate::place::{Place, Span};
use crate::working_set::WorkingSet;

/// An open snapshot file, with the parents it needs.
///
/// Cheap to share between threads; each thread reads pages through its own
/// [`PageReader`](crate::PageReader).
///
/// The file may be replaced or unlinked while it is open: the open snapshot
/// keeps the old content. One that is cut or overwritten in place gives errors
/// when what is missing or changed is read, and nothing worse: see
/// [`Error::Truncated`] and [`Error::Corrupt`].
pub struct Snapshot {
    /// This file, its parent, and so on. Never empty.
    layers: Vec<Arc<Layer>>,
}

/// Which parent is wanted; given to the resolver of [`Snapshot::open_with`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ParentQuery<'a> {
    /// The file that needs the parent.
    pub child: &'a Path,
    /// The parent's content id.
    pub id: ContentId,
    /// The parent's file name when the child was written: a plain file name
    /// without directories.
    pub file_name: &'a OsStr,
}

/// What the index says about a page, after following the chain of parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageEntry {
    /// Every byte is zero. Nothing is stored.
    Zero,
    /// The page is stored.
    Stored {
        /// Which file stores it: 0 is this snapshot, 1 its parent, and so on.
        layer: usize,
        /// How it is stored.
        encoding: Encoding,
        /// How many bytes it takes in the file, 1 to 4096.
        stored_bytes: u32,
        /// xxh3-64 of its content.
        checksum: u64,
    },
}

impl Snapshot {
    /// Opens a snapshot. A parent is looked for in the directory of the file
    /// (not of a link to it), by the name it had when the layer was written.
    ///
    /// The work does not grow with the image: the header and footer of each
    /// file are checked now, everything else at its first use.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be opened; [`Error::NotASnapshot`],
    /// [`Error::NewerVersion`], [`Error::UnsupportedFeature`],
    /// [`Error::Truncated`] or [`Error::Corrupt`] when one is not usable;
    /// [`Error::MissingParent`], [`Error::ParentMismatch`],
    /// [`Error::UnusableParent`], [`Error::TooManyLayers`] or
    /// [`Error::LayerCycle`] when the chain of parents is not.
    pub fn open(path: impl AsRef<Path>) -> Result<Arc<Self>> {
        Self::open_with(path.as_ref(), |query| {
            let child = fs::canonicalize(query.child);
            let child = child.as_deref().unwrap_or(query.child);
            child.with_file_name(query.file_name)
        })
    }

    /// Opens a snapshot in a file or a part of one; `find_parent` says where
    /// each parent is. The parent's content id is checked.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_with<P: Into<Place>>(
        place: impl Into<Place>,
        mut find_parent: impl FnMut(&ParentQuery<'_>) -> P,
    ) -> Result<Arc<Self>> {
        let place = place.into();
        let path = place.path();
        let mut child = Arc::new(Layer::open(&place)?);
        let mut layers = vec![Arc::clone(&child)];
        while let Some(parent) = &child.header().parent {
            if layers.len() == MAX_LAYERS {
                return Err(Error::TooManyLayers { path: path.to_path_buf(), limit: MAX_LAYERS });
            }
            if layers.iter().any(|layer| layer.header().id == parent.id) {
                return Err(Error::LayerCycle { path: path.to_path_buf(), id: parent.id });
            }
            let found = find_parent(&ParentQuery {
                child: child.path(),
                id: parent.id,
                file_name: &parent.file_name,
            });
            child = Arc::new(open_parent(&child, parent.id, &found.into())?);
            layers.push(Arc::clone(&child));
        }
        Ok(Arc::new(Self { layers }))
    }

    /// What this snapshot holds, as an id.
    pub fn id(&self) -> ContentId {
        self.top().header().id
    }

    /// The id of the snapshot this one is a layer over, if it is one.
    pub fn parent_id(&self) -> Option<ContentId> {
        self.top().header().parent.as_ref().map(|parent| parent.id)
    }

    /// The snapshot this one is a layer over, if it is one.
    pub fn parent(&self) -> Option<Arc<Self>> {
        (self.layers.len() > 1).then(|| self.chain_from(1))
    }

    /// How many files the chain has, this one included: 1 to
    /// [`MAX_LAYERS`].
    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// The path the snapshot was opened by.
    pub fn path(&self) -> &Path {
        self.top().path()
    }

    /// All bytes of this snapshot's own file.
    pub fn bytes(&self) -> Span {
        self.top().file().bytes()
    }

    /// How many pages of [`PAGE_SIZE`](crate::PAGE_SIZE) bytes the image has.
    pub fn page_count(&self) -> u64 {
        self.top().header().page_count
    }

    /// The machine state, as given to [`write`](crate::write). Read and
    /// checked at the first call, kept in memory from then on.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when its checksum is wrong; [`Error::Truncated`].
    pub fn state(&self) -> Result<&[u8]> {
        self.top().state()
    }

    /// What the index says about a page. The entry is checked; the content is
    /// checked when a [`PageReader`](crate::PageReader) reads it.
    ///
    /// # Errors
    ///
    /// [`Error::PageOutOfRange`]; [`Error::Corrupt`] when an entry fails its
    /// check; [`Error::Truncated`].
    pub fn entry(&self, page: u64) -> Result<PageEntry> {
        let entry = match self.resolve(page)? {
            None => PageEntry::Zero,
            Some((layer, stored)) => PageEntry::Stored {
                layer,
                encoding: stored.encoding,
                stored_bytes: u32::from(stored.length),
                checksum: stored.checksum,
            },
        };
        Ok(entry)
    }

    /// Whether every byte of a page is zero.
    ///
    /// # Errors
    ///
    /// As [`Self::entry`].
    pub fn is_zero(&self, page: u64) -> Result<bool> {
        Ok(self.resolve(page)?.is_none())
    }

    /// For each page from `first` on, whether every byte of it is zero. Costs
    /// less than asking for one after the other.
    ///
    /// # Errors
    ///
    /// As [`Self::entry`].
    pub fn are_zero(&self, first: u64, zero: &mut [bool]) -> Result<()> {
        let mut lookup = Lookup::new();
        for (page, zero) in (first..).zip(zero) {
            *zero = self.resolve_by(&mut lookup, page)?.is_none();
        }
        Ok(())
    }

    /// The working set recorded in this file, if there is one. A parent's
    /// working set is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when its check fails; [`Error::Truncated`]. The
    /// working set is advice: on an error the snapshot can be used without it.
    pub fn working_set(&self) -> Result<Option<WorkingSet<'_>>> {
        Ok(self.top().working_set()?.map(WorkingSet::new))
    }

    /// This snapshot's own file.
    pub(crate) fn top(&self) -> &Layer {
        &self.layers[0]
    }

    /// All files, this one first.
    pub(crate) fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// The snapshot that the `number`th file of the chain is by itself.
    pub(crate) fn chain_from(&self, number: usize) -> Arc<Self> {
        Arc::new(Self { layers: self.layers[number..].to_vec() })
    }

    /// The layer that stores a page, or `None` for a zero page.
    fn resolve(&self, page: u64) -> Result<Option<(usize, Stored)>> {
        self.follow(page, |_, layer| layer.entry(page))
    }

    /// As [`Self::resolve`], for one of many pages: their entries are read in blocks.
    pub(crate) fn resolve_by(&self, lookup: &mut Lookup, page: u64) -> Result<Option<(usize, Stored)>> {
        self.follow(page, |number, layer| lookup.entry(number, layer, page))
    }

    /// Follows the chain with this way of reading an entry.
    fn follow(
        &self,
        page: u64,
        mut read_entry: impl FnMut(usize, &Layer) -> Result<Entry>,
    ) -> Result<Option<(usize, Stored)>> {
        let page_count = self.page_count();
        if page >= page_count {
            return Err(Error::PageOutOfRange { page, page_count });
        }
        // A parent may be shorter: what it does not have, it cannot be asked for.
        let reaching = self.layers.iter().take_while(|layer| page < layer.header().page_count);
        for (number, layer) in reaching.enumerate() {
            match read_entry(number, layer)? {
                Entry::Zero => return Ok(None),
                Entry::Stored(stored) => return Ok(Some((number, stored))),
                Entry::Parent => {}
            }
        }
        let has_page = |layer: &&Arc<Layer>| page < layer.header().page_count;
        let last = self.layers.iter().take_while(has_page).last().unwrap_or(&self.layers[0]);
        Err(last.corrupt(
            Section::Index,
            last.header().layout.index.offset,
            "a page is said to be the parent's, but no parent has it",
        ))
    }
}

/// Opens what was found as a parent and checks that it fits.
fn open_parent(child: &Layer, id: ContentId, found: &Place) -> Result<Layer> {
    let parent = Layer::open(found).map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Error::MissingParent {
            path: child.path().to_path_buf(),
            id,
            looked_for: found.path().to_path_buf(),
        },
        error => error,
    })?;
    if parent.header().id != id {
        return Err(Error::ParentMismatch {
            path: child.path().to_path_buf(),
            parent: found.path().to_path_buf(),
            expected: id,
            found: parent.header().id,
        });
    }
    Ok(parent)
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("path", &self.path())
            .field("id", &self.id())
            .field("page_count", &self.page_count())
            .field("layer_count", &self.layer_count())
            .finish_non_exhaustive()
    }
}
