//! Where the program has a variable or function in memory, by its name.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dejavm::replay::{FileError, Timeline};
use dejavm::sandbox::world::BLOCK_SIZE;
use object::{Object, ObjectSymbol};

use crate::cli::Result;
use crate::cli::find::MOST_WATCHED;

/// Bytes of a program's file that are looked at: longer ones have no symbols here.
const MOST_FILE: u64 = 128 << 20;

/// `AT_ENTRY`: in the auxiliary vector, the address at which the program starts.
const AT_ENTRY: u64 = 9;

/// A name in the program's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// This memory. Of a symbol that has no size a byte, of a large one the first part.
    Memory(Range<u64>),
    /// There is no such symbol.
    None,
    /// There may be one: not all of the program's file is known.
    Unknown,
}

/// Where a symbol of the program's file is loaded.
pub fn find(timeline: &mut Timeline, name: &str) -> Result<Symbol> {
    let entry = auxiliary(&timeline.auxv(), AT_ENTRY);
    let (Some(program), Some(entry)) = (program(timeline)?, entry) else { return Ok(Symbol::Unknown) };
    Ok(match memory(&program.bytes, entry, name) {
        Some(range) => Symbol::Memory(range),
        None if program.lacks => Symbol::Unknown,
        None => Symbol::None,
    })
}

/// The memory of a symbol of a program that starts at this address. What is no ELF file has no symbols.
fn memory(program: &[u8], entry: u64, name: &str) -> Option<Range<u64>> {
    let file = object::File::parse(program).ok()?;
    let bias = entry.wrapping_sub(file.entry());
    let mut symbols = file.symbols().chain(file.dynamic_symbols());
    let symbol = symbols.find(|symbol| symbol.is_definition() && symbol.name() == Ok(name))?;
    let start = symbol.address().wrapping_add(bias);
    let end = start.checked_add(symbol.size().clamp(1, MOST_WATCHED))?;
    Some(start..end)
}

/// A program's file.
struct Program {
    bytes: Vec<u8>,
    /// Some of it is not known, and zeros.
    lacks: bool,
}

/// A value of an auxiliary vector.
fn auxiliary(vector: &[u8], key: u64) -> Option<u64> {
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
    vector.chunks_exact(16).find(|entry| word(&entry[..8]) == Some(key)).and_then(|entry| word(&entry[8..]))
}

/// The program's file, as far as the recording holds it; what it lacks from this machine's file of the same name, if
/// that is of the same length and nowhere else than the recording says, and else zeros.
fn program(timeline: &mut Timeline) -> Result<Option<Program>> {
    let Some(path) = timeline.executable() else { return Ok(None) };
    let mut files = timeline.files()?;
    let found = files.find(&path)?;
    if found.size() > MOST_FILE {
        return Ok(None);
    }
    let mut bytes = vec![0; found.size() as usize];
    let mut lacking = BTreeSet::new();
    for (n, block) in bytes.chunks_mut(BLOCK_SIZE).enumerate() {
        match files.read(&found, (n * BLOCK_SIZE) as u64, block) {
            Ok(_) => {}
            Err(FileError::NotRead { .. }) => drop(lacking.insert(n)),
            Err(e) => return Err(e.into()),
        }
    }
    if lacking.is_empty() {
        return Ok(Some(Program { bytes, lacks: false }));
    }
    let here = file_of(Path::new(OsStr::from_bytes(&path)), bytes.len());
    let same = here.filter(|here| {
        let blocks = bytes.chunks(BLOCK_SIZE).zip(here.chunks(BLOCK_SIZE)).enumerate();
        blocks.into_iter().all(|(n, (recorded, here))| lacking.contains(&n) || recorded == here)
    });
    Ok(Some(match same {
        Some(bytes) => Program { bytes, lacks: false },
        None => Program { bytes, lacks: true },
    }))
}

/// The content of a file of this machine, if it has so many bytes.
fn file_of(path: &Path, len: usize) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
    let mut bytes = (metadata.len() == len as u64).then(|| vec![0; len])?;
    file.read_exact_at(&mut bytes, 0).ok().map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_an_auxiliary_vector() {
        let vector: Vec<u8> =
            [3u64, 0x40, AT_ENTRY, 0x1234, 0, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(auxiliary(&vector, AT_ENTRY), Some(0x1234));
        assert_eq!(auxiliary(&vector, 7), None);
        assert_eq!(auxiliary(&vector[..20], AT_ENTRY), None);
    }
}
