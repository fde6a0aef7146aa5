//! Flags in registers and in error codes.

/// RFLAGS (Intel SDM volume 1, section 3.4.3).
pub mod rflags {
    /// CF: carry.
    pub const CARRY_FLAG: u64 = 1 << 0;
    /// Bit 1, which is always one.
    pub const FIXED: u64 = 1 << 1;
    /// PF: parity.
    pub const PARITY_FLAG: u64 = 1 << 2;
    /// AF: carry out of the low four bits.
    pub const ADJUST_FLAG: u64 = 1 << 4;
    /// ZF: zero.
    pub const ZERO_FLAG: u64 = 1 << 6;
    /// SF: sign.
    pub const SIGN_FLAG: u64 = 1 << 7;
    /// TF: a trap after each instruction.
    pub const TRAP_FLAG: u64 = 1 << 8;
    /// IF: interrupts are taken.
    pub const INTERRUPT_FLAG: u64 = 1 << 9;
    /// DF: string instructions go down.
    pub const DIRECTION_FLAG: u64 = 1 << 10;
    /// OF: overflow.
    pub const OVERFLOW_FLAG: u64 = 1 << 11;
    /// IOPL: the CPL up to which ports are open.
    pub const IO_PRIVILEGE: u64 = 3 << 12;
    /// NT: nested task.
    pub const NESTED_TASK: u64 = 1 << 14;
    /// RF: the next instruction raises no instruction breakpoint.
    pub const RESUME_FLAG: u64 = 1 << 16;
    /// AC: unaligned accesses raise `#AC`.
    pub const ALIGNMENT_CHECK: u64 = 1 << 18;
    /// ID: CPUID is there if this can be changed.
    pub const ID_FLAG: u64 = 1 << 21;

    /// CF, PF, AF, ZF, SF and OF: what arithmetic sets.
    pub const ARITHMETIC_FLAGS: u64 =
        CARRY_FLAG | PARITY_FLAG | ADJUST_FLAG | ZERO_FLAG | SIGN_FLAG | OVERFLOW_FLAG;
}

/// CR0 (Intel SDM volume 3, section 2.5).
pub mod cr0 {
    /// Protected mode.
    pub const PE: u64 = 1 << 0;
    /// `WAIT` looks at CR0.TS.
    pub const MP: u64 = 1 << 1;
    /// Extension type: always one.
    pub const ET: u64 = 1 << 4;
    /// x87 errors are exceptions.
    pub const NE: u64 = 1 << 5;
    /// CPL 0 cannot write read-only pages.
    pub const WP: u64 = 1 << 16;
    /// RFLAGS.AC counts.
    pub const AM: u64 = 1 << 18;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// CR4 (Intel SDM volume 3, section 2.5).
pub mod cr4 {
    /// `RDTSC` traps above CPL 0.
    pub const TSD: u64 = 1 << 2;
    /// 4 MiB pages with 32-bit paging.
    pub const PSE: u64 = 1 << 4;
    /// Page-table entries of 8 bytes.
    pub const PAE: u64 = 1 << 5;
    /// SSE instructions may be used.
    pub const OSFXSR: u64 = 1 << 9;
    /// SIMD floating-point errors are exceptions of their own.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// Five levels of page tables.
    pub const LA57: u64 = 1 << 12;
    /// Segment bases can be set at CPL 3.
    pub const FSGSBASE: u64 = 1 << 16;
    /// `XSAVE` and XCR0 may be used.
    pub const OSXSAVE: u64 = 1 << 18;
}

/// `IA32_EFER` (Intel SDM volume 4, table 2-2).
pub mod efer {
    /// `SYSCALL` may be used.
    pub const SCE: u64 = 1 << 0;
    /// Long mode is enabled.
    pub const LME: u64 = 1 << 8;
    /// Long mode is active.
    pub const LMA: u64 = 1 << 10;
    /// Page-table entries have the bit for pages that are not executable.
    pub const NXE: u64 = 1 << 11;
}

/// The error code of a page fault (Intel SDM volume 3, section 4.7).
pub mod page_fault {
    /// The page is present.
    pub const PRESENT: u64 = 1 << 0;
    /// A write.
    pub const WRITE: u64 = 1 << 1;
    /// At CPL 3.
    pub const USER: u64 = 1 << 2;
    /// An instruction fetch.
    pub const FETCH: u64 = 1 << 4;
}
