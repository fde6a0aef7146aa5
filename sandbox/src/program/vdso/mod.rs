//! The monitor's own vDSO: how programs read the virtual clock without a system call.
//!
//! C libraries and language runtimes look for `AT_SYSINFO_EHDR` in the auxiliary vector and take
//! the functions of the ELF shared object there in place of system calls (Linux
//! `Documentation/ABI/stable/vdso`). The object is our own, as the host's reads the host's clock.
//! It is made by the assembler in `code` and the linker in `elf` once, not in every run, whose start
//! it would make longer by a millisecond: `image.bin` is what they make, which a test checks.
//!
//! In a program's memory one page of numbers, the clock page, lies directly below the image, as
//! Linux has its `vvar` pages. The program may write there: a read of the clock is an atomic add.
//! What it breaks by doing so is only its own clock; the monitor has to take the numbers it finds
//! there as input, never as facts.
//!
//! There is no `__vdso_getrandom`: without it libraries ask by system call, which is where the
//! monitor hands out randomness.

#[cfg(test)]
mod code;
#[cfg(test)]
mod elf;
#[cfg(test)]
mod tests;

/// Bytes of the clock page, and how far below the image it starts.
pub const CLOCK_PAGE_BYTES: u64 = 4096;

/// Offset in the clock page: virtual monotonic time in nanoseconds, `u64`.
pub const MONOTONIC_NS: usize = 0;
/// Offset in the clock page: what to add to monotonic time for real time, in nanoseconds, `u64`.
pub const REALTIME_OFFSET_NS: usize = 8;
/// Offset in the clock page: how far each read advances the clock, in nanoseconds, `u64`.
pub const STEP_NS: usize = 16;
/// Offset in the clock page: 0 if the functions read the clock page, anything else if each does the
/// system call, `u64`.
pub const MODE: usize = 24;

/// Offset in the clock page: a read that comes to this much monotonic time or more does the system call, `u64`.
/// So it is at the end of a time slice, and when something else is to happen.
pub const LIMIT_NS: usize = 32;

/// Resolution that `clock_getres` reports for the coarse clocks: a tick of a kernel with `HZ=250`.
pub const COARSE_RESOLUTION_NS: u32 = 4_000_000;

/// How the functions answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// From the clock page, without leaving the program.
    #[default]
    Virtual,
    /// By the system call, each time.
    SystemCalls,
}

/// The numbers in the clock page. All that follows them in the page is zeros.
///
/// A read takes the step from the page, adds it to monotonic time in one locked instruction, and
/// answers with the sum, so that no two reads of a run are equal while the step is not zero.
/// Arithmetic wraps at 64 bits: 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockPage {
    /// Virtual monotonic time; also `CLOCK_MONOTONIC_RAW` and, as a machine is never suspended,
    /// `CLOCK_BOOTTIME`.
    pub monotonic_ns: u64,
    /// Real time less monotonic time.
    pub realtime_offset_ns: u64,
    /// How far each read advances the clock.
    pub step_ns: u64,
    /// How the functions answer.
    pub mode: Mode,
    /// From which time on they do the system call.
    pub limit_ns: u64,
}

impl ClockPage {
    /// Bytes that the numbers take at the start of the page.
    pub const BYTES: usize = 40;

    /// What to write at the start of the page.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mode = match self.mode {
            Mode::Virtual => 0,
            Mode::SystemCalls => 1,
        };
        let mut bytes = [0; Self::BYTES];
        let fields = [
            (MONOTONIC_NS, self.monotonic_ns),
            (REALTIME_OFFSET_NS, self.realtime_offset_ns),
            (STEP_NS, self.step_ns),
            (MODE, mode),
            (LIMIT_NS, self.limit_ns),
        ];
        for (at, value) in fields {
            bytes[at..][..8].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// Reads the start of a page. Any bytes mean something, as the program may have written them:
    /// a mode that is not 0 is [`Mode::SystemCalls`], as the functions take it.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> ClockPage {
        let field = |at: usize| {
            let mut value = [0; 8];
            value.copy_from_slice(&bytes[at..][..8]);
            u64::from_le_bytes(value)
        };
        ClockPage {
            monotonic_ns: field(MONOTONIC_NS),
            realtime_offset_ns: field(REALTIME_OFFSET_NS),
            step_ns: field(STEP_NS),
            mode: if field(MODE) == 0 { Mode::Virtual } else { Mode::SystemCalls },
            limit_ns: field(LIMIT_NS),
        }
    }
}

/// An ELF64 shared object, padded to whole pages. It may be mapped at any page, readable and
/// executable, with the clock page directly below; `AT_SYSINFO_EHDR` is its first byte.
pub const IMAGE: &[u8] = include_bytes!("image.bin");

/// Where in the image `rt_sigreturn` is called: the return address of a signal handler whose
/// `sigaction` named no `sa_restorer`. Exported as `__dejavm_sigreturn`.
pub const SIGRETURN_OFFSET: u64 = 0x280;
