use std::collections::BTreeMap;

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use proptest::prelude::*;

use super::*;
use crate::kernel::paging::testing::Flat;
use crate::machine::Search;
use crate::ram::PAGE_SIZE;

const RW: u64 = 3;
const PAGES: u64 = 64;

/// A machine in 64-bit mode: memory mapped from 0 up one to one by the tables in pages 1 to 4, a GDT
/// in page 5, an IDT in 6, a TSS that begins at the end of 7, a stack that ends in 10, and another
/// address space with its tables in pages 20 to 23.
struct Machine {
    memory: Flat,
    regs: kvm_regs,
    sregs: kvm_sregs,
    msrs: Vec<(u32, u64)>,
}

impl Machine {
    fn new() -> Machine {
        let mut memory = Flat::new(PAGES as usize);
        for first in [0x1000, 0x14000] {
            for level in 0..3 {
                memory.entry(first + (level << 12), 0, (first + ((level + 1) << 12)) | RW);
            }
        }
        for page in 0..PAGES {
            memory.entry(0x4000, page, page << 12 | RW);
        }
        memory.entry(0x17000, 3, 0x18000 | 1 << 63 | 0x67);
        // RSP0, and IST1; the others are not set.
        memory.set(0x7ff0 + 4, &0x3_0000u64.to_le_bytes());
        memory.set(0x7ff0 + 36, &0x3_2800u64.to_le_bytes());
        memory.set(0x18000, b"Not a table. One is rarely made of text like this.");
        let segment =
            |base, limit, type_| kvm_segment { base, limit, type_, present: 1, ..Default::default() };
        Machine {
            memory,
            regs: kvm_regs { rip: 0x2_0000, rsp: 0xa800, ..Default::default() },
            sregs: kvm_sregs {
                cr0: 1 << 31 | 1,
                cr3: 0x1000,
                cr4: 1 << 5,
                efer: 1 << 8 | 1 << 10,
                gdt: kvm_dtable { base: 0x5800, limit: 0x37, ..Default::default() },
                idt: kvm_dtable { base: 0x6000, limit: 0xfff, ..Default::default() },
                tr: segment(0x7ff0, 0x67, 11),
                cs: kvm_segment { l: 1, base: 0x1234_5000, ..Default::default() },
                ss: kvm_segment { base: 0x1234_5000, ..Default::default() },
                ..Default::default()
            },
            msrs: vec![(0x4b56_4d01, 0x2_8041), (0x4b56_4d03, 0x2_9000)],
        }
    }

    fn cpu(&self) -> Cpu<'_> {
        Cpu { regs: &self.regs, sregs: &self.sregs, msrs: &self.msrs }
    }

    fn find(&self, search: Search) -> Kept {
        let zero = |page: &u64| self.memory.page(*page).iter().all(|byte| *byte == 0);
        let may_hold: Vec<u64> = (0..PAGES).filter(|page| !zero(page)).collect();
        let kept = find(&self.cpu(), &self.memory, PAGES, &may_hold, search);
        assert!(kept.is_valid(PAGES));
        kept
    }
}

/// What the CPU itself uses in [`Machine`].
fn of_the_cpu() -> Vec<(u64, Why)> {
    vec![
        (1, Why::PageTable),
        (2, Why::PageTable),
        (3, Why::PageTable),
        (4, Why::PageTable),
        (5, Why::DescriptorTable),
        (6, Why::DescriptorTable),
        (7, Why::TaskState),
        (8, Why::TaskState),
        (9, Why::Stack),
        (10, Why::Stack),
        (0x28, Why::Msr),
        (0x2f, Why::Stack),
        (0x31, Why::Stack),
        (0x32, Why::Stack),
    ]
}

#[test]
fn what_the_cpu_uses() {
    let machine = Machine::new();
    assert_eq!(machine.find(Search::Hardware).iter().collect::<Vec<_>>(), of_the_cpu());
    let now = read_by_kvm(&machine.cpu(), &machine.memory);
    assert_eq!(now.into_iter().collect::<Vec<_>>(), of_the_cpu());
}

#[test]
fn another_address_space() {
    let machine = Machine::new();
    let kept = machine.find(Search::Shadow);
    let mut expected = of_the_cpu();
    expected.extend((20..24).map(|page| (page, Why::MaybePageTable)));
    expected.sort_unstable();
    assert_eq!(kept.iter().collect::<Vec<_>>(), expected);
    assert_eq!(kept.len(), 18);
    let counts = [
        (Why::PageTable, 4),
        (Why::DescriptorTable, 2),
        (Why::TaskState, 2),
        (Why::Stack, 5),
        (Why::Msr, 1),
        (Why::MaybePageTable, 4),
    ];
    assert_eq!(kept.by_reason(), BTreeMap::from(counts));
    for page in 0..PAGES + 2 {
        assert_eq!(kept.contains(page), expected.iter().any(|(kept, _)| *kept == page), "{page}");
    }
    // A table of the current address space that no walk of the CPU leads through.
    let mut machine = machine;
    machine.memory.entry(0x1000, 8, 0x19000 | RW);
    assert!(machine.find(Search::Shadow).iter().any(|kept| kept == (25, Why::PageTable)));
    assert!(!machine.find(Search::Hardware).contains(25));
}

#[test]
fn nothing() {
    let kept = Machine::new().find(Search::Off);
    assert_eq!((kept.len(), kept.is_empty(), kept.contains(1)), (0, true, false));
    assert_eq!(kept, Kept::default());
}

#[test]
fn large_limits() {
    let mut machine = Machine::new();
    machine.sregs.gdt = kvm_dtable { base: 0x1_0800, limit: 0xffff, ..Default::default() };
    machine.sregs.ldt =
        kvm_segment { base: 0x2_1000, limit: 0xf_ffff, type_: 2, present: 1, ..Default::default() };
    machine.sregs.idt = kvm_dtable { base: 0x6000, limit: 0xffff, ..Default::default() };
    machine.sregs.tr.limit = u32::MAX;
    let kept = machine.find(Search::Hardware);
    let pages = |why| kept.iter().filter(|kept| kept.1 == why).map(|kept| kept.0).collect::<Vec<_>>();
    // Each to its end, and what of it is used at most.
    assert_eq!(pages(Why::DescriptorTable), [6].into_iter().chain(0x10..=0x30).collect::<Vec<_>>());
    assert_eq!(pages(Why::TaskState), [7, 8, 9, 10, 11]);
    // Without a task register and an LDT.
    machine.sregs.ldt.unusable = 1;
    machine.sregs.tr.present = 0;
    let kept = machine.find(Search::Hardware).by_reason();
    assert_eq!(kept.get(&Why::TaskState), None);
    assert_eq!((kept[&Why::DescriptorTable], kept[&Why::Stack]), (18, 2));
}

#[test]
fn without_paging() {
    // A PC that starts: real mode, and the registers of a reset (SDM volume 3, table 10-1).
    let mut machine = Machine::new();
    machine.sregs = kvm_sregs {
        cs: kvm_segment { base: 0xf_0000, limit: 0xffff, ..Default::default() },
        ss: kvm_segment { base: 0x2_0000, limit: 0xffff, ..Default::default() },
        gdt: kvm_dtable { base: 0, limit: 0xffff, ..Default::default() },
        idt: kvm_dtable { base: 0, limit: 0xffff, ..Default::default() },
        ..Default::default()
    };
    machine.regs.rsp = 0xdead_2000;
    let kept = machine.find(Search::Shadow);
    assert!(kept.iter().all(|kept| kept.1 != Why::PageTable));
    assert!([0, 15, 0x21, 0x22].into_iter().all(|page| kept.contains(page)));
    // Tables that are made before paging is turned on.
    assert!((20..24).all(|page| kept.contains(page)));
    assert!(!kept.contains(24));
}

#[test]
fn pae_and_32_bits() {
    let mut machine = Machine::new();
    machine.sregs.efer = 0;
    machine.sregs.cr3 = 0x1_e020;
    machine.memory.entry(0x1_e020, 0, 0x3000 | 1);
    machine.regs.rsp = 0xffff_ffff_0000_a800;
    machine.sregs.ss = kvm_segment { db: 1, ..Default::default() };
    // ESP0 of a TSS of 32 bits; the words beside it are no part of it, and there is no IST.
    machine.memory.set(0x7ff4, &0x10_0003_0000u64.to_le_bytes());
    let kept = machine.find(Search::Shadow);
    let of = |page| kept.iter().find(|kept| kept.0 == page).map(|kept| kept.1);
    assert_eq!([0x1e, 3, 4].map(of), [Some(Why::PageTable); 3]);
    assert_eq!([9, 10, 0x2f].map(of), [Some(Why::Stack); 3]);
    assert_eq!([0x31, 0x32].map(of), [None; 2]);

    machine.sregs.cr4 = 0;
    machine.sregs.cr3 = 0x1_f000;
    machine.memory.entry_32(0x1_f000, 0, 0x2_0003);
    for page in 0..PAGES as u32 {
        machine.memory.entry_32(0x2_0000, page.into(), page << 12 | 3);
    }
    let kept = machine.find(Search::Shadow);
    let of = |page| kept.iter().find(|kept| kept.0 == page).map(|kept| kept.1);
    assert_eq!([0x1f, 0x20].map(of), [Some(Why::PageTable); 2]);
    assert_eq!([5, 9, 10].map(of), [Some(Why::DescriptorTable), Some(Why::Stack), Some(Why::Stack)]);
}

#[test]
fn files_are_not_believed() {
    let kept = Machine::new().find(Search::Shadow);
    let stored = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<Kept>(&stored).unwrap(), kept);
    assert!(!kept.is_valid(0x32));

    let forged = |runs: &[(u64, u64)]| Kept {
        runs: runs.iter().map(|(first, end)| KeptRun { first: *first, end: *end, why: Why::Msr }).collect(),
    };
    assert!(forged(&[]).is_valid(0));
    assert!(forged(&[(0, 1), (1, 3), (5, PAGES)]).is_valid(PAGES));
    for runs in [
        &[(3, 3)][..],
        &[(4, 3)],
        &[(0, PAGES + 1)],
        &[(5, 7), (3, 4)],
        &[(3, 6), (5, 7)],
        &[(3, 6), (3, 6)],
        &[(0, u64::MAX), (0, u64::MAX)],
    ] {
        let kept = forged(runs);
        assert!(!kept.is_valid(PAGES), "{runs:?}");
        // Whatever they say.
        kept.contains(5);
        kept.len();
        kept.by_reason();
        kept.iter().take(10).count();
    }
}

fn segment() -> impl Strategy<Value = kvm_segment> {
    (address(), any::<u32>(), any::<[u8; 4]>()).prop_map(|(base, limit, bits)| kvm_segment {
        base,
        limit,
        type_: bits[0] & 15,
        present: bits[1] & 1,
        db: bits[2] & 1,
        l: bits[2] >> 1 & 1,
        unusable: u8::from(bits[3] == 0),
        ..Default::default()
    })
}

/// Any address, often one in memory.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..PAGES * PAGE_SIZE as u64, Just(0), Just(!0)]
}

proptest! {
    #[test]
    fn nothing_panics_or_takes_long(
        control in any::<[u64; 3]>(),
        cr3 in address(),
        tables in prop::collection::vec((address(), any::<u16>()), 2),
        segments in prop::collection::vec(segment(), 4),
        (rip, rsp) in (address(), address()),
        entries in prop::collection::vec((0..PAGES * 512, address(), any::<u16>()), 0..2000),
        msrs in prop::collection::vec((prop_oneof![0x10u32..0x13, 0x4b56_4d00u32..0x4b56_4d05], address()), 0..8),
        may_hold in prop::collection::btree_set(prop_oneof![0..PAGES, any::<u64>()], 0..PAGES as usize),
    ) {
        let mut memory = Flat::new(PAGES as usize);
        for (index, address, flags) in entries {
            memory.entry(0, index, address & !0xfff | u64::from(flags & 0xfff));
        }
        let table = |n: usize| kvm_dtable { base: tables[n].0, limit: tables[n].1, ..Default::default() };
        let sregs = kvm_sregs {
            cr0: control[0], cr3, cr4: control[1], efer: control[2],
            gdt: table(0), idt: table(1),
            cs: segments[0], ss: segments[1], tr: segments[2], ldt: segments[3],
            ..Default::default()
        };
        let regs = kvm_regs { rip, rsp, ..Default::default() };
        let cpu = Cpu { regs: &regs, sregs: &sregs, msrs: &msrs };
        let may_hold: Vec<u64> = may_hold.into_iter().collect();
        for pages in [PAGES, 0, 7, u64::MAX] {
            memory.reads.set(0);
            let kept = find(&cpu, &memory, pages, &may_hold, Search::Shadow);
            prop_assert!(kept.is_valid(pages.min(PAGES)));
            // GDT, LDT, IDT, TSS, 11 stacks and an instruction; tables at 5 levels; the search.
            let walks = 17 + 17 + 2 + 5 + 11 * 5 + 1;
            prop_assert!(memory.reads.get() <= walks * 5 + PAGES * 5 + PAGES);
        }
    }
}
