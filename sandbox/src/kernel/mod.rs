//! Bare-metal guests: images that own their page tables and run at CPL 0.
//!
//! The machine is one vCPU, memory from address 0 up, and the few devices of [`ports`]. There is
//! no interrupt controller and nothing interrupts the guest from outside.

pub mod kept;
pub mod paging;
pub mod ports;
