//! Memory of which KVM knows nothing yet: a slot is made when the first of its pages is wanted.

use iced_x86::code_asm::*;

use super::{DONE, Row, row};
use crate::guest::*;

/// No memory slot is like a device, on every kind of host.
const NO_SLOT: &str = "`kvm_handle_noslot_fault` (mmu/mmu.c), then the emulator: `KVM_EXIT_MMIO`, or a failed \
                       emulation of a fetch and of what the emulator lacks";

/// Far beyond the slot that the guest's tables and code are in.
const MEMORY: u64 = 96 << 20;
const FIRST: u64 = 10_240;
const SECOND: u64 = FIRST + 1;
const ABSENT: &[u64] = &[FIRST, SECOND, FIRST + 2];

fn user(code: fn(&mut CodeAssembler) -> Code) -> Guest {
    Guest::user(|a| {
        a.mov(rsi, FAR)?;
        code(a)?;
        exit(a, DONE)
    })
    .grown(MEMORY, FIRST..FIRST + 3)
}

fn kernel(code: fn(&mut CodeAssembler) -> Code) -> Guest {
    Guest::kernel(|a| {
        a.mov(rsi, FAR)?;
        code(a)?;
        exit(a, DONE)
    })
    .grown(MEMORY, FIRST..FIRST + 3)
}

/// A guest that jumps there.
fn there(mut guest: Guest) -> Guest {
    // Linked to run where it is mapped.
    let code = {
        let assemble = || -> Result<Vec<u8>, iced_x86::IcedError> {
            let mut a = CodeAssembler::new(64)?;
            a.mov(ebx, 5)?;
            exit(&mut a, DONE)?;
            a.assemble(FAR)
        };
        assemble().expect("constant code")
    };
    guest.write(at(FIRST), &code);
    guest
}

pub const ROWS: &[Row] = &[
    row("slot-user-read", "CPL 3: read", NO_SLOT, ABSENT, || user(|a| a.mov(rbx, qword_ptr(rsi + 8)))),
    row("slot-user-write", "CPL 3: write", NO_SLOT, ABSENT, || user(|a| a.mov(qword_ptr(rsi + 8), 1))),
    row("slot-user-execute", "CPL 3: jump", NO_SLOT, ABSENT, || there(user(|a| a.jmp(rsi)))),
    row("slot-user-modify", "CPL 3: `lock cmpxchg`", NO_SLOT, ABSENT, || {
        user(|a| {
            a.mov(rax, qword_ptr(rsi + 16))?;
            a.lock().cmpxchg(qword_ptr(rsi + 16), rsi)
        })
    }),
    row("slot-user-modify-first", "CPL 3: `lock xadd`, the first touch", NO_SLOT, ABSENT, || {
        user(|a| a.lock().xadd(qword_ptr(rsi + 16), rsi))
    }),
    row("slot-user-movs", "CPL 3: `rep movsq` from page to page", NO_SLOT, ABSENT, || {
        user(|a| {
            a.lea(rdi, qword_ptr(rsi + PAGE as i32))?;
            a.mov(ecx, 600)?;
            a.rep().movsq()
        })
    }),
    row("slot-user-avx", "CPL 3: AVX load and store of 32 bytes, over page borders", NO_SLOT, ABSENT, || {
        user(|a| {
            a.vmovdqu(ymm3, ymmword_ptr(rsi + (PAGE - 9)))?;
            a.vmovdqu(ymmword_ptr(rsi + (2 * PAGE - 5)), ymm3)
        })
    }),
    row("slot-user-push", "CPL 3: `push` to a stack", NO_SLOT, ABSENT, || {
        user(|a| {
            a.lea(rsp, qword_ptr(rsi + PAGE as i32))?;
            a.push(0x55)
        })
    }),
    row("slot-kernel-read", "CPL 0: read", NO_SLOT, ABSENT, || kernel(|a| a.mov(rbx, qword_ptr(rsi + 8)))),
    row("slot-kernel-write", "CPL 0: write", NO_SLOT, ABSENT, || kernel(|a| a.mov(qword_ptr(rsi + 8), 1))),
    row("slot-kernel-execute", "CPL 0: jump", NO_SLOT, ABSENT, || there(kernel(|a| a.jmp(rsi)))),
    row("slot-kernel-modify", "CPL 0: `lock xadd`", NO_SLOT, ABSENT, || {
        kernel(|a| a.lock().xadd(qword_ptr(rsi + 16), rsi))
    }),
    row("slot-kernel-movs", "CPL 0: `rep movsq` from page to page", NO_SLOT, ABSENT, || {
        kernel(|a| {
            a.lea(rdi, qword_ptr(rsi + PAGE as i32))?;
            a.mov(ecx, 600)?;
            a.rep().movsq()
        })
    }),
];
