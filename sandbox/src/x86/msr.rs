//! Numbers of model-specific registers (Intel SDM volume 4, table 2-2; AMD APM volume 2, appendix A).

/// `IA32_SYSENTER_CS`.
pub const SYSENTER_CS: u32 = 0x174;
/// `IA32_SYSENTER_ESP`.
pub const SYSENTER_ESP: u32 = 0x175;
/// `IA32_SYSENTER_EIP`.
pub const SYSENTER_EIP: u32 = 0x176;
/// `IA32_PAT`.
pub const PAT: u32 = 0x277;
/// `IA32_STAR`: segment selectors of `SYSCALL` and `SYSRET`.
pub const STAR: u32 = 0xc000_0081;
/// `IA32_LSTAR`: where `SYSCALL` goes in 64-bit mode.
pub const LSTAR: u32 = 0xc000_0082;
/// `IA32_CSTAR`: where `SYSCALL` goes in compatibility mode.
pub const CSTAR: u32 = 0xc000_0083;
/// `IA32_FMASK`: RFLAGS that `SYSCALL` clears.
pub const FMASK: u32 = 0xc000_0084;
/// `IA32_KERNEL_GS_BASE`.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// `IA32_TSC_AUX`: what `RDTSCP` and `RDPID` read.
pub const TSC_AUX: u32 = 0xc000_0103;
