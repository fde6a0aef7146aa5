//! Reading the ELF header and program headers of a program.
//!
//! Only what the kernel's loader looks at (`fs/binfmt_elf.c`): sections are never read. Files are
//! hostile, so every number is checked here, before anything is mapped.

use object::elf::{self, FileHeader64, ProgramHeader64};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader, ProgramHeader};

use super::mm::{Protection, USER_END};
use crate::errno::Errno;

/// Bytes of a file that must be read to parse it: the header, and the program headers that Linux
/// accepts (64 KiB of them), wherever they start within it.
pub const HEAD_BYTES: usize = 64 * 1024;

/// The most program headers (`ELF_MIN_ALIGN` worth of 64 KiB in Linux; fewer will do).
const MAX_HEADERS: usize = 512;
/// The longest interpreter path (`PATH_MAX`).
const MAX_INTERPRETER: u64 = 4096;
const PAGE: u64 = 4096;

/// A `PT_LOAD` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its address, relative to the load bias.
    pub address: u64,
    /// Bytes in memory.
    pub memory_size: u64,
    /// Bytes in the file; the rest is zeros.
    pub file_size: u64,
    /// Where they are in the file.
    pub offset: u64,
    /// What it allows.
    pub protection: Protection,
}

/// What a loader needs to know of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// May be loaded anywhere (`ET_DYN`).
    pub movable: bool,
    /// Entry point, relative to the load bias.
    pub entry: u64,
    /// The segments, ascending and without overlap.
    pub segments: Vec<Segment>,
    /// Where the interpreter's path is in the file: offset and length with its NUL.
    pub interpreter: Option<(u64, u64)>,
    /// Address of the program headers in memory, relative to the load bias; 0 if they are not
    /// loaded.
    pub headers: u64,
    /// How many program headers there are.
    pub header_count: u64,
    /// Alignment that the segments ask for, a power of two, at least a page.
    pub align: u64,
    /// The stack may be executed.
    pub exec_stack: bool,
}

/// Parses the first bytes of a file of `file_len` bytes.
///
/// # Errors
/// `ENOEXEC` for what is no x86-64 program or has impossible numbers in it; `EINVAL` where Linux
/// says that.
pub fn parse(head: &[u8], file_len: u64) -> Result<Image, Errno> {
    let header = FileHeader64::<LittleEndian>::parse(head).map_err(|_| Errno::ENOEXEC)?;
    let endian = header.endian().map_err(|_| Errno::ENOEXEC)?;
    let kind = header.e_type(endian);
    if header.e_machine(endian) != elf::EM_X86_64 || !matches!(kind, elf::ET_EXEC | elf::ET_DYN) {
        return Err(Errno::ENOEXEC);
    }
    let headers = header.program_headers(endian, head).map_err(|_| Errno::ENOEXEC)?;
    if headers.is_empty() || headers.len() > MAX_HEADERS {
        return Err(Errno::ENOEXEC);
    }
    let mut image = Image {
        movable: kind == elf::ET_DYN,
        entry: header.e_entry(endian),
        segments: Vec::new(),
        interpreter: None,
        headers: 0,
        header_count: headers.len() as u64,
        align: PAGE,
        exec_stack: false,
    };
    for program in headers {
        match program.p_type(endian) {
            elf::PT_LOAD => add_segment(&mut image, program, file_len)?,
            elf::PT_INTERP if image.interpreter.is_none() => {
                let (offset, len) = (program.p_offset(endian), program.p_filesz(endian));
                if !(2..=MAX_INTERPRETER).contains(&len)
                    || offset.checked_add(len).is_none_or(|end| end > file_len)
                {
                    return Err(Errno::ENOEXEC);
                }
                image.interpreter = Some((offset, len));
            }
            elf::PT_PHDR => image.headers = program.p_vaddr(endian),
            elf::PT_GNU_STACK => image.exec_stack = program.p_flags(endian).0 & 1 != 0,
            _ => {}
        }
    }
    if image.segments.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    if image.headers == 0 {
        // Where the segment that holds the headers' part of the file puts them.
        let offset = header.e_phoff(endian);
        image.headers = image
            .segments
            .iter()
            .find(|s| s.offset <= offset && offset - s.offset < s.file_size)
            .map_or(0, |s| s.address + (offset - s.offset));
    }
    Ok(image)
}

fn add_segment(
    image: &mut Image,
    program: &ProgramHeader64<LittleEndian>,
    file_len: u64,
) -> Result<(), Errno> {
    let endian = LittleEndian;
    let flags = program.p_flags(endian).0;
    let segment = Segment {
        address: program.p_vaddr(endian),
        memory_size: program.p_memsz(endian),
        file_size: program.p_filesz(endian),
        offset: program.p_offset(endian),
        protection: Protection { read: flags & 4 != 0, write: flags & 2 != 0, exec: flags & 1 != 0 },
    };
    if segment.memory_size == 0 {
        return Ok(());
    }
    let end = segment.address.checked_add(segment.memory_size).ok_or(Errno::EINVAL)?;
    let file_end = segment.offset.checked_add(segment.file_size).ok_or(Errno::EINVAL)?;
    let possible = end <= USER_END
        && segment.file_size <= segment.memory_size
        && file_end <= file_len
        && segment.address % PAGE == segment.offset % PAGE
        && image.segments.last().is_none_or(|last| last.address + last.memory_size <= segment.address);
    if !possible {
        return Err(Errno::EINVAL);
    }
    let align = program.p_align(endian);
    if align.is_power_of_two() && align > image.align && align <= 1 << 30 {
        image.align = align;
    }
    image.segments.push(segment);
    Ok(())
}

impl Image {
    /// Bytes from the first segment's page to the end of the last one's.
    pub fn span(&self) -> u64 {
        self.end().next_multiple_of(PAGE) - self.start()
    }

    /// Where the first segment's page starts, relative to the load bias.
    pub fn start(&self) -> u64 {
        self.segments.first().map_or(0, |s| s.address / PAGE * PAGE)
    }

    /// Where the last segment ends, relative to the load bias.
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(0, |s| s.address + s.memory_size)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use proptest::prelude::*;

    /// The first bytes of a program, and how many it has in all.
    fn program() -> (Vec<u8>, u64) {
        let mut file = std::fs::File::open("/proc/self/exe").expect("the test itself is a program");
        let mut bytes = vec![0; HEAD_BYTES];
        file.read_exact(&mut bytes).expect("it is longer than that");
        (bytes, file.metadata().expect("a file").len())
    }

    #[test]
    fn a_real_program() {
        let (bytes, size) = program();
        let image = parse(&bytes, size).unwrap();
        assert!(image.movable && image.interpreter.is_some() && !image.exec_stack);
        assert!(image.segments.iter().any(|s| s.protection.exec));
        assert!(image.headers > 0 && image.span() > 0);
    }

    #[test]
    fn not_a_program() {
        assert_eq!(parse(b"#!/bin/sh\n", 10), Err(Errno::ENOEXEC));
        assert_eq!(parse(&[], 0), Err(Errno::ENOEXEC));
        let (bytes, _) = program();
        assert_eq!(parse(&bytes[..64], 64), Err(Errno::ENOEXEC));
    }

    #[test]
    fn segments_outside_the_file() {
        let (bytes, _) = program();
        assert!(parse(&bytes, 100).is_err());
    }

    proptest! {
        #[test]
        fn damaged_headers_never_panic(changes in prop::collection::vec((0usize..1200, any::<u8>()), 1..8)) {
            let (mut bytes, _) = program();
            for (at, value) in changes {
                bytes[at] = value;
            }
            if let Ok(image) = parse(&bytes, 1 << 24) {
                prop_assert!(image.end() <= USER_END);
                let _ = image.span();
            }
        }
    }
}
