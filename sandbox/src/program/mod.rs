//! Linux programs at CPL 3, with the monitor as their kernel.

pub mod binary;
mod caller;
pub mod clock;
pub mod credentials;
pub mod elf;
pub mod entry;
pub mod exception;
pub mod exec;
pub mod files;
pub mod find;
pub mod fs;
pub mod machine;
pub mod mm;
pub mod outside;
mod proc_text;
pub mod process;
pub mod settings;
pub mod signal;
pub mod start;
pub mod state;
pub mod syscall;
pub mod timers;
pub mod vdso;
mod waiting;
