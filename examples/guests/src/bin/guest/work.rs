//! Instructions of many kinds, on memory that may be absent.

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::frames::PAGE;
use crate::pages::{fold, word};

/// Words that are pushed and popped.
const PUSHES: u64 = 32;

/// Copies two pages by one instruction, which faults at every page that is not there yet.
pub fn copy(to: u64, from: u64) -> u64 {
    let words = 2 * PAGE / 8;
    // SAFETY: both are in parts of the address space that nothing else uses.
    unsafe {
        asm!("rep movsq", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") words => _,
            options(nostack, preserves_flags));
        fold(fold(0, (to as *const u64).read_volatile()), ((to + PAGE) as *const u64).read_volatile())
    }
}

/// Exchanges that succeed, fail and add, on words of the window.
pub fn locked(sum: u64) -> u64 {
    let atomic = |page| {
        // SAFETY: the window is mapped, and nobody has a reference to its words.
        unsafe { AtomicU64::from_ptr(word(page)) }
    };
    let (first, second) = (atomic(sum), atomic(sum >> 32));
    let seen = first.load(Ordering::Relaxed);
    let done = first.compare_exchange(seen, sum, Ordering::SeqCst, Ordering::SeqCst);
    let not_done = first.compare_exchange(!sum, seen, Ordering::SeqCst, Ordering::SeqCst);
    let added = second.fetch_add(sum, Ordering::SeqCst);
    [done.unwrap_or(1), not_done.err().unwrap_or(2), added].into_iter().fold(sum, fold)
}

/// Pushes words on a stack that ends at `end`, pops them, and sums them up.
pub fn stack(end: u64, first: u64) -> u64 {
    // SAFETY: nothing else is there, and the page fault's handler has a stack of its own.
    unsafe { push_and_pop(end, first) }
}

#[unsafe(naked)]
unsafe extern "C" fn push_and_pop(end: u64, first: u64) -> u64 {
    naked_asm!(
        "mov r8, rsp",
        "mov rsp, rdi",
        "mov ecx, {pushes}",
        "2:",
        "push rsi",
        "rol rsi, 7",
        "dec ecx",
        "jnz 2b",
        "mov ecx, {pushes}",
        "xor eax, eax",
        "3:",
        "pop rdx",
        "add rax, rdx",
        "dec ecx",
        "jnz 3b",
        "mov rsp, r8",
        "ret",
        pushes = const PUSHES,
    )
}

/// Divides; by 0, the exception's handler lets it be 1.
pub fn divide(number: u64, by: u64) -> u64 {
    let quotient;
    // SAFETY: the handler knows that the divisor is in RCX.
    unsafe {
        asm!("div rcx", inout("rax") number => quotient, inout("rdx") 0u64 => _, inout("rcx") by => _,
            options(nostack));
    }
    quotient
}

/// Reads a word; none where the CPU says #GP.
pub fn try_read(address: u64) -> Option<u64> {
    let (word, fault): (u64, u64);
    // SAFETY: it goes on behind the read either way.
    unsafe {
        asm!(
            "2: mov {word}, [{word}]",
            "xor {fault:e}, {fault:e}",
            "jmp 4f",
            "3: mov {fault:e}, 1",
            "4:",
            ".pushsection .fixups, \"a\", @progbits",
            ".quad 2b, 3b",
            ".popsection",
            word = inout(reg) address => word,
            fault = out(reg) fault,
            options(nostack, readonly),
        );
    }
    (fault == 0).then_some(word)
}
