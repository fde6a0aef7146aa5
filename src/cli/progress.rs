//! How far a long piece of work is.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Voice;

/// What takes longer shows how far it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar for what takes long, on a terminal.
pub struct Progress {
    shown: bool,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new(voice: Voice) -> Progress {
        Progress { shown: stderr().is_terminal() && !voice.quiet, started: Instant::now(), bar: None }
    }

    /// So much is done, of so much.
    pub fn show(&mut self, done: u64, total: u64) {
        if !self.shown || self.started.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{bar:40} {percent}% {eta}");
            ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_position(done);
    }

    /// Takes the bar away.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
