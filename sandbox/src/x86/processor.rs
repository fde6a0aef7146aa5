//! The processor that programs see: one of a few that are written down here, whichever CPU the host has, so
//! that a run does not depend on it. It has the features of a level of x86-64 (the System V ABI for x86-64,
//! table 3.1), and what all CPUs of that level have besides; nothing that is not deterministic.
//!
//! Leaves of `CPUID`: Intel SDM volume 2, `CPUID`; AMD APM volume 3, appendix E.

use serde::{Deserialize, Serialize};

use super::xstate;

/// A level of x86-64. Each has all that those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    /// x86-64-v2, and XSAVE.
    V2,
    /// x86-64-v3, with AES and PCLMULQDQ.
    V3,
}

/// One leaf of `CPUID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// EAX that asks for it.
    pub function: u32,
    /// ECX that asks for it, where that matters.
    pub index: Option<u32>,
    /// EAX, EBX, ECX and EDX.
    pub regs: [u32; 4],
}

/// The last basic leaf, and the last extended one.
const LAST_BASIC: u32 = 0xd;
const LAST_EXTENDED: u32 = 0x8000_0008;
/// `GenuineIntel`, in EBX, ECX, EDX.
const VENDOR: [u32; 3] = [0x756e_6547, 0x6c65_746e, 0x4965_6e69];

/// Leaf 1 ECX: SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT, XSAVE, OSXSAVE.
const V2_LEAF1_ECX: u32 = 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23 | 1 << 26 | 1 << 27;
/// The same: PCLMULQDQ, FMA, MOVBE, AES, AVX, F16C.
const V3_LEAF1_ECX: u32 = 1 << 1 | 1 << 12 | 1 << 22 | 1 << 25 | 1 << 28 | 1 << 29;
/// Leaf 1 EDX: all that every 64-bit CPU has (FPU to SSE2), without the APIC, which there is none of.
const LEAF1_EDX: u32 = 0x078b_fbff & !(1 << 9);
/// Leaf 7 EBX: BMI1, AVX2, BMI2. Not FSGSBASE, which not every KVM
/// lists, although it works everywhere.
const V3_LEAF7_EBX: u32 = 1 << 3 | 1 << 5 | 1 << 8;
/// Leaf 0x80000001 ECX: LAHF; LZCNT.
const V2_EXTENDED_ECX: u32 = 1;
const V3_EXTENDED_ECX: u32 = 1 << 5;
/// Leaf 0x80000001 EDX: SYSCALL, NX, RDTSCP, long mode.
const EXTENDED_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 27 | 1 << 29;
/// Which bits of the words a CPU is asked for. Not OSXSAVE, which KVM lists for none, since it follows CR4; and of
/// leaf 1 EDX only what programs use (FPU, TSC, CX8, CMOV, MMX, FXSR, SSE, SSE2), as not every KVM lists the rest.
const NEEDED: [u32; 5] = [!(1 << 27), 0x0780_8111, u32::MAX, u32::MAX, u32::MAX];
/// Bytes of an XSAVE area without and with AVX.
const LEGACY_BYTES: u32 = 576;
const AVX_BYTES: u32 = 256;
/// What programs are told that `XSAVE` needs. Some KVMs leave the CPU's own XCR0 on while a guest runs, whatever
/// was set: then it stores AVX-512's registers and that of protection keys too, behind which it ends at most.
const TOLD_BYTES: u32 = 0xa88;

impl Level {
    /// All, the best first.
    pub const ALL: [Level; 2] = [Level::V3, Level::V2];

    /// The best level that a CPU has, by its feature words: leaf 1 ECX and EDX, leaf 7 EBX, leaf
    /// 0x80000001 ECX and EDX.
    pub fn of(words: [u32; 5]) -> Option<Level> {
        let lacks = |(wants, has, asked): (u32, u32, u32)| wants & asked & !has != 0;
        let parts = |level: &Level| {
            let words = level.words().into_iter().zip(words).zip(NEEDED);
            words.map(|((wants, has), asked)| (wants, has, asked)).collect::<Vec<_>>()
        };
        let has = |level: &Level| !parts(level).into_iter().any(lacks);
        Level::ALL.into_iter().find(has)
    }

    fn words(self) -> [u32; 5] {
        let v3 = |bits: u32| if self >= Level::V3 { bits } else { 0 };
        [
            V2_LEAF1_ECX | v3(V3_LEAF1_ECX),
            LEAF1_EDX,
            v3(V3_LEAF7_EBX),
            V2_EXTENDED_ECX | v3(V3_EXTENDED_ECX),
            EXTENDED_EDX,
        ]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Level::V2 => "x86-64-v2",
            Level::V3 => "x86-64-v3",
        }
    }

    /// Extended-state components: XCR0.
    pub fn xcr0(self) -> u64 {
        let avx = if self >= Level::V3 { xstate::AVX } else { 0 };
        xstate::X87 | xstate::SSE | avx
    }

    /// Bytes of their XSAVE area.
    pub fn xsave_bytes(self) -> usize {
        (LEGACY_BYTES + if self >= Level::V3 { AVX_BYTES } else { 0 }) as usize
    }

    /// Leaf 1 EDX: `AT_HWCAP`.
    pub fn hwcap(self) -> u32 {
        LEAF1_EDX
    }

    /// Family, model and stepping, as leaf 1 EAX has them.
    fn signature(self) -> u32 {
        match self {
            // Nehalem.
            Level::V2 => 0x0001_06a5,
            // Haswell.
            Level::V3 => 0x0003_06c3,
        }
    }

    fn brand(self) -> String {
        format!("dejavm {} CPU", self.name())
    }

    /// All leaves that there are. What is not among them is zeros, or as [`Level::answer`] has it.
    pub fn leaves(self) -> Vec<Leaf> {
        let [leaf1_ecx, leaf1_edx, leaf7_ebx, extended_ecx, extended_edx] = self.words();
        let leaf = |function, regs| Leaf { function, index: None, regs };
        let part = |function, index, regs| Leaf { function, index: Some(index), regs };
        let [ebx, ecx, edx] = VENDOR;
        let mut leaves = vec![
            leaf(0, [LAST_BASIC, ebx, ecx, edx]),
            // Lines of 64 bytes for CLFLUSH, one logical processor, APIC id 0.
            leaf(1, [self.signature(), 1 << 16 | 8 << 8, leaf1_ecx, leaf1_edx]),
            // Caches: see leaf 4.
            leaf(2, [0xff01, 0, 0, 0]),
            // Data and code: 32 KiB each, 8 ways. Then 256 KiB, 8 ways, and 8 MiB, 16 ways, inclusive.
            part(4, 0, [0x121, 7 << 22 | 63, 63, 0]),
            part(4, 1, [0x122, 7 << 22 | 63, 63, 0]),
            part(4, 2, [0x143, 7 << 22 | 63, 511, 0]),
            part(4, 3, [0x163, 15 << 22 | 63, 8191, 2]),
            part(4, 4, [0; 4]),
            part(7, 0, [0, leaf7_ebx, 0, 0]),
            // The C library asks for it, too.
            part(7, 1, [0; 4]),
            // One thread a core, one core.
            part(0xb, 0, [0, 1, 1 << 8, 0]),
            part(0xb, 1, [0, 1, 2 << 8 | 1, 0]),
            part(0xd, 0, [self.xcr0() as u32, TOLD_BYTES, TOLD_BYTES, 0]),
            part(0xd, 1, [0; 4]),
        ];
        if self >= Level::V3 {
            leaves.push(part(0xd, 2, [AVX_BYTES, LEGACY_BYTES, 0, 0]));
        }
        leaves.extend([3, 5, 6, 8, 9, 0xa, 0xc].map(|function| leaf(function, [0; 4])));
        leaves.push(leaf(0x8000_0000, [LAST_EXTENDED, 0, 0, 0]));
        leaves.push(leaf(0x8000_0001, [0, 0, extended_ecx, extended_edx]));
        let mut brand = self.brand().into_bytes();
        brand.resize(48, 0);
        let mut words = brand.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        for function in 0x8000_0002..=0x8000_0004 {
            leaves.push(leaf(function, std::array::from_fn(|_| words.next().unwrap_or(0))));
        }
        // 256 KiB, 8 ways, lines of 64 bytes.
        leaves.push(leaf(0x8000_0006, [0, 0, 256 << 16 | 6 << 12 | 64, 0]));
        leaves.extend([0x8000_0005, 0x8000_0007].map(|function| leaf(function, [0; 4])));
        // Addresses: 40 bits physical, 48 virtual.
        leaves.push(leaf(LAST_EXTENDED, [48 << 8 | 40, 0, 0, 0]));
        leaves.sort_unstable_by_key(|leaf| (leaf.function, leaf.index));
        leaves
    }

    /// What `CPUID` gives for EAX and ECX, as Intel's CPUs and KVM (`get_out_of_range_cpuid_entry`) do: beyond
    /// the last leaf, what the last basic one gives.
    pub fn answer(self, function: u32, index: u32) -> [u32; 4] {
        let beyond = match function {
            ..=LAST_BASIC | 0x8000_0000..=LAST_EXTENDED => function,
            _ => LAST_BASIC,
        };
        let found = |leaf: &Leaf| leaf.function == beyond && leaf.index.is_none_or(|i| i == index);
        match self.leaves().into_iter().find(found) {
            Some(leaf) => leaf.regs,
            // No more levels of topology.
            None if beyond == 0xb => [0, 0, index & 0xff, 0],
            None => [0; 4],
        }
    }

    /// `/proc/cpuinfo`.
    pub fn text(self) -> String {
        let signature = self.signature();
        let (model, stepping) = ((signature >> 12 & 0xf0) | (signature >> 4 & 0xf), signature & 0xf);
        let v3 = |text: &'static str| if self >= Level::V3 { text } else { "" };
        format!(
            "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: {model}\n\
             model name\t: {}\nstepping\t: {stepping}\ncpu MHz\t\t: 1000.000\ncache size\t: 8192 KB\n\
             physical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: 0\n\
             initial apicid\t: 0\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {LAST_BASIC}\n\
             wp\t\t: yes\nflags\t\t: fpu vme de pse tsc msr pae mce cx8 sep mtrr pge mca cmov pat pse36 \
             clflush mmx fxsr sse sse2 syscall nx rdtscp lm constant_tsc pni{} ssse3{} cx16 sse4_1 \
             sse4_2{} popcnt{} xsave{} lahf_lm{}\nbugs\t\t:\nbogomips\t: 2000.00\n\
             clflush size\t: 64\ncache_alignment\t: 64\n\
             address sizes\t: 40 bits physical, 48 bits virtual\npower management:\n\n",
            self.brand(),
            v3(" pclmulqdq"),
            v3(" fma"),
            v3(" movbe"),
            v3(" aes"),
            v3(" avx f16c"),
            v3(" abm bmi1 avx2 bmi2"),
        )
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_known_by_their_features() {
        let [v2, v3] = [Level::V2.words(), Level::V3.words()];
        assert_eq!(Level::of(v3), Some(Level::V3));
        assert_eq!(Level::of([u32::MAX; 5]), Some(Level::V3));
        assert_eq!(Level::of(v2), Some(Level::V2));
        let without_avx2 = [v3[0], v3[1], v3[2] & !(1 << 5), v3[3], v3[4]];
        assert_eq!(Level::of(without_avx2), Some(Level::V2));
        assert_eq!(Level::of([0; 5]), None);
    }

    #[test]
    fn leaves_agree_with_each_other() {
        for level in Level::ALL {
            let leaves = level.leaves();
            let keys = || leaves.iter().map(|leaf| (leaf.function, leaf.index));
            assert!(keys().zip(keys().skip(1)).all(|(a, b)| a < b), "each once, in order");
            for leaf in &leaves {
                assert_eq!(level.answer(leaf.function, leaf.index.unwrap_or(99)), leaf.regs);
            }
            assert!(level.answer(0xd, 0)[1] as usize >= level.xsave_bytes());
            assert_eq!(level.answer(0x1234, 0), level.answer(0xd, 0));
            assert_eq!(level.answer(0x4000_0000, 2), level.answer(0xd, 2), "no hypervisor");
            assert_eq!(level.answer(0x8000_0009, 1), [0; 4]);
            assert_eq!((level.answer(0xb, 0x102), level.answer(7, 1)), ([0, 0, 2, 0], [0; 4]));
            let not_deterministic =
                level.answer(1, 0)[2] & (1 << 30) | level.answer(7, 0)[1] & (1 << 18 | 1 << 11);
            assert_eq!(not_deterministic, 0);
            assert!(level.text().contains(level.name()));
        }
    }
}
