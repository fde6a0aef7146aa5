//! The smallest guest: says who it is and ends.
#![no_std]
#![no_main]

use dejavm_example_guest::boot::BootParams;
use dejavm_example_guest::{entry, port, say};

entry!(main);

fn main(params: BootParams) -> ! {
    say!("Hello from CPL 0!");
    say!("command line: ", params.command_line());
    port::exit(0)
}
