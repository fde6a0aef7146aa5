//! How long it takes from opening a snapshot to the guest's first instruction and to its first
//! output, for images of different sizes, of a program and of a bare-metal guest; a Python that has
//! done its imports against its native start; and whole commands, as people time them.
//!
//! `cargo bench --bench restore -- [--quick]`

mod support {
    pub mod bare_metal;
    pub mod commands;
    pub mod report;
    pub mod resident;

    /// Errors here are for whoever runs the benchmark.
    pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
}

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use dejavm::snapshot::DictionaryMode;
use dejavm::{Grant, Host, Image, Outcome, PauseAt, Program, Sink, View, WriteOptions};
use serde_json::{Value, json};
use support::report::{Goal, median, print_goals, print_table, save};
use support::resident::Resident;
use support::{Result, bare_metal, commands};

const SIZES_MIB: [u64; 3] = [64, 256, 1024];
const DEADLINE: Duration = Duration::from_secs(300);
const PYTHON: &str = "/usr/bin/python3";
const SERVICE: &str = "import json, re, decimal, hashlib, sqlite3, sys\n\
    for line in sys.stdin:\n    print(json.dumps(hashlib.sha256(line.encode()).hexdigest()), flush=True)\n";

/// Notes when the first byte comes.
struct FirstByte(Sender<Instant>);

impl Write for FirstByte {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        // Only the first note is waited for.
        let _ = self.0.send(Instant::now());
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn expect_pause(outcome: Outcome) -> Result<()> {
    if outcome == Outcome::Paused {
        Ok(())
    } else {
        Err(format!("the guest did not read: {outcome:?}").into())
    }
}

/// A snapshot of `fill.c` with an image of so many MiB.
fn image_of(host: &Host, dir: &Path, mib: u64) -> Result<PathBuf> {
    let program = dir.join("fill");
    if !program.exists() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/support/fill.c");
        let status = Command::new("gcc").args(["-O2", "-static", "-o"]).args([&program, &source]).status()?;
        if !status.success() {
            return Err("gcc could not build the guest".into());
        }
    }
    let mut sandbox = Program::new("/bench/fill")
        .arg(mib.to_string())
        .view(View::system().show("/bench", Grant::directory(dir)))
        .memory((mib + 64) << 20)
        .stdin("")
        .capture_output()
        .deadline(DEADLINE)
        .start(host)?;
    expect_pause(sandbox.run_until(PauseAt::FirstRead)?)?;
    let path = dir.join(format!("{mib}.dvm"));
    let options = WriteOptions { level: 1, dictionary: DictionaryMode::Never, ..WriteOptions::default() };
    sandbox.snapshot(&path, &options)?;
    Ok(path)
}

/// From opening to the first instruction: the system call that the guest was stopped at.
fn first_instruction(host: &Host, path: &Path, eager: bool) -> Result<f64> {
    let start = Instant::now();
    let restore = Image::open(path)?.restore().memory(u64::MAX).eager(eager).deadline(DEADLINE);
    let mut sandbox = restore.start(host)?;
    expect_pause(sandbox.run_until(PauseAt::FirstRead)?)?;
    Ok(ms(start.elapsed()))
}

/// From opening to the first byte of output, and the faults until the end.
fn first_output(host: &Host, path: &Path, prefetch: bool) -> Result<(f64, u64)> {
    let (sender, receiver) = channel();
    let start = Instant::now();
    let report = Image::open(path)?
        .restore()
        .memory(u64::MAX)
        .stdin("hello\n")
        .prefetch(prefetch)
        .stdout(Sink::writer(FirstByte(sender)))
        .deadline(DEADLINE)
        .start(host)?
        .run()?;
    let at = receiver.recv().map_err(|_| "the guest said nothing")?;
    Ok((ms(at - start), report.stats.faults()))
}

fn resident(host: &Host, memory: &Resident) -> Result<f64> {
    let start = Instant::now();
    memory.boot(host.profile())?;
    Ok(ms(start.elapsed()))
}

/// From its native start to Python's answer.
fn native_answer(script: &Path) -> Result<f64> {
    let start = Instant::now();
    let mut child = Command::new(PYTHON).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(b"hello\n")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
    let time = ms(start.elapsed());
    child.wait()?;
    Ok(time)
}

fn python(host: &Host, dir: &Path, rounds: usize) -> Result<(Value, Vec<Goal>)> {
    let script = dir.join("service.py");
    std::fs::write(&script, SERVICE)?;
    let mut sandbox = Program::new(PYTHON)
        .arg("/bench/service.py")
        .view(View::system().show("/bench", Grant::directory(dir)))
        .stdin("")
        .capture_output()
        .deadline(DEADLINE)
        .start(host)?;
    expect_pause(sandbox.run_until(PauseAt::FirstRead)?)?;
    let path = dir.join("python.dvm");
    sandbox.snapshot(&path, &WriteOptions::default())?;
    drop(sandbox);
    let warm = dir.join("python-warm.dvm");
    std::fs::copy(&path, &warm)?;
    Image::open(&warm)?.restore().stdin("hello\n").deadline(DEADLINE).warm(host)?;

    let (mut native, mut lazy, mut warmed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lazy_faults, mut warm_faults) = (0, 0);
    for _ in 0..rounds {
        native.push(native_answer(&script)?);
        let (time, faults) = first_output(host, &path, false)?;
        lazy.push(time);
        lazy_faults = faults;
        let (time, faults) = first_output(host, &warm, true)?;
        warmed.push(time);
        warm_faults = faults;
    }
    let (native, lazy, warmed) = (median(native), median(lazy), median(warmed));
    println!("\npython3 with json, re, decimal, hashlib, sqlite3: ms to its first answer");
    print_table(&[
        vec!["native start".into(), format!("{native:.1}")],
        vec!["restored lazily".into(), format!("{lazy:.1}"), format!("{lazy_faults} faults")],
        vec!["restored, warmed".into(), format!("{warmed:.1}"), format!("{warm_faults} faults and clusters")],
    ]);
    let goal = Goal { what: "native start to warmed restore".into(), figure: native / warmed, least: 4.0 };
    let (commands, mut goals) = commands::measure(&script, &path, &warm, rounds)?;
    goals.insert(0, goal);
    Ok((json!({"native_ms": native, "lazy_ms": lazy, "warmed_ms": warmed, "commands": commands}), goals))
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let rounds = if quick { 5 } else { 21 };
    let host = Host::probe()?;
    let dir = tempfile::tempdir()?;
    let mut images = Vec::new();
    for mib in SIZES_MIB {
        let bare = dir.path().join(format!("bare-{mib}.dvm"));
        bare_metal::snapshot(&host, &bare, mib)?;
        images.push((mib, image_of(&host, dir.path(), mib)?, bare, Resident::new((mib as usize) << 20)?));
    }
    let mut rows = vec![
        ["image", "file", "resident VM", "lazy", "bare metal", "eager", "first output"]
            .map(String::from)
            .to_vec(),
    ];
    let mut results = Vec::new();
    let mut figures = Vec::new();
    for (mib, path, bare_path, memory) in &images {
        let (mut floor, mut lazy, mut bare, mut eager, mut output) = (vec![], vec![], vec![], vec![], vec![]);
        for round in 0..rounds {
            floor.push(resident(&host, memory)?);
            lazy.push(first_instruction(&host, path, false)?);
            bare.push(ms(bare_metal::first_instruction(&host, bare_path)?));
            output.push(first_output(&host, path, false)?.0);
            if round < 3 {
                eager.push(first_instruction(&host, path, true)?);
            }
        }
        let [floor, lazy, bare, eager, output] = [floor, lazy, bare, eager, output].map(median);
        let file_mib = std::fs::metadata(path)?.len() >> 20;
        let cell = |ms: f64| format!("{ms:.2}");
        let mut row = vec![format!("{mib} MiB"), format!("{file_mib} MiB")];
        row.extend([floor, lazy, bare, eager, output].map(cell));
        rows.push(row);
        results.push(json!({
            "image_mib": mib, "file_mib": file_mib, "resident_ms": floor, "lazy_ms": lazy,
            "bare_metal_ms": bare, "eager_ms": eager,
            "first_output_ms": output,
        }));
        figures.push((floor, lazy, bare));
    }
    println!("From opening a snapshot to the first guest instruction, ms (medians of {rounds})");
    print_table(&rows);
    let (python, mut goals) = python(&host, dir.path(), rounds)?;
    let (small, large) = (figures[0], figures[SIZES_MIB.len() - 1]);
    goals.insert(0, Goal { what: "64 MiB to 1 GiB".into(), figure: small.1 / large.1, least: 1.0 / 1.5 });
    goals.insert(1, Goal { what: "resident VM to 1 GiB lazy".into(), figure: large.0 / large.1, least: 0.5 });
    goals.insert(
        2,
        Goal { what: "64 MiB to 1 GiB, bare metal".into(), figure: small.2 / large.2, least: 1.0 / 1.5 },
    );
    print_goals(&goals);
    let goals: Vec<Value> = goals.iter().map(Goal::to_json).collect();
    let path = save("restore", &json!({"images": results, "python": python, "goals": goals}))?;
    println!("\nwritten to {}", path.display());
    Ok(())
}
