//! The header and the footer: what the file is, and where its sections lie.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::ContentId;
use crate::bytes::{array, put, u32_at, u64_at};
use crate::error::{Error, Result, Section};
use crate::index::ENTRY_LEN;
use crate::limits::{FORMAT_VERSION, MAX_DICTIONARY_BYTES, MAX_PAGES, MAX_STATE_BYTES, PAGE_SIZE};
use crate::working_set::MAX_TABLE_LEN;

/// Length of the header in bytes.
pub(crate) const HEADER_LEN: usize = 576;

/// Length of the footer in bytes.
pub(crate) const FOOTER_LEN: usize = 32;

/// Sections and the footer start at multiples of this many bytes, so that no
/// index entry crosses a cache line.
pub(crate) const ALIGNMENT: u64 = 64;

/// The first bytes of a snapshot. The high bit, the line ends and the
/// end-of-file character show a transfer that took it for text.
const HEADER_MAGIC: [u8; 8] = *b"\x89DJV\r\n\x1a\n";

/// The first bytes of the footer.
const FOOTER_MAGIC: [u8; 8] = *b"\x89DJVEND\n";

/// Required feature flags this build knows. Version 1 defines none.
const KNOWN_FEATURES: u32 = 0;

// Places of the header's fields.
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const HEADER_LEN_AT: usize = 12;
const REQUIRED_FEATURES_AT: usize = 16;
const OPTIONAL_FEATURES_AT: usize = 20;
const PAGE_SIZE_AT: usize = 24;
const LEVEL_AT: usize = 28;
const PAGE_COUNT_AT: usize = 32;
const ID_AT: usize = 40;
const PARENT_ID_AT: usize = 72;
const CREATED_BY_AT: usize = 104;
const SECTIONS_AT: usize = 128;
const PARENT_NAME_AT: usize = 272;
const RESERVED_AT: usize = 528;
const HEADER_CHECKSUM_AT: usize = 568;

// Places of the footer's fields.
const FOOTER_MAGIC_AT: usize = 0;
const FOOTER_LENGTH_AT: usize = 8;
const FOOTER_HEADER_CHECKSUM_AT: usize = 16;
const FOOTER_CHECKSUM_AT: usize = 24;

/// Length of the creator's version string, padded with zeros.
const CREATED_BY_LEN: usize = SECTIONS_AT - CREATED_BY_AT;
/// Length of the parent's file name, padded with at least one zero.
const PARENT_NAME_LEN: usize = RESERVED_AT - PARENT_NAME_AT;
/// Length of one record of the section table: offset, length, checksum.
const SECTION_RECORD_LEN: usize = 24;

/// The sections of the table, in the order of both the table and the file.
const SECTIONS: [Section; 6] = [
    Section::State,
    Section::Dictionary,
    Section::Frames,
    Section::Index,
    Section::Clusters,
    Section::WorkingSet,
];

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes from the start of the file.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) length: u64,
    /// xxh3-64 of its bytes.
    pub(crate) checksum: u64,
}

impl Extent {
    /// The offset of the first byte after the section.
    pub(crate) fn end(&self) -> u64 {
        // Cannot overflow: decoding has checked it, and the writer counts the
        // bytes of a file.
        self.offset + self.length
    }
}

/// The extents of all sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) state: Extent,
    pub(crate) dictionary: Extent,
    pub(crate) frames: Extent,
    pub(crate) index: Extent,
    pub(crate) clusters: Extent,
    pub(crate) working_set: Extent,
}

impl Layout {
    /// The extents in file order.
    pub(crate) fn extents(&self) -> [Extent; SECTIONS.len()] {
        [self.state, self.dictionary, self.frames, self.index, self.clusters, self.working_set]
    }

    /// The extents with their names, in file order.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Section, Extent)> {
        SECTIONS.into_iter().zip(self.extents())
    }

    /// Where the footer starts.
    pub(crate) fn footer_offset(&self) -> Option<u64> {
        align(self.working_set.end())
    }
}

/// The next multiple of [`ALIGNMENT`], unless it overflows.
pub(crate) fn align(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(ALIGNMENT)
}

/// The decoded header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) level: i32,
    pub(crate) page_count: u64,
    pub(crate) id: ContentId,
    pub(crate) parent: Option<Parent>,
    pub(crate) created_by: String,
    pub(crate) layout: Layout,
}

/// What the header says about the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) id: ContentId,
    /// A plain file name, in the directory of the file itself.
    pub(crate) file_name: OsString,
}

/// The id that stands for "no parent".
const NO_PARENT: [u8; 32] = [0; 32];

impl Header {
    /// The version string this build puts into new files.
    pub(crate) fn this_build() -> String {
        let mut text = concat!("dejavm ", env!("CARGO_PKG_VERSION")).to_owned();
        text.truncate(CREATED_BY_LEN);
        text
    }

    /// The header's bytes. The parent's name must pass [`is_plain_file_name`].
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        put(&mut bytes, MAGIC_AT, &HEADER_MAGIC);
        put(&mut bytes, VERSION_AT, &FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, HEADER_LEN_AT, &(HEADER_LEN as u32).to_le_bytes());
        put(&mut bytes, REQUIRED_FEATURES_AT, &0_u32.to_le_bytes());
        put(&mut bytes, OPTIONAL_FEATURES_AT, &0_u32.to_le_bytes());
        put(&mut bytes, PAGE_SIZE_AT, &(PAGE_SIZE as u32).to_le_bytes());
        put(&mut bytes, LEVEL_AT, &self.level.to_le_bytes());
        put(&mut bytes, PAGE_COUNT_AT, &self.page_count.to_le_bytes());
        put(&mut bytes, ID_AT, self.id.as_bytes());
        if let Some(parent) = &self.parent {
            put(&mut bytes, PARENT_ID_AT, parent.id.as_bytes());
            put(&mut bytes, PARENT_NAME_AT, parent.file_name.as_bytes());
        }
        put(&mut bytes, CREATED_BY_AT, self.created_by.as_bytes());
        for (number, extent) in self.layout.extents().into_iter().enumerate() {
            let at = SECTIONS_AT + number * SECTION_RECORD_LEN;
            put(&mut bytes, at, &extent.offset.to_le_bytes());
            put(&mut bytes, at + 8, &extent.length.to_le_bytes());
            put(&mut bytes, at + 16, &extent.checksum.to_le_bytes());
        }
        let checksum = xxh3_64(&bytes[..HEADER_CHECKSUM_AT]);
        put(&mut bytes, HEADER_CHECKSUM_AT, &checksum.to_le_bytes());
        bytes
    }

    /// Reads a header. After this every section lies within the file, in
    /// order, without overlap, and its length is within the format's limits.
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN], path: &Path, file_length: u64) -> Result<Self> {
        check_kind(bytes, path)?;
        let corrupt = |at: usize, reason| corrupt_header(path, at, reason);
        if u64_at(bytes, HEADER_CHECKSUM_AT) != xxh3_64(&bytes[..HEADER_CHECKSUM_AT]) {
            return Err(corrupt(HEADER_CHECKSUM_AT, "wrong checksum"));
        }
        let unknown = u32_at(bytes, REQUIRED_FEATURES_AT) & !KNOWN_FEATURES;
        if unknown != 0 {
            return Err(Error::UnsupportedFeature { path: path.to_path_buf(), unknown });
        }
        if u32_at(bytes, HEADER_LEN_AT) as usize != HEADER_LEN {
            return Err(corrupt(HEADER_LEN_AT, "wrong header length"));
        }
        if u32_at(bytes, PAGE_SIZE_AT) as usize != PAGE_SIZE {
            return Err(corrupt(PAGE_SIZE_AT, "the page size is not 4096 bytes"));
        }
        let page_count = u64_at(bytes, PAGE_COUNT_AT);
        if page_count > MAX_PAGES {
            return Err(corrupt(PAGE_COUNT_AT, "too many pages"));
        }
        let created_by = padded_text(&bytes[CREATED_BY_AT..CREATED_BY_AT + CREATED_BY_LEN])
            .and_then(|text| String::from_utf8(text.to_vec()).ok())
            .filter(|text| !text.contains(char::is_control))
            .ok_or_else(|| corrupt(CREATED_BY_AT, "the creator's version is not text"))?;
        Ok(Self {
            level: u32_at(bytes, LEVEL_AT).cast_signed(),
            page_count,
            id: ContentId::from_bytes(array(bytes, ID_AT)),
            parent: decode_parent(bytes, path)?,
            created_by,
            layout: decode_layout(bytes, path, page_count, file_length)?,
        })
    }
}

/// Checks that a file which starts with these bytes is a snapshot with a whole header. A file too
/// short for one is told from a snapshot that was cut.
pub(crate) fn check_start(start: &[u8], path: &Path) -> Result<()> {
    let not = |reason| Err(Error::NotASnapshot { path: path.to_path_buf(), reason });
    let same = start.len().min(HEADER_MAGIC.len());
    if start.is_empty() {
        return not("it is empty");
    }
    if start[..same] != HEADER_MAGIC[..same] {
        return not("it does not start with the signature of one");
    }
    if start.len() < HEADER_LEN {
        return Err(Error::Truncated {
            path: path.to_path_buf(),
            expected: HEADER_LEN as u64,
            found: start.len() as u64,
        });
    }
    Ok(())
}

/// Checks that this is a snapshot, and of a version this build reads. Comes
/// before the checksum: another version may have its checksum elsewhere.
fn check_kind(bytes: &[u8; HEADER_LEN], path: &Path) -> Result<()> {
    if array(bytes, MAGIC_AT) != HEADER_MAGIC {
        return Err(Error::NotASnapshot {
            path: path.to_path_buf(),
            reason: "it does not start with the signature of one",
        });
    }
    match u32_at(bytes, VERSION_AT) {
        FORMAT_VERSION => Ok(()),
        found if found > FORMAT_VERSION => {
            Err(Error::NewerVersion { path: path.to_path_buf(), found, supported: FORMAT_VERSION })
        }
        found => Err(Error::OlderVersion { path: path.to_path_buf(), found, supported: FORMAT_VERSION }),
    }
}

/// Reads the parent's id and name.
fn decode_parent(bytes: &[u8; HEADER_LEN], path: &Path) -> Result<Option<Parent>> {
    let id: [u8; 32] = array(bytes, PARENT_ID_AT);
    let name = padded_text(&bytes[PARENT_NAME_AT..PARENT_NAME_AT + PARENT_NAME_LEN])
        .ok_or_else(|| corrupt_header(path, PARENT_NAME_AT, "bytes after the parent's name"))?;
    if id == NO_PARENT {
        return Ok(None);
    }
    let file_name = OsString::from_vec(name.to_vec());
    if !is_plain_file_name(&file_name) {
        return Err(corrupt_header(path, PARENT_NAME_AT, "the parent's name is not a plain file name"));
    }
    Ok(Some(Parent { id: ContentId::from_bytes(id), file_name }))
}

/// Reads the section table and checks every extent.
fn decode_layout(bytes: &[u8; HEADER_LEN], path: &Path, page_count: u64, file_length: u64) -> Result<Layout> {
    let mut end = HEADER_LEN as u64;
    let mut extents = [Extent { offset: 0, length: 0, checksum: 0 }; SECTIONS.len()];
    for (number, (extent, section)) in extents.iter_mut().zip(SECTIONS).enumerate() {
        let at = SECTIONS_AT + number * SECTION_RECORD_LEN;
        *extent = Extent {
            offset: u64_at(bytes, at),
            length: u64_at(bytes, at + 8),
            checksum: u64_at(bytes, at + 16),
        };
        if align(end) != Some(extent.offset) {
            return Err(corrupt_header(path, at, "a section is out of place"));
        }
        end = extent
            .offset
            .checked_add(extent.length)
            .ok_or_else(|| corrupt_header(path, at, "a section is too long"))?;
        let allowed = match section {
            Section::State => extent.length <= MAX_STATE_BYTES,
            Section::Dictionary => extent.length <= MAX_DICTIONARY_BYTES,
            // Cannot overflow: the page count is within its limit.
            Section::Index => extent.length == page_count * ENTRY_LEN as u64,
            Section::WorkingSet => extent.length <= MAX_TABLE_LEN,
            // Limited by the file's length, and read piece by piece.
            _ => true,
        };
        if !allowed {
            return Err(corrupt_header(path, at, "a section has a wrong length"));
        }
    }
    let [state, dictionary, frames, index, clusters, working_set] = extents;
    let layout = Layout { state, dictionary, frames, index, clusters, working_set };
    let expected = layout
        .footer_offset()
        .and_then(|footer| footer.checked_add(FOOTER_LEN as u64))
        .ok_or_else(|| corrupt_header(path, SECTIONS_AT, "the sections are too long"))?;
    if file_length < expected {
        return Err(Error::Truncated { path: path.to_path_buf(), expected, found: file_length });
    }
    if file_length > expected {
        return Err(Error::Corrupt {
            path: path.to_path_buf(),
            section: Section::Footer,
            offset: expected,
            reason: "there are bytes after the end",
        });
    }
    Ok(layout)
}

/// The footer's bytes, for a file of this length with this header.
pub(crate) fn encode_footer(header: &[u8; HEADER_LEN], file_length: u64) -> [u8; FOOTER_LEN] {
    let mut bytes = [0; FOOTER_LEN];
    put(&mut bytes, FOOTER_MAGIC_AT, &FOOTER_MAGIC);
    put(&mut bytes, FOOTER_LENGTH_AT, &file_length.to_le_bytes());
    let header_checksum: [u8; 8] = array(header, HEADER_CHECKSUM_AT);
    put(&mut bytes, FOOTER_HEADER_CHECKSUM_AT, &header_checksum);
    let checksum = xxh3_64(&bytes[..FOOTER_CHECKSUM_AT]);
    put(&mut bytes, FOOTER_CHECKSUM_AT, &checksum.to_le_bytes());
    bytes
}

/// Checks that the footer is there and belongs to the header. A difference
/// means a file that was not written to its end, or of two files' parts.
pub(crate) fn check_footer(
    footer: &[u8; FOOTER_LEN],
    header: &[u8; HEADER_LEN],
    path: &Path,
    file_length: u64,
) -> Result<()> {
    if footer == &encode_footer(header, file_length) {
        return Ok(());
    }
    Err(Error::Corrupt {
        path: path.to_path_buf(),
        section: Section::Footer,
        offset: file_length - FOOTER_LEN as u64,
        reason: "the footer does not match the header",
    })
}

/// Whether a name can stand in the header as the parent's: the name of a file
/// in the same directory, so that a snapshot cannot point anywhere else.
pub(crate) fn is_plain_file_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() < PARENT_NAME_LEN
        && bytes != b"."
        && bytes != b".."
        // Messages name it.
        && !bytes.iter().any(|byte| byte.is_ascii_control() || *byte == b'/')
}

/// The part of a zero-padded field before the padding, if the padding is.
fn padded_text(field: &[u8]) -> Option<&[u8]> {
    let length = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let (text, padding) = field.split_at(length);
    padding.iter().all(|byte| *byte == 0).then_some(text)
}

/// The error for a header whose field at `at` is wrong.
fn corrupt_header(path: &Path, at: usize, reason: &'static str) -> Error {
    Error::Corrupt { path: path.to_path_buf(), section: Section::Header, offset: at as u64, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "file";

    fn extent(offset: u64, length: u64) -> Extent {
        Extent { offset, length, checksum: offset ^ length }
    }

    /// A header, and the length of the file it fits.
    fn sample() -> (Header, u64) {
        let header = Header {
            level: -3,
            page_count: 2,
            id: ContentId::from_bytes([7; 32]),
            parent: Some(Parent { id: ContentId::from_bytes([8; 32]), file_name: "base.djv".into() }),
            created_by: Header::this_build(),
            layout: Layout {
                state: extent(576, 10),
                dictionary: extent(640, 0),
                frames: extent(640, 100),
                index: extent(768, 64),
                working_set: extent(832, 0),
                clusters: extent(832, 0),
            },
        };
        (header, 832 + FOOTER_LEN as u64)
    }

    fn decode(bytes: &[u8; HEADER_LEN], length: u64) -> Result<Header> {
        Header::decode(bytes, Path::new(PATH), length)
    }

    /// Puts a field into a sample header, makes the checksum right, decodes.
    fn decode_with(at: usize, field: &[u8]) -> Result<Header> {
        let (header, length) = sample();
        let mut bytes = header.encode();
        put(&mut bytes, at, field);
        let checksum = xxh3_64(&bytes[..HEADER_CHECKSUM_AT]);
        put(&mut bytes, HEADER_CHECKSUM_AT, &checksum.to_le_bytes());
        decode(&bytes, length)
    }

    #[test]
    fn round_trip() {
        let (mut header, length) = sample();
        assert_eq!(decode(&header.encode(), length).unwrap(), header);
        header.parent = None;
        assert_eq!(decode(&header.encode(), length).unwrap(), header);
    }

    #[test]
    fn wrong_kind_of_file() {
        assert!(matches!(decode_with(MAGIC_AT, b"PK"), Err(Error::NotASnapshot { .. })));
        assert!(matches!(
            decode_with(VERSION_AT, &(FORMAT_VERSION + 1).to_le_bytes()),
            Err(Error::NewerVersion { supported: FORMAT_VERSION, .. })
        ));
        assert!(matches!(
            decode_with(VERSION_AT, &1_u32.to_le_bytes()),
            Err(Error::OlderVersion { found: 1, supported: FORMAT_VERSION, .. })
        ));
        assert!(matches!(
            decode_with(REQUIRED_FEATURES_AT, &0x8000_0001_u32.to_le_bytes()),
            Err(Error::UnsupportedFeature { unknown: 0x8000_0001, .. })
        ));
    }

    #[test]
    fn unknown_optional_features_are_ignored() {
        decode_with(OPTIONAL_FEATURES_AT, &u32::MAX.to_le_bytes()).unwrap();
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let (header, length) = sample();
        let bytes = header.encode();
        for at in 0..HEADER_LEN {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert!(decode(&damaged, length).is_err(), "byte {at}");
        }
    }

    #[test]
    fn wrong_fields_are_refused_even_with_a_right_checksum() {
        for (at, field) in [
            (HEADER_LEN_AT, 512_u64),
            (PAGE_SIZE_AT, 16_384),
            (PAGE_COUNT_AT, 3),
            (PAGE_COUNT_AT, u64::MAX),
            (CREATED_BY_AT, 0xff),
            (SECTIONS_AT, 0),
            (SECTIONS_AT, u64::MAX),
            (SECTIONS_AT + 8, u64::MAX),
            (SECTIONS_AT + 8, MAX_STATE_BYTES + 1),
            (SECTIONS_AT + 32, MAX_DICTIONARY_BYTES + 1),
            (SECTIONS_AT + 56, u64::MAX - 640),
            (SECTIONS_AT + 128, 64),
            (SECTIONS_AT + 128, u64::MAX - 840),
        ] {
            assert!(decode_with(at, &field.to_le_bytes()).is_err(), "{field} at {at}");
        }
    }

    #[test]
    fn parents_outside_the_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "/etc/passwd"] {
            assert!(!is_plain_file_name(OsStr::new(name)), "{name}");
        }
        assert!(is_plain_file_name(OsStr::new("base.djv")));
        assert!(is_plain_file_name(OsStr::new(&"n".repeat(255))));
        assert!(!is_plain_file_name(OsStr::new(&"n".repeat(256))));
        assert!(decode_with(PARENT_NAME_AT, b"../x.djv").is_err());
        assert!(decode_with(PARENT_NAME_AT, b"a\0b").is_err());
    }

    #[test]
    fn another_file_length_is_refused() {
        let (header, length) = sample();
        assert!(matches!(decode(&header.encode(), length - 1), Err(Error::Truncated { .. })));
        assert!(matches!(
            decode(&header.encode(), length + 1),
            Err(Error::Corrupt { section: Section::Footer, .. })
        ));
    }

    #[test]
    fn every_flipped_footer_byte_is_found() {
        let (header, length) = sample();
        let header = header.encode();
        let footer = encode_footer(&header, length);
        let check = |footer: &[u8; FOOTER_LEN]| check_footer(footer, &header, Path::new(PATH), length);
        check(&footer).unwrap();
        for at in 0..FOOTER_LEN {
            let mut damaged = footer;
            damaged[at] ^= 1;
            assert!(check(&damaged).is_err(), "byte {at}");
        }
    }
}
