//! Which of the standard streams were closed when this process started.
//!
//! By the time that `main` runs it cannot be seen any more: the standard library opens `/dev/null` in the
//! place of each of them that is closed, as a program would that was given `/dev/null`. So they are looked
//! at before, among the process's initialisers: three calls that change nothing.

use std::sync::atomic::{AtomicU8, Ordering};

/// Bit `n` for descriptor `n`.
static CLOSED: AtomicU8 = AtomicU8::new(0);

// SAFETY: the section holds pointers to functions that the C library calls once each, before `main`, on
// the only thread there is; `look` is one, and needs nothing that is not there by then.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    for fd in 0..3 {
        // SAFETY: F_GETFD takes any number for a descriptor and reads no memory.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

/// Which of standard input, standard output and standard error were closed when this process started.
pub fn closed_at_start() -> [bool; 3] {
    let closed = CLOSED.load(Ordering::Relaxed);
    [0, 1, 2].map(|fd| closed & 1 << fd != 0)
}
