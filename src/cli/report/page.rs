//! The page: one part after another.

use std::fmt::{self, Write};

use dejavm::Death;
use dejavm::replay::text::signal_name;
use dejavm::replay::{Ending, Recording, RunEnd};
use dejavm::sandbox::machine::End;

use super::crash::Crash;
use super::html::{Text, seconds};
use super::kept::Kept;
use super::lanes;
use super::seen::Seen;
use crate::cli::place::Place;
use crate::cli::ps::tasks::Task;
use crate::cli::ps::{status, words};

/// Tasks of the tree, and system calls, that are shown.
const ROWS: usize = 500;

/// Columns of registers.
const COLUMNS: usize = 4;

/// All that is shown.
pub struct Page<'a> {
    pub recording: &'a Recording,
    pub seen: &'a Seen,
    pub stdout: &'a Kept,
    pub stderr: &'a Kept,
    pub crash: Option<&'a Crash>,
    pub death: Option<&'a Death>,
    /// What is missing, and why.
    pub notes: &'a [String],
}

impl Page<'_> {
    /// The page as a whole.
    pub fn write(&self, out: &mut dyn Write) -> fmt::Result {
        let command = self.command();
        let title = Text(&command);
        writeln!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width\"/>\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
             <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<h1><code>{title}</code></h1>",
            include_str!("style.css")
        )?;
        self.summary(out)?;
        for note in self.notes {
            writeln!(out, "<p class=\"note\">{}</p>", Text(note))?;
        }
        self.crash(out)?;
        self.timeline(out)?;
        self.tree(out)?;
        self.calls(out)?;
        stream(out, "stdout", "Standard output", self.stdout)?;
        stream(out, "stderr", "Standard error", self.stderr)?;
        writeln!(out, "</body>\n</html>")
    }

    fn command(&self) -> String {
        let command = &self.recording.manifest().command;
        words(&command.iter().map(|word| word.clone().into_bytes()).collect::<Vec<_>>())
    }

    fn summary(&self, out: &mut dyn Write) -> fmt::Result {
        let manifest = self.recording.manifest();
        let (result, bad) = result(self.recording.ending());
        let class = if bad { "bad" } else { "good" };
        writeln!(out, "<table id=\"summary\">")?;
        writeln!(out, "<tr><th>Result</th><td class=\"{class}\">{}</td></tr>", Text(&result))?;
        let rows = [
            ("Recorded by", format!("{}, recording format {}", manifest.created_by, manifest.format)),
            ("Processor that it saw", manifest.cpu.clone()),
            ("Clock", format!("{}, from {} ns since 1970", manifest.clock, manifest.start)),
            ("Seed", manifest.seed.to_string()),
            ("Exits", self.recording.exit_count().to_string()),
            ("Virtual time", format!("{} s", seconds(self.seen.lanes.length()))),
        ];
        for (name, value) in rows {
            writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", Text(&value))?;
        }
        writeln!(out, "</table>")
    }

    fn crash(&self, out: &mut dyn Write) -> fmt::Result {
        let Some(crash) = self.crash else { return Ok(()) };
        let name = signal_name(crash.signal.into());
        writeln!(
            out,
            "<h2>Crash</h2>\n<p id=\"signal\" class=\"bad\">{}</p>",
            match self.death {
                Some(death) => Text(&death.to_string()).to_string(),
                None => format!("killed by {}", Text(&name)),
            }
        )?;
        match &crash.place {
            Ok(place) => at(out, place),
            Err(why) => writeln!(out, "<p class=\"note\">No backtrace: {}</p>", Text(why)),
        }
    }

    fn timeline(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "<h2>Tasks in virtual time</h2>")?;
        let tasks = self.seen.tasks.in_order();
        let name = |number| {
            let task = tasks.iter().map(|(_, task)| *task).find(|task| task.number == number);
            task.map_or(String::new(), name)
        };
        self.seen.lanes.write(out, &name)?;
        writeln!(out, "<p class=\"note\">Green: it ran. Yellow: it waited. Red: a signal.</p>")?;
        more(out, tasks.len(), lanes::SHOWN, "tasks")
    }

    fn tree(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "<h2>Processes</h2>\n<table id=\"processes\">\n<tr>")?;
        for head in ["Task", "First exit", "Last exit", "Began, s", "Ended, s"] {
            writeln!(out, "<th class=\"n\">{head}</th>")?;
        }
        writeln!(out, "<th>End</th><th>Command</th></tr>")?;
        /// What lies deeper is not indented more.
        const DEEPEST: usize = 32;
        let tasks = self.seen.tasks.in_order();
        for (depth, task) in tasks.iter().take(ROWS) {
            let Task { number, first, last, began, ended, .. } = task;
            let (began, ended) = (seconds(*began), seconds(*ended));
            write!(out, "<tr>")?;
            for cell in [&number.to_string(), &first.to_string(), &last.to_string(), &began, &ended] {
                write!(out, "<td class=\"n\">{cell}</td>")?;
            }
            let indent = "\u{a0}\u{a0}\u{a0}".repeat((*depth).min(DEEPEST));
            let what = if task.thread { "thread".to_owned() } else { words(&task.command) };
            writeln!(
                out,
                "<td>{}</td><td class=\"c\">{indent}{}</td></tr>",
                Text(&status(task)),
                Text(&what)
            )?;
        }
        writeln!(out, "</table>")?;
        more(out, tasks.len(), ROWS, "tasks")
    }

    fn calls(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(
            out,
            "<h2>System calls</h2>\n<table id=\"calls\">\n<tr><th>Call</th><th class=\"n\">Calls</th>\
             <th class=\"n\">Failed</th><th class=\"n\">Virtual time, s</th></tr>"
        )?;
        let rows = self.seen.calls.rows();
        for (name, count) in rows.iter().take(ROWS) {
            writeln!(
                out,
                "<tr><td class=\"c\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                Text(name),
                count.calls,
                count.errors,
                seconds(count.ns)
            )?;
        }
        writeln!(out, "</table>")?;
        more(out, rows.len(), ROWS, "calls")
    }
}

/// How a recording ended, and whether that is bad.
fn result(ending: &Ending) -> (String, bool) {
    match ending {
        Ending::Sealed { end: RunEnd::Ended { status }, .. } => match End::of_status(*status) {
            End::Exited(status) => (format!("exited with status {status}"), status != 0),
            End::Signalled(signal) => (format!("killed by {}", signal_name(signal.into())), true),
            End::Reset => ("reset the machine".into(), false),
            End::TripleFault => ("met an exception that it could not take (a triple fault)".into(), true),
            End::Halted => ("halted, and nothing can wake it".into(), true),
        },
        other => (other.to_string(), true),
    }
}

fn name(task: &Task) -> String {
    /// Characters that there is room for.
    const ROOM: usize = 9;
    let path = task.command.first().map_or("".into(), |path| String::from_utf8_lossy(path));
    path.rsplit('/').next().unwrap_or_default().chars().take(ROOM).collect()
}

fn at(out: &mut dyn Write, place: &Place) -> fmt::Result {
    writeln!(out, "<h3>Backtrace</h3>\n<table id=\"backtrace\">")?;
    for (number, frame) in place.frames.iter().enumerate() {
        let function =
            frame.function.as_ref().map_or(String::new(), |(name, into)| format!("{name}+{into:#x}"));
        let source = frame.source.as_ref().map_or(String::new(), |(file, line)| format!("{file}:{line}"));
        let module = frame.module.as_deref().unwrap_or_default();
        let interrupted = if frame.interrupted { " (interrupted by the signal above)" } else { "" };
        writeln!(
            out,
            "<tr><td class=\"n\">#{number}</td><td class=\"c\">{:#x}</td><td class=\"c\">{}{interrupted}</td>\
             <td class=\"c\">{}</td><td class=\"c\">{}</td></tr>",
            frame.address,
            Text(&function),
            Text(&source),
            Text(module)
        )?;
    }
    writeln!(out, "</table>")?;
    if place.frames.len() == dejavm::replay::MOST_FRAMES {
        writeln!(out, "<p class=\"note\">There may be more frames.</p>")?;
    }
    writeln!(out, "<h3>Registers</h3>\n<table id=\"registers\">")?;
    for row in place.registers.chunks(COLUMNS) {
        write!(out, "<tr>")?;
        for (name, value) in row {
            write!(out, "<th>{name}</th><td class=\"c\">{value:#018x}</td>")?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table>\n<p class=\"note\">In gdb: <code>dejavm debug --end RECORDING</code></p>")
}

fn stream(out: &mut dyn Write, id: &str, title: &str, kept: &Kept) -> fmt::Result {
    let (text, missing) = kept.text();
    writeln!(out, "<h2>{title}</h2>\n<pre id=\"{id}\">{}</pre>", Text(&text))?;
    match missing {
        0 => Ok(()),
        missing => writeln!(out, "<p class=\"note\">{missing} bytes more; dejavm stdout writes all.</p>"),
    }
}

/// Says that there is more than what is shown.
fn more(out: &mut dyn Write, all: usize, shown: usize, what: &str) -> fmt::Result {
    match all.checked_sub(shown) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, "<p class=\"note\">{more} {what} more.</p>"),
    }
}
