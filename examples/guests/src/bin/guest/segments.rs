//! The GDT and the TSS. (Intel SDM volume 3, sections 3.4.5, 8.2.3 and 8.7.)

use core::arch::asm;

use dejavm_example_guest::shared::Shared;

/// Selector: code of CPL 0.
pub const KERNEL_CODE: u16 = 0x08;
/// Selector: data and stack of CPL 0.
pub const KERNEL_DATA: u16 = 0x10;
/// Selector: data and stack of CPL 3, which is in it.
pub const USER_DATA: u16 = 0x18 | 3;
/// Selector: code of CPL 3.
pub const USER_CODE: u16 = 0x20 | 3;
/// Selector: the TSS, two entries.
const TSS_SELECTOR: u16 = 0x28;

/// Flat, accessed descriptors, as in Linux's `arch/x86/kernel/cpu/common.c`.
const KERNEL_CODE_ENTRY: u64 = 0x00af_9b00_0000_ffff;
const KERNEL_DATA_ENTRY: u64 = 0x00cf_9300_0000_ffff;
const USER_DATA_ENTRY: u64 = 0x00cf_f300_0000_ffff;
const USER_CODE_ENTRY: u64 = 0x00af_fb00_0000_ffff;
/// A TSS that is present and not busy: type 9.
const TSS_TYPE: u64 = 0x89 << 40;

/// Stack number 1 of the IST, for handlers that cannot use the one that the exception met.
pub const IST1: u8 = 1;
/// Its bytes.
const IST_BYTES: usize = 8 << 10;

#[repr(C, align(16))]
struct Stack([u8; IST_BYTES]);

/// The task state segment.
#[repr(C, packed(4))]
pub struct Tss {
    reserved: u32,
    /// Stack of CPL 0 for what comes from CPL 3.
    pub rsp0: u64,
    rsp1: u64,
    rsp2: u64,
    reserved1: u64,
    ist: [u64; 7],
    reserved2: [u16; 5],
    io_map: u16,
}

/// What LGDT and LIDT take.
#[repr(C, packed)]
pub struct Pointer {
    /// Last byte.
    pub limit: u16,
    /// First byte.
    pub base: u64,
}

static GDT: Shared<[u64; 7]> =
    Shared::new([0, KERNEL_CODE_ENTRY, KERNEL_DATA_ENTRY, USER_DATA_ENTRY, USER_CODE_ENTRY, 0, 0]);
static STACK: Shared<Stack> = Shared::new(Stack([0; IST_BYTES]));
/// The only TSS. The I/O permission bitmap lies behind its limit: CPL 3 has no ports.
pub static TSS: Shared<Tss> = Shared::new(Tss {
    reserved: 0,
    rsp0: 0,
    rsp1: 0,
    rsp2: 0,
    reserved1: 0,
    ist: [0; 7],
    reserved2: [0; 5],
    io_map: size_of::<Tss>() as u16,
});

/// Whether an address is in the stack of [`IST1`].
pub fn on_ist(address: u64) -> bool {
    let stack = STACK.get() as u64;
    (stack..stack + IST_BYTES as u64).contains(&address)
}

/// Loads both tables and all segment registers.
pub fn init() {
    let (gdt, tss) = (GDT.get(), TSS.get());
    let base = tss as u64;
    let limit = size_of::<Tss>() as u64 - 1;
    // SAFETY: nobody uses them yet. The descriptors are flat, so that nothing moves.
    unsafe {
        (*tss).ist[usize::from(IST1) - 1] = STACK.get() as u64 + IST_BYTES as u64;
        (*gdt)[5] = limit | (base & 0xff_ffff) << 16 | TSS_TYPE | (base >> 24 & 0xff) << 56;
        (*gdt)[6] = base >> 32;
        let pointer = Pointer { limit: size_of_val(&*gdt) as u16 - 1, base: gdt as u64 };
        asm!(
            "lgdt [{pointer}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ss, {data:e}",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov fs, {zero:e}",
            "mov gs, {zero:e}",
            "ltr {task:x}",
            pointer = in(reg) &pointer,
            code = const KERNEL_CODE,
            data = in(reg) u32::from(KERNEL_DATA),
            zero = in(reg) 0,
            task = in(reg) TSS_SELECTOR,
            scratch = out(reg) _,
        );
    }
}
