//! Whole commands, as people start and time them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::Result;
use super::report::{Goal, median, print_table};

const DEJAVM: &str = env!("CARGO_BIN_EXE_dejavm");
const PYTHON: &str = "/usr/bin/python3";
/// The longest that `run -- /bin/true` should take, milliseconds.
const RUN_TRUE: f64 = 5.0;
/// The most that confinement should add, milliseconds.
const CONFINEMENT: f64 = 0.3;
/// Pairs of runs, confined and not, that tell it: single ones differ by more than it is.
const PAIRS: usize = 200;

/// A command that is given one line, and when it answered and ended, milliseconds.
struct Timed {
    name: &'static str,
    command: Vec<String>,
    /// Whether it answers.
    answers: bool,
    answer: Vec<f64>,
    whole: Vec<f64>,
}

impl Timed {
    fn new(name: &'static str, answers: bool, command: &[&str]) -> Timed {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Timed { name, command, answers, answer: Vec::new(), whole: Vec::new() }
    }

    fn run(&mut self) -> Result<()> {
        let start = Instant::now();
        let mut child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().ok_or("no pipe")?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        if self.answers {
            stdin.write_all(b"hello\n")?;
            let mut line = String::new();
            stdout.read_line(&mut line)?;
            self.answer.push(start.elapsed().as_secs_f64() * 1e3);
            if line.is_empty() {
                return Err(format!("{} said nothing", self.name).into());
            }
        }
        drop(stdin);
        let status = child.wait()?;
        self.whole.push(start.elapsed().as_secs_f64() * 1e3);
        if status.success() { Ok(()) } else { Err(format!("{}: {status}", self.name).into()) }
    }
}

/// What confinement adds to a start, milliseconds: the median of pairs of runs, one of them first in turn.
fn confinement() -> Result<f64> {
    let mut pair = [
        Timed::new("confined", false, &[DEJAVM, "run", "--", "/bin/true"]),
        Timed::new("not confined", false, &[DEJAVM, "run", "--no-confine", "--", "/bin/true"]),
    ];
    for round in 0..PAIRS {
        pair[round % 2].run()?;
        pair[1 - round % 2].run()?;
    }
    let [confined, open] = pair.map(|timed| timed.whole);
    Ok(median(confined.iter().zip(open).map(|(confined, open)| confined - open).collect()))
}

/// Times commands in turns: a start of nothing, a start of Python, and the service of `script`,
/// natively and from its snapshots. `plain` and `warm` are snapshots of it before its first read.
pub fn measure(script: &Path, plain: &Path, warm: &Path, rounds: usize) -> Result<(Value, Vec<Goal>)> {
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("a path that is no text");
    let (plain, warm) = (text(plain)?, text(warm)?);
    let show = format!("{}:/bench", text(script.parent().ok_or("no directory")?)?);
    let script = text(script)?;
    let restore = |file| [DEJAVM, "restore", "-q", "--ro", &show, file];
    let mut all = [
        Timed::new("true, native", false, &["/bin/true"]),
        Timed::new("dejavm --version", false, &[DEJAVM, "--version"]),
        Timed::new("run true", false, &[DEJAVM, "run", "--", "/bin/true"]),
        Timed::new("python3 -c pass, native", false, &[PYTHON, "-c", "pass"]),
        Timed::new("run python3 -c pass", false, &[DEJAVM, "run", "--", PYTHON, "-c", "pass"]),
        Timed::new("service, native", true, &[PYTHON, &script]),
        Timed::new("restore service", true, &restore(&plain)),
        Timed::new("restore warmed service", true, &restore(&warm)),
    ];
    for _ in 0..rounds.max(15) {
        all.iter_mut().try_for_each(Timed::run)?;
    }
    let figures: Vec<(&str, f64, f64)> = all
        .into_iter()
        .map(|timed| {
            let answer = if timed.answers { median(timed.answer) } else { f64::NAN };
            (timed.name, answer, median(timed.whole))
        })
        .collect();
    println!("\nWhole commands, ms");
    let mut rows = vec![["", "answer", "end"].map(String::from).to_vec()];
    rows.extend(figures.iter().map(|(name, answer, whole)| {
        let answer = if answer.is_nan() { String::new() } else { format!("{answer:.1}") };
        vec![(*name).to_owned(), answer, format!("{whole:.1}")]
    }));
    let added = confinement()?;
    rows.push(vec!["what confinement adds".into(), String::new(), format!("{added:.2}")]);
    print_table(&rows);
    let of = |name: &str| figures.iter().find(|(known, ..)| *known == name).ok_or("no such figure");
    let (native, service) = (of("service, native")?, of("restore warmed service")?);
    let run = of("run true")?.2;
    let start = of("python3 -c pass, native")?.2 / of("run python3 -c pass")?.2;
    // Where nothing can be measured any more, the goal is met.
    let confinement = CONFINEMENT / added.max(CONFINEMENT / 10.0);
    let goal = |what: &str, figure, least| Goal { what: what.into(), figure, least };
    let goals = vec![
        goal("5 ms to `run -- /bin/true`", RUN_TRUE / run, 1.0),
        goal("0.3 ms to what confinement adds", confinement, 1.0),
        goal("native start of python3 to `run`", start, 1.0 / 3.5),
        goal("native answer to that of the warmed command", native.1 / service.1, 1.0 / 0.3),
        goal("native end to that of the warmed command", native.2 / service.2, 1.0 / 0.9),
    ];
    let mut json: Vec<Value> = figures
        .iter()
        .map(|(name, answer, whole)| json!({"command": name, "answer_ms": answer, "end_ms": whole}))
        .collect();
    json.push(json!({"command": "what confinement adds", "end_ms": added}));
    Ok((Value::Array(json), goals))
}
