//! The ways that all moves are made of: runs and steps of the machine, from here or from a checkpoint.

use std::ops::Range;
use std::time::{Duration, Instant};

use dejavm_sandbox::exit::Exit;
use dejavm_sandbox::program::machine::Halt;

use super::place::{Hop, Place};
use super::runner::{Ran, Reach, Runner};
use super::{Position, Stop, Stops, Timeline, TimelineError};

/// Exits that are replayed before it is looked whether a checkpoint is due.
const STRIDE: u64 = 64;

/// Steps that are made before it is looked whether a checkpoint is due, and that lie between a position and
/// the checkpoint near it: some hundredths of a second.
pub(super) const STEPS: u64 = 1000;

/// How long tasks may go on behind the last exit of a recording that says that they are stuck then.
const SETTLING: Duration = Duration::from_secs(10);

/// How a part of a way ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Behind an exit.
    Exit,
    /// Where the instruction at this address, which has a breakpoint, is about to run.
    Breakpoint(u64),
    /// Behind the step that changed or used what is watched, or the exit that changed it; or where a system call or a
    /// signal stops it.
    Watched(Stop),
    /// Behind the steps that were to be made.
    Stepped,
    /// Behind the branches that were to be made.
    Branched,
    /// Before the write that was to be gone to.
    Trapped,
    /// The run goes no farther. The place is where this part began, but the machine is not.
    Ended,
}

/// What is told of memory that an instruction changed, or used.
fn watched(addresses: Range<u64>, changed: bool) -> Stop {
    if changed { Stop::Written(addresses) } else { Stop::Accessed(addresses) }
}

impl Timeline {
    /// Whether this is right behind an exit, before the way back into the program.
    pub(super) fn is_behind_exit(&self) -> bool {
        self.place.position().is_some_and(|position| position == Position::behind(position.exit))
    }

    /// Whether an instruction with a breakpoint is about to run, which stops it.
    pub(super) fn stands_at(&mut self, stops: &Stops) -> Result<bool, TimelineError> {
        self.runner.stands_at(stops)
    }

    pub(super) fn no_such_position(&self, wanted: Position) -> TimelineError {
        TimelineError::NoSuchPosition { wanted: wanted.into(), start: self.start(), end: self.place.base }
    }

    /// Goes to a place, from here or from a checkpoint.
    pub(super) fn go(&mut self, place: &Place) -> Result<(), TimelineError> {
        let base = place.base;
        if !self.spoilt && self.place == *place {
            return Ok(());
        }
        let hops = match self.go_to_kept(place)? {
            Some(rest) => rest,
            None => {
                self.go_to_position(base)?;
                place.hops.clone()
            }
        };
        self.hop(base, &hops)?;
        // However it was come here; but what was given by steps alone may be known by branches now.
        if !self.is_long() || self.place.position().is_none() || place.position().is_none() {
            self.place = place.clone();
        }
        Ok(())
    }

    fn go_to_position(&mut self, base: Position) -> Result<(), TimelineError> {
        let Some((at, checkpoint)) = self.checkpoints.at(base) else {
            return Err(self.no_such_position(base));
        };
        let on_the_way = self.place.position().filter(|here| !self.spoilt && (at..=base).contains(here));
        if on_the_way.is_none() {
            self.runner = Runner::start(
                checkpoint,
                at,
                &self.recording,
                &self.host,
                &self.options.machine,
                &self.stop,
            )?;
            (self.place, self.spoilt) = (at.into(), false);
            self.checkpointed = Instant::now();
        }
        let none = Stops::default();
        if self.place.base.exit < base.exit {
            let came = self.next(base.exit, &none, None)?;
            if came != Came::Exit || self.place.base.exit != base.exit {
                return Err(self.no_such_position(base));
            }
        }
        if base.branches > 0 {
            self.note_long(base.exit);
        }
        self.go_to_branch(base)?;
        let mut steps = base.steps - self.place.base.steps;
        if steps > 2 * STEPS {
            self.step_exactly(steps - STEPS)?;
            steps = STEPS;
            self.checkpoint()?;
        }
        self.step_exactly(steps)
    }

    /// Goes on from a position, or from where it was come to from there.
    fn hop(&mut self, base: Position, hops: &[Hop]) -> Result<(), TimelineError> {
        for hop in hops {
            let stops = hop.stops();
            let mut left = hop.count();
            while left > 0 {
                let traps = self.traps;
                left -= match hop {
                    Hop::Steps(steps) => {
                        self.step_exactly(*steps)?;
                        *steps
                    }
                    Hop::Reach { .. } => match self.next(base.exit + 1, &stops, None)? {
                        Came::Breakpoint(_) => 1,
                        _ => return Err(self.no_such_position(base)),
                    },
                    Hop::Trap { .. } => match self.next(base.exit + 1, &stops, Some(left))? {
                        Came::Trapped | Came::Watched(_) => self.traps - traps,
                        _ => return Err(self.no_such_position(base)),
                    },
                };
            }
        }
        Ok(())
    }

    /// Runs to the next stop, or behind this exit, or, within the exit that this is at, to before the `trap`th
    /// write from here to a page of what is watched.
    pub(super) fn next(
        &mut self,
        exit: u64,
        stops: &Stops,
        trap: Option<u64>,
    ) -> Result<Came, TimelineError> {
        self.next_before(exit, u64::MAX, stops, trap)
    }

    /// The same; in a long stretch also up to behind so many branches since its exit.
    pub(super) fn next_before(
        &mut self,
        exit: u64,
        branches: u64,
        stops: &Stops,
        trap: Option<u64>,
    ) -> Result<Came, TimelineError> {
        let before = self.traps;
        if !self.is_behind_exit() && self.stands_at(stops)? {
            // What one stands at does not stop the run.
            match self.steps(1, stops, trap)? {
                Came::Stepped => {}
                other => return Ok(other),
            }
        }
        self.runner.want(stops)?;
        let began = Instant::now();
        loop {
            let exits = self.place.base.exit;
            // A program that makes no exit any more would run for ever, unless it comes to where it is stuck.
            let last = self.last.filter(|_| !self.ends_stuck);
            if last.is_some_and(|last| exits >= last && exit > last) {
                return Ok(Came::Ended);
            }
            let exit = last.map_or(exit, |last| exit.min(last));
            // Branches are counted in a long stretch alone.
            let most = if self.is_long() { 1 } else { STRIDE };
            let stride = exit.min(exits.saturating_add(most));
            let stride = self.next_long(exits).map_or(stride, |long| stride.min(long));
            if stride <= exits {
                return Ok(Came::Exit);
            }
            let trap = trap.map(|trap| trap - (self.traps - before));
            let mut reach = self.reach(branches, Reach { exit: Some(stride), trap, ..Reach::default() })?;
            if self.last.is_some_and(|last| exits >= last) {
                // The recording says that it comes there, and may say anything.
                let Some(left) = SETTLING.checked_sub(began.elapsed()) else { return Ok(Came::Branched) };
                reach.patience = Some(left);
            }
            let met = self.traps;
            let ran = self.run_machine(reach);
            let now = self.runner.exits();
            let known = match ran {
                Ok(Ran::Exit | Ran::Halted(_)) | Err(TimelineError::Interrupted) => now != exits,
                Ok(Ran::Ended) | Err(_) => false,
            };
            if known {
                self.place = Position::behind(now).into();
            }
            match ran? {
                Ran::Exit => self.checkpoint_if_due()?,
                Ran::Halted(Halt::Branched) => {
                    self.branched();
                    self.checkpoint_if_due()?;
                    if self.place.base.branches >= branches {
                        return Ok(Came::Branched);
                    }
                }
                Ran::Halted(Halt::Quiet) if self.last.is_some_and(|last| now >= last) => {
                    return Ok(Came::Branched);
                }
                Ran::Halted(Halt::Quiet) => {
                    self.note_long(now);
                    self.spoilt = true;
                    let place = self.place.clone();
                    self.go(&place)?;
                    // What was met in the stretch is met again, and the way back to it counts for nobody.
                    self.traps = met;
                    self.runner.want(stops)?;
                }
                Ran::Halted(Halt::Signal(signal)) => {
                    if now != exits && self.is_of_exit(now)? {
                        self.checkpoint_if_due()?;
                        if stops.signals.contains(&signal) {
                            return Ok(Came::Watched(Stop::Signal(signal)));
                        }
                    }
                }
                Ran::Halted(halt) => {
                    let came = self.halted(halt, stops);
                    self.keep_if_far()?;
                    return Ok(came);
                }
                Ran::Ended => return Ok(Came::Ended),
            }
        }
    }

    /// The signal that stops a run that comes here.
    pub(super) fn signal_here(&mut self, stops: &Stops) -> Result<Option<u32>, TimelineError> {
        if stops.signals.is_empty() || !self.is_behind_exit() || !self.is_of_exit(self.place.base.exit)? {
            return Ok(None);
        }
        let signal = self.runner.next_signal(stops.process);
        Ok(signal.filter(|signal| stops.signals.contains(signal)))
    }

    /// Whether the machine is right behind this exit, the last one, and its task runs. Where another one runs on, which
    /// makes none of its own first, there is no position.
    fn is_of_exit(&self, exit: u64) -> Result<bool, TimelineError> {
        let is_its = |recorded: Exit| recorded.task == self.seen().0;
        Ok(self.runner.is_behind_exit() && self.recorded_exit(exit)?.is_some_and(is_its))
    }

    /// The machine came to a stop, not by single steps.
    fn halted(&mut self, halt: Halt, stops: &Stops) -> Came {
        let rip = self.rip();
        match halt {
            Halt::Entry => {
                self.place.step(1);
                Came::Breakpoint(rip)
            }
            Halt::WrittenByExit(addresses) => {
                self.place.step(1);
                Came::Watched(Stop::Written(addresses))
            }
            Halt::Watched { addresses, changed } => {
                self.place.write(stops, self.runner.traps());
                Came::Watched(watched(addresses, changed))
            }
            Halt::Trap => {
                self.place.trap(stops, self.runner.traps());
                Came::Trapped
            }
            Halt::Breakpoint(_)
            | Halt::Stepped
            | Halt::Branched
            | Halt::Quiet
            | Halt::Signal(_)
            | Halt::Called(_)
            | Halt::Returned(_) => {
                self.place.reach(stops, rip);
                Came::Breakpoint(rip)
            }
        }
    }

    /// One step. A stop at its end is told of.
    pub(super) fn step_over(&mut self, stops: &Stops) -> Result<Came, TimelineError> {
        self.steps(1, stops, None)
    }

    /// Makes steps that are there to be made.
    pub(super) fn step_exactly(&mut self, steps: u64) -> Result<(), TimelineError> {
        let wanted = self.place.base;
        match self.steps(steps, &Stops::default(), None)? {
            Came::Stepped => Ok(()),
            _ => {
                self.spoilt = true;
                Err(self.no_such_position(Position { steps: wanted.steps.saturating_add(steps), ..wanted }))
            }
        }
    }

    /// Makes steps, up to a stop or behind the next exit, or to before the `trap`th write from here to a page of
    /// what is watched.
    pub(super) fn steps(
        &mut self,
        mut steps: u64,
        stops: &Stops,
        trap: Option<u64>,
    ) -> Result<Came, TimelineError> {
        let exits = self.place.base.exit;
        if steps > 0 && self.is_behind_exit() {
            self.runner.want(&Stops::default())?;
            match self.run_machine(Reach { entry: true, ..Reach::default() })? {
                Ran::Halted(_) => self.place.step(1),
                Ran::Exit => {
                    self.place = Position::behind(self.runner.exits()).into();
                    return Ok(Came::Exit);
                }
                Ran::Ended => return Ok(Came::Ended),
            }
            steps -= 1;
            if self.stands_at(stops)? {
                return Ok(Came::Breakpoint(self.rip()));
            }
        }
        if steps == 0 {
            return Ok(Came::Stepped);
        }
        self.runner.want(stops)?;
        self.runner.count(self.is_long());
        let (before, branches) = (self.runner.steps(), self.runner.branches().0);
        let ran = self.run_machine(Reach { steps: Some(steps), trap, ..Reach::default() })?;
        if self.runner.exits() == exits {
            match self.is_long() && self.runner.branches().0 != branches {
                true => self.branched(),
                false => self.place.step(self.runner.steps() - before),
            }
        } else if ran != Ran::Ended {
            self.place = Position::behind(self.runner.exits()).into();
        }
        Ok(match ran {
            Ran::Exit => Came::Exit,
            Ran::Halted(Halt::Breakpoint(address)) => Came::Breakpoint(address),
            Ran::Halted(Halt::WrittenByExit(addresses)) => Came::Watched(Stop::Written(addresses)),
            Ran::Halted(Halt::Watched { addresses, changed }) => Came::Watched(watched(addresses, changed)),
            Ran::Halted(Halt::Trap) => Came::Trapped,
            Ran::Halted(Halt::Signal(signal)) if self.runner.exits() != exits => {
                match stops.signals.contains(&signal) && self.is_of_exit(self.runner.exits())? {
                    true => Came::Watched(Stop::Signal(signal)),
                    false => Came::Exit,
                }
            }
            Ran::Halted(
                Halt::Stepped
                | Halt::Branched
                | Halt::Quiet
                | Halt::Entry
                | Halt::Signal(_)
                | Halt::Called(_)
                | Halt::Returned(_),
            ) => Came::Stepped,
            Ran::Ended => Came::Ended,
        })
    }

    pub(super) fn run_machine(&mut self, reach: Reach) -> Result<Ran, TimelineError> {
        let mut ran = self.runner.run(reach);
        let interrupted = matches!(ran, Err(TimelineError::Interrupted));
        if (ran.is_ok() || interrupted) && self.last.is_some_and(|last| self.runner.exits() > last) {
            ran = Ok(Ran::Ended);
        }
        self.traps += self.runner.traps();
        // It has gone on, who knows where.
        self.spoilt |= matches!(ran, Ok(Ran::Ended) | Err(_));
        ran
    }

    /// Takes a checkpoint if the last one is long ago.
    pub(super) fn checkpoint_if_due(&mut self) -> Result<(), TimelineError> {
        match self.checkpointed.elapsed() >= self.options.every {
            true => self.checkpoint(),
            false => Ok(()),
        }
    }

    /// Takes a checkpoint here, where one will come back to, if it would take long.
    pub(super) fn checkpoint_if_far(&mut self) -> Result<(), TimelineError> {
        match self.checkpointed.elapsed() >= self.options.every / 20 {
            true => self.checkpoint(),
            false => Ok(()),
        }
    }

    /// Takes a checkpoint here, and gives the position, which may be counted for that.
    pub(crate) fn keep_here(&mut self) -> Result<Position, TimelineError> {
        let position = self.position()?;
        self.checkpoint()?;
        Ok(position)
    }

    /// Whether this is between the start and the first exit. What the outside was asked by then, such as whether a
    /// file is the snapshot's, belongs to that exit in the log, and a machine that goes on from here would not ask
    /// it again.
    pub(super) fn is_before_first_exit(&self) -> bool {
        self.place.base.exit == self.start().exit && self.place != Place::from(self.start())
    }

    /// Takes a checkpoint here, if the position is known.
    fn checkpoint(&mut self) -> Result<(), TimelineError> {
        if let Some(position) = self.place.position()
            && !self.spoilt
            && !self.is_before_first_exit()
            && self.checkpoints.at(position).is_none_or(|(at, _)| at != position)
        {
            let checkpoint = self.runner.machine_mut().checkpoint()?;
            let since = self.runner.written_since(position, self.is_long())?;
            self.checkpoints.add(position, checkpoint, since);
        }
        self.checkpointed = Instant::now();
        Ok(())
    }
}
