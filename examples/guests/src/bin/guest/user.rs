//! Code of CPL 3: how it is entered, what it can call, and a program.

use core::arch::{global_asm, naked_asm};

use dejavm_example_guest::say;

use crate::exceptions::Frame;
use crate::frames::{self, PAGE};
use crate::handlers::user_bytes;
use crate::layout::{self, USER_CODE, USER_STACK, WINDOW};
use crate::pages::{MULTIPLIER, PAGES, ROTATE};
use crate::paging::{AddressSpace, USER, WRITABLE};
use crate::segments::{self, TSS};

/// Call: end with a value (RDI).
const CALL_END: u64 = 0;
/// Call: say bytes (RDI) of a length (RSI).
const CALL_SAY: u64 = 1;

// The program, at the start of its page: `program(start, address) -> checksum`. It folds the words of the
// window into its checksum, takes three exceptions, and calls.
global_asm!(
    ".pushsection .user, \"ax\", @progbits",
    "mov rax, rdi",
    "mov rdx, {window}",
    "mov r8, {multiplier}",
    "mov ecx, {pages}",
    "2:",
    "rol rax, {rotate}",
    "xor rax, [rdx]",
    "imul rax, r8",
    "add rdx, {page}",
    "dec ecx",
    "jnz 2b",
    "push rax",
    "lock xadd [rsi], rax", // #PF, the first time
    "cli",                  // #GP
    "int3",                 // #BP
    "lea rdi, [rip + 3f]",
    "lea rsi, [rip + 4f]",
    "sub rsi, rdi",
    "mov eax, {say}",
    "ud2",
    "pop rdi",
    "xor eax, eax",
    "ud2",
    "3:",
    ".ascii \"CPL 3: walked the window\"",
    "4:",
    ".popsection",
    window = const WINDOW,
    rotate = const ROTATE,
    multiplier = const MULTIPLIER,
    pages = const PAGES,
    page = const PAGE,
    say = const CALL_SAY,
);

/// Gives an address space the program's code and a stack.
pub fn map(space: AddressSpace) {
    space.map(USER_CODE, layout::user_code(), USER);
    space.map(USER_STACK - PAGE, frames::take_zeroed(), USER | WRITABLE);
}

/// Runs the program in the current address space.
pub fn run(start: u64, address: u64) -> u64 {
    // SAFETY: the space has the program and its stack. RSP0 is where `leave` comes back to.
    unsafe { enter(start, address, &raw mut (*TSS.get()).rsp0) }
}

/// Goes to CPL 3 with its first two arguments, and returns what [`leave`] is given.
#[unsafe(naked)]
unsafe extern "C" fn enter(start: u64, address: u64, rsp0: *mut u64) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdx], rsp",
        "push {data}",
        "mov rax, {stack}",
        "push rax",
        "push 2", // RFLAGS: only the bit that is always set
        "push {code}",
        "mov rax, {entry}",
        "push rax",
        "iretq",
        data = const segments::USER_DATA,
        code = const segments::USER_CODE,
        stack = const USER_STACK,
        entry = const USER_CODE,
    )
}

/// Drops what runs on the stack of CPL 0 and returns from [`enter`].
#[unsafe(naked)]
unsafe extern "C" fn leave(value: u64, rsp0: u64) -> ! {
    naked_asm!(
        "mov rsp, rsi",
        "mov rax, rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// Answers a call of the program: RAX says which.
pub fn call(frame: &mut Frame) {
    match frame.rax {
        // SAFETY: the program runs because of `enter`, and the handler's frames have nothing to drop.
        CALL_END => unsafe { leave(frame.rdi, (*TSS.get()).rsp0) },
        CALL_SAY => say!(user_bytes(frame.rdi, frame.rsi)),
        _ => frame.rax = u64::MAX,
    }
}
