//! Reads the time stamp counter: a run that cannot be promised to be the same again.
#![no_std]
#![no_main]

use core::arch::x86_64::_rdtsc;
use core::hint::black_box;

use dejavm_example_guest::boot::BootParams;
use dejavm_example_guest::{entry, port, say};

entry!(main);

fn main(_: BootParams) -> ! {
    // SAFETY: at CPL 0 it is always allowed.
    black_box(unsafe { _rdtsc() });
    say!("read the time stamp counter");
    port::exit(0)
}
