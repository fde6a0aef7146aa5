//! Structures and constants of the x86-64 architecture, each standing once. Nothing here knows of a
//! machine, a guest or KVM's state beyond the types of its interface.

pub mod by_rip;
pub mod descriptors;
pub mod flags;
pub mod frame;
pub mod msr;
pub mod paging;
pub mod processor;
pub mod vector;
pub mod xstate;

/// The longest instruction, bytes (Intel SDM volume 2, section 2.3.11).
pub const MAX_INSTRUCTION: usize = 15;
