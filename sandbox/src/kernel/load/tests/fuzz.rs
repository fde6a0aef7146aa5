//! Images by chance and images that were changed: loading ends, soon, and what it says is true.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{bytes, half, word};
use crate::kernel::load::bzimage::BzImage;
use crate::kernel::load::testing::{
    BzImageFile, PROGRAM_HEADER, PROGRAM_HEADERS, code, elf, lz4_legacy, note_segment, pvh_note, segment,
    small_elf, small_pvh_elf, zstd,
};
use crate::kernel::load::unpack::unpack;
use crate::kernel::load::{Boot, Loaded, Protocol, load};
use crate::ram::{PAGE_SIZE, PageSource};

const MIB: u64 = 1 << 20;

/// The numbers at which something changes.
const BOUNDARIES: [u64; 24] = [
    0,
    1,
    2,
    0xfff,
    0x1000,
    0x6000,
    0x7000,
    0x9000,
    0x2_0000,
    0x9_fc00,
    0xf_ffff,
    0x10_0000,
    0x20_0000,
    0x3f_f000,
    0x40_0000,
    0x100_0000,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 63,
    u64::MAX - 0xfff,
    u64::MAX - 1,
    u64::MAX,
    0xffff_ffff_8000_0000,
];

/// A change of an image.
#[derive(Clone, Debug)]
enum Change {
    Bit(usize, u8),
    Byte(usize, u8),
    /// The first bytes of a number.
    Number(usize, u64, usize),
    Truncate(usize),
    Extend(Vec<u8>),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => prop::sample::select(&BOUNDARIES[..]),
        2 => (prop::sample::select(&BOUNDARIES[..]), -2i64..3).prop_map(|(n, by)| n.wrapping_add_signed(by)),
        1 => any::<u64>(),
        2 => 0u64..0x50_0000,
    ]
}

/// Changes in an image of `len` bytes, most of them in its headers.
fn changes(len: usize, headers: &'static [(usize, usize)]) -> impl Strategy<Value = Vec<Change>> {
    let place = move || {
        prop_oneof![
            8 => prop::sample::select(headers).prop_flat_map(|(from, to)| from..to),
            1 => 0..len,
        ]
    };
    let change = prop_oneof![
        3 => (place(), 0u8..8).prop_map(|(at, bit)| Change::Bit(at, bit)),
        2 => (place(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        8 => (place(), number(), prop::sample::select(vec![2usize, 4, 8]))
            .prop_map(|(at, number, size)| Change::Number(at / size * size, number, size)),
        1 => (0..len).prop_map(Change::Truncate),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Change::Extend),
    ];
    prop::collection::vec(change, 0..4)
}

fn change(mut image: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let mut put = |at: usize, bytes: &[u8]| {
            image.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
        };
        match change {
            Change::Bit(at, bit) => image.iter_mut().skip(*at).take(1).for_each(|byte| *byte ^= 1 << bit),
            Change::Byte(at, byte) => put(*at, &[*byte]),
            Change::Number(at, number, size) => put(*at, &number.to_le_bytes()[..*size]),
            Change::Truncate(len) => image.truncate(*len),
            Change::Extend(bytes) => image.extend(bytes),
        }
    }
    image
}

/// ELF images that are right in their form: whether they can be loaded is open.
fn any_elf() -> impl Strategy<Value = Vec<u8>> {
    let address = prop_oneof![
        2 => prop::sample::select(&BOUNDARIES[..16]),
        3 => (0u64..0x400).prop_map(|page| page * 0x1000),
        1 => 0u64..0x40_0000,
    ];
    let program = (address, 0usize..0x3000, 0u64..0x4000, prop::sample::select(vec![4u32, 5, 6, 7]));
    let program =
        program.prop_map(|(address, len, more, flags)| segment(flags, address, len as u64 + more, code(len)));
    let note = prop::option::of(number());
    (prop::collection::vec(program, 0..5), note, 0usize..6, 0u64..0x4000).prop_map(
        |(mut programs, note, which, into)| {
            let entry = programs.get(which).map_or(into, |program| program.address + into);
            programs.extend(note.map(|entry| note_segment(pvh_note(entry as u32))));
            elf(entry, &programs)
        },
    )
}

const ELF_HEADERS: &[(usize, usize)] =
    &[(0, PROGRAM_HEADERS), (PROGRAM_HEADERS, PROGRAM_HEADERS + 3 * PROGRAM_HEADER)];
/// With the notes.
const PVH_HEADERS: &[(usize, usize)] =
    &[(0, PROGRAM_HEADERS), (PROGRAM_HEADERS, PROGRAM_HEADERS + 3 * PROGRAM_HEADER), (0x2b1c, 0x2b1c + 60)];
const SETUP_HEADER: &[(usize, usize)] = &[(0x1f1, 0x26c), (0x206, 0x264)];
/// With the start of the payload.
const PACKED_HEADERS: &[(usize, usize)] = &[(0x1f1, 0x26c), (0xb00, 0xb20)];

fn image() -> impl Strategy<Value = Vec<u8>> {
    let changed = |image: Vec<u8>, headers| {
        changes(image.len(), headers).prop_map(move |changes| change(image.clone(), &changes))
    };
    let inside = small_pvh_elf();
    prop_oneof![
        4 => any_elf(),
        4 => changed(small_elf(), ELF_HEADERS),
        4 => changed(small_pvh_elf(), PVH_HEADERS),
        4 => changed(BzImageFile::small().build(), SETUP_HEADER),
        2 => changed(BzImageFile::packed(&lz4_legacy(&inside)).build(), PACKED_HEADERS),
        2 => changed(BzImageFile::packed(&zstd(&inside)).build(), PACKED_HEADERS),
        1 => prop::collection::vec(any::<u8>(), 0..2048),
        1 => prop::collection::vec(any::<u8>(), 0..256)
            .prop_map(|bytes| [&b"\x7fELF\x02\x01\x01"[..], &bytes].concat()),
    ]
}

/// What is loaded how, without the image.
#[derive(Clone, Debug)]
struct How {
    memory: u64,
    initrd: Option<usize>,
    cmdline: Vec<u8>,
    protocol: Option<Protocol>,
    unpack: bool,
}

fn how() -> impl Strategy<Value = How> {
    (
        prop::sample::select(vec![4 * MIB, 4 * MIB, 2 * MIB, 5 * MIB + 4096, 16 * MIB]),
        prop_oneof![
            4 => Just(None),
            4 => (0usize..10_000).prop_map(Some),
            1 => (0usize..5 << 20).prop_map(Some),
        ],
        prop_oneof![
            8 => prop::collection::vec(1u8..=255, 0..80),
            1 => prop::collection::vec(0u8..4, 0..2100),
            1 => prop::collection::vec(1u8..4, 2000..2100),
        ],
        prop_oneof![
            6 => Just(None),
            1 => Just(Some(Protocol::Linux64)),
            1 => Just(Some(Protocol::Pvh)),
        ],
        any::<bool>(),
    )
        .prop_map(|(memory, initrd, cmdline, protocol, unpack)| How {
            memory,
            initrd,
            cmdline,
            protocol,
            unpack,
        })
}

fn number_at(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
}

/// Checks the segments of an ELF image, read anew, and that the entry is in one.
fn check_elf(image: &[u8], loaded: &Loaded) {
    let (headers, count) = (number_at(image, 32) as usize, u16::from_le_bytes([image[56], image[57]]));
    let mut entered = 0;
    for index in 0..usize::from(count) {
        let at = headers + index * PROGRAM_HEADER;
        let field = |offset: usize| number_at(image, at + offset);
        let (kind, flags) = (field(0) as u32, (field(0) >> 32) as u32);
        if kind != 1 {
            continue;
        }
        let (offset, address, len, memory) = (field(8) as usize, field(24), field(32) as usize, field(40));
        let there = bytes(loaded, address..address + memory);
        // Without a print of both.
        assert!(len == 0 || there[..len] == image[offset..offset + len], "segment {index}");
        assert!(there[len..].iter().all(|byte| *byte == 0), "segment {index}");
        let range = address..address + memory;
        entered += usize::from(flags & 1 != 0 && range.contains(&loaded.regs.rip));
        if let Some(initrd) = &loaded.initrd {
            assert!(range.is_empty() || initrd.end <= range.start || range.end <= initrd.start);
        }
    }
    assert_eq!(entered, 1);
    if loaded.protocol == Protocol::Linux64 {
        assert_eq!(loaded.regs.rip, number_at(image, 24));
    }
}

fn check_bzimage(image: &[u8], loaded: &Loaded) {
    let parsed = BzImage::parse(image).unwrap();
    let [code] = &loaded.code[..] else { panic!("{:x?}", loaded.code) };
    assert!(bytes(loaded, code.clone()) == parsed.kernel());
    assert_eq!(loaded.regs.rip, code.start + 0x200);
    assert!(code.contains(&loaded.regs.rip));
    let needs = parsed.needs(loaded.memory.len()).unwrap();
    assert!(needs.start <= code.start && code.end <= needs.end);
    if let Some(initrd) = &loaded.initrd {
        assert!(initrd.end <= needs.start || needs.end <= initrd.start);
        assert!(initrd.end - 1 <= u64::from(parsed.header.initrd_addr_max));
    }
    // The header is the image's own up to the fields that are the boot loader's.
    assert_eq!(bytes(loaded, 0x71f1..0x7210), image[0x1f1..0x210]);
    assert_eq!(bytes(loaded, 0x722c..0x7250), image[0x22c..0x250]);
}

/// Checks what the monitor itself puts into memory.
fn check_boot_area(how: &How, loaded: &Loaded) {
    let cmdline = bytes(loaded, 0x2_0000..0x2_0001 + how.cmdline.len() as u64);
    assert_eq!(cmdline, [&how.cmdline[..], &[0]].concat());
    let long = loaded.protocol == Protocol::Linux64;
    let code = if long { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff };
    let gdt: Vec<u64> = (0..4).map(|index| word(loaded, 0x500 + index * 8)).collect();
    assert_eq!(gdt, [0, 0x0000_8b00_0000_0067, code, 0x00cf_9300_0000_ffff]);
    let initrd = loaded.initrd.clone().unwrap_or(0..0);
    let at = if long {
        assert_eq!((word(loaded, 0x9000), word(loaded, 0xa000)), (0xa023, 0xb023));
        assert!((0..512).all(|index| word(loaded, 0xb000 + index * 8) == index << 21 | 0xe3));
        assert_eq!(bytes(loaded, 0x8000..0x9000), [0; 4096]);
        assert_eq!((half(loaded, 0x7202), half(loaded, 0x7228)), (0x5372_6448, 0x2_0000));
        assert_eq!(u64::from(half(loaded, 0x7218)), initrd.start);
        assert_eq!(u64::from(half(loaded, 0x721c)), initrd.end - initrd.start);
        0x72d0 + 2 * 20
    } else {
        assert_eq!((half(loaded, 0x6000), word(loaded, 0x6018)), (0x336e_c578, 0x2_0000));
        assert_eq!(half(loaded, 0x600c), u32::from(loaded.initrd.is_some()));
        word(loaded, 0x6028) + 2 * 24
    };
    assert_eq!((word(loaded, at), word(loaded, at + 8)), (MIB, how.memory - MIB));
}

/// Checks that the pages are what was read, and those without content zeros.
fn check_pages(loaded: &Loaded) {
    let mut page = [0; PAGE_SIZE];
    for number in 0..loaded.memory.len() / PAGE_SIZE as u64 {
        loaded.memory.fetch(number, &mut page).unwrap();
        assert_eq!(loaded.memory.has_content(number).unwrap(), page != [0; PAGE_SIZE], "page {number:#x}");
    }
}

fn check(image: &[u8], how: &How) -> bool {
    let initrd = how.initrd.map(code);
    let boot = Boot {
        image,
        initrd: initrd.as_deref(),
        cmdline: &how.cmdline,
        memory: how.memory,
        protocol: how.protocol,
        unpack: how.unpack,
    };
    let started = Instant::now();
    let result = load(&boot);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let Ok(loaded) = result else { return false };
    assert_eq!(loaded.memory.len(), how.memory);
    assert!(how.protocol.is_none_or(|asked| asked == loaded.protocol));
    assert!(loaded.code.iter().any(|code| code.contains(&loaded.regs.rip) && code.end <= how.memory));
    assert_eq!(loaded.initrd.is_some(), initrd.as_ref().is_some_and(|initrd| !initrd.is_empty()));
    if let (Some(range), Some(initrd)) = (&loaded.initrd, &initrd) {
        assert!(range.start >= MIB && range.start % 4096 == 0);
        assert!(&bytes(&loaded, range.clone()) == initrd);
    }
    check_boot_area(how, &loaded);
    match (image.starts_with(b"\x7fELF"), how.unpack) {
        (true, _) => check_elf(image, &loaded),
        (false, true) => check_elf(&unpack(&BzImage::parse(image).unwrap()).unwrap(), &loaded),
        (false, false) => check_bzimage(image, &loaded),
    }
    check_pages(&loaded);
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_image(image in image(), how in how()) {
        check(&image, &how);
    }
}

/// The checks above are of use only if enough images are loaded.
#[test]
fn images_that_were_not_changed() {
    let inside = small_pvh_elf();
    let how =
        How { memory: 4 * MIB, initrd: Some(9000), cmdline: b"a b".into(), protocol: None, unpack: false };
    for image in [small_elf(), small_pvh_elf(), BzImageFile::small().build()] {
        assert!(check(&image, &how));
    }
    for packed in [lz4_legacy(&inside), zstd(&inside)] {
        assert!(check(&BzImageFile::packed(&packed).build(), &How { unpack: true, ..how.clone() }));
    }
}
