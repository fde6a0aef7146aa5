//! The way from the run to the writing thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dejavm_sandbox::exit::{Exit, Fault};
use dejavm_sandbox::world::{HostPath, Response, TerminalAnswer, WorldError};

use super::ring::{Gauge, NewStart};
use crate::format::INLINE_LIMIT;
use crate::manifest::RunEnd;
use crate::record::Asked;

/// Closed batches that may wait for the writer. With the open one and the one being written it
/// bounds the recorder's memory.
const MAX_WAITING: usize = 16;

/// One thing to log, as the run hands it over.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Exit(Exit),
    Fault(Fault),
    World(Asked, Response),
    Keyed(HostPath, u64, Response),
    /// A log begins anew: always the first of a batch.
    Start(Box<NewStart>),
}

/// About how many bytes something takes.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    /// In a records block.
    record: usize,
    /// As contents of their own, which wait in memory as well.
    content: usize,
}

impl Entry {
    fn weight(&self) -> Weight {
        let (record, response) = match self {
            Entry::Exit(_) => (100, None),
            Entry::Fault(_) => (20, None),
            Entry::Start(_) => (0, None),
            Entry::World(asked, response) => {
                let path = match asked {
                    Asked::Metadata { path } | Asked::ReadLink { path } | Asked::ReadDir { path } => {
                        path.path.len()
                    }
                    Asked::Terminal(_) => 40,
                    Asked::Clock
                    | Asked::Input { .. }
                    | Asked::Output { .. }
                    | Asked::OutputFile { .. }
                    | Asked::Wait { .. }
                    | Asked::Signal { .. } => 0,
                };
                (64 + path, Some(response))
            }
            Entry::Keyed(path, _, response) => (32 + path.path.len(), Some(response)),
        };
        let answer = match response {
            Some(Response::Input(Ok(b)) | Response::Link(Ok(b))) => b.len(),
            Some(Response::Block(Ok(b))) => b.len(),
            Some(Response::Terminal(Ok(TerminalAnswer::Read(b)))) => b.len(),
            Some(Response::Dir(Ok(entries))) => entries.iter().map(|e| e.name.len() + 12).sum(),
            _ => 0,
        };
        if answer > INLINE_LIMIT {
            Weight { record, content: answer }
        } else {
            Weight { record: record + answer, content: 0 }
        }
    }
}

/// How the writer is to end.
#[derive(Debug)]
pub(super) enum Close {
    /// With an end block.
    Seal(RunEnd),
    /// Without.
    Abandon,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Work {
    Batch(Vec<Entry>),
    Close(Close),
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Told when there is something for the writer.
    work: Condvar,
    /// Told when the writer took something.
    room: Condvar,
    batch_bytes: usize,
    /// Of the log.
    pub gauge: Gauge,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Entry>,
    open_weight: Weight,
    waiting: VecDeque<Vec<Entry>>,
    /// Number that the next exit must have; 0 before the first.
    next_exit: u64,
    close: Option<Close>,
    /// Whether somebody takes what is closed: before, nothing waits for it.
    begun: bool,
    /// Why nothing more is taken.
    stopped: Option<Stop>,
}

/// Why a queue takes nothing more.
#[derive(Debug)]
enum Stop {
    /// The log came to its limit, bytes.
    Full(u64),
    /// Something else.
    Other(String),
}

impl Stop {
    fn error(&self) -> WorldError {
        match self {
            Stop::Full(limit) => WorldError::LogFull { limit: *limit },
            Stop::Other(why) => WorldError::Recorder(why.clone()),
        }
    }
}

impl Queue {
    /// Batches have so many bytes; the log is a ring of so many.
    pub fn new(batch_bytes: usize, ring: Option<u64>) -> Queue {
        let gauge = Gauge::new(ring);
        Queue { state: Mutex::default(), work: Condvar::new(), room: Condvar::new(), batch_bytes, gauge }
    }

    /// From now on there is a writer.
    pub fn begin(&self) {
        self.lock().begun = true;
    }

    /// Takes an entry; waits while the writer is behind.
    pub fn push(&self, entry: Entry) -> Result<(), WorldError> {
        let mut state = self.lock();
        while state.begun && state.waiting.len() >= MAX_WAITING && state.stopped.is_none() {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(stop) = &state.stopped {
            return Err(stop.error());
        }
        if let Entry::Exit(exit) = &entry {
            state.next_exit = next_exit(state.next_exit, exit.number)?;
        }
        if matches!(entry, Entry::Start(_)) && !state.open.is_empty() {
            state.cut();
        }
        // The writer sleeps without a limit while nothing is open: it must start its clock.
        let first = state.open.is_empty();
        let weight = entry.weight();
        state.open_weight.record += weight.record;
        state.open_weight.content += weight.content;
        state.open.push(entry);
        // By either weight: contents that wait until the end are waited for there.
        let full = state.open_weight.record.max(state.open_weight.content) >= self.batch_bytes;
        if full {
            state.cut();
        }
        drop(state);
        if first || full {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Takes no more entries; the writer ends once it has written those that there are.
    pub fn close(&self, close: Close) {
        let mut state = self.lock();
        state.stopped.get_or_insert_with(|| Stop::Other("the recording is finished".into()));
        state.close = Some(close);
        drop(state);
        self.work.notify_one();
        self.room.notify_all();
    }

    /// Throws away what waits and refuses what comes: the writer is gone.
    pub fn fail(&self, why: String) {
        let mut state = self.lock();
        // That it is full says more than that it is finished.
        let stop = match state.stopped.take() {
            Some(full @ Stop::Full(_)) => full,
            _ => Stop::Other(why),
        };
        self.stop(state, stop);
    }

    /// Throws away what waits and refuses what comes: the log has come to its limit. The writer is still
    /// there to be closed.
    pub fn full(&self, limit: u64) {
        self.stop(self.lock(), Stop::Full(limit));
    }

    fn stop(&self, mut state: MutexGuard<'_, State>, stop: Stop) {
        state.open = Vec::new();
        state.waiting.clear();
        state.stopped = Some(stop);
        drop(state);
        self.room.notify_all();
    }

    /// The next thing to write. An open batch is taken once it is `flush_after` old.
    pub fn take(&self, flush_after: Duration) -> Work {
        let mut state = self.lock();
        let mut deadline = None;
        loop {
            if let Some(batch) = state.waiting.pop_front() {
                drop(state);
                self.room.notify_one();
                return Work::Batch(batch);
            }
            let now = Instant::now();
            let open = !state.open.is_empty();
            if open && (state.close.is_some() || deadline.is_some_and(|d| d <= now)) {
                state.cut();
                continue;
            }
            if let Some(close) = state.close.take() {
                return Work::Close(close);
            }
            state = if open {
                let deadline = *deadline.get_or_insert(now + flush_after);
                let (state, _) = self
                    .work
                    .wait_timeout(state, deadline.saturating_duration_since(now))
                    .unwrap_or_else(PoisonError::into_inner);
                state
            } else {
                self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done: each change of the state is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Closes the open batch.
    fn cut(&mut self) {
        self.open_weight = Weight::default();
        // Batches are of like length; growing each from nothing would copy it several times.
        let next = Vec::with_capacity(self.open.len());
        let batch = std::mem::replace(&mut self.open, next);
        self.waiting.push_back(batch);
    }
}

/// The number after `number`, if that is what is expected now.
fn next_exit(expected: u64, number: u64) -> Result<u64, WorldError> {
    if number == 0 || (expected != 0 && number != expected) {
        let why = format!("exit {number} came where exit {expected} was due");
        return Err(WorldError::Recorder(why));
    }
    number.checked_add(1).ok_or_else(|| WorldError::Recorder("exit numbers are used up".into()))
}
