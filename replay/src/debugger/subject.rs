//! What a debugger is served of: a recording, or a program that runs.

use dejavm_sandbox::guest::Machine;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::End;

use super::recorded::Recorded;
use crate::timeline::{Sources, Stop, Stops, TimelineError};

/// A direction, and how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Move {
    #[default]
    Run,
    Step,
    /// The reverse ones are of recordings only.
    ReverseRun,
    ReverseStep,
}

/// How the program is to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Going {
    pub movement: Move,
    /// The task that is to make the step, and gets the signal; 0 for the one that runs.
    pub task: u32,
    /// The signal that is to be delivered, by Linux's number.
    pub signal: Option<u32>,
}

/// Where a move came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// To a stop, or an end of a recording.
    Stop(Stop),
    /// To where this signal is delivered, by Linux's number, or to where the program has died of it.
    Signal(u32),
    /// To the program's end: there is no machine to look at any more.
    Ended(End),
    /// To where nothing goes on.
    Stuck,
}

impl Came {
    /// To where it was to go.
    pub const ARRIVED: Came = Came::Stop(Stop::Arrived);
}

/// A move that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Went {
    pub came: Came,
    /// What there is to say of it on the debugger's console.
    pub said: String,
}

impl From<Came> for Went {
    fn from(came: Came) -> Went {
        Went { came, said: String::new() }
    }
}

/// A program that is debugged.
pub(super) trait Subject {
    /// The machine that is looked at.
    fn machine(&self) -> &Machine;

    /// The same, to ask what it tells only so. Nothing of the program is changed in it.
    fn machine_mut(&mut self) -> &mut Machine;

    /// The machine in which the program's registers and memory are changed. `None` where there can be none.
    fn to_change(&mut self) -> Result<Option<&mut Machine>, TimelineError>;

    /// What the program's files are read from.
    fn sources(&self) -> Sources<'_>;

    /// What ends a move early.
    fn stop_handle(&self) -> StopHandle;

    /// Makes a move.
    ///
    /// # Errors
    /// [`TimelineError::Interrupted`]: [`Subject::settle`] comes before anything else then.
    fn go(&mut self, going: Going, stops: &Stops) -> Result<Went, TimelineError>;

    /// After a move that was interrupted: goes to where the program can be looked at. It may come to a stop on the
    /// way there.
    fn settle(&mut self, stops: &Stops) -> Result<Option<Went>, TimelineError>;

    /// What only a recording has: moves backwards, and positions.
    fn recorded(&mut self) -> Option<&mut Recorded>;
}
