//! Bare-metal guests: images that own their page tables and run at CPL 0.
//!
//! The machine is one vCPU, memory from address 0 up, and the few devices of [`ports`]. There is
//! no interrupt controller and nothing interrupts the guest from outside.
//!
//! * [`load`] puts an image into [`staged`] memory, and says how it is entered;
//! * [`machine`] says what the guest's exits mean, with the help of its [`devices`];
//! * [`paging`] walks the guest's own page tables, and [`kept`] finds the pages that KVM reads by
//!   itself and that must not be absent;
//! * [`unrepeatable`] finds what no monitor can make deterministic;
//! * `silent` is for pages that KVM wants and says nothing of;
//! * [`state`] and [`start`] are the way from a machine to a snapshot and back, and [`mod@reset`] is the one to an
//!   earlier moment of the same machine.

mod cpuid;
pub mod devices;
pub mod i8254;
pub mod kept;
pub mod load;
pub mod machine;
pub mod paging;
pub mod ports;
pub mod reset;
mod silent;
pub mod staged;
pub mod start;
pub mod state;
pub mod unrepeatable;
