//! Signals: what a program has asked for, what is pending, and the frame that a handler runs on.

mod actions;
mod floating;
mod frame;
pub mod number;
mod stack;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::machine::{BadState, expect};

pub use actions::{Action, Actions, DefaultAction, default_action, flags, ignores_children};
use actions::{DEFAULT, IGNORE};
pub use frame::{Context, FIXED_FLAGS, Left, kept_flags};
pub use number::name;
use number::{MAX, REAL_TIME, SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
pub use stack::AltStack;

/// `siginfo_t`, as far as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Signal number.
    pub signal: u32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr` of a fault, or `si_pid` and `si_uid` of a `kill`, or `si_tid` and `si_overrun` of a timer.
    pub value: u64,
    /// What follows: `si_value` of a queued signal or of a timer, or `si_status` of a child.
    pub extra: u64,
    /// It is for one task, not for any of its process.
    pub direct: bool,
    /// The exception that it is for.
    pub fault: Option<Trap>,
    /// The timer that sent it, one of the process's own.
    pub timer: Option<u32>,
}

/// Bytes of `siginfo_t`.
pub const INFO_BYTES: usize = 128;

impl Info {
    /// A signal that the kernel sends for no address.
    pub fn by_kernel(signal: u32) -> Info {
        Info { signal, code: SI_KERNEL, ..Info::default() }
    }

    /// `siginfo_t` (`include/uapi/asm-generic/siginfo.h`).
    pub fn to_bytes(&self) -> [u8; INFO_BYTES] {
        let mut bytes = [0u8; INFO_BYTES];
        bytes[0..4].copy_from_slice(&self.signal.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.code.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.value.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.extra.to_le_bytes());
        bytes
    }

    /// Whether it was sent to the thread, not to the whole process.
    pub fn is_private(&self) -> bool {
        self.fault.is_some() || self.direct
    }
}

/// An exception, as the context of a signal shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// The vector.
    pub vector: u8,
    /// The error code.
    pub error: u64,
    /// CR2 of a page fault.
    pub address: Option<u64>,
}

/// `SI_USER`.
pub const SI_USER: i32 = 0;
/// `SI_KERNEL`.
pub const SI_KERNEL: i32 = 0x80;
/// `SI_TKILL`.
pub const SI_TKILL: i32 = -6;
/// `SI_TIMER`.
pub const SI_TIMER: i32 = -2;

/// Signals that wait to be delivered to a task, or to any of a process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pending(Vec<Info>);

/// What a task has of signals.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TaskSignals {
    /// Blocked signals: bit `n - 1` for signal `n`.
    pub mask: u64,
    /// Pending signals to this task.
    pub pending: Pending,
    /// The alternate stack.
    pub alt: AltStack,
    /// The mask to go back to after the handler that ends a wait with a mask of its own.
    saved_mask: Option<u64>,
    /// What the contexts of signals show as the last exception: vector, error code, CR2.
    last_trap: (u8, u64, u64),
}

/// The signals of one task: its own, its process's, and what is done about them.
#[derive(Debug)]
pub struct Signals<'a> {
    /// What is done about each.
    pub actions: &'a mut Actions,
    /// Those of the process.
    pub shared: &'a mut Pending,
    /// The task's own.
    pub own: &'a mut TaskSignals,
}

/// A signal's bit in a mask.
pub fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// What is to be done about a pending signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing.
    Ignore(Info),
    /// Run the handler.
    Handle(Info, Action),
    /// End the program.
    Terminate(Info),
    /// Stop the process.
    Stop(Info),
}

impl Delivery {
    /// The signal.
    pub fn info(&self) -> &Info {
        match self {
            Delivery::Ignore(info)
            | Delivery::Handle(info, _)
            | Delivery::Terminate(info)
            | Delivery::Stop(info) => info,
        }
    }

    /// The signal, to change.
    pub fn info_mut(&mut self) -> &mut Info {
        match self {
            Delivery::Ignore(info)
            | Delivery::Handle(info, _)
            | Delivery::Terminate(info)
            | Delivery::Stop(info) => info,
        }
    }
}

/// The signals that stop a process by default: bits.
pub const STOPS: u64 = 1 << (SIGSTOP - 1) | 1 << (SIGTSTP - 1) | 1 << (SIGTTIN - 1) | 1 << (SIGTTOU - 1);
/// The signals that no mask holds back.
pub const UNBLOCKABLE: u64 = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1);
/// Signals that may wait at once in a sandbox, whatever `RLIMIT_SIGPENDING` says.
pub const QUEUED_MAX: u64 = 1 << 15;

/// Signals of exceptions, which come before others (`SYNCHRONOUS_MASK`, `kernel/signal.c`).
const SYNCHRONOUS: u64 = 1 << (number::SIGSEGV - 1)
    | 1 << (number::SIGBUS - 1)
    | 1 << (number::SIGILL - 1)
    | 1 << (number::SIGTRAP - 1)
    | 1 << (number::SIGFPE - 1)
    | 1 << (number::SIGSYS - 1);

impl Pending {
    /// All of them: bits.
    pub fn bits(&self) -> u64 {
        self.0.iter().fold(0, |bits, info| bits | bit(info.signal))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds a signal; a standard one is pending once at most (`legacy_queue`), real-time ones queue, in
    /// order, each timer's once.
    fn add(&mut self, info: Info) {
        let is_there = match info.timer {
            Some(timer) => self.0.iter().any(|pending| pending.timer == Some(timer)),
            None => info.signal < REAL_TIME && self.0.iter().any(|pending| pending.signal == info.signal),
        };
        if !is_there {
            self.0.push(info);
        }
    }

    /// The signal of a timer is not to come any more.
    pub fn forget_timer(&mut self, timer: Option<u32>) {
        self.0.retain(|info| info.timer.is_none() || timer.is_some() && info.timer != timer);
    }

    fn forget(&mut self, signal: u32) {
        self.forget_all(bit(signal));
    }

    /// Signals of this set are not to come any more.
    pub fn forget_all(&mut self, set: u64) {
        self.0.retain(|info| set & bit(info.signal) == 0);
    }

    /// The next signal that `may_come`, by its place: those of exceptions first, then the lowest number,
    /// the oldest of each (`next_signal`, `kernel/signal.c`).
    fn next(&self, may_come: impl Fn(&Info) -> bool) -> Option<usize> {
        let order = |info: &Info| (SYNCHRONOUS & bit(info.signal) == 0, info.signal);
        let candidates = self.0.iter().enumerate().filter(|(_, info)| may_come(info));
        candidates.min_by_key(|(at, info)| (order(info), *at)).map(|(at, _)| at)
    }

    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        let (mut seen, mut timers) = (BTreeSet::new(), BTreeSet::new());
        for Info { signal, code: _, value: _, extra: _, direct: _, fault: _, timer } in &self.0 {
            let known = (1..=MAX).contains(signal);
            let once = match timer {
                Some(timer) => timers.insert(*timer),
                None => known && (*signal >= REAL_TIME || seen.insert(*signal)),
            };
            expect(known && once, "a pending signal")?;
        }
        expect(self.0.len() as u64 <= 2 * QUEUED_MAX, "the pending signals")
    }
}

impl TaskSignals {
    fn blocks(&self, signal: u32) -> bool {
        self.mask & bit(signal) != 0 && UNBLOCKABLE & bit(signal) == 0
    }

    /// For `execve`, and for a task of another address space: no alternate stack.
    pub fn drop_alt(&mut self) {
        self.alt = AltStack::default();
    }

    /// Waits with another mask from here on; [`TaskSignals::end_wait`] or a handler's end goes back. A call
    /// that is made again waits on.
    pub fn begin_wait(&mut self, mask: u64) {
        self.saved_mask.get_or_insert(self.mask);
        self.mask = mask & !UNBLOCKABLE;
    }

    /// Goes back to the mask from before the wait, unless a handler's frame has it by now.
    pub fn end_wait(&mut self) {
        if let Some(mask) = self.saved_mask.take() {
            self.mask = mask;
        }
    }

    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        // A program may set the masks and the alternate stack to anything.
        let TaskSignals { mask: _, pending, alt: _, saved_mask: _, last_trap: _ } = self;
        pending.check()
    }
}

impl Signals<'_> {
    /// Sets the action of a signal (1 to 64).
    pub fn set_action(&mut self, signal: u32, action: Action) {
        self.actions.set(signal, action);
        if self.actions.is_ignored(signal) {
            self.own.pending.forget(signal);
            self.shared.forget(signal);
        }
    }

    /// Whether the task takes no such signal now.
    pub fn is_blocked(&self, signal: u32) -> bool {
        self.own.blocks(signal)
    }

    /// Whether the task would not take such a signal now, or not after the wait that it is in: it is kept
    /// even if it is ignored now (`sig_ignored`).
    pub fn keeps(&self, signal: u32) -> bool {
        self.is_blocked(signal) || self.own.saved_mask.unwrap_or(0) & bit(signal) != 0
    }

    /// Makes a signal pending, for the task or for its process, unless it is ignored: what is `blocked` by
    /// all who could take it waits to be decided on.
    pub fn send(&mut self, info: Info, blocked: bool) {
        if self.actions.is_ignored(info.signal) && !blocked {
            return;
        }
        if info.is_private() { self.own.pending.add(info) } else { self.shared.add(info) }
    }

    /// Sends a signal for something the program itself did: it cannot be blocked or ignored.
    pub fn force(&mut self, info: Info) {
        let blocked = self.own.mask & bit(info.signal) != 0;
        if blocked || self.actions.action(info.signal).handler == IGNORE {
            self.set_action(info.signal, Action::default());
            self.own.mask &= !bit(info.signal);
        }
        if let Some(trap) = info.fault {
            self.own.last_trap = (trap.vector, trap.error, trap.address.unwrap_or(self.own.last_trap.2));
        }
        self.own.pending.forget(info.signal);
        self.shared.forget(info.signal);
        self.own.pending.0.insert(0, info);
    }

    /// Signals that end the process when they come: bits.
    pub fn fatal(&self) -> u64 {
        self.actions.fatal(self.own.mask)
    }

    /// Whether a signal waits to be delivered that ends the process.
    pub fn any_fatal(&self) -> bool {
        self.pending_bits() & self.fatal() != 0
    }

    /// All pending signals: bits.
    pub fn pending_bits(&self) -> u64 {
        self.own.pending.bits() | self.shared.bits()
    }

    fn next(&self, ignored_too: bool) -> Option<(bool, usize)> {
        self.actions.next(self.own, self.shared, ignored_too)
    }

    fn take(&mut self, (own, at): (bool, usize)) -> Info {
        if own { self.own.pending.0.remove(at) } else { self.shared.0.remove(at) }
    }

    /// Whether a signal waits to be delivered that does something: what is ignored ends no wait.
    pub fn any_deliverable(&self) -> bool {
        self.actions.any_deliverable(self.own, self.shared)
    }

    /// The next signal to be delivered that does something.
    pub fn next_deliverable(&self) -> Option<&Info> {
        let (own, at) = self.next(false)?;
        if own { self.own.pending.0.get(at) } else { self.shared.0.get(at) }
    }

    /// Forgets that one.
    pub fn drop_next_deliverable(&mut self) {
        if let Some(next) = self.next(false) {
            self.take(next);
        }
    }

    /// Whether the next signal to be delivered has the interrupted call made again
    /// ([`flags::RESTART`]).
    pub fn next_restarts(&self) -> bool {
        let next = self.next_deliverable();
        next.is_some_and(|info| self.actions.action(info.signal).flags & flags::RESTART != 0)
    }

    /// Takes the next signal to deliver.
    pub fn take_next(&mut self) -> Option<Delivery> {
        let next = self.next(true)?;
        let info = self.take(next);
        let action = self.actions.action(info.signal);
        Some(match (info.signal, action.handler) {
            (SIGKILL, _) => Delivery::Terminate(info),
            (_, IGNORE) => Delivery::Ignore(info),
            (signal, DEFAULT) => match default_action(signal) {
                DefaultAction::Ignore => Delivery::Ignore(info),
                DefaultAction::Stop => Delivery::Stop(info),
                DefaultAction::Terminate => Delivery::Terminate(info),
            },
            _ => {
                if action.flags & flags::RESETHAND != 0 {
                    self.set_action(info.signal, Action { handler: DEFAULT, ..action });
                }
                Delivery::Handle(info, action)
            }
        })
    }

    /// Takes a pending signal that may be delivered, and that a wait need not end for.
    pub fn take_unnoticed(&mut self) -> Option<Info> {
        let ignored = |info: &Info| !self.is_blocked(info.signal) && self.actions.is_unnoticed(info.signal);
        let own = self.own.pending.0.iter().position(ignored).map(|at| (true, at));
        let next = own.or_else(|| self.shared.0.iter().position(ignored).map(|at| (false, at)))?;
        Some(self.take(next))
    }

    /// Takes a pending signal out of a set, blocked or not: `sigtimedwait`.
    pub fn take_of(&mut self, set: u64) -> Option<Info> {
        let in_set = |info: &Info| set & bit(info.signal) != 0;
        let own = self.own.pending.next(in_set).map(|at| (true, at));
        let next = own.or_else(|| self.shared.next(in_set).map(|at| (false, at)))?;
        Some(self.take(next))
    }
}

#[cfg(test)]
mod tests {
    use super::number::*;
    use super::*;

    /// A task's signals, with what they are shared with.
    #[derive(Default)]
    struct Owned(Actions, Pending, TaskSignals);

    impl Owned {
        fn blocking(mask: u64) -> Owned {
            Owned(Actions::default(), Pending::default(), TaskSignals { mask, ..Default::default() })
        }

        fn view(&mut self) -> Signals<'_> {
            Signals { actions: &mut self.0, shared: &mut self.1, own: &mut self.2 }
        }
    }

    fn owned_send(signals: &mut Signals<'_>, info: Info) {
        let blocked = signals.is_blocked(info.signal);
        signals.send(info, blocked);
    }

    #[test]
    fn ignored_signals_do_not_pend() {
        let mut owned = Owned::default();
        let mut signals = owned.view();
        owned_send(&mut signals, Info { signal: SIGCHLD, ..Default::default() });
        assert_eq!(signals.take_next(), None);
        owned_send(&mut signals, Info { signal: SIGPIPE, ..Default::default() });
        assert!(matches!(signals.take_next(), Some(Delivery::Terminate(i)) if i.signal == SIGPIPE));
    }

    #[test]
    fn blocked_signals_wait() {
        let mut owned = Owned::blocking(bit(SIGINT));
        let mut signals = owned.view();
        signals.set_action(SIGINT, Action { handler: 0x1000, ..Default::default() });
        owned_send(&mut signals, Info { signal: SIGINT, ..Default::default() });
        owned_send(&mut signals, Info { signal: SIGINT, ..Default::default() });
        assert_eq!(signals.take_next(), None);
        assert_eq!(signals.pending_bits(), bit(SIGINT));
        signals.own.mask = 0;
        assert!(matches!(signals.take_next(), Some(Delivery::Handle(..))));
        assert_eq!(signals.take_next(), None);
    }

    #[test]
    fn exceptions_come_first_and_then_the_lowest_number() {
        let mut owned = Owned::default();
        let mut signals = owned.view();
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            owned_send(&mut signals, Info { signal, ..Default::default() });
        }
        signals.force(Info { signal: SIGSEGV, fault: Some(Trap::default()), ..Default::default() });
        let order = std::iter::from_fn(|| signals.take_next()).map(|d| d.info().signal);
        assert_eq!(order.collect::<Vec<_>>(), [SIGSEGV, SIGHUP, SIGINT, SIGTERM]);
    }

    #[test]
    fn what_is_ignored_ends_no_wait() {
        let mut owned = Owned::blocking(bit(SIGALRM));
        let mut signals = owned.view();
        signals.set_action(SIGALRM, Action { handler: IGNORE, ..Default::default() });
        owned_send(&mut signals, Info { signal: SIGALRM, ..Default::default() });
        assert_eq!(signals.pending_bits(), bit(SIGALRM), "blocked, it waits to be decided on");
        signals.own.begin_wait(0);
        assert!(!signals.any_deliverable() && signals.next_deliverable().is_none());
        signals.drop_next_deliverable();
        assert!(matches!(signals.take_next(), Some(Delivery::Ignore(_))));
        signals.own.end_wait();
        assert_eq!(signals.own.mask, bit(SIGALRM));
    }

    #[test]
    fn a_state_out_of_a_file_is_checked() {
        assert!(Pending(vec![Info::default()]).check().is_err());
        let info = Info { signal: SIGINT, ..Default::default() };
        assert!(Pending(vec![info]).check().is_ok() && Pending(vec![info, info]).check().is_err());
        let queued = Info { signal: REAL_TIME, ..info };
        assert!(Pending(vec![queued, queued]).check().is_ok());
    }

    #[test]
    fn a_forced_signal_cannot_be_blocked() {
        let mut owned = Owned::blocking(bit(SIGSEGV));
        let mut signals = owned.view();
        signals.set_action(SIGSEGV, Action { handler: 0x1000, ..Default::default() });
        signals.force(Info { signal: SIGSEGV, ..Default::default() });
        assert!(matches!(signals.take_next(), Some(Delivery::Terminate(_))));
    }
}
