//! In a process with signal handlers that read the clock. Where RDTSC is made to fault in the guest
//! together with the thread that runs it, a handler that ran meanwhile would end the process.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dejavm::{Host, Image, Outcome, PauseAt, Program, WriteOptions};

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn read_clocks(_: libc::c_int) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: RDTSC reads a register of the CPU, and `time` is valid for the call: both may be done in a
    // signal handler.
    unsafe {
        std::hint::black_box(core::arch::x86_64::_rdtsc());
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
    }
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// A timer whose signal comes to the thread that made it.
struct Timer(libc::timer_t);

impl Timer {
    /// Handles a signal, and sends it to this thread so often.
    fn start(signal: libc::c_int, every: Duration) -> Timer {
        let time = libc::timespec { tv_sec: 0, tv_nsec: every.subsec_nanos().into() };
        let timing = libc::itimerspec { it_interval: time, it_value: time };
        // SAFETY: all-zero values are valid; the handler does what may be done in one.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = read_clocks as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer: libc::timer_t = std::ptr::null_mut();
            assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer), 0);
            assert_eq!(libc::timer_settime(timer, 0, &timing, std::ptr::null_mut()), 0);
            Timer(timer)
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer was made by `start`.
        unsafe {
            libc::timer_delete(self.0);
        }
    }
}

/// Faults, system calls, waits for output, and stretches without any exit.
const CODE: &str = "import sys, hashlib, time
print(hashlib.sha256(sys.stdin.read().encode()).hexdigest(), flush=True)
import decimal
for _ in range(300): time.time(); open('/dev/null').close()
n = 0
for i in range(3000000): n += i
print(n, decimal.Decimal(1) / 7)";

fn run_all(host: &Host) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let mut sandbox =
        Program::new("/usr/bin/python3").args(["-c", CODE]).stdin("").start(host).expect("a start");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    sandbox.snapshot(&path, &WriteOptions::default()).expect("a snapshot");
    drop(sandbox);
    let image = Image::open(&path).expect("an image");
    let restore = || image.restore().stdin("x").capture_output();
    let expected = restore().start(host).and_then(|mut s| s.run()).expect("a run").stdout;
    assert!(expected.ends_with(b"4499998500000 0.1428571428571428571428571429\n"));
    let recording = dir.path().join("r");
    let recorded = restore().record(&recording).start(host).and_then(|mut s| s.run()).expect("a run");
    assert_eq!(recorded.stdout, expected);
}

#[test]
fn that_read_the_clock_a_thousand_times_a_second() {
    let _timers = [(libc::SIGALRM, 1000), (libc::SIGPROF, 1700)]
        .map(|(signal, microseconds)| Timer::start(signal, Duration::from_micros(microseconds)));
    let host = Host::probe().expect("a host with /dev/kvm");
    run_all(&host);
    run_all(&host.clone().with_clock_free_allocator());

    // In a loop that makes no exit they end the run now and then, and are handled then, not at its end.
    let before = HANDLED.load(Ordering::Relaxed);
    let start = Instant::now();
    let mut sandbox = Program::new("/usr/bin/perl")
        .args(["-e", "1 while 1"])
        .deadline(Duration::from_millis(500))
        .start(&host.with_clock_free_allocator())
        .expect("a start");
    assert_eq!(sandbox.run().expect("a run").outcome, Outcome::Deadline);
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert!(HANDLED.load(Ordering::Relaxed) > before + 20, "signals are handled while the guest runs");
}
