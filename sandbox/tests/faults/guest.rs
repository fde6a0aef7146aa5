//! A tiny bare-metal guest: tables, exception handlers and a few pages of code and data, all in the
//! first 2 MiB, where linear addresses are physical ones.

use dejavm_sandbox::kernel::ports;
use dejavm_sandbox::kernel::staged::StagedMemory;
use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, qword_ptr, registers as reg};
use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// The guest's memory, bytes.
const MEMORY: u64 = 2 << 20;

// What each page holds.
/// Page tables that map the first 2 MiB.
pub const PML4: u64 = 1;
pub const PDPT: u64 = 2;
pub const PD: u64 = 3;
pub const PT: u64 = 4;
/// Descriptors.
pub const GDT: u64 = 5;
pub const IDT: u64 = 6;
/// The task state, with the I/O permission bitmap behind it in two more pages.
pub const TSS: u64 = 7;
/// Exception handlers.
pub const STUBS: u64 = 10;
/// The stack of CPL 0 for exceptions from CPL 3.
pub const STACK0: u64 = 12;
/// The stack of the exceptions that have one of their own: [`ON_IST`].
pub const STACK_IST: u64 = 14;
/// The stack that code of CPL 0 starts on: the end of this page.
pub const STACK: u64 = 16;
/// Code of CPL 0, and the page behind it.
pub const CODE: u64 = 20;
/// Code of CPL 3, and the page behind it.
pub const USER_CODE: u64 = 24;
/// The stack that code of CPL 3 starts on: the end of this page.
pub const USER_STACK: u64 = 28;
/// Data, for either level: eight pages.
pub const DATA: u64 = 32;
/// Data that no row makes absent: results, operands.
pub const SCRATCH: u64 = 44;
/// Another root with tables of its own, that map the same.
pub const ROOT2: u64 = 48;
/// Tables and a data page of [`FAR`].
pub const FAR_PDPT: u64 = 52;
pub const FAR_PD: u64 = 53;
pub const FAR_PT: u64 = 54;
pub const FAR_DATA: u64 = 55;
/// A second GDT, IDT and LDT.
pub const GDT2: u64 = 56;
pub const IDT2: u64 = 57;
pub const LDT: u64 = 58;
/// A second task state.
pub const TSS2: u64 = 60;

/// A linear address whose walk needs tables that no other one needs, but for the root.
pub const FAR: u64 = 1 << 39;
/// A linear address that is not mapped.
pub const UNMAPPED: u64 = 2 << 39;

// Selectors.
pub const KERNEL_CS: u16 = 0x08;
pub const KERNEL_DS: u16 = 0x10;
pub const USER_DS: u16 = 0x18 | 3;
pub const USER_CS: u16 = 0x20 | 3;
const TSS_SELECTOR: u16 = 0x28;
/// A task state that is not busy.
pub const TSS2_SELECTOR: u16 = 0x38;
pub const LDT_SELECTOR: u16 = 0x48;
/// A data segment in the LDT.
pub const IN_LDT: u16 = 0x08 | 4;

// Kinds of system segments (Intel SDM volume 3, table 3-2).
pub const FREE_TSS: u64 = 9;
pub const BUSY_TSS: u64 = 11;

/// Port that handlers tell of an exception by: vector, error code, CR2, RIP.
pub const LOG: u16 = 0x80;
/// The vector whose handler has a stack of its own: #DE.
pub const ON_IST: u8 = 0;
/// #DF.
const DOUBLE_FAULT: u8 = 8;
/// The vector whose handler returns: #BP.
pub const BREAKPOINT: u8 = 3;
/// What the exit status of a guest that ended in a handler has added to the vector.
pub const IN_HANDLER: u8 = 0x80;

// Bits of page-table entries (Intel SDM volume 3, table 4-20).
pub const PRESENT: u64 = 1;
pub const WRITABLE: u64 = 1 << 1;
pub const USER: u64 = 1 << 2;
pub const ACCESSED: u64 = 1 << 5;
pub const DIRTY: u64 = 1 << 6;

/// Bytes of an exception handler's entry.
const STUB: u64 = 16;
const VECTORS: u64 = 32;
/// Where the handlers' common part is in their page.
const COMMON: u64 = VECTORS * STUB;
/// Offset of the I/O permission bitmap in the TSS.
pub const IO_MAP: u64 = 0x68;
/// Limit of the TSS: with all of the bitmap and the byte of ones behind it.
const TSS_LIMIT: u64 = IO_MAP + 8192;

/// RFLAGS: bit 1 is always set.
pub const RFLAGS: u64 = 1 << 1;

/// The address of a page.
pub const fn at(page: u64) -> u64 {
    page * PAGE
}

/// Assembler code.
pub type Code = Result<(), IcedError>;

/// A guest that has not run.
pub struct Guest {
    pub memory: StagedMemory,
    pub regs: kvm_regs,
    pub sregs: kvm_sregs,
}

/// What `write` assembles to at an address, with so many bits.
fn assemble(bits: u32, address: u64, write: impl FnOnce(&mut CodeAssembler) -> Code) -> Vec<u8> {
    let assemble = || -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(bits)?;
        write(&mut a)?;
        a.assemble(address)
    };
    assemble().expect("constant code")
}

/// Ends the guest with an exit status.
pub fn exit(a: &mut CodeAssembler, status: u32) -> Code {
    a.mov(reg::eax, status)?;
    a.out(i32::from(ports::EXIT), reg::al)
}

/// A flat segment.
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

/// A descriptor of a system segment (Intel SDM volume 3, figure 8-4).
fn system(base: u64, limit: u64, kind: u64) -> [u64; 2] {
    let low = limit & 0xffff | (base & 0xff_ffff) << 16 | (0x80 | kind) << 40 | (limit >> 16 & 0xf) << 48;
    [low | (base >> 24 & 0xff) << 56, base >> 32]
}

/// Where the handler of an exception starts.
const fn stub(vector: u8) -> u64 {
    at(STUBS) + vector as u64 * STUB
}

/// An interrupt gate (Intel SDM volume 3, figure 7-8).
fn gate(handler: u64, dpl: u64, ist: u64) -> [u64; 2] {
    let low = handler & 0xffff | u64::from(KERNEL_CS) << 16 | (0x8e00 | dpl << 13 | ist) << 32;
    [low | (handler >> 16 & 0xffff) << 48, handler >> 32]
}

impl Guest {
    /// A guest that starts at [`CODE`] with CPL 0.
    pub fn kernel(code: impl FnOnce(&mut CodeAssembler) -> Code) -> Guest {
        let mut guest = Guest::new();
        guest.code(at(CODE), code);
        (guest.regs.rip, guest.regs.rsp) = (at(CODE), at(STACK + 1));
        guest
    }

    /// A guest that starts at [`USER_CODE`] with CPL 3, which may use the exit port.
    pub fn user(code: impl FnOnce(&mut CodeAssembler) -> Code) -> Guest {
        let mut guest = Guest::new();
        guest.code(at(USER_CODE), code);
        (guest.regs.rip, guest.regs.rsp) = (at(USER_CODE), at(USER_STACK + 1));
        guest.sregs.cs = segment(USER_CS, true, 3);
        guest.sregs.ss = segment(USER_DS, false, 3);
        (guest.sregs.ds, guest.sregs.es) = (guest.sregs.ss, guest.sregs.ss);
        guest
    }

    /// A guest of 32 bits that starts at [`CODE`] with CPL 0 and PAE paging: its topmost table is at
    /// [`PDPT`], and another one that maps the same at [`ROOT2`].
    pub fn pae(code: impl FnOnce(&mut CodeAssembler) -> Code) -> Guest {
        let mut guest = Guest::new();
        guest.write(at(CODE), &assemble(32, at(CODE), code));
        (guest.regs.rip, guest.regs.rsp) = (at(CODE), at(STACK + 1));
        // A topmost table has no flags but this one (Intel SDM volume 3, table 4-8).
        guest.words(at(PDPT), &[at(PD) | PRESENT]);
        guest.words(at(ROOT2), &[at(PD) | PRESENT, 0]);
        guest.sregs.cr3 = at(PDPT);
        guest.sregs.efer = 0;
        (guest.sregs.cs.l, guest.sregs.cs.db) = (0, 1);
        guest
    }

    /// Gives #DF a stack of its own, as most kernels do.
    pub fn double_fault_on_ist(mut self) -> Guest {
        self.words(at(IDT) + u64::from(DOUBLE_FAULT) * 16, &gate(stub(DOUBLE_FAULT), 0, 1));
        self
    }

    fn new() -> Guest {
        let mut guest = Guest {
            memory: StagedMemory::new(MEMORY).expect("two megabytes"),
            regs: kvm_regs { rflags: RFLAGS, ..Default::default() },
            sregs: kvm_sregs::default(),
        };
        for page in (STACK0..=STACK).chain(CODE..SCRATCH).chain([FAR_DATA]) {
            guest.fill(page);
        }
        guest.tables(PML4);
        guest.tables(ROOT2);
        guest.far();
        guest.descriptors();
        guest.handlers();
        guest.registers();
        guest
    }

    /// Has more memory, and maps some pages of it from [`FAR`] on, filled.
    pub fn grown(mut self, bytes: u64, pages: std::ops::Range<u64>) -> Guest {
        let mut memory = StagedMemory::new(bytes).expect("memory");
        let mut content = [0; PAGE as usize];
        for page in self.memory.held() {
            self.memory.read(at(page), &mut content).expect("a page of memory");
            memory.write(at(page), &content).expect("more memory than before");
        }
        self.memory = memory;
        pages.clone().for_each(|page| self.fill(page));
        let entries: Vec<u64> =
            pages.map(|page| at(page) | PRESENT | WRITABLE | USER | ACCESSED | DIRTY).collect();
        self.words(at(FAR_PT), &entries);
        self
    }

    /// Writes memory.
    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        self.memory.write(address, bytes).expect("an address in memory");
    }

    /// Writes words.
    pub fn words(&mut self, address: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(address, &bytes);
    }

    /// Writes code.
    pub fn code(&mut self, address: u64, write: impl FnOnce(&mut CodeAssembler) -> Code) {
        self.write(address, &assemble(64, address, write));
    }

    /// Fills a page with something of its own: no word is 0, and none looks like a table's entry.
    pub fn fill(&mut self, page: u64) {
        let words: Vec<u64> = (0..PAGE / 8).map(|n| page << 32 | n << 8 | 0x5a).collect();
        self.words(at(page), &words);
    }

    /// Four tables from a page on, that map the first 2 MiB and, with the root, [`FAR`].
    fn tables(&mut self, root: u64) {
        let link = |page: u64| at(page) | PRESENT | WRITABLE | USER | ACCESSED;
        self.words(at(root), &[link(root + 1), link(FAR_PDPT)]);
        self.words(at(root + 1), &[link(root + 2)]);
        self.words(at(root + 2), &[link(root + 3)]);
        for page in 0..MEMORY / PAGE {
            let user = if (USER_CODE..SCRATCH + 2).contains(&page) { USER } else { 0 };
            let entry = at(page) | PRESENT | WRITABLE | ACCESSED | DIRTY | user;
            self.words(at(root + 3) + page * 8, &[entry]);
        }
    }

    /// The tables of [`FAR`].
    fn far(&mut self) {
        let link = |page: u64| at(page) | PRESENT | WRITABLE | USER | ACCESSED;
        self.words(at(FAR_PDPT), &[link(FAR_PD)]);
        self.words(at(FAR_PD), &[link(FAR_PT)]);
        self.words(at(FAR_PT), &[link(FAR_DATA) | DIRTY]);
    }

    fn descriptors(&mut self) {
        const LDT_KIND: u64 = 2;
        let data = 0x00cf_9300_0000_ffff;
        let mut gdt = vec![0, 0x00af_9b00_0000_ffff, data, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff];
        gdt.extend(system(at(TSS), TSS_LIMIT, BUSY_TSS));
        gdt.extend(system(at(TSS2), IO_MAP - 1, FREE_TSS));
        gdt.extend(system(at(LDT), 15, LDT_KIND));
        self.words(at(GDT), &gdt);
        self.words(at(GDT2), &gdt);
        self.words(at(LDT), &[0, data]);
        self.fill(TSS2);
        for table in [IDT, IDT2] {
            for vector in 0..VECTORS {
                let dpl = if vector == u64::from(BREAKPOINT) { 3 } else { 0 };
                let ist = u64::from(vector == u64::from(ON_IST));
                let gate = gate(stub(vector as u8), dpl, ist);
                self.words(at(table) + vector * 16, &gate);
            }
        }
        // RSP0 and IST1 (Intel SDM volume 3, figure 8-11); the exit port is open.
        self.write(at(TSS) + IO_MAP, &[0xff; 8192 + 1]);
        self.write(at(TSS) + IO_MAP + u64::from(ports::EXIT / 8), &[!(1 << (ports::EXIT % 8))]);
        self.write(at(TSS) + 4, &at(STACK0 + 1).to_le_bytes());
        self.write(at(TSS) + 36, &at(STACK_IST + 1).to_le_bytes());
        self.write(at(TSS) + 0x66, &(IO_MAP as u16).to_le_bytes());
    }

    fn handlers(&mut self) {
        for vector in 0..VECTORS {
            self.code(stub(vector as u8), |a| {
                if !dejavm_sandbox::x86::vector::has_error_code(vector as u8) {
                    a.push(0)?;
                }
                a.push(vector as i32)?;
                a.jmp(at(STUBS) + COMMON)
            });
        }
        self.code(at(STUBS) + COMMON, |a| {
            let mut returns = a.create_label();
            let log = i32::from(LOG);
            a.pop(reg::rax)?;
            a.out(log, reg::eax)?;
            a.mov(reg::edx, reg::eax)?;
            a.pop(reg::rax)?;
            a.out(log, reg::eax)?;
            a.mov(reg::rax, reg::cr2)?;
            a.out(log, reg::eax)?;
            a.mov(reg::rax, qword_ptr(reg::rsp))?;
            a.out(log, reg::eax)?;
            a.cmp(reg::edx, u32::from(BREAKPOINT))?;
            a.je(returns)?;
            a.lea(reg::eax, reg::rdx + u32::from(IN_HANDLER))?;
            a.out(i32::from(ports::EXIT), reg::al)?;
            a.set_label(&mut returns)?;
            a.iretq()
        });
    }

    fn registers(&mut self) {
        let sregs = &mut self.sregs;
        // PE, MP, ET, NE, WP, AM, PG; PAE, OSFXSR, OSXMMEXCPT, OSXSAVE; LME, LMA, NXE.
        sregs.cr0 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;
        sregs.cr4 = 1 << 5 | 1 << 9 | 1 << 10 | 1 << 18;
        sregs.efer = 1 << 8 | 1 << 10 | 1 << 11;
        sregs.cr3 = at(PML4);
        sregs.cs = segment(KERNEL_CS, true, 0);
        sregs.ss = segment(KERNEL_DS, false, 0);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (sregs.ss, sregs.ss, sregs.ss, sregs.ss);
        sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
        sregs.tr = kvm_segment {
            base: at(TSS),
            limit: TSS_LIMIT as u32,
            selector: TSS_SELECTOR,
            type_: BUSY_TSS as u8,
            present: 1,
            ..Default::default()
        };
        sregs.gdt = kvm_dtable { base: at(GDT), limit: 11 * 8 - 1, ..Default::default() };
        sregs.idt = kvm_dtable { base: at(IDT), limit: VECTORS as u16 * 16 - 1, ..Default::default() };
    }
}
