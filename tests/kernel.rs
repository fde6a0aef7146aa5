//! Bare-metal guests: the examples', and Debian's kernel as far as it comes here.

mod common;
#[path = "kernel/debian.rs"]
mod debian;
#[path = "kernel/ends.rs"]
mod ends;
#[path = "kernel/guests.rs"]
mod guests;
#[path = "kernel/kept.rs"]
mod kept;
#[path = "kernel/repeat.rs"]
mod repeat;
#[path = "kernel/reset.rs"]
mod reset;
#[path = "kernel/same.rs"]
mod same;
