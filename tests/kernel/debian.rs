//! Debian's cloud kernel: it boots, at least to the fortieth line of its log, however its memory comes
//! to it. Without `DEJAVM_TEST_FULL=1`, to the twentieth, and one way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dejavm::{Error, Evict, Host, Image, Kernel, Outcome, PauseAt, Restore, Rung, Sandbox, WriteOptions};

use crate::common::{for_each, full, require_kvm};

/// Texts in lines of its log.
const FIRST: &str = "Linux version ";
const TWENTIETH: &str = "NODE_DATA(0) allocated [mem ";
const FORTIETH: &str = "Policy zone: DMA32\r\n";

/// Little memory takes less time to be prepared; the clock is a function of nothing, and loops are
/// calibrated by nothing.
const MEMORY: u64 = 64 << 20;
const CMDLINE: &str = "earlyprintk=serial,ttyS0,keep nokaslr lpj=1000000";

/// Ends a run that hangs: many times of what one takes on an idle host that emulates CPL 0.
const LIMIT: Duration = Duration::from_secs(600);

fn image() -> PathBuf {
    require_kvm();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-kernel/vmlinuz");
    assert!(path.exists(), "there is no {}; scripts/install-test-programs puts it there", path.display());
    path
}

fn kernel() -> Kernel {
    Kernel::new(image()).unpack(true).memory(MEMORY).cmdline(CMDLINE).deadline(LIMIT).capture_output()
}

/// Runs to a text on the serial port; gives what was sent.
fn run_to(guest: &mut Sandbox, text: &str) -> String {
    let outcome = guest.run_until(PauseAt::Serial(text.into())).unwrap_or_else(|e| panic!("{e}"));
    let report = guest.report(outcome);
    let log = String::from_utf8_lossy(&report.stdout).into_owned();
    assert_eq!(outcome, Outcome::Paused, "{text:?} did not come: {log}");
    log
}

/// A way in which a restored guest's memory comes in.
type Way = (&'static str, fn(Restore) -> Restore);

/// The first is tried each time; the others, and the whole from its image, with all tests.
const WAYS: [Way; 6] = [
    ("evict", |restore| restore.evict(Evict { every: 400, seed: 5 })),
    ("lazy", |restore| restore),
    ("resident", |restore| restore.eager(true)),
    ("page by page", |restore| restore.prefetch(false)),
    ("decode", |restore| restore.rung(Rung::Decode)),
    ("populate", |restore| restore.rung(Rung::Populate)),
];

#[test]
fn the_log_is_the_same() {
    let (half, end, lines) = if full() { (TWENTIETH, FORTIETH, 40) } else { (FIRST, TWENTIETH, 20) };
    let dir = tempfile::tempdir().expect("a directory");
    let host = Host::probe().expect("KVM");
    let file = dir.path().join("debian.dvm");

    // All of memory resident, from the first instruction on.
    let mut resident = kernel().eager(true).start(&host).expect("a guest");
    let before = run_to(&mut resident, half);
    resident.snapshot(&file, &WriteOptions::default()).expect("a snapshot");
    let after = run_to(&mut resident, end);
    let whole = format!("{before}{after}");
    assert!(whole.lines().count() >= lines && whole.contains(FIRST), "{whole}");

    let image = Image::open(&file).expect("an image");
    let fresh: Way = ("from its image, with evictions", |restore| restore);
    let ways: Vec<Way> =
        if full() { WAYS.into_iter().chain([fresh]).collect() } else { WAYS.into_iter().take(1).collect() };
    for_each(&ways, |(name, way)| {
        let (seen, expected) = if *name == fresh.0 {
            let evict = Evict { every: 500, seed: 6 };
            let mut guest = kernel().evict(evict).start(&host).map_err(|e| e.to_string())?;
            (run_to(&mut guest, end), &whole)
        } else {
            let restore = way(image.restore()).deadline(LIMIT).capture_output();
            let mut guest = restore.start(&host).map_err(|e| e.to_string())?;
            (run_to(&mut guest, end), &after)
        };
        if seen == *expected { Ok(()) } else { Err(format!("{name}: {seen}\nbut resident: {expected}")) }
    });
}

/// Where the CPU runs CPL 0, the kernel comes to where it looks for a disk, and starts anew without one. Where
/// KVM emulates CPL 0, it stops at an instruction that the emulator lacks, and the error names it. It takes
/// some time to get there.
#[test]
fn the_end_of_it_is_named() {
    let host = Host::probe().expect("KVM");
    if !host.profile().syscall_stays_user {
        // What it unpacks takes more memory.
        let kernel = kernel().memory(2 * MEMORY).cmdline(format!("{CMDLINE} panic=-1"));
        let report = kernel.start(&host).and_then(|mut guest| guest.run()).expect("it looks for a disk");
        let log = String::from_utf8_lossy(&report.stdout);
        assert_eq!(report.outcome, Outcome::Reset, "{log}");
        assert!(log.contains("Kernel panic - not syncing: VFS: Unable to mount root fs"), "{log}");
        return;
    }
    if !full() {
        println!("its end, behind minutes of emulation, is for DEJAVM_TEST_FULL=1");
        return;
    }
    let error =
        kernel().start(&host).and_then(|mut guest| guest.run()).expect_err("an instruction is lacking");
    assert!(matches!(&error, Error::Run(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("its emulator cannot do `") && text.contains("at RIP 0xffffffff8"), "{text}");
}
