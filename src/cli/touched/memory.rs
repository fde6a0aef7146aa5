//! Calls that read memory or fill it in.

use std::ops::Range;

use dejavm::replay::Moment;
use dejavm::replay::text::{Decoded, STRING_BYTES, extents};
use dejavm::sandbox::program::process::PROGRAM_PID;
use dejavm::{Exit, ExitKind, GuestMemory, WorldError};

use crate::cli::decoding::{Viewer, Watched};
use crate::cli::hits::{Hit, Kept};

/// Looks for calls of the first process that touch memory.
pub struct MemoryTouches {
    range: Range<u64>,
    /// What was found.
    pub found: Kept,
}

impl MemoryTouches {
    /// Of this memory.
    pub fn new(range: Range<u64>, found: Kept) -> MemoryTouches {
        MemoryTouches { range, found }
    }
}

impl Viewer for MemoryTouches {
    fn strings(&self) -> usize {
        STRING_BYTES
    }

    fn exit(&mut self, exit: &Exit, decoded: &Decoded, memory: &dyn GuestMemory) -> Watched {
        let ExitKind::Syscall { number, args } = exit.kind else { return Ok(()) };
        if memory.process().is_some_and(|(process, _)| process == PROGRAM_PID) {
            let all = extents(number, &args, exit.result, memory);
            let mut touching = all.iter().filter(|extent| {
                extent.addresses.start < self.range.end && self.range.start < extent.addresses.end
            });
            let verb = touching.next().map(|first| {
                // What is filled in matters more than what is read.
                if first.fills || touching.any(|extent| extent.fills) { "filled in" } else { "read" }
            });
            if let Some(verb) = verb {
                let mut hit = Hit::exit(exit, decoded);
                hit.text = format!("{verb}: {}", hit.text);
                hit.more.insert("touch".into(), verb.into());
                self.found.add(hit);
            }
        }
        if self.found.are_enough() { Err(WorldError::Interrupted) } else { Ok(()) }
    }
}

/// Puts changes and calls together, in the order of the run. An exit that changed the memory stands there once, with
/// its call.
pub fn merge(changes: impl Iterator<Item = Hit>, calls: impl Iterator<Item = Hit>) -> Vec<Hit> {
    let mut calls = calls.peekable();
    let mut all = Vec::new();
    for change in changes {
        while let Some(call) = calls.next_if(|call| order(call) < order(&change)) {
            all.push(call);
        }
        match calls.next_if(|call| call.moment == change.moment) {
            Some(mut call) => {
                call.text.push_str(&format!("; {}", change.text));
                call.more.extend(change.more);
                all.push(call);
            }
            None => all.push(change),
        }
    }
    all.extend(calls);
    all
}

/// What comes first in the run comes first.
fn order(hit: &Hit) -> (u64, u64) {
    match hit.moment {
        Moment::At(position) => (position.exit, position.steps),
        Moment::Before(exit) => (exit.saturating_sub(1), u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dejavm::replay::Position;

    #[test]
    fn what_an_exit_changed_is_told_once() {
        let hit = |moment: Moment, text: &str| Hit {
            moment,
            task: 2,
            kind: "call",
            text: text.into(),
            more: Default::default(),
        };
        let at = |exit, steps| Moment::At(Position::stepped(exit, steps));
        let changes = [hit(at(1, 5), "a"), hit(Moment::Before(3), "b"), hit(at(4, 2), "c")];
        let calls = [hit(Moment::Before(2), "d"), hit(Moment::Before(3), "e"), hit(Moment::Before(9), "f")];
        let all = merge(changes.into_iter(), calls.into_iter());
        let texts: Vec<&str> = all.iter().map(|hit| &*hit.text).collect();
        assert_eq!(texts, ["a", "d", "e; b", "c", "f"]);
    }
}
