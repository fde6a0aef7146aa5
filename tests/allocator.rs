//! In a process whose allocator reads the CPU's time stamp, as some do. Where RDTSC is made to fault
//! in the guest together with the thread that runs it, a single allocation in between would end the
//! process.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

use dejavm::{Evict, Host, Image, Outcome, PauseAt, Program, Replay, Rung, WriteOptions};

struct Timed;

fn read_time_stamp() {
    // SAFETY: RDTSC reads a register of the CPU, which every x86-64 CPU has.
    std::hint::black_box(unsafe { core::arch::x86_64::_rdtsc() });
}

// SAFETY: the system's allocator does all of it; what is done besides allocates nothing.
unsafe impl GlobalAlloc for Timed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        read_time_stamp();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        read_time_stamp();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        read_time_stamp();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Timed = Timed;

const CODE: &str = "import sys, json, hashlib
print(hashlib.sha256(sys.stdin.read().encode()).hexdigest(), flush=True)
import decimal
print(decimal.Decimal(1) / 7)";

#[test]
fn runs_restores_recordings_and_replays() {
    let host = Host::probe().expect("a host with /dev/kvm");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s.dvm");
    let mut sandbox =
        Program::new("/usr/bin/python3").args(["-c", CODE]).stdin("").start(&host).expect("a start");
    assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
    sandbox.snapshot(&path, &WriteOptions::default()).expect("a snapshot");
    drop(sandbox);

    let restore = |image: &Image| image.restore().stdin("x").capture_output();
    let image = Image::open(&path).expect("an image");
    let run =
        |restore: dejavm::Restore| restore.start(&host).and_then(|mut s| s.run()).expect("a run").stdout;
    let expected = run(restore(&image));
    assert!(expected.ends_with(b"0.1428571428571428571428571429\n"));
    assert_eq!(run(restore(&image).prefetch(false)), expected);
    assert_eq!(run(restore(&image).rung(Rung::Decode)), expected);
    assert_eq!(run(restore(&image).evict(Evict { every: 2, seed: 1 })), expected);
    restore(&image).warm(&host).expect("a run");
    let image = Image::open(&path).expect("an image");
    assert_eq!(run(restore(&image)), expected);
    let recording = dir.path().join("r");
    assert_eq!(run(restore(&image).record(&recording)), expected);
    let replay = Replay::open(&recording).expect("a recording").capture_output();
    assert_eq!(replay.start(&host).and_then(|mut s| s.run()).expect("a replay").stdout, expected);
}
