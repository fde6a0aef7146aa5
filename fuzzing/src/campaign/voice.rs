//! What a campaign says while it runs.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use serde_json::{Value, json};

use super::figures::Figures;
use super::found::Found;
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
}

/// Whoever says it. That nobody listens any more is no reason to end.
#[derive(Debug)]
pub struct Voice {
    manner: Manner,
    last: Instant,
}

impl Voice {
    /// One that fits what standard error is.
    pub fn new(json: bool) -> Voice {
        let manner = match (json, io::stderr().is_terminal()) {
            (true, _) => Manner::Json,
            (false, true) => Manner::Terminal,
            (false, false) => Manner::Lines,
        };
        Voice { manner, last: Instant::now() }
    }

    /// Says how far it is, if that was not done for a while.
    pub fn status(&mut self, figures: &Figures) {
        let every = if self.manner == Manner::Terminal { REDRAW } else { REPEAT };
        if self.last.elapsed() < every {
            return;
        }
        self.last = Instant::now();
        match self.manner {
            Manner::Terminal => redraw(&figures.line()),
            Manner::Lines => say(&figures.line()),
            Manner::Json => print("status", figures.json()),
        }
    }

    /// Says what was found.
    pub fn found(&mut self, found: &Found, figures: &Figures) {
        let dir = found.dir.display();
        match (self.manner, found.signal) {
            (Manner::Json, signal) => {
                let kind = if signal.is_some() { "crash" } else { "hang" };
                let mut value = figures.json();
                value["path"] = json!(found.dir.to_string_lossy());
                value["signal"] = json!(signal);
                value["place"] = json!(found.place);
                value["stack"] = json!(found.stack);
                value["recorded"] = json!(found.recorded);
                return print(kind, value);
            }
            (_, Some(signal)) => {
                let name = dejavm::sandbox::program::signal::name(signal);
                let place = found.place.as_deref().unwrap_or("an unknown place");
                self.say(&format!("crash: {name} at {place}: {dir}"));
            }
            (_, None) => self.say(&format!("hang: {dir}")),
        }
        if found.recorded && figures.crashes + figures.hangs <= 1 {
            self.say(&format!("  its recording: dejavm debug --end '{dir}/recording'"));
        }
    }

    /// Says how it ended.
    pub fn end(&mut self, figures: &Figures, why: &str, out: &str) {
        match self.manner {
            Manner::Json => {
                let mut value = figures.json();
                value["why"] = json!(why);
                print("end", value);
            }
            _ => {
                self.say(&figures.line());
                self.say(&format!("ended: {why}; all is in {out}"));
            }
        }
    }

    /// Says something that is no event.
    pub fn note(&mut self, text: &str) {
        match self.manner {
            Manner::Json => print("note", json!({ "text": text })),
            _ => self.say(text),
        }
    }

    fn say(&self, text: &str) {
        if self.manner == Manner::Terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        say(text);
    }
}

/// Draws the line of a terminal anew, cut to what fits: one that is wrapped would not be drawn over.
fn redraw(line: &str) {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    let most = if columns == 0 { usize::MAX } else { usize::from(columns) - 1 };
    let cut: String = line.chars().take(most).collect();
    let _ = write!(io::stderr(), "\r\x1b[K{cut}");
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "dejavm-fuzz: {}", harmless(text));
}

fn print(event: &str, mut value: Value) {
    value["event"] = json!(event);
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}
