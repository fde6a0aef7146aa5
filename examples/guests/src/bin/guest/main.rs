//! A guest with page tables, address spaces, exceptions and code of CPL 3, that uses every device.
//!
//! What it prints follows from the image, the memory's size, the command line and the input. It stops at the
//! point `ready`, and then answers each line of its input. Options on its command line: `exit=N` is the exit
//! status; `end=halt`, `end=reset`, `end=shutdown` and `end=loop` are other ways to end.
#![no_std]
#![no_main]

mod exceptions;
mod frames;
mod handlers;
mod input;
mod layout;
mod pages;
mod paging;
mod segments;
mod user;
mod work;

use dejavm_example_guest::boot::BootParams;
use dejavm_example_guest::text::Hex;
use dejavm_example_guest::{entry, port, say};

use frames::PAGE;
use layout::{LAZY, WINDOW};
use pages::{fold, fold_bytes};
use paging::AddressSpace;

/// An address that is none: bits 47 to 63 differ.
const NOT_CANONICAL: u64 = 1 << 63;

/// Orders of the window's pages.
const STRIDES: [u64; 2] = [511, 77];

entry!(main);

fn main(params: BootParams) -> ! {
    port::debug("guest: booted\n");
    say!("dejavm example guest");
    let memory = tell_memory(params);
    say!("command line: ", params.command_line());
    let seed = fold_bytes(memory, params.command_line());

    segments::init();
    exceptions::init();
    let spaces = make_spaces(params);
    spaces[0].enter();
    paging::protect();
    pages::fill(seed);
    say!("pages: ", pages::PAGES, ", in 2 address spaces");

    let sum = first_part(spaces, seed);
    say!("ready");
    port::ready();
    let digest = second_part(spaces, sum);
    say!("digest ", Hex(digest));
    port::debug("guest: done\n");
    end(params)
}

/// Says the memory map, and folds it.
fn tell_memory(params: BootParams) -> u64 {
    let mut sum = 0;
    for entry in params.memory_map() {
        let (start, len, kind) = (entry.start, entry.len, u64::from(entry.kind));
        say!("memory ", Hex(start), " length ", Hex(len), " type ", kind);
        sum = [start, len, kind].into_iter().fold(sum, fold);
    }
    sum
}

/// Two address spaces, that differ in the order of the window's pages.
fn make_spaces(params: BootParams) -> [AddressSpace; 2] {
    frames::init(params);
    let block = frames::take_large();
    let first = AddressSpace::new();
    first.map_identity(params);
    let spaces = [first, AddressSpace::sharing(first)];
    for (space, stride) in spaces.into_iter().zip(STRIDES) {
        pages::map(space, block, stride);
        user::map(space);
    }
    spaces
}

/// Before the point `ready`: every exception once.
fn first_part(spaces: [AddressSpace; 2], seed: u64) -> u64 {
    let quotient = work::divide(seed, 0);
    let read = work::try_read(NOT_CANONICAL).unwrap_or(1);
    let stack = work::stack(LAZY + PAGE, seed);
    let walks = walk_both(spaces, seed, LAZY + 0x100 * PAGE);
    [quotient, read, stack, walks].into_iter().fold(seed, fold)
}

/// After it: the input, and work on pages of all kinds.
fn second_part(spaces: [AddressSpace; 2], sum: u64) -> u64 {
    let mut sum = sum;
    let mut lines = 0u64;
    while let Some(line) = input::line(sum) {
        lines += 1;
        sum = line.sum;
        say!("line ", lines, ": ", line.len, " bytes, ", Hex(sum));
        if let Some(len) = line.block {
            sum = input::block(sum, len);
            say!("    then ", len as u64, " bytes, ", Hex(sum));
        }
    }
    say!("lines: ", lines);
    let copied = work::copy(LAZY + 0x10 * PAGE, WINDOW + 3 * PAGE);
    let locked = work::locked(sum);
    let stack = work::stack(LAZY + 0x21 * PAGE, sum);
    pages::exchange(spaces[0], 5, 6);
    let walks = walk_both(spaces, sum, LAZY + 0x200 * PAGE);
    say!("copy ", Hex(copied), ", locked ", Hex(locked), ", stack ", Hex(stack));
    [copied, locked, stack, walks].into_iter().fold(sum, fold)
}

/// Walks the window in both spaces, at CPL 0 and at CPL 3, and comes back to the first. CPL 3 touches `address`.
fn walk_both(spaces: [AddressSpace; 2], start: u64, address: u64) -> u64 {
    let mut sum = start;
    for space in spaces.into_iter().rev() {
        space.enter();
        let (kernel, user) = (pages::walk(start), user::run(start, address));
        say!("walk: ", Hex(kernel), if user == kernel { ", the same at CPL 3" } else { ", not at CPL 3" });
        sum = fold(fold(sum, kernel), user);
    }
    sum
}

/// Ends as the command line says.
fn end(params: BootParams) -> ! {
    match params.option("end") {
        Some(b"halt") => port::halt(),
        Some(b"reset") => port::output(port::KEYBOARD_COMMAND, port::RESET_PULSE),
        Some(b"shutdown") => {
            exceptions::forget();
            work::try_read(NOT_CANONICAL);
        }
        Some(b"loop") => loop {
            core::hint::spin_loop();
        },
        _ => {}
    }
    port::exit(params.number("exit").unwrap_or(0) as u8)
}
