//! What the run sees of a recorder.

use std::collections::HashSet;
use std::sync::Arc;

use dejavm_sandbox::exit::{Exit, Fault, Observer};
use dejavm_sandbox::world::{HostPath, Request, Response, Stream, TerminalRequest, World, WorldError};

use super::queue::{Entry, Queue};
use super::whole::Whole;
use crate::format::MAX_BLOCK;
use crate::record::Asked;

/// Asks another world and logs its answers.
pub(super) struct RecordingWorld {
    queue: Arc<Queue>,
    inner: Box<dyn World>,
    /// Keyed questions whose answer is in the log already.
    known: HashSet<(HostPath, u64)>,
    /// How often the log had begun anew when that was so.
    starts: u64,
    whole: Whole,
}

impl RecordingWorld {
    pub fn new(queue: Arc<Queue>, inner: Box<dyn World>, whole: Whole) -> RecordingWorld {
        RecordingWorld { queue, inner, known: HashSet::new(), starts: 0, whole }
    }

    /// Logs a block of a file, and what belongs to it, unless it is there already.
    fn keep(&mut self, path: &HostPath, block: u64, response: &Response) -> Result<(), WorldError> {
        let key = (path.clone(), block);
        if self.known.contains(&key) {
            return Ok(());
        }
        self.queue.push(Entry::Keyed(key.0.clone(), block, response.clone()))?;
        self.known.insert(key);
        if let (0, Response::Block(Ok(first))) = (block, response) {
            for (block, response) in self.whole.rest(path, first, &mut *self.inner) {
                self.keep(path, block, &response)?;
            }
        }
        Ok(())
    }
}

impl World for RecordingWorld {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        let response = self.inner.ask(cap(request))?;
        if response.name() != request.name() {
            // It could not be replayed, and the caller would not take it.
            return Err(WorldError::Mismatch { asked: request.name(), got: response.name() });
        }
        if matches!(response, Response::Signal(None)) {
            // Asked at every exit: only a signal that came is kept.
            return Ok(response);
        }
        if let Request::ReadBlock { path, block } = request {
            let starts = self.queue.gauge.starts();
            if starts != self.starts {
                self.known.clear();
                self.starts = starts;
            }
            self.keep(path, block, &response)?;
        } else if let Some(asked) = Asked::of(&request) {
            self.queue.push(Entry::World(asked, response.clone()))?;
        }
        Ok(response)
    }

    fn has_block(&self, path: &HostPath, block: u64) -> bool {
        self.inner.has_block(path, block)
    }

    fn may_have_signal(&self) -> bool {
        self.inner.may_have_signal()
    }

    fn seek_input(&mut self, offset: u64) {
        self.inner.seek_input(offset);
    }

    fn seek_output(&mut self, stream: Stream, offset: u64) {
        self.inner.seek_output(stream, offset);
    }
}

/// Asks for no more input at once than a block can hold: an answer may always be shorter than what
/// was asked for.
fn cap(request: Request<'_>) -> Request<'_> {
    match request {
        Request::Input { max, wait } => Request::Input { max: max.min(MAX_BLOCK), wait },
        Request::Terminal(TerminalRequest::Read(max)) => {
            Request::Terminal(TerminalRequest::Read(max.min(MAX_BLOCK as u32)))
        }
        other => other,
    }
}

/// Logs exits and faults.
pub(super) struct RecordingObserver {
    queue: Arc<Queue>,
}

impl RecordingObserver {
    pub fn new(queue: Arc<Queue>) -> RecordingObserver {
        RecordingObserver { queue }
    }
}

impl Observer for RecordingObserver {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        self.queue.push(Entry::Exit(exit.clone()))
    }

    fn fault(&mut self, fault: &Fault) {
        // It has no way to fail; the next exit meets the same error.
        let _ = self.queue.push(Entry::Fault(*fault));
    }

    /// It hands them to the writer, who has the clock and the log.
    fn reads_no_clock(&self) -> bool {
        true
    }
}
