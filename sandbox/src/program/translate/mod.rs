//! A program's code, translated so that its branches are counted.
//!
//! Without a counter in the CPU, nothing says where between two exits a program is: time is no coordinate, and
//! registers are the same at each round of a loop. So where that matters, a program runs in copies of its basic
//! blocks, which count as they go and leave the guest when as many branches were taken as were asked for. What is
//! counted is a matter of the program's instructions alone, and not of how they were cut into blocks:
//!
//! > a near branch that was taken, if it is indirect (`ret` among them), or goes to its own address or a lower one.
//!
//! Whoever runs for long takes such a branch again and again, since all others go forwards. `syscall` and all else
//! that leaves the guest is run where it is.
//!
//! Copies can count which ways control flow took as well ([`edges`]).
//!
//! A block ends with a branch. Where a direct one goes is known, and the copy jumps to that one's copy once there
//! is one ([`block`]); for the others there is a table ([`dispatch`]). A copy has the registers and flags of the
//! original at each of its instructions, but for those in between, which are known ([`piece`]): so wherever
//! a program is left, it can be told what it would be without. The copies lie where no program has its memory
//! ([`layout`]), and it is the [cache] that knows them.
//!
//! What a program may write is not translated, as it would have to be noticed when it changes; nor is what it shares
//! with others.

mod block;
mod cache;
mod caches;
mod dispatch;
mod edges;
mod emit;
mod guard;
mod instruction;
mod layout;
mod piece;
mod source;

pub(crate) use block::Breakpoints;
pub(crate) use caches::Caches;
pub(crate) use edges::Edges;
pub(crate) use instruction::{is_counted, way};
pub(crate) use layout::{COPIES, is_inside};
pub(crate) use piece::{Landing, Leaves};
pub(crate) use source::is_translated;
