//! A recording, as a debugger sees it. What is recorded cannot be changed: what a debugger sets, and calls, happens in
//! a copy of the program, until the recording is moved in again.

use std::time::Duration;

use dejavm_sandbox::guest::Machine;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::vcpu::registers::UserRegisters;

use super::arch::Registers;
use super::subject::{Came, Going, Move, Subject, Went};
use crate::looking;
use crate::timeline::{Mark, Moment, Scratch, ScratchStop, Sources, Stop, Stops, Timeline, TimelineError};

/// What stopped a copy that cannot go on, as far as the debugger is told: `SIGABRT`.
const GONE: u32 = 6;

/// Where the next move goes, whatever it is.
#[derive(Clone, Debug)]
pub(super) enum Goto {
    Moment(Moment),
    Mark(Mark),
}

/// A recording that is moved in.
pub(super) struct Recorded {
    pub timeline: Timeline,
    pub goto: Option<Goto>,
    pub mark: Option<Mark>,
    /// Moves stop at nothing else that the debugger wants to be told of. It has breakpoints of its own, at which
    /// nothing is to be looked for.
    pub only_watchpoints: bool,
    /// What the debugger changed here, and where it calls.
    copy: Option<Scratch>,
    /// Where it was told of a signal last: behind this exit, with these registers.
    told: Option<(u64, UserRegisters)>,
}

/// What there is to say of the end of a run that came to none.
const STUCK: &str = "here the recorded program is stuck: each of its threads waits for what can never come\n";

/// How long a program may run on before an interrupt is to find it where it is.
const PATIENCE: Duration = Duration::from_millis(100);

impl Recorded {
    /// A recording, at the position at which the timeline is.
    pub fn new(mut timeline: Timeline) -> Recorded {
        timeline.limit_patience(PATIENCE);
        Recorded { timeline, goto: None, mark: None, only_watchpoints: false, copy: None, told: None }
    }

    /// Gives up what was changed here.
    pub fn drop_copy(&mut self) {
        self.copy = None;
    }

    /// Whether the next move is one of the copy: its task is not where the recorded one is. If not, there is no
    /// copy any more.
    fn moves_copy(&mut self, movement: Move) -> Result<bool, TimelineError> {
        let Some(copy) = &mut self.copy else { return Ok(false) };
        let recorded = looking::current_task(self.timeline.machine());
        let mut unmoved = looking::current_task(copy.machine()) == recorded;
        if unmoved {
            let registers = |(regs, fp)| Registers::of(&regs, &fp);
            let copied = looking::task(copy.machine_mut(), recorded)?;
            unmoved = copied.map(registers) == self.timeline.task(recorded)?.map(registers);
        }
        let forwards = matches!(movement, Move::Run | Move::Step);
        if unmoved || !forwards || self.goto.is_some() {
            self.copy = None;
        }
        Ok(self.copy.is_some())
    }

    /// Lets the copy go on, with what it has written.
    fn go_in_copy(&mut self, movement: Move, stops: &Stops) -> Went {
        let Some(copy) = &mut self.copy else { return Came::ARRIVED.into() };
        let stop = copy.run(&stops.breakpoints, movement == Move::Step);
        let mut said = String::from_utf8_lossy(&copy.take_output()).into_owned();
        let came = match stop {
            ScratchStop::Breakpoint => Came::Stop(Stop::Breakpoint(copy.machine().registers().general.rip)),
            ScratchStop::Stepped => Came::ARRIVED,
            ScratchStop::Gone(why) => {
                self.copy = None;
                said.push_str(&format!("what was called is given up: {why}\n"));
                Came::Signal(GONE)
            }
        };
        Went { came, said }
    }

    fn go_in_timeline(&mut self, movement: Move, stops: &Stops) -> Result<Came, TimelineError> {
        let watchpoints;
        let stops = match self.only_watchpoints {
            false => stops,
            true => {
                let Stops { process, writes, accesses, .. } = stops.clone();
                watchpoints = Stops { process, writes, accesses, ..Stops::default() };
                &watchpoints
            }
        };
        let stop = match (self.goto.take(), movement) {
            (Some(Goto::Moment(moment)), _) => self.timeline.seek(moment).map(|()| Stop::Arrived)?,
            (Some(Goto::Mark(mark)), _) => self.timeline.return_to(&mark).map(|()| Stop::Arrived)?,
            (None, Move::Run) => self.timeline.run(stops)?,
            (None, Move::Step) => self.timeline.step()?,
            (None, Move::ReverseRun) => self.timeline.reverse_run(stops)?,
            (None, Move::ReverseStep) => self.timeline.reverse_step()?,
        };
        let here = Some((self.timeline.exit(), self.timeline.registers()));
        let signal = match stop {
            Stop::Signal(signal) => Some(signal),
            // A debugger that goes on behind each signal would go on here for ever.
            Stop::End if self.told != here => {
                let fatal = self.timeline.fatal_signal()?.map(u32::from);
                fatal.filter(|signal| stops.signals.contains(signal))
            }
            _ => None,
        };
        self.told = here.filter(|_| signal.is_some());
        Ok(signal.map_or(Came::Stop(stop), Came::Signal))
    }
}

impl Subject for Recorded {
    fn machine(&self) -> &Machine {
        self.copy.as_ref().map_or(self.timeline.machine(), Scratch::machine)
    }

    fn machine_mut(&mut self) -> &mut Machine {
        match &mut self.copy {
            Some(copy) => copy.machine_mut(),
            None => self.timeline.machine_mut(),
        }
    }

    fn to_change(&mut self) -> Result<Option<&mut Machine>, TimelineError> {
        if self.copy.is_none() {
            self.copy = self.timeline.scratch()?;
        }
        Ok(self.copy.as_mut().map(Scratch::machine_mut))
    }

    fn sources(&self) -> Sources<'_> {
        self.timeline.sources()
    }

    fn stop_handle(&self) -> StopHandle {
        self.timeline.stop_handle()
    }

    fn go(&mut self, going: Going, stops: &Stops) -> Result<Went, TimelineError> {
        if self.moves_copy(going.movement)? {
            return Ok(self.go_in_copy(going.movement, stops));
        }
        match self.go_in_timeline(going.movement, stops) {
            Err(e @ TimelineError::NoSuchPosition { .. }) => {
                Ok(Went { came: Came::ARRIVED, said: format!("{e}\n") })
            }
            came => {
                let came = came?;
                let stuck = came == Came::Stop(Stop::End) && self.timeline.ends_stuck();
                let said = if stuck { STUCK } else { "" };
                Ok(Went { came, said: said.into() })
            }
        }
    }

    fn settle(&mut self, _stops: &Stops) -> Result<Option<Went>, TimelineError> {
        self.timeline.settle().map(|()| None)
    }

    fn recorded(&mut self) -> Option<&mut Recorded> {
        Some(self)
    }
}
