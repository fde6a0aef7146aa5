//! What this host's KVM and memory management do, and what a thread needs to run a vCPU.

#![allow(unsafe_code)]

pub(crate) mod basics;
pub mod doctor;
mod known;
pub mod signals;
pub mod standard;
pub mod stop;
pub mod thread;
mod tiny;
pub mod tty;
mod walker;

pub use basics::{BareMetal, CpuIdentity, HostError, HostProfile, IoMap, create_vm, open_kvm, program_table};
