//! ELF images: which segments go where, and where they are entered.
//!
//! Files are hostile, so that every number is checked here before linux-loader sees the file. It does
//! not know `p_memsz`, other segments or the boot area, and it takes the notes of the last note segment
//! only, so that it is not asked for them.

use std::io::Cursor;
use std::ops::Range;

use linux_loader::loader::{Elf, KernelLoader};
use object::LittleEndian;
use object::elf::{
    self, ELFCLASS64, ELFDATA2LSB, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PF_X, PT_LOAD, PT_NOTE,
    ProgramHeader64,
};
use object::pod;
use vm_memory::GuestAddress;

use super::{LoadError, Protocol, notes};
use crate::kernel::staged::StagedMemory;

/// Bytes of `Elf64_Ehdr` and of `Elf64_Phdr`.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// The most program headers. Kernels have five or so.
const MAX_HEADERS: u16 = 512;
/// Offsets of the class and of the byte order in `e_ident`.
const EI_CLASS: usize = 4;
const EI_DATA: usize = 5;

/// A loadable segment that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Number of its program header.
    pub index: usize,
    /// Guest-physical addresses: `p_paddr`, `p_memsz`.
    pub memory: Range<u64>,
    /// Bytes in the file, what memory starts with; the rest is zeros.
    pub file: Range<u64>,
    /// It is code.
    pub exec: bool,
}

/// A checked ELF image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfImage<'a> {
    image: &'a [u8],
    /// Its segments, ascending and apart.
    pub segments: Vec<Segment>,
    entry: u64,
    pvh_entry: Option<u64>,
}

/// Bytes at an address where they can be read as a header: those of an image may start anywhere.
#[repr(align(8))]
struct Aligned<const N: usize>([u8; N]);

impl<const N: usize> Aligned<N> {
    fn copy(bytes: &[u8], offset: usize) -> Option<Aligned<N>> {
        bytes.get(offset..)?.first_chunk().copied().map(Aligned)
    }

    fn read<T: pod::Pod>(&self) -> Option<&T> {
        pod::from_bytes(&self.0).ok().map(|(value, _)| value)
    }
}

impl ElfImage<'_> {
    /// Checks an image for a guest of `memory` bytes. That its segments leave the boot area alone
    /// depends on the protocol, and is not checked here.
    ///
    /// # Errors
    /// A variant of [`LoadError`] of its own for each thing that can be wrong.
    pub fn parse(image: &[u8], memory: u64) -> Result<ElfImage<'_>, LoadError> {
        let short = || LoadError::ElfShort { len: image.len() };
        let ident = |at: usize| image.get(at).copied().ok_or_else(short);
        match ident(EI_CLASS)? {
            class if class == ELFCLASS64.0 => {}
            class => return Err(LoadError::ElfClass { class }),
        }
        match ident(EI_DATA)? {
            data if data == ELFDATA2LSB.0 => {}
            data => return Err(LoadError::ElfByteOrder { data }),
        }
        let header = Aligned::<HEADER>::copy(image, 0).ok_or_else(short)?;
        let header: &FileHeader64<LittleEndian> = header.read().ok_or_else(short)?;
        check_header(header)?;
        let mut parsed = ElfImage {
            image,
            segments: Vec::new(),
            entry: header.e_entry.get(LittleEndian),
            pvh_entry: None,
        };
        for (index, program) in program_headers(image, header)?.iter().enumerate() {
            if let Some(program) = program.read() {
                parsed.add(index, program, memory)?;
            }
        }
        parsed.sort()?;
        Ok(parsed)
    }

    fn add(
        &mut self,
        index: usize,
        program: &ProgramHeader64<LittleEndian>,
        memory: u64,
    ) -> Result<(), LoadError> {
        let kind = program.p_type.get(LittleEndian);
        if kind != PT_LOAD && kind != PT_NOTE {
            return Ok(());
        }
        let (offset, size) = (program.p_offset.get(LittleEndian), program.p_filesz.get(LittleEndian));
        let len = self.image.len() as u64;
        let file = match size {
            // It may say any offset then.
            0 => Some(0..0),
            size => offset.checked_add(size).filter(|end| *end <= len).map(|end| offset..end),
        };
        let file = file.ok_or(LoadError::SegmentFile { index, offset, size, len })?;
        if kind == PT_NOTE {
            return self.add_notes(index, file, program.p_align.get(LittleEndian));
        }
        let (address, memory_size) = (program.p_paddr.get(LittleEndian), program.p_memsz.get(LittleEndian));
        if size > memory_size {
            return Err(LoadError::SegmentSize { index, file_size: size, memory_size });
        }
        if memory_size == 0 {
            return Ok(());
        }
        let end = address.checked_add(memory_size).filter(|end| *end <= memory);
        let end = end.ok_or(LoadError::SegmentOutside { index, address, size: memory_size, memory })?;
        let exec = program.p_flags.get(LittleEndian).0 & PF_X.0 != 0;
        self.segments.push(Segment { index, memory: address..end, file, exec });
        Ok(())
    }

    fn add_notes(&mut self, index: usize, file: Range<u64>, alignment: u64) -> Result<(), LoadError> {
        let size = file.end - file.start;
        if size > notes::MAX_BYTES {
            return Err(LoadError::NotesSize { index, size, max: notes::MAX_BYTES });
        }
        let segment = self.image.get(file.start as usize..file.end as usize).unwrap_or_default();
        self.pvh_entry = self.pvh_entry.or(notes::pvh_entry(index, segment, alignment)?);
        Ok(())
    }

    /// Puts the segments in order.
    fn sort(&mut self) -> Result<(), LoadError> {
        if self.segments.is_empty() {
            return Err(LoadError::NoSegments);
        }
        self.segments.sort_by_key(|segment| segment.memory.start);
        for (lower, upper) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            if lower.memory.end > upper.memory.start {
                return Err(LoadError::SegmentsOverlap {
                    first: lower.index,
                    end: lower.memory.end,
                    second: upper.index,
                    start: upper.memory.start,
                });
            }
        }
        Ok(())
    }

    /// How the image is entered: by `asked`, or else by PVH where it has that entry.
    ///
    /// # Errors
    /// [`LoadError::NoPvhEntry`] where PVH is asked for, and [`LoadError::Entry`] for an entry point that
    /// is in no executable segment.
    pub fn entry(&self, asked: Option<Protocol>) -> Result<(Protocol, u64), LoadError> {
        let (protocol, entry) = match (asked, self.pvh_entry) {
            (None | Some(Protocol::Pvh), Some(entry)) => (Protocol::Pvh, entry),
            (Some(Protocol::Pvh), None) => return Err(LoadError::NoPvhEntry { image: "the ELF file" }),
            (None | Some(Protocol::Linux64), _) => (Protocol::Linux64, self.entry),
        };
        match self.code().any(|code| code.contains(&entry)) {
            true => Ok((protocol, entry)),
            false => Err(LoadError::Entry { protocol, entry }),
        }
    }

    /// Guest-physical addresses of the executable segments.
    pub fn code(&self) -> impl Iterator<Item = Range<u64>> {
        self.segments.iter().filter(|segment| segment.exec).map(|segment| segment.memory.clone())
    }

    /// Loads the segments into `memory`, which must be the size for which they were checked, and zeros
    /// where they go: what they have in memory only is not written.
    ///
    /// # Errors
    /// None that the checks leave over.
    pub fn load(&self, memory: &mut StagedMemory) -> Result<(), LoadError> {
        for Segment { memory: addresses, file, .. } in &self.segments {
            memory.mark(addresses.start, file.end - file.start)?;
        }
        // With an offset, though one of 0, it does not read notes.
        Elf::load(memory.memory(), Some(GuestAddress(0)), &mut Cursor::new(self.image), None)?;
        Ok(())
    }
}

/// The program headers, all of which must be in the file.
fn program_headers(
    image: &[u8],
    header: &FileHeader64<LittleEndian>,
) -> Result<Vec<Aligned<PROGRAM_HEADER>>, LoadError> {
    let (offset, count) = (header.e_phoff.get(LittleEndian), header.e_phnum.get(LittleEndian));
    // What lies beyond the address space is beyond the file.
    let start = usize::try_from(offset).ok().filter(|start| *start >= HEADER);
    let read = |index| Aligned::copy(image, start?.checked_add(index * PROGRAM_HEADER)?);
    (0..usize::from(count))
        .map(|index| read(index).ok_or(LoadError::ProgramHeaders { offset, count, len: image.len() as u64 }))
        .collect()
}

fn check_header(header: &FileHeader64<LittleEndian>) -> Result<(), LoadError> {
    let machine = header.e_machine.get(LittleEndian);
    if machine != EM_X86_64 {
        return Err(LoadError::ElfMachine { machine: machine.0 });
    }
    let kind = header.e_type.get(LittleEndian);
    if kind != ET_EXEC && kind != ET_DYN {
        return Err(LoadError::ElfType { kind: kind.0 });
    }
    let count = header.e_phnum.get(LittleEndian);
    let sizes = [
        ("e_ehsize", header.e_ehsize.get(LittleEndian), HEADER as u16),
        ("e_phentsize", header.e_phentsize.get(LittleEndian), PROGRAM_HEADER as u16),
    ];
    // Without program headers, linkers write no size of them.
    for (what, size, expected) in sizes.into_iter().take(if count == 0 { 1 } else { 2 }) {
        if size != expected {
            return Err(LoadError::ElfHeaderSize { what, size, expected });
        }
    }
    if count > MAX_HEADERS {
        return Err(LoadError::ProgramHeaderCount { count, max: MAX_HEADERS });
    }
    Ok(())
}

const _: () = assert!(size_of::<elf::FileHeader64<LittleEndian>>() == HEADER);
const _: () = assert!(size_of::<ProgramHeader64<LittleEndian>>() == PROGRAM_HEADER);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::load::testing::{
        self, PROGRAM_HEADERS, code, note, note_segment, pvh_note, segment, small_elf, small_programs,
        small_pvh_elf, with,
    };

    const MEMORY: u64 = 4 << 20;

    /// The error of the small kernel with `bytes` at `at`.
    fn error(at: usize, bytes: &[u8]) -> LoadError {
        ElfImage::parse(&with(small_elf(), at, bytes), MEMORY).unwrap_err()
    }

    /// The error of the small kernel with the word `value` in program header `index` at `field`.
    fn segment_error(index: usize, field: usize, value: u64) -> LoadError {
        error(PROGRAM_HEADERS + index * PROGRAM_HEADER + field, &value.to_le_bytes())
    }

    const OFFSET: usize = 8;
    const ADDRESS: usize = 24;
    const FILE_SIZE: usize = 32;
    const MEMORY_SIZE: usize = 40;

    #[test]
    fn a_good_image() {
        let bytes = small_elf();
        let image = ElfImage::parse(&bytes, MEMORY).unwrap();
        let at = (PROGRAM_HEADERS + 2 * PROGRAM_HEADER) as u64;
        let expected = [
            Segment { index: 0, memory: 0x10_0000..0x10_1800, file: at..at + 0x1800, exec: true },
            Segment { index: 1, memory: 0x10_2000..0x10_5000, file: at + 0x1800..at + 0x2a34, exec: false },
        ];
        assert_eq!(image.segments, expected);
        assert_eq!(image.entry(None).unwrap(), (Protocol::Linux64, 0x10_0010));
        assert_eq!(image.code().collect::<Vec<_>>(), std::slice::from_ref(&(0x10_0000..0x10_1800)));
        assert!(matches!(image.entry(Some(Protocol::Pvh)), Err(LoadError::NoPvhEntry { .. })));
    }

    #[test]
    fn wherever_the_bytes_are() {
        let image = small_elf();
        for shift in 0..8 {
            let bytes = [&vec![0; shift], &image[..]].concat();
            ElfImage::parse(&bytes[shift..], MEMORY).unwrap();
        }
    }

    #[test]
    fn a_shared_object() {
        ElfImage::parse(&with(small_elf(), 16, &[3, 0]), MEMORY).unwrap();
    }

    #[test]
    fn the_pvh_entry() {
        let bytes = small_pvh_elf();
        let image = ElfImage::parse(&bytes, MEMORY).unwrap();
        assert_eq!(image.entry(None).unwrap(), (Protocol::Pvh, 0x10_0020));
        assert_eq!(image.entry(Some(Protocol::Pvh)).unwrap(), (Protocol::Pvh, 0x10_0020));
        assert_eq!(image.entry(Some(Protocol::Linux64)).unwrap(), (Protocol::Linux64, 0x10_0010));
    }

    #[test]
    fn the_pvh_entry_with_more_note_segments() {
        let other = note_segment(note(b"GNU\0", 3, &[7; 20]));
        let pvh = note_segment(pvh_note(0x10_0020));
        for notes in [[pvh.clone(), other.clone()], [other, pvh]] {
            let bytes = testing::elf(0x10_0010, &[&small_programs()[..], &notes].concat());
            let image = ElfImage::parse(&bytes, MEMORY).unwrap();
            assert_eq!(image.entry(None).unwrap(), (Protocol::Pvh, 0x10_0020));
        }
    }

    #[test]
    fn segments_are_put_in_order() {
        let mut programs = small_programs();
        programs.reverse();
        programs.push(segment(6, 0x2000, 0x1000, Vec::new()));
        let bytes = testing::elf(0x10_0010, &programs);
        let image = ElfImage::parse(&bytes, MEMORY).unwrap();
        assert_eq!(image.segments.iter().map(|segment| segment.index).collect::<Vec<_>>(), [2, 1, 0]);
    }

    #[test]
    fn headers_that_are_cut_off() {
        let image = small_elf();
        for len in 4..HEADER {
            assert!(matches!(
                ElfImage::parse(&image[..len], MEMORY),
                Err(LoadError::ElfShort { len: l }) if l == len
            ));
        }
        for len in [HEADER, PROGRAM_HEADERS + 2 * PROGRAM_HEADER - 1] {
            assert!(matches!(
                ElfImage::parse(&image[..len], MEMORY),
                Err(LoadError::ProgramHeaders { offset: 64, count: 2, .. })
            ));
        }
    }

    #[test]
    fn other_kinds_of_elf() {
        assert!(matches!(error(4, &[1]), LoadError::ElfClass { class: 1 }));
        assert!(error(4, &[1]).to_string().contains("ELF32"));
        assert!(matches!(error(4, &[3]), LoadError::ElfClass { class: 3 }));
        assert!(matches!(error(5, &[2]), LoadError::ElfByteOrder { data: 2 }));
        assert!(error(5, &[2]).to_string().contains("big-endian"));
        assert!(matches!(error(5, &[0]), LoadError::ElfByteOrder { data: 0 }));
        assert!(matches!(error(18, &[183, 0]), LoadError::ElfMachine { machine: 183 }));
        for kind in [0, 1, 4, 0xfe00u16] {
            assert!(matches!(error(16, &kind.to_le_bytes()), LoadError::ElfType { kind: k } if k == kind));
        }
    }

    #[test]
    fn header_sizes() {
        assert!(matches!(
            error(52, &[52, 0]),
            LoadError::ElfHeaderSize { what: "e_ehsize", size: 52, expected: 64 }
        ));
        for size in [0, 32, 57, 0xffffu16] {
            assert!(matches!(
                error(54, &size.to_le_bytes()),
                LoadError::ElfHeaderSize { what: "e_phentsize", size: s, expected: 56 } if s == size
            ));
        }
    }

    #[test]
    fn program_headers() {
        assert!(matches!(error(56, &[0, 0]), LoadError::NoSegments));
        assert!(matches!(error(56, &[1, 2]), LoadError::ProgramHeaderCount { count: 513, max: 512 }));
        assert!(matches!(error(56, &[0xff, 0xff]), LoadError::ProgramHeaderCount { count: 0xffff, .. }));
        assert!(matches!(error(56, &[0, 2]), LoadError::ProgramHeaders { count: 512, .. }));
        for offset in [0, 63, 1 << 20, u64::MAX - 55, u64::MAX] {
            assert!(matches!(
                error(32, &offset.to_le_bytes()),
                LoadError::ProgramHeaders { offset: o, count: 2, .. } if o == offset
            ));
        }
    }

    #[test]
    fn nothing_to_load() {
        let empty = testing::elf(0, &[segment(5, 0x10_0000, 0, Vec::new()), note_segment(pvh_note(0))]);
        assert!(matches!(ElfImage::parse(&empty, MEMORY), Err(LoadError::NoSegments)));
    }

    #[test]
    fn segments_outside_the_file() {
        let len = small_elf().len() as u64;
        for offset in [len, u64::MAX, u64::MAX - 0x17ff, 1 << 63] {
            assert!(matches!(
                segment_error(0, OFFSET, offset),
                LoadError::SegmentFile { index: 0, offset: o, len: l, .. } if (o, l) == (offset, len)
            ));
        }
        for size in [len, 1 << 40, u64::MAX] {
            assert!(matches!(
                segment_error(1, FILE_SIZE, size),
                LoadError::SegmentFile { index: 1, size: s, .. } if s == size
            ));
        }
    }

    #[test]
    fn segments_of_zeros_only() {
        let programs = [segment(5, 0x10_0000, 16, code(16)), segment(6, 0x10_1000, 0x1000, Vec::new())];
        let at = PROGRAM_HEADERS + PROGRAM_HEADER + OFFSET;
        let bytes = with(testing::elf(0x10_0000, &programs), at, &u64::MAX.to_le_bytes());
        let image = ElfImage::parse(&bytes, MEMORY).unwrap();
        assert_eq!(image.segments[1].memory, 0x10_1000..0x10_2000);
        image.load(&mut StagedMemory::new(MEMORY).unwrap()).unwrap();
    }

    #[test]
    fn more_bytes_in_the_file_than_in_memory() {
        for memory_size in [0, 1, 0x1233] {
            assert!(matches!(
                segment_error(1, MEMORY_SIZE, memory_size),
                LoadError::SegmentSize { index: 1, file_size: 0x1234, memory_size: m } if m == memory_size
            ));
        }
    }

    #[test]
    fn segments_outside_memory() {
        for address in [MEMORY, MEMORY - 0x2fff, 1 << 32, 0xffff_ffff_8010_2000, u64::MAX] {
            assert!(matches!(
                segment_error(1, ADDRESS, address),
                LoadError::SegmentOutside { index: 1, address: a, size: 0x3000, .. } if a == address
            ));
        }
        for size in [MEMORY, 1 << 40, u64::MAX] {
            assert!(matches!(
                segment_error(1, MEMORY_SIZE, size),
                LoadError::SegmentOutside { index: 1, address: 0x10_2000, size: s, .. } if s == size
            ));
        }
        // To its last byte.
        let last =
            with(small_elf(), PROGRAM_HEADERS + PROGRAM_HEADER + ADDRESS, &(MEMORY - 0x3000).to_le_bytes());
        ElfImage::parse(&last, MEMORY).unwrap();
    }

    #[test]
    fn segments_that_overlap() {
        for (address, first, second) in
            [(0x10_17ff, 0, 1), (0x10_0000, 0, 1), (0xf_d001, 1, 0), (0xf_ffff, 1, 0)]
        {
            match segment_error(1, ADDRESS, address) {
                LoadError::SegmentsOverlap { first: f, second: s, .. } => assert_eq!((f, s), (first, second)),
                error => panic!("{error}"),
            }
        }
        for address in [0x10_1800u64, 0xf_d000] {
            let image = with(small_elf(), PROGRAM_HEADERS + PROGRAM_HEADER + ADDRESS, &address.to_le_bytes());
            ElfImage::parse(&image, MEMORY).unwrap();
        }
    }

    #[test]
    fn entries_that_are_no_code() {
        for entry in [0, 0xf_ffff, 0x10_1800, 0x10_2000, 0xffff_ffff_8010_0010, u64::MAX] {
            let bytes = with(small_pvh_elf(), 24, &entry.to_le_bytes());
            let image = ElfImage::parse(&bytes, MEMORY).unwrap();
            assert!(matches!(
                image.entry(Some(Protocol::Linux64)),
                Err(LoadError::Entry { protocol: Protocol::Linux64, entry: e }) if e == entry
            ));
            // The other one is good.
            image.entry(None).unwrap();
        }
        let programs = [segment(5, 0x10_0000, 0x1000, code(16)), note_segment(pvh_note(0x10_1000))];
        let bytes = testing::elf(0x10_0000, &programs);
        let image = ElfImage::parse(&bytes, MEMORY).unwrap();
        assert!(matches!(
            image.entry(None),
            Err(LoadError::Entry { protocol: Protocol::Pvh, entry: 0x10_1000 })
        ));
    }

    #[test]
    fn hostile_notes() {
        let parse = |notes: Vec<u8>| {
            let bytes = testing::elf(0x10_0010, &[&small_programs()[..], &[note_segment(notes)]].concat());
            ElfImage::parse(&bytes, MEMORY).map(|_| ())
        };
        assert!(matches!(parse(vec![0xff; 24]), Err(LoadError::NoteCut { index: 2, at: 0, size: 24 })));
        let many = vec![0; notes::MAX_BYTES as usize];
        parse(many.clone()).unwrap();
        let size = notes::MAX_BYTES + 1;
        assert!(matches!(
            parse([many, vec![0]].concat()),
            Err(LoadError::NotesSize { index: 2, size: s, .. }) if s == size
        ));
        assert!(matches!(parse(note(b"Xen\0", 18, &[0; 2])), Err(LoadError::PvhNote { size: 2 })));
        // A note segment that is not in the file.
        let at = PROGRAM_HEADERS + 2 * PROGRAM_HEADER + OFFSET;
        let bytes = with(small_pvh_elf(), at, &u64::MAX.to_le_bytes());
        assert!(matches!(ElfImage::parse(&bytes, MEMORY), Err(LoadError::SegmentFile { index: 2, .. })));
    }

    #[test]
    fn zeros_behind_the_bytes() {
        let mut memory = StagedMemory::new(MEMORY).unwrap();
        let bytes = small_elf();
        ElfImage::parse(&bytes, MEMORY).unwrap().load(&mut memory).unwrap();
        let mut loaded = vec![1; 0x5000];
        memory.read(0x10_0000, &mut loaded).unwrap();
        assert_eq!(loaded[..0x1800], code(0x1800));
        assert_eq!(loaded[0x2000..0x3234], code(0x1234));
        assert!(loaded[0x1800..0x2000].iter().chain(&loaded[0x3234..]).all(|byte| *byte == 0));
    }
}
