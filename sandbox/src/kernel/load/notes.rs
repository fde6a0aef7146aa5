//! The notes of an ELF file, in which kernels say where PVH enters them.

use super::LoadError;

/// The most bytes of a note segment. Kernels have less than 1 KiB.
pub const MAX_BYTES: u64 = 64 << 10;

/// Bytes of `Elf64_Nhdr`: `n_namesz`, `n_descsz`, `n_type`.
const HEADER: usize = 12;
/// Owner of the PVH note, as its name field holds it.
const OWNER: &[u8] = b"Xen\0";
/// `XEN_ELFNOTE_PHYS32_ENTRY` (`xen/include/public/elfnote.h`): the 32-bit entry point.
const PHYS32_ENTRY: u32 = 18;

/// The PVH entry point that the notes in `segment` give, the first if there are more. `index` is the
/// number of the segment's program header and `alignment` its `p_align`: fields are aligned to 8 bytes
/// where it is 8, and else to 4.
///
/// # Errors
/// [`LoadError::NoteCut`] for notes that reach out of the segment and [`LoadError::PvhNote`].
pub fn pvh_entry(index: usize, segment: &[u8], alignment: u64) -> Result<Option<u64>, LoadError> {
    let alignment = if alignment == 8 { 8 } else { 4 };
    let mut at = 0;
    let mut found = None;
    while let Some(rest) = segment.get(at..).filter(|rest| !rest.is_empty()) {
        let cut = || LoadError::NoteCut { index, at, size: segment.len() };
        let Some((header, _)) = rest.split_at_checked(HEADER) else {
            // Padding behind the last one.
            if rest.iter().all(|byte| *byte == 0) {
                break;
            }
            return Err(cut());
        };
        let [name_size, size, kind] = words(header);
        // Both are below 4 GiB, so that sums cannot overflow.
        let (name_size, size) = (name_size as usize, size as usize);
        let name = segment.get(at + HEADER..at + HEADER + name_size).ok_or_else(cut)?;
        let start = (at + HEADER + name_size).next_multiple_of(alignment);
        let descriptor = segment.get(start..start + size).ok_or_else(cut)?;
        if kind == PHYS32_ENTRY && name == OWNER && found.is_none() {
            found = Some(address(descriptor)?);
        }
        at = (start + size).next_multiple_of(alignment);
    }
    Ok(found)
}

fn words(header: &[u8]) -> [u32; 3] {
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(header.chunks_exact(4)) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    words
}

/// Linux writes 8 bytes, others 4.
fn address(descriptor: &[u8]) -> Result<u64, LoadError> {
    match descriptor.len() {
        4 | 8 => Ok(descriptor.iter().rev().fold(0, |address, byte| address << 8 | u64::from(*byte))),
        size => Err(LoadError::PvhNote { size }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::load::testing::note;

    #[test]
    fn finds_the_entry() {
        let build_id = note(b"GNU\0", 3, &[7; 20]);
        let pvh = note(b"Xen\0", 18, &0x10_0850u64.to_le_bytes());
        let notes =
            [&build_id[..], &note(b"Xen\0", 17, &[1; 4]), &pvh, &note(b"Xen\0", 18, &[9; 4])].concat();
        assert_eq!(pvh_entry(0, &notes, 4).unwrap(), Some(0x10_0850));
        assert_eq!(pvh_entry(0, &note(b"Xen\0", 18, &0x1234u32.to_le_bytes()), 4).unwrap(), Some(0x1234));
        assert_eq!(pvh_entry(0, &build_id, 4).unwrap(), None);
        assert_eq!(pvh_entry(0, &note(b"XenX", 18, &[0; 4]), 4).unwrap(), None);
        assert_eq!(pvh_entry(0, &[], 4).unwrap(), None);
    }

    #[test]
    fn alignment_of_8() {
        // 12 + 4 bytes, 20 bytes, padded to 40.
        let mut notes = note(b"GNU\0", 3, &[7; 20]);
        notes.extend([0; 4]);
        notes.extend(note(b"Xen\0", 18, &[1, 0, 0, 0]));
        assert_eq!(pvh_entry(0, &notes, 8).unwrap(), Some(1));
    }

    #[test]
    fn padding_at_the_end() {
        let mut notes = note(b"Xen\0", 18, &[1, 0, 0, 0]);
        notes.extend([0; 7]);
        assert_eq!(pvh_entry(0, &notes, 4).unwrap(), Some(1));
        notes.push(1);
        assert!(matches!(pvh_entry(3, &notes, 4), Err(LoadError::NoteCut { index: 3, at: 20, size: 28 })));
    }

    #[test]
    fn notes_that_are_cut_off() {
        let whole = note(b"Xen\0", 18, &[1, 0, 0, 0]);
        for len in 1..whole.len() {
            assert!(matches!(pvh_entry(0, &whole[..len], 4), Err(LoadError::NoteCut { .. })), "{len}");
        }
        for field in [0, 4] {
            let mut notes = whole.clone();
            notes[field..field + 4].fill(0xff);
            assert!(matches!(pvh_entry(0, &notes, 4), Err(LoadError::NoteCut { at: 0, .. })));
        }
    }

    #[test]
    fn an_entry_of_another_size() {
        for size in [0, 1, 5, 9] {
            let notes = note(b"Xen\0", 18, &vec![0; size]);
            assert!(matches!(pvh_entry(0, &notes, 4), Err(LoadError::PvhNote { size: s }) if s == size));
        }
    }
}
