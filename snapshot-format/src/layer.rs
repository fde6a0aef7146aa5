//! One snapshot file, by itself.

use std::path::Path;
use std::sync::OnceLock;

use xxhash_rust::xxh3::xxh3_64;
use zstd::zstd_safe::DDict;

use crate::error::{Error, Result, Section};
use crate::file::SourceFile;
use crate::frame::Decompressor;
use crate::header::{Extent, FOOTER_LEN, HEADER_LEN, Header, check_footer, check_start};
use crate::index::{ENTRY_LEN, Encoding, Entry, Stored};
use crate::limits::PAGE_SIZE;
use crate::lookup::BLOCK_ENTRIES;
use crate::place::Place;
use crate::working_set::Table;

/// One open snapshot file. What is not needed to read a page is read and
/// checked at its first use.
pub(crate) struct Layer {
    file: SourceFile,
    header: Header,
    salt: u64,
    state: OnceLock<Vec<u8>>,
    dictionary: OnceLock<Option<DDict<'static>>>,
    working_set: OnceLock<Option<Table>>,
}

impl Layer {
    /// Opens a file and checks its header and footer.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let file = SourceFile::open(place)?;
        let header = read_ends(&file)?;
        Ok(Self {
            salt: header.id.index_salt(),
            file,
            header,
            state: OnceLock::new(),
            dictionary: OnceLock::new(),
            working_set: OnceLock::new(),
        })
    }

    /// Checks header and footer again.
    pub(crate) fn check_ends(&self) -> Result<()> {
        match read_ends(&self.file)? == self.header {
            true => Ok(()),
            false => Err(self.corrupt(Section::Header, 0, "it changed while the file was open")),
        }
    }

    /// The path the file was opened by.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &SourceFile {
        &self.file
    }

    /// The file's header.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The machine state, checked.
    pub(crate) fn state(&self) -> Result<&[u8]> {
        let state = read_once(&self.state, || self.section(Section::State, self.header.layout.state))?;
        Ok(state)
    }

    /// The dictionary, checked and digested, if there is one.
    pub(crate) fn dictionary(&self) -> Result<Option<&DDict<'static>>> {
        let dictionary = read_once(&self.dictionary, || {
            let extent = self.header.layout.dictionary;
            if extent.length == 0 {
                return Ok(None);
            }
            let bytes = self.section(Section::Dictionary, extent)?;
            let dictionary = DDict::try_create(&bytes)
                .ok_or_else(|| self.corrupt(Section::Dictionary, extent.offset, "zstd cannot load it"))?;
            Ok(Some(dictionary))
        })?;
        Ok(dictionary.as_ref())
    }

    /// The working set, checked, if there is one.
    pub(crate) fn working_set(&self) -> Result<Option<&Table>> {
        let table = read_once(&self.working_set, || {
            let extent = self.header.layout.working_set;
            if extent.length == 0 {
                return Ok(None);
            }
            let bytes = self.section(Section::WorkingSet, extent)?;
            let table = Table::decode(&bytes, self.header.page_count, self.header.layout.clusters.length)
                .map_err(|reason| self.corrupt(Section::WorkingSet, extent.offset, reason))?;
            Ok(Some(table))
        })?;
        Ok(table.as_ref())
    }

    /// The index entry of a page, which must be in range.
    pub(crate) fn entry(&self, page: u64) -> Result<Entry> {
        let mut bytes = [0; ENTRY_LEN];
        self.file.read(self.entry_offset(page), &mut bytes)?;
        self.decode_entry(&bytes, page)
    }

    /// Reads up to `count` index entries from page `first` on, which must be in range, as bytes.
    pub(crate) fn read_entries(&self, first: u64, count: u64, out: &mut Vec<u8>) -> Result<()> {
        let count = count.min(self.header.page_count - first) as usize;
        out.resize(count * ENTRY_LEN, 0);
        self.file.read(self.entry_offset(first), out)
    }

    /// Calls `visit` with every page number and its entry, in order.
    pub(crate) fn for_each_entry(&self, mut visit: impl FnMut(u64, Entry) -> Result<()>) -> Result<()> {
        let mut block = Vec::new();
        for first in (0..self.header.page_count).step_by(BLOCK_ENTRIES as usize) {
            self.read_entries(first, BLOCK_ENTRIES, &mut block)?;
            let (entries, _) = block.as_chunks::<ENTRY_LEN>();
            for (page, bytes) in (first..).zip(entries) {
                visit(page, self.decode_entry(bytes, page)?)?;
            }
        }
        Ok(())
    }

    /// Reads a page stored in this file into `out`, and checks its content.
    /// When the content fails its check `out` is all zeros. `frame` is scratch
    /// space.
    pub(crate) fn read_stored(
        &self,
        page: u64,
        stored: &Stored,
        decompressor: &mut Decompressor,
        frame: &mut [u8; PAGE_SIZE],
        out: &mut [u8; PAGE_SIZE],
    ) -> Result<()> {
        // Neither can overflow: the entry's decoding has checked that the page
        // lies within the frames section.
        let offset = self.header.layout.frames.offset + stored.offset;
        let problem = match stored.encoding {
            Encoding::Raw => {
                self.file.read(offset, out)?;
                None
            }
            Encoding::Zstd => {
                let frame = &mut frame[..usize::from(stored.length)];
                self.file.read(offset, frame)?;
                let filled = decompressor.fill(out, frame, self.dictionary()?);
                (!filled).then_some("its frame does not decompress to one page")
            }
        };
        let problem = problem
            .or_else(|| (xxh3_64(out) != stored.checksum).then_some("its content has a wrong checksum"));
        match problem {
            None => Ok(()),
            Some(reason) => {
                // Nothing that failed its check may reach a guest.
                out.fill(0);
                Err(Error::CorruptPage { path: self.path().to_path_buf(), page, offset, reason })
            }
        }
    }

    /// The bytes of a section, checked. Only for sections whose length is
    /// limited, because they are read into memory.
    fn section(&self, section: Section, extent: Extent) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let length = extent.length as usize;
        bytes.try_reserve_exact(length).map_err(|_| Error::TooLarge {
            what: "a section for the free memory (bytes)",
            found: extent.length,
            limit: extent.length.saturating_sub(1),
        })?;
        bytes.resize(length, 0);
        self.file.read(extent.offset, &mut bytes)?;
        if xxh3_64(&bytes) != extent.checksum {
            return Err(self.corrupt(section, extent.offset, "wrong checksum"));
        }
        Ok(bytes)
    }

    /// Where a page's index entry starts. Cannot overflow for a page in range:
    /// the index lies within the file.
    fn entry_offset(&self, page: u64) -> u64 {
        self.header.layout.index.offset + page * ENTRY_LEN as u64
    }

    /// Decodes an index entry and names its place if it is damaged.
    pub(crate) fn decode_entry(&self, bytes: &[u8; ENTRY_LEN], page: u64) -> Result<Entry> {
        Entry::decode(bytes, page, self.salt, self.header.layout.frames.length)
            .map_err(|reason| self.corrupt(Section::Index, self.entry_offset(page), reason))
    }

    /// The error for damage in this file.
    pub(crate) fn corrupt(&self, section: Section, offset: u64, reason: &'static str) -> Error {
        Error::Corrupt { path: self.path().to_path_buf(), section, offset, reason }
    }
}

/// Reads and checks header and footer.
fn read_ends(file: &SourceFile) -> Result<Header> {
    let mut header_bytes = [0; HEADER_LEN];
    let length = file.read_start(&mut header_bytes)?;
    check_start(&header_bytes[..length], file.path())?;
    let header = Header::decode(&header_bytes, file.path(), file.length())?;

    // Decoding has checked that the file is long enough for a footer.
    let mut footer = [0; FOOTER_LEN];
    file.read(file.length() - FOOTER_LEN as u64, &mut footer)?;
    check_footer(&footer, &header_bytes, file.path(), file.length())?;
    Ok(header)
}

/// The cell's value, read now if it is not there. Two threads may both read;
/// they get the same value. A failure is not kept: the next use tries again.
fn read_once<T>(cell: &OnceLock<T>, read: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = read()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}
