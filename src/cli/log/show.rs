//! The records of a log as lines, with what a replay adds to them.

use std::io::{BufWriter, IsTerminal, Stdout, Write};

use dejavm::replay::text::{CallLine, Decoded, format_exit, format_record, format_what, json_record};
use dejavm::replay::{Record, Recording, Records};
use dejavm::sandbox::program::process::PROGRAM_PID;
use dejavm::sandbox::program::syscall::number;
use dejavm::{Exit, ExitKind, GuestMemory, MadeCall, WorldError};

use super::filter::Filter;
use super::summary::Summary;
use crate::cli::decoding::{Viewer, Watched};
use crate::cli::failure::json_line;
use crate::cli::{Failure, Result};

/// How records are shown.
#[derive(Clone, Debug)]
pub struct Style {
    /// One JSON object a line.
    pub json: bool,
    /// As the log has them, without what a replay adds.
    pub raw: bool,
    /// Page faults too.
    pub faults: bool,
    /// Answers of the outside too.
    pub answers: bool,
    /// The virtual time since the exit before, behind each exit.
    pub times: bool,
    /// Bytes of a string that are shown.
    pub strings: usize,
    /// Colours, for a terminal.
    pub colour: bool,
}

/// Whether standard output is a terminal on which colours are wanted (no-color.org).
pub fn wants_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::io::stdout().is_terminal()
}

/// Writes the records of a log, in order, as far as the filter lets them through.
pub struct Printer {
    records: Records,
    filter: Filter,
    style: Style,
    out: BufWriter<Stdout>,
    summary: Option<Summary>,
    /// The clock of the exit before.
    clock: Option<u64>,
    /// More than one task has been seen.
    several: bool,
    /// The last exit that was shown or passed over.
    last: u64,
    /// Calls that were not answered when a replay was over.
    unanswered: Vec<(MadeCall, String)>,
    failure: Option<Failure>,
}

/// The log has nothing more that is shown.
struct Over;

impl Printer {
    pub fn new(recording: &Recording, filter: Filter, style: Style, summarizes: bool) -> Printer {
        // The exit before the first one says when that began.
        let first = filter.from.saturating_sub(1);
        Printer {
            records: recording.records_from(first),
            filter,
            style,
            out: BufWriter::new(std::io::stdout()),
            summary: summarizes.then(Summary::default),
            clock: None,
            several: false,
            last: 0,
            unanswered: Vec::new(),
            failure: None,
        }
    }

    /// The number of the last exit that was shown or passed over; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Writes the rest of the log, undecoded, and the calls that were not answered by its end.
    ///
    /// # Errors
    /// What was wrong with the log or the output, now or before.
    pub fn finish(&mut self) -> Result<()> {
        // A replay that fell short of the log knows nothing of its end.
        let decoded_to = self.last;
        while self.failure.is_none() && self.advance(None).is_ok() {}
        if let Some(failure) = self.failure.take() {
            // What comes before the damage is worth seeing.
            self.out.flush()?;
            return Err(failure);
        }
        if let Some(summary) = &self.summary {
            summary.write(&mut self.out)?;
        } else if self.last == decoded_to && self.filter.to.is_none() && !self.style.json {
            for (call, text) in &self.unanswered {
                if self.filter.shows_call(call) {
                    let task = if self.several { format!("[pid {}] ", call.task) } else { String::new() };
                    writeln!(self.out, "{:>8}  {task}{text}", "")?;
                }
            }
        }
        Ok(self.out.flush()?)
    }

    /// Writes the records up to an exit, which is decoded, or up to the next one.
    fn advance(&mut self, decoded: Option<(u64, &Decoded)>) -> std::result::Result<(), Over> {
        loop {
            let record = match self.records.next() {
                Some(Ok(record)) => record,
                Some(Err(e)) => {
                    self.failure = Some(e.into());
                    return Err(Over);
                }
                None => return Err(Over),
            };
            let Record::Exit(exit) = &record else {
                self.other(&record);
                if self.failure.is_some() {
                    return Err(Over);
                }
                continue;
            };
            if self.filter.is_past(exit.number) {
                return Err(Over);
            }
            let known = decoded.filter(|(number, _)| *number == exit.number).map(|(_, decoded)| decoded);
            self.exit(&record, exit, known);
            if self.failure.is_some() {
                return Err(Over);
            }
            match decoded {
                Some((number, _)) if exit.number < number => {}
                _ => return Ok(()),
            }
        }
    }

    fn exit(&mut self, record: &Record, exit: &Exit, decoded: Option<&Decoded>) {
        let passed = self.clock.map(|before| exit.clock.saturating_sub(before));
        self.clock = Some(exit.clock);
        self.last = exit.number;
        self.several |= exit.task != PROGRAM_PID && exit.task != 0;
        if self.filter.shows(exit) {
            match &mut self.summary {
                Some(summary) => summary.count(exit, passed.unwrap_or(0)),
                None => {
                    let line = match self.style.json {
                        true => json_exit_line(record, exit, decoded),
                        false => self.line(exit, decoded, passed),
                    };
                    self.write(&line);
                }
            }
        }
        // The child is another task from now on.
        self.several |= begins_task(exit);
    }

    fn line(&self, exit: &Exit, decoded: Option<&Decoded>, passed: Option<u64>) -> String {
        let mut line = match self.style.raw {
            true => format_exit(exit),
            false => {
                let task = if self.several { format!("[pid {}] ", exit.task) } else { String::new() };
                let none = Decoded::default();
                let what = match CallLine::of(exit, decoded.unwrap_or(&none)) {
                    Some(call) if self.style.colour => coloured(&call),
                    Some(call) => call.to_string(),
                    None if self.style.colour => format!("{DIM}{}{PLAIN}", format_what(exit)),
                    None => format_what(exit),
                };
                format!("{:>8}  {task}{what}", exit.number)
            }
        };
        if let Some(ns) = passed.filter(|_| self.style.times) {
            line.push_str(&format!(" <{}.{:06}>", ns / 1_000_000_000, ns / 1000 % 1_000_000));
        }
        line
    }

    /// A record that is not an exit.
    fn other(&mut self, record: &Record) {
        let wanted = match record {
            Record::Exit(_) => return,
            Record::Fault(_) => self.style.faults,
            Record::World(_) | Record::Keyed(_) => self.style.answers,
        };
        // What led to the first exit is not asked for.
        let from = self.filter.from;
        if !wanted || self.summary.is_some() || self.last.saturating_add(1) < from {
            return;
        }
        let line = match self.style.json {
            true => json_line(&json_record(record)),
            false if self.style.colour => format!("{DIM}{}{PLAIN}", format_record(record)),
            false => format_record(record),
        };
        self.write(&line);
    }

    fn write(&mut self, line: &str) {
        if let Err(e) = writeln!(self.out, "{line}") {
            self.failure.get_or_insert(e.into());
        }
    }
}

impl Viewer for Printer {
    fn strings(&self) -> usize {
        self.style.strings
    }

    fn exit(&mut self, exit: &Exit, decoded: &Decoded, _memory: &dyn GuestMemory) -> Watched {
        if exit.number + 1 < self.filter.from {
            return Ok(());
        }
        match self.advance(Some((exit.number, decoded))) {
            Ok(()) if !self.filter.is_past(exit.number.saturating_add(1)) => Ok(()),
            _ => Err(WorldError::Interrupted),
        }
    }

    fn over(&mut self, unanswered: Vec<(MadeCall, String)>) {
        self.unanswered = unanswered;
    }
}

/// Whether an exit made a task.
fn begins_task(exit: &Exit) -> bool {
    let makes = |call| matches!(call, number::CLONE | number::CLONE3 | number::FORK | number::VFORK);
    matches!(exit.kind, ExitKind::Syscall { number, .. } if makes(number)) && exit.result as i64 > 0
}

fn json_exit_line(record: &Record, exit: &Exit, decoded: Option<&Decoded>) -> String {
    let mut object = json_record(record);
    if let Some(line) = decoded.and_then(|decoded| CallLine::of(exit, decoded)) {
        object["decoded"] = line.to_string().into();
    }
    json_line(&object)
}

const NAME: &str = "\x1b[1;36m";
const ERROR: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// A call with its name set off, and its error.
fn coloured(call: &CallLine) -> String {
    let CallLine { name, arguments, result, failed } = call;
    let (begin, end) = if *failed { (ERROR, PLAIN) } else { ("", "") };
    let arguments = arguments.join(", ");
    format!("{NAME}{name}{PLAIN}({arguments}) = {begin}{result}{end}")
}
