//! Files of the host that stand beside a recording, by their build IDs: programs and libraries as a whole, and the
//! files with their symbols and lines. Each is a snapshot: pages that are compressed one by one, and the file's
//! length in place of a machine's state.

use std::fmt;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dejavm_snapshot::{PAGE_SIZE, PageReader, WriteOptions};
use object::LittleEndian;
use object::elf::{ELF_NOTE_GNU, FileHeader64, NT_GNU_BUILD_ID};
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader};

use crate::home::Home;

/// Most bytes of a build ID; those of today's linkers have 8 to 32.
const MOST_OF_ID: usize = 64;

/// Most bytes of a segment of notes that is looked at: a file may claim any number.
const MOST_OF_NOTES: u64 = 64 << 10;

/// Where systems keep debug files.
pub(crate) const DEBUG_DIR: &str = "/usr/lib/debug";

/// What a linker calls a file: equal only for files with the same content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BuildId(Vec<u8>);

impl BuildId {
    /// That of an ELF file, as far as it can be read.
    pub fn of(file: impl Read + Seek) -> Option<BuildId> {
        let data = &ReadCache::new(file);
        let header = FileHeader64::<LittleEndian>::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, data).ok()?.iter();
        segments.filter(|segment| segment.p_filesz(endian) <= MOST_OF_NOTES).find_map(|segment| {
            let mut notes = segment.notes(endian, data).ok().flatten()?;
            while let Ok(Some(note)) = notes.next() {
                let id = note.desc();
                if note.name() == ELF_NOTE_GNU
                    && note.n_type(endian) == NT_GNU_BUILD_ID
                    && (2..=MOST_OF_ID).contains(&id.len())
                {
                    return Some(BuildId(id.to_vec()));
                }
            }
            None
        })
    }

    /// That in the path of a debug file, `.../.build-id/xx/xxxx.debug`.
    pub fn of_debug_path(path: &[u8]) -> Option<BuildId> {
        let text = std::str::from_utf8(path).ok()?;
        let (_, rest) = text.rsplit_once("/.build-id/")?;
        let (first, rest) = rest.strip_suffix(".debug")?.split_once('/')?;
        let digits = [first, rest].concat();
        let plain = first.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !plain || !digits.len().is_multiple_of(2) || !(4..=2 * MOST_OF_ID).contains(&digits.len()) {
            return None;
        }
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
        (0..digits.len()).step_by(2).map(byte).collect::<Option<_>>().map(BuildId)
    }

    /// Where a directory of debug files has the one of this ID.
    pub fn debug_path(&self, dir: &Path) -> PathBuf {
        let digits = self.to_string();
        let (first, rest) = digits.split_at(2);
        dir.join(".build-id").join(first).join(format!("{rest}.debug"))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What of a file stands beside a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All of it.
    File,
    /// Its debug file.
    Debug,
}

impl Kind {
    /// The name that the file of this ID has beside a recording.
    pub fn name(self, id: &BuildId) -> String {
        let kind = match self {
            Kind::File => "file",
            Kind::Debug => "debug",
        };
        format!("{kind}-{id}.dvm")
    }
}

/// A file that stands beside a recording.
pub(crate) struct Beside {
    pages: Mutex<PageReader>,
    len: u64,
}

impl Beside {
    /// Opens the one of this ID, if it is there and sound.
    pub fn open(home: &Home, kind: Kind, id: &BuildId) -> Option<Beside> {
        let snapshot = home.open_snapshot(&kind.name(id)).ok()?;
        let len = u64::from_le_bytes(snapshot.state().ok()?.try_into().ok()?);
        if len.div_ceil(PAGE_SIZE as u64) != snapshot.page_count() {
            return None;
        }
        Some(Beside { pages: Mutex::new(PageReader::new(snapshot).ok()?), len })
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Reads bytes that lie in one page. `None` where that is damaged, or not there.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Option<()> {
        let mut page = [0; PAGE_SIZE];
        let within = (offset % PAGE_SIZE as u64) as usize;
        let out_of = within..within.checked_add(out.len()).filter(|end| *end <= PAGE_SIZE)?;
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.read(offset / PAGE_SIZE as u64, &mut page).ok()?;
        out.copy_from_slice(&page[out_of]);
        Some(())
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Writes a file's content as it stands beside a recording.
///
/// # Errors
/// As [`dejavm_snapshot::write`].
pub(crate) fn write(path: &Path, content: &[u8], level: i32) -> dejavm_snapshot::Result<()> {
    let options = WriteOptions { level, durable: false, ..WriteOptions::default() };
    let len = (content.len() as u64).to_le_bytes();
    let mut pages = content;
    dejavm_snapshot::write(path, &options, &len, &mut pages, &mut |_, _| {}).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_debug_files() {
        let id = BuildId(vec![0xab, 0x01, 0xff]);
        let path = id.debug_path(Path::new(DEBUG_DIR));
        assert_eq!(path, Path::new("/usr/lib/debug/.build-id/ab/01ff.debug"));
        assert_eq!(BuildId::of_debug_path(b"/usr/lib/debug/.build-id/ab/01ff.debug"), Some(id));
        for path in [
            "",
            "/.build-id/ab/01f.debug",
            "/.build-id/a/b01ff.debug",
            "/.build-id/ab/.debug",
            "/.build-id/ab/01fg.debug",
            "/.build-id/ab/01ff",
            "/.build-id/ab/../f0.debug",
            "/.build-id/+1/+101.debug",
        ] {
            assert_eq!(BuildId::of_debug_path(path.as_bytes()), None, "{path}");
        }
        let long = format!("/.build-id/ab/{}.debug", "00".repeat(MOST_OF_ID));
        assert_eq!(BuildId::of_debug_path(long.as_bytes()), None);
    }

    #[test]
    fn a_file_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::Dir(dir.path().to_owned());
        let content = std::fs::read("/bin/true").unwrap();
        let id = BuildId::of(std::io::Cursor::new(&content)).unwrap();
        assert_eq!(BuildId::of(std::io::Cursor::new(&content[..100])), None);
        let path = dir.path().join(Kind::File.name(&id));
        write(&path, &content, 3).unwrap();
        assert!(Beside::open(&home, Kind::Debug, &id).is_none());
        let file = Beside::open(&home, Kind::File, &id).unwrap();
        assert_eq!(file.len(), content.len() as u64);
        let mut out = [0; 100];
        file.read(4096 * 2 + 7, &mut out).unwrap();
        assert_eq!(out, content[4096 * 2 + 7..][..100]);
        assert!(file.read(4090, &mut out).is_none() && file.read(1 << 40, &mut out).is_none());
        // Damaged, and not one of these.
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        if let Some(file) = Beside::open(&home, Kind::File, &id) {
            let mut pages = 0..file.len().div_ceil(4096);
            assert!(pages.any(|page| file.read(page * 4096, &mut out).is_none()));
        }
    }
}
