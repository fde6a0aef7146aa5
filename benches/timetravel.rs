//! What moving in recordings costs: to a position, a step back, back to a breakpoint, an interrupt; and what
//! checkpoints take.
//!
//! `cargo bench --bench timetravel -- [--quick]`

mod support {
    pub mod report;

    /// Errors here are for whoever runs the benchmark.
    pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
}

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dejavm::replay::{Position, Stops, Timeline, TimelineError};
use dejavm::{Host, Replay};
use serde_json::json;
use support::Result;
use support::report::{Goal, median, print_goals, print_table, save};

/// What is recorded.
const RUNS: [(&str, &[&str]); 10] = [
    ("true", &["true"]),
    ("sh pipeline", &["sh", "-c", "seq 2000 | sort -r | tail -1"]),
    ("python3 start-up", &["python3", "-c", "pass"]),
    (
        "python3 compute",
        &["python3", "-c", "n = 0\nfor i in range(12000000): n = (n * 31 + i) & 0xffffff\nprint(n)"],
    ),
    (
        "python3 threads",
        &[
            "python3",
            "-c",
            "import threading as t\na=[t.Thread(target=sum,args=(range(9**6),)) for _ in 'abcd']\n[x.start() for x in a]\n[x.join() for x in a]",
        ],
    ),
    ("perl", &["perl", "-e", "my %h; $h{$_ % 999} .= $_ for 1..300000; print length join '', values %h"]),
    (
        "sqlite3",
        &[
            "sqlite3",
            ":memory:",
            "with recursive t(x) as (select 1 union all select x+1 from t where x<500000) select sum(x) from t",
        ],
    ),
    ("awk", &["awk", "BEGIN { for (i = 0; i < 3000000; i++) s += i; print s }"]),
    ("gzip", &["sh", "-c", "seq 600000 | gzip -6 | wc -c"]),
    (
        "dd, a system call a byte",
        &["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=20000", "status=none"],
    ),
];

fn record(dir: &Path, words: &[&str]) -> Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dejavm"));
    command.args(["record", "-q", "-o"]).arg(dir).arg("--").args(words);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{words:?} ended with {status}").into()),
    }
}

/// Seconds that something takes.
fn time<T>(act: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let made = act()?;
    Ok((made, start.elapsed().as_secs_f64()))
}

/// Where the timeline goes: exits that are spread over the whole recording, in an order that goes to and fro.
fn exits(timeline: &Timeline, count: u64) -> Vec<u64> {
    let (first, last) = timeline.recording().exit_range().unwrap_or((0, 0));
    let span = (last - first).max(1);
    (1..=count).map(|n| first + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % span).collect()
}

/// Milliseconds, the median, of a move made at each of some exits, once the timeline is there.
fn moves(timeline: &mut Timeline, count: u64, act: fn(&mut Timeline) -> Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    for exit in exits(timeline, count) {
        match timeline.seek(Position::behind(exit)) {
            Ok(()) => {}
            // A process ends there, and no program is left to look at.
            Err(TimelineError::NoSuchPosition { .. }) => continue,
            Err(e) => return Err(e.into()),
        }
        times.push(time(|| act(timeline))?.1 * 1e3);
    }
    Ok(median(times))
}

/// How long a move goes on before it is interrupted.
const PATIENCE: Duration = Duration::from_millis(50);

/// Milliseconds, the most, from an interrupt of a run, forwards and backwards from some exits, until the timeline is
/// somewhere again. NaN where all runs were over before.
fn interrupts(timeline: &mut Timeline, count: u64) -> Result<f64> {
    let mut most = f64::NAN;
    for (n, exit) in exits(timeline, count).into_iter().enumerate() {
        match timeline.seek(Position::behind(exit)) {
            Ok(()) => {}
            Err(TimelineError::NoSuchPosition { .. }) => continue,
            Err(e) => return Err(e.into()),
        }
        let (stop, nowhere) = (timeline.stop_handle(), Stops::default());
        let interrupter = stop.clone();
        let interrupter = thread::spawn(move || {
            thread::sleep(PATIENCE);
            let now = Instant::now();
            interrupter.set_deadline(Some(now));
            now
        });
        let moved = if n % 2 == 0 { timeline.run(&nowhere) } else { timeline.reverse_run(&nowhere) };
        let interrupted = interrupter.join().map_err(|_| "a thread that only waits has failed")?;
        stop.set_deadline(None);
        match moved {
            Err(TimelineError::Interrupted) => {
                timeline.settle()?;
                most = most.max(interrupted.elapsed().as_secs_f64() * 1e3);
            }
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(most)
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (rounds, count) = if quick { (3, 5) } else { (5, 21) };
    let host = Host::probe()?;
    let head = [
        "",
        "exits",
        "replay s",
        "with checkpoints",
        "taken",
        "MiB",
        "seek ms",
        "step back ms",
        "run back ms",
        "interrupt, most",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    let mut results = Vec::new();
    let mut ratios = Vec::new();
    let mut slowest = f64::NAN;
    for (name, words) in RUNS {
        let dir = tempfile::tempdir()?;
        let dir = dir.path().join("rec");
        record(&dir, words)?;
        let (mut plain, mut with) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut sandbox = Replay::open(&dir)?.start(&host)?;
            plain.push(time(|| Ok(sandbox.run()?))?.1);
            let mut timeline = Replay::open(&dir)?.timeline(&host)?;
            with.push(time(|| Ok(timeline.run(&Stops::default())?))?.1);
        }
        let (plain, with) = (median(plain), median(with));
        let mut timeline = Replay::open(&dir)?.timeline(&host)?;
        timeline.run(&Stops::default())?;
        let (checkpoints, bytes) = timeline.checkpoints();
        let mut seeks = Vec::new();
        for exit in exits(&timeline, count) {
            seeks.push(time(|| match timeline.seek(Position::behind(exit)) {
                Ok(()) | Err(TimelineError::NoSuchPosition { .. }) => Ok(()),
                Err(e) => Err(e.into()),
            })?);
        }
        let seek = median(seeks.into_iter().map(|(_, seconds)| seconds * 1e3).collect());
        let back = moves(&mut timeline, count, |timeline| Ok(timeline.reverse_step().map(drop)?))?;
        let run_back = moves(&mut timeline, count, |timeline| {
            let stops = Stops::at([timeline.registers().general.rip]);
            Ok(timeline.reverse_run(&stops).map(drop)?)
        })?;
        let interrupt = interrupts(&mut timeline, count)?;
        slowest = slowest.max(interrupt);
        let exits = timeline.recording().exit_count();
        let mut row =
            vec![name.to_string(), exits.to_string(), format!("{plain:.3}"), format!("{:.2}", with / plain)];
        row.extend([checkpoints.to_string(), format!("{:.1}", bytes as f64 / f64::from(1 << 20))]);
        row.extend([seek, back, run_back].map(|ms| format!("{ms:.2}")));
        row.push(if interrupt.is_nan() { "-".into() } else { format!("{interrupt:.2}") });
        rows.push(row);
        // In less time than that none is taken.
        if plain > 0.2 {
            ratios.push(with / plain);
        }
        results.push(json!({
            "run": name, "exits": exits, "replay_s": plain, "with_checkpoints_s": with, "checkpoints": checkpoints,
            "checkpoint_bytes": bytes, "seek_ms": seek, "reverse_step_ms": back, "reverse_run_ms": run_back,
            "interrupt_ms": interrupt,
        }));
    }
    println!("Moving in recordings, medians of {count} places; replays, medians of {rounds}");
    print_table(&rows);
    let goals = [
        Goal {
            what: "replays of 0.2 s and more: plain to with checkpoints, median".into(),
            figure: 1.0 / median(ratios),
            least: 1.0 / 1.1,
        },
        Goal { what: "half a second to the slowest interrupt".into(), figure: 500.0 / slowest, least: 1.0 },
    ];
    print_goals(&goals);
    let goals: Vec<_> = goals.iter().map(Goal::to_json).collect();
    let path = save("timetravel", &json!({"runs": results, "goals": goals}))?;
    println!("\nwritten to {}", path.display());
    Ok(())
}
