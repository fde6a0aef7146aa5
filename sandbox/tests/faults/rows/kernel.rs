//! Code of CPL 0.

use dejavm_sandbox::kernel::ports;
use iced_x86::code_asm::*;

use super::{DONE, Row, row};
use crate::guest::*;

const READ: &str = "`emulator_read_write_onepage`, `kvm_vcpu_read_guest` (x86.c): `KVM_EXIT_MMIO`";
const WRITE: &str = "\
    `emulator_read_write_onepage`, `emulator_write_phys` (x86.c): `KVM_EXIT_MMIO` once the instruction \
    is done";
const LOCKED: &str =
    "the operand is read first; then `emulator_cmpxchg_emulated`, `__try_cmpxchg_user` (x86.c)";
const FETCH: &str =
    "`kvm_fetch_guest_virt` (x86.c), `handle_emulation_failure`: `KVM_EXIT_INTERNAL_ERROR`, suberror 1";
const FXSAVE: &str =
    "`em_fxsave`, `em_fxrstor` (emulate.c): the area by `segmented_write_std`, `segmented_read_std`";
const STRING_IO: &str = "`emulator_pio_in`, then as a write (x86.c): `KVM_EXIT_MMIO` for each 8 bytes";

pub const ROWS: &[Row] = &[
    row("kernel-read", "read", READ, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(rbx, qword_ptr(at(DATA) + 8))?;
            exit(a, DONE)
        })
    }),
    row("kernel-write", "write", WRITE, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(qword_ptr(at(DATA) + 8), 1)?;
            exit(a, DONE)
        })
    }),
    row("kernel-execute", "jump to a page", FETCH, &[DATA], || {
        let mut guest = Guest::kernel(|a| a.jmp(at(DATA)));
        guest.code(at(DATA), |a| exit(a, DONE));
        guest
    }),
    row("kernel-execute-cross", "an instruction that crosses into a page", FETCH, &[CODE + 1], || {
        let start = at(CODE + 1) - 3;
        let mut guest = Guest::kernel(|a| a.jmp(start));
        guest.code(start, |a| {
            a.mov(rbx, 0x1122_3344_5566_7788u64)?;
            exit(a, DONE)
        });
        guest
    }),
    row("kernel-execute-row", "code that goes on in the next page", FETCH, &[CODE + 1], || {
        let start = at(CODE + 1) - 8;
        let mut guest = Guest::kernel(|a| a.jmp(start));
        guest.code(start, |a| {
            for _ in 0..8 {
                a.inc(bl)?;
                a.inc(cl)?;
            }
            exit(a, DONE)
        });
        guest
    }),
    row("kernel-read-cross", "read that crosses two pages, both absent", READ, &[DATA, DATA + 1], || {
        Guest::kernel(|a| {
            a.mov(rbx, qword_ptr(at(DATA + 1) - 3))?;
            exit(a, DONE)
        })
    }),
    row("kernel-read-cross-first", "read that crosses two pages, the first absent", READ, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(rbx, qword_ptr(at(DATA + 1) - 3))?;
            exit(a, DONE)
        })
    }),
    row(
        "kernel-read-cross-second",
        "read that crosses two pages, the second absent",
        READ,
        &[DATA + 1],
        || {
            Guest::kernel(|a| {
                a.mov(rbx, qword_ptr(at(DATA + 1) - 3))?;
                exit(a, DONE)
            })
        },
    ),
    row("kernel-write-cross", "write that crosses two pages, both absent", WRITE, &[DATA, DATA + 1], || {
        Guest::kernel(|a| {
            a.mov(rbx, 0x1122_3344_5566_7788u64)?;
            a.mov(qword_ptr(at(DATA + 1) - 3), rbx)?;
            exit(a, DONE)
        })
    }),
    row(
        "kernel-write-cross-second",
        "write that crosses two pages, the second absent",
        WRITE,
        &[DATA + 1],
        || {
            Guest::kernel(|a| {
                a.mov(rbx, 0x1122_3344_5566_7788u64)?;
                a.mov(qword_ptr(at(DATA + 1) - 3), rbx)?;
                exit(a, DONE)
            })
        },
    ),
    row("kernel-modify", "`add` to memory", WRITE, &[DATA], || {
        Guest::kernel(|a| {
            a.add(qword_ptr(at(DATA) + 16), 5)?;
            exit(a, DONE)
        })
    }),
    row(
        "kernel-modify-cross",
        "`add` to memory that crosses two pages, both absent",
        WRITE,
        &[DATA, DATA + 1],
        || {
            Guest::kernel(|a| {
                a.add(qword_ptr(at(DATA + 1) - 3), 5)?;
                exit(a, DONE)
            })
        },
    ),
    row("kernel-cmpxchg", "`lock cmpxchg`", LOCKED, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(rax, DATA << 32 | 0x5a)?;
            a.mov(rbx, 99u64)?;
            a.lock().cmpxchg(qword_ptr(at(DATA)), rbx)?;
            a.pushfq()?;
            exit(a, DONE)
        })
    }),
    row("kernel-cmpxchg8b", "`lock cmpxchg8b`", LOCKED, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(eax, 0x5a)?;
            a.mov(edx, DATA as u32)?;
            a.mov(ebx, 99)?;
            a.mov(ecx, 98)?;
            a.lock().cmpxchg8b(qword_ptr(at(DATA)))?;
            exit(a, DONE)
        })
    }),
    row("kernel-xadd", "`lock xadd`", LOCKED, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(rbx, 99u64)?;
            a.lock().xadd(qword_ptr(at(DATA)), rbx)?;
            exit(a, DONE)
        })
    }),
    row("kernel-xchg", "`xchg` with memory", LOCKED, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(rbx, 99u64)?;
            a.xchg(qword_ptr(at(DATA)), rbx)?;
            exit(a, DONE)
        })
    }),
    row("kernel-bts", "`lock bts`", LOCKED, &[DATA], || {
        Guest::kernel(|a| {
            a.lock().bts(qword_ptr(at(DATA)), 2)?;
            a.pushfq()?;
            exit(a, DONE)
        })
    }),
    row(
        "kernel-lock-cross",
        "`lock add` that crosses two pages, both absent",
        LOCKED,
        &[DATA, DATA + 1],
        || {
            Guest::kernel(|a| {
                a.lock().add(qword_ptr(at(DATA + 1) - 3), 5)?;
                exit(a, DONE)
            })
        },
    ),
    row("kernel-movs", "`movsq`, both sides absent", WRITE, &[DATA, DATA + 2], || {
        Guest::kernel(|a| {
            a.mov(esi, at(DATA) as u32)?;
            a.mov(edi, at(DATA + 2) as u32)?;
            a.movsq()?;
            exit(a, DONE)
        })
    }),
    row(
        "kernel-rep-movs",
        "`rep movsb` over page borders, all pages absent",
        WRITE,
        &[DATA, DATA + 1, DATA + 2, DATA + 3, DATA + 4],
        || {
            Guest::kernel(|a| {
                a.mov(esi, at(DATA + 1) as u32 - 100)?;
                a.mov(edi, at(DATA + 3) as u32 - 200)?;
                a.mov(ecx, 4500)?;
                a.rep().movsb()?;
                exit(a, DONE)
            })
        },
    ),
    row(
        "kernel-rep-stos",
        "`rep stosq` over four pages",
        WRITE,
        &[DATA, DATA + 1, DATA + 2, DATA + 3],
        || {
            Guest::kernel(|a| {
                a.mov(edi, at(DATA) as u32)?;
                a.mov(ecx, (4 * PAGE / 8) as u32)?;
                a.mov(eax, 0x77)?;
                a.rep().stosq()?;
                exit(a, DONE)
            })
        },
    ),
    row("kernel-cmps", "`repe cmpsb`, both sides absent", READ, &[DATA, DATA + 2], || {
        Guest::kernel(|a| {
            a.mov(esi, at(DATA) as u32 + 8)?;
            a.mov(edi, at(DATA + 2) as u32 + 8)?;
            a.mov(ecx, 64)?;
            a.repe().cmpsb()?;
            a.pushfq()?;
            exit(a, DONE)
        })
    }),
    row("kernel-push", "`push` to a stack", WRITE, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(esp, at(DATA + 1) as u32)?;
            a.push(0x55)?;
            exit(a, DONE)
        })
    }),
    row("kernel-push-memory", "`push` of memory, stack and operand absent", WRITE, &[DATA, DATA + 2], || {
        Guest::kernel(|a| {
            a.mov(esp, at(DATA + 1) as u32)?;
            a.push(qword_ptr(at(DATA + 2) + 8))?;
            exit(a, DONE)
        })
    }),
    row("kernel-pop", "`pop` from a stack", READ, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(esp, at(DATA) as u32)?;
            a.pop(rbx)?;
            exit(a, DONE)
        })
    }),
    row("kernel-pop-memory", "`pop` to memory, stack and operand absent", WRITE, &[DATA, DATA + 2], || {
        Guest::kernel(|a| {
            a.mov(esp, at(DATA) as u32)?;
            a.pop(qword_ptr(at(DATA + 2) + 8))?;
            exit(a, DONE)
        })
    }),
    row("kernel-popf", "`popfq` from a stack", READ, &[DATA], || {
        let mut guest = Guest::kernel(|a| {
            a.mov(esp, at(DATA) as u32)?;
            a.popfq()?;
            exit(a, DONE)
        });
        guest.words(at(DATA), &[RFLAGS | 0x41]);
        guest
    }),
    row("kernel-call", "`call` on a stack", WRITE, &[DATA], || {
        Guest::kernel(|a| {
            let mut function = a.create_label();
            a.mov(esp, at(DATA + 1) as u32)?;
            a.call(function)?;
            a.nop()?;
            a.set_label(&mut function)?;
            exit(a, DONE)
        })
    }),
    row(
        "kernel-call-memory",
        "`call` through memory, stack and operand absent",
        WRITE,
        &[DATA, DATA + 2],
        || {
            let mut guest = Guest::kernel(|a| {
                a.mov(esp, at(DATA + 1) as u32)?;
                a.call(qword_ptr(at(DATA + 2) + 8))
            });
            guest.words(at(DATA + 2) + 8, &[at(CODE) + 256]);
            guest.code(at(CODE) + 256, |a| exit(a, DONE));
            guest
        },
    ),
    row("kernel-ret", "`ret` from a stack", READ, &[DATA], || {
        let mut guest = Guest::kernel(|a| {
            a.mov(esp, at(DATA) as u32)?;
            a.ret()
        });
        guest.words(at(DATA), &[at(CODE) + 256]);
        guest.code(at(CODE) + 256, |a| exit(a, DONE));
        guest
    }),
    row("kernel-enter-leave", "`leave` from a stack", READ, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(ebp, at(DATA) as u32)?;
            a.leave()?;
            exit(a, DONE)
        })
    }),
    row("kernel-ins", "`insb` to a buffer", STRING_IO, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(edx, u32::from(ports::CHANNEL))?;
            a.mov(edi, at(DATA) as u32)?;
            a.insb()?;
            exit(a, DONE)
        })
    }),
    row(
        "kernel-rep-ins",
        "`rep insb` over a page border, both pages absent",
        STRING_IO,
        &[DATA, DATA + 1],
        || {
            Guest::kernel(|a| {
                a.mov(edx, u32::from(ports::CHANNEL))?;
                a.mov(edi, at(DATA + 1) as u32 - 20)?;
                a.mov(ecx, 100)?;
                a.rep().insb()?;
                exit(a, DONE)
            })
        },
    ),
    row("kernel-outs", "`outsb` from a buffer", READ, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(edx, u32::from(LOG))?;
            a.mov(esi, at(DATA) as u32)?;
            a.outsb()?;
            exit(a, DONE)
        })
    }),
    row(
        "kernel-rep-outs",
        "`rep outsd` over a page border, both pages absent",
        READ,
        &[DATA, DATA + 1],
        || {
            Guest::kernel(|a| {
                a.mov(edx, u32::from(LOG))?;
                a.mov(esi, at(DATA + 1) as u32 - 20)?;
                a.mov(ecx, 10)?;
                a.rep().outsd()?;
                exit(a, DONE)
            })
        },
    ),
    row("kernel-movdqu", "`movdqu` load and store of 16 bytes", WRITE, &[DATA, DATA + 1], || {
        Guest::kernel(|a| {
            a.movdqu(xmm3, xmmword_ptr(at(DATA) + 8))?;
            a.movdqu(xmmword_ptr(at(DATA + 1) + 8), xmm3)?;
            exit(a, DONE)
        })
    }),
    row("kernel-fxsave", "`fxsave`", FXSAVE, &[DATA], || {
        Guest::kernel(|a| {
            a.fxsave(ptr(at(DATA)))?;
            exit(a, DONE)
        })
    }),
    row("kernel-fxrstor", "`fxrstor`", FXSAVE, &[DATA], || {
        let mut guest = Guest::kernel(|a| {
            a.fxrstor(ptr(at(DATA)))?;
            exit(a, DONE)
        });
        guest.write(at(DATA), &[0; 512]);
        guest.write(at(DATA), &[0x7f, 3]);
        guest.write(at(DATA) + 24, &[0x80, 0x1f]);
        guest
    }),
    row("kernel-fnstcw", "`fnstcw`", WRITE, &[DATA], || {
        Guest::kernel(|a| {
            a.fnstcw(word_ptr(at(DATA)))?;
            exit(a, DONE)
        })
    }),
    row("kernel-clflush", "`clflush`", READ, &[DATA], || {
        Guest::kernel(|a| {
            a.clflush(byte_ptr(at(DATA)))?;
            exit(a, DONE)
        })
    }),
];
