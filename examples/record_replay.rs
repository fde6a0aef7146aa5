//! Records a run and replays it, watching both, in this process.
//!
//! `cargo run --example record_replay`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dejavm::{ClockMode, Exit, Host, Observer, Program, Replay, WorldError};

/// Counts exits.
struct Counter(Arc<AtomicU64>);

impl Observer for Counter {
    fn exit(&mut self, _: &Exit) -> Result<(), WorldError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = Host::probe()?;
    let dir = tempfile::tempdir()?;
    let recording = dir.path().join("recording");

    // With the host's clock, no two runs are the same.
    let seen = Arc::new(AtomicU64::new(0));
    let recorded = Program::new("python3")
        .args(["-c", "import sys, time; print(time.time(), sys.stdin.read())"])
        .clock(ClockMode::Host)
        .stdin("some input")
        .observe(Counter(seen.clone()))
        .record(&recording)
        .capture_output()
        .start(&host)?
        .run()?;
    let summary = recorded.recording.ok_or("the recording is sealed")?;
    println!("recorded: {}", String::from_utf8_lossy(&recorded.stdout).trim());
    println!("{} exits in {} KiB, digest {}", summary.exits, summary.log_bytes >> 10, summary.digest);
    assert_eq!(seen.load(Ordering::Relaxed), summary.exits);

    // A replay is the same run: clock, input, output, and every exit.
    let replay = Replay::open(&recording)?;
    for exit in replay.recording().exits().take(3) {
        println!("{}", dejavm::replay::text::format_exit(&exit?));
    }
    let replayed = replay.capture_output().start(&host)?.run()?;
    println!("replayed: {}", String::from_utf8_lossy(&replayed.stdout).trim());
    assert_eq!(replayed.stdout, recorded.stdout);
    assert_eq!(replayed.exits, recorded.exits);
    Ok(())
}
