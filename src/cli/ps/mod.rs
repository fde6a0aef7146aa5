//! `dejavm ps`

pub mod tasks;

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use dejavm::replay::text::quote;
use dejavm::replay::{Record, Recording};
use serde_json::json;

use super::Result;
use super::decoding::{DecodeOptions, Look};
use super::failure::{json_line, say};
use tasks::{Status, Task, Tasks};

/// Shows the processes and threads of a recording as a tree, with their commands and how they ended.
///
/// FIRST and LAST are numbers of exits, as `dejavm log` has them; BEGAN and ENDED are seconds of virtual time since
/// the recording's first exit. The recording is replayed for the commands.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm ps rec
  dejavm ps rec --json | jq -r 'select(.status == \"killed by SIGSEGV\").pid'
  dejavm log rec -p 3")]
pub struct Args {
    /// The recording: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    dir: PathBuf,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    decode: DecodeOptions,
}

pub fn main(args: Args) -> Result {
    let recording = Recording::open(&args.dir)?;
    let command: Vec<Vec<u8>> =
        recording.manifest().command.iter().map(|arg| arg.clone().into_bytes()).collect();
    let tasks = Look::new(Tasks::new(command));
    if let Some(why) = tasks.at(&recording, &args.decode, None) {
        say(format_args!("commands are not complete: {why}"));
    }
    tasks.with(|tasks| {
        for record in recording.records_from(tasks.last().saturating_add(1)) {
            if let Record::Exit(exit) = record? {
                tasks.without_memory(&exit);
            }
        }
        let mut out = BufWriter::new(std::io::stdout().lock());
        match args.json {
            true => list(tasks, &mut out)?,
            false => tree(tasks, &mut out)?,
        }
        out.flush()?;
        Ok(0)
    })
}

/// The command as a shell would read it, or nearly so.
pub fn words(command: &[Vec<u8>]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(b);
    let word = |arg: &Vec<u8>| match !arg.is_empty() && arg.iter().all(plain) {
        true => String::from_utf8_lossy(arg).into_owned(),
        false => quote(arg),
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn tree(tasks: &Tasks, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "{:>6} {:>8} {:>8} {:>11} {:>11}  {:<20} COMMAND",
        "PID", "FIRST", "LAST", "BEGAN", "ENDED", "STATUS"
    )?;
    for (depth, task) in tasks.in_order() {
        // A tree that goes deeper is told by its columns.
        const DEEPEST: usize = 32;
        let indent = match depth {
            0 => String::new(),
            depth => format!("{}\\_ ", "    ".repeat(depth.min(DEEPEST) - 1)),
        };
        let what = if task.thread { "{thread}".into() } else { words(&task.command) };
        let [began, ended] = [task.began, task.ended].map(|ns| ns as f64 / 1e9);
        let line = format!(
            "{:>6} {:>8} {:>8} {began:>11.6} {ended:>11.6}  {:<20} {indent}{what}",
            task.number,
            task.first,
            task.last,
            status(task),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn list(tasks: &Tasks, out: &mut dyn Write) -> Result<()> {
    for (_, task) in tasks.in_order() {
        let object = json!({
            "pid": task.number,
            "parent": task.parent.map(|parent| tasks.number(parent)),
            "thread": task.thread,
            "command": task.command.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>(),
            "first": task.first,
            "last": task.last,
            "began": task.began,
            "ended": task.ended,
            "status": status(task),
        });
        writeln!(out, "{}", json_line(&object))?;
    }
    Ok(())
}

/// How a task ended, in words.
pub fn status(task: &Task) -> String {
    match &task.status {
        Some(Status::Exited(code)) => format!("exited {code}"),
        Some(Status::Killed(signal)) => {
            format!("killed by {}", dejavm::replay::text::signal_name(u64::from(*signal)))
        }
        Some(Status::Died(exception)) => format!("died of {exception}"),
        None => "-".into(),
    }
}
