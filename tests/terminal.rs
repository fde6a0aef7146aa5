//! Programs in a terminal: what is typed, shown, set and interrupted, as a user at one has it.

mod common;

#[path = "terminal/interrupts.rs"]
mod interrupts;
#[path = "terminal/programs.rs"]
mod programs;
#[path = "terminal/pty.rs"]
mod pty;
#[path = "terminal/waits.rs"]
mod waits;
