//! Who walks the guest's page tables: the CPU, or KVM with tables of its own.

use iced_x86::code_asm::{byte_ptr, registers as reg};

use super::guest::{assemble, strange};
use super::memory::LazyGuest;
use super::{Finding, Host, Level, NOTHING};
use crate::host::basics::RAM_BASE;
use crate::host::tiny::{Event, Ring, START};
use crate::host::{HostError, walker};
use crate::ram::Marking;
use crate::vcpu::Exit;
use crate::x86::vector::PAGE_FAULT;

/// Who walks the tables.
pub fn paging(host: &Host) -> Result<Finding, HostError> {
    Ok(match walker::is_shadow(&mut host.tiny()?)? {
        true => Finding::new(
            Level::Slower,
            "shadow: a table entry that the monitor changes stays as it was, even when CR3 is loaded",
            "invalidates the page behind every entry that it changes or removes",
            "a first touch costs a fault in KVM too; mapping and unmapping cost more than elsewhere",
        ),
        false => Finding::new(
            Level::Ok,
            "two-dimensional: the CPU walks the guest's tables itself",
            "invalidates the page behind every changed entry all the same",
            NOTHING,
        ),
    })
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
        "keeps the page tables that it writes present, and those of bare-metal guests, which it searches for",
        "nothing to do",
    ))
}
