//! What a thread needs to run a vCPU: blocked signals that only `KVM_RUN` lets in, a timer for the
//! deadline, and time-stamp counter faults.
//!
//! Nothing here is process-wide. `SIGBUS` and [`KICK`] are blocked on the vCPU's thread and let in
//! by `KVM_SET_SIGNAL_MASK` only while the guest runs, so that they make `KVM_RUN` return; then
//! they are collected with `sigtimedwait`. No handler is ever installed.

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
        let mut run_mask = 0u64;
        for signal in 1..=64 {
            // SAFETY: `before` is an initialised set and `signal` is in range.
            let member = unsafe { libc::sigismember(&before, signal) } == 1;
            if member && signal != libc::SIGBUS && signal != KICK {
                run_mask |= 1 << (signal - 1);
            }
        }
        BlockedSignals { before, run_mask, _thread: std::marker::PhantomData }
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
        while self.take().is_some() {}
        // SAFETY: `before` is the set that was in force when the guard was made.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut());
        }
    }
}

/// A timer that kicks the calling thread, once.
#[derive(Debug)]
pub struct KickTimer {
    timer: libc::timer_t,
    _thread: std::marker::PhantomData<*const ()>,
}

impl KickTimer {
    /// Kicks this thread after `delay`, and then every `again`.
    ///
    /// # Errors
    /// When the kernel has no more timers.
    pub fn start(delay: Duration, again: Duration) -> io::Result<KickTimer> {
        let mut event = MaybeUninit::<libc::sigevent>::zeroed();
        let mut timer = MaybeUninit::<libc::timer_t>::uninit();
        // SAFETY: an all-zero sigevent is valid; its fields are set before it is used; gettid and
        // timer_create take no other memory of ours.
        let timer = unsafe {
            let e = event.assume_init_mut();
            e.sigev_notify = libc::SIGEV_THREAD_ID;
            e.sigev_signo = KICK;
            e.sigev_notify_thread_id = libc::gettid();
            if libc::timer_create(libc::CLOCK_MONOTONIC, e, timer.as_mut_ptr()) < 0 {
                return Err(io::Error::last_os_error());
            }
            timer.assume_init()
        };
        let this = KickTimer { timer, _thread: std::marker::PhantomData };
        let time = |d: Duration| libc::timespec {
            tv_sec: libc::time_t::try_from(d.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: d.subsec_nanos().into(),
        };
        // A zero delay would disarm the timer.
        let spec =
            libc::itimerspec { it_value: time(delay.max(Duration::from_nanos(1))), it_interval: time(again) };
        // SAFETY: the timer was just made; `spec` is valid for the call.
        if unsafe { libc::timer_settime(this.timer, 0, &spec, std::ptr::null_mut()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(this)
    }
}

impl Drop for KickTimer {
    fn drop(&mut self) {
        // SAFETY: the timer was made by `start` and is deleted once.
        unsafe {
            libc::timer_delete(self.timer);
        }
    }
}

/// `prctl(PR_SET_TSC)` numbers (`include/uapi/linux/prctl.h`).
const PR_SET_TSC: libc::c_int = 26;
const PR_TSC_ENABLE: libc::c_ulong = 1;
const PR_TSC_SIGSEGV: libc::c_ulong = 2;

/// Makes RDTSC fault on the calling thread, or lets it run again. While it faults, nothing on the
/// thread may read a clock through the vDSO, as `Instant::now` does.
pub fn fault_on_rdtsc(fault: bool) {
    // SAFETY: this prctl takes a number and changes this thread's CR4.TSD alone.
    unsafe {
        libc::prctl(PR_SET_TSC, if fault { PR_TSC_SIGSEGV } else { PR_TSC_ENABLE }, 0, 0, 0);
    }
}

/// Monotonic nanoseconds by a real system call: good where RDTSC faults.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call.
    unsafe {
        libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &mut time);
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
