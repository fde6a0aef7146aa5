//! What a thread needs to run a vCPU: blocked signals that only `KVM_RUN` lets in, a timer for the
//! deadline, and time-stamp counter faults.
//!
//! Nothing here is process-wide. `SIGBUS` and [`KICK`] are blocked on the vCPU's thread and let in
//! by `KVM_SET_SIGNAL_MASK` only while the guest runs, so that they make `KVM_RUN` return; then
//! they are collected with `sigtimedwait`. No handler is ever installed. While RDTSC faults on the
//! thread, its other signals are blocked as well: see [`make_rdtsc_fault`].

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// The signal that makes `KVM_RUN` return. Its default action is to be ignored, so that one that
/// arrives late, after the thread has left the sandbox, does no harm; a blocked signal is queued
/// whatever its action (`kernel/signal.c`, `sig_ignored`).
pub const KICK: libc::c_int = libc::SIGURG;

/// `si_code` of a touch of a poisoned page (`include/uapi/asm-generic/siginfo.h`).
const BUS_MCEERR_AR: libc::c_int = 4;

/// A signal that made `KVM_RUN` return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The guest touched a poisoned page at this host address.
    Poison(u64),
    /// The deadline, or a stop from another thread.
    Kick,
}

fn signal_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset is given that set and valid signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGBUS);
        libc::sigaddset(set.as_mut_ptr(), KICK);
        set.assume_init()
    }
}

/// The kernel's 64-bit set of the signals in a C library's set.
fn bits(set: &libc::sigset_t) -> u64 {
    // SAFETY: `set` is an initialised set and the signals are in range.
    let is_member = |signal: &libc::c_int| unsafe { libc::sigismember(set, *signal) } == 1;
    (1..=64).filter(is_member).fold(0, |bits, signal| bits | 1 << (signal - 1))
}

/// Blocks the signals on this thread until dropped.
#[derive(Debug)]
pub struct BlockedSignals {
    before: libc::sigset_t,
    run_mask: u64,
    /// Makes the guard stay on its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl BlockedSignals {
    /// Blocks them on the calling thread.
    pub fn new() -> BlockedSignals {
        let set = signal_set();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both pointers are valid sets; the call cannot fail with a valid `how`.
        let before = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, before.as_mut_ptr());
            before.assume_init()
        };
        let run_mask = bits(&before) & !bits(&set);
        BlockedSignals { before, run_mask, _thread: std::marker::PhantomData }
    }

    /// Blocks them, and lets no other signal end `KVM_RUN`: for a guest that ends at once, and of which
    /// an exit is expected.
    pub fn alone() -> BlockedSignals {
        let mut blocked = BlockedSignals::new();
        blocked.run_mask = !bits(&signal_set());
        blocked
    }

    /// The mask for `KVM_RUN`: the thread's own from before, with the two signals let in, as the
    /// kernel's 64-bit set.
    pub fn run_mask(&self) -> u64 {
        self.run_mask
    }

    /// Takes the next queued signal, without waiting.
    pub fn take(&self) -> Option<Signal> {
        let set = signal_set();
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: the set, the place for the answer and the time are valid for the call.
        let signal = unsafe { libc::sigtimedwait(&set, info.as_mut_ptr(), &now) };
        if signal < 0 {
            return None;
        }
        if signal == libc::SIGBUS {
            // SAFETY: sigtimedwait returned a signal, so it filled `info`; SIGBUS has an address.
            let (code, address) = unsafe {
                let info = info.assume_init();
                (info.si_code, info.si_addr() as u64)
            };
            return (code == BUS_MCEERR_AR).then_some(Signal::Poison(address)).or(Some(Signal::Kick));
        }
        Some(Signal::Kick)
    }
}

impl Default for BlockedSignals {
    fn default() -> Self {
        BlockedSignals::new()
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        let_rdtsc_run();
        while self.take().is_some() {}
        // SAFETY: `before` is the set that was in force when the guard was made.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut());
        }
    }
}

fn this_thread() -> libc::pid_t {
    // SAFETY: gettid takes no memory.
    unsafe { libc::gettid() }
}

/// A timer of the kernel's that kicks a thread.
#[derive(Debug)]
struct Timer {
    id: libc::timer_t,
    /// The thread's number.
    thread: libc::pid_t,
}

thread_local! {
    /// This thread's timers that are not set: a sandbox may be run many thousand times a second.
    static IDLE: RefCell<Vec<Timer>> = const { RefCell::new(Vec::new()) };
}

/// Timers of a thread that are kept: as many as a run has.
const MOST_IDLE: usize = 2;

impl Timer {
    /// One for this thread, which is not set.
    fn new() -> io::Result<Timer> {
        let thread = this_thread();
        let idle = IDLE.try_with(|idle| idle.borrow_mut().pop()).unwrap_or(None);
        if let Some(timer) = idle.filter(|timer| timer.thread == thread) {
            return Ok(timer);
        }
        let mut event = MaybeUninit::<libc::sigevent>::zeroed();
        let mut id = MaybeUninit::<libc::timer_t>::uninit();
        // SAFETY: an all-zero sigevent is valid; its fields are set before it is used; timer_create takes no
        // other memory of ours.
        unsafe {
            let e = event.assume_init_mut();
            e.sigev_notify = libc::SIGEV_THREAD_ID;
            e.sigev_signo = KICK;
            e.sigev_notify_thread_id = thread;
            if libc::timer_create(libc::CLOCK_MONOTONIC, e, id.as_mut_ptr()) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Timer { id: id.assume_init(), thread })
        }
    }

    /// Kicks the thread after `delay`, and then every `again`; never, if the first is zero.
    fn set(&self, delay: Duration, again: Duration) -> io::Result<()> {
        let time = |d: Duration| libc::timespec {
            tv_sec: libc::time_t::try_from(d.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: d.subsec_nanos().into(),
        };
        let spec = libc::itimerspec { it_value: time(delay), it_interval: time(again) };
        // SAFETY: the timer was made by `new` and is not deleted yet; `spec` is valid for the call.
        match unsafe { libc::timer_settime(self.id, 0, &spec, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // A fork of the process has none of its timers, and perhaps another one with this number.
        if self.thread == this_thread() {
            // SAFETY: the timer was made by `new` and is deleted once.
            unsafe {
                libc::timer_delete(self.id);
            }
        }
    }
}

/// A timer that kicks the calling thread until it is dropped.
#[derive(Debug)]
pub struct KickTimer {
    /// There until it is dropped.
    timer: Option<Timer>,
    _thread: std::marker::PhantomData<*const ()>,
}

impl KickTimer {
    /// Kicks this thread after `delay`, and then every `again`.
    ///
    /// # Errors
    /// When the kernel has no more timers.
    pub fn start(delay: Duration, again: Duration) -> io::Result<KickTimer> {
        let timer = Timer::new()?;
        timer.set(delay.max(Duration::from_nanos(1)), again)?;
        Ok(KickTimer { timer: Some(timer), _thread: std::marker::PhantomData })
    }
}

impl Drop for KickTimer {
    fn drop(&mut self) {
        let Some(timer) = self.timer.take() else { return };
        if timer.set(Duration::ZERO, Duration::ZERO).is_err() {
            return;
        }
        // Of a thread that ends, they are gone.
        let _ = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() < MOST_IDLE {
                idle.push(timer);
            }
        });
    }
}

/// `prctl(PR_SET_TSC)` numbers (`include/uapi/linux/prctl.h`).
const PR_SET_TSC: libc::c_int = 26;
const PR_TSC_ENABLE: libc::c_ulong = 1;
const PR_TSC_SIGSEGV: libc::c_ulong = 2;

/// Signals that a thread brings upon itself. They are not blocked while RDTSC faults: the kernel would
/// end the process, whatever handler there is.
const OWN_SIGNALS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGABRT, libc::SIGSYS];

thread_local! {
    /// The signal mask to go back to, while RDTSC faults on this thread. The thread's own since the
    /// kernel's switch is.
    static RDTSC_FAULTS: Cell<Option<libc::sigset_t>> = const { Cell::new(None) };
}

fn set_tsc(how: libc::c_ulong) {
    // SAFETY: this prctl takes a number and changes this thread's CR4.TSD alone.
    unsafe {
        libc::prctl(PR_SET_TSC, how, 0, 0, 0);
    }
}

/// Makes RDTSC fault on the calling thread, until [`let_rdtsc_run`]. Meanwhile nothing on the thread may
/// read a clock through the vDSO, as `Instant::now` does. So no signal handler runs there either: the
/// process that we are part of may have some that do. `KVM_RUN` lets their signals in, and comes back.
pub fn make_rdtsc_fault() {
    if RDTSC_FAULTS.get().is_some() {
        return;
    }
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises the set; the others are given valid sets and signals.
    let before = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for signal in OWN_SIGNALS {
            libc::sigdelset(all.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    };
    set_tsc(PR_TSC_SIGSEGV);
    RDTSC_FAULTS.set(Some(before));
}

/// Lets RDTSC run on the calling thread again, and the signal handlers that waited for it. Costs next to
/// nothing where it does already; called before any code that may read a clock.
pub fn let_rdtsc_run() {
    let Some(before) = RDTSC_FAULTS.take() else { return };
    set_tsc(PR_TSC_ENABLE);
    // SAFETY: `before` is the set that was in force when RDTSC was made to fault.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
    }
}

/// Monotonic nanoseconds; where RDTSC faults, by a real system call.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let by_call = RDTSC_FAULTS.get().is_some();
    // SAFETY: `time` is valid for the calls; the vDSO's RDTSC does not fault.
    unsafe {
        match by_call {
            true => libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &mut time),
            false => libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time).into(),
        };
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_used_again_kicks_again_and_no_more_once_it_is_dropped() {
        let signals = BlockedSignals::new();
        for _ in 0..3 {
            let timer = KickTimer::start(Duration::from_millis(1), Duration::from_millis(1)).unwrap();
            while signals.take().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(timer);
            while signals.take().is_some() {}
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!((signals.take(), IDLE.with_borrow(Vec::len)), (None, 1));
        }
        let timers: Vec<_> = (0..4).map(|_| KickTimer::start(Duration::MAX, Duration::ZERO)).collect();
        assert!(timers.iter().all(Result::is_ok));
        drop(timers);
        assert_eq!(IDLE.with_borrow(Vec::len), MOST_IDLE);
    }

    #[test]
    fn the_clock_is_the_same_where_rdtsc_faults() {
        let before = monotonic_ns();
        make_rdtsc_fault();
        let then = monotonic_ns();
        let_rdtsc_run();
        let after = monotonic_ns();
        assert!(before <= then && then <= after, "{before}, {then}, {after}");
    }
}
