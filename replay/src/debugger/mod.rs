//! A debugger's server: what gdb and its kin ask of a recording, by the remote serial protocol.
//!
//! The timeline moves; this says in gdb's words where it is. Threads are the tasks of the process that the
//! recording started with.

mod arch;
mod calls;
mod files;
mod host_io;
mod interrupt;
mod link;
mod monitor;
mod packets;
mod target;

use std::collections::BTreeMap;
use std::io;

use gdbstub::common::{Signal, Tid};
use gdbstub::conn::ConnectionExt;
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::stub::{DisconnectReason, GdbStub, GdbStubError, MultiThreadStopReason};
use gdbstub::target::ext::base::reverse_exec::ReplayLogPosition;
use gdbstub::target::ext::breakpoints::WatchKind;

use dejavm_sandbox::program::machine::AccessWatch;
use dejavm_sandbox::program::patch::Condition;

use crate::timeline::{Mark, Moment, Scratch, Stop, Stops, Timeline, TimelineError};
use files::Files;
use interrupt::Inbox;
pub use link::DebugConnection;
use link::{Alive, Link};
use packets::Conditions;

/// Why a debugger's session failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebugError {
    /// The recording could not be moved in.
    #[error(transparent)]
    Timeline(#[from] TimelineError),
    /// The connection to the debugger failed.
    #[error("the connection to the debugger: {0}")]
    Connection(#[from] io::Error),
    /// The debugger said something that the protocol does not have.
    #[error("the debugger's protocol: {0}")]
    Protocol(String),
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DebugEnd {
    /// The debugger went away.
    Detached,
    /// The debugger killed the program.
    Killed,
}

/// How the program is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Run,
    Step,
    ReverseRun,
    ReverseStep,
}

/// Where the next move goes, whatever it is.
#[derive(Clone, Debug)]
enum Goto {
    Moment(Moment),
    Mark(Mark),
}

/// A recording, as a debugger sees it.
struct Debugger {
    timeline: Timeline,
    stops: Stops,
    files: Files,
    /// The next move.
    next: Move,
    goto: Option<Goto>,
    mark: Option<Mark>,
    /// What the debugger changed here, and where it calls.
    copy: Option<Scratch>,
    /// What the debugger says.
    inbox: Inbox,
    alive: Alive,
}

/// Serves a debugger until it goes away. The timeline stays where it was left by `timeline`'s last move.
///
/// # Errors
/// [`DebugError`].
pub fn serve(timeline: Timeline, connection: DebugConnection) -> Result<DebugEnd, DebugError> {
    let inbox = Inbox::default();
    let link = Link::new(connection, inbox.clone())?;
    let alive = link.alive()?;
    let (stops, files) = (Stops::default(), Files::default());
    let mut debugger = Debugger {
        timeline,
        stops,
        files,
        next: Move::Run,
        goto: None,
        mark: None,
        copy: None,
        inbox,
        alive,
    };
    match GdbStub::new(link).run_blocking::<EventLoop>(&mut debugger) {
        Ok(DisconnectReason::Kill) => Ok(DebugEnd::Killed),
        Ok(_) => Ok(DebugEnd::Detached),
        Err(error) => match failure(error) {
            DebugError::Connection(e) if is_gone(&e) => Ok(DebugEnd::Detached),
            error => Err(error),
        },
    }
}

/// Whether the debugger went without a word.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn failure(error: GdbStubError<TimelineError, io::Error>) -> DebugError {
    if error.is_target_error() {
        return match error.into_target_error() {
            Some(error) => error.into(),
            None => DebugError::Protocol("an error of the recording that is not known".into()),
        };
    }
    if error.is_connection_error() {
        return match error.into_connection_error() {
            Some((error, _)) => error.into(),
            None => DebugError::Protocol("an error of the connection that is not known".into()),
        };
    }
    DebugError::Protocol(error.to_string())
}

/// Conditions of breakpoints. Where one of them is beyond what can be evaluated here, there are none: gdb looks at
/// them again where it is told of a stop.
fn compiled(conditions: &Conditions) -> BTreeMap<u64, Vec<Condition>> {
    let compile = |(address, all): (&u64, &Vec<Vec<u8>>)| {
        let all = all.iter().map(|bytes| Condition::new(bytes)).collect::<Result<Vec<Condition>, _>>();
        Some((*address, all.ok()?))
    };
    conditions.iter().filter_map(compile).collect()
}

struct EventLoop;

impl BlockingEventLoop for EventLoop {
    type Target = Debugger;
    type Connection = Link;
    type StopReason = MultiThreadStopReason<u64>;

    fn wait_for_stop_reason(
        target: &mut Debugger,
        connection: &mut Link,
    ) -> Result<Event<MultiThreadStopReason<u64>>, WaitForStopReasonError<TimelineError, io::Error>> {
        if target.moves_copy().map_err(WaitForStopReasonError::Target)? {
            let (reason, said) = {
                let _watch = target.inbox.watch(target.timeline.stop_handle());
                target.go_in_copy()
            };
            if !said.is_empty() {
                connection.say(&said).map_err(WaitForStopReasonError::Connection)?;
            }
            return Ok(Event::TargetStopped(reason));
        }
        let moved = {
            let _watch = target.inbox.watch(target.timeline.stop_handle());
            target.stops.conditions = compiled(connection.conditions());
            match target.goto.take() {
                Some(goto) => target.go_to(&goto),
                None => target.go(),
            }
        };
        match moved {
            Err(TimelineError::Interrupted) => {
                target.timeline.settle().map_err(WaitForStopReasonError::Target)?;
                let byte = connection.read().map_err(WaitForStopReasonError::Connection)?;
                Ok(Event::IncomingData(byte))
            }
            Ok(reason) => Ok(Event::TargetStopped(reason)),
            Err(e @ TimelineError::NoSuchPosition { .. }) => {
                connection.say(&format!("{e}\n")).map_err(WaitForStopReasonError::Connection)?;
                Ok(Event::TargetStopped(target.arrived()))
            }
            Err(e) => Err(WaitForStopReasonError::Target(e)),
        }
    }

    fn on_interrupt(target: &mut Debugger) -> Result<Option<MultiThreadStopReason<u64>>, TimelineError> {
        let tid = target.current();
        Ok(Some(MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGINT }))
    }
}

impl Debugger {
    /// Goes there.
    fn go_to(&mut self, goto: &Goto) -> Result<MultiThreadStopReason<u64>, TimelineError> {
        match goto {
            Goto::Moment(moment) => self.timeline.seek(*moment)?,
            Goto::Mark(mark) => self.timeline.return_to(mark)?,
        }
        Ok(self.arrived())
    }

    /// A move is over that was to be over here. gdb asks for nothing else when it is told where a step ended.
    fn arrived(&self) -> MultiThreadStopReason<u64> {
        MultiThreadStopReason::SignalWithThread { tid: self.current(), signal: Signal::SIGTRAP }
    }

    /// Makes the next move.
    fn go(&mut self) -> Result<MultiThreadStopReason<u64>, TimelineError> {
        let stop = match self.next {
            Move::Run => self.timeline.run(&self.stops)?,
            Move::Step => self.timeline.step()?,
            Move::ReverseRun => self.timeline.reverse_run(&self.stops)?,
            Move::ReverseStep => self.timeline.reverse_step()?,
        };
        let tid = self.current();
        Ok(match &stop {
            Stop::Arrived => self.arrived(),
            Stop::Breakpoint(_) => MultiThreadStopReason::SwBreak(tid),
            Stop::Written(addresses) | Stop::Accessed(addresses) => {
                MultiThreadStopReason::Watch { tid, kind: self.kind_of(&stop), addr: addresses.start }
            }
            Stop::End => match self.timeline.fatal_signal()? {
                Some(signal) => MultiThreadStopReason::SignalWithThread { tid, signal: Signal(signal) },
                None => MultiThreadStopReason::ReplayLog { tid: Some(tid), pos: ReplayLogPosition::End },
            },
            Stop::Start => MultiThreadStopReason::ReplayLog { tid: Some(tid), pos: ReplayLogPosition::Begin },
        })
    }

    /// As what gdb is told that something was touched which it watches: there may be several kinds of watchpoints
    /// for the same addresses.
    fn kind_of(&self, stop: &Stop) -> WatchKind {
        let both = |addresses| self.stops.accesses.contains(&AccessWatch { addresses, writes: true });
        match stop {
            Stop::Written(addresses) => {
                let writes = self.stops.writes.iter().filter(|range| *range == addresses).count();
                let accesses = self.stops.accesses.iter();
                let both = accesses.filter(|watch| watch.writes && watch.addresses == *addresses).count();
                if writes > both { WatchKind::Write } else { WatchKind::ReadWrite }
            }
            Stop::Accessed(addresses) if both(addresses.clone()) => WatchKind::ReadWrite,
            _ => WatchKind::Read,
        }
    }

    /// The running task, as a thread of gdb's.
    fn current(&self) -> Tid {
        let recorded = || self.timeline.machine().program().map_or(1, |program| program.kernel.tid());
        let tid = self.copy.as_ref().map_or_else(recorded, Scratch::current);
        Tid::new(tid as usize).unwrap_or(Tid::MIN)
    }
}
