//! Who walks the guest's page tables: the CPU, or KVM with tables of its own.

use iced_x86::code_asm::{byte_ptr, registers as reg};

use super::guest::{assemble, strange};
use super::memory::LazyGuest;
use super::{Finding, Host, Level, NOTHING};
use crate::host::HostError;
use crate::host::basics::RAM_BASE;
use crate::host::tiny::{DATA, Event, Ring, START, address};
use crate::program::mm::tables::USER;
use crate::ram::Marking;
use crate::vcpu::Exit;

/// Vector of `int3`.
const BREAKPOINT: u8 = 3;
/// Vector of a page fault.
const PAGE_FAULT: u8 = 14;

/// What the two data pages hold.
const BEFORE: u8 = b'A';
const AFTER: u8 = b'B';

/// The monitor changes a table entry, and the guest reloads CR3: a CPU that walks the tables itself
/// sees the change; KVM's shadow of them, which is made from stores of the guest alone, does not.
pub fn paging(host: &Host) -> Result<Finding, HostError> {
    let page = address(DATA[0]);
    let code = assemble(|a| {
        a.mov(reg::al, byte_ptr(page))?;
        a.int3()?;
        a.mov(reg::al, byte_ptr(page))?;
        a.int3()
    });
    let mut guest = host.guest(Ring::User, &code)?;
    guest.tables.write_data(DATA[0], &[BEFORE]);
    guest.tables.write_data(DATA[1], &[AFTER]);
    let mut seen = [0u8; 2];
    for (i, seen) in seen.iter_mut().enumerate() {
        match guest.run()? {
            Event::Exception { vector: BREAKPOINT, .. } => {}
            other => return Err(strange("int3 at CPL 3", &other)),
        }
        *seen = guest.vcpu.regs().rax as u8;
        if i == 0 {
            guest.tables.map(DATA[0], guest.tables.gpa(DATA[1]), USER);
            // Behind `int3`: it is a trap, so the frame's RIP is past it.
            guest.reload_cr3();
        }
    }
    match seen {
        [BEFORE, BEFORE] => Ok(Finding::new(
            Level::Slower,
            "shadow: a table entry that the monitor changes stays as it was, even when CR3 is loaded",
            "invalidates the page behind every entry that it changes or removes",
            "a first touch costs a fault in KVM too; mapping and unmapping cost more than elsewhere",
        )),
        [BEFORE, AFTER] => Ok(Finding::new(
            Level::Ok,
            "two-dimensional: the CPU walks the guest's tables itself",
            "invalidates the page behind every changed entry all the same",
            NOTHING,
        )),
        other => Err(HostError::Guest(format!("a page was read as {other:?}"))),
    }
}

/// What a walk through an absent page-table page gives.
pub fn absent_table(host: &Host) -> Result<Finding, HostError> {
    let marking = host.profile.marking();
    if marking == Marking::Eager {
        return Ok(Finding::new(
            Level::Ok,
            "nothing is ever absent here",
            "keeps page tables present",
            NOTHING,
        ));
    }
    let mut guest = LazyGuest::new(host, marking)?;
    let beyond = guest.tiny.tables.link_table(RAM_BASE);
    let code = assemble(|a| {
        a.mov(reg::rax, beyond)?;
        a.mov(reg::al, byte_ptr(reg::rax))?;
        a.syscall()
    });
    guest.tiny.tables.load(&code);
    guest.tiny.enter(Ring::User, START, false)?;
    let found = match guest.tiny.run()? {
        Event::Exception { vector: PAGE_FAULT, .. } => "a page fault in the guest, and no exit",
        Event::Poison(_) => "SIGBUS with the table's address",
        Event::Other(Exit::BareFault) => "a bare EFAULT",
        Event::Other(Exit::MemoryFault { .. }) => "KVM_EXIT_MEMORY_FAULT with the address",
        Event::Stuck => "KVM_RUN does not return",
        other => return Err(strange("an absent page table", &other)),
    };
    Ok(Finding::new(
        Level::Ok,
        found,
        "keeps the page tables that it writes present",
        "a kernel guest that is restored with its own page tables absent sees the same",
    ))
}
