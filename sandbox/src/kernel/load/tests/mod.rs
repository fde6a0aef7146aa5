//! Loading as a whole: what a guest finds in memory and registers.

mod fuzz;

use std::ops::Range;

use kvm_bindings::{kvm_regs, kvm_sregs};
use linux_loader::loader::bootparam::boot_params;
use vm_memory::ByteValued;

use super::testing::{BzImageFile, code, lz4_legacy, segment, small_elf, small_pvh_elf, with, zstd};
use super::{Boot, LoadError, Loaded, Protocol, load, testing};
use crate::ram::{PAGE_SIZE, PageSource};

const MIB: u64 = 1 << 20;

fn boot(image: &[u8]) -> Boot<'_> {
    Boot { image, initrd: None, cmdline: b"quiet", memory: 8 * MIB, protocol: None, unpack: false }
}

fn bytes(loaded: &Loaded, range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0xee; (range.end - range.start) as usize];
    loaded.memory.read(range.start, &mut bytes).unwrap();
    bytes
}

fn word(loaded: &Loaded, gpa: u64) -> u64 {
    u64::from_le_bytes(bytes(loaded, gpa..gpa + 8).try_into().unwrap())
}

fn half(loaded: &Loaded, gpa: u64) -> u32 {
    u32::from_le_bytes(bytes(loaded, gpa..gpa + 4).try_into().unwrap())
}

fn parameters(loaded: &Loaded) -> boot_params {
    boot_params::read_exact_from(&bytes(loaded, 0x7000..0x8000)[..]).unwrap()
}

#[test]
fn an_elf_image_by_the_linux_protocol() {
    let image = small_elf();
    let initrd = code(5000);
    let loaded = load(&Boot { initrd: Some(&initrd), ..boot(&image) }).unwrap();
    assert_eq!(loaded.protocol, Protocol::Linux64);
    let regs = kvm_regs { rip: 0x10_0010, rsi: 0x7000, rsp: 0x8ff0, rflags: 2, ..Default::default() };
    assert_eq!(loaded.regs, regs);
    assert_eq!(loaded.code, std::slice::from_ref(&(0x10_0000..0x10_1800)));
    assert_eq!(loaded.initrd, Some(8 * MIB - 8192..8 * MIB - 8192 + 5000));
    assert_eq!(bytes(&loaded, loaded.initrd.clone().unwrap()), initrd);
    assert_eq!(bytes(&loaded, 0x2_0000..0x2_0006), b"quiet\0");
    let parameters = parameters(&loaded);
    let header = parameters.hdr;
    assert_eq!(bytes(&loaded, 0x71fe..0x7200), [0x55, 0xaa]);
    assert_eq!(bytes(&loaded, 0x7202..0x7206), b"HdrS");
    assert_eq!({ header.type_of_loader }, 0xff);
    assert_eq!(({ header.cmd_line_ptr }, { header.cmdline_size }), (0x2_0000, 5));
    assert_eq!({ header.kernel_alignment }, 0x100_0000);
    assert_eq!(({ header.ramdisk_image }, { header.ramdisk_size }), (8 * MIB as u32 - 8192, 5000));
    assert_eq!((parameters.sentinel, parameters.e820_entries), (0, 3));
    let map: Vec<(u64, u64, u32)> =
        parameters.e820_table[..3].iter().map(|entry| (entry.addr, entry.size, entry.r#type)).collect();
    assert_eq!(map, [(0, 0x9_fc00, 1), (0x9_fc00, 0x6_0400, 2), (MIB, 7 * MIB, 1)]);
}

#[test]
fn an_elf_image_by_pvh() {
    let image = small_pvh_elf();
    let initrd = code(5000);
    let loaded = load(&Boot { initrd: Some(&initrd), ..boot(&image) }).unwrap();
    assert_eq!(loaded.protocol, Protocol::Pvh);
    assert_eq!(loaded.regs, kvm_regs { rip: 0x10_0020, rbx: 0x6000, rflags: 2, ..Default::default() });
    // struct hvm_start_info, by the offsets in start_info.h.
    let info: Vec<u32> = [0, 4, 8, 12].into_iter().map(|at| half(&loaded, 0x6000 + at)).collect();
    assert_eq!(info, [0x336e_c578, 1, 0, 1]);
    let (modules, map) = (word(&loaded, 0x6010), word(&loaded, 0x6028));
    assert_eq!((word(&loaded, 0x6018), word(&loaded, 0x6020), half(&loaded, 0x6030)), (0x2_0000, 0, 3));
    let module: Vec<u64> = (0..4).map(|index| word(&loaded, modules + index * 8)).collect();
    assert_eq!(module, [8 * MIB - 8192, 5000, 0, 0]);
    let entries: Vec<(u64, u64, u32)> = (0..3)
        .map(|index| map + index * 24)
        .map(|at| (word(&loaded, at), word(&loaded, at + 8), half(&loaded, at + 16)))
        .collect();
    assert_eq!(entries, [(0, 0x9_fc00, 1), (0x9_fc00, 0x6_0400, 2), (MIB, 7 * MIB, 1)]);
    assert_eq!(bytes(&loaded, 0x2_0000..0x2_0006), b"quiet\0");
}

#[test]
fn without_an_initrd() {
    let image = small_pvh_elf();
    for initrd in [None, Some(&[][..])] {
        let loaded = load(&Boot { initrd, ..boot(&image) }).unwrap();
        assert_eq!(loaded.initrd, None);
        assert_eq!((half(&loaded, 0x600c), word(&loaded, 0x6010)), (0, 0));
        let linux = Boot { initrd, protocol: Some(Protocol::Linux64), ..boot(&image) };
        let header = parameters(&load(&linux).unwrap()).hdr;
        assert_eq!(({ header.ramdisk_image }, { header.ramdisk_size }), (0, 0));
    }
}

#[test]
fn a_bzimage() {
    let image = BzImageFile::small().build();
    let initrd = code(5000);
    let loaded = load(&Boot { initrd: Some(&initrd), ..boot(&image) }).unwrap();
    assert_eq!((loaded.protocol, loaded.regs.rip, loaded.regs.rsi), (Protocol::Linux64, 0x20_0200, 0x7000));
    assert_eq!(loaded.code, std::slice::from_ref(&(0x20_0000..0x20_4000)));
    assert_eq!(bytes(&loaded, 0x20_0000..0x20_4000), code(0x4000));
    let header = parameters(&loaded).hdr;
    // Its own fields, and those that are the boot loader's.
    assert_eq!(
        ({ header.version }, { header.pref_address }, { header.init_size }),
        (0x20f, 0x20_0000, 0x10_0000)
    );
    assert_eq!(({ header.type_of_loader }, { header.code32_start }), (0xff, 0x20_0000));
    assert_eq!(({ header.cmd_line_ptr }, { header.cmdline_size }), (0x2_0000, 2047));
    assert_eq!(({ header.ramdisk_image }, { header.ramdisk_size }), (8 * MIB as u32 - 8192, 5000));
    // Not the code behind the header.
    assert_eq!(bytes(&loaded, 0x726c..0x7290), [0; 36]);
}

#[test]
fn the_elf_image_inside_a_bzimage() {
    let inside = small_pvh_elf();
    for packed in [lz4_legacy(&inside), zstd(&inside)] {
        let image = BzImageFile::packed(&packed).build();
        let loaded = load(&Boot { unpack: true, ..boot(&image) }).unwrap();
        assert_eq!((loaded.protocol, loaded.regs.rip), (Protocol::Pvh, 0x10_0020));
        assert_eq!(bytes(&loaded, 0x10_0000..0x10_1800), code(0x1800));
        let linux = Boot { unpack: true, protocol: Some(Protocol::Linux64), ..boot(&image) };
        assert_eq!(load(&linux).unwrap().regs.rip, 0x10_0010);
        // Without unpacking, there is no such entry.
        let pvh = Boot { protocol: Some(Protocol::Pvh), ..boot(&image) };
        assert!(matches!(load(&pvh), Err(LoadError::NoPvhEntry { image: "the bzImage" })));
    }
    // There is nothing to unpack.
    load(&Boot { unpack: true, ..boot(&inside) }).unwrap();
}

#[test]
fn pages_that_hold_something() {
    let image = small_elf();
    let loaded = load(&boot(&image)).unwrap();
    let pages = 0..8 * MIB / PAGE_SIZE as u64;
    let have: Vec<u64> = pages.filter(|page| loaded.memory.has_content(*page).unwrap()).collect();
    assert_eq!(have, [0, 7, 9, 10, 11, 0x20, 0x100, 0x101, 0x102, 0x103]);
}

#[test]
fn system_registers() {
    let image = small_pvh_elf();
    let mut sregs = kvm_sregs { cr0: 0x6000_0010, ..Default::default() };
    load(&boot(&image)).unwrap().set_system(&mut sregs);
    assert_eq!((sregs.cr0, sregs.efer, sregs.cs.db), (0x11, 0, 1));
    let linux = Boot { protocol: Some(Protocol::Linux64), ..boot(&image) };
    load(&linux).unwrap().set_system(&mut sregs);
    assert_eq!((sregs.cr0 >> 31, sregs.efer, sregs.cs.l), (1, 0x500, 1));
}

#[test]
fn sizes_of_memory() {
    let image = small_elf();
    for memory in [0, 2 * MIB - 4096, 2 * MIB + 1, 3072 * MIB + 4096, u64::MAX] {
        assert!(matches!(
            load(&Boot { memory, ..boot(&image) }),
            Err(LoadError::Memory { bytes }) if bytes == memory
        ));
    }
    for memory in [2 * MIB, 2 * MIB + 4096, 3072 * MIB] {
        load(&Boot { memory, ..boot(&image) }).unwrap();
    }
}

#[test]
fn command_lines() {
    let elf = small_elf();
    let short = with(BzImageFile::small().build(), 0x238, &255u32.to_le_bytes());
    let endless = with(BzImageFile::small().build(), 0x238, &[0xff; 4]);
    for (image, max) in [(&elf, 2047), (&short, 255), (&endless, 2047)] {
        let line = vec![b'x'; max + 1];
        let loaded = load(&Boot { cmdline: &line[..max], ..boot(image) }).unwrap();
        assert_eq!(bytes(&loaded, 0x2_0000..0x2_0001 + max as u64), [&line[..max], &[0]].concat());
        assert!(matches!(
            load(&Boot { cmdline: &line, ..boot(image) }),
            Err(LoadError::CommandLineLong { len, max: m }) if len == max + 1 && m == max
        ));
    }
    let nul = Boot { cmdline: b"a\0b", ..boot(&elf) };
    assert!(matches!(load(&nul), Err(LoadError::CommandLineNul { at: 1 })));
}

#[test]
fn initrds_are_clear_of_the_kernel() {
    // A segment at the end of memory, of zeros only.
    let programs = [segment(5, MIB, 0x1000, code(16)), segment(6, 6 * MIB, 2 * MIB, Vec::new())];
    let image = testing::elf(MIB, &programs);
    let initrd = vec![7; 4 * MIB as usize];
    let place = |len: u64| {
        let initrd = &initrd[..len as usize];
        load(&Boot { initrd: Some(initrd), ..boot(&image) }).map(|loaded| loaded.initrd.unwrap())
    };
    assert_eq!(place(4096).unwrap(), 6 * MIB - 4096..6 * MIB);
    assert_eq!(place(4 * MIB).unwrap(), 2 * MIB..6 * MIB);
    let initrd = vec![7; 5 * MIB as usize];
    assert!(matches!(
        load(&Boot { initrd: Some(&initrd), ..boot(&image) }),
        Err(LoadError::Initrd { len, limit }) if len == 5 * MIB && limit == 8 * MIB
    ));
}

#[test]
fn initrds_are_clear_of_what_a_bzimage_needs() {
    let initrd = vec![7; 4 * MIB as usize];
    let place = |image: &[u8]| {
        load(&Boot { initrd: Some(&initrd), ..boot(image) }).map(|loaded| loaded.initrd.unwrap())
    };
    let image = BzImageFile::small().build();
    assert_eq!(place(&image).unwrap(), 4 * MIB..8 * MIB);
    let low = with(image.clone(), 0x22c, &(7 * MIB as u32 - 1).to_le_bytes());
    assert_eq!(place(&low).unwrap(), 3 * MIB..7 * MIB);
    let too_low = with(image, 0x22c, &(7 * MIB as u32 - 2).to_le_bytes());
    assert!(matches!(place(&too_low), Err(LoadError::Initrd { limit, .. }) if limit == 7 * MIB - 1));
    let large = BzImageFile { init_size: 5 * MIB as u32, ..BzImageFile::small() }.build();
    assert!(matches!(place(&large), Err(LoadError::Initrd { .. })));
}

#[test]
fn the_boot_area_is_left_alone() {
    for (address, what) in [
        (0, "the GDT"),
        (0x7000, "the boot parameters"),
        (0x8fff, "the boot stack"),
        (0xbfff, "the page tables"),
        (0x2_0000, "the command line"),
    ] {
        let image = testing::elf(address, &[segment(5, address, 0x1000, code(16))]);
        match load(&boot(&image)) {
            Err(LoadError::BootArea { what: w, start, .. }) => assert_eq!((w, start), (what, address)),
            other => panic!("{other:?}"),
        }
    }
    // Small guests lie between.
    for address in [0x1000, 0xc000, 0x2_1000, 0x9_f000, 0xf_f000] {
        let image = testing::elf(address, &[segment(5, address, 0x1000, code(16))]);
        assert_eq!(load(&boot(&image)).unwrap().regs.rip, address);
    }
    // Each protocol has its own: PVH neither page tables nor a stack.
    let programs = |address| {
        [segment(5, address, 16, code(16)), testing::note_segment(testing::pvh_note(address as u32))]
    };
    load(&boot(&testing::elf(0x9000, &programs(0x9000)))).unwrap();
    let image = testing::elf(0x6000, &programs(0x6000));
    assert!(matches!(
        load(&boot(&image)),
        Err(LoadError::BootArea { what: "the PVH start information", .. })
    ));
    load(&Boot { protocol: Some(Protocol::Linux64), ..boot(&image) }).unwrap();
    let image = BzImageFile { address: 0x1_0000, ..BzImageFile::small() }.build();
    let fixed = with(image, 0x234, &[0]);
    assert!(matches!(load(&boot(&fixed)), Err(LoadError::BootArea { what: "the command line", .. })));
}
