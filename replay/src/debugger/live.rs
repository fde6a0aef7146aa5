//! A program that runs, as a debugger sees it: it goes forwards only, and is changed itself.

use std::time::{Duration, Instant};

use dejavm_sandbox::exit::Observer;
use dejavm_sandbox::guest::Machine;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::{PauseAt, RunEnd, RunOptions};
use dejavm_sandbox::program::machine::{Calls, Halt};
use dejavm_sandbox::vcpu::registers::UserRegisters;

use super::recorded::Recorded;
use super::subject::{Came, Going, Move, Subject, Went};
use crate::looking;
use crate::timeline::{Sources, Stop, Stops, TimelineError};

/// How long an interrupted program may take to come to its next instruction, before it is looked whether it waits.
const SETTLING: Duration = Duration::from_millis(100);

/// How often that is done. It takes once, but where the host is busy.
const SETTLINGS: u32 = 20;

/// A program that runs.
pub(super) struct Live<'a> {
    machine: &'a mut Machine,
    observer: Option<&'a mut (dyn Observer + 'a)>,
    stop: StopHandle,
    /// Its next instruction is known: signals are delivered, and it is known which task runs.
    at_instruction: bool,
    /// The debugger was told of the signal that is delivered next.
    told: bool,
    /// It is behind a system call of which the debugger was told.
    returned: bool,
}

/// How far the machine runs, but for what stops it.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    /// Before the first instruction behind an exit.
    entry: bool,
    /// Before the next instruction, wherever it is.
    soon: bool,
    /// An instruction, or behind the exit that it makes.
    step: bool,
    /// To system calls that stop it.
    calls: bool,
}

impl<'a> Live<'a> {
    /// A program before its next instruction.
    ///
    /// # Errors
    /// When the run fails.
    pub fn new(
        machine: &'a mut Machine,
        observer: Option<&'a mut (dyn Observer + 'a)>,
        stop: StopHandle,
    ) -> Result<Live<'a>, TimelineError> {
        let mut live = Live { machine, observer, stop, at_instruction: false, told: false, returned: false };
        live.machine.program_mut().ok_or(TimelineError::BareMetal)?.debug.signals = true;
        live.enter(&Stops::default())?;
        Ok(live)
    }

    /// Runs the machine. `None` where it is behind the exit that a step made.
    fn run(&mut self, reach: Reach, stops: &Stops) -> Result<Option<Came>, TimelineError> {
        let exits = self.machine.core().exits;
        let program = self.machine.program_mut().ok_or(TimelineError::BareMetal)?;
        program.debug.entry = reach.entry;
        program.debug.soon = reach.soon;
        program.debug.steps = reach.step.then(|| program.steps().saturating_add(1));
        program.debug.trap = None;
        program.debug.calls = if reach.calls { stops.calls.clone() } else { Calls::None };
        (self.at_instruction, self.told) = (false, false);
        let pause = if reach.step { PauseAt::Exit(exits + 1) } else { PauseAt::Never };
        let observer = self.observer.as_deref_mut().map(|observer| observer as &mut dyn Observer);
        match self.machine.run(RunOptions { pause, observer })? {
            RunEnd::Paused => {}
            RunEnd::Ended(end) => return Ok(Some(Came::Ended(end))),
            RunEnd::Stuck => return Ok(Some(Came::Stuck)),
            RunEnd::Stopped | RunEnd::Deadline => return Err(TimelineError::Interrupted),
        }
        let halt = self.machine.program().and_then(|program| program.debug.halt.clone());
        self.returned = matches!(halt, Some(Halt::Returned(_)));
        self.at_instruction = !self.returned && !matches!(halt, None | Some(Halt::Signal(_)));
        Ok(Some(match halt {
            None => return Ok(None),
            Some(Halt::Signal(signal)) => self.signal(signal),
            Some(Halt::Called(number)) => Came::Stop(Stop::Called(number)),
            Some(Halt::Returned(number)) => Came::Stop(Stop::Returned(number)),
            Some(Halt::Breakpoint(address)) => Came::Stop(Stop::Breakpoint(address)),
            Some(Halt::Watched { addresses, changed: false }) => Came::Stop(Stop::Accessed(addresses)),
            Some(Halt::Watched { addresses, .. } | Halt::WrittenByExit(addresses)) => {
                Came::Stop(Stop::Written(addresses))
            }
            Some(Halt::Entry | Halt::Stepped | Halt::Branched | Halt::Quiet | Halt::Trap)
                if stops.are_met(self.machine)? =>
            {
                Came::Stop(Stop::Breakpoint(self.machine.registers().general.rip))
            }
            Some(Halt::Entry | Halt::Stepped | Halt::Branched | Halt::Quiet | Halt::Trap) => Came::ARRIVED,
        }))
    }

    fn signal(&mut self, signal: u32) -> Came {
        self.told = true;
        Came::Signal(signal)
    }

    /// Goes on to before an instruction, of whichever task: the one behind an exit, unless it is stopped before.
    fn enter(&mut self, stops: &Stops) -> Result<Came, TimelineError> {
        Ok(self.run(Reach { entry: true, ..Reach::default() }, stops)?.unwrap_or(Came::ARRIVED))
    }

    /// The signal that came with a system call of which the debugger was told, if it was not told of that, too.
    fn signal_behind_call(&mut self) -> Option<Came> {
        if !std::mem::take(&mut self.returned) {
            return None;
        }
        let signal = self.machine.program_mut()?.next_signal()?;
        Some(self.signal(signal))
    }

    /// A step of the running task, and on to before an instruction, of whichever task.
    fn step_once(&mut self, stops: &Stops, calls: bool) -> Result<Came, TimelineError> {
        if !self.at_instruction {
            let before = self.seen();
            let came = self.enter(stops)?;
            if came != Came::ARRIVED || self.seen() != before {
                return Ok(came);
            }
            // The way back into the program changed nothing.
        }
        if let Some(came) = self.run(Reach { step: true, calls, ..Reach::default() }, stops)? {
            return Ok(came);
        }
        match self.machine.program_mut().and_then(|program| program.next_signal()) {
            Some(signal) => Ok(self.signal(signal)),
            None => self.enter(stops),
        }
    }

    /// A step of a task. Others run meanwhile if they have to, and may come to a stop.
    fn step(&mut self, task: u32, stops: &Stops) -> Result<Came, TimelineError> {
        let is_there = |live: &Live<'_>| looking::tasks(live.machine).contains(&task);
        let runs = |live: &Live<'_>| looking::current_task(live.machine) == task;
        let mut stepped = false;
        loop {
            let came = match runs(self) {
                true if stepped => return Ok(Came::ARRIVED),
                true => {
                    stepped = true;
                    self.step_once(stops, false)?
                }
                false if is_there(self) => self.enter(stops)?,
                // It has ended, or there never was one.
                false if stepped => return Ok(Came::ARRIVED),
                false => return self.step_once(stops, false),
            };
            if came != Came::ARRIVED {
                return Ok(came);
            }
        }
    }

    /// Runs on until something stops it, which the breakpoint where it is does not.
    fn run_on(&mut self, stops: &Stops) -> Result<Came, TimelineError> {
        if self.at_instruction && stops.are_met(self.machine)? {
            let came = self.step_once(stops, true)?;
            if came != Came::ARRIVED {
                return Ok(came);
            }
        }
        Ok(self.run(Reach { calls: true, ..Reach::default() }, stops)?.unwrap_or(Came::ARRIVED))
    }

    /// Which task runs, with which registers.
    fn seen(&self) -> (u32, UserRegisters) {
        (looking::current_task(self.machine), self.machine.registers())
    }

    /// Has this signal delivered, in place of the one that the debugger was told of.
    fn pass(&mut self, signal: Option<u32>, task: u32) {
        let Some(program) = self.machine.program_mut() else { return };
        if self.told {
            if program.next_signal() == signal {
                return;
            }
            program.drop_signal();
        }
        if let Some(signal) = signal {
            program.send_signal(if task == 0 { program.kernel.tid() } else { task }, signal);
        }
    }
}

impl Subject for Live<'_> {
    fn machine(&self) -> &Machine {
        self.machine
    }

    fn machine_mut(&mut self) -> &mut Machine {
        self.machine
    }

    fn to_change(&mut self) -> Result<Option<&mut Machine>, TimelineError> {
        Ok(Some(self.machine))
    }

    fn sources(&self) -> Sources<'_> {
        Sources { machine: self.machine, home: None }
    }

    fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    fn go(&mut self, going: Going, stops: &Stops) -> Result<Went, TimelineError> {
        self.pass(going.signal, going.task);
        stops.put(self.machine)?;
        if let Some(came) = self.signal_behind_call() {
            return Ok(came.into());
        }
        let came = match going.movement {
            Move::Run => self.run_on(stops)?,
            Move::Step => self.step(going.task, stops)?,
            // Nobody was told that there are such.
            Move::ReverseRun | Move::ReverseStep => Came::ARRIVED,
        };
        let waits = match &came {
            Came::Stuck => self.machine.program().and_then(|program| program.waits_for.as_ref()),
            _ => None,
        };
        let said = waits.map(|what| format!("the program waits {what}, which can never come about\n"));
        Ok(Went { came, said: said.unwrap_or_default() })
    }

    fn settle(&mut self, stops: &Stops) -> Result<Option<Went>, TimelineError> {
        let left = self.stop.time_left();
        let mut came = None;
        for _ in 0..SETTLINGS {
            if self.machine.program().is_none_or(|program| program.is_waiting()) {
                break;
            }
            self.stop.set_deadline(Some(Instant::now() + SETTLING));
            match self.run(Reach { entry: true, soon: true, ..Reach::default() }, stops) {
                Err(TimelineError::Interrupted) => continue,
                Ok(found) => came = found,
                Err(e) => return Err(e),
            }
            break;
        }
        self.stop.set_deadline(left.and_then(|left| Instant::now().checked_add(left)));
        Ok(came.filter(|came| *came != Came::ARRIVED).map(Went::from))
    }

    fn recorded(&mut self) -> Option<&mut Recorded> {
        None
    }
}

impl Drop for Live<'_> {
    /// The program goes on as if there had been no debugger.
    fn drop(&mut self) {
        // What cannot be taken out of the machine stops it where nobody asks why.
        let _ = Stops::default().put(self.machine);
        if let Some(program) = self.machine.program_mut() {
            (program.debug.entry, program.debug.soon, program.debug.signals) = (false, false, false);
            program.debug.steps = None;
            program.debug.calls = Calls::None;
        }
    }
}
