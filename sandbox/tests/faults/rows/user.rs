//! Code of CPL 3.

use iced_x86::code_asm::*;

use super::{DONE, Row, row};
use crate::guest::*;

/// The way of every fault of code that runs by itself.
const PAGE_FAULT: &str = "`kvm_handle_error_pfn` (mmu/mmu.c): `-EFAULT`, or `SIGBUS` for a poisoned page";

pub const ROWS: &[Row] = &[
    row("user-read", "read", PAGE_FAULT, &[DATA], || {
        Guest::user(|a| {
            a.mov(rbx, qword_ptr(at(DATA) + 8))?;
            exit(a, DONE)
        })
    }),
    row("user-write", "write", PAGE_FAULT, &[DATA], || {
        Guest::user(|a| {
            a.mov(qword_ptr(at(DATA) + 8), 1)?;
            exit(a, DONE)
        })
    }),
    row("user-execute", "jump to a page", PAGE_FAULT, &[DATA], || {
        let mut guest = Guest::user(|a| a.jmp(at(DATA)));
        guest.code(at(DATA), |a| exit(a, DONE));
        guest
    }),
    row(
        "user-execute-cross",
        "an instruction that crosses into a page",
        PAGE_FAULT,
        &[USER_CODE + 1],
        || {
            let start = at(USER_CODE + 1) - 3;
            let mut guest = Guest::user(|a| a.jmp(start));
            guest.code(start, |a| {
                a.mov(rbx, 0x1122_3344_5566_7788u64)?;
                exit(a, DONE)
            });
            guest
        },
    ),
    row("user-read-cross", "read that crosses two pages, both absent", PAGE_FAULT, &[DATA, DATA + 1], || {
        Guest::user(|a| {
            a.mov(rbx, qword_ptr(at(DATA + 1) - 3))?;
            exit(a, DONE)
        })
    }),
    row(
        "user-write-cross",
        "write that crosses two pages, both absent",
        PAGE_FAULT,
        &[DATA, DATA + 1],
        || {
            Guest::user(|a| {
                a.mov(rbx, 0x1122_3344_5566_7788u64)?;
                a.mov(qword_ptr(at(DATA + 1) - 3), rbx)?;
                exit(a, DONE)
            })
        },
    ),
    row("user-modify", "`add` to memory", PAGE_FAULT, &[DATA], || {
        Guest::user(|a| {
            a.add(qword_ptr(at(DATA) + 16), 5)?;
            exit(a, DONE)
        })
    }),
    row("user-cmpxchg", "`lock cmpxchg`", PAGE_FAULT, &[DATA], || {
        Guest::user(|a| {
            a.mov(rax, DATA << 32 | 0x5a)?;
            a.mov(rbx, 99u64)?;
            a.lock().cmpxchg(qword_ptr(at(DATA)), rbx)?;
            a.pushfq()?;
            exit(a, DONE)
        })
    }),
    row("user-movs", "`movsq`, both sides absent", PAGE_FAULT, &[DATA, DATA + 2], || {
        Guest::user(|a| {
            a.mov(esi, at(DATA) as u32)?;
            a.mov(edi, at(DATA + 2) as u32)?;
            a.movsq()?;
            exit(a, DONE)
        })
    }),
    row(
        "user-rep-stos",
        "`rep stosq` over four pages",
        PAGE_FAULT,
        &[DATA, DATA + 1, DATA + 2, DATA + 3],
        || {
            Guest::user(|a| {
                a.mov(edi, at(DATA) as u32)?;
                a.mov(ecx, (4 * PAGE / 8) as u32)?;
                a.mov(eax, 0x77)?;
                a.rep().stosq()?;
                exit(a, DONE)
            })
        },
    ),
    row(
        "user-read-row",
        "read of eight pages in a row, all absent: KVM maps neighbours beforehand",
        "`kvm_handle_error_pfn`; `FNAME(pte_prefetch)` (mmu/paging_tmpl.h) leaves absent ones out",
        &[DATA, DATA + 1, DATA + 2, DATA + 3, DATA + 4, DATA + 5, DATA + 6, DATA + 7],
        || {
            Guest::user(|a| {
                for page in 0..8 {
                    a.add(rbx, qword_ptr(at(DATA + page) + 8 * page))?;
                }
                exit(a, DONE)
            })
        },
    ),
    row("user-push", "`push` to a stack", PAGE_FAULT, &[DATA], || {
        Guest::user(|a| {
            a.mov(esp, at(DATA + 1) as u32)?;
            a.push(0x55)?;
            exit(a, DONE)
        })
    }),
    row("user-call", "`call` and `ret` on a stack", PAGE_FAULT, &[DATA], || {
        Guest::user(|a| {
            let mut function = a.create_label();
            let mut over = a.create_label();
            a.mov(esp, at(DATA + 1) as u32)?;
            a.call(function)?;
            a.jmp(over)?;
            a.set_label(&mut function)?;
            a.mov(ebx, 3)?;
            a.ret()?;
            a.set_label(&mut over)?;
            exit(a, DONE)
        })
    }),
    row("user-x87", "x87 load and store of 10 bytes", PAGE_FAULT, &[DATA, DATA + 1], || {
        Guest::user(|a| {
            a.fld(tbyte_ptr(at(DATA)))?;
            a.fstp(tbyte_ptr(at(DATA + 1)))?;
            exit(a, DONE)
        })
    }),
    row("user-sse", "SSE load and store of 16 bytes", PAGE_FAULT, &[DATA, DATA + 1], || {
        Guest::user(|a| {
            a.movups(xmm3, xmmword_ptr(at(DATA) + 8))?;
            a.movups(xmmword_ptr(at(DATA + 2) - 5), xmm3)?;
            exit(a, DONE)
        })
    }),
    row(
        "user-avx",
        "AVX load and store of 32 bytes, over page borders",
        PAGE_FAULT,
        &[DATA, DATA + 1, DATA + 2],
        || {
            Guest::user(|a| {
                a.vmovdqu(ymm3, ymmword_ptr(at(DATA + 1) - 9))?;
                a.vmovdqu(ymmword_ptr(at(DATA + 2) - 5), ymm3)?;
                exit(a, DONE)
            })
        },
    ),
];
