//! What it costs to count which ways a program's control flow takes: the time that a program takes for an input, and to
//! be put back behind it.
//!
//! `cargo bench --bench coverage -- [--quick]`

mod support {
    // There are no goals here.
    #[allow(dead_code)]
    pub mod report;

    /// Errors here are for whoever runs the benchmark.
    pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
}

use std::time::Instant;

use dejavm::{Host, Input, InputBuffer, Modules, Outcome, PauseAt, Program};
use serde_json::{Value, json};
use support::Result;
use support::report::{median, print_table, save};

/// What is counted.
#[derive(Clone, Debug)]
enum Counted {
    Nothing,
    Ways(Modules),
}

/// Programs of Debian's packages, which read standard input.
fn programs() -> [(&'static str, &'static [&'static str], Vec<u8>); 4] {
    let json = format!("[{}]", vec![r#"{"name": "one", "values": [1, 2.5, null, "text\n"]}"#; 40].join(","));
    let text = "some words, and aaab ab b\n".repeat(200);
    let xml = format!("<a>{}</a>", "<b c='1'>text &amp; text</b>".repeat(100));
    [
        ("jq", &["-c", "map(.values | length)"], json.clone().into()),
        ("sed", &["s/\\(a*\\)b/<\\1>/g"], text.into()),
        ("/usr/bin/python3", &["-c", "import json, sys; print(len(json.load(sys.stdin)))"], json.into()),
        ("xmllint", &["--noout", "-"], xml.into()),
    ]
}

/// Microseconds of a run, and of the reset behind it, medians; how many ways were gone.
fn measure(
    host: &Host,
    program: Program,
    input: &[u8],
    counted: &Counted,
    rounds: usize,
) -> Result<(f64, f64, usize)> {
    let buffer = InputBuffer::new();
    let program = program.memory(256 << 20).stdin_from(Input::Buffer(buffer.clone()));
    let mut sandbox = program.start(host)?;
    if sandbox.run_until(PauseAt::FirstRead)? != Outcome::Paused {
        return Err("the program does not read".into());
    }
    if let Counted::Ways(modules) = counted {
        sandbox.cover(modules.clone())?;
    }
    let mut point = sandbox.reset_point()?;
    let (mut runs, mut resets, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds + rounds / 10 + 3 {
        buffer.set(input);
        let start = Instant::now();
        sandbox.run_until(PauseAt::Never)?;
        sandbox.take_counts(&mut counts);
        let ran = Instant::now();
        sandbox.reset_to(&mut point)?;
        if round >= rounds / 10 + 3 {
            runs.push((ran - start).as_secs_f64() * 1e6);
            resets.push(ran.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok((median(runs), median(resets), counts.iter().filter(|count| **count > 0).count()))
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|word| word == "--quick");
    let rounds = if quick { 100 } else { 1000 };
    let host = Host::probe()?;
    println!("A program's run for one input, medians of {rounds} each, in microseconds:");
    let mut rows =
        vec![["program", "counted", "run", "times", "reset", "ways gone"].map(String::from).to_vec()];
    let mut results: Vec<Value> = Vec::new();
    for (name, args, input) in programs() {
        let mut plain = None;
        for counted in [Counted::Nothing, Counted::Ways(Modules::Own), Counted::Ways(Modules::All)] {
            let program = Program::new(name).args(args);
            let (run, reset, ways) = measure(&host, program, &input, &counted, rounds)?;
            let times = run / *plain.get_or_insert(run);
            rows.push(vec![
                name.to_string(),
                format!("{counted:?}"),
                format!("{run:.0}"),
                format!("{times:.2}"),
                format!("{reset:.0}"),
                ways.to_string(),
            ]);
            let counted = format!("{counted:?}");
            results.push(json!({
                "program": name, "counted": counted, "run_us": run, "reset_us": reset, "ways": ways,
            }));
        }
    }
    print_table(&rows);
    println!("\n{}", save("coverage", &json!(results))?.display());
    Ok(())
}
