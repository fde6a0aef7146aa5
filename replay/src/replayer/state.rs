//! A replay's state: where it is, and what came of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use dejavm_sandbox::exit::{Exit, Fault};
use dejavm_sandbox::world::{HostPath, Request, Response, WorldError};

use super::cursor::Cursor;
use super::divergence::{Divergence, Event, MAX_MATCHED, Window};
use super::redaction::{Redaction, same_exit, same_question};
use crate::error::Error;
use crate::manifest::RunEnd;
use crate::reader::content::Keyed;
use crate::reader::{Ending, Recording};
use crate::record::{Asked, Record};

/// What world and observer share.
pub(super) struct State {
    recording: Recording,
    cursor: Cursor,
    keyed: Keyed,
    matched: VecDeque<Exit>,
    recorded_faults: Window,
    seen_faults: Window,
    position: u64,
    /// Whether the run goes on live at the end of the log.
    goes_on: bool,
    /// What is taken out of the answers, and the files that it was taken out of.
    redaction: Option<(Redaction, BTreeSet<HostPath>)>,
    phase: Phase,
}

enum Phase {
    /// Comparing.
    Log,
    /// All of the log was replayed, and the run is to stop.
    AtEnd,
    /// All of the log was replayed, and the run goes on.
    Live,
    Diverged(Box<Divergence>),
    Failed(Arc<Error>),
}

/// Where an answer comes from.
pub(super) enum Reply {
    Recorded(Response),
    /// The log is over: from the live world.
    Live,
}

/// What comes next in the log, compared to what the run does.
enum Next {
    Same,
    Other,
    /// Nothing: the guest had ended.
    GuestEnded,
    /// Nothing: the run goes on live.
    Live,
    /// Nothing: the run stops.
    RunOut,
}

impl State {
    pub fn new(recording: Recording, exit: u64) -> Result<State, Error> {
        Ok(State {
            keyed: recording.keyed()?,
            cursor: Cursor::new(recording.records_from(exit)),
            recording,
            matched: VecDeque::with_capacity(MAX_MATCHED),
            recorded_faults: Window::default(),
            seen_faults: Window::default(),
            position: exit.saturating_sub(1),
            goes_on: false,
            redaction: None,
            phase: Phase::Log,
        })
    }

    pub fn go_on(&mut self) {
        self.goes_on = true;
    }

    pub fn redact(&mut self, redaction: Redaction) {
        self.redaction = Some((redaction, BTreeSet::new()));
    }

    /// Files that something was taken out of.
    pub fn redacted(&self) -> BTreeSet<HostPath> {
        self.redaction.as_ref().map(|(_, files)| files.clone()).unwrap_or_default()
    }

    /// See [`super::Replayer::read_ahead`].
    pub fn read_ahead(&mut self) -> Result<(), Error> {
        self.cursor.read_ahead()
    }

    pub fn has_block(&self, path: &HostPath, block: u64) -> bool {
        self.keyed.get(path, block).is_some()
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether nothing more of the log is to be compared.
    pub fn at_end(&mut self) -> bool {
        match self.phase {
            Phase::AtEnd | Phase::Live => true,
            Phase::Diverged(_) | Phase::Failed(_) => false,
            Phase::Log => matches!(self.cursor.peek(&mut self.recorded_faults), Ok(None)),
        }
    }

    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    pub fn divergence(&self) -> Option<&Divergence> {
        match &self.phase {
            Phase::Diverged(divergence) => Some(divergence),
            _ => None,
        }
    }

    pub fn failure(&self) -> Option<Arc<Error>> {
        match &self.phase {
            Phase::Failed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// The answer to an ordered question.
    pub fn ask(&mut self, request: Request<'_>) -> Result<Reply, WorldError> {
        if self.settled()? {
            return Ok(Reply::Live);
        }
        let redacts = self.redaction.is_some();
        let same = |record: &Record| match record {
            Record::World(world) if redacts => same_question(&world.asked, &request),
            Record::World(world) => world.asked.is(&request),
            _ => false,
        };
        match self.next_is(same)? {
            Next::Same => {}
            // That no signal came is not in the log.
            Next::Other | Next::GuestEnded if matches!(request, Request::Signal { .. }) => {
                return Ok(Reply::Recorded(Response::Signal(None)));
            }
            Next::Other | Next::GuestEnded => return Err(self.diverge(Event::of(&request))),
            Next::Live => return Ok(Reply::Live),
            Next::RunOut => return Err(WorldError::EndOfLog),
        }
        let Some(Record::World(world)) = self.cursor.take() else {
            return Err(self.diverge(Event::of(&request)));
        };
        let mut response = self.recording.response(&world.answer).map_err(|e| self.fail(e))?;
        if !possible(&request, &response) {
            let why = format!("the answer to {} is more than was asked for", request.name());
            let error = Error::corrupt(self.recording.log_path(), 0, why);
            return Err(self.fail(error));
        }
        if let Some((redaction, _)) = &self.redaction {
            redaction.take_out(&mut response);
        }
        Ok(Reply::Recorded(response))
    }

    /// The answer to a keyed question. Its place in the run is not compared.
    pub fn block(&mut self, path: &HostPath, block: u64) -> Result<Reply, WorldError> {
        if let Some(answer) = self.keyed.get(path, block) {
            let mut response = self.recording.response(answer).map_err(|e| self.fail(e))?;
            if let Some((redaction, files)) = &mut self.redaction
                && redaction.take_out_of_file(path, &mut response)
            {
                files.insert(path.clone());
            }
            return Ok(Reply::Recorded(response));
        }
        if self.settled()? {
            return Ok(Reply::Live);
        }
        if let Ending::Damaged { offset, why } = self.recording.ending() {
            // It may be in the part that cannot be read.
            let error = Error::corrupt(self.recording.log_path(), *offset, why.clone());
            return Err(self.fail(error));
        }
        // Behind the last exit of a killed recorder's log, blocks may have been asked for that it
        // did not write any more.
        match self.next_is(|_| false)? {
            Next::Live => Ok(Reply::Live),
            Next::RunOut => Err(WorldError::EndOfLog),
            Next::Same | Next::Other | Next::GuestEnded => {
                Err(self.diverge(Event::Block { path: path.clone(), block }))
            }
        }
    }

    /// Compares an exit.
    pub fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        if self.settled()? {
            return Ok(());
        }
        let redacts = self.redaction.is_some();
        let same = |record: &Record| match record {
            Record::Exit(expected) if redacts => same_exit(expected, exit),
            Record::Exit(expected) => expected == exit,
            _ => false,
        };
        match self.next_is(same)? {
            Next::Same => {}
            Next::Other | Next::GuestEnded => return Err(self.diverge(Event::Exit(exit.clone()))),
            Next::Live => return Ok(()),
            Next::RunOut => return Err(WorldError::EndOfLog),
        }
        if let Some(Record::Exit(expected)) = self.cursor.take() {
            if self.matched.len() == MAX_MATCHED {
                self.matched.pop_front();
            }
            self.matched.push_back(expected);
        }
        self.position = exit.number;
        self.recorded_faults.clear();
        self.seen_faults.clear();
        // Stop right here when this was the last exit, not at the next: the state is now that of
        // the log's end.
        match self.next_is(|_| false)? {
            Next::RunOut => Err(WorldError::EndOfLog),
            _ => Ok(()),
        }
    }

    pub fn fault(&mut self, fault: &Fault) {
        if matches!(self.phase, Phase::Log) {
            self.seen_faults.push(*fault);
        }
    }

    /// What was decided before: an error again, or whether the run is live.
    fn settled(&self) -> Result<bool, WorldError> {
        match &self.phase {
            Phase::Log => Ok(false),
            Phase::Live => Ok(true),
            Phase::AtEnd => Err(WorldError::EndOfLog),
            Phase::Diverged(divergence) => Err(WorldError::Diverged(divergence.headline())),
            Phase::Failed(error) => Err(WorldError::Recorder(error.to_string())),
        }
    }

    /// What comes next in the log; at its end the run stops or goes on from here.
    fn next_is(&mut self, same: impl Fn(&Record) -> bool) -> Result<Next, WorldError> {
        match self.cursor.peek(&mut self.recorded_faults) {
            Ok(Some(record)) if same(record) => Ok(Next::Same),
            Ok(Some(_)) => Ok(Next::Other),
            // The log has the guest's own end: there is nothing behind it.
            Ok(None) if matches!(self.recording.end(), Some(RunEnd::Ended { .. })) => Ok(Next::GuestEnded),
            Ok(None) if self.goes_on => {
                self.phase = Phase::Live;
                Ok(Next::Live)
            }
            Ok(None) => {
                self.phase = Phase::AtEnd;
                Ok(Next::RunOut)
            }
            Err(e) => Err(self.fail(e)),
        }
    }

    fn fail(&mut self, error: Error) -> WorldError {
        let text = error.to_string();
        self.phase = Phase::Failed(Arc::new(error));
        WorldError::Recorder(text)
    }

    fn diverge(&mut self, seen: Event) -> WorldError {
        let expected = match (&seen, self.cursor.take()) {
            (Event::Block { .. }, _) => Event::NoSuchBlock,
            (_, Some(Record::Exit(exit))) => Event::Exit(exit),
            (_, Some(Record::World(world))) => Event::Ask(world.asked),
            (_, _) => Event::End,
        };
        let exit = match (&expected, &seen) {
            (Event::Exit(exit), _) | (_, Event::Exit(exit)) => exit.number,
            _ => self.position + 1,
        };
        let divergence = Divergence {
            exit,
            expected,
            seen,
            matched: self.matched.iter().cloned().collect(),
            recorded_faults: std::mem::take(&mut self.recorded_faults),
            seen_faults: std::mem::take(&mut self.seen_faults),
        };
        let text = divergence.headline();
        self.phase = Phase::Diverged(Box::new(divergence));
        WorldError::Diverged(text)
    }
}

impl Event {
    fn of(request: &Request<'_>) -> Event {
        match (Asked::of(request), *request) {
            (Some(asked), _) => Event::Ask(asked),
            (None, Request::ReadBlock { path, block }) => Event::Block { path: path.clone(), block },
            // Every question is ordered or a block.
            (None, _) => Event::End,
        }
    }
}

/// Whether a recorded answer is one that the outside may give: a log can say anything, and the
/// guest's memory is sized by the question.
fn possible(request: &Request<'_>, response: &Response) -> bool {
    match (request, response) {
        (Request::Input { max, .. }, Response::Input(Ok(bytes))) => bytes.len() <= *max,
        (Request::Output { data, .. }, Response::Output(Ok(taken))) => *taken <= data.len(),
        (Request::OutputFile { change, .. }, Response::OutputFile(Ok(taken))) => {
            *taken <= change.data().len()
        }
        (Request::Wait { ns, .. }, Response::Wait(woken)) => ns.is_none_or(|ns| woken.ns <= ns),
        (Request::Signal { .. }, Response::Signal(signal)) => signal.is_none_or(|n| (1..=64).contains(&n)),
        (Request::Terminal(request), Response::Terminal(Ok(answer))) => request.takes(answer),
        _ => request.name() == response.name(),
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = match self.phase {
            Phase::Log => "log",
            Phase::AtEnd => "at end",
            Phase::Live => "live",
            Phase::Diverged(_) => "diverged",
            Phase::Failed(_) => "failed",
        };
        f.debug_struct("State")
            .field("position", &self.position)
            .field("phase", &phase)
            .finish_non_exhaustive()
    }
}
