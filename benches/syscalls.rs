//! What system calls cost in a sandbox, beside what they cost natively.
//!
//! `cargo bench --bench syscalls -- [--quick] [ROW...]`
//!
//! A guest's clock tells virtual time, so that its time is taken outside: of a run that does a thing many times,
//! less that of one that does it never. How many exits that takes, and how long the monitor works between
//! leaving the guest and entering it again, the runs themselves say (`--stats`).

mod support {
    // There are no goals here.
    #[allow(dead_code)]
    pub mod report;

    /// Errors here are for whoever runs the benchmark.
    pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
}

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use support::Result;
use support::report::{median, print_table, save};

struct Row {
    /// What the program calls it.
    name: &'static str,
    /// What is done once.
    what: &'static str,
    /// How often, natively and in the sandbox.
    counts: (u64, u64),
}

const fn row(name: &'static str, what: &'static str, native: u64, sandboxed: u64) -> Row {
    Row { name, what, counts: (native, sandboxed) }
}

const ROWS: [Row; 15] = [
    row("getpid", "getpid", 1_000_000, 10_000),
    row("clock", "clock_gettime by the vDSO", 1_000_000, 1_000_000),
    row("pipe-within", "pipe: write and read 1 byte", 200_000, 5000),
    row("pipe-between", "pipe: to another process and back", 20_000, 1500),
    row("read-4k", "read 4 KiB of a file", 200_000, 5000),
    row("read-1m", "read 1 MiB of a file", 3000, 300),
    row("futex", "futex: to another thread and back", 20_000, 2000),
    row("yield", "sched_yield by two threads, each", 200_000, 3000),
    row("thread", "make a thread and join it", 5000, 300),
    row("fork", "fork and wait", 1000, 100),
    row("fork-200m", "fork of 200 MiB and wait", 20, 5),
    row("vfork-exec", "vfork, exec of true and wait", 200, 20),
    row("fork-exec", "fork, exec of true and wait", 200, 20),
    row("mmap-1m", "map, touch and unmap 1 MiB", 2000, 200),
    row("epoll-100", "epoll_wait, 100 watched, 1 ready", 200_000, 5000),
];

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    ns: f64,
    exits: f64,
    monitor_ns: f64,
}

/// Nanoseconds of a native run, as it says itself.
fn native(program: &Path, row: &Row, count: u64) -> Result<f64> {
    let output = Command::new(program).args([row.name, &count.to_string()]).output()?;
    let text = String::from_utf8(output.stdout)?;
    text.trim().parse().map_err(|_| format!("{}: {} {text}", row.name, output.status).into())
}

/// A run in the sandbox.
fn sandboxed(program: &Path, row: &Row, count: u64) -> Result<Taken> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dejavm"));
    let dir = program.parent().ok_or("the program lies in a directory")?;
    command.args(["run", "-q", "--stats=json", "--memory", "1G", "--ro"]).arg(dir).arg("--").arg(program);
    command.args([row.name, &count.to_string()]).stdin(Stdio::null());
    let start = Instant::now();
    let output = command.output()?;
    let ns = start.elapsed().as_nanos() as f64;
    if !output.status.success() {
        return Err(format!("{}: {output:?}", row.name).into());
    }
    let stats: Value = serde_json::from_slice(&output.stderr)?;
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let exits = number(&stats["exits"]["compared"]) + number(&stats["faults"]["total"]);
    Ok(Taken { ns, exits, monitor_ns: number(&stats["time_ns"]["monitor"]) })
}

/// What one time costs natively, in nanoseconds, and in the sandbox: medians.
fn measure(program: &Path, row: &Row, rounds: usize) -> Result<(f64, Taken)> {
    let (many, more) = row.counts;
    let mut natively = Vec::new();
    let mut runs: [Vec<Taken>; 2] = Default::default();
    for _ in 0..rounds {
        natively.push(native(program, row, many)? / many as f64);
        for (runs, count) in runs.iter_mut().zip([0, more]) {
            runs.push(sandboxed(program, row, count)?);
        }
    }
    let each = |of: fn(&Taken) -> f64| {
        let [none, all] = [&runs[0], &runs[1]].map(|runs| median(runs.iter().map(of).collect()));
        (all - none) / more as f64
    };
    let taken = Taken {
        ns: each(|taken| taken.ns),
        exits: each(|taken| taken.exits),
        monitor_ns: each(|taken| taken.monitor_ns),
    };
    Ok((median(natively), taken))
}

fn build(dir: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/support/syscalls.c");
    let program = dir.join("syscalls");
    let built =
        Command::new("gcc").args(["-O2", "-w", "-pthread", "-o"]).args([&program, &source]).status()?;
    if built.success() { Ok(program) } else { Err("gcc could not build the program".into()) }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let quick = arguments.iter().any(|word| word == "--quick");
    let wanted: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let rounds = if quick { 1 } else { 5 };
    let dir = tempfile::tempdir()?;
    let program = build(dir.path())?;
    let mut rows = vec![
        ["ns each", "native", "sandbox", "sandbox/native", "exits", "beyond the exits"]
            .map(String::from)
            .to_vec(),
    ];
    let mut results = Vec::new();
    for row in ROWS.iter().filter(|row| wanted.is_empty() || wanted.iter().any(|name| *name == row.name)) {
        let (native, taken) = measure(&program, row, rounds)?;
        let mut cells = vec![row.what.to_string()];
        cells.extend([
            format!("{native:.0}"),
            format!("{:.0}", taken.ns),
            format!("{:.1}", taken.ns / native),
        ]);
        cells.extend([format!("{:.1}", taken.exits), format!("{:.0}", taken.monitor_ns)]);
        rows.push(cells);
        results.push(json!({
            "row": row.name, "native_ns": native, "sandbox_ns": taken.ns, "exits": taken.exits,
            "beyond_ns": taken.monitor_ns,
        }));
    }
    println!("System calls, medians of {rounds}; beyond the exits is the monitor's own time");
    print_table(&rows);
    let path = save("syscalls", &json!({"rows": results}))?;
    println!("\nwritten to {}", path.display());
    Ok(())
}
