//! The virtual machine: lazily absent memory, faults, vCPU and guests.

pub mod entry;
pub mod errno;
pub mod exit;
pub mod fault;
pub mod guest;
pub mod host;
pub mod kernel;
pub mod machine;
pub mod program;
pub mod ram;
pub mod random;
pub mod stats;
pub mod vcpu;
pub mod world;
pub mod x86;
