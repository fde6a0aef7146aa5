//! The shared object around the functions.
//!
//! ELF64 as in the System V gABI (chapters 4 and 5), symbol versions as in the Linux Standard Base
//! (core specification, "Symbol Versioning"), the GNU hash table as binutils writes it
//! (`bfd/elflink.c`), unwind tables as in its "Exception Frames" and DWARF 4 section 6.4.
//!
//! What readers of a vDSO insist on:
//! * glibc (`elf/setup-vdso.h`, `elf/dl-lookup.c`): `PT_LOAD` and `PT_DYNAMIC`, string and symbol
//!   tables, a hash table, version definitions. The dynamic segment must not say that it is
//!   writable: from 2.35 on glibc relocates it in place if it does (`l_ld_readonly`); before, it
//!   relocates copies, of eight tags at most (`DL_RO_DYN_TEMP_CNT`; here are five such);
//! * musl (`src/internal/vdso.c`): `DT_HASH`, which counts the symbols; only newer versions can do
//!   with the GNU table;
//! * Go (`runtime/vdso_linux.go`): either hash table, functions that are global or weak, the
//!   version by its hash. It adds addresses to the *file offset* of the segment: both are the same
//!   here.
//!
//! Debuggers read the section headers as well, from memory.

use object::elf;

use super::code::{ALIGN, Function, Text};

const HEADER_BYTES: u64 = 64;
const PROGRAM_HEADER_BYTES: u64 = 56;
const SECTION_HEADER_BYTES: u64 = 64;
const SYMBOL_BYTES: u64 = 24;
const DYNAMIC_BYTES: u64 = 16;
const PROGRAM_HEADERS: u64 = 3;
const PAGE: u64 = 4096;

/// Where the code starts: right behind the program headers. The code does not depend on what
/// follows it, but all that follows depends on the code's length.
pub const TEXT_OFFSET: u64 =
    (HEADER_BYTES + PROGRAM_HEADERS * PROGRAM_HEADER_BYTES).next_multiple_of(ALIGN as u64);

/// The name that Linux gives its vDSO.
const SONAME: &str = "linux-vdso.so.1";
/// The version that libraries ask for.
const VERSION: &str = "LINUX_2.6";
/// Its index: 0 and 1 have meanings of their own, and the object's name is defined as 1.
const VERSION_INDEX: u16 = 2;

// Places in the section table that other sections refer to.
const TEXT_SECTION: u16 = 1;
const STRINGS_SECTION: u32 = 2;
const SYMBOLS_SECTION: u32 = 3;

/// Buckets of both hash tables.
const BUCKETS: u32 = 7;
/// Second shift of the GNU table's Bloom filter, which is a single word.
const BLOOM_SHIFT: u32 = 6;

/// Bytes in little-endian order.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn bytes(mut self, bytes: &[u8]) -> Out {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(self, value: u8) -> Out {
        self.bytes(&[value])
    }

    fn u16(self, value: u16) -> Out {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(self, value: u32) -> Out {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Out {
        self.bytes(&value.to_le_bytes())
    }

    fn u32s(self, values: &[u32]) -> Out {
        values.iter().fold(self, |out, value| out.u32(*value))
    }
}

/// A string table.
struct Strings(Vec<u8>);

impl Strings {
    fn new() -> Strings {
        Strings(vec![0])
    }

    /// Adds a string and says where it is.
    fn add(&mut self, string: &str) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend_from_slice(string.as_bytes());
        self.0.push(0);
        at
    }
}

/// A section header, but for what is known when the section is placed.
struct Section {
    name: &'static str,
    kind: elf::SectionType,
    flags: elf::SectionFlags,
    link: u32,
    info: u32,
    align: u64,
    entry_bytes: u64,
}

/// A section of data that is loaded.
const LOADED: Section = Section {
    name: "",
    kind: elf::SHT_PROGBITS,
    flags: elf::SHF_ALLOC,
    link: 0,
    info: 0,
    align: 8,
    entry_bytes: 0,
};

/// Where a section was placed: its file offset is its address.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    bytes: u64,
}

/// The image while it grows.
struct Image {
    bytes: Vec<u8>,
    headers: Out,
    names: Strings,
}

impl Image {
    fn new() -> Image {
        // The first section header is all zeros.
        let headers = Out::default().bytes(&[0; SECTION_HEADER_BYTES as usize]);
        Image { bytes: vec![0; TEXT_OFFSET as usize], headers, names: Strings::new() }
    }

    /// Where a section of this alignment will be placed.
    fn next(&self, align: u64) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(align)
    }

    fn add(&mut self, section: Section, contents: &[u8]) -> Range {
        let name = self.names.add(section.name);
        self.place(name, section, contents)
    }

    /// Adds the section of the sections' names, the last: its own is one of them.
    fn add_names(&mut self) {
        let section = Section { kind: elf::SHT_STRTAB, flags: elf::SectionFlags(0), align: 1, ..LOADED };
        let name = self.names.add(".shstrtab");
        let contents = self.names.0.clone();
        self.place(name, section, &contents);
    }

    fn place(&mut self, name: u32, section: Section, contents: &[u8]) -> Range {
        let range = Range { start: self.next(section.align), bytes: contents.len() as u64 };
        self.bytes.resize(range.start as usize, 0);
        self.bytes.extend_from_slice(contents);
        let loaded = section.flags.contains(elf::SHF_ALLOC);
        self.headers = std::mem::take(&mut self.headers)
            .u32(name)
            .u32(section.kind.0)
            .u64(section.flags.0)
            .u64(if loaded { range.start } else { 0 })
            .u64(range.start)
            .u64(range.bytes)
            .u32(section.link)
            .u32(section.info)
            .u64(section.align)
            .u64(section.entry_bytes);
        range
    }
}

/// A symbol of the dynamic symbol table.
struct Symbol {
    name: &'static str,
    bind: elf::SymbolBind,
    function: Function,
}

impl Symbol {
    fn hash(&self) -> u32 {
        elf::hash(self.name.as_bytes())
    }

    fn gnu_hash(&self) -> u32 {
        elf::gnu_hash(self.name.as_bytes())
    }
}

/// All symbols, in the order of the GNU hash table: by bucket.
fn symbols(text: &Text) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    for function in text.functions.iter().chain([&text.sigreturn]) {
        symbols.push(Symbol { name: function.name, bind: elf::STB_GLOBAL, function: *function });
        symbols.extend(function.alias.map(|name| Symbol { name, bind: elf::STB_WEAK, function: *function }));
    }
    symbols.sort_by_key(|symbol| symbol.gnu_hash() % BUCKETS);
    symbols
}

fn symbol_table(symbols: &[Symbol], strings: &mut Strings) -> Vec<u8> {
    // Symbol 0 is none.
    let mut out = Out::default().bytes(&[0; SYMBOL_BYTES as usize]);
    for symbol in symbols {
        out = out
            .u32(strings.add(symbol.name))
            .u8(elf::SymbolInfo::new(symbol.bind, elf::STT_FUNC).0)
            .u8(elf::STV_DEFAULT.0)
            .u16(TEXT_SECTION)
            .u64(symbol.function.offset)
            .u64(symbol.function.size);
    }
    out.0
}

/// `DT_HASH`: the head of each bucket's list, then for each symbol the next in its list.
fn hash_table(symbols: &[Symbol]) -> Vec<u8> {
    let mut buckets = [0; BUCKETS as usize];
    let mut chains = vec![0];
    for (index, symbol) in (1..).zip(symbols) {
        let bucket = &mut buckets[(symbol.hash() % BUCKETS) as usize];
        chains.push(std::mem::replace(bucket, index));
    }
    Out::default().u32(BUCKETS).u32(chains.len() as u32).u32s(&buckets).u32s(&chains).0
}

/// `DT_GNU_HASH`: a Bloom filter, the first symbol of each bucket, and each symbol's hash, whose
/// lowest bit marks the last of a bucket.
fn gnu_hash_table(symbols: &[Symbol]) -> Vec<u8> {
    let mut bloom = 0u64;
    let mut buckets = [0; BUCKETS as usize];
    let mut hashes: Vec<u32> = Vec::new();
    for (index, symbol) in symbols.iter().enumerate() {
        let hash = symbol.gnu_hash();
        bloom |= 1 << (hash % 64) | 1 << ((hash >> BLOOM_SHIFT) % 64);
        let bucket = &mut buckets[(hash % BUCKETS) as usize];
        if *bucket == 0 {
            *bucket = 1 + index as u32;
        }
        let last = symbols.get(index + 1).is_none_or(|next| next.gnu_hash() % BUCKETS != hash % BUCKETS);
        hashes.push(hash & !1 | u32::from(last));
    }
    // Symbol 0 is not in the table; the filter has one word.
    let header = Out::default().u32(BUCKETS).u32(1).u32(1).u32(BLOOM_SHIFT);
    header.u64(bloom).u32s(&buckets).u32s(&hashes).0
}

/// `DT_VERSYM`: each symbol's version.
fn version_symbols(symbols: &[Symbol]) -> Vec<u8> {
    symbols.iter().fold(Out::default().u16(elf::VER_NDX_LOCAL.0), |out, _| out.u16(VERSION_INDEX)).0
}

/// `DT_VERDEF`: the object's own name, then the version, each with one name.
fn version_definitions(soname: u32, version: u32) -> Vec<u8> {
    const DEFINITION_BYTES: u32 = 20;
    const NAME_BYTES: u32 = 8;
    let definition = |out: Out, flags: elf::VersionFlags, index: u16, name: &str, string: u32, next: u32| {
        let hash = elf::hash(name.as_bytes());
        let out = out.u16(elf::VER_DEF_CURRENT).u16(flags.0).u16(index).u16(1).u32(hash);
        out.u32(DEFINITION_BYTES).u32(next).u32(string).u32(0)
    };
    let base_index = elf::VER_NDX_GLOBAL.0;
    let out = definition(
        Out::default(),
        elf::VER_FLG_BASE,
        base_index,
        SONAME,
        soname,
        DEFINITION_BYTES + NAME_BYTES,
    );
    definition(out, elf::VersionFlags(0), VERSION_INDEX, VERSION, version, 0).0
}

/// Distance from one address to another as unwind tables have it.
fn relative(to: u64, from: u64) -> u32 {
    to.wrapping_sub(from) as u32
}

/// Bytes of the common information entry below, and of each of the others.
const FRAME_ENTRY_BYTES: u32 = 24;

/// `.eh_frame` at an address: one entry for all functions, as none moves the stack pointer. The
/// signal trampoline is not in it: there unwinders go by its bytes.
fn frames(address: u64, code: Range) -> Vec<u8> {
    let length = FRAME_ENTRY_BYTES - 4;
    let entry = address + u64::from(FRAME_ENTRY_BYTES);
    // Version 1, addresses relative and of 32 bits ("zR", 0x1b), code in steps of 1 and data of -8,
    // the return address in column 16. The frame is at RSP + 8 (DW_CFA_def_cfa 7, 8), the return
    // address 8 below (DW_CFA_offset 16, 1); no operations to the end.
    let common = b"\x01zR\0\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01\0\0";
    let out = Out::default().u32(length).u32(0).bytes(common);
    // Back to the common entry; first address and length; nothing else.
    let out = out.u32(length).u32(FRAME_ENTRY_BYTES + 4);
    let out = out.u32(relative(code.start, entry + 8)).u32(code.bytes as u32).u64(0);
    // The end.
    out.u32(0).0
}

/// `.eh_frame_hdr` at an address: where the entry is found, by search.
fn frame_index(address: u64, frames: Range, code: Range) -> Vec<u8> {
    // Version 1; the encodings of what follows: relative to itself, plain, relative to the index.
    let out = Out::default().bytes(&[1, 0x1b, 0x03, 0x3b]).u32(relative(frames.start, address + 4));
    let entry = frames.start + u64::from(FRAME_ENTRY_BYTES);
    out.u32(1).u32(relative(code.start, address)).u32(relative(entry, address)).0
}

fn dynamic(entries: &[(elf::DynamicTag, u64)]) -> Vec<u8> {
    entries.iter().fold(Out::default(), |out, (tag, value)| out.u64(tag.0 as u64).u64(*value)).0
}

fn program_header(
    out: Out,
    kind: elf::ProgramType,
    flags: elf::ProgramFlags,
    range: Range,
    align: u64,
) -> Out {
    let out = out.u32(kind.0).u32(flags.0);
    out.u64(range.start).u64(range.start).u64(range.start).u64(range.bytes).u64(range.bytes).u64(align)
}

fn header(section_headers: u64, sections: u64) -> Out {
    let out = Out::default().bytes(&elf::ELFMAG);
    let out = out.u8(elf::ELFCLASS64.0).u8(elf::ELFDATA2LSB.0).u8(elf::EV_CURRENT.0).bytes(&[0; 9]);
    let out = out.u16(elf::ET_DYN.0).u16(elf::EM_X86_64.0).u32(elf::EV_CURRENT.0.into());
    let out = out.u64(0).u64(HEADER_BYTES).u64(section_headers).u32(0).u16(HEADER_BYTES as u16);
    let out = out.u16(PROGRAM_HEADER_BYTES as u16).u16(PROGRAM_HEADERS as u16);
    // The section names are the last section.
    out.u16(SECTION_HEADER_BYTES as u16).u16(sections as u16).u16(sections as u16 - 1)
}

/// Adds the tables by which functions are found, and the dynamic section that points at them.
fn add_tables(image: &mut Image, text: &Text) -> Range {
    let symbols = symbols(text);
    let mut strings = Strings::new();
    let symbol_table = symbol_table(&symbols, &mut strings);
    let (soname, version) = (strings.add(SONAME), strings.add(VERSION));

    let table =
        |name, kind, entry_bytes| Section { name, kind, link: SYMBOLS_SECTION, entry_bytes, ..LOADED };
    let section = Section { align: 1, link: 0, ..table(".dynstr", elf::SHT_STRTAB, 0) };
    let string_range = image.add(section, &strings.0);
    // `info` is the first symbol that is not local.
    let section =
        Section { link: STRINGS_SECTION, info: 1, ..table(".dynsym", elf::SHT_DYNSYM, SYMBOL_BYTES) };
    let symbol_range = image.add(section, &symbol_table);
    let hash = image.add(table(".hash", elf::SHT_HASH, 4), &hash_table(&symbols));
    let gnu_hash = image.add(table(".gnu.hash", elf::SHT_GNU_HASH, 0), &gnu_hash_table(&symbols));
    let versions = image.add(table(".gnu.version", elf::SHT_GNU_VERSYM, 2), &version_symbols(&symbols));
    // `info` is the number of definitions.
    let section =
        Section { link: STRINGS_SECTION, info: 2, ..table(".gnu.version_d", elf::SHT_GNU_VERDEF, 0) };
    let definitions = image.add(section, &version_definitions(soname, version));

    let entries = dynamic(&[
        (elf::DT_SONAME, soname.into()),
        (elf::DT_HASH, hash.start),
        (elf::DT_GNU_HASH, gnu_hash.start),
        (elf::DT_STRTAB, string_range.start),
        (elf::DT_SYMTAB, symbol_range.start),
        (elf::DT_STRSZ, string_range.bytes),
        (elf::DT_SYMENT, SYMBOL_BYTES),
        (elf::DT_VERSYM, versions.start),
        (elf::DT_VERDEF, definitions.start),
        (elf::DT_VERDEFNUM, 2),
        (elf::DT_NULL, 0),
    ]);
    let section = Section { link: STRINGS_SECTION, ..table(".dynamic", elf::SHT_DYNAMIC, DYNAMIC_BYTES) };
    image.add(section, &entries)
}

/// Adds the unwind tables and returns the index.
fn add_frames(image: &mut Image, text: &Text) -> Range {
    let start = TEXT_OFFSET;
    let end = text.functions.last().map_or(start, |last| last.offset + last.size);
    let code = Range { start, bytes: end - start };
    let contents = frames(image.next(LOADED.align), code);
    let frames = image.add(Section { name: ".eh_frame", ..LOADED }, &contents);
    let contents = frame_index(image.next(4), frames, code);
    image.add(Section { name: ".eh_frame_hdr", align: 4, ..LOADED }, &contents)
}

/// Makes the image of code that was assembled for [`TEXT_OFFSET`].
pub fn image(text: &Text) -> Vec<u8> {
    let mut image = Image::new();
    let flags = elf::SHF_ALLOC | elf::SHF_EXECINSTR;
    image.add(Section { name: ".text", flags, align: ALIGN as u64, ..LOADED }, &text.bytes);
    let dynamic = add_tables(&mut image, text);
    let frame_index = add_frames(&mut image, text);
    let loaded = Range { start: 0, bytes: image.bytes.len() as u64 };
    image.add_names();

    let Image { mut bytes, headers, .. } = image;
    let section_headers = (bytes.len() as u64).next_multiple_of(8);
    let out = header(section_headers, headers.0.len() as u64 / SECTION_HEADER_BYTES);
    let out = program_header(out, elf::PT_LOAD, elf::PF_R | elf::PF_X, loaded, PAGE);
    let out = program_header(out, elf::PT_DYNAMIC, elf::PF_R, dynamic, 8);
    let out = program_header(out, elf::PT_GNU_EH_FRAME, elf::PF_R, frame_index, 4);
    bytes[..TEXT_OFFSET as usize][..out.0.len()].copy_from_slice(&out.0);
    bytes.resize(section_headers as usize, 0);
    bytes.extend_from_slice(&headers.0);
    bytes.resize(bytes.len().next_multiple_of(PAGE as usize), 0);
    bytes
}
