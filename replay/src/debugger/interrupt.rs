//! What a debugger says, read by a thread of its own: so ^C is seen while the program goes on.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use dejavm_sandbox::host::stop::StopHandle;

/// The byte that interrupts (gdb's manual, "Interrupts").
pub(super) const INTERRUPT: u8 = 0x03;

/// Bytes that are read ahead. A packet has fewer.
const AHEAD: usize = 64 << 10;

/// What the debugger has said and nobody has taken yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    bytes: VecDeque<u8>,
    /// No more will come.
    over: bool,
    /// What moves now.
    moving: Option<StopHandle>,
    /// Nobody waits for the answer to the last packet any more.
    unheard: bool,
}

impl Said {
    /// Whether a move is to end. Acknowledgements come at any time.
    fn interrupts(&self) -> bool {
        self.over || self.bytes.iter().any(|byte| !matches!(byte, b'+' | b'-'))
    }
}

impl Inbox {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in all that comes, until nothing more does or nobody takes it.
    pub fn fill(&self, mut from: impl Read) {
        let mut buffer = [0; 4096];
        loop {
            let read = match from.read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read.unwrap_or(0),
            };
            let mut said = self.said();
            while said.bytes.len() > AHEAD && !said.over {
                said = self.0.changed.wait(said).unwrap_or_else(PoisonError::into_inner);
            }
            said.bytes.extend(&buffer[..read]);
            said.over |= read == 0;
            if let Some(moving) = said.moving.as_ref().filter(|_| said.interrupts()) {
                moving.interrupt();
            }
            self.0.changed.notify_all();
            if said.over {
                return;
            }
        }
    }

    /// Nothing more is taken in.
    pub fn close(&self) {
        self.said().over = true;
        self.0.changed.notify_all();
    }

    /// Takes the next byte, and waits for it. `None` when no more will come.
    pub fn take(&self) -> Option<u8> {
        let mut said = self.said();
        while said.bytes.is_empty() && !said.over {
            said = self.0.changed.wait(said).unwrap_or_else(PoisonError::into_inner);
        }
        self.0.changed.notify_all();
        said.bytes.pop_front()
    }

    /// The next byte, if it has come.
    pub fn peek(&self) -> Option<u8> {
        self.said().bytes.front().copied()
    }

    /// Whatever the debugger says ends the run of this machine at once, until the guard is dropped.
    pub fn watch(&self, moving: StopHandle) -> Interrupt {
        let mut said = self.said();
        if said.interrupts() {
            moving.interrupt();
        }
        said.moving = Some(moving);
        Interrupt(self.clone())
    }

    /// The move that ^C was to end has ended by itself.
    pub fn forget_interrupt(&self) {
        let mut said = self.said();
        if let Some(at) = said.bytes.iter().position(|byte| *byte == INTERRUPT) {
            said.bytes.remove(at);
        }
    }

    /// What ended a command that no packet belongs to: ^C is taken, and before another packet the command's
    /// answer is not waited for any more.
    pub fn give_up_command(&self) {
        let mut said = self.said();
        match said.bytes.iter().position(|byte| *byte == INTERRUPT) {
            Some(at) => drop(said.bytes.remove(at)),
            None => said.unheard = true,
        }
    }

    /// Whether nobody waits for the answer to the last packet.
    pub fn is_unheard(&self) -> bool {
        self.said().unheard
    }

    /// The next packet is about to be answered.
    pub fn next_packet(&self) {
        self.said().unheard = false;
    }
}

/// A move that the debugger may interrupt.
pub(super) struct Interrupt(Inbox);

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(moving) = self.0.said().moving.take() {
            moving.end_interrupt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_ends_a_move_but_for_acknowledgements() {
        let handle = StopHandle::new().unwrap();
        let inbox = Inbox::default();
        inbox.said().bytes.extend(b"+");
        let watch = inbox.watch(handle.clone());
        assert!(!handle.is_stopped());
        drop(watch);
        inbox.said().bytes.extend([INTERRUPT]);
        let watch = inbox.watch(handle.clone());
        assert!(handle.is_stopped());
        drop(watch);
        assert!(!handle.is_stopped());
        inbox.give_up_command();
        assert_eq!((inbox.take(), inbox.is_unheard()), (Some(b'+'), false));
        // While it moves.
        let watch = inbox.watch(handle.clone());
        inbox.fill(&b"$g#67"[..]);
        assert!(handle.is_stopped());
        drop(watch);
        inbox.give_up_command();
        assert!(inbox.is_unheard());
        let rest: Vec<u8> = std::iter::from_fn(|| inbox.take()).collect();
        assert_eq!(rest, b"$g#67");
    }
}
