//! The descriptor tables and stubs of a program's address space: see [`crate::entry`].
//!
//! Breakpoints (`int3`) have a handler at CPL 3, since a way there and back without an exit costs a tenth of one
//! with: `CPUID`, `XGETBV`, `RDTSC` and `PAUSE`, which code from files has as breakpoints
//! ([`crate::program::mm::patch`]), are answered there. What it goes by is in a page that programs can only
//! read; all else exits, to the monitor.
//!
//! The handler is code like the program's own, which may jump to it or write to its stack: it has no rights
//! that the program has not, and what the monitor finds on that stack is a claim.

#[cfg(test)]
mod code;
mod redirect;
mod stepped;

pub(crate) use redirect::{HANDLER_GOES_ON, HANDLER_TAKES, SAVED_WORDS, SITES, SLOTS, SLOTS_MAX};

use kvm_bindings::kvm_sregs;

use super::mm::{AddressSpace, Memory, USER_END};
use crate::entry::{Handler, Layout, SYSCALL_CODE, TSS_IO_MAP, USER_CS, exception_stubs};
use crate::host::{HostProfile, IoMap};
use crate::program::translate::{self, COPIES};
use crate::ram::{PAGE_SIZE, PageError};
use crate::x86::descriptors::{AVAILABLE_TSS, IO_MAP_BYTES};
use crate::x86::frame::Frame;
use crate::x86::paging::{NO_EXEC, USER, WRITABLE};
use crate::x86::processor::Level;
use crate::x86::vector::has_error_code;

/// Address of the system-call stub.
pub const SYSCALL_STUB: u64 = USER_END;
const STACK: u64 = USER_END + 0x8000;
/// The handler of breakpoints: its `out`, and behind that its entry.
pub const HANDLER: u64 = SYSCALL_STUB + 0x100;
const HANDLER_ENTRY: u64 = HANDLER + 16;
const HANDLER_STACK: u64 = USER_END + 0xa000;
const HANDLER_STACK_TOP: u64 = HANDLER_STACK + PAGE_SIZE as u64;
/// What the handler goes by.
const FACTS: u64 = USER_END + 0xb000;
/// Made by `code`, once, as the assembler takes a millisecond.
const HANDLER_CODE: &[u8] = include_bytes!("handler.bin");

/// Offsets in the page of facts. Whether `PAUSE` exits, `u64`.
const PAUSE_EXITS: u64 = 0;
/// The address of the clock page, `u64`; 0 if there is none.
const CLOCK: u64 = 8;
/// The number of ranges, `u64`.
const RANGES: u64 = 16;
/// Bytes of the leaves, `u64`.
const LEAVES: u64 = 24;
/// What `XGETBV` gives, `u64`.
const XCR0: u64 = 32;
/// Ranges of addresses, two `u64` each, where files are executable: only there a breakpoint may be a
/// replaced instruction.
const RANGE: u64 = 0x40;
/// How many there may be, besides that of the copies (`program::translate`). What lies in others exits.
pub const RANGES_MAX: usize = 64;
/// Leaves of CPUID, [`LEAF_BYTES`] each: EAX, ECX and a mask for it, EAX, EBX, ECX, EDX, all `u32`.
const LEAF: u64 = 0x800;
const LEAF_BYTES: u64 = 32;

/// Where a program's tables and stubs are: behind all that it may use itself.
pub const LAYOUT: Layout = Layout {
    syscall_stub: SYSCALL_STUB,
    idt: USER_END + 0x1000,
    stubs: USER_END + 0x2000,
    gdt: USER_END + 0x3000,
    tss: USER_END + 0x4000,
    tss_limit: (TSS_IO_MAP + IO_MAP_BYTES - 1) as u32,
    stack_top: STACK + PAGE_SIZE as u64,
    breakpoint: Some(Handler { code: HANDLER_ENTRY, stack_top: HANDLER_STACK_TOP }),
};

/// The stubs and tables of a machine.
#[derive(Debug)]
pub struct Entry {
    /// Guest-physical address of the exception stack's page.
    stack: u64,
    /// The same of the handler's stack, and of the facts.
    handler_stack: u64,
    facts: u64,
    /// Where the pages are mapped: address, guest-physical address, and bits of their entries.
    pages: Vec<(u64, u64, u64)>,
}

/// Sets the system registers for a program in the address space at `root`, with these bases of FS and GS.
pub fn set_user_mode(sregs: &mut kvm_sregs, host: &HostProfile, root: u64, (fs, gs): (u64, u64)) {
    let trap_tsc = host.tsc_by_cr4 || host.tsc_by_thread;
    LAYOUT.set_user_mode(sregs, root, fs, gs, host.fsgsbase, trap_tsc);
    if host.io_map == IoMap::Available {
        sregs.tr.type_ = AVAILABLE_TSS;
    }
}

impl Entry {
    /// Builds the tables and stubs. A program at CPL 3 may use the system-call port where `SYSCALL` does not
    /// enter CPL 0.
    pub fn new(memory: &mut Memory, host: &HostProfile, cpu: Level) -> Result<Entry, PageError> {
        let mut pages = Vec::new();
        let mut page = |memory: &mut Memory, address: u64, flags: u64| -> Result<u64, PageError> {
            let gpa = memory.system.take_page()?;
            pages.push((address, gpa, flags));
            Ok(gpa)
        };
        let syscall = page(memory, SYSCALL_STUB, USER)?;
        memory.system.write(syscall, SYSCALL_CODE);
        memory.system.write(syscall + (HANDLER - SYSCALL_STUB), HANDLER_CODE);

        let idt = page(memory, LAYOUT.idt, NO_EXEC)?;
        let stubs = page(memory, LAYOUT.stubs, 0)?;
        memory.system.write(stubs, &exception_stubs());
        // A handler at CPL 3 must have its port.
        let handled = host.io_map != IoMap::Ignored;
        let layout = Layout { breakpoint: LAYOUT.breakpoint.filter(|_| handled), ..LAYOUT };
        for (at, word) in (idt..).step_by(8).zip(layout.idt_entries()) {
            memory.system.write_u64(at, word);
        }

        let gdt = page(memory, LAYOUT.gdt, NO_EXEC | WRITABLE)?;
        for (at, word) in (gdt..).step_by(8).zip(LAYOUT.gdt_entries()) {
            memory.system.write_u64(at, word);
        }

        for (at, bytes) in
            (LAYOUT.tss..).step_by(PAGE_SIZE).zip(LAYOUT.tss_bytes(host.syscall_stays_user).chunks(PAGE_SIZE))
        {
            let gpa = page(memory, at, NO_EXEC | WRITABLE)?;
            memory.system.write(gpa, bytes);
        }

        let stack = page(memory, STACK, NO_EXEC | WRITABLE)?;
        let handler_stack = page(memory, HANDLER_STACK, NO_EXEC | WRITABLE | USER)?;
        let facts = page(memory, FACTS, NO_EXEC | USER)?;
        memory.system.write_u64(facts + XCR0, cpu.xcr0());
        let leaves = cpu.leaves();
        memory.system.write_u64(facts + LEAVES, leaves.len() as u64 * LEAF_BYTES);
        for (at, leaf) in (facts + LEAF..).step_by(LEAF_BYTES as usize).zip(leaves) {
            let mask = if leaf.index.is_some() { u32::MAX } else { 0 };
            let [eax, ebx, ecx, edx] = leaf.regs;
            let words = [leaf.function, leaf.index.unwrap_or(0), mask, eax, ebx, ecx, edx];
            memory.system.write(at, &words.map(u32::to_le_bytes).concat());
        }
        Ok(Entry { stack, handler_stack, facts, pages })
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
        let inside = |stack: u64| (stack..stack + PAGE_SIZE as u64).contains(&rsp);
        match (inside(STACK), inside(HANDLER_STACK)) {
            (true, _) => Some(self.stack + (rsp - STACK)),
            (_, true) => Some(self.handler_stack + (rsp - HANDLER_STACK)),
            _ => None,
        }
    }

    /// Whether an exit of the breakpoints' port came from the handler.
    pub fn is_handler(rip: u64) -> bool {
        const OUT_BYTES: u64 = 2;
        rip.wrapping_sub(HANDLER) <= OUT_BYTES
    }

    /// Whether an address lies in the handler.
    pub fn is_in_handler(rip: u64) -> bool {
        (HANDLER..HANDLER + HANDLER_CODE.len() as u64).contains(&rip)
    }

    /// Where a program is that is in the handler, by what lies on its stack.
    pub fn interrupted(&self, memory: &Memory) -> Frame {
        let at = self.handler_stack + PAGE_SIZE as u64 - Frame::WORDS as u64 * 8;
        Frame::from_words(std::array::from_fn(|i| memory.system.read_u64(at + i as u64 * 8)))
    }

    /// The frame of a breakpoint, at the handler's exit. `None` where RSP or the frame are not what the
    /// CPU makes of it: a program has jumped there.
    pub fn handler_frame(&self, memory: &Memory, rsp: u64) -> Option<Frame> {
        let frame = self.interrupted(memory);
        let is_top = rsp == HANDLER_STACK_TOP - Frame::WORDS as u64 * 8;
        let is_program = frame.rip < USER_END || translate::is_inside(frame.rip);
        (is_top && frame.cs == u64::from(USER_CS) && is_program).then_some(frame)
    }

    /// Clears the handler's stack, which programs can read and write: what one leaves there must not tell
    /// a later one, or itself, more than it can know anyway.
    pub fn clear_handler_stack(&self, memory: &Memory) {
        memory.system.clear(self.handler_stack);
    }

    /// Says whether `PAUSE` exits.
    pub fn set_pause_exits(&self, memory: &Memory, exits: bool) {
        memory.system.write_u64(self.facts + PAUSE_EXITS, exits.into());
    }

    /// Says where the running program's clock page is, 0 for nowhere, and where files are executable in its
    /// address space.
    pub fn set_space(&self, memory: &Memory, clock: u64, ranges: &[std::ops::Range<u64>]) {
        let ranges = &ranges[..ranges.len().min(RANGES_MAX)];
        memory.system.write_u64(self.facts + CLOCK, clock);
        memory.system.write_u64(self.facts + RANGES, ranges.len() as u64 + 1);
        for (at, range) in (self.facts + RANGE..).step_by(16).zip(ranges.iter().chain([&COPIES])) {
            memory.system.write_u64(at, range.start);
            memory.system.write_u64(at + 8, range.end);
        }
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
