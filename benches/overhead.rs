//! What a sandbox, its recording and its replay cost over a native run, for whole commands.
//!
//! `cargo bench --bench overhead -- [--quick]`

mod support {
    pub mod report;

    /// Errors here are for whoever runs the benchmark.
    pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
}

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;
use support::Result;
use support::report::{Goal, median, print_goals, print_table, save};

/// Bytes of the input file.
const INPUT: usize = 64 << 20;

struct Job {
    name: &'static str,
    /// How many times its native run a run may take, if that is a goal.
    most: Option<f64>,
    /// Its `--memory`.
    memory: &'static str,
    command: &'static [&'static str],
}

/// CPU-bound jobs are to be within this of their native run.
const CPU_BOUND: Option<f64> = Some(1.05);

const JOBS: [Job; 6] = [
    Job {
        name: "gzip -6",
        most: CPU_BOUND,
        memory: "1G",
        command: &["/usr/bin/gzip", "-6", "-c", "/bench/input"],
    },
    Job {
        name: "sha256sum",
        most: CPU_BOUND,
        memory: "1G",
        command: &["/usr/bin/sha256sum", "/bench/input"],
    },
    Job {
        name: "python3 compute",
        most: CPU_BOUND,
        memory: "1G",
        command: &[
            "/usr/bin/python3",
            "-c",
            "n = 0\nfor i in range(12000000): n = (n * 31 + i) & 0xffffff\nprint(n)",
        ],
    },
    Job {
        name: "system calls",
        most: None,
        memory: "1G",
        command: &["/usr/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=20000", "status=none"],
    },
    Job {
        name: "touching 1 GiB",
        most: Some(1.2),
        memory: "2G",
        command: &["/usr/bin/python3", "-c", "bytearray(1 << 30)"],
    },
    Job { name: "python3 start-up", most: None, memory: "1G", command: &["/usr/bin/python3", "-c", "pass"] },
];

fn time(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok(time)
}

/// Text with the statistics of a log file.
fn write_input(path: &Path) -> Result<()> {
    use std::io::Write;
    let mut file = std::io::BufWriter::new(File::create(path)?);
    let (mut x, mut written) = (88_172_645_463_325_252u64, 0);
    while written < INPUT {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let line = format!("{written:010} request {} from {} took {} us\n", x % 97, x >> 44, x % 10_007);
        file.write_all(line.as_bytes())?;
        written += line.len();
    }
    Ok(file.flush()?)
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let rounds = if quick { 3 } else { 9 };
    let dir = tempfile::tempdir()?;
    write_input(&dir.path().join("input"))?;
    // Native runs see the file under the same name.
    let dejavm = env!("CARGO_BIN_EXE_dejavm");
    let show = format!("{}:/bench", dir.path().display());
    let native_name = dir.path().join("input").display().to_string();
    let mut rows = vec![
        ["ms", "native", "run", "record", "replay", "run/native", "record/run", "replay/record"]
            .map(String::from)
            .to_vec(),
    ];
    let mut results = Vec::new();
    let mut goals = Vec::new();
    for job in &JOBS {
        let mut times: [Vec<f64>; 4] = Default::default();
        for _ in 0..rounds {
            let recording = tempfile::tempdir()?;
            let log = recording.path().join("r");
            let native: Vec<&str> = job
                .command
                .iter()
                .map(|w| if *w == "/bench/input" { native_name.as_str() } else { *w })
                .collect();
            times[0].push(time(Command::new(native[0]).args(&native[1..]))?);
            let options = ["--memory", job.memory, "--ro", &show, "--"];
            times[1].push(time(Command::new(dejavm).args(["run", "-q"]).args(options).args(job.command))?);
            let mut record = Command::new(dejavm);
            record.args(["record", "-q", "-o"]).arg(&log).args(options).args(job.command);
            times[2].push(time(&mut record)?);
            times[3].push(time(Command::new(dejavm).args(["replay", "-q"]).arg(&log))?);
        }
        let [native, run, record, replay] = times.map(median);
        let mut row = vec![job.name.to_string()];
        row.extend([native, run, record, replay].map(|ms| format!("{ms:.1}")));
        row.extend([run / native, record / run, replay / record].map(|r| format!("{r:.2}")));
        rows.push(row);
        results.push(json!({
            "job": job.name, "native_ms": native, "run_ms": run, "record_ms": record, "replay_ms": replay,
        }));
        if let Some(most) = job.most {
            goals.push(Goal {
                what: format!("{}: native to run", job.name),
                figure: native / run,
                least: 1.0 / most,
            });
        }
        goals.push(Goal {
            what: format!("{}: run to record", job.name),
            figure: run / record,
            least: 1.0 / 1.1,
        });
        goals.push(Goal {
            what: format!("{}: record to replay", job.name),
            figure: record / replay,
            least: 1.0,
        });
    }
    println!("Whole commands, medians of {rounds}");
    print_table(&rows);
    print_goals(&goals);
    let goals: Vec<_> = goals.iter().map(Goal::to_json).collect();
    let path = save("overhead", &json!({"jobs": results, "goals": goals}))?;
    println!("\nwritten to {}", path.display());
    Ok(())
}
