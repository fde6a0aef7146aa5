//! Moving in a recording: to any moment of the run, forwards and backwards.
//!
//! A run is replayed forwards only. To go back is to go on from an earlier checkpoint, and those are taken on
//! the way, as memory allows. Between two exits nothing enters the machine, so that whoever comes to a
//! position finds the same registers and memory there.

mod checkpoints;
mod digest;
mod error;
mod place;
mod position;
mod runner;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dejavm_sandbox::exit::{Exit, ExitKind};
use dejavm_sandbox::guest::{self, Checkpoint, Machine};
use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::{MachineOptions, Memory};
use dejavm_sandbox::program::machine::Halt;
use dejavm_sandbox::vcpu::registers::{ExtendedState, UserRegisters};

pub use error::TimelineError;
pub use position::{BadPosition, Position};

use crate::manifest::RunEnd;
use crate::reader::Recording;
use checkpoints::Checkpoints;
use place::{Hop, Place};
use runner::{Ran, Reach, Runner};

/// Exits that are replayed before it is looked whether a checkpoint is due.
const STRIDE: u64 = 64;

/// Steps that are made before it is looked whether a checkpoint is due, and that lie between a position and
/// the checkpoint near it: some hundredths of a second.
const STEPS: u64 = 1000;

/// Bytes of `syscall`.
const SYSCALL_BYTES: u64 = 2;

/// How a timeline is replayed.
#[derive(Clone, Debug)]
pub struct TimelineOptions {
    /// How machines are made.
    pub machine: MachineOptions,
    /// Time of replaying between two checkpoints.
    pub every: Duration,
    /// Bytes that checkpoints may take, about.
    pub budget: u64,
}

impl Default for TimelineOptions {
    /// A checkpoint each 100 ms, and 1 GiB for all of them.
    fn default() -> TimelineOptions {
        TimelineOptions {
            machine: MachineOptions { prefetch: true, ..MachineOptions::default() },
            every: Duration::from_millis(100),
            budget: 1 << 30,
        }
    }
}

/// What moves stop at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// Addresses of instructions in the process that the recording started with.
    pub breakpoints: BTreeSet<u64>,
    /// Memory of that process: where it changes.
    pub writes: Vec<Range<u64>>,
}

impl Stops {
    /// Breakpoints alone.
    pub fn at(breakpoints: impl IntoIterator<Item = u64>) -> Stops {
        Stops { breakpoints: breakpoints.into_iter().collect(), writes: Vec::new() }
    }

    /// Whether there is nothing to stop at.
    pub fn is_empty(&self) -> bool {
        self.breakpoints.is_empty() && self.writes.is_empty()
    }
}

/// Why a move came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is where it was to go.
    Arrived,
    /// The instruction at this address is about to run, and there is a breakpoint on it.
    Breakpoint(u64),
    /// What is watched at these addresses was changed: forwards, by the instruction or the exit before; backwards,
    /// by the one that comes next.
    Written(Range<u64>),
    /// This is the last moment of the recording at which the program is there.
    End,
    /// This is the first moment of the recording.
    Start,
}

/// How a part of a way ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Came {
    /// Behind an exit.
    Exit,
    /// Where the instruction at this address, which has a breakpoint, is about to run.
    Breakpoint(u64),
    /// Behind the step, or the exit, that changed what is watched.
    Written(Range<u64>),
    /// Behind the steps that were to be made.
    Stepped,
    /// Before the write that was to be gone to.
    Trapped,
    /// The run goes no farther. The place is where this part began, but the machine is not.
    Ended,
}

/// A recording that one moves in. It is at one position at a time, between two instructions of the program.
pub struct Timeline {
    recording: Recording,
    host: Arc<HostProfile>,
    options: TimelineOptions,
    stop: StopHandle,
    checkpoints: Checkpoints,
    runner: Runner,
    place: Place,
    /// The machine is not where `place` says.
    spoilt: bool,
    /// When the last checkpoint was taken, or gone back to.
    checkpointed: Instant,
    /// The last place at which the program is there.
    end: Option<Place>,
    /// Writes to pages of what is watched, so far.
    traps: u64,
}

impl Timeline {
    /// Opens a recording, at its first moment. `stop` interrupts moves.
    ///
    /// # Errors
    /// When the recording's start snapshot is damaged or another one, or there is no machine to be had.
    pub fn open(
        recording: Recording,
        host: Arc<HostProfile>,
        options: TimelineOptions,
        stop: StopHandle,
    ) -> Result<Timeline, TimelineError> {
        let path = recording.snapshot_path();
        let (mut state, snapshot) = guest::open(&path)?;
        if snapshot.id() != recording.manifest().snapshot.id {
            return Err(TimelineError::WrongSnapshot { path });
        }
        state.begin_anew(&recording.manifest().anew);
        let start = Position::behind(state.exits());
        let checkpoint = Checkpoint { state, memory: Memory::Snapshot(snapshot) };
        let runner = Runner::start(&checkpoint, start, &recording, &host, &options.machine, &stop)?;
        Ok(Timeline {
            checkpoints: Checkpoints::new(start, checkpoint, options.budget),
            place: start.into(),
            spoilt: false,
            checkpointed: Instant::now(),
            end: None,
            traps: 0,
            recording,
            host,
            options,
            stop,
            runner,
        })
    }

    /// The recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The machine, as it is at this position.
    pub fn machine(&self) -> &Machine {
        self.runner.machine()
    }

    /// The machine, to look at: what changes it spoils the position.
    pub fn machine_mut(&mut self) -> &mut Machine {
        self.runner.machine_mut()
    }

    /// The running task's general registers and segment bases.
    pub fn registers(&self) -> UserRegisters {
        self.machine().registers()
    }

    /// Reads memory of the running task, by its addresses.
    ///
    /// # Errors
    /// [`TimelineError::Memory`] names the first address that could not be read; what is before it in `out`
    /// was.
    pub fn read_memory(&self, address: u64, out: &mut [u8]) -> Result<(), TimelineError> {
        Ok(self.machine().read_memory(address, out)?)
    }

    /// What stops moves: they fail with [`TimelineError::Interrupted`] as soon as its deadline has passed.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// After a move that failed: goes to the position at which the timeline is then.
    ///
    /// # Errors
    /// Those of moving.
    pub fn settle(&mut self) -> Result<(), TimelineError> {
        let place = self.place.clone();
        self.go(&place)
    }

    /// The tasks of the process that runs, by thread number.
    pub fn tasks(&self) -> Vec<u32> {
        self.machine().program().map_or(Vec::new(), |program| program.kernel.tasks_of(program.kernel.pid()))
    }

    /// The registers of a task: general ones and segment bases, and the vector state.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn task(&mut self, tid: u32) -> Result<Option<(UserRegisters, ExtendedState)>, TimelineError> {
        let Some(program) = self.runner.machine_mut().program_mut() else { return Ok(None) };
        let tasks = program.tasks()?;
        let found = tasks.of(tid).map(|task| {
            let fp = task.fp.as_ref().map_or_else(ExtendedState::initial, |fp| (**fp).clone());
            (task.regs, fp)
        });
        Ok(found)
    }

    /// The running program's auxiliary vector, as in `/proc/PID/auxv`.
    pub fn auxv(&self) -> Vec<u8> {
        let Some(program) = self.machine().program() else { return Vec::new() };
        let image = &program.kernel.space.state.image;
        image.auxv.iter().flat_map(|(key, value)| [key.to_le_bytes(), value.to_le_bytes()].concat()).collect()
    }

    /// The path of the running program's file.
    pub fn executable(&self) -> Option<Vec<u8>> {
        self.machine().program().map(|program| program.kernel.space.state.image.exe.to_vec())
    }

    /// The signal that ends the recorded run, if this is the last moment of one that a signal ends.
    ///
    /// # Errors
    /// Those of moving.
    pub fn fatal_signal(&mut self) -> Result<Option<u8>, TimelineError> {
        let signal = match self.recording.end() {
            Some(RunEnd::Ended { status }) => (status & 0x7f) as u8,
            _ => 0,
        };
        Ok((signal != 0 && self.end_place()? == self.place).then_some(signal))
    }

    fn rip(&self) -> u64 {
        self.registers().general.rip
    }

    /// Compared exits before this position. Costs nothing, where [`Timeline::position`] may have to count
    /// steps.
    pub fn exit(&self) -> u64 {
        self.place.base.exit
    }

    /// How many checkpoints there are, and the bytes that they take, about.
    pub fn checkpoints(&self) -> (usize, u64) {
        (self.checkpoints.count(), self.checkpoints.bytes())
    }

    /// The first position.
    pub fn start(&self) -> Position {
        self.checkpoints.start()
    }

    /// Whether this is the first position.
    pub fn is_at_start(&self) -> bool {
        self.place == Place::from(self.start())
    }

    /// The position. Where the program ran to a breakpoint at full speed, steps from the last exit on are
    /// counted now: they cost some 40 microseconds each, once.
    ///
    /// # Errors
    /// Those of moving.
    pub fn position(&mut self) -> Result<Position, TimelineError> {
        if let Some(position) = self.place.position() {
            return Ok(position);
        }
        let Place { base, hops } = self.place.clone();
        self.go(&base.into())?;
        for hop in hops {
            let mut left = hop.count();
            let stops = hop.stops();
            while left > 0 {
                let traps = self.traps;
                let trap = matches!(hop, Hop::Trap { .. }).then_some(left);
                let steps = if matches!(hop, Hop::Steps(_)) { 1 } else { STEPS };
                let came = self.steps(steps, &stops, trap)?;
                self.checkpoint_if_due()?;
                left -= match (&hop, came) {
                    (Hop::Reach { .. }, Came::Breakpoint(_)) | (Hop::Steps(_), Came::Stepped) => 1,
                    (Hop::Trap { .. }, Came::Trapped | Came::Stepped | Came::Written(_)) => {
                        self.traps - traps
                    }
                    (Hop::Reach { .. }, Came::Stepped) => 0,
                    _ => return Err(self.no_such_position(self.place.base)),
                };
            }
        }
        Ok(self.place.base)
    }

    /// Goes to a position.
    ///
    /// # Errors
    /// [`TimelineError::NoSuchPosition`] where the recording has none such; the position is then what it was.
    pub fn seek(&mut self, position: Position) -> Result<(), TimelineError> {
        let before = self.place.clone();
        match self.go(&position.into()) {
            Err(TimelineError::NoSuchPosition { .. }) => {
                self.go(&before)?;
                let end = self.end_place()?.base;
                Err(TimelineError::NoSuchPosition { wanted: position, start: self.start(), end })
            }
            other => other,
        }
    }

    /// Goes to the last moment at which the program is there: behind the last exit but the end, where a signal
    /// ended it, or before the system call that did.
    ///
    /// # Errors
    /// Those of moving.
    pub fn seek_end(&mut self) -> Result<(), TimelineError> {
        let end = self.end_place()?;
        self.go(&end)
    }

    fn end_place(&mut self) -> Result<Place, TimelineError> {
        if let Some(end) = &self.end {
            return Ok(end.clone());
        }
        let here = self.place.clone();
        let start = self.start().exit;
        let last = self.recording.exit_range().map_or(start, |(_, last)| last);
        let ended = self.recorded_exit(last)?.is_some_and(|exit| matches!(exit.kind, ExitKind::End { .. }));
        // The exit before the end leaves the program there, or it does not.
        let exit = last - u64::from(ended && last > start);
        let end = match self.go(&Position::behind(exit).into()) {
            Ok(()) => self.place.clone(),
            Err(TimelineError::NoSuchPosition { .. }) if exit > start => self.place_before(exit)?,
            Err(e) => return Err(e),
        };
        self.end = Some(end.clone());
        self.go(&here)?;
        Ok(end)
    }

    /// Runs on until a breakpoint is reached.
    ///
    /// # Errors
    /// Those of moving. After [`TimelineError::Interrupted`] the timeline is behind the last exit.
    pub fn run(&mut self, stops: &Stops) -> Result<Stop, TimelineError> {
        match self.next(u64::MAX, stops, None)? {
            Came::Breakpoint(address) => Ok(Stop::Breakpoint(address)),
            Came::Written(addresses) => Ok(Stop::Written(addresses)),
            _ => {
                self.seek_end()?;
                Ok(Stop::End)
            }
        }
    }

    /// One step forwards: to before the next instruction.
    ///
    /// # Errors
    /// Those of moving.
    pub fn step(&mut self) -> Result<Stop, TimelineError> {
        let before = self.seen();
        let fresh = self.is_behind_exit();
        let mut came = self.step_over(&Stops::default())?;
        if fresh && came == Came::Stepped && self.seen() == before {
            // The way back into the program changed nothing.
            came = self.step_over(&Stops::default())?;
        }
        if came == Came::Ended {
            self.seek_end()?;
            return Ok(Stop::End);
        }
        Ok(Stop::Arrived)
    }

    /// One step back: to before the last instruction, or, behind an exit, to before what caused it.
    ///
    /// # Errors
    /// Those of moving.
    pub fn reverse_step(&mut self) -> Result<Stop, TimelineError> {
        if self.is_at_start() {
            return Ok(Stop::Start);
        }
        let before = self.seen();
        let here = match self.place.hops.last() {
            // Its count is no matter.
            Some(Hop::Steps(_)) => None,
            _ => Some(self.position()?),
        };
        let place = match here {
            None => self.place.one_step_less(),
            Some(Position { exit, steps: 0 }) => self.place_before(exit)?,
            Some(Position { exit, steps }) => Position { exit, steps: steps - 1 }.into(),
        };
        self.go(&place)?;
        if self.is_behind_exit() && self.seen() == before && !self.is_at_start() {
            let place = self.place_before(self.place.base.exit)?;
            self.go(&place)?;
        }
        Ok(Stop::Arrived)
    }

    /// Runs back until a breakpoint is reached: to the last time before now that its instruction was about to
    /// run.
    ///
    /// # Errors
    /// Those of moving. After one the position is what it was.
    pub fn reverse_run(&mut self, stops: &Stops) -> Result<Stop, TimelineError> {
        let of_others =
            |hop: &Hop| matches!(hop, Hop::Trap { addresses, .. } if **addresses != *stops.writes);
        if self.place.hops.iter().any(of_others) {
            // Its writes cannot be counted while others are watched.
            self.position()?;
        }
        let here = self.place.clone();
        let mut until = here.clone();
        loop {
            let from = match until.hops.is_empty() {
                true => self.checkpoints.before(until.base),
                false => self.checkpoints.at(until.base).map(|(at, _)| at),
            };
            let Some(from) = from else {
                self.go(&self.start().into())?;
                return Ok(Stop::Start);
            };
            match self.last_reached(from, &until, stops) {
                Ok(Some((place, stop))) => {
                    let place = match stop {
                        Stop::Written(_) => self.before_write(&place)?,
                        _ => place,
                    };
                    self.go(&place)?;
                    return Ok(stop);
                }
                Ok(None) => until = from.into(),
                Err(e) => {
                    (self.place, self.spoilt) = (here, true);
                    return Err(e);
                }
            }
        }
    }

    /// The last time from a checkpoint on, and before `until`, that a breakpoint was reached.
    fn last_reached(
        &mut self,
        from: Position,
        until: &Place,
        stops: &Stops,
    ) -> Result<Option<(Place, Stop)>, TimelineError> {
        let mut last = None;
        self.go(&from.into())?;
        if stops.breakpoints.contains(&self.rip()) && !self.is_behind_exit() {
            last = Some((self.place.clone(), Stop::Breakpoint(self.rip())));
        }
        while self.place.base.exit < until.base.exit {
            match self.next(until.base.exit, stops, None)? {
                Came::Breakpoint(address) => last = Some((self.place.clone(), Stop::Breakpoint(address))),
                Came::Written(addresses) => last = Some((self.place.clone(), Stop::Written(addresses))),
                Came::Exit => {
                    // What the exit wrote is there already.
                    if let Some(addresses) = self.runner.changed() {
                        let place = Position { steps: 1, ..self.place.base }.into();
                        last = Some((place, Stop::Written(addresses)));
                    }
                }
                Came::Stepped | Came::Trapped | Came::Ended => {
                    return Err(self.no_such_position(until.base));
                }
            }
        }
        let steps = until.base.steps.saturating_sub(self.place.base.steps);
        let hops = [Hop::Steps(steps)].into_iter().chain(until.hops.iter().cloned());
        for hop in hops {
            self.look_along(&hop, until, stops, &mut last)?;
        }
        Ok(last)
    }

    /// Goes along a hop to a place, and notes what it meets of stops before that place.
    fn look_along(
        &mut self,
        hop: &Hop,
        until: &Place,
        stops: &Stops,
        last: &mut Option<(Place, Stop)>,
    ) -> Result<(), TimelineError> {
        let mut all = stops.clone();
        if let Hop::Reach { address, .. } = hop {
            all.breakpoints.insert(*address);
        }
        let mut left = hop.count();
        while left > 0 {
            let traps = self.traps;
            let came = match hop {
                Hop::Steps(_) => self.step_over(&all)?,
                Hop::Reach { .. } => self.next(until.base.exit + 1, &all, None)?,
                Hop::Trap { .. } => self.next(until.base.exit + 1, &all, Some(left))?,
            };
            left -= match (hop, &came) {
                (Hop::Steps(_), Came::Stepped | Came::Breakpoint(_) | Came::Written(_)) => 1,
                (Hop::Reach { address, .. }, Came::Breakpoint(at)) => u64::from(at == address),
                (Hop::Reach { .. }, Came::Written(_)) => 0,
                (Hop::Trap { .. }, Came::Trapped | Came::Breakpoint(_) | Came::Written(_)) => {
                    self.traps - traps
                }
                _ => return Err(self.no_such_position(until.base)),
            };
            self.note(came, until, stops, last);
        }
        Ok(())
    }

    fn note(&self, came: Came, until: &Place, stops: &Stops, last: &mut Option<(Place, Stop)>) {
        if self.place == *until {
            return;
        }
        match came {
            Came::Written(addresses) => *last = Some((self.place.clone(), Stop::Written(addresses))),
            _ if stops.breakpoints.contains(&self.rip()) => {
                *last = Some((self.place.clone(), Stop::Breakpoint(self.rip())));
            }
            _ => {}
        }
    }

    /// Where the program is before what made an exit.
    fn place_before(&mut self, exit: u64) -> Result<Place, TimelineError> {
        let from = Position::behind(exit - 1);
        let recorded = self.recorded_exit(exit)?;
        let address = match recorded.as_ref().map(|recorded| (&recorded.kind, recorded.rip)) {
            Some((ExitKind::Syscall { .. }, rip)) => Some(rip.wrapping_sub(SYSCALL_BYTES)),
            Some((ExitKind::Instruction(_) | ExitKind::Exception { .. }, rip)) => Some(rip),
            _ => None,
        };
        self.go(&from.into())?;
        let Some(address) = address else { return self.last_step_before(exit) };
        // At full speed: the last time that the instruction there was about to run.
        let stops = Stops::at([address]);
        let mut last = Place::from(from);
        loop {
            match self.next(exit, &stops, None)? {
                Came::Breakpoint(_) => last = self.place.clone(),
                Came::Exit | Came::Ended => return Ok(last),
                Came::Stepped | Came::Trapped | Came::Written(_) => {}
            }
        }
    }

    /// Where the program is before what changed something that is watched, which is known behind that.
    fn before_write(&mut self, place: &Place) -> Result<Place, TimelineError> {
        match place.hops.last() {
            Some(Hop::Steps(_)) => Ok(place.one_step_less()),
            Some(_) => Ok(place.clone()),
            None if place.base.steps > 1 => Ok(Position { steps: place.base.steps - 1, ..place.base }.into()),
            None => self.place_before(place.base.exit),
        }
    }

    /// The last step before an exit, from behind the one before.
    fn last_step_before(&mut self, exit: u64) -> Result<Place, TimelineError> {
        loop {
            let before = self.place.clone();
            self.checkpoint_if_due()?;
            if self.step_over(&Stops::default())? != Came::Stepped || self.place.base.exit >= exit {
                return Ok(before);
            }
        }
    }

    fn recorded_exit(&self, exit: u64) -> Result<Option<Exit>, TimelineError> {
        Ok(self.recording.exits_from(exit).next().transpose()?.filter(|found| found.number == exit))
    }

    /// What tells two moments of a program apart for whoever looks at one task.
    fn seen(&self) -> (u32, UserRegisters) {
        let task = self.machine().program().map_or(0, |program| program.kernel.tid());
        (task, self.registers())
    }
}

/// The ways that all moves are made of.
impl Timeline {
    /// Whether this is right behind an exit, before the way back into the program.
    fn is_behind_exit(&self) -> bool {
        self.place.position().is_some_and(|position| position.steps == 0)
    }

    fn no_such_position(&self, wanted: Position) -> TimelineError {
        TimelineError::NoSuchPosition { wanted, start: self.start(), end: self.place.base }
    }

    /// Goes to a place, from here or from a checkpoint.
    fn go(&mut self, place: &Place) -> Result<(), TimelineError> {
        let base = place.base;
        if !self.spoilt && self.place == *place {
            return Ok(());
        }
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
        let steps = base.steps - self.place.base.steps;
        if steps > 2 * STEPS {
            self.step_exactly(steps - STEPS)?;
            self.checkpoint()?;
        }
        self.step_exactly(base.steps - self.place.base.steps)?;
        for hop in &place.hops {
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
                        Came::Trapped | Came::Written(_) => self.traps - traps,
                        _ => return Err(self.no_such_position(base)),
                    },
                };
            }
        }
        // However it was come here.
        self.place = place.clone();
        Ok(())
    }

    /// Runs to the next stop, or behind this exit, or, within the exit that this is at, to before the `trap`th
    /// write from here to a page of what is watched.
    fn next(&mut self, exit: u64, stops: &Stops, trap: Option<u64>) -> Result<Came, TimelineError> {
        let before = self.traps;
        if !self.is_behind_exit() && stops.breakpoints.contains(&self.rip()) {
            // What one stands at does not stop the run.
            match self.steps(1, stops, trap)? {
                Came::Stepped => {}
                other => return Ok(other),
            }
        }
        self.runner.want(stops)?;
        loop {
            let exits = self.place.base.exit;
            let stride = exit.min(exits.saturating_add(STRIDE));
            if stride <= exits {
                return Ok(Came::Exit);
            }
            let trap = trap.map(|trap| trap - (self.traps - before));
            let ran = self.run_machine(Reach { exit: Some(stride), trap, ..Reach::default() })?;
            let now = self.runner.exits();
            if ran != Ran::Ended && now != exits {
                self.place = Position::behind(now).into();
            }
            match ran {
                Ran::Exit => self.checkpoint_if_due()?,
                Ran::Halted(halt) => return Ok(self.halted(halt, stops)),
                Ran::Ended => return Ok(Came::Ended),
            }
        }
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
                Came::Written(addresses)
            }
            Halt::Written(addresses) => {
                self.place.write(&stops.writes, self.runner.traps());
                Came::Written(addresses)
            }
            Halt::Trap => {
                self.place.trap(&stops.writes, self.runner.traps());
                Came::Trapped
            }
            Halt::Breakpoint(_) | Halt::Stepped => {
                self.place.reach(rip);
                Came::Breakpoint(rip)
            }
        }
    }

    /// One step. A stop at its end is told of.
    fn step_over(&mut self, stops: &Stops) -> Result<Came, TimelineError> {
        self.steps(1, stops, None)
    }

    /// Makes steps that are there to be made.
    fn step_exactly(&mut self, steps: u64) -> Result<(), TimelineError> {
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
    fn steps(&mut self, mut steps: u64, stops: &Stops, trap: Option<u64>) -> Result<Came, TimelineError> {
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
            if stops.breakpoints.contains(&self.rip()) {
                return Ok(Came::Breakpoint(self.rip()));
            }
        }
        if steps == 0 {
            return Ok(Came::Stepped);
        }
        self.runner.want(stops)?;
        let before = self.runner.steps();
        let ran = self.run_machine(Reach { steps: Some(steps), trap, ..Reach::default() })?;
        if self.runner.exits() == exits {
            self.place.step(self.runner.steps() - before);
        } else if ran != Ran::Ended {
            self.place = Position::behind(self.runner.exits()).into();
        }
        Ok(match ran {
            Ran::Exit => Came::Exit,
            Ran::Halted(Halt::Breakpoint(address)) => Came::Breakpoint(address),
            Ran::Halted(Halt::Written(addresses) | Halt::WrittenByExit(addresses)) => {
                Came::Written(addresses)
            }
            Ran::Halted(Halt::Trap) => Came::Trapped,
            Ran::Halted(Halt::Stepped | Halt::Entry) => Came::Stepped,
            Ran::Ended => Came::Ended,
        })
    }

    fn run_machine(&mut self, reach: Reach) -> Result<Ran, TimelineError> {
        let ran = self.runner.run(reach);
        self.traps += self.runner.traps();
        // It has gone on, who knows where.
        self.spoilt |= matches!(ran, Ok(Ran::Ended) | Err(_));
        ran
    }

    /// Takes a checkpoint if the last one is long ago.
    fn checkpoint_if_due(&mut self) -> Result<(), TimelineError> {
        match self.checkpointed.elapsed() >= self.options.every {
            true => self.checkpoint(),
            false => Ok(()),
        }
    }

    /// Takes a checkpoint here, if the position is known.
    fn checkpoint(&mut self) -> Result<(), TimelineError> {
        if let Some(position) = self.place.position()
            && !self.spoilt
            && self.checkpoints.at(position).is_none_or(|(at, _)| at != position)
        {
            let checkpoint = self.runner.machine_mut().checkpoint()?;
            self.checkpoints.add(position, checkpoint);
        }
        self.checkpointed = Instant::now();
        Ok(())
    }
}

impl std::fmt::Debug for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timeline")
            .field("recording", &self.recording)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
