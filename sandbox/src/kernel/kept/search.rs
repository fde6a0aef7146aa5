//! The search for pages that are to be kept.

use std::collections::BTreeMap;

use kvm_bindings::{kvm_regs, kvm_sregs};

use super::{Kept, Why, area, could_be_table, msr};
use crate::kernel::paging::{Paging, Physical};
use crate::machine::Search;
use crate::ram::PAGE_SIZE;

/// The most bits that a physical address has on any CPU (SDM volume 3, section 4.1.4). What the
/// guest believes, by its CPUID, may be less.
const MAX_PHYSICAL_BITS: u32 = 52;

/// What KVM was told: registers of a vCPU.
#[derive(Clone, Copy, Debug)]
pub struct Cpu<'a> {
    /// General registers.
    pub regs: &'a kvm_regs,
    /// System registers.
    pub sregs: &'a kvm_sregs,
    /// MSRs by number, with their values; those that name no page may be missing.
    pub msrs: &'a [(u32, u64)],
}

/// Finds the pages, among `pages` from address 0 up, that are to be kept present. `may_hold` are the
/// numbers of those that may hold anything but zeros.
///
/// Tables of other address spaces are looked for in `may_hold` by their content
/// ([`could_be_table`]), as nothing says where a guest keeps them. A page that is none now, and is
/// made one later, needs no keeping: the guest writes to it first, and that brings it in. For the
/// same reason a table without a present entry needs none: until it is written to, KVM gives the
/// guest the same page fault whether it finds such an entry, or finds that it cannot read one.
///
/// Reads each page of `may_hold` once, and tables of the current address space once for each level.
pub fn find(cpu: &Cpu<'_>, memory: &dyn Physical, pages: u64, may_hold: &[u64], search: Search) -> Kept {
    if search == Search::Off {
        return Kept::default();
    }
    let mut found: Vec<(u64, Why)> = read_by_kvm(cpu, memory).into_iter().collect();
    if search == Search::Shadow {
        let paging = Paging::of(cpu.sregs);
        paging.tables(memory, &mut |page| found.push((page, Why::PageTable)));
        let memory_bytes = pages.saturating_mul(PAGE_SIZE as u64);
        let mut content = [0u8; PAGE_SIZE];
        for page in may_hold.iter().copied().take_while(|page| *page < pages) {
            let Some(gpa) = page.checked_mul(PAGE_SIZE as u64) else { break };
            if memory.read(gpa, &mut content)
                && could_be_table(&content, paging.mode(), memory_bytes, MAX_PHYSICAL_BITS)
            {
                found.push((page, Why::MaybePageTable));
            }
        }
    }
    Kept::new(found, pages)
}

/// The pages in memory that KVM may be reading or writing at this moment, other than for an access
/// that the guest makes: descriptor tables, task state, stacks, the tables that the walks to those
/// and to RIP lead through (in PAE paging KVM reads the topmost one even when registers are set), and
/// what MSRs name. Some dozens as a rule, and a few hundred whatever the registers say.
///
/// But not the [own stack of #DF](double_fault_page), unless it is something else, too.
pub fn read_by_kvm(cpu: &Cpu<'_>, memory: &dyn Physical) -> BTreeMap<u64, Why> {
    let paging = Paging::of(cpu.sregs);
    let mut pages = BTreeMap::new();
    let mut add = |page: u64, why: Why| {
        let in_memory = page.checked_mul(PAGE_SIZE as u64).is_some_and(|gpa| memory.read(gpa, &mut []));
        if in_memory {
            let known = pages.entry(page).or_insert(why);
            *known = why.min(*known);
        }
    };
    let double_fault = double_fault_page(cpu, memory);
    for area in area::areas(cpu, &paging, memory) {
        for linear in area.pages() {
            let gpa = paging.walk(memory, linear, &mut |page| add(page, Why::PageTable));
            let page = gpa.map(|gpa| gpa / PAGE_SIZE as u64);
            if let Some(page) = page.filter(|page| !area.of_task || double_fault != Some(*page)) {
                add(page, area.why);
            }
        }
    }
    // The instruction itself is touched by the guest, which brings it in.
    paging.walk(memory, area::instruction(cpu, &paging), &mut |page| add(page, Why::PageTable));
    for (msr, value) in cpu.msrs {
        msr::pages(*msr, *value).for_each(|page| add(page, Why::Msr));
    }
    pages
}

/// The page that #DF's frame goes to, if that exception has a stack of its own.
///
/// Where KVM delivers exceptions by itself, and the stack of one is absent, it delivers #DF instead:
/// the guest gets an exception that no CPU would give it, without an exit. While #DF cannot be delivered
/// either, there is an exit: so this page is one that had better be absent.
pub fn double_fault_page(cpu: &Cpu<'_>, memory: &dyn Physical) -> Option<u64> {
    let paging = Paging::of(cpu.sregs);
    let linear = area::double_fault_stack(cpu, &paging, memory)?;
    Some(paging.translate(memory, linear)? / PAGE_SIZE as u64)
}
