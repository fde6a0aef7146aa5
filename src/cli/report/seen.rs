//! What is counted while a recording is replayed.

use dejavm::replay::Recording;
use dejavm::replay::text::Decoded;
use dejavm::{DeliveredSignal, Exit, GuestMemory, MadeCall};

use super::lanes::Lanes;
use crate::cli::Result;
use crate::cli::decoding::{Viewer, Watched};
use crate::cli::log::summary::Summary;
use crate::cli::ps::tasks::Tasks;

/// Counts of a run.
pub struct Seen {
    pub tasks: Tasks,
    pub calls: Summary,
    pub lanes: Lanes,
    /// The clock of the exit before.
    clock: u64,
}

impl Seen {
    /// Of a recording, from its first exit on.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn new(recording: &Recording) -> Result<Seen> {
        let command = &recording.manifest().command;
        let command = command.iter().map(|word| word.clone().into_bytes()).collect();
        let range = recording.exit_range();
        let clock = |number| -> Result<Option<u64>> {
            Ok(recording.exits_from(number).next().transpose()?.map(|exit| exit.clock))
        };
        let start = range.map_or(Ok(None), |(first, _)| clock(first))?.unwrap_or(0);
        // Of a log that is damaged, the end is not known.
        let end = range.and_then(|(_, last)| clock(last).ok().flatten()).unwrap_or(start);
        Ok(Seen {
            tasks: Tasks::new(command),
            calls: Summary::default(),
            lanes: Lanes::new(start, end),
            clock: start,
        })
    }

    /// An exit of which there is nothing but the log.
    pub fn without_memory(&mut self, exit: &Exit) {
        self.see(exit);
        self.tasks.without_memory(exit);
    }

    fn see(&mut self, exit: &Exit) {
        self.calls.count(exit, exit.clock.saturating_sub(self.clock));
        self.lanes.exit(exit.task, self.clock, exit.clock);
        self.clock = exit.clock;
    }
}

impl Viewer for Seen {
    fn strings(&self) -> usize {
        0
    }

    fn made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) {
        self.lanes.made(call.task, call.clock);
        Viewer::made(&mut self.tasks, call, memory);
    }

    fn exit(&mut self, exit: &Exit, decoded: &Decoded, memory: &dyn GuestMemory) -> Watched {
        self.see(exit);
        self.tasks.exit(exit, decoded, memory)
    }

    fn signal(&mut self, signal: &DeliveredSignal) {
        self.lanes.signal(signal.task, signal.clock);
    }

    fn over(&mut self, unanswered: Vec<(MadeCall, String)>) {
        self.tasks.over(unanswered);
    }
}
