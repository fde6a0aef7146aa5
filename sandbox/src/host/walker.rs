//! Who walks the guest's page tables: the CPU, or KVM with tables of its own.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, byte_ptr, registers as reg};

use super::HostError;
use super::tiny::{DATA, Event, Ring, START, Tiny, address};
use crate::x86::paging::USER;
use crate::x86::vector::BREAKPOINT;

/// What the two data pages hold.
const BEFORE: u8 = b'A';
const AFTER: u8 = b'B';

fn program() -> Vec<u8> {
    let assemble = || -> Result<Vec<u8>, IcedError> {
        let page = address(DATA[0]);
        let mut a = CodeAssembler::new(64)?;
        for _ in 0..2 {
            a.mov(reg::al, byte_ptr(page))?;
            a.int3()?;
        }
        a.assemble(START)
    };
    assemble().expect("constant code")
}

/// Whether KVM walks the tables for the guest and keeps a shadow of them.
///
/// The monitor changes a table entry, and the guest reloads CR3: a CPU that walks the tables itself
/// sees the change; KVM's shadow of them, which is made from stores of the guest alone, does not.
///
/// # Errors
/// When the guest does not run as any known host runs it.
pub fn is_shadow(guest: &mut Tiny) -> Result<bool, HostError> {
    guest.tables.load(&program());
    guest.enter(Ring::User, START, false)?;
    guest.tables.write_data(DATA[0], &[BEFORE]);
    guest.tables.write_data(DATA[1], &[AFTER]);
    let mut seen = [0u8; 2];
    for (i, seen) in seen.iter_mut().enumerate() {
        match guest.run()? {
            Event::Exception { vector: BREAKPOINT, .. } => {}
            other => return Err(HostError::Guest(format!("int3 at CPL 3 gave {other:?}"))),
        }
        *seen = guest.vcpu.regs().rax as u8;
        if i == 0 {
            guest.tables.map(DATA[0], guest.tables.gpa(DATA[1]), USER);
            // Behind `int3`: it is a trap, so the frame's RIP is past it.
            guest.reload_cr3();
        }
    }
    match seen {
        [BEFORE, BEFORE] => Ok(true),
        [BEFORE, AFTER] => Ok(false),
        other => Err(HostError::Guest(format!("a page was read as {other:?}"))),
    }
}
