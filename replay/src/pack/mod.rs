//! A recording in one file: `docs/pack-format.md`.
//!
//! A pack holds the files of a recording's directory as they are, one after another: each is read where it lies.

mod extra;
mod format;
mod unpack;
mod write;

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dejavm_snapshot::{Place, Span};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

pub use format::PACK_VERSION;
pub use write::{PackOptions, PackSummary};

use crate::error::Error;
use crate::manifest::{LOG_FILE, MANIFEST_FILE};
use format::{ALIGNMENT, HEADER, Header, Member, decode_table};

/// Whether a file begins as a pack does. `false` when it cannot be read.
pub fn is_pack(path: &Path) -> bool {
    let mut start = [0; 8];
    Span::open(path).and_then(|bytes| bytes.read_exact_at(&mut start, 0)).is_ok() && format::is_pack(&start)
}

/// An open pack.
#[derive(Clone, Debug)]
pub(crate) struct Pack {
    path: PathBuf,
    bytes: Span,
    members: Vec<Member>,
}

impl Pack {
    /// Opens a pack: checks its header and its table. What is in the members is checked when it is read.
    ///
    /// # Errors
    /// [`Error::NotARecording`] for another file; [`Error::PackCut`], [`Error::Pack`], [`Error::NewerVersion`],
    /// [`Error::OlderVersion`], [`Error::UnknownFeatures`] and [`Error::Io`].
    pub fn open(path: &Path) -> Result<Pack, Error> {
        let io = |e| Error::io("open", path, e);
        let bytes = Span::open(path).map_err(io)?;
        let found = bytes.length();
        let mut header = [0; HEADER];
        let start = HEADER.min(usize::try_from(found).unwrap_or(HEADER));
        bytes.read_exact_at(&mut header[..start], 0).map_err(io)?;
        if !format::is_pack(&header) {
            let why = "it is a file, and neither a recording's directory nor its pack; `dejavm inspect` says what \
                       it is";
            return Err(Error::NotARecording { path: path.to_owned(), why });
        }
        let cut = |expected| Error::PackCut { path: path.to_owned(), expected, found };
        if found < HEADER as u64 {
            return Err(cut(HEADER as u64));
        }
        let header = Header::parse(path, &header)?;
        if found < header.file_len {
            return Err(cut(header.file_len));
        }
        if found > header.file_len {
            return Err(Error::pack(path, header.file_len, "there are bytes behind its end"));
        }
        let mut table = vec![0; header.table_len as usize];
        bytes
            .read_exact_at(&mut table, HEADER as u64)
            .map_err(|_| Error::pack(path, HEADER as u64, "the table reaches beyond the end of the file"))?;
        let bad = |why: &str| Error::pack(path, HEADER as u64, format!("the table of members: {why}"));
        if xxh3_64(&table) != header.table_checksum {
            return Err(bad("its checksum does not match"));
        }
        let members = decode_table(&table, found).map_err(|why| bad(&why))?;
        let pack = Pack { path: path.to_owned(), bytes, members };
        pack.check_padding(HEADER as u64 + table.len() as u64)?;
        for name in [MANIFEST_FILE, LOG_FILE] {
            if pack.member(name.as_bytes()).is_none() {
                return Err(bad(&format!("there is no {name}")));
            }
        }
        Ok(pack)
    }

    /// Checks that nothing is between the members, of which the first lies behind `end`.
    fn check_padding(&self, mut end: u64) -> Result<(), Error> {
        for member in &self.members {
            let mut gap = [0; ALIGNMENT as usize];
            // Shorter than the alignment: the table was checked.
            let gap = &mut gap[..(member.offset - end) as usize];
            self.bytes.read_exact_at(gap, end).map_err(|e| Error::io("read", &self.path, e))?;
            if gap.iter().any(|byte| *byte != 0) {
                return Err(Error::pack(&self.path, end, "the padding between members is not zero"));
            }
            end = member.end();
        }
        Ok(())
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn member(&self, name: &[u8]) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Where the member of this name is.
    pub fn place(&self, name: &[u8]) -> Place {
        let path = self.path.join(os(name));
        match self.member(name).and_then(|member| self.bytes.part(member.offset, member.length)) {
            Some(bytes) => Place::part(path, bytes),
            None => Place::missing(path),
        }
    }

    /// Reads all members and checks them against the table.
    ///
    /// # Errors
    /// [`Error::Pack`] for one that is not what was packed, and [`Error::Io`].
    pub fn verify(&self) -> Result<(), Error> {
        self.members.iter().try_for_each(|member| {
            let place = self.place(&member.name);
            let sum = place.open().and_then(|bytes| checksum(&bytes));
            let sum = sum.map_err(|e| Error::io("read", place.path(), e))?;
            if sum == member.checksum { Ok(()) } else { Err(self.not_what_was_packed(member)) }
        })
    }

    fn not_what_was_packed(&self, member: &Member) -> Error {
        let why = format!("the checksum of {} does not match", member.shown());
        Error::pack(&self.path, member.offset, why)
    }
}

fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// xxh3-64 of some bytes.
fn checksum(bytes: &Span) -> std::io::Result<u64> {
    let (mut hash, mut piece, mut reader) = (Xxh3::new(), vec![0; PIECE], bytes.reader());
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(hash.digest()),
            length => hash.update(&piece[..length]),
        }
    }
}

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
