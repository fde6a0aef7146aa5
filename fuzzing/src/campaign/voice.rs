//! How a campaign says what it has to say.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;

use super::found::Found;
use super::progress::{Event, Progress};
use crate::cli::harmless;

/// How often a line is redrawn on a terminal, and how often one is written elsewhere.
const REDRAW: Duration = Duration::from_millis(500);
const REPEAT: Duration = Duration::from_secs(5);

/// How it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A line on standard error that is redrawn.
    Terminal,
    /// Lines on standard error.
    Lines,
    /// JSON on standard output, one object a line.
    Json,
    /// The same, more often: for a process that says it to people.
    Core,
}

impl Manner {
    /// One that fits what standard error is.
    pub fn new(json: bool) -> Manner {
        match (json, io::stderr().is_terminal()) {
            (true, _) => Manner::Json,
            (false, true) => Manner::Terminal,
            (false, false) => Manner::Lines,
        }
    }
}

/// Whoever says it. That nobody listens any more is no reason to end.
#[derive(Debug)]
pub struct Voice {
    manner: Manner,
    /// Where all is.
    out: String,
    /// When it was said last how far it is.
    last: Instant,
    finds: u64,
}

impl Voice {
    /// One for a campaign whose files are there.
    pub fn new(manner: Manner, out: String) -> Voice {
        Voice { manner, out, last: Instant::now(), finds: 0 }
    }

    /// Whether it is time to say how far it is.
    pub fn is_due(&self) -> bool {
        let every = if matches!(self.manner, Manner::Terminal | Manner::Core) { REDRAW } else { REPEAT };
        self.last.elapsed() >= every
    }

    /// Says something.
    pub fn say(&mut self, event: &Event) {
        if let Event::Status(_) = event {
            self.last = Instant::now();
        }
        match self.manner {
            Manner::Json | Manner::Core => print(event),
            Manner::Terminal | Manner::Lines => self.tell(event),
        }
    }

    /// Says something that is no event.
    pub fn note(&mut self, text: impl Into<String>) {
        self.say(&Event::Note { text: text.into() });
    }

    /// Says it to people.
    fn tell(&mut self, event: &Event) {
        match event {
            Event::Status(progress) => self.status(progress),
            Event::Crash(find) | Event::Hang(find) => self.found(&find.found),
            Event::Note { text } | Event::Failure { text, .. } => self.line(text),
            Event::End { progress, why } => {
                self.line(&progress.line());
                self.line(&format!("ended: {why}; all is in {}", self.out));
            }
        }
    }

    fn status(&self, progress: &Progress) {
        match self.manner {
            Manner::Terminal => redraw(&progress.line()),
            _ => self.line(&progress.line()),
        }
    }

    fn found(&mut self, found: &Found) {
        let path = &found.path;
        self.finds += 1;
        match found.signal {
            Some(signal) => {
                let name = dejavm::sandbox::program::signal::name(signal);
                let place = found.place.as_deref().unwrap_or("an unknown place");
                self.line(&format!("crash: {name} at {place}: {path}"));
            }
            None => self.line(&format!("hang: {path}")),
        }
        if found.recorded && self.finds == 1 {
            self.line(&format!("  its recording: dejavm debug --end '{path}/recording'"));
        }
    }

    fn line(&self, text: &str) {
        if self.manner == Manner::Terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        let _ = writeln!(io::stderr(), "dejavm-fuzz: {}", harmless(text));
    }
}

/// Draws the line of a terminal anew, cut to what fits: one that is wrapped would not be drawn over.
fn redraw(line: &str) {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    let most = if columns == 0 { usize::MAX } else { usize::from(columns) - 1 };
    let cut: String = line.chars().take(most).collect();
    let _ = write!(io::stderr(), "\r\x1b[K{cut}");
}

fn print(event: &Event) {
    // Of numbers, text and nothing else.
    let Ok(text) = serde_json::to_string(event) else { return };
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
