//! Frames: pages of memory, taken one after the other and never given back.

use dejavm_example_guest::boot::{BootParams, USABLE};
use dejavm_example_guest::shared::Shared;

use crate::layout;

/// Bytes of a page.
pub const PAGE: u64 = 4 << 10;
/// Bytes of a large page.
pub const LARGE: u64 = 2 << 20;

/// What the identity mapping covers at most.
const MAX: u64 = 1 << 30;

/// The next frame, and the end of memory.
static FREE: Shared<(u64, u64)> = Shared::new((0, 0));

/// End of the memory that is mapped one to one: that of the usable range that has the image.
pub fn end(params: BootParams) -> u64 {
    let image = layout::end_of_image();
    let around = |start: u64, len: u64| start < image && image < start + len;
    let ranges = params.memory_map().iter().filter(|entry| entry.kind == USABLE);
    let mut end = 0;
    for entry in ranges.filter(|entry| around(entry.start, entry.len)) {
        end = entry.start + entry.len;
    }
    (end & !(LARGE - 1)).min(MAX)
}

/// Begins with the first large page behind the image: what lies before is mapped in small ones.
pub fn init(params: BootParams) {
    let first = layout::end_of_image().next_multiple_of(LARGE);
    // SAFETY: nobody else has a reference to it.
    unsafe { *FREE.get() = (first, end(params)) };
}

/// Takes so many bytes.
///
/// # Panics
/// When memory is full.
fn take(bytes: u64) -> u64 {
    // SAFETY: as above.
    let (next, end) = unsafe { &mut *FREE.get() };
    let frame = *next;
    assert!(frame + bytes <= *end);
    *next += bytes;
    frame
}

/// Takes a page and clears it.
pub fn take_zeroed() -> u64 {
    let frame = take(PAGE);
    // SAFETY: it was free, and it is mapped one to one.
    unsafe { (frame as *mut u8).write_bytes(0, PAGE as usize) };
    frame
}

/// Takes a large page, as it is. They come first, or they are not aligned.
pub fn take_large() -> u64 {
    take(LARGE)
}
