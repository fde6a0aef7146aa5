//! What a bare-metal guest of dejavm needs: how it is entered, its devices, and text.
//!
//! A guest is entered in 64-bit mode at CPL 0, by the Linux 64-bit boot protocol: memory is mapped
//! one to one, interrupts are off, and RSI has the boot parameters. [`entry!`] makes the image's
//! entry of a function; `src/bin/hello.rs` is the smallest one.
//!
//! Code here must do without SSE: see `.cargo/config.toml`, and `build`, which checks it.
#![no_std]

pub mod boot;
pub mod mem;
pub mod port;
pub mod serial;
pub mod shared;
pub mod text;

use core::panic::PanicInfo;

/// Exit status of a guest that panicked: that of a Rust program.
pub const PANICKED: u8 = 101;

/// What went wrong is not told: formatting it takes code that is longer than a small guest.
#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let line = info.location().map_or(0, |at| at.line());
    say!("panic, line ", u64::from(line));
    port::exit(PANICKED)
}
