//! How code at CPL 3 reaches the monitor: descriptor tables, and stubs that exit. Programs and the tiny
//! guests that probe a host have the same.
//!
//! `SYSCALL` goes to a stub whose first instruction is `out SYSCALL_PORT, al`; an exception goes
//! through the IDT to a stub whose first instruction is `out EXCEPTION_PORT, al`. Either exits to
//! the monitor.
//!
//! Two kinds of host have to be served:
//! * where code of CPL 0 runs natively, `SYSCALL` enters CPL 0. The stub's `out` needs no
//!   permission there, and `sysretq` behind it goes back;
//! * where KVM runs the whole guest in hardware ring 3, `SYSCALL` leaves CS as it was, so that the
//!   stub runs at CPL 3: its page must be executable for the user and lie in the lower half, and
//!   the port must be open in the TSS's permission bitmap. The monitor sets RIP to RCX itself.
//!
//! A program may jump to the stub, or use the port where it is open: either is no more than a
//! system call with a strange return address, which the monitor checks.

use kvm_bindings::{kvm_dtable, kvm_segment, kvm_sregs};

use crate::x86::descriptors::{
    CODE_READ_ACCESSED, DATA_WRITE_ACCESSED, GATE_BYTES, TSS_BYTES, TSS_IO_BASE, TSS_IST1, TSS_SP0,
    descriptor, flat_segment, gate, task_segment, trap_gate,
};
use crate::x86::flags::{cr0, cr4, efer, rflags};
use crate::x86::{msr, vector};

/// Port of the system-call stub.
pub const SYSCALL_PORT: u16 = 0x10;
/// Port of the exception stubs.
pub const EXCEPTION_PORT: u16 = 0x11;

/// Port of a program machine's handler of breakpoints, which runs at CPL 3.
pub const BREAKPOINT_PORT: u16 = 0x12;

/// Exceptions that have a stub: all that the architecture defines.
pub const VECTORS: u8 = vector::COUNT;
/// Bytes from one exception stub to the next.
const STUB_STRIDE: usize = 16;
/// Bytes of all exception stubs.
pub const STUBS_BYTES: usize = VECTORS as usize * STUB_STRIDE;

/// Code segment of the stubs.
pub const KERNEL_CS: u16 = 0x08;
/// Data segment of the stubs.
pub const KERNEL_DS: u16 = 0x10;
/// Code segment of programs. This selector and the next are those that Linux gives to 64-bit programs
/// (`arch/x86/include/asm/segment.h`), which some programs compare.
pub const USER_CS: u16 = 0x33;
/// Data segment of programs.
pub const USER_DS: u16 = 0x2b;
const TSS_SELECTOR: u16 = 0x40;

/// The kernel's data segment stands where `SYSCALL` expects it: right behind its code segment.
const _: () = assert!(KERNEL_DS == KERNEL_CS + 8);

/// Descriptors in the GDT: the TSS has the last two.
const GDT_ENTRIES: usize = 10;
/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: u16 = 8;
/// Offset of the I/O permission bitmap in the TSS: right behind the fixed part.
pub const TSS_IO_MAP: u64 = TSS_BYTES;

/// `out SYSCALL_PORT, al; sysretq`
pub const SYSCALL_CODE: &[u8] = &[0xe6, SYSCALL_PORT as u8, 0x48, 0x0f, 0x07];
/// `out EXCEPTION_PORT, al; iretq`
const EXCEPTION_CODE: &[u8] = &[0xe6, EXCEPTION_PORT as u8, 0x48, 0xcf];
/// `out EXCEPTION_PORT, al; add rsp, 8; iretq`
const EXCEPTION_CODE_WITH_ERROR: &[u8] = &[0xe6, EXCEPTION_PORT as u8, 0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf];
/// Bytes of a stub's `out`.
const OUT_BYTES: u64 = 2;

/// The code of the exception stubs, [`STUBS_BYTES`] of it.
pub fn exception_stubs() -> Vec<u8> {
    let mut stubs = vec![0; STUBS_BYTES];
    for (vector, stub) in (0..VECTORS).zip(stubs.chunks_exact_mut(STUB_STRIDE)) {
        let code = exception_code(vector::has_error_code(vector));
        stub[..code.len()].copy_from_slice(code);
    }
    stubs
}

fn exception_code(has_error_code: bool) -> &'static [u8] {
    if has_error_code { EXCEPTION_CODE_WITH_ERROR } else { EXCEPTION_CODE }
}

/// Where a machine has its descriptor tables, stubs and exception stack, by linear addresses.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The system-call stub: LSTAR.
    pub syscall_stub: u64,
    /// The exception stubs.
    pub stubs: u64,
    /// The GDT.
    pub gdt: u64,
    /// The IDT.
    pub idt: u64,
    /// The TSS.
    pub tss: u64,
    /// Offset of the TSS's last byte, which is in its I/O permission bitmap or behind it.
    pub tss_limit: u32,
    /// Where the CPU's exception stack starts: the end of its memory.
    pub stack_top: u64,
    /// Who takes breakpoints, where it is not their stub.
    pub breakpoint: Option<Handler>,
}

/// A handler of an exception at the program's own privilege.
#[derive(Clone, Copy, Debug)]
pub struct Handler {
    /// Its code.
    pub code: u64,
    /// Where its stack starts: one of its own, since below the program's there may be data (the red zone).
    pub stack_top: u64,
}

/// The stack of [`Handler`] among those of the TSS, from 1.
const HANDLER_STACK: u8 = 1;

impl Layout {
    /// Builds the GDT: null, kernel code and data, two unused, user data and code, one unused, and the
    /// TSS, which takes two.
    pub fn gdt_entries(&self) -> [u64; GDT_ENTRIES] {
        let [kernel_code, kernel_data] = [code_segment(KERNEL_CS, 0), data_segment(KERNEL_DS, 0)];
        let [user_data, user_code] = [data_segment(USER_DS, 3), code_segment(USER_CS, 3)];
        let mut entries = [0; GDT_ENTRIES];
        for segment in [kernel_code, kernel_data, user_data, user_code, self.task_segment()] {
            entries[usize::from(segment.selector / DESCRIPTOR_BYTES)] = descriptor(&segment);
        }
        entries[GDT_ENTRIES - 1] = self.tss >> 32;
        entries
    }

    /// Builds the IDT: a gate of two words for each vector.
    pub fn idt_entries(&self) -> impl Iterator<Item = u64> {
        let stubs = (self.stubs..).step_by(STUB_STRIDE);
        (0..VECTORS).zip(stubs).flat_map(|(vector, stub)| {
            if let Some(handler) = self.breakpoint
                && vector == vector::BREAKPOINT
            {
                // A trap gate: at CPL 3 nothing could set RFLAGS.IF again.
                return trap_gate(handler.code, USER_CS, HANDLER_STACK);
            }
            // `int3` and `into` may come from the program itself.
            let open = matches!(vector, vector::BREAKPOINT | vector::OVERFLOW);
            gate(stub, KERNEL_CS, if open { 3 } else { 0 })
        })
    }

    /// Builds the TSS up to its limit. With `open_port` code at CPL 3 may use the system-call port:
    /// needed where `SYSCALL` does not enter CPL 0.
    pub fn tss_bytes(&self, open_port: bool) -> Vec<u8> {
        let mut tss = vec![0; TSS_IO_MAP as usize];
        tss[TSS_SP0 as usize..][..8].copy_from_slice(&self.stack_top.to_le_bytes());
        tss[TSS_IO_BASE as usize..][..2].copy_from_slice(&(TSS_IO_MAP as u16).to_le_bytes());
        tss.resize(self.tss_limit as usize + 1, 0xff);
        let mut open = |port: u16| tss[TSS_IO_MAP as usize + usize::from(port / 8)] &= !(1 << (port % 8));
        if open_port {
            open(SYSCALL_PORT);
        }
        if let Some(handler) = self.breakpoint {
            open(BREAKPOINT_PORT);
            tss[TSS_IST1 as usize..][..8].copy_from_slice(&handler.stack_top.to_le_bytes());
        }
        tss
    }

    fn task_segment(&self) -> kvm_segment {
        task_segment(TSS_SELECTOR, self.tss, self.tss_limit)
    }

    /// Gives the GDT's register: its address and limit.
    pub fn gdt_register(&self) -> kvm_dtable {
        let limit = GDT_ENTRIES as u16 * DESCRIPTOR_BYTES - 1;
        kvm_dtable { base: self.gdt, limit, ..Default::default() }
    }

    /// Sets the system registers for code at CPL 3 in the address space at `root`.
    pub fn set_user_mode(
        &self,
        sregs: &mut kvm_sregs,
        root: u64,
        fs_base: u64,
        gs_base: u64,
        fsgsbase: bool,
        trap_tsc: bool,
    ) {
        sregs.cr0 = CR0;
        sregs.cr3 = root;
        sregs.cr4 = CR4;
        if fsgsbase {
            sregs.cr4 |= cr4::FSGSBASE;
        }
        if trap_tsc {
            sregs.cr4 |= cr4::TSD;
        }
        sregs.efer = EFER;
        sregs.cs = code_segment(USER_CS, 3);
        sregs.ss = data_segment(USER_DS, 3);
        // As Linux leaves them for 64-bit programs: null selectors.
        let null = kvm_segment { unusable: 1, ..Default::default() };
        (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (null, null, null, null);
        sregs.fs.base = fs_base;
        sregs.gs.base = gs_base;
        sregs.ldt = null;
        sregs.tr = self.task_segment();
        sregs.gdt = self.gdt_register();
        let idt_limit = u16::from(VECTORS) * GATE_BYTES as u16 - 1;
        sregs.idt = kvm_dtable { base: self.idt, limit: idt_limit, ..Default::default() };
    }

    /// Gives the MSRs of `SYSCALL`, by their numbers.
    pub fn syscall_msrs(&self) -> [(u32, u64); 3] {
        // `sysretq` loads CS from bits 63:48 plus 16 and SS from them plus 8, both with RPL 3.
        let user_base = u64::from(USER_DS - 8);
        [
            (msr::STAR, user_base << 48 | u64::from(KERNEL_CS) << 32),
            (msr::LSTAR, self.syscall_stub),
            (msr::FMASK, SYSCALL_CLEARS),
        ]
    }

    /// The exception that a stub's exit stands for, by RIP, which is at the stub's `out` or behind it.
    pub fn vector_at(&self, rip: u64) -> Option<u8> {
        let offset = rip.checked_sub(self.stubs)?;
        u8::try_from(offset / STUB_STRIDE as u64)
            .ok()
            .filter(|vector| *vector < VECTORS && offset % STUB_STRIDE as u64 <= OUT_BYTES)
    }

    /// Whether an exit of the system-call port came from the stub.
    pub fn is_syscall_stub(&self, rip: u64) -> bool {
        rip.wrapping_sub(self.syscall_stub) <= OUT_BYTES
    }
}

fn code_segment(selector: u16, dpl: u8) -> kvm_segment {
    kvm_segment { dpl, l: 1, ..flat_segment(selector, CODE_READ_ACCESSED) }
}

fn data_segment(selector: u16, dpl: u8) -> kvm_segment {
    kvm_segment { dpl, db: 1, ..flat_segment(selector, DATA_WRITE_ACCESSED) }
}

const CR0: u64 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;
const CR4: u64 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
const EFER: u64 = efer::SCE | efer::LME | efer::LMA | efer::NXE;
/// RFLAGS that `SYSCALL` clears, as Linux does.
const SYSCALL_CLEARS: u64 = rflags::TRAP_FLAG
    | rflags::INTERRUPT_FLAG
    | rflags::DIRECTION_FLAG
    | rflags::IO_PRIVILEGE
    | rflags::NESTED_TASK
    | rflags::ALIGNMENT_CHECK;

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        syscall_stub: 0x1000,
        stubs: 0x2000,
        gdt: 0x3000,
        idt: 0x4000,
        tss: 0x1_2345_6000,
        tss_limit: 0x2068,
        stack_top: 0x9000,
        breakpoint: None,
    };

    #[test]
    fn stubs_are_known_by_address() {
        assert_eq!(LAYOUT.vector_at(0x2000), Some(0));
        assert_eq!(LAYOUT.vector_at(0x2000 + 14 * 16 + 2), Some(14));
        assert_eq!(LAYOUT.vector_at(0x2000 + 14 * 16 + 5), None);
        assert_eq!(LAYOUT.vector_at(0x2000 + 32 * 16), None);
        assert_eq!(LAYOUT.vector_at(0x1000), None);
        let at_stub = [0xfff, 0x1000, 0x1002, 0x1003].map(|rip| LAYOUT.is_syscall_stub(rip));
        assert_eq!(at_stub, [false, true, true, false]);
    }

    #[test]
    fn stubs_are_the_instructions_that_they_should_be() {
        use iced_x86::code_asm::{CodeAssembler, registers as reg};

        let mut a = CodeAssembler::new(64).unwrap();
        a.out(i32::from(EXCEPTION_PORT), reg::al).unwrap();
        a.iretq().unwrap();
        assert_eq!(a.assemble(0).unwrap(), exception_code(false));
        a.reset();
        a.out(i32::from(EXCEPTION_PORT), reg::al).unwrap();
        a.add(reg::rsp, 8).unwrap();
        a.iretq().unwrap();
        assert_eq!(a.assemble(0).unwrap(), exception_code(true));
        a.reset();
        a.out(i32::from(SYSCALL_PORT), reg::al).unwrap();
        a.sysretq().unwrap();
        assert_eq!(a.assemble(0).unwrap(), SYSCALL_CODE);
        assert!(exception_code(true).len() <= STUB_STRIDE);
        assert_eq!(exception_stubs()[14 * STUB_STRIDE..][..8], *exception_code(true));
    }

    #[test]
    fn tables() {
        let gdt = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0,
            0,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            0,
            0x2300_8b45_6000_2068,
            1,
        ];
        assert_eq!(LAYOUT.gdt_entries(), gdt);
        let idt: Vec<u64> = LAYOUT.idt_entries().collect();
        assert_eq!(idt.len(), 64);
        assert_eq!(
            idt[..8],
            [0x8e00_0008_2000, 0, 0x8e00_0008_2010, 0, 0x8e00_0008_2020, 0, 0xee00_0008_2030, 0]
        );
        let handler = Handler { code: 0x1_2345_6789, stack_top: 0xb000 };
        let with_handler = Layout { breakpoint: Some(handler), ..LAYOUT };
        let gates: Vec<u64> = with_handler.idt_entries().collect();
        assert_eq!(gates[6..8], [0x2345_ef01_0033_6789, 1]);
        assert!((0..64).all(|word| gates[word] == idt[word] || matches!(word, 6 | 7)));
        let tss = with_handler.tss_bytes(false);
        assert_eq!((&tss[36..44], tss[0x6a]), (&0xb000u64.to_le_bytes()[..], 0xfb));
        let tss = LAYOUT.tss_bytes(true);
        assert_eq!(
            (tss.len(), tss[5], tss[0x66], tss[0x69], tss[0x6a], tss[0x6b]),
            (0x2069, 0x90, 0x68, 0xff, 0xfe, 0xff)
        );
        assert!(LAYOUT.tss_bytes(false)[0x68..].iter().all(|byte| *byte == 0xff));
    }

    #[test]
    fn registers() {
        let mut sregs = kvm_sregs::default();
        LAYOUT.set_user_mode(&mut sregs, 0x7000, 1, 2, true, true);
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (0x8005_0033, 0x5_0624, 0xd01));
        assert_eq!((sregs.gdt.limit, sregs.idt.limit, sregs.tr.limit), (79, 511, 0x2068));
        assert_eq!(LAYOUT.syscall_msrs()[0], (0xc000_0081, 0x0023_0008_0000_0000));
        assert_eq!(LAYOUT.syscall_msrs()[2], (0xc000_0084, 0x4_7700));
    }
}
