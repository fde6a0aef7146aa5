use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Object, ObjectSection, ObjectSymbol};

use super::*;

/// Each function with its weak name.
const NAMES: [(&str, &str); 5] = [
    ("__vdso_clock_gettime", "clock_gettime"),
    ("__vdso_gettimeofday", "gettimeofday"),
    ("__vdso_time", "time"),
    ("__vdso_clock_getres", "clock_getres"),
    ("__vdso_getcpu", "getcpu"),
];
const SIGRETURN: &str = "__dejavm_sigreturn";
/// The hash of `LINUX_2.6` that Go and glibc have as a constant.
const VERSION_HASH: u32 = 0x3ae_75f6;

/// Makes the image, and says where the signal trampoline is.
fn build() -> (Vec<u8>, u64) {
    let text = code::text(super::elf::TEXT_OFFSET);
    (super::elf::image(&text), text.sigreturn.offset)
}

#[test]
fn the_image_is_what_its_code_makes() {
    assert!(
        build() == (IMAGE.to_vec(), SIGRETURN_OFFSET),
        "write it anew: cargo test -p dejavm-sandbox --lib write_the_image -- --ignored"
    );
}

#[test]
#[ignore = "writes src/program/vdso/image.bin"]
fn write_the_image() {
    let (image, sigreturn) = build();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/program/vdso/image.bin");
    std::fs::write(path, image).unwrap();
    println!("SIGRETURN_OFFSET: {sigreturn:#x}");
}

fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().flat_map(|(name, alias)| [name, alias]).chain([SIGRETURN])
}

fn u16_at(image: &[u8], at: u64) -> u16 {
    u16::from_le_bytes(image[at as usize..][..2].try_into().unwrap())
}

fn u32_at(image: &[u8], at: u64) -> u32 {
    u32::from_le_bytes(image[at as usize..][..4].try_into().unwrap())
}

fn u64_at(image: &[u8], at: u64) -> u64 {
    u64::from_le_bytes(image[at as usize..][..8].try_into().unwrap())
}

fn string_at(image: &[u8], at: u64) -> &str {
    let bytes = &image[at as usize..];
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    std::str::from_utf8(&bytes[..end]).unwrap()
}

/// Address and size of the first program header of a type.
fn program_header(image: &[u8], kind: u32) -> (u64, u64) {
    let (start, count) = (u64_at(image, 32), u64::from(u16_at(image, 56)));
    let at = (0..count).map(|i| start + i * 56).find(|at| u32_at(image, *at) == kind).unwrap();
    assert_eq!(u64_at(image, at + 8), u64_at(image, at + 16), "file offset is address");
    (u64_at(image, at + 16), u64_at(image, at + 40))
}

/// The value of a dynamic tag, found as a C library finds it: from the program headers.
fn tag(image: &[u8], wanted: u64) -> u64 {
    let (start, bytes) = program_header(image, 2);
    (start..start + bytes)
        .step_by(16)
        .find(|at| u64_at(image, *at) == wanted)
        .map(|at| u64_at(image, at + 8))
        .unwrap()
}

const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERDEF: u64 = 0x6fff_fffc;

fn symbol_name(image: &[u8], index: u32) -> &str {
    let name = u32_at(image, tag(image, DT_SYMTAB) + u64::from(index) * 24);
    string_at(image, tag(image, DT_STRTAB) + u64::from(name))
}

fn symbol_value(image: &[u8], index: u32) -> u64 {
    u64_at(image, tag(image, DT_SYMTAB) + u64::from(index) * 24 + 8)
}

/// The hash of the System V gABI, as it is printed there.
fn sysv_hash(name: &str) -> u32 {
    let mut hash = 0u32;
    for byte in name.bytes() {
        hash = (hash << 4) + u32::from(byte);
        let high = hash & 0xf000_0000;
        hash ^= high >> 24;
        hash &= !high;
    }
    hash
}

fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| (hash << 5).wrapping_add(hash).wrapping_add(byte.into()))
}

/// Looks a symbol up in `DT_HASH`.
fn by_hash(image: &[u8], name: &str) -> Option<u32> {
    let table = tag(image, DT_HASH);
    let word = |index: u32| u32_at(image, table + u64::from(index) * 4);
    let (buckets, chains) = (word(0), word(1));
    let mut index = word(2 + sysv_hash(name) % buckets);
    while index != 0 {
        assert!(index < chains);
        if symbol_name(image, index) == name {
            return Some(index);
        }
        index = word(2 + buckets + index);
    }
    None
}

/// Looks a symbol up in `DT_GNU_HASH`, the Bloom filter first.
fn by_gnu_hash(image: &[u8], name: &str) -> Option<u32> {
    let table = tag(image, DT_GNU_HASH);
    let [buckets, base, words, shift] = [0, 4, 8, 12].map(|at| u32_at(image, table + at));
    let hash = gnu_hash(name);
    let bloom = u64_at(image, table + 16 + u64::from(hash / 64 % words) * 8);
    if bloom >> (hash % 64) & bloom >> ((hash >> shift) % 64) & 1 == 0 {
        return None;
    }
    let bucket_table = table + 16 + u64::from(words) * 8;
    let chain_table = bucket_table + u64::from(buckets) * 4;
    let mut index = u32_at(image, bucket_table + u64::from(hash % buckets) * 4);
    if index < base {
        return None;
    }
    loop {
        let entry = u32_at(image, chain_table + u64::from(index - base) * 4);
        if entry | 1 == hash | 1 && symbol_name(image, index) == name {
            return Some(index);
        }
        if entry & 1 == 1 {
            return None;
        }
        index += 1;
    }
}

/// The index of the version `LINUX_2.6`, found as musl and Go find it.
fn version_index(image: &[u8]) -> Option<u16> {
    const BASE: u16 = 1;
    let mut at = tag(image, DT_VERDEF);
    loop {
        let name = u32_at(image, at + u64::from(u32_at(image, at + 12)));
        let named = string_at(image, tag(image, DT_STRTAB) + u64::from(name)) == "LINUX_2.6";
        if u16_at(image, at + 2) & BASE == 0 && u32_at(image, at + 8) == VERSION_HASH && named {
            return Some(u16_at(image, at + 4));
        }
        match u32_at(image, at + 16) {
            0 => return None,
            next => at += u64::from(next),
        }
    }
}

fn functions() -> Vec<(&'static str, u64, Vec<Instruction>)> {
    let file = object::read::elf::ElfFile64::<LittleEndian>::parse(IMAGE).unwrap();
    let code = |name: &str| {
        let symbol = file.dynamic_symbols().find(|symbol| symbol.name() == Ok(name)).unwrap();
        let bytes = &IMAGE[symbol.address() as usize..][..symbol.size() as usize];
        let mut decoder =
            Decoder::with_ip(64, bytes, CLOCK_PAGE_BYTES + symbol.address(), DecoderOptions::NONE);
        (symbol.address(), decoder.iter().collect())
    };
    let all = NAMES.into_iter().map(|(name, _)| name).chain([SIGRETURN]);
    all.map(|name| (name, code(name).0, code(name).1)).collect()
}

#[test]
fn the_image_is_one_page() {
    assert_eq!(IMAGE.len(), 4096);
}

#[test]
fn an_elf_reader_finds_the_symbols() {
    let file = object::read::elf::ElfFile64::<LittleEndian>::parse(IMAGE).unwrap();
    let text = file.section_by_name(".text").unwrap();
    let symbol = |name: &str| file.dynamic_symbols().find(|symbol| symbol.name() == Ok(name)).unwrap();
    for (name, alias) in NAMES {
        assert!(!symbol(name).is_weak() && symbol(alias).is_weak());
        assert!(symbol(name).is_definition());
        assert_eq!(
            (symbol(name).address(), symbol(name).size()),
            (symbol(alias).address(), symbol(alias).size())
        );
        assert!((text.address()..text.address() + text.size()).contains(&symbol(name).address()));
    }
    assert_eq!(symbol(SIGRETURN).address(), SIGRETURN_OFFSET);
    assert_eq!(file.dynamic_symbols().count(), names().count());
}

#[test]
fn sections_agree_with_the_dynamic_tags() {
    let file = object::read::elf::ElfFile64::<LittleEndian>::parse(IMAGE).unwrap();
    let address = |name: &str| file.section_by_name(name).unwrap().address();
    let tags = [
        (DT_HASH, ".hash"),
        (DT_STRTAB, ".dynstr"),
        (DT_SYMTAB, ".dynsym"),
        (DT_GNU_HASH, ".gnu.hash"),
        (DT_VERSYM, ".gnu.version"),
        (DT_VERDEF, ".gnu.version_d"),
    ];
    for (number, section) in tags {
        assert_eq!(tag(IMAGE, number), address(section), "{section}");
    }
    assert_eq!(program_header(IMAGE, 2).0, address(".dynamic"));
    assert_eq!(program_header(IMAGE, elf::PT_GNU_EH_FRAME.0).0, address(".eh_frame_hdr"));
}

#[test]
fn an_elf_reader_finds_the_version_of_each_symbol() {
    let header = FileHeader64::<LittleEndian>::parse(IMAGE).unwrap();
    let sections = header.sections(LittleEndian, IMAGE).unwrap();
    let versions = sections.versions(LittleEndian, IMAGE).unwrap().unwrap();
    let symbols = sections.symbols(LittleEndian, IMAGE, elf::SHT_DYNSYM).unwrap();
    assert_eq!(symbols.len(), 1 + names().count());
    for index in (1..symbols.len()).map(object::SymbolIndex) {
        let version = versions.version_index(LittleEndian, index).index();
        let version = versions.version(version).unwrap().unwrap();
        assert_eq!((version.name(), version.hash()), (&b"LINUX_2.6"[..], VERSION_HASH));
    }
    let hash = sections.iter().find(|section| section.sh_type(LittleEndian) == elf::SHT_HASH);
    assert!(hash.unwrap().hash(LittleEndian, IMAGE).unwrap().is_some());
}

#[test]
fn both_hash_tables_find_every_name_at_its_version() {
    let image = IMAGE;
    let version = version_index(image).unwrap();
    for name in names() {
        let index = by_hash(image, name).unwrap_or_else(|| panic!("{name} in DT_HASH"));
        assert_eq!(by_gnu_hash(image, name), Some(index), "{name} in DT_GNU_HASH");
        assert_eq!(u16_at(image, tag(image, DT_VERSYM) + u64::from(index) * 2), version, "{name}");
        assert_ne!(symbol_value(image, index), 0);
    }
    for name in ["__vdso_getrandom", "", "LINUX_2.6", "clock"] {
        assert_eq!((by_hash(image, name), by_gnu_hash(image, name)), (None, None), "{name}");
    }
}

#[test]
fn the_dynamic_segment_is_not_writable() {
    let image = IMAGE;
    let (start, count) = (u64_at(image, 32), u64::from(u16_at(image, 56)));
    for at in (0..count).map(|i| start + i * 56) {
        let flags = elf::ProgramFlags(u32_at(image, at + 4));
        assert!(flags.contains(elf::PF_R) && !flags.contains(elf::PF_W));
    }
}

#[test]
fn functions_are_whole_and_leave_the_stack_alone() {
    for (name, _, code) in functions() {
        for instruction in &code {
            assert!(!instruction.is_invalid(), "{name}");
            assert_eq!(
                instruction.stack_pointer_increment(),
                if instruction.mnemonic() == Mnemonic::Ret { 8 } else { 0 }
            );
            let near = instruction.near_branch_target();
            assert!(near == 0 || code.iter().any(|target| target.ip() == near), "{name}: {instruction}");
        }
        let end = if name == SIGRETURN { FlowControl::Call } else { FlowControl::Return };
        assert_eq!(code.last().unwrap().flow_control(), end, "{name}");
    }
}

#[test]
fn functions_reach_the_clock_page_and_change_scratch_registers_only() {
    use iced_x86::{InstructionInfoFactory, OpAccess, Register};
    let scratch = [
        Register::RAX,
        Register::RCX,
        Register::RDX,
        Register::R8,
        Register::R11,
        Register::RSP,
        Register::RIP,
    ];
    let mut factory = InstructionInfoFactory::new();
    for (name, _, code) in functions() {
        let relative: Vec<_> =
            code.iter().filter(|instruction| instruction.is_ip_rel_memory_operand()).collect();
        assert_eq!(relative.len(), usize::from(name != SIGRETURN), "{name}");
        assert!(relative.iter().all(|instruction| instruction.ip_rel_memory_address() == 0), "{name}");
        for instruction in &code {
            for used in factory.info(instruction).used_registers() {
                let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
                assert!(
                    !written || scratch.contains(&used.register().full_register()),
                    "{name}: {instruction}"
                );
            }
        }
    }
}

#[test]
fn the_last_resort_of_each_function_is_its_system_call() {
    let numbers = [228, 96, 201, 229, 309, 15];
    for ((name, _, code), number) in functions().into_iter().zip(numbers) {
        let at = code.iter().position(|instruction| instruction.mnemonic() == Mnemonic::Syscall).unwrap();
        assert_eq!(code[at - 1].immediate(1), number, "{name}");
    }
}

#[test]
fn unwinders_know_the_trampoline() {
    let at = SIGRETURN_OFFSET as usize;
    assert_eq!(IMAGE[at..][..9], [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05]);
    // The byte before belongs to no function.
    assert_eq!(IMAGE[at - 1], 0xcc);
}

#[test]
fn the_unwind_index_covers_all_functions() {
    let image = IMAGE;
    let (index, _) = program_header(image, elf::PT_GNU_EH_FRAME.0);
    let relative = |at: u64, from: u64| from.wrapping_add(u32_at(image, at) as i32 as u64);
    let (first, entry) = (relative(index + 12, index), relative(index + 16, index));
    assert_eq!(relative(entry + 8, entry + 8), first);
    let length = u64::from(u32_at(image, entry + 12));
    let common = relative(index + 4, index + 4);
    assert_eq!(entry + 4 - u64::from(u32_at(image, entry + 4)), common);
    for (name, address, code) in functions() {
        let end = code.last().unwrap().next_ip() - CLOCK_PAGE_BYTES;
        let covered = first <= address && end <= first + length;
        assert_eq!(covered, name != SIGRETURN, "{name}");
    }
}

#[test]
fn clock_page_round_trips() {
    let page = ClockPage {
        monotonic_ns: 1,
        realtime_offset_ns: 2,
        step_ns: 3,
        mode: Mode::SystemCalls,
        limit_ns: 4,
    };
    let bytes = page.to_bytes();
    assert_eq!([0, 8, 16, 24, 32].map(|at| u64_at(&bytes, at)), [1, 2, 3, 1, 4]);
    assert_eq!(ClockPage::from_bytes(&bytes), page);
    assert_eq!(ClockPage::default().to_bytes(), [0; 40]);
    assert_eq!(ClockPage::from_bytes(&[0xff; 40]).mode, Mode::SystemCalls);
}
