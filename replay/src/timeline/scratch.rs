//! A copy of the program at one moment, to be changed and thrown away: the timeline never learns of it.

use std::collections::BTreeSet;

use dejavm_sandbox::guest::{Checkpoint, Machine};
use dejavm_sandbox::machine::{MachineOptions, PauseAt, RunEnd, RunOptions};
use dejavm_sandbox::program::fs::Fs;
use dejavm_sandbox::program::machine::Halt;

use super::apart::{Apart, Done};
use super::files::{Held, Lacks};
use super::{Timeline, TimelineError};
use crate::looking::current_task;

/// Why a copy stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScratchStop {
    /// Before an instruction with a breakpoint.
    Breakpoint,
    /// Behind a step.
    Stepped,
    /// It cannot go on, for this reason.
    Gone(String),
}

/// A copy of the program.
pub(crate) struct Scratch {
    machine: Machine,
    done: Done,
}

impl Timeline {
    /// A copy of the program as it is here. `None` where, right behind an exit, a signal is about to be delivered or
    /// another task to run.
    pub(crate) fn scratch(&mut self) -> Result<Option<Scratch>, TimelineError> {
        let Checkpoint { state, memory } = self.machine_mut().checkpoint()?;
        let (held, done) = (Held::new(self.recording.clone(), Lacks::default())?, Done::default());
        let mounts = |fs: &Fs, ()| fs.mounts().to_vec();
        let mounts = self.machine().program().map(|program| program.kernel.outside.look(mounts, ()));
        let world = Box::new(Apart { held, mounts: mounts.unwrap_or_default(), done: done.clone() });
        let options = MachineOptions { prefetch: false, evict: None, ..self.options.machine.clone() };
        let mut machine =
            Machine::start(state, memory, world, self.host.clone(), self.stop.clone(), &options)?;
        if self.is_behind_exit() {
            if !enter(&mut machine) || (current_task(&machine), machine.registers()) != self.seen() {
                return Ok(None);
            }
        } else if let Some(program) = machine.program_mut() {
            // It is on its way.
            program.set_steps(self.runner.steps());
        }
        Ok(Some(Scratch { machine, done }))
    }
}

/// Lets a machine go from behind an exit to before the next instruction; whether there is one.
fn enter(machine: &mut Machine) -> bool {
    let pause = PauseAt::Exit(machine.core().exits + 1);
    let Some(program) = machine.program_mut() else { return false };
    program.debug.entry = true;
    let ran = machine.run(RunOptions { pause, observer: None });
    let Some(program) = machine.program_mut() else { return false };
    program.debug.entry = false;
    matches!((ran, &program.debug.halt), (Ok(RunEnd::Paused), Some(Halt::Entry)))
}

impl Scratch {
    /// Its machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its machine, to change.
    pub fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// What it has written since this was asked last.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.done.take_output()
    }

    /// Goes on, by a step or up to a breakpoint.
    pub fn run(&mut self, breakpoints: &BTreeSet<u64>, step: bool) -> ScratchStop {
        let exits = self.machine.core().exits;
        let Some(program) = self.machine.program_mut() else {
            return ScratchStop::Gone("it is no program".into());
        };
        program.debug.breakpoints.clone_from(breakpoints);
        program.debug.steps = step.then(|| program.steps().saturating_add(1));
        let pause = PauseAt::Exit(if step { exits + 1 } else { u64::MAX });
        let why = match self.machine.run(RunOptions { pause, observer: None }) {
            Ok(RunEnd::Paused) => None,
            Ok(RunEnd::Stopped | RunEnd::Deadline) => Some("it was interrupted".into()),
            Ok(RunEnd::Ended(_) | RunEnd::Stuck) => Some("the program has ended there".into()),
            Err(e) => Some(match self.done.lacked() {
                Some(what) => format!("the recording lacks what it asks for ({what})"),
                None => e.to_string(),
            }),
        };
        if let Some(why) = why {
            return ScratchStop::Gone(why);
        }
        match self.machine.program().and_then(|program| program.debug.halt.as_ref()) {
            Some(Halt::Breakpoint(_) | Halt::Entry) => ScratchStop::Breakpoint,
            _ => ScratchStop::Stepped,
        }
    }
}
