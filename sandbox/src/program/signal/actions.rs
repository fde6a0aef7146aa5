//! What processes do about signals.

use serde::{Deserialize, Serialize};

use super::number::{MAX, SIGCHLD, SIGCONT, SIGKILL, SIGURG, SIGWINCH};
use super::{Info, Pending, STOPS, TaskSignals, bit};
use crate::machine::{BadState, expect};

/// `SIG_DFL`.
pub(super) const DEFAULT: u64 = 0;
/// `SIG_IGN`.
pub(super) const IGNORE: u64 = 1;

/// `SA_*` flags (`include/uapi/asm-generic/signal-defs.h`).
pub mod flags {
    /// Of children that stop or go on there is no signal.
    pub const NOCLDSTOP: u64 = 1;
    /// Children that end leave nothing to wait for.
    pub const NOCLDWAIT: u64 = 2;
    /// The handler runs on the alternate stack.
    pub const ONSTACK: u64 = 0x0800_0000;
    /// Interrupted calls are made again.
    pub const RESTART: u64 = 0x1000_0000;
    /// The signal is not blocked while its handler runs.
    pub const NODEFER: u64 = 0x4000_0000;
    /// The action goes back to the default when the handler is entered.
    pub const RESETHAND: u64 = 0x8000_0000;
    /// `sa_restorer` is set.
    pub const RESTORER: u64 = 0x0400_0000;
}

/// `struct sigaction` of the kernel's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Handler's address, or `SIG_DFL` (0), or `SIG_IGN` (1).
    pub handler: u64,
    /// [`flags`].
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Signals blocked while it runs.
    pub mask: u64,
}

impl Action {
    /// Whether the signal was asked to be ignored.
    pub fn is_ignored(&self) -> bool {
        self.handler == IGNORE
    }
}

/// What a process does about each signal: shared by tasks that were made so (`CLONE_SIGHAND`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Actions(Vec<Action>);

impl Default for Actions {
    fn default() -> Self {
        Actions(vec![Action::default(); MAX as usize])
    }
}

/// Whether a process with these actions is told of no child's end, and none waits for it.
pub fn ignores_children(actions: &Actions) -> bool {
    let action = actions.action(SIGCHLD);
    action.handler == IGNORE || action.flags & flags::NOCLDWAIT != 0
}

/// What a signal does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// The program ends.
    Terminate,
    /// Nothing.
    Ignore,
    /// The process stops.
    Stop,
}

/// What a signal does when nothing else was asked for (signal(7)).
pub fn default_action(signal: u32) -> DefaultAction {
    match signal {
        SIGCHLD | SIGCONT | SIGURG | SIGWINCH => DefaultAction::Ignore,
        signal if STOPS & bit(signal) != 0 => DefaultAction::Stop,
        _ => DefaultAction::Terminate,
    }
}

impl Actions {
    /// The action of a signal (1 to 64).
    pub fn action(&self, signal: u32) -> Action {
        self.0.get(signal as usize - 1).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, signal: u32, action: Action) {
        if let Some(slot) = self.0.get_mut(signal as usize - 1) {
            *slot = action;
        }
    }

    /// For `execve`: handlers are gone, what was ignored stays ignored.
    pub fn reset_handlers(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == IGNORE { IGNORE } else { DEFAULT };
            *action = Action { handler, ..Action::default() };
        }
    }

    /// Whether nothing is done about a signal.
    pub fn is_ignored(&self, signal: u32) -> bool {
        match self.action(signal).handler {
            IGNORE => true,
            DEFAULT => default_action(signal) == DefaultAction::Ignore,
            _ => false,
        }
    }

    /// Whether a signal does what it does by default.
    pub fn is_default(&self, signal: u32) -> bool {
        self.action(signal).handler == DEFAULT
    }

    /// Whether a signal lets the program go on as if it had not come, at once or after a stop.
    pub(super) fn is_unnoticed(&self, signal: u32) -> bool {
        self.is_ignored(signal) || self.is_default(signal) && default_action(signal) == DefaultAction::Stop
    }

    /// Signals that end a process when they come to a task with this mask: bits.
    pub fn fatal(&self, mask: u64) -> u64 {
        let ends = |signal: &u32| {
            let default = self.action(*signal).handler == DEFAULT;
            default && default_action(*signal) == DefaultAction::Terminate
        };
        let ends = (1..=MAX).filter(ends).fold(0, |bits, signal| bits | bit(signal));
        ends & !mask | bit(SIGKILL)
    }

    /// The signals that are ignored, and those that have handlers: bits.
    pub fn handled_bits(&self) -> (u64, u64) {
        let with = |wanted: fn(u64) -> bool| {
            let actions = self.0.iter().enumerate();
            actions.filter(|(_, a)| wanted(a.handler)).fold(0, |bits, (i, _)| bits | 1 << i)
        };
        (with(|handler| handler == IGNORE), with(|handler| handler > IGNORE))
    }

    /// The next signal that may be delivered to a task, its own before its process's
    /// (`dequeue_signal`, `kernel/signal.c`): whether it is the task's, and its place.
    pub(super) fn next(
        &self,
        own: &TaskSignals,
        shared: &Pending,
        ignored_too: bool,
    ) -> Option<(bool, usize)> {
        let may_come =
            |info: &Info| !own.blocks(info.signal) && (ignored_too || !self.is_unnoticed(info.signal));
        let of_task = own.pending.next(may_come).map(|at| (true, at));
        of_task.or_else(|| shared.next(may_come).map(|at| (false, at)))
    }

    /// Whether a signal waits to be delivered to a task that does something: what is ignored ends no wait.
    pub fn any_deliverable(&self, own: &TaskSignals, shared: &Pending) -> bool {
        self.next(own, shared, false).is_some()
    }

    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        expect(self.0.len() == MAX as usize, "the signal actions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_out_of_a_file_is_checked() {
        assert!(Actions::default().check().is_ok() && Actions(Vec::new()).check().is_err());
    }
}
