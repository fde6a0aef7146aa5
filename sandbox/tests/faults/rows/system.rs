//! Descriptor tables, task state, control registers, and the ways between CPL 0 and 3.

use dejavm_sandbox::kernel::ports;
use iced_x86::code_asm::*;

use super::{DE, DF, DONE, GP, PF, Row, UD, row};
use crate::guest::*;

const ROOT: &str = "\
    `kvm_set_cr3` (x86.c) reads nothing; the next walk fails: `FNAME(walk_addr_generic)` \
    (mmu/paging_tmpl.h)";
const INVLPG: &str = "`em_invlpg` (emulate.c), `kvm_mmu_invlpg` (mmu/mmu.c): the page itself is not read";
const SMSW: &str = "`em_smsw` (emulate.c): as any write, `KVM_EXIT_MMIO`";
const LOAD_TABLE: &str = "the operand as any read (x86.c): `KVM_EXIT_MMIO`";
const STORE_TABLE: &str = "\
    `emulate_store_desc_ptr` (emulate.c), `kvm_write_guest_virt_helper` (x86.c): `X86EMUL_IO_NEEDED`, \
    tried for ever";
const SEGMENT: &str = "\
    `load_segment_descriptor` (emulate.c), `kvm_read_guest_virt_helper` (x86.c): `X86EMUL_IO_NEEDED`, \
    tried for ever";
const EVENT: &str = "delivery in software, by `kvm_pvm` (out of tree); VMX and SVM let the CPU do it";
const RETURN: &str =
    "`iretq` in software, by `kvm_pvm` (out of tree); `em_iret` (emulate.c) has real mode alone";
const FAR_BRANCH: &str =
    "`em_ret_far`, `em_jmp_far` (emulate.c): frame as any read, descriptor as in a segment load";
const BITMAP: &str = "`emulator_io_port_access_allowed` (emulate.c): what cannot be read is closed, `#GP`";
const STRING_IO: &str = "`em_in`, `em_out` through the emulator (x86.c), as at CPL 0";

/// `retfq`.
const RETFQ: [u8; 2] = [0x48, 0xcb];

fn to_user(a: &mut CodeAssembler, stack: u64) -> Code {
    a.push(i32::from(USER_DS))?;
    a.push(stack as i32)?;
    a.push(RFLAGS as i32)?;
    a.push(i32::from(USER_CS))?;
    a.push(at(USER_CODE) as i32)?;
    a.iretq()
}

fn divide(a: &mut CodeAssembler) -> Code {
    a.xor(edx, edx)?;
    a.mov(eax, 1)?;
    a.div(rdx)
}

/// What `iretq` pops, for a way to an exit at CPL 0; `retfq` pops the first part of it.
fn frame(guest: &mut Guest, address: u64) {
    let (code, stack) = (u64::from(KERNEL_CS), u64::from(KERNEL_DS));
    guest.words(address, &[at(CODE) + 256, code, RFLAGS, at(STACK + 1) - 64, stack]);
    guest.code(at(CODE) + 256, |a| exit(a, DONE));
}

pub const ROWS: &[Row] = &[
    row("cr3-root", "CPL 0: `mov cr3` to an absent root", ROOT, &[ROOT2], || {
        Guest::kernel(|a| {
            a.mov(rax, at(ROOT2))?;
            a.mov(cr3, rax)?;
            exit(a, DONE)
        })
    }),
    row(
        "cr3-tables",
        "CPL 0: `mov cr3` to a root whose tables are absent",
        ROOT,
        &[ROOT2 + 1, ROOT2 + 2, ROOT2 + 3],
        || {
            Guest::kernel(|a| {
                a.mov(rax, at(ROOT2))?;
                a.mov(cr3, rax)?;
                exit(a, DONE)
            })
        },
    ),
    row("invlpg", "CPL 0: `invlpg` of an absent page", INVLPG, &[DATA], || {
        Guest::kernel(|a| {
            a.invlpg(byte_ptr(at(DATA)))?;
            exit(a, DONE)
        })
    }),
    row("lgdt", "CPL 0: `lgdt`, operand absent", LOAD_TABLE, &[DATA], || {
        let mut guest = Guest::kernel(|a| {
            a.lgdt(ptr(at(DATA)))?;
            a.mov(eax, u32::from(KERNEL_DS))?;
            a.mov(ds, eax)?;
            exit(a, DONE)
        });
        guest.write(at(DATA), &[87, 0]);
        guest.write(at(DATA) + 2, &at(GDT2).to_le_bytes());
        guest
    }),
    row("lidt", "CPL 0: `lidt`, operand absent", LOAD_TABLE, &[DATA], || {
        let mut guest = Guest::kernel(|a| {
            a.lidt(ptr(at(DATA)))?;
            exit(a, DONE)
        });
        guest.write(at(DATA), &[0xff, 1]);
        guest.write(at(DATA) + 2, &at(IDT2).to_le_bytes());
        guest
    }),
    row("sgdt", "CPL 0: `sgdt`, operand absent", STORE_TABLE, &[DATA], || {
        Guest::kernel(|a| {
            a.sgdt(ptr(at(DATA)))?;
            exit(a, DONE)
        })
    }),
    row("sidt", "CPL 0: `sidt`, operand absent", STORE_TABLE, &[DATA], || {
        Guest::kernel(|a| {
            a.sidt(ptr(at(DATA)))?;
            exit(a, DONE)
        })
    }),
    row("smsw", "CPL 0: `smsw`, operand absent", SMSW, &[DATA], || {
        Guest::kernel(|a| {
            a.smsw(word_ptr(at(DATA)))?;
            exit(a, DONE)
        })
    }),
    row("mov-ds", "CPL 0: `mov ds`, GDT absent", SEGMENT, &[GDT], || {
        Guest::kernel(|a| {
            a.mov(eax, u32::from(KERNEL_DS))?;
            a.mov(ds, eax)?;
            exit(a, DONE)
        })
    }),
    row("mov-ss", "CPL 0: `mov ss`, GDT absent", SEGMENT, &[GDT], || {
        Guest::kernel(|a| {
            a.mov(eax, u32::from(KERNEL_DS))?;
            a.mov(ss, eax)?;
            exit(a, DONE)
        })
    }),
    row("mov-ds-other", "CPL 0: `mov ds` of another GDT, which is absent", SEGMENT, &[GDT2], || {
        let mut guest = Guest::kernel(|a| {
            a.lgdt(ptr(at(SCRATCH)))?;
            a.mov(eax, u32::from(KERNEL_DS))?;
            a.mov(ds, eax)?;
            exit(a, DONE)
        });
        guest.write(at(SCRATCH), &[87, 0]);
        guest.write(at(SCRATCH) + 2, &at(GDT2).to_le_bytes());
        guest
    }),
    row("pop-fs", "CPL 0: `pop fs`, GDT and stack absent", SEGMENT, &[GDT, DATA], || {
        let mut guest = Guest::kernel(|a| {
            a.mov(esp, at(DATA) as u32)?;
            a.pop(fs)?;
            exit(a, DONE)
        });
        guest.words(at(DATA), &[u64::from(KERNEL_DS)]);
        guest
    }),
    row("lfs", "CPL 0: `lfs`, GDT and operand absent", SEGMENT, &[GDT, DATA], || {
        let mut guest = Guest::kernel(|a| {
            a.lfs(eax, fword_ptr(at(DATA)))?;
            exit(a, DONE)
        });
        guest.write(at(DATA), &[1, 2, 3, 4, KERNEL_DS as u8, 0]);
        guest
    }),
    row("ltr", "CPL 0: `ltr`, GDT absent", SEGMENT, &[GDT], || {
        Guest::kernel(|a| {
            a.mov(eax, u32::from(TSS2_SELECTOR))?;
            a.ltr(ax)?;
            exit(a, DONE)
        })
    }),
    row("lldt", "CPL 0: `lldt`, GDT absent", SEGMENT, &[GDT], || {
        Guest::kernel(|a| {
            a.mov(eax, u32::from(LDT_SELECTOR))?;
            a.lldt(ax)?;
            exit(a, DONE)
        })
    }),
    row("mov-ds-ldt", "CPL 0: `mov ds`, LDT absent", SEGMENT, &[LDT], || {
        Guest::kernel(|a| {
            a.mov(eax, u32::from(LDT_SELECTOR))?;
            a.lldt(ax)?;
            a.mov(eax, u32::from(IN_LDT))?;
            a.mov(ds, eax)?;
            exit(a, DONE)
        })
    }),
    row("retfq", "CPL 0: `retfq`, frame absent", FAR_BRANCH, &[DATA], || {
        let mut guest = Guest::kernel(|a| {
            a.mov(esp, at(DATA) as u32)?;
            a.db(&RETFQ)
        });
        frame(&mut guest, at(DATA));
        guest
    }),
    row("retfq-gdt", "CPL 0: `retfq`, GDT absent", FAR_BRANCH, &[GDT], || {
        let mut guest = Guest::kernel(|a| {
            a.mov(esp, at(DATA) as u32)?;
            a.db(&RETFQ)
        });
        frame(&mut guest, at(DATA));
        guest
    }),
    row(
        "jmp-far",
        "CPL 0: far `jmp` through memory, operand and GDT absent",
        FAR_BRANCH,
        &[DATA, GDT],
        || {
            let mut guest = Guest::kernel(|a| a.jmp(fword_ptr(at(DATA))));
            guest.words(at(DATA), &[(at(CODE) + 256) | u64::from(KERNEL_CS) << 32]);
            guest.code(at(CODE) + 256, |a| exit(a, DONE));
            guest
        },
    ),
    row("iretq", "CPL 0: `iretq` to CPL 0, frame absent", RETURN, &[DATA], || {
        let mut guest = Guest::kernel(|a| {
            a.mov(esp, at(DATA) as u32)?;
            a.iretq()
        });
        frame(&mut guest, at(DATA));
        guest
    }),
    row(
        "iretq-cross",
        "CPL 0: `iretq` to CPL 0, frame over two pages, both absent",
        RETURN,
        &[DATA, DATA + 1],
        || {
            let mut guest = Guest::kernel(|a| {
                a.mov(esp, at(DATA + 1) as u32 - 16)?;
                a.iretq()
            });
            frame(&mut guest, at(DATA + 1) - 16);
            guest
        },
    ),
    row("iretq-gdt", "CPL 0: `iretq` to CPL 0, GDT absent", RETURN, &[GDT], || {
        let mut guest = Guest::kernel(|a| {
            a.mov(esp, at(DATA) as u32)?;
            a.iretq()
        });
        frame(&mut guest, at(DATA));
        guest
    }),
    row(
        "iretq-user",
        "CPL 0: `iretq` to CPL 3, the stack and code there absent",
        RETURN,
        &[USER_CODE, DATA],
        || {
            let mut guest = Guest::kernel(|a| to_user(a, at(DATA + 1)));
            guest.code(at(USER_CODE), |a| {
                a.push(5)?;
                exit(a, DONE)
            });
            guest
        },
    ),
    row("iretq-user-frame", "CPL 0: `iretq` to CPL 3, frame absent", RETURN, &[DATA], || {
        let mut guest = Guest::kernel(|a| {
            a.mov(esp, at(DATA) as u32)?;
            a.iretq()
        });
        let (code, stack) = (u64::from(USER_CS), u64::from(USER_DS));
        guest.words(at(DATA), &[at(USER_CODE), code, RFLAGS, at(USER_STACK + 1), stack]);
        guest.code(at(USER_CODE), |a| exit(a, DONE));
        guest
    }),
    row("iretq-user-gdt", "CPL 0: `iretq` to CPL 3, GDT absent", RETURN, &[GDT], || {
        let mut guest = Guest::kernel(|a| to_user(a, at(USER_STACK + 1)));
        guest.code(at(USER_CODE), |a| exit(a, DONE));
        guest
    }),
    row("user-exception-idt", "CPL 3: `ud2`, IDT absent", EVENT, &[IDT], || Guest::user(|a| a.ud2()))
        .raises(UD),
    row("user-exception-gdt", "CPL 3: `ud2`, GDT absent", EVENT, &[GDT], || Guest::user(|a| a.ud2()))
        .raises(UD),
    row("user-exception-tss", "CPL 3: `ud2`, TSS absent", EVENT, &[TSS], || Guest::user(|a| a.ud2()))
        .raises(UD),
    row("user-exception-stack", "CPL 3: `ud2`, stack of CPL 0 absent", EVENT, &[STACK0], || {
        Guest::user(|a| a.ud2())
    })
    .raises(UD),
    row("user-exception-ist", "CPL 3: `div` by 0, IST stack absent", EVENT, &[STACK_IST], || {
        Guest::user(divide)
    })
    .raises(DE),
    row("user-exception-handler", "CPL 3: `ud2`, handler's code absent", EVENT, &[STUBS], || {
        Guest::user(|a| a.ud2())
    })
    .raises(UD),
    row(
        "user-exception-all",
        "CPL 3: `div` by 0: IDT, GDT, TSS, IST stack and handler absent",
        EVENT,
        &[IDT, GDT, TSS, STACK_IST, STUBS],
        || Guest::user(divide),
    )
    .raises(DE),
    row(
        "user-breakpoint",
        "CPL 3: `int3` and back: IDT, GDT, TSS, stack absent",
        EVENT,
        &[IDT, GDT, TSS, STACK0],
        || {
            Guest::user(|a| {
                a.int3()?;
                exit(a, DONE)
            })
        },
    ),
    row(
        "user-page-fault",
        "CPL 3: `#PF`: IDT, GDT, TSS, stack absent",
        EVENT,
        &[IDT, GDT, TSS, STACK0],
        || {
            Guest::user(|a| {
                a.mov(rbx, UNMAPPED)?;
                a.mov(rax, qword_ptr(rbx))
            })
        },
    )
    .raises(PF),
    row(
        "user-protection",
        "CPL 3: `#GP`: IDT, GDT, TSS, stack absent",
        EVENT,
        &[IDT, GDT, TSS, STACK0],
        || Guest::user(|a| a.hlt()),
    )
    .raises(GP),
    row("kernel-exception-idt", "CPL 0: `div` by 0, IDT absent", EVENT, &[IDT], || Guest::kernel(divide))
        .raises(DE),
    row("kernel-exception-ist", "CPL 0: `div` by 0, IST stack absent", EVENT, &[STACK_IST], || {
        Guest::kernel(divide)
    })
    .raises(DE),
    row("kernel-exception-tss", "CPL 0: `div` by 0, TSS absent", EVENT, &[TSS], || Guest::kernel(divide))
        .raises(DE),
    row("kernel-exception-gdt", "CPL 0: `div` by 0, GDT absent", EVENT, &[GDT], || Guest::kernel(divide))
        .raises(DE),
    row("kernel-exception-handler", "CPL 0: `div` by 0, handler's code absent", EVENT, &[STUBS], || {
        Guest::kernel(divide)
    })
    .raises(DE),
    row("kernel-exception-stack", "CPL 0: `ud2`, stack absent", EVENT, &[DATA], || {
        Guest::kernel(|a| {
            a.mov(esp, at(DATA + 1) as u32)?;
            a.ud2()
        })
    })
    .raises(UD),
    row(
        "kernel-exception-stack-cross",
        "CPL 0: `ud2`, stack over two pages absent",
        EVENT,
        &[DATA, DATA + 1],
        || {
            Guest::kernel(|a| {
                a.mov(esp, at(DATA + 1) as u32 + 16)?;
                a.ud2()
            })
        },
    )
    .raises(UD),
    row(
        "kernel-exception-stack-df",
        "CPL 0: `ud2`, stack absent, `#DF` has a stack of its own",
        EVENT,
        &[STACK],
        || Guest::kernel(|a| a.ud2()).double_fault_on_ist(),
    )
    .raises(UD),
    row(
        "kernel-stack-untouched",
        "CPL 0: RSP set to another stack, then `ud2`, `#DF` as before",
        EVENT,
        &[DATA],
        || {
            Guest::kernel(|a| {
                a.mov(esp, at(DATA + 1) as u32)?;
                a.ud2()
            })
            .double_fault_on_ist()
        },
    )
    .raises(UD),
    row(
        "kernel-ist-named",
        "CPL 0: the TSS gets another IST stack, then `div` by 0, `#DF` as before",
        EVENT,
        &[DATA],
        || {
            Guest::kernel(|a| {
                a.mov(eax, at(DATA + 1) as u32)?;
                a.mov(qword_ptr(at(TSS) + 36), rax)?;
                a.xor(ecx, ecx)?;
                a.div(ecx)
            })
            .double_fault_on_ist()
        },
    )
    .raises(DE),
    row(
        "double-fault",
        "CPL 0: `ud2` on a stack that is not mapped: the guest's own `#DF`, whose stack is absent",
        EVENT,
        &[STACK_IST],
        || {
            Guest::kernel(|a| {
                a.mov(rsp, UNMAPPED + 64)?;
                a.ud2()
            })
            .double_fault_on_ist()
        },
    )
    .raises(DF),
    row(
        "kernel-stack-switch",
        "CPL 0: `push` to another stack, then `ud2` across its page's border, `#DF` as before",
        EVENT,
        &[DATA, DATA + 1],
        || {
            Guest::kernel(|a| {
                a.mov(esp, at(DATA + 1) as u32 + 16)?;
                a.push(1)?;
                a.ud2()
            })
            .double_fault_on_ist()
        },
    )
    .raises(UD),
    row("kernel-page-fault", "CPL 0: `#PF`, IDT and stack absent", EVENT, &[IDT, DATA], || {
        Guest::kernel(|a| {
            a.mov(esp, at(DATA + 1) as u32)?;
            a.mov(rbx, UNMAPPED)?;
            a.mov(rax, qword_ptr(rbx))
        })
    })
    .raises(PF),
    row("kernel-protection", "CPL 0: `#GP`, IDT and stack absent", EVENT, &[IDT, DATA], || {
        Guest::kernel(|a| {
            a.mov(esp, at(DATA + 1) as u32)?;
            a.mov(eax, 0x3f8)?;
            a.mov(ds, eax)
        })
    })
    .raises(GP),
    row("io-bitmap", "CPL 3: `out`, TSS with the I/O permission bitmap absent", BITMAP, &[TSS], || {
        Guest::user(|a| exit(a, DONE))
    }),
    row("io-bitmap-far", "CPL 3: `in`, the bitmap's second page absent", BITMAP, &[TSS + 1], || {
        let mut guest = Guest::user(|a| {
            a.mov(edx, 0x8000)?;
            a.in_(al, dx)?;
            a.mov(ebx, eax)?;
            exit(a, DONE)
        });
        guest.write(at(TSS) + IO_MAP + 0x1000, &[0]);
        guest
    }),
    row(
        "io-bitmap-closed",
        "CPL 3: `in` of a closed port, the bitmap's second page absent",
        BITMAP,
        &[TSS + 1],
        || {
            Guest::user(|a| {
                a.mov(edx, 0x8000)?;
                a.in_(al, dx)?;
                exit(a, DONE)
            })
        },
    )
    .raises(GP),
    row("user-ins", "CPL 3: `insb` to a buffer", STRING_IO, &[DATA], || {
        let mut guest = Guest::user(|a| {
            a.mov(edx, u32::from(ports::CHANNEL))?;
            a.mov(edi, at(DATA) as u32)?;
            a.insb()?;
            exit(a, DONE)
        });
        guest.write(at(TSS) + IO_MAP + u64::from(ports::CHANNEL / 8), &[0]);
        guest
    }),
    row("user-outs", "CPL 3: `outsb` from a buffer", STRING_IO, &[DATA], || {
        let mut guest = Guest::user(|a| {
            a.mov(edx, u32::from(LOG))?;
            a.mov(esi, at(DATA) as u32)?;
            a.outsb()?;
            exit(a, DONE)
        });
        guest.write(at(TSS) + IO_MAP + u64::from(LOG / 8), &[0]);
        guest
    }),
    row("user-umip", "CPL 3: `sgdt`, operand absent", STORE_TABLE, &[DATA], || {
        Guest::user(|a| {
            a.sgdt(ptr(at(DATA)))?;
            exit(a, DONE)
        })
    }),
];
