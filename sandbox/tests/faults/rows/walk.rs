//! Walks of the guest's page tables.

use iced_x86::code_asm::*;

use super::{DONE, Row, row};
use crate::guest::*;

const WALK: &str =
    "`FNAME(walk_addr_generic)` (mmu/paging_tmpl.h), `__get_user`: as an entry that is not present, `#PF`";
const ACCESSED: &str =
    "`FNAME(update_accessed_dirty_bits)` (mmu/paging_tmpl.h), `__try_cmpxchg_user`: its table was just read";
const FETCH: &str =
    "`FNAME(fetch)`, `FNAME(gpte_changed)` (mmu/paging_tmpl.h), `kvm_vcpu_read_guest_atomic`: as `user-read`";
const NO_PAE: &str = "\
    not reachable: with all memory present, the guest stops as well, since paging without long mode is \
    refused";
const POINTERS: &str = "`load_pdptrs` (x86.c), `kvm_read_guest_page`: `#GP`";

fn read(a: &mut CodeAssembler) -> Code {
    a.mov(rbx, FAR)?;
    a.mov(rcx, qword_ptr(rbx + 8))?;
    exit(a, DONE)
}

fn write(a: &mut CodeAssembler) -> Code {
    a.mov(rbx, FAR)?;
    a.mov(qword_ptr(rbx + 8), 9)?;
    exit(a, DONE)
}

fn user() -> Guest {
    Guest::user(read)
}

fn kernel() -> Guest {
    Guest::kernel(read)
}

/// With tables in which no entry was used yet.
fn unused(mut guest: Guest) -> Guest {
    let link = |page: u64| at(page) | PRESENT | WRITABLE | USER;
    guest.words(at(FAR_PDPT), &[link(FAR_PD)]);
    guest.words(at(FAR_PD), &[link(FAR_PT)]);
    guest.words(at(FAR_PT), &[link(FAR_DATA)]);
    guest
}

pub const ROWS: &[Row] = &[
    row("user-walk-pml4", "CPL 3: walk, PML4 absent", WALK, &[PML4], user),
    row("user-walk-pdpt", "CPL 3: walk, PDPT absent", WALK, &[FAR_PDPT], user),
    row("user-walk-pd", "CPL 3: walk, PD absent", WALK, &[FAR_PD], user),
    row("user-walk-pt", "CPL 3: walk, PT absent", WALK, &[FAR_PT], user),
    row(
        "user-walk-all",
        "CPL 3: walk, all tables and the page absent",
        WALK,
        &[FAR_PDPT, FAR_PD, FAR_PT, FAR_DATA],
        user,
    ),
    row("user-walk-page", "CPL 3: walk, tables present, page absent", FETCH, &[FAR_DATA], user),
    row("kernel-walk-pml4", "CPL 0: walk, PML4 absent", WALK, &[PML4], kernel),
    row("kernel-walk-pdpt", "CPL 0: walk, PDPT absent", WALK, &[FAR_PDPT], kernel),
    row("kernel-walk-pd", "CPL 0: walk, PD absent", WALK, &[FAR_PD], kernel),
    row("kernel-walk-pt", "CPL 0: walk, PT absent", WALK, &[FAR_PT], kernel),
    row("kernel-walk-code", "CPL 0: walk to the code itself, PT absent", WALK, &[PT], kernel),
    row("user-accessed", "CPL 3: read, A clear at each level, page absent", ACCESSED, &[FAR_DATA], || {
        unused(Guest::user(read))
    }),
    row("user-dirty", "CPL 3: write, A and D clear, page absent", ACCESSED, &[FAR_DATA], || {
        unused(Guest::user(write))
    }),
    row("kernel-accessed", "CPL 0: read, A clear at each level, page absent", ACCESSED, &[FAR_DATA], || {
        unused(Guest::kernel(read))
    }),
    row("kernel-dirty", "CPL 0: write, A and D clear, page absent", ACCESSED, &[FAR_DATA], || {
        unused(Guest::kernel(write))
    }),
    row("accessed-absent", "CPL 3: read, A clear, the table absent", WALK, &[FAR_PT], || {
        unused(Guest::user(read))
    }),
    row("pae-cr3", "PAE paging, CPL 0: `mov cr3` to an absent topmost table", POINTERS, &[ROOT2], || {
        Guest::pae(|a| {
            a.mov(eax, at(ROOT2) as u32)?;
            a.mov(cr3, eax)?;
            exit(a, DONE)
        })
    })
    .needs(NO_PAE),
    row("pae-top", "PAE paging, CPL 0: topmost table absent", POINTERS, &[PDPT], || {
        Guest::pae(|a| exit(a, DONE))
    })
    .needs(NO_PAE),
    row("pae-walk", "PAE paging, CPL 0: walk, PD absent", WALK, &[PD], || Guest::pae(|a| exit(a, DONE)))
        .needs(NO_PAE),
];
