//! The image's entry, and the boot parameters. (Linux: Documentation/arch/x86/boot.rst, section "64-bit Boot
//! Protocol", and zero-page.rst.)

use core::slice;

/// Offset of `cmd_line_ptr`.
const COMMAND_LINE: usize = 0x228;
/// Offset of `e820_entries`.
const MEMORY_ENTRIES: usize = 0x1e8;
/// Offset of `e820_table`.
const MEMORY_TABLE: usize = 0x2d0;
/// Length of `e820_table` (`E820_MAX_ENTRIES_ZEROPAGE`).
const MEMORY_MAX: u8 = 128;

/// Longest command line that is looked at: Linux's `COMMAND_LINE_SIZE`.
const COMMAND_LINE_MAX: usize = 2048;

/// Bytes of the image's own stack: the boot loader's is small.
pub const STACK_BYTES: usize = 32 << 10;

/// Makes a function, `fn(BootParams) -> !`, the image's entry.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// The entry: takes a stack of its own, and gives RSI on.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn _start() -> ! {
            core::arch::naked_asm!(
                "lea rsp, [{stack} + {bytes}]",
                "xor ebp, ebp",
                "cld",
                "mov rdi, rsi",
                "call {start}",
                stack = sym $crate::boot::STACK,
                bytes = const $crate::boot::STACK_BYTES,
                start = sym start,
            )
        }

        extern "C" fn start(params: $crate::boot::BootParams) -> ! {
            $crate::serial::init();
            $main(params)
        }
    };
}

/// The stack.
#[repr(C, align(16))]
pub struct Stack(core::cell::UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: nobody looks at it but through RSP.
unsafe impl Sync for Stack {}

/// The stack that [`entry!`] takes.
pub static STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK_BYTES]));

/// The boot parameters, where the boot loader left them.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct BootParams(*const u8);

/// An entry of the memory map: `struct boot_e820_entry`.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct MemoryEntry {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// What is there.
    pub kind: u32,
}

/// [`MemoryEntry::kind`] of memory that can be used.
pub const USABLE: u32 = 1;

impl BootParams {
    /// The memory map.
    pub fn memory_map(self) -> &'static [MemoryEntry] {
        // SAFETY: the boot protocol's promise.
        unsafe {
            let len = self.0.add(MEMORY_ENTRIES).read().min(MEMORY_MAX);
            slice::from_raw_parts(self.0.add(MEMORY_TABLE).cast(), len.into())
        }
    }

    /// The command line.
    pub fn command_line(self) -> &'static [u8] {
        // SAFETY: the boot protocol's promise: a pointer to text that ends with a zero.
        unsafe {
            let at = self.0.add(COMMAND_LINE).cast::<u32>().read_unaligned() as *const u8;
            if at.is_null() {
                return &[];
            }
            let mut len = 0;
            while len < COMMAND_LINE_MAX && at.add(len).read() != 0 {
                len += 1;
            }
            slice::from_raw_parts(at, len)
        }
    }

    /// The value of the word `name=value` in the command line.
    pub fn option(self, name: &str) -> Option<&'static [u8]> {
        let words = self.command_line().split(|byte| *byte == b' ');
        words.filter_map(|word| word.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next_back()
    }

    /// As [`Self::option`], a number.
    pub fn number(self, name: &str) -> Option<u64> {
        let mut number = 0u64;
        for digit in self.option(name)? {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0')));
        }
        Some(number)
    }
}
