//! A debugger's server: what gdb and its kin ask of a recording, or of a program that runs, by the remote serial
//! protocol.
//!
//! The subject moves; this says in gdb's words where it is. Threads are the tasks of the process that runs.

mod arch;
mod files;
mod host_io;
mod interrupt;
mod link;
mod live;
mod monitor;
mod packets;
mod recorded;
mod signals;
mod state;
mod subject;
mod target;

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;

use gdbstub::common::Signal;
use gdbstub::conn::ConnectionExt;
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::stub::{DisconnectReason, GdbStub, GdbStubError, MultiThreadStopReason};
use gdbstub::target::ext::base::reverse_exec::ReplayLogPosition;
use gdbstub::target::ext::breakpoints::WatchKind;
use gdbstub::target::ext::catch_syscalls::CatchSyscallPosition;

use dejavm_sandbox::exit::Observer;
use dejavm_sandbox::guest::Machine;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::End;
use dejavm_sandbox::program::machine::AccessWatch;
use dejavm_sandbox::program::patch::Condition;

use crate::timeline::{Stop, Stops, Timeline, TimelineError};
use files::Files;
use interrupt::Inbox;
pub use link::DebugConnection;
use link::{Alive, Link};
use live::Live;
use packets::Conditions;
use recorded::Recorded;
use subject::{Came, Going, Subject, Went};

/// Why a debugger's session failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebugError {
    /// The recording could not be moved in, or the program not be run.
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
    /// The debugger let go of the program.
    Detached,
    /// The debugger killed the program.
    Killed,
    /// The program ended, which of a recorded one is no event.
    Exited,
    /// The debugger went away without a word.
    Lost,
}

/// A program, as a debugger sees it.
struct Debugger<'a> {
    subject: Box<dyn Subject + 'a>,
    stops: Stops,
    files: Files,
    /// The next move.
    going: Going,
    /// What the debugger says.
    inbox: Inbox,
    alive: Alive,
}

/// Serves a debugger of a recording until it goes away. The timeline stays where it was left by its last move.
///
/// # Errors
/// [`DebugError`].
pub fn serve(timeline: Timeline, connection: DebugConnection) -> Result<DebugEnd, DebugError> {
    serve_subject(Box::new(Recorded::new(timeline)), connection)
}

/// Serves a debugger of a program that runs, forwards, until it goes away or the program has ended. `stop` is the
/// machine's own. The program can be run on afterwards; after [`DebugEnd::Killed`] and [`DebugEnd::Lost`] nobody is
/// expected to. Whoever watches its exits sees what the debugger changed as if the program had done so.
///
/// # Errors
/// [`DebugError`]. After an error of the run the machine cannot be run on.
pub fn serve_live<'a>(
    machine: &'a mut Machine,
    observer: Option<&'a mut (dyn Observer + 'a)>,
    stop: StopHandle,
    connection: DebugConnection,
) -> Result<DebugEnd, DebugError> {
    serve_subject(Box::new(Live::new(machine, observer, stop)?), connection)
}

fn serve_subject(
    mut subject: Box<dyn Subject + '_>,
    connection: DebugConnection,
) -> Result<DebugEnd, DebugError> {
    let inbox = Inbox::default();
    let link = Link::new(connection, inbox.clone(), subject.recorded().is_none())?;
    let alive = link.alive()?;
    let (mut stops, files, going) = (Stops::default(), Files::default(), Going::default());
    if let Some(program) = subject.machine().program() {
        // Whoever begins at a child's crash means the child.
        stops.process = program.kernel.pid();
    }
    let mut debugger = Debugger { subject, stops, files, going, inbox, alive };
    match GdbStub::new(link).run_blocking::<EventLoop<'_>>(&mut debugger) {
        Ok(DisconnectReason::Kill) => Ok(DebugEnd::Killed),
        Ok(DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_)) => Ok(DebugEnd::Exited),
        Ok(DisconnectReason::Disconnect) => Ok(DebugEnd::Detached),
        Err(error) => match failure(error) {
            DebugError::Connection(e) if is_gone(&e) => Ok(DebugEnd::Lost),
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
            None => DebugError::Protocol("an error of the program that is not known".into()),
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

/// As what gdb says only that the program stopped.
const NO_SIGNAL: Signal = Signal(0);

struct EventLoop<'a>(PhantomData<&'a ()>);

impl<'a> BlockingEventLoop for EventLoop<'a> {
    type Target = Debugger<'a>;
    type Connection = Link;
    type StopReason = MultiThreadStopReason<u64>;

    fn wait_for_stop_reason(
        target: &mut Debugger<'a>,
        connection: &mut Link,
    ) -> Result<Event<MultiThreadStopReason<u64>>, WaitForStopReasonError<TimelineError, io::Error>> {
        target.stops.conditions = compiled(connection.conditions());
        target.stops.signals = signals::ALL.collect();
        for signal in connection.passed().filter_map(signals::to_linux) {
            target.stops.signals.remove(&signal);
        }
        match target.go().map_err(WaitForStopReasonError::Target)? {
            Some(Went { came, said }) => {
                if !said.is_empty() {
                    connection.say(&said).map_err(WaitForStopReasonError::Connection)?;
                }
                Ok(Event::TargetStopped(target.reason(&came)))
            }
            None => {
                let byte = connection.read().map_err(WaitForStopReasonError::Connection)?;
                Ok(Event::IncomingData(byte))
            }
        }
    }

    fn on_interrupt(target: &mut Debugger<'a>) -> Result<Option<MultiThreadStopReason<u64>>, TimelineError> {
        let tid = target.current();
        Ok(Some(MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGINT }))
    }
}

impl Debugger<'_> {
    /// Makes the next move. `None` if the debugger has interrupted it.
    fn go(&mut self) -> Result<Option<Went>, TimelineError> {
        let went = {
            let _watch = self.inbox.watch(self.subject.stop_handle());
            self.subject.go(self.going, &self.stops)
        };
        match went {
            Err(TimelineError::Interrupted) => {
                let went = self.subject.settle(&self.stops)?;
                if went.is_some() {
                    self.inbox.forget_interrupt();
                }
                Ok(went)
            }
            went => went.map(Some),
        }
    }

    /// Where the program came to, in gdb's words.
    fn reason(&self, came: &Came) -> MultiThreadStopReason<u64> {
        let tid = self.current();
        let with = |signal| MultiThreadStopReason::SignalWithThread { tid, signal };
        match came {
            // gdb asks for nothing else when it is told where a step ended.
            Came::Stop(Stop::Arrived) => with(Signal::SIGTRAP),
            Came::Stop(Stop::Breakpoint(_)) => MultiThreadStopReason::SwBreak(tid),
            Came::Stop(stop @ (Stop::Written(addresses) | Stop::Accessed(addresses))) => {
                MultiThreadStopReason::Watch { tid, kind: self.kind_of(stop), addr: addresses.start }
            }
            Came::Stop(stop @ (Stop::Called(number) | Stop::Returned(number))) => {
                let position = match stop {
                    Stop::Called(_) => CatchSyscallPosition::Entry,
                    _ => CatchSyscallPosition::Return,
                };
                MultiThreadStopReason::CatchSyscall { tid: Some(tid), number: *number, position }
            }
            Came::Stop(Stop::End) => {
                MultiThreadStopReason::ReplayLog { tid: Some(tid), pos: ReplayLogPosition::End }
            }
            Came::Stop(Stop::Start) => {
                MultiThreadStopReason::ReplayLog { tid: Some(tid), pos: ReplayLogPosition::Begin }
            }
            Came::Signal(signal) | Came::Stop(Stop::Signal(signal)) => with(signals::of_linux(*signal)),
            Came::Ended(End::Signalled(signal)) => {
                MultiThreadStopReason::Terminated(signals::of_linux(*signal))
            }
            Came::Ended(end) => MultiThreadStopReason::Exited(end.code().unwrap_or(u8::MAX)),
            Came::Stuck => with(NO_SIGNAL),
        }
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
}
