//! Register values that outlive a machine: what a snapshot keeps of a vCPU.

use kvm_bindings::kvm_regs;
use serde::{Deserialize, Serialize};

use crate::x86::flags::rflags;
use crate::x86::xstate::{
    AVX, AVX512, HEADER_END, MXCSR, PKRU, SSE, X87, X87_CONTROL, X87_POINTER, X87_STATUS, XCOMP_BV, XSTATE_BV,
};

/// Bytes of `struct kvm_xsave`.
const XSAVE_BYTES: usize = 4096;

/// The x87, SSE and AVX state in the standard XSAVE format, without trailing zeros.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedState {
    bytes: Vec<u8>,
}

impl ExtendedState {
    /// The state at a program's start: as `execve` leaves it (FCW 0x37f, MXCSR 0x1f80).
    pub fn initial() -> ExtendedState {
        let mut bytes = vec![0u8; HEADER_END];
        bytes[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        bytes[MXCSR..MXCSR + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
        bytes[XSTATE_BV] = (X87 | SSE) as u8;
        ExtendedState { bytes }
    }

    /// From a XSAVE image; longer or shorter ones are cut or filled up with zeros.
    pub fn from_bytes(image: &[u8]) -> ExtendedState {
        let mut bytes = image[..image.len().min(XSAVE_BYTES)].to_vec();
        bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
        ExtendedState { bytes }
    }

    pub(super) fn from_words(words: &[u32; XSAVE_BYTES / 4]) -> ExtendedState {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        ExtendedState::from_bytes(&bytes)
    }

    pub(super) fn to_words(&self) -> [u32; XSAVE_BYTES / 4] {
        let mut words = [0u32; XSAVE_BYTES / 4];
        for (i, byte) in self.bytes.iter().take(XSAVE_BYTES).enumerate() {
            words[i / 4] |= u32::from(*byte) << (i % 4 * 8);
        }
        words
    }

    /// Without what says which components the CPU has kept, of those that have their first values: it keeps
    /// one or not as it likes.
    pub fn without_header(mut self) -> ExtendedState {
        let end = self.bytes.len().min(HEADER_END);
        self.bytes[XSTATE_BV.min(end)..end].fill(0);
        ExtendedState::from_bytes(&self.bytes)
    }

    /// The address of the last instruction of the x87, or 0 where the CPU keeps none.
    pub fn x87_pointer(&self) -> u64 {
        let byte = |at: usize| self.bytes.get(X87_POINTER + at).copied().unwrap_or(0);
        u64::from_le_bytes(std::array::from_fn(byte))
    }

    /// Sets that address, where there is one.
    pub fn set_x87_pointer(&mut self, address: u64) {
        if let Some(bytes) = self.bytes.get_mut(X87_POINTER..X87_POINTER + 8) {
            bytes.copy_from_slice(&address.to_le_bytes());
        }
    }

    /// The x87 control word.
    pub fn x87_control(&self) -> u16 {
        self.word(X87_CONTROL)
    }

    /// The x87 status word.
    pub fn x87_status(&self) -> u16 {
        self.word(X87_STATUS)
    }

    /// MXCSR.
    pub fn mxcsr(&self) -> u32 {
        u32::from(self.word(MXCSR)) | u32::from(self.word(MXCSR + 2)) << 16
    }

    fn word(&self, at: usize) -> u16 {
        let byte = |at| self.bytes.get(at).copied().unwrap_or(0);
        u16::from_le_bytes([byte(at), byte(at + 1)])
    }

    /// The first `len` bytes of the XSAVE image.
    pub fn image(&self, len: usize) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(len, 0);
        bytes
    }
}

/// Bits of MXCSR that some CPU has (Intel SDM volume 1, section 10.2.3; bit 17 is AMD's misaligned mode).
pub const MXCSR_BITS: u32 = 0x2_ffff;
/// Components that a program's image may have: x87, SSE, AVX, AVX-512, and the protection keys'
/// register, which KVM adds where the host has it.
pub const USER_COMPONENTS: u64 = X87 | SSE | AVX | AVX512 | PKRU;

impl ExtendedState {
    /// Whether it is a XSAVE image that a CPU can load, with no other than these components: for a
    /// state out of a file. The CPU may still lack some of them.
    pub fn is_valid(&self, allowed: u64) -> bool {
        let word = |at: usize| {
            let bytes: [u8; 4] = std::array::from_fn(|i| self.bytes.get(at + i).copied().unwrap_or(0));
            u32::from_le_bytes(bytes)
        };
        let components = u64::from(word(XSTATE_BV)) | u64::from(word(XSTATE_BV + 4)) << 32;
        // XCOMP_BV, and what is reserved behind it.
        let mut rest = (XCOMP_BV..HEADER_END).step_by(4).map(word);
        self.bytes.len() <= XSAVE_BYTES
            && word(MXCSR) & !MXCSR_BITS == 0
            && components & !allowed == 0
            && rest.all(|word| word == 0)
    }
}

/// RFLAGS that a program can have: the arithmetic flags, TF, IF, DF, NT, RF, AC, ID, and bit 1, which
/// is always set.
const USER_RFLAGS: u64 = rflags::ARITHMETIC_FLAGS
    | rflags::FIXED
    | rflags::TRAP_FLAG
    | rflags::INTERRUPT_FLAG
    | rflags::DIRECTION_FLAG
    | rflags::NESTED_TASK
    | rflags::RESUME_FLAG
    | rflags::ALIGNMENT_CHECK
    | rflags::ID_FLAG;
const _: () = assert!(USER_RFLAGS == 0x0025_4fd7);

impl UserRegisters {
    /// Whether a CPU at CPL 3 can hold them, with RIP below `end`: for a state out of a file.
    pub fn is_valid(&self, end: u64) -> bool {
        let UserRegisters { general, fs_base, gs_base } = self;
        let canonical = |address: u64| (address as i64) << 16 >> 16 == address as i64;
        // The others may hold anything.
        let General { rip, rflags, .. } = general;
        canonical(*fs_base) && canonical(*gs_base) && *rip < end && rflags & !USER_RFLAGS == 0
    }
}

/// The general registers with the segment bases: all that a program at CPL 3 can see of its CPU,
/// with [`ExtendedState`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRegisters {
    /// General registers, RIP and RFLAGS.
    pub general: General,
    /// FS base.
    pub fs_base: u64,
    /// GS base.
    pub gs_base: u64,
}

macro_rules! general {
    ($($name:ident)*) => {
        /// General registers, RIP and RFLAGS.
        #[allow(missing_docs)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct General { $(pub $name: u64,)* }

        impl From<&kvm_regs> for General {
            fn from(r: &kvm_regs) -> General { General { $($name: r.$name,)* } }
        }

        impl From<&General> for kvm_regs {
            fn from(r: &General) -> kvm_regs { kvm_regs { $($name: r.$name,)* } }
        }
    };
}

general!(rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_state_survives_words() {
        let state = ExtendedState::initial();
        assert_eq!(
            ExtendedState::from_words(&state.to_words()),
            ExtendedState::from_bytes(&state.image(4096))
        );
        assert_eq!(state.to_words()[6], 0x1f80);
    }
}
