//! Snapshot files taken apart, and put together again with all checksums right.

use dejavm::Snapshot;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::harness::Draw;

// Places in the format: `docs/snapshot-format.md`.
const HEADER: usize = 576;
const SECTIONS_AT: usize = 128;
const ID_AT: usize = 40;
const HEADER_CHECKSUM_AT: usize = 568;
const ENTRY: usize = 32;
const ALIGNMENT: usize = 64;

/// The sections, by their place in the table.
pub const STATE: usize = 0;
pub const DICTIONARY: usize = 1;
pub const FRAMES: usize = 2;
pub const INDEX: usize = 3;
pub const CLUSTERS: usize = 4;
pub const WORKING_SET: usize = 5;

/// A snapshot file in its parts.
#[derive(Clone)]
pub struct File {
    pub header: Vec<u8>,
    pub sections: [Vec<u8>; 6],
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

impl File {
    pub fn of(bytes: &[u8]) -> File {
        let sections = std::array::from_fn(|number| {
            let at = SECTIONS_AT + number * 24;
            let start = word(bytes, at) as usize;
            bytes[start..start + word(bytes, at + 8) as usize].to_vec()
        });
        File { header: bytes[..HEADER].to_vec(), sections }
    }

    /// The file, with every offset, length and checksum right.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.header.clone();
        for (number, section) in self.sections.iter().enumerate() {
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            let at = SECTIONS_AT + number * 24;
            let (start, len) = (bytes.len() as u64, section.len() as u64);
            put(&mut bytes, at, &start.to_le_bytes());
            put(&mut bytes, at + 8, &len.to_le_bytes());
            put(&mut bytes, at + 16, &xxh3_64(section).to_le_bytes());
            bytes.extend(section);
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        let length = bytes.len() as u64 + 32;
        bytes.extend(b"\x89DJVEND\n");
        bytes.extend(length.to_le_bytes());
        bytes.extend([0; 16]);
        seal(&mut bytes);
        bytes
    }

    fn entries(&self) -> usize {
        self.sections[INDEX].len() / ENTRY
    }

    /// Changes an entry of the index, and makes its check value right.
    fn change_entry(&mut self, page: usize, change: impl FnOnce(&mut [u8], &[u8])) {
        let salt = word(&self.header, ID_AT);
        let [_, _, frames, index, ..] = &mut self.sections;
        let entry = &mut index[page * ENTRY..][..ENTRY];
        change(entry, frames);
        let mut input: [u8; ENTRY] = (&*entry).try_into().expect("an entry");
        put(&mut input, 24, &(page as u64).to_le_bytes());
        put(entry, 24, &xxh3_64_with_seed(&input, salt).to_le_bytes());
    }

    /// Changes something besides the state.
    pub fn lie(&mut self, draw: &mut Draw) {
        let pages = self.entries();
        match draw.below(8) {
            0 => {
                let at = draw.below(HEADER - 8);
                draw.spoil(&mut self.header[at..at + 8]);
            }
            1 | 2 => {
                // A page's kind, length, place or checksum.
                let page = draw.below(pages);
                self.change_entry(page, |entry, _| {
                    let (at, len) = *draw.one_of(&[(0, 1), (2, 2), (8, 8), (16, 8), (0, 24)]);
                    draw.spoil(&mut entry[at..at + len]);
                });
            }
            3 => {
                // Other pages' contents.
                for _ in 0..1 + draw.below(40) {
                    let (page, from) = (draw.below(pages), draw.below(pages));
                    let other = self.sections[INDEX][from * ENTRY..][..24].to_vec();
                    self.change_entry(page, |entry, _| entry[..24].copy_from_slice(&other));
                }
            }
            4 => {
                // Pages of anything, with right checksums.
                for _ in 0..1 + draw.below(8) {
                    let page = draw.below(pages);
                    self.change_entry(page, |entry, frames| {
                        let Some(room) = frames.len().checked_sub(4096) else { return };
                        let at = draw.below(room + 1);
                        entry.fill(0);
                        put(entry, 0, &[4]);
                        put(entry, 2, &4096u16.to_le_bytes());
                        put(entry, 8, &(at as u64).to_le_bytes());
                        put(entry, 16, &xxh3_64(&frames[at..at + 4096]).to_le_bytes());
                    });
                }
            }
            5 => {
                let section = *draw.one_of(&[FRAMES, CLUSTERS, DICTIONARY]);
                draw.spoil(&mut self.sections[section]);
            }
            6 => draw.spoil(&mut self.sections[WORKING_SET]),
            _ => {
                // A section that is longer or shorter than it was.
                let section = &mut self.sections[1 + draw.below(5)];
                let len = section.len();
                let cut = *draw.one_of(&[1, 8, 16, 24, 32, 64, 4096]);
                section.resize(if draw.once_in(2) { len + cut } else { len.saturating_sub(cut) }, 0);
            }
        }
    }
}

/// Spoils the header of a whole file, where the places of its sections are, and makes the checksums right.
pub fn spoil_places(bytes: &mut [u8], draw: &mut Draw) {
    draw.spoil(&mut bytes[SECTIONS_AT..SECTIONS_AT + 6 * 24]);
    seal(bytes);
}

/// Makes the checksums of the header and of the footer right.
fn seal(bytes: &mut [u8]) {
    let checksum = xxh3_64(&bytes[..HEADER_CHECKSUM_AT]).to_le_bytes();
    put(bytes, HEADER_CHECKSUM_AT, &checksum);
    let footer = bytes.len() - 32;
    put(bytes, footer + 16, &checksum);
    let checksum = xxh3_64(&bytes[footer..footer + 24]).to_le_bytes();
    put(bytes, footer + 24, &checksum);
}

/// Looks at everything that can be looked at without a machine.
pub fn look(snapshot: &Snapshot) {
    let _ = (snapshot.info().is_ok(), snapshot.working_set().is_ok(), snapshot.state().is_ok());
    let _ = snapshot.verify(|_, _| {});
}
