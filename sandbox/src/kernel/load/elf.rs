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
        let (offset, count) = (header.e_phoff.get(LittleEndian), header.e_phnum.get(LittleEndian));
        for index in 0..usize::from(count) {
            // What lies beyond the address space is beyond the file.
            let at = usize::try_from(offset).ok().and_then(|at| at.checked_add(index * PROGRAM_HEADER));
            let program = at.filter(|at| *at >= HEADER).and_then(|at| Aligned::copy(image, at));
            let program: Aligned<PROGRAM_HEADER> =
                program.ok_or(LoadError::ProgramHeaders { offset, count, len: image.len() as u64 })?;
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
        let file = offset.checked_add(size).filter(|end| *end <= len).map(|end| offset..end);
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
