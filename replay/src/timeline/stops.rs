//! What moves stop at, and why they end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use dejavm_sandbox::guest::Machine;
use dejavm_sandbox::program::machine::{AccessWatch, Calls};
use dejavm_sandbox::program::patch::Condition;
use dejavm_sandbox::program::process::PROGRAM_PID;

use super::TimelineError;

/// What moves stop at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stops {
    /// The process that all of it is in, by its number; by default the one that the recording starts with.
    pub process: u32,
    /// Addresses of instructions.
    pub breakpoints: BTreeSet<u64>,
    /// What must hold at those that stop only then: one of these. Breakpoints that are not named here, or with no
    /// condition, stop always.
    pub conditions: BTreeMap<u64, Vec<Condition>>,
    /// Memory: where it changes.
    pub writes: Vec<Range<u64>>,
    /// Memory: where an instruction uses it. What system calls read or write is none of it.
    pub accesses: Vec<AccessWatch>,
    /// System calls: where they are about to be made, unless others ran meanwhile because they waited, and where
    /// they have come back.
    pub calls: Calls,
    /// Signals, by Linux's numbers: where one is about to be delivered to the task that made the exit before it.
    pub signals: BTreeSet<u32>,
}

impl Default for Stops {
    fn default() -> Stops {
        Stops {
            process: PROGRAM_PID,
            breakpoints: BTreeSet::new(),
            conditions: BTreeMap::new(),
            writes: Vec::new(),
            accesses: Vec::new(),
            calls: Calls::None,
            signals: BTreeSet::new(),
        }
    }
}

impl Stops {
    /// Breakpoints alone.
    pub fn at(breakpoints: impl IntoIterator<Item = u64>) -> Stops {
        Stops { breakpoints: breakpoints.into_iter().collect(), ..Stops::default() }
    }

    /// What must hold at an address to stop there: one of these, or nothing.
    pub(super) fn conditions_at(&self, address: u64) -> &[Condition] {
        self.conditions.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Stops at one more instruction, when one of these conditions holds, or always if there is none. What it stops
    /// at already, it still does.
    pub(super) fn add(&mut self, address: u64, conditions: &[Condition]) {
        let is_new = self.breakpoints.insert(address);
        let always = conditions.is_empty() || !is_new && self.conditions_at(address).is_empty();
        if is_new || always {
            self.conditions.remove(&address);
        }
        if always {
            return;
        }
        let all = self.conditions.entry(address).or_default();
        for condition in conditions {
            if !all.contains(condition) {
                all.push(condition.clone());
            }
        }
    }

    /// Has a machine stop at this, and at nothing else, from now on. What is watched is looked at now.
    pub(crate) fn put(&self, machine: &mut Machine) -> Result<(), TimelineError> {
        match machine.program_mut() {
            Some(program) => {
                if program.debug.process != self.process {
                    program.watch_accesses(&[])?;
                    program.watch(&[])?;
                    program.debug.process = self.process;
                }
                if program.debug.breakpoints != self.breakpoints {
                    program.debug.breakpoints.clone_from(&self.breakpoints);
                }
                if program.debug.conditions != self.conditions {
                    program.debug.conditions.clone_from(&self.conditions);
                }
                program.watch_accesses(&self.accesses)?;
                Ok(program.watch(&self.writes)?)
            }
            None if self.is_empty() => Ok(()),
            None => Err(TimelineError::BareMetal),
        }
    }

    /// Whether an instruction that is stopped at is about to run in a machine, and the conditions hold for that.
    pub(crate) fn are_met(&self, machine: &mut Machine) -> Result<bool, TimelineError> {
        let rip = machine.registers().general.rip;
        match machine.program_mut() {
            Some(program) if program.kernel.pid() == self.process && self.breakpoints.contains(&rip) => {
                Ok(program.holds(self.conditions_at(rip))?)
            }
            _ => Ok(false),
        }
    }

    /// Whether there is nothing to stop at.
    pub fn is_empty(&self) -> bool {
        self.breakpoints.is_empty()
            && self.writes.is_empty()
            && self.accesses.is_empty()
            && self.calls == Calls::None
            && self.signals.is_empty()
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
    /// What is watched at these addresses was used, as it was asked for, and not changed: forwards, by the
    /// instruction before; backwards, by the one that comes next.
    Accessed(Range<u64>),
    /// The system call of this number is about to be made.
    Called(u64),
    /// The system call of this number has come back.
    Returned(u64),
    /// This signal is about to be delivered, and ends the program or enters its handler.
    Signal(u32),
    /// This is the last moment of the recording at which the program is there.
    End,
    /// This is the first moment of the recording.
    Start,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breakpoints_of_several_stop_when_one_of_them_does() {
        // `const8 N; end`.
        let condition = |n| Condition::new(&[0x22, n, 0x27]).unwrap();
        let mut stops = Stops::at([1]);
        stops.add(1, &[condition(0)]);
        assert_eq!(stops, Stops::at([1]));
        stops.add(2, &[condition(0)]);
        stops.add(2, &[condition(1), condition(0)]);
        assert_eq!(stops.conditions_at(2), [condition(0), condition(1)]);
        stops.add(2, &[]);
        assert_eq!(stops, Stops::at([1, 2]));
        stops.conditions.insert(3, vec![condition(0)]);
        stops.add(3, &[condition(1)]);
        assert_eq!(stops.conditions_at(3), [condition(1)], "there was no breakpoint");
    }
}
