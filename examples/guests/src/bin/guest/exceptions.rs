//! The IDT, and the way into a handler and back. (Intel SDM volume 3, sections 6.10 to 6.15.)

use core::arch::{asm, global_asm};

use dejavm_example_guest::shared::Shared;

use crate::handlers;
use crate::segments::{IST1, KERNEL_CODE, Pointer};

/// Divide error.
pub const DIVIDE: u64 = 0;
/// Breakpoint.
pub const BREAKPOINT: u64 = 3;
/// Invalid opcode.
pub const INVALID_OPCODE: u64 = 6;
/// General protection.
pub const PROTECTION: u64 = 13;
/// Page fault.
pub const PAGE_FAULT: u64 = 14;
/// Vectors of exceptions.
const EXCEPTIONS: usize = 32;
/// Bytes from one stub to the next.
const STUB_BYTES: usize = 16;

/// Gate type: present, interrupt gate, DPL 0.
const GATE: u64 = 0x8e;
/// DPL 3 in it.
const FROM_USER: u64 = 3 << 5;

/// What was running: as the stubs push it.
#[repr(C)]
pub struct Frame {
    /// General registers.
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// Which exception.
    pub vector: u64,
    /// Its error code, or 0.
    pub error: u64,
    /// What the CPU pushes.
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

unsafe extern "C" {
    /// The stubs of the exceptions, [`STUB_BYTES`] each.
    static exception_stubs: u8;
}

// Vectors 8, 10 to 14, 17, 21, 29 and 30 have error codes.
global_asm!(
    ".balign 16",
    "exception_stubs:",
    ".set vector, 0",
    ".rept {exceptions}",
    ".balign {stub}",
    ".if (({with_error} >> vector) & 1) == 0",
    "push 0",
    ".endif",
    "push vector",
    "jmp exception_common",
    ".set vector, vector + 1",
    ".endr",
    "exception_common:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "call {handle}",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    exceptions = const EXCEPTIONS,
    stub = const STUB_BYTES,
    with_error = const 0x6022_7d00,
    handle = sym handlers::handle,
);

static IDT: Shared<[[u64; 2]; EXCEPTIONS]> = Shared::new([[0; 2]; EXCEPTIONS]);

/// A gate of the IDT.
fn gate(handler: *const u8, ist: u8, kind: u64) -> [u64; 2] {
    let at = handler.addr() as u64;
    let low = at & 0xffff | u64::from(KERNEL_CODE) << 16 | u64::from(ist) << 32 | kind << 40;
    [low | (at >> 16 & 0xffff) << 48, at >> 32]
}

/// Fills the IDT and loads it.
pub fn init() {
    let idt = IDT.get();
    // SAFETY: nobody uses it yet; the stubs are code.
    unsafe {
        for vector in 0..EXCEPTIONS {
            // A stack that is not there is no place for a page fault's frame.
            let ist = if vector as u64 == PAGE_FAULT { IST1 } else { 0 };
            let kind = if vector as u64 == BREAKPOINT { GATE | FROM_USER } else { GATE };
            (*idt)[vector] = gate((&raw const exception_stubs).add(vector * STUB_BYTES), ist, kind);
        }
        let pointer = Pointer { limit: size_of_val(&*idt) as u16 - 1, base: idt as u64 };
        asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags));
    }
}

/// An IDT without gates: the next exception shuts the CPU down.
pub fn forget() {
    let pointer = Pointer { limit: 0, base: 0 };
    // SAFETY: that is what is wanted.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) };
}
