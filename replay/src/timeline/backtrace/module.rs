//! A file of the program that has code: how it is unwound, and what its functions and lines are called.

use std::fmt::{self, Write};
use std::io::{Read, Seek};
use std::sync::Arc;

use gimli::{LittleEndian as Little, SectionId};
use object::elf::{
    CompressionHeader64, ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD, FileHeader64, PT_LOAD, SHN_UNDEF, SHT_DYNSYM,
    SHT_NOBITS, SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC, SectionHeader64, Sym64,
};
use object::read::elf::{CompressionHeader, FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use object::read::{CompressedData, CompressionFormat, ReadCache, ReadRef};
use object::{LittleEndian, SectionIndex, slice_from_all_bytes};

use super::unwind::{Bytes, Registers, Stack, Tables, Unwound};

/// Most bytes of a function's name.
const MOST_OF_NAME: usize = 1024;

/// Most bytes of a file's unwind tables, which are searched from the beginning for each frame. The largest
/// programs have some 20 MiB.
const MOST_OF_TABLES: usize = 32 << 20;

/// Most bytes that one byte of a compressed section may stand for: zlib's format has no more (RFC 1951: 258 bytes by
/// two bits), and what zstd makes of a program's lines is far from it.
const MOST_OF_A_BYTE: u64 = 1032;

/// Sections with the lines of functions.
const LINES: [SectionId; 9] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

/// A part of a file that is mapped: its place in the file, and the address that it is for.
#[derive(Debug)]
struct Segment {
    offset: u64,
    len: u64,
    address: u64,
}

/// A table of symbols, and their names.
#[derive(Debug)]
struct Symbols {
    entries: Arc<[u8]>,
    names: Arc<[u8]>,
}

/// A file that has code.
pub(super) struct Module {
    segments: Vec<Segment>,
    tables: Option<Tables>,
    symbols: Vec<Symbols>,
    lines: Option<addr2line::Context<Bytes>>,
}

/// What an address is called.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// A function, and how far in it.
    pub function: Option<(String, u64)>,
    /// A source file and a line.
    pub source: Option<(String, u32)>,
}

impl Module {
    /// Reads what is needed of an ELF file, as far as it is there and the budget of bytes reaches.
    pub fn load(file: impl Read + Seek, budget: &mut u64) -> Option<Module> {
        Module::read(file, budget, false)
    }

    /// Reads its symbols alone.
    pub fn load_symbols(file: impl Read + Seek, budget: &mut u64) -> Option<Module> {
        Module::read(file, budget, true)
    }

    fn read(file: impl Read + Seek, budget: &mut u64, symbols_alone: bool) -> Option<Module> {
        let data = &ReadCache::new(file);
        let header = FileHeader64::<LittleEndian>::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, data).ok()?.iter();
        let segments = segments.filter(|segment| segment.p_type(endian) == PT_LOAD).map(|segment| Segment {
            offset: segment.p_offset(endian),
            len: segment.p_filesz(endian),
            address: segment.p_vaddr(endian),
        });
        let mut module =
            Module { segments: segments.collect(), tables: None, symbols: Vec::new(), lines: None };
        // They stand at the end of a file, which nobody may have read.
        if let Ok(sections) = header.sections(endian, data) {
            let mut sections = Sections { sections, data, budget };
            // In the order in which they matter, as the budget may end.
            if !symbols_alone {
                let tables = sections.named(".eh_frame").filter(|(_, bytes)| bytes.len() <= MOST_OF_TABLES);
                module.tables = tables.map(|(address, bytes)| Tables::new(arc(bytes), address));
            }
            module.symbols = sections.symbols();
            if !symbols_alone {
                module.lines = sections.lines();
            }
        }
        Some(module)
    }

    /// Whether there is something that a debug file may have.
    pub fn lacks_names(&self) -> bool {
        self.lines.is_none()
    }

    /// Takes names and lines from the file's debug file, too.
    pub fn add_debug_file(&mut self, file: impl Read + Seek, budget: &mut u64) {
        let data = &ReadCache::new(file);
        let Ok(header) = FileHeader64::<LittleEndian>::parse(data) else { return };
        let Ok(sections) = header.endian().and_then(|endian| header.sections(endian, data)) else { return };
        let mut sections = Sections { sections, data, budget };
        // All functions' names before those that other files see.
        let known = std::mem::replace(&mut self.symbols, sections.symbols());
        self.symbols.extend(known);
        self.lines = sections.lines();
    }

    /// The address that a byte of the file is for.
    pub fn address(&self, offset: u64) -> Option<u64> {
        let holds =
            |segment: &&Segment| offset.checked_sub(segment.offset).is_some_and(|at| at < segment.len);
        // Pages at the borders of segments belong to two.
        let segment = self.segments.iter().rev().find(holds)?;
        segment.address.checked_add(offset - segment.offset)
    }

    /// [`Tables::unwind`].
    pub fn unwind(&self, address: u64, registers: &Registers, stack: &Stack<'_>) -> Option<Unwound> {
        self.tables.as_ref()?.unwind(address, registers, stack)
    }

    /// The address of a symbol, by its name as it stands in the file.
    pub fn symbol(&self, name: &[u8]) -> Option<u64> {
        self.symbols.iter().find_map(|symbols| symbols.named(name))
    }

    /// What an address is called.
    pub fn place(&self, address: u64) -> Place {
        let function = self.symbols.iter().find_map(|symbols| symbols.find(address));
        Place { function, source: self.line(address) }
    }

    /// The source file and the line that an address belongs to.
    pub fn line(&self, address: u64) -> Option<(String, u32)> {
        let location = self.lines.as_ref()?.find_location(address).ok().flatten()?;
        Some((location.file?.chars().take(MOST_OF_NAME).collect(), location.line?))
    }
}

impl Symbols {
    /// The address of a symbol of the file's own.
    fn named(&self, name: &[u8]) -> Option<u64> {
        let entries = slice_from_all_bytes::<Sym64<LittleEndian>>(&self.entries).ok()?;
        let is_it = |entry: &&Sym64<LittleEndian>| {
            let names = self.names.get(entry_name(entry)..);
            let rest = names.and_then(|names| names.strip_prefix(name));
            entry.st_shndx(LittleEndian) != SHN_UNDEF && rest.is_some_and(|rest| rest.first() == Some(&0))
        };
        Some(entries.iter().find(is_it)?.st_value(LittleEndian))
    }

    /// The function at an address, and how far in it that is.
    fn find(&self, address: u64) -> Option<(String, u64)> {
        let entries = slice_from_all_bytes::<Sym64<LittleEndian>>(&self.entries).ok()?;
        let endian = LittleEndian;
        let found = entries.iter().filter(|entry| {
            let into = address.checked_sub(entry.st_value(endian));
            matches!(entry.st_type(), STT_FUNC | STT_GNU_IFUNC)
                && entry.st_shndx(endian) != SHN_UNDEF
                && into.is_some_and(|into| into < entry.st_size(endian).max(1))
        });
        // The innermost, if there are several.
        let found = found.max_by_key(|entry| entry.st_value(endian))?;
        let name = self.names.get(entry_name(found)..)?;
        let end = name.iter().take(MOST_OF_NAME).position(|byte| *byte == 0)?;
        Some((demangled(&name[..end]), address - found.st_value(endian)))
    }
}

fn entry_name(entry: &Sym64<LittleEndian>) -> usize {
    entry.st_name(LittleEndian) as usize
}

/// The sections of a file, and how many bytes may still be read.
struct Sections<'a, R: ReadRef<'a>> {
    sections: SectionTable<'a, FileHeader64<LittleEndian>, R>,
    data: R,
    budget: &'a mut u64,
}

impl<'a, R: ReadRef<'a>> Sections<'a, R> {
    /// A section's address and content.
    fn named(&mut self, name: &str) -> Option<(u64, Arc<[u8]>)> {
        let (_, section) = self.sections.section_by_name(LittleEndian, name.as_bytes())?;
        Some((section.sh_addr(LittleEndian), self.content(section)?))
    }

    fn content(&mut self, section: &SectionHeader64<LittleEndian>) -> Option<Arc<[u8]>> {
        let endian = LittleEndian;
        if section.sh_type(endian) == SHT_NOBITS {
            return None;
        }
        *self.budget = self.budget.checked_sub(section.sh_size(endian))?;
        match section.compression(endian, self.data).ok()? {
            Some((header, offset, len)) => self.decompressed(header, offset, len),
            None => Some(section.data(endian, self.data).ok()?.into()),
        }
    }

    /// What a compressed section has, which its header says the length of.
    fn decompressed(
        &mut self,
        header: &CompressionHeader64<LittleEndian>,
        offset: u64,
        len: u64,
    ) -> Option<Arc<[u8]>> {
        let format = match header.ch_type(LittleEndian) {
            ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
            ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
            _ => return None,
        };
        let uncompressed_size = header.ch_size(LittleEndian);
        if uncompressed_size > len.saturating_mul(MOST_OF_A_BYTE) {
            return None;
        }
        *self.budget = self.budget.checked_sub(uncompressed_size)?;
        let data = self.data.read_bytes_at(offset, len).ok()?;
        Some(CompressedData { format, data, uncompressed_size }.decompress().ok()?.into())
    }

    /// All functions' names, then those that other files see.
    fn symbols(&mut self) -> Vec<Symbols> {
        let of_kind = |kind| {
            let section = self.sections.iter().find(|section| section.sh_type(LittleEndian) == kind)?;
            let names = SectionIndex(section.sh_link(LittleEndian) as usize);
            Some((section, self.sections.section(names).ok()?))
        };
        let found = [SHT_SYMTAB, SHT_DYNSYM].map(of_kind);
        let read =
            |(entries, names)| Some(Symbols { entries: self.content(entries)?, names: self.content(names)? });
        found.into_iter().flatten().filter_map(read).collect()
    }

    fn lines(&mut self) -> Option<addr2line::Context<Bytes>> {
        self.sections.section_by_name(LittleEndian, b".debug_line")?;
        let dwarf = gimli::Dwarf::load(|id| {
            let content = LINES.contains(&id).then(|| self.named(id.name())).flatten();
            Ok::<_, gimli::Error>(arc(content.map_or_else(|| Arc::new([]) as Arc<[u8]>, |(_, bytes)| bytes)))
        });
        addr2line::Context::from_dwarf(dwarf.ok()?).ok()
    }
}

fn arc(bytes: Arc<[u8]>) -> Bytes {
    Bytes::new(bytes, Little)
}

/// A name as its language writes it, or as it is.
fn demangled(name: &[u8]) -> String {
    let plain = String::from_utf8_lossy(name);
    // To C++'s grammar `f` is a type.
    if ![&b"_Z"[..], b"_R"].iter().any(|mangled| name.starts_with(mangled)) {
        return plain.into_owned();
    }
    let mut text = Bounded(String::new());
    if let Ok(rust) = rustc_demangle::try_demangle(&plain)
        && write!(text, "{rust:#}").is_ok()
    {
        return text.0;
    }
    let mut text = Bounded(String::new());
    let options = cpp_demangle::DemangleOptions::new().no_params();
    match cpp_demangle::Symbol::new(name) {
        Ok(symbol) if symbol.structured_demangle(&mut text, &options).is_ok() => text.0,
        _ => plain.into_owned(),
    }
}

/// Text up to [`MOST_OF_NAME`]: a short name may stand for a very long one.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MOST_OF_NAME {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use object::elf::SHF_COMPRESSED;

    use super::*;

    /// Bytes anywhere in a file may be wrong: then there are other names or none.
    #[test]
    fn damaged_files_do_no_harm() {
        let whole = std::fs::read("/bin/true").expect("a small program");
        let load = |bytes: &[u8], budget| Module::load(std::io::Cursor::new(bytes), &mut { budget });
        let module = load(&whole, 1 << 20).expect("an ELF file");
        assert!(module.tables.is_some() && !module.symbols.is_empty() && module.address(0) == Some(0));
        let without = load(&whole, 100).expect("an ELF file");
        assert!(without.tables.is_none() && without.symbols.is_empty());
        assert!(load(&whole[..60], 1 << 20).is_none());
        // xorshift64
        let mut random = 88_172_645_463_325_252_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        for _ in 0..500 {
            let mut damaged = whole.clone();
            for _ in 0..20 {
                let byte = next() as u8;
                let headers = if byte & 1 == 0 { 1024 } else { whole.len() };
                // Section headers stand at the end.
                let at = next() as usize % headers;
                let at = if byte & 2 == 0 { at } else { whole.len() - 1 - at };
                damaged[at] = byte;
            }
            if let Some(module) = load(&damaged, 1 << 20) {
                for _ in 0..20 {
                    let offset = next() % whole.len() as u64;
                    module.place(module.address(offset).unwrap_or(offset));
                }
            }
        }
    }

    /// A program whose names are compressed, where they are in the file, and where the header for that is.
    fn compressed(whole: &[u8]) -> (Vec<u8>, usize) {
        let header = FileHeader64::<LittleEndian>::parse(whole).expect("an ELF file");
        let sections = header.sections(LittleEndian, whole).expect("sections");
        let (index, names) = sections.section_by_name(LittleEndian, b".dynstr").expect("names");
        let (offset, len) = names.file_range(LittleEndian).expect("in the file");
        let (offset, len) = (offset as usize, len as usize);
        let names = &whole[offset..offset + len];
        // Kind, nothing, length, alignment (`Elf64_Chdr`).
        let parts = [2u64.to_le_bytes(), (len as u64).to_le_bytes(), 1u64.to_le_bytes()];
        let data = [parts.concat(), zstd::encode_all(names, 19).expect("compressed")].concat();
        assert!(data.len() <= len, "it takes less");
        let mut file = whole.to_vec();
        file[offset..offset + data.len()].copy_from_slice(&data);
        // Flags and size in its section's header (`Elf64_Shdr`).
        let at =
            header.e_shoff.get(LittleEndian) as usize + index.0 * size_of::<SectionHeader64<LittleEndian>>();
        file[at + 8..at + 16].copy_from_slice(&SHF_COMPRESSED.0.to_le_bytes());
        file[at + 32..at + 40].copy_from_slice(&(data.len() as u64).to_le_bytes());
        (file, offset)
    }

    #[test]
    fn compressed_sections_are_read_in_proportion() {
        let whole = std::fs::read("/bin/true").expect("a small program");
        let names = |bytes: &[u8], budget| {
            let module = Module::load(std::io::Cursor::new(bytes), &mut { budget }).expect("an ELF file");
            module.symbols.last().map(|symbols| symbols.names.clone())
        };
        let (file, at) = compressed(&whole);
        let plain = names(&whole, 1 << 20).expect("names");
        assert_eq!(names(&file, 1 << 20).as_ref(), Some(&plain));
        for claimed in [0, plain.len() as u64 - 1, plain.len() as u64 + 1, 1 << 19, 1 << 40, u64::MAX] {
            let mut other = file.clone();
            other[at + 8..at + 16].copy_from_slice(&claimed.to_le_bytes());
            assert_eq!(names(&other, 1 << 20), None, "{claimed} bytes");
        }
        let mut other = file.clone();
        other[at] = 3;
        assert_eq!(names(&other, 1 << 20), None, "another format");
        for byte in 0..file.len().min(1024) {
            let mut damaged = file.clone();
            damaged[at + byte % 600] ^= 1 << (byte % 8);
            names(&damaged, 1 << 20);
        }
    }

    #[test]
    fn names_are_as_their_languages_have_them() {
        for plain in ["main", "f", "i", "_start", "_Z"] {
            assert_eq!(demangled(plain.as_bytes()), plain);
        }
        assert_eq!(demangled(b"_ZN3foo3barEv"), "foo::bar");
        assert_eq!(demangled(b"_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(demangled(b"\xff"), "\u{fffd}");
    }
}
