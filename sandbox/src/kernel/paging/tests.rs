use proptest::prelude::*;

use super::testing::Flat;
use super::*;
use crate::x86::paging::LARGE;

const RW: u64 = 3;

fn level4(cr3: u64) -> kvm_sregs {
    kvm_sregs {
        cr0: cr0::PG | cr0::PE,
        cr3,
        cr4: cr4::PAE,
        efer: efer::LME | efer::LMA,
        ..Default::default()
    }
}

fn tables(paging: &Paging, memory: &Flat) -> Vec<u64> {
    let mut pages = Vec::new();
    paging.tables(memory, &mut |page| pages.push(page));
    let found = pages.len();
    pages.sort_unstable();
    pages.dedup();
    assert_eq!(pages.len(), found, "each once");
    pages
}

#[test]
fn modes() {
    let mode = |cr0, cr4, efer| Paging::of(&kvm_sregs { cr0, cr4, efer, ..Default::default() }).mode();
    assert_eq!(mode(1, cr4::PAE | cr4::LA57, efer::LME), Mode::None);
    assert_eq!(mode(cr0::PG, 0, 0), Mode::Bits32 { pse: false });
    assert_eq!(mode(cr0::PG, cr4::PSE, 0), Mode::Bits32 { pse: true });
    assert_eq!(mode(cr0::PG, cr4::PSE | cr4::PAE, 0), Mode::Pae);
    assert_eq!(mode(cr0::PG, cr4::PAE, efer::LME), Mode::Level4);
    assert_eq!(mode(cr0::PG, cr4::PAE | cr4::LA57, efer::LME), Mode::Level5);
}

#[test]
fn no_paging() {
    let memory = Flat::new(1);
    let paging = Paging::of(&kvm_sregs { cr3: 0x5000, ..Default::default() });
    assert_eq!(paging.translate(&memory, 0x1_1234_5678), Some(0x1234_5678));
    assert!(tables(&paging, &memory).is_empty());
}

#[test]
fn four_levels() {
    let mut memory = Flat::new(8);
    memory.entry(0x1000, 0, 0x2000 | RW);
    memory.entry(0x1000, 256, 0x2000 | RW);
    memory.entry(0x2000, 0, 0x3000 | RW);
    memory.entry(0x2000, 2, 0x1_4000_0000 | 1 << 12 | LARGE | RW); // 1 GiB, with PAT
    memory.entry(0x3000, 0, 0x4000 | RW);
    memory.entry(0x3000, 1, 1 << 63 | 0x60_0000 | LARGE | RW); // 2 MiB, not executable
    memory.entry(0x4000, 5, 0x7000 | LARGE | RW); // in the last level, bit 7 is PAT
    memory.entry(0x4000, 6, 0x7000 | RW & !1);
    // The PCID and LAM are no part of the address.
    let paging = Paging::of(&level4(1 << 61 | 0x1abc));
    let to = |linear| paging.translate(&memory, linear);
    assert_eq!(to(0x5123), Some(0x7123));
    assert_eq!(to(0xffff_8000_0000_5123), Some(0x7123));
    assert_eq!(to(0x6000), None, "not present");
    assert_eq!(to(0x2f_fedc), Some(0x6f_fedc));
    assert_eq!(to(0x8765_4321), Some(0x1_4765_4321));
    assert_eq!(to(0x0000_8000_0000_5123), None, "not canonical");
    assert_eq!(to(0x1_0000_0000_5123), None, "not canonical");
    assert_eq!(tables(&paging, &memory), [1, 2, 3, 4]);

    let mut walked = Vec::new();
    assert_eq!(paging.walk(&memory, 0x6000, &mut |page| walked.push(page)), None);
    assert_eq!(walked, [1, 2, 3, 4]);

    // Bit 7 is reserved above 1 GiB; and a table may lie outside memory.
    memory.entry(0x1000, 1, 0x2000 | LARGE | RW);
    memory.entry(0x1000, 2, 0xfee0_0000 | RW);
    assert_eq!(paging.translate(&memory, 1 << 39), None);
    assert_eq!(paging.translate(&memory, 2 << 39), None);
    assert_eq!(tables(&paging, &memory), [1, 2, 3, 4]);
}

#[test]
fn five_levels() {
    let mut memory = Flat::new(8);
    for level in 1..5 {
        memory.entry(level << 12, 511, (level + 1) << 12 | RW);
    }
    memory.entry(0x5000, 511, 0x7000 | RW);
    let paging = Paging::of(&kvm_sregs { cr4: cr4::PAE | cr4::LA57, ..level4(0x1000) });
    assert_eq!(paging.translate(&memory, !0), Some(0x7fff));
    assert_eq!(paging.translate(&memory, !0 >> 1), None, "not canonical");
    assert_eq!(paging.translate(&memory, 0x00ff_ffff_ffff_ffff), None, "canonical, but not mapped");
    assert_eq!(tables(&paging, &memory), [1, 2, 3, 4, 5]);
}

#[test]
fn pae() {
    let mut memory = Flat::new(8);
    // The topmost table need not be aligned to a page; behind it lies something else.
    memory.entry(0x1fe0 - 32, 0, 0x6000 | 1);
    memory.entry(0x1fe0, 0, 0x2000 | 1);
    memory.entry(0x1fe0, 3, 0x3000 | 1);
    memory.entry(0x2000, 1, 0x4000 | RW);
    memory.entry(0x3000, 511, 0x8_0020_0000 | LARGE | RW);
    memory.entry(0x4000, 0, 1 << 63 | 0x5000 | RW);
    let paging = Paging::of(&kvm_sregs { efer: 0, ..level4(0x1fe0) });
    assert_eq!(paging.mode(), Mode::Pae);
    assert_eq!(paging.translate(&memory, 0x20_0042), Some(0x5042));
    assert_eq!(paging.translate(&memory, 0xffff_ffff), Some(0x8_003f_ffff));
    assert_eq!(paging.translate(&memory, 0x4000_0000), None);
    assert_eq!(tables(&paging, &memory), [1, 2, 3, 4]);
}

#[test]
fn thirty_two_bits() {
    let mut memory = Flat::new(8);
    memory.entry_32(0x1000, 0, 0x2003);
    memory.entry_32(0x1000, 768, 0x2003);
    memory.entry_32(0x1000, 1, 0x00c0_0000 | 0x5 << 13 | 0x83); // 4 MiB, above 4 GiB by PSE-36
    memory.entry_32(0x1000, 2, 0x3083);
    memory.entry_32(0x2000, 1023, 0x7083);
    let sregs = kvm_sregs { cr0: cr0::PG | cr0::PE, cr3: 0x1018, cr4: cr4::PSE, ..Default::default() };
    let paging = Paging::of(&sregs);
    assert_eq!(paging.translate(&memory, 0x3f_f123), Some(0x7123));
    assert_eq!(paging.translate(&memory, 0xc03f_f123), Some(0x7123));
    assert_eq!(paging.translate(&memory, 0x7f_ffff), Some(0x5_00ff_ffff));
    assert_eq!(paging.translate(&memory, 0x3f_e000), None);
    assert_eq!(tables(&paging, &memory), [1, 2]);
    // Without PSE, bit 7 means nothing.
    let paging = Paging::of(&kvm_sregs { cr4: 0, ..sregs });
    assert_eq!(tables(&paging, &memory), [1, 2, 3]);
}

#[test]
fn a_table_that_points_to_itself() {
    let mut memory = Flat::new(4);
    memory.entry(0x1000, 510, 0x1000 | RW);
    memory.entry(0x1000, 0, 0x2000 | RW);
    memory.entry(0x2000, 0, 0x2000 | RW);
    let paging = Paging::of(&level4(0x1000));
    let itself = 0xffff_0000_0000_0000u64 | 510 << 39 | 510 << 30 | 510 << 21 | 510 << 12;
    assert_eq!(paging.translate(&memory, itself | 0xff8), Some(0x1ff8));
    assert_eq!(paging.translate(&memory, 0x123), Some(0x2123));
    assert_eq!(tables(&paging, &memory), [1, 2]);
}

#[test]
fn every_entry_to_every_table() {
    let mut memory = Flat::new(64);
    for page in 0..64 {
        for index in 0..512 {
            memory.entry(page << 12, index, ((page + index) % 64) << 12 | RW);
        }
    }
    let paging = Paging::of(&level4(0));
    assert_eq!(tables(&paging, &memory).len(), 64);
    assert!(memory.reads.get() <= 64 * 3);
}

proptest! {
    #[test]
    fn nothing_panics_or_takes_long(
        cr in any::<[u64; 3]>(),
        long in any::<bool>(),
        entries in prop::collection::vec((0u64..8 * 512, any::<u64>(), any::<bool>()), 0..512),
        linear in any::<u64>(),
    ) {
        let mut memory = Flat::new(8);
        for (index, value, near) in entries {
            memory.entry(0, index, if near { value & 0x7fff | 1 } else { value });
        }
        let efer = if long { efer::LME } else { 0 };
        for cr3 in [cr[1], cr[1] & 0x7fff] {
            let paging = Paging::of(&kvm_sregs { cr0: cr[0], cr3, cr4: cr[2], efer, ..Default::default() });
            memory.reads.set(0);
            paging.translate(&memory, linear);
            prop_assert!(memory.reads.get() <= 5);
            prop_assert!(tables(&paging, &memory).len() <= 8);
            prop_assert!(memory.reads.get() <= 5 + 8 * 5);
        }
    }
}
