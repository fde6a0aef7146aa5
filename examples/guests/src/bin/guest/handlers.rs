//! What each exception does: a line is said, the cause is removed, and what was running goes on.

use core::arch::asm;
use core::slice;

use dejavm_example_guest::text::Hex;
use dejavm_example_guest::{port, say};

use crate::exceptions::{BREAKPOINT, DIVIDE, Frame, INVALID_OPCODE, PAGE_FAULT, PROTECTION};
use crate::frames::{self, PAGE};
use crate::layout::{LAZY, LAZY_BYTES, USER_CODE};
use crate::paging::{AddressSpace, USER, WRITABLE};
use crate::{segments, user};

/// Exit status after an exception that nobody expected.
const UNEXPECTED: u8 = 102;

/// `ud2`, by which CPL 3 calls. (`int N` and `syscall` do not arrive on every host.)
const UD2: [u8; 2] = [0x0f, 0x0b];
/// `cli`, which is one.
const CLI: u8 = 0xfa;

/// Error code of a page fault: the page is there, and does not allow it.
const NOT_ALLOWED: u64 = 1;

/// An instruction that may fault, and where to go on.
#[repr(C)]
struct Fixup {
    at: u64,
    landing: u64,
}

unsafe extern "C" {
    static fixups_start: Fixup;
    static fixups_end: Fixup;
}

/// Takes an exception. The frame is what is gone back to.
pub extern "C" fn handle(frame: &mut Frame) {
    let from_user = frame.cs & 3 == 3;
    match frame.vector {
        PAGE_FAULT => page_fault(frame),
        DIVIDE if frame.rcx == 0 => {
            frame.rcx = 1;
            tell(frame, "#DE", "divided by 1 instead");
        }
        INVALID_OPCODE if from_user && user_bytes(frame.rip, 2) == UD2 => {
            frame.rip += 2;
            tell(frame, "#UD", "a call");
            user::call(frame);
        }
        BREAKPOINT if from_user => tell(frame, "#BP", "passed"),
        PROTECTION if from_user && user_bytes(frame.rip, 1) == [CLI] => {
            frame.rip += 1;
            tell(frame, "#GP", "skipped");
        }
        PROTECTION => match fixup(frame.rip) {
            Some(landing) => {
                frame.rip = landing;
                tell(frame, "#GP", "gone on elsewhere");
            }
            None => unexpected(frame),
        },
        _ => unexpected(frame),
    }
}

/// Maps a page where there is none yet.
fn page_fault(frame: &Frame) {
    let address: u64;
    // SAFETY: it only reads.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    if !(LAZY..LAZY + LAZY_BYTES).contains(&address) || frame.error & NOT_ALLOWED != 0 {
        say!("page fault at ", Hex(address));
        unexpected(frame);
    }
    let page = address & !(PAGE - 1);
    AddressSpace::current().map(page, frames::take_zeroed(), WRITABLE | USER);
    // The handler has a stack of its own.
    assert!(segments::on_ist(frame as *const Frame as u64));
    tell(frame, "#PF", "mapped a page");
    say!("    at ", Hex(address));
}

fn tell(frame: &Frame, name: &str, what: &str) {
    say!(name, " at CPL ", frame.cs & 3, ", error ", frame.error, ": ", what);
}

fn unexpected(frame: &Frame) -> ! {
    say!(
        "exception ",
        frame.vector,
        ", error ",
        frame.error,
        ", RIP ",
        Hex(frame.rip),
        ", RSP ",
        Hex(frame.rsp)
    );
    port::exit(UNEXPECTED)
}

/// Bytes of the program of CPL 3; none where it has none.
pub fn user_bytes(address: u64, len: u64) -> &'static [u8] {
    let room = (USER_CODE + PAGE).saturating_sub(address);
    if address < USER_CODE || len > room {
        return &[];
    }
    // SAFETY: every space has that page.
    unsafe { slice::from_raw_parts(address as *const u8, len as usize) }
}

/// Where to go on when the instruction at `rip` faults.
fn fixup(rip: u64) -> Option<u64> {
    let mut at = &raw const fixups_start;
    while at < &raw const fixups_end {
        // SAFETY: the linker's table.
        let fixup = unsafe { &*at };
        if fixup.at == rip {
            return Some(fixup.landing);
        }
        at = at.wrapping_add(1);
    }
    None
}
