//! How a program at CPL 3 reaches the monitor: descriptor tables, and stubs that exit.
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

use super::mm::tables::{NO_EXEC, USER, WRITABLE};
use super::mm::{AddressSpace, Memory, USER_END};
use crate::ram::{PAGE_SIZE, PageError};

/// Port of the system-call stub.
pub const SYSCALL_PORT: u16 = 0x10;
/// Port of the exception stubs.
pub const EXCEPTION_PORT: u16 = 0x11;

/// Exceptions that have a stub: all that the architecture defines.
pub const VECTORS: u8 = 32;
/// Bytes from one exception stub to the next.
const STUB_STRIDE: u64 = 16;

/// Address of the system-call stub: LSTAR.
pub const SYSCALL_STUB: u64 = USER_END;
const IDT: u64 = USER_END + 0x1000;
const STUBS: u64 = USER_END + 0x2000;
const GDT: u64 = USER_END + 0x3000;
const TSS: u64 = USER_END + 0x4000;
const TSS_PAGES: u64 = 3;
const STACK: u64 = USER_END + 0x8000;
/// Where the CPU's exception stack starts: the end of its page.
pub const STACK_TOP: u64 = STACK + PAGE_SIZE as u64;

/// Code segment of the stubs.
pub const KERNEL_CS: u16 = 0x08;
/// Their data segment.
pub const KERNEL_DS: u16 = 0x10;
/// The selectors that Linux gives to 64-bit programs (`arch/x86/include/asm/segment.h`), which some
/// programs compare.
pub const USER_CS: u16 = 0x33;
/// See [`USER_CS`].
pub const USER_DS: u16 = 0x2b;
const TSS_SELECTOR: u16 = 0x40;

/// Descriptors by index (Intel SDM volume 3, section 3.4.5): null, kernel code and data, two unused,
/// user data and code.
pub const GDT_ENTRIES: [u64; 7] =
    [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0, 0, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff];

/// Offset of RSP0 in a 64-bit TSS (Intel SDM volume 3, figure 8-11).
const TSS_RSP0: u64 = 4;
/// Offset of the I/O map base.
const TSS_IO_BASE: u64 = 0x66;
/// Offset of the I/O permission bitmap: right behind the fixed part.
const TSS_IO_MAP: u64 = 0x68;
/// Bytes of a bitmap for all 65,536 ports, with the byte of ones that must follow it.
const IO_MAP_BYTES: u64 = 8192 + 1;
const TSS_LIMIT: u64 = TSS_IO_MAP + IO_MAP_BYTES - 1;

/// Whether a vector pushes an error code (Intel SDM volume 3, table 7-1).
pub fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

/// What the CPU pushed for an exception, above the error code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Instruction pointer.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

/// The stubs and tables of a machine.
#[derive(Debug)]
pub struct Entry {
    /// Guest-physical address of the exception stack's page.
    stack: u64,
    /// Where the pages are mapped: address, guest-physical address, and bits of their entries.
    pages: Vec<(u64, u64, u64)>,
}

/// `out EXCEPTION_PORT, al; iretq`
const STUB: &[u8] = &[0xe6, EXCEPTION_PORT as u8, 0x48, 0xcf];
/// `out EXCEPTION_PORT, al; add rsp, 8; iretq`
const STUB_WITH_CODE: &[u8] = &[0xe6, EXCEPTION_PORT as u8, 0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf];
/// `out SYSCALL_PORT, al; sysretq`
const CALL_STUB: &[u8] = &[0xe6, SYSCALL_PORT as u8, 0x48, 0x0f, 0x07];

fn stub(error_code: bool) -> &'static [u8] {
    if error_code { STUB_WITH_CODE } else { STUB }
}

impl Entry {
    /// Builds the tables and stubs. With `open_port` a program at CPL 3 may use the system-call port:
    /// needed where `SYSCALL` does not enter CPL 0.
    pub fn new(memory: &mut Memory, open_port: bool) -> Result<Entry, PageError> {
        let mut pages = Vec::new();
        let mut page = |memory: &mut Memory, address: u64, flags: u64| -> Result<u64, PageError> {
            let gpa = memory.system.take_page()?;
            pages.push((address, gpa, flags));
            Ok(gpa)
        };
        let syscall = page(memory, SYSCALL_STUB, USER)?;
        memory.system.write(syscall, CALL_STUB);

        let idt = page(memory, IDT, NO_EXEC)?;
        let stubs = page(memory, STUBS, 0)?;
        for vector in 0..VECTORS {
            let at = u64::from(vector) * STUB_STRIDE;
            memory.system.write(stubs + at, stub(has_error_code(vector)));
            // `int3` and `into` may come from the program itself.
            let dpl = if matches!(vector, 3 | 4) { 3 } else { 0 };
            let gate = gate(STUBS + at, dpl);
            memory.system.write_u64(idt + u64::from(vector) * 16, gate[0]);
            memory.system.write_u64(idt + u64::from(vector) * 16 + 8, gate[1]);
        }

        let gdt = page(memory, GDT, NO_EXEC | WRITABLE)?;
        for (i, entry) in GDT_ENTRIES.into_iter().chain([0]).chain(tss_descriptor(TSS, TSS_LIMIT)).enumerate()
        {
            memory.system.write_u64(gdt + i as u64 * 8, entry);
        }

        let mut tss = vec![0u8; TSS_PAGES as usize * PAGE_SIZE];
        tss[TSS_RSP0 as usize..][..8].copy_from_slice(&STACK_TOP.to_le_bytes());
        tss[TSS_IO_BASE as usize..][..2].copy_from_slice(&(TSS_IO_MAP as u16).to_le_bytes());
        tss[TSS_IO_MAP as usize..][..IO_MAP_BYTES as usize].fill(0xff);
        if open_port {
            tss[TSS_IO_MAP as usize + usize::from(SYSCALL_PORT / 8)] &= !(1 << (SYSCALL_PORT % 8));
        }
        for (i, bytes) in tss.chunks(PAGE_SIZE).enumerate() {
            let gpa = page(memory, TSS + (i * PAGE_SIZE) as u64, NO_EXEC | WRITABLE)?;
            memory.system.write(gpa, bytes);
        }

        let stack = page(memory, STACK, NO_EXEC | WRITABLE)?;
        Ok(Entry { stack, pages })
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
        let offset = rip.checked_sub(STUBS)?;
        // RIP is at the `out` or behind it.
        u8::try_from(offset / STUB_STRIDE)
            .ok()
            .filter(|vector| *vector < VECTORS && offset % STUB_STRIDE <= 2)
    }

    /// Whether an exit of the system-call port came from the stub.
    pub fn is_syscall_stub(rip: u64) -> bool {
        (SYSCALL_STUB..=SYSCALL_STUB + 2).contains(&rip)
    }

    fn stack_gpa(&self, rsp: u64) -> Option<u64> {
        let offset = rsp.checked_sub(STACK)?;
        (offset < PAGE_SIZE as u64).then_some(self.stack + offset)
    }

    /// Reads what the CPU pushed for `vector` at the stub's RSP: error code and frame. `None` where
    /// RSP is not in the exception stack, which no program can bring about.
    pub fn frame(&self, memory: &Memory, vector: u8, rsp: u64) -> Option<(u64, Frame)> {
        let words = if has_error_code(vector) { 6 } else { 5 };
        self.stack_gpa(rsp.checked_add(words * 8 - 1)?)?;
        let mut at = self.stack_gpa(rsp)?;
        let mut next = || {
            let word = memory.system.read_u64(at);
            at += 8;
            word
        };
        let code = if has_error_code(vector) { next() } else { 0 };
        Some((code, Frame { rip: next(), cs: next(), rflags: next(), rsp: next(), ss: next() }))
    }

    /// Changes the frame, so that the stub's `iretq` goes elsewhere.
    pub fn set_frame(&self, memory: &Memory, vector: u8, rsp: u64, frame: &Frame) {
        let Some(mut at) = self.stack_gpa(rsp) else { return };
        if has_error_code(vector) {
            at += 8;
        }
        for word in [frame.rip, frame.cs, frame.rflags, frame.rsp, frame.ss] {
            memory.system.write_u64(at, word);
            at += 8;
        }
    }
}

/// The gate of an exception's handler (Intel SDM volume 3, figure 7-8), open to `dpl`.
pub fn gate(handler: u64, dpl: u64) -> [u64; 2] {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e00;
    let low = (handler & 0xffff)
        | u64::from(KERNEL_CS) << 16
        | (PRESENT_INTERRUPT_GATE | dpl << 13) << 32
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

/// The descriptor of a TSS (Intel SDM volume 3, figure 8-4) at `base`, with the offset of its last
/// byte.
pub fn tss_descriptor(base: u64, limit: u64) -> [u64; 2] {
    const PRESENT_BUSY_TSS: u64 = 0x8b;
    let low = (limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | PRESENT_BUSY_TSS << 40
        | (limit >> 16 & 0xf) << 48
        | (base >> 24 & 0xff) << 56;
    [low, base >> 32]
}

fn segment(selector: u16, code: bool, dpl: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: if code { 11 } else { 3 },
        present: 1,
        dpl,
        db: u8::from(!code),
        s: 1,
        l: u8::from(code),
        g: 1,
        ..Default::default()
    }
}

/// CR0: PE, MP, ET, NE, WP, AM, PG (Intel SDM volume 3, section 2.5).
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;
/// CR4 bits (Intel SDM volume 3, section 2.5).
const CR4_TSD: u64 = 1 << 2;
const CR4_PAE: u64 = 1 << 5;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
/// Programs set their segment bases themselves.
pub const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;
/// EFER: SCE, LME, LMA, NXE.
const EFER: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;

/// Sets the system registers for a program at CPL 3 in the address space at `root`.
pub fn user_mode(
    sregs: &mut kvm_sregs,
    root: u64,
    fs_base: u64,
    gs_base: u64,
    fsgsbase: bool,
    trap_tsc: bool,
) {
    sregs.cr0 = CR0;
    sregs.cr3 = root;
    sregs.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    if fsgsbase {
        sregs.cr4 |= CR4_FSGSBASE;
    }
    if trap_tsc {
        sregs.cr4 |= CR4_TSD;
    }
    sregs.efer = EFER;
    sregs.cs = segment(USER_CS, true, 3);
    sregs.ss = segment(USER_DS, false, 3);
    // As Linux leaves them for 64-bit programs: null selectors.
    let null = kvm_segment { unusable: 1, ..Default::default() };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (null, null, null, null);
    sregs.fs.base = fs_base;
    sregs.gs.base = gs_base;
    sregs.ldt = null;
    sregs.tr = kvm_segment {
        base: TSS,
        limit: TSS_LIMIT as u32,
        selector: TSS_SELECTOR,
        type_: 11,
        present: 1,
        ..Default::default()
    };
    sregs.gdt = kvm_dtable { base: GDT, limit: (GDT_ENTRIES.len() as u16 + 3) * 8 - 1, ..Default::default() };
    sregs.idt = kvm_dtable { base: IDT, limit: u16::from(VECTORS) * 16 - 1, ..Default::default() };
}

/// `IA32_STAR`, `IA32_LSTAR`, `IA32_FMASK` (Intel SDM volume 4, table 2-2).
pub fn syscall_msrs() -> [(u32, u64); 3] {
    const STAR: u32 = 0xc000_0081;
    const LSTAR: u32 = 0xc000_0082;
    const FMASK: u32 = 0xc000_0084;
    /// TF, IF, DF, IOPL, NT, AC: cleared on the way in, as Linux does.
    const MASK: u64 = 0x4_7700;
    // `sysretq` loads CS from bits 63:48 plus 16 and SS from them plus 8, both with RPL 3.
    let user_base = u64::from(USER_DS - 8);
    [(STAR, user_base << 48 | u64::from(KERNEL_CS) << 32), (LSTAR, SYSCALL_STUB), (FMASK, MASK)]
}

/// The kernel's data segment stands where `SYSCALL` expects it: right behind its code segment.
const _: () = assert!(KERNEL_DS == KERNEL_CS + 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_are_known_by_address() {
        assert_eq!(Entry::vector_at(STUBS), Some(0));
        assert_eq!(Entry::vector_at(STUBS + 14 * STUB_STRIDE + 2), Some(14));
        assert_eq!(Entry::vector_at(STUBS + 14 * STUB_STRIDE + 5), None);
        assert_eq!(Entry::vector_at(STUBS + 32 * STUB_STRIDE), None);
        assert_eq!(Entry::vector_at(0x1000), None);
    }

    #[test]
    fn stubs_are_the_instructions_that_they_should_be() {
        use iced_x86::code_asm::{CodeAssembler, registers as reg};

        let mut a = CodeAssembler::new(64).unwrap();
        a.out(i32::from(EXCEPTION_PORT), reg::al).unwrap();
        a.iretq().unwrap();
        assert_eq!(a.assemble(0).unwrap(), stub(false));
        a.reset();
        a.out(i32::from(EXCEPTION_PORT), reg::al).unwrap();
        a.add(reg::rsp, 8).unwrap();
        a.iretq().unwrap();
        assert_eq!(a.assemble(0).unwrap(), stub(true));
        a.reset();
        a.out(i32::from(SYSCALL_PORT), reg::al).unwrap();
        a.sysretq().unwrap();
        assert_eq!(a.assemble(0).unwrap(), CALL_STUB);
        assert!(stub(true).len() as u64 <= STUB_STRIDE);
    }
}
