//! The descriptor tables and stubs of a program's address space: see [`crate::entry`].

use super::mm::{AddressSpace, Memory, USER_END};
use crate::entry::{Layout, SYSCALL_CODE, TSS_IO_MAP, exception_stubs};
use crate::ram::{PAGE_SIZE, PageError};
use crate::x86::descriptors::IO_MAP_BYTES;
use crate::x86::frame::Frame;
use crate::x86::paging::{NO_EXEC, USER, WRITABLE};
use crate::x86::vector::has_error_code;

/// Address of the system-call stub.
pub const SYSCALL_STUB: u64 = USER_END;
const STACK: u64 = USER_END + 0x8000;

/// Where a program's tables and stubs are: behind all that it may use itself.
pub const LAYOUT: Layout = Layout {
    syscall_stub: SYSCALL_STUB,
    idt: USER_END + 0x1000,
    stubs: USER_END + 0x2000,
    gdt: USER_END + 0x3000,
    tss: USER_END + 0x4000,
    tss_limit: (TSS_IO_MAP + IO_MAP_BYTES - 1) as u32,
    stack_top: STACK + PAGE_SIZE as u64,
};

/// The stubs and tables of a machine.
#[derive(Debug)]
pub struct Entry {
    /// Guest-physical address of the exception stack's page.
    stack: u64,
    /// Where the pages are mapped: address, guest-physical address, and bits of their entries.
    pages: Vec<(u64, u64, u64)>,
}

impl Entry {
    /// Builds the tables and stubs. With `open_port` a program at CPL 3 may use the system-call port:
    /// needed where `SYSCALL` does not enter CPL 0.
    pub fn new(memory: &mut Memory, open_port: bool) -> Result<Entry, PageError> {
        let mut pages = Vec::new();
        let mut page = |memory: &mut Memory, address: u64, flags: u64| -> Result<u64, PageError> {
            let gpa = memory.system.take_page()?;
            pages.push((address, gpa, flags));
            Ok(gpa)
        };
        let syscall = page(memory, SYSCALL_STUB, USER)?;
        memory.system.write(syscall, SYSCALL_CODE);

        let idt = page(memory, LAYOUT.idt, NO_EXEC)?;
        let stubs = page(memory, LAYOUT.stubs, 0)?;
        memory.system.write(stubs, &exception_stubs());
        for (at, word) in (idt..).step_by(8).zip(LAYOUT.idt_entries()) {
            memory.system.write_u64(at, word);
        }

        let gdt = page(memory, LAYOUT.gdt, NO_EXEC | WRITABLE)?;
        for (at, word) in (gdt..).step_by(8).zip(LAYOUT.gdt_entries()) {
            memory.system.write_u64(at, word);
        }

        for (at, bytes) in
            (LAYOUT.tss..).step_by(PAGE_SIZE).zip(LAYOUT.tss_bytes(open_port).chunks(PAGE_SIZE))
        {
            let gpa = page(memory, at, NO_EXEC | WRITABLE)?;
            memory.system.write(gpa, bytes);
        }

        let stack = page(memory, STACK, NO_EXEC | WRITABLE)?;
        Ok(Entry { stack, pages })
    }

    /// Maps them into an address space.
    ///
    /// # Errors
    /// When there is no memory for page tables.
    pub fn map(&self, memory: &mut Memory, space: &mut AddressSpace) -> Result<(), PageError> {
        self.pages
            .iter()
            .try_for_each(|(address, gpa, flags)| space.map_system(memory, *address, *gpa, *flags))
    }

    /// The exception that a stub's exit stands for, by the stub's address.
    pub fn vector_at(rip: u64) -> Option<u8> {
        LAYOUT.vector_at(rip)
    }

    /// Whether an exit of the system-call port came from the stub.
    pub fn is_syscall_stub(rip: u64) -> bool {
        LAYOUT.is_syscall_stub(rip)
    }

    fn stack_gpa(&self, rsp: u64) -> Option<u64> {
        let offset = rsp.checked_sub(STACK)?;
        (offset < PAGE_SIZE as u64).then_some(self.stack + offset)
    }

    /// Reads what the CPU pushed for `vector` at the stub's RSP: error code and frame. `None` where
    /// RSP is not in the exception stack, which no program can bring about.
    pub fn frame(&self, memory: &Memory, vector: u8, rsp: u64) -> Option<(u64, Frame)> {
        let words = Frame::WORDS as u64 + u64::from(has_error_code(vector));
        self.stack_gpa(rsp.checked_add(words * 8 - 1)?)?;
        let mut at = self.stack_gpa(rsp)?;
        let mut next = || {
            let word = memory.system.read_u64(at);
            at += 8;
            word
        };
        let code = if has_error_code(vector) { next() } else { 0 };
        Some((code, Frame::from_words(std::array::from_fn(|_| next()))))
    }

    /// Changes the frame, so that the stub's `iretq` goes elsewhere.
    pub fn set_frame(&self, memory: &Memory, vector: u8, rsp: u64, frame: &Frame) {
        let Some(mut at) = self.stack_gpa(rsp) else { return };
        if has_error_code(vector) {
            at += 8;
        }
        for word in frame.words() {
            memory.system.write_u64(at, word);
            at += 8;
        }
    }
}
