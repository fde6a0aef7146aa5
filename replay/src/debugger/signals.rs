//! Signals by Linux's numbers and by gdb's, which has its own (`include/gdb/signals.def`).

use std::ops::RangeInclusive;

use gdbstub::common::Signal;

/// Of Linux's signals 1 to 31. gdb does not know the 16th, `SIGSTKFLT`.
const STANDARD: [Signal; 31] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGKILL,
    Signal::SIGUSR1,
    Signal::SIGSEGV,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::UNKNOWN,
    Signal::SIGCHLD,
    Signal::SIGCONT,
    Signal::SIGSTOP,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGWINCH,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSYS,
];

/// Linux's signals.
pub(super) const ALL: RangeInclusive<u32> = 1..=64;

/// A signal of Linux's, as gdb calls it.
pub(super) fn of_linux(signal: u32) -> Signal {
    match signal {
        // They were given numbers when they came up.
        32 => Signal::SIG32,
        64 => Signal::SIG64,
        33..64 => Signal(Signal::SIG33.0 + (signal - 33) as u8),
        _ => {
            let at = usize::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
            at.and_then(|at| STANDARD.get(at)).copied().unwrap_or(Signal::UNKNOWN)
        }
    }
}

/// A signal of gdb's, as Linux calls it; none if it has none such.
pub(super) fn to_linux(signal: Signal) -> Option<u32> {
    let of_linux = |number: &u32| of_linux(*number) == signal;
    let mut all = ALL;
    all.find(of_linux).filter(|_| signal != Signal::UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_two_numbers() {
        assert_eq!(of_linux(11), Signal(11));
        assert_eq!(of_linux(7), Signal(10), "SIGBUS");
        assert_eq!(of_linux(10), Signal(30), "SIGUSR1");
        assert_eq!([32, 33, 63, 64].map(of_linux), [77, 45, 75, 78].map(Signal));
        assert_eq!([0, 16, 65, u32::MAX].map(of_linux), [Signal::UNKNOWN; 4]);
        for signal in (1..=64).filter(|signal| *signal != 16) {
            assert_eq!(to_linux(of_linux(signal)), Some(signal));
        }
        assert_eq!([Signal(0), Signal(7), Signal::UNKNOWN].map(to_linux), [None; 3]);
    }
}
