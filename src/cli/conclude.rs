//! What is said after a run, and its exit status.

use std::path::Path;

use dejavm::replay::text::syscall_name;
use dejavm::{Outcome, Report, Sandbox};

use super::failure::{say, status};
use super::options::RunOptions;
use super::signals::Signals;
use super::stats;
use super::{Result, Voice};

/// Runs a guest to its end, passes signals on to it, and says what came of it: with how to debug it, if it
/// failed and its run was recorded in that directory. The terminal is as it was before anything is said.
pub fn run(
    sandbox: Sandbox,
    signals: &Signals,
    name: &str,
    options: &RunOptions,
    recording: Option<&Path>,
    voice: Voice,
) -> Result {
    signals.pass_on(&sandbox)?;
    finish(sandbox, Some(signals), name, options, recording, voice)
}

/// As [`run`], of a guest to which signals are passed on already, or are not at all.
pub fn finish(
    mut sandbox: Sandbox,
    signals: Option<&Signals>,
    name: &str,
    options: &RunOptions,
    recording: Option<&Path>,
    voice: Voice,
) -> Result {
    let report = sandbox.run()?;
    drop(sandbox);
    let status = conclude(&report, name, options, voice);
    if let Some(dir) = recording
        && matches!(report.outcome, Outcome::Signalled(_) | Outcome::Stuck | Outcome::Deadline)
        && !voice.quiet
    {
        say(format_args!("to debug it from its end backwards: dejavm debug --end {}", dir.display()));
    }
    Ok(match (report.outcome, signals.and_then(Signals::stopped_by)) {
        (Outcome::Stopped, Some(signal)) => 128 + signal,
        _ => status,
    })
}

/// Says what came of a run of `name`, and gives the exit status.
pub fn conclude(report: &Report, name: &str, options: &RunOptions, voice: Voice) -> u8 {
    if !voice.quiet {
        explain(report, name, options);
    }
    if let Some(format) = options.stats {
        stats::print(report, format);
    }
    if let Some(recording) = report.recording.as_ref().filter(|recording| recording.full)
        && report.outcome != Outcome::LogFull
        && !voice.quiet
    {
        let exits = recording.exits;
        say(format_args!("the recording ends at exit {exits}: its log came to its limit (--max-log)"));
    }
    match report.outcome {
        Outcome::Deadline => status::DEADLINE,
        Outcome::Stuck => status::STUCK,
        // What was recorded was done again, as far as it goes.
        Outcome::LogEnds | Outcome::Stopped => status::LOG_ENDS,
        Outcome::LogFull => status::LOG_FULL,
        Outcome::TripleFault | Outcome::Halted => status::STOPPED_DEAD,
        outcome => outcome.code().unwrap_or(status::FAILED),
    }
}

fn explain(report: &Report, name: &str, options: &RunOptions) {
    for (number, times) in &report.unknown_calls {
        let call = syscall_name(*number).map_or_else(|| format!("system call {number}"), str::to_owned);
        let plural = if *times == 1 { "" } else { "s" };
        say(format_args!("not implemented: {call} ({times} time{plural})"));
    }
    nobody("port", report.unknown_ports.iter().map(|(port, n)| (u64::from(*port), *n)));
    nobody("address", report.unknown_memory.iter().map(|(page, n)| (*page, *n)));
    if !report.not_deterministic.is_empty() {
        let reasons: Vec<String> = report.not_deterministic.iter().map(ToString::to_string).collect();
        say(format_args!(
            "not deterministic: {name} has {}; nothing traps that at CPL 0, so another run may differ where it ran",
            reasons.join("; ")
        ));
    }
    match report.outcome {
        Outcome::Exited(_) | Outcome::Paused | Outcome::Reset => {}
        Outcome::TripleFault => {
            say(format_args!("{name} met an exception that it could not take (a triple fault)"))
        }
        Outcome::Halted => say(format_args!("{name} halted, and nothing can wake it")),
        Outcome::Signalled(_) => {
            if let Some(death) = &report.death {
                say(format_args!("{name} {death}"));
            }
        }
        Outcome::Deadline => match options.deadline {
            Some(time) => say(format_args!("{name} ended by its deadline of {time:?}")),
            None => say(format_args!("{name} ended by its deadline")),
        },
        Outcome::Stuck => match &report.waits_for {
            Some(what) => say(format_args!("{name} waits {what}, which can never come about")),
            None => say(format_args!("{name} waits for something that can never come")),
        },
        Outcome::LogFull => {
            say(format_args!("{name} ended: the log of its recording came to its limit (--max-log)"));
        }
        Outcome::LogEnds => {
            say(format_args!("the recording ends here, at exit {} (interrupted)", report.exits));
        }
        _ => say(format_args!("{name} was stopped")),
    }
    // One that succeeded made do with what it had.
    let limits: Vec<&str> = report.limits.names().filter(|name| matches!(*name, "memory" | "disk")).collect();
    if !limits.is_empty() && report.outcome.code() != Some(0) {
        let options: Vec<String> = limits.iter().map(|name| format!("--{name}")).collect();
        let plural = if limits.len() == 1 { "limit" } else { "limits" };
        say(format_args!("{name} came to its {plural} of {} ({})", limits.join(" and "), options.join(", ")));
    }
    if let Some(place) = &report.spins {
        say(format_args!(
            "{place} made no exit while other tasks could run: only system calls, reads of the clock and PAUSE \
             let them; give --time-slice where it is started, or a loop that waits for one of them sched_yield() or \
             _mm_pause()"
        ));
    }
    if report.spinning {
        say("the program may be spinning until its timer, and virtual time stands still between exits: \
             try --timer-step 100us where it is started");
    }
}

/// Places of a kind that a bare-metal guest used and where nothing is, and how often.
const SHOWN: usize = 8;

/// Says where a bare-metal guest found nothing.
fn nobody(kind: &str, used: impl ExactSizeIterator<Item = (u64, u64)>) {
    let count = used.len();
    let mut places: Vec<String> = used
        .take(SHOWN)
        .map(|(at, n)| match at {
            u64::MAX => format!("others ({n})"),
            at => format!("{at:#x} ({n})"),
        })
        .collect();
    if count > SHOWN {
        places.push(format!("and {} more", count - SHOWN));
    }
    if count > 0 {
        let plural = if count == 1 {
            ""
        } else if kind == "address" {
            "es"
        } else {
            "s"
        };
        say(format_args!("nothing is at {kind}{plural} {}: reads gave ones", places.join(", ")));
    }
}
