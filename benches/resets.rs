//! What it costs to put a sandbox back to a moment of its run, by how many pages it has written since.
//!
//! `cargo bench --bench resets -- [--quick]`

mod support {
    // There are no goals here.
    #[allow(dead_code)]
    pub mod report;

    /// Errors here are for whoever runs the benchmark.
    pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
}

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use dejavm::{Host, Input, InputBuffer, Outcome, PauseAt, Program};
use serde_json::{Value, json};
use support::Result;
use support::report::{median, print_table, save};

/// Pages that are written between two resets, besides those that any program writes.
const PAGES: [u32; 6] = [0, 4, 16, 64, 256, 1024];
/// MiB of memory that the guest has written before.
const MEMORY: [u64; 2] = [64, 1024];

/// Microseconds, medians.
struct Cost {
    reset: f64,
    /// Of the run in between.
    run: f64,
    /// Pages that are copied back.
    hot: usize,
}

fn measure(host: &Host, program: &Path, memory: u64, pages: u32, rounds: usize) -> Result<Cost> {
    let input = InputBuffer::new();
    let directory = program.parent().ok_or("a program in no directory")?;
    let mut sandbox = Program::new("/guest/dirtied")
        .arg(memory.to_string())
        .show("/guest", directory)
        .memory((memory + 64) << 20)
        .stdin_from(Input::Buffer(input.clone()))
        .start(host)?;
    if sandbox.run_until(PauseAt::FirstRead)? != Outcome::Paused {
        return Err("the guest does not read".into());
    }
    let mut point = sandbox.reset_point()?;
    let (mut resets, mut runs) = (Vec::new(), Vec::new());
    for round in 0..rounds + rounds / 10 + 3 {
        input.set(&pages.to_ne_bytes());
        let start = Instant::now();
        // The read, and the call behind the writes.
        sandbox.run_until(PauseAt::Exit(point.exits() + 2))?;
        let ran = Instant::now();
        sandbox.reset_to(&mut point)?;
        let reset = Instant::now();
        if round >= rounds / 10 + 3 {
            runs.push((ran - start).as_secs_f64() * 1e6);
            resets.push((reset - ran).as_secs_f64() * 1e6);
        }
    }
    Ok(Cost { reset: median(resets), run: median(runs), hot: point.hot_pages() })
}

fn build(directory: &Path) -> Result<std::path::PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/support/dirtied.c");
    let program = directory.join("dirtied");
    let built = Command::new("gcc").args(["-O1", "-w", "-o"]).args([&program, &source]).status()?;
    if built.success() { Ok(program) } else { Err("gcc could not build the program".into()) }
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|word| word == "--quick");
    let rounds = if quick { 500 } else { 5000 };
    let host = Host::probe()?;
    let directory = tempfile::tempdir()?;
    let program = build(directory.path())?;
    println!("Putting a sandbox back, medians of {rounds} each, in microseconds:");
    let mut rows =
        vec![["memory", "pages written", "copied back", "reset", "run"].map(String::from).to_vec()];
    let mut results: Vec<Value> = Vec::new();
    for memory in MEMORY {
        for pages in PAGES {
            let cost = measure(&host, &program, memory, pages, rounds)?;
            rows.push(vec![
                format!("{memory} MiB"),
                pages.to_string(),
                cost.hot.to_string(),
                format!("{:.1}", cost.reset),
                format!("{:.1}", cost.run),
            ]);
            results.push(json!({
                "memory_mib": memory, "pages": pages, "copied": cost.hot,
                "reset_us": cost.reset, "run_us": cost.run,
            }));
        }
    }
    print_table(&rows);
    println!("\n{}", save("resets", &json!(results))?.display());
    Ok(())
}
