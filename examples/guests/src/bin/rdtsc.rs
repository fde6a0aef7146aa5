//! Reads the time stamp counter: a run that cannot be promised to be the same again. With `show=1` on
//! its command line it prints what it read, and then it is not.
#![no_std]
#![no_main]

use core::arch::x86_64::_rdtsc;
use core::hint::black_box;

use dejavm_example_guest::boot::BootParams;
use dejavm_example_guest::text::Hex;
use dejavm_example_guest::{entry, port, say};

entry!(main);

fn main(params: BootParams) -> ! {
    // SAFETY: at CPL 0 it is always allowed.
    let stamp = black_box(unsafe { _rdtsc() });
    say!("read the time stamp counter");
    if params.number("show") == Some(1) {
        say!("it was ", Hex(stamp));
    }
    port::exit(0)
}
