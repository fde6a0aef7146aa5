//! Looking at exits and signals for what is wanted.

use dejavm::replay::Position;
use dejavm::replay::text::{Decoded, STRING_BYTES, errno_of, extents, signal_name};
use dejavm::sandbox::program::syscall::number;
use dejavm::sandbox::program::syscall::table;
use dejavm::{DeliveredSignal, Exit, ExitKind, GuestMemory, MadeCall, SignalEffect, WorldError};
use serde_json::Map;

use super::grammar::{Term, What};
use crate::cli::about::{About, OpenCalls};
use crate::cli::decoding::{Viewer, Watched};
use crate::cli::hits::{Hit, Hits};
use crate::cli::pattern::Pattern;

/// Calls that open or create a file; of several paths the last is meant.
const OPEN: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "creat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
];

/// Calls that write to a descriptor, and the argument that it is.
const WRITE: &[(&str, usize)] = &[
    ("write", 0),
    ("pwrite64", 0),
    ("writev", 0),
    ("pwritev", 0),
    ("pwritev2", 0),
    ("sendto", 0),
    ("sendmsg", 0),
    ("sendfile", 0),
    ("splice", 2),
    ("tee", 1),
    ("vmsplice", 0),
    ("copy_file_range", 2),
    ("ftruncate", 0),
    ("fallocate", 0),
];

/// Bytes that are searched at once.
const PIECE: usize = 64 * 1024;

/// Looks for what is wanted.
pub struct Events {
    terms: Vec<Vec<Term>>,
    tasks: Vec<u32>,
    /// What was found.
    pub hits: Hits,
    open: OpenCalls,
}

/// What happened.
enum Event<'a> {
    Exit(&'a Exit, &'a About, &'a dyn GuestMemory),
    Signal(&'a DeliveredSignal),
}

impl Events {
    /// Looks for these terms in what these tasks do; in all if there are none.
    pub fn new(terms: Vec<Vec<Term>>, tasks: Vec<u32>, hits: Hits) -> Events {
        Events { terms, tasks, hits, open: OpenCalls::default() }
    }

    fn is_wanted(&self, task: u32, event: &Event<'_>) -> bool {
        (self.tasks.is_empty() || self.tasks.contains(&task))
            && self.terms.iter().any(|terms| terms.iter().all(|term| term.what.is(event) != term.negated))
    }
}

impl What {
    fn is(&self, event: &Event<'_>) -> bool {
        match (self, event) {
            (What::Signal(wanted), Event::Signal(delivered)) => {
                wanted.is_none_or(|wanted| wanted == delivered.signal)
            }
            (
                What::Exit(status),
                Event::Signal(DeliveredSignal { signal, effect: SignalEffect::Ends, .. }),
            ) => status.is_none_or(|status| status.is(128 + *signal as u8)),
            (_, Event::Signal(_)) => false,
            (What::Fault, Event::Exit(exit, ..)) => matches!(exit.kind, ExitKind::Exception { .. }),
            (_, Event::Exit(exit, about, memory)) => match exit.kind {
                ExitKind::Syscall { number, args } => {
                    self.is_call(number, &args, exit.result, about, *memory)
                }
                _ => false,
            },
        }
    }

    fn is_call(
        &self,
        call: u64,
        args: &[u64; 6],
        result: u64,
        about: &About,
        memory: &dyn GuestMemory,
    ) -> bool {
        let name = table::find(call).map_or("", table::Syscall::name);
        let named = |pattern: &Pattern| {
            about.files.iter().rev().find(|file| !file.open).is_some_and(|file| pattern.matches(&file.path))
        };
        match self {
            What::Call(calls) => calls.contains(&call),
            What::Open(pattern) => OPEN.contains(&name) && named(pattern),
            What::Exec(pattern) => {
                matches!(call, number::EXECVE | number::EXECVEAT) && pattern.as_ref().is_none_or(named)
            }
            What::WriteTo(pattern) => {
                let argument =
                    WRITE.iter().find(|(writes, _)| *writes == name).map(|(_, argument)| *argument);
                about
                    .files
                    .iter()
                    .any(|file| file.open && Some(file.argument) == argument && pattern.matches(&file.path))
            }
            What::Write(text) => {
                WRITE.iter().any(|(writes, _)| *writes == name) && writes(text, call, args, result, memory)
            }
            What::Failed(wanted) => {
                errno_of(result).is_some_and(|errno| wanted.is_none_or(|wanted| wanted == errno))
            }
            What::Exit(status) => {
                let ends = call == number::EXIT_GROUP || call == number::EXIT && about.last_task;
                ends && status.is_none_or(|status| status.is(args[0] as u8))
            }
            What::Signal(_) | What::Fault => false,
        }
    }
}

/// Whether a call wrote these bytes, one after another. Of vectors each is looked at by itself.
fn writes(text: &[u8], call: u64, args: &[u64; 6], result: u64, memory: &dyn GuestMemory) -> bool {
    extents(call, args, result, memory)
        .into_iter()
        .filter(|extent| extent.content && !extent.fills)
        .any(|extent| holds(text, extent.addresses, memory))
}

/// Whether memory holds these bytes.
fn holds(text: &[u8], addresses: std::ops::Range<u64>, memory: &dyn GuestMemory) -> bool {
    let mut bytes = Vec::new();
    let mut at = addresses.start;
    loop {
        let n = PIECE.min(usize::try_from(addresses.end - at).unwrap_or(PIECE));
        // What may be the text's beginning stays.
        let kept = bytes.len();
        bytes.resize(kept + n, 0);
        let read = memory.read(at, &mut bytes[kept..]);
        bytes.truncate(kept + read);
        if text.is_empty() || bytes.windows(text.len()).any(|window| window == text) {
            return true;
        }
        at += read as u64;
        if read < n || at >= addresses.end {
            return false;
        }
        bytes.drain(..bytes.len() - (text.len() - 1).min(bytes.len()));
    }
}

impl Viewer for Events {
    fn strings(&self) -> usize {
        STRING_BYTES
    }

    fn made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) {
        self.open.made(call, memory);
    }

    fn exit(&mut self, exit: &Exit, decoded: &Decoded, memory: &dyn GuestMemory) -> Watched {
        let about = self.open.answered(exit);
        if self.is_wanted(exit.task, &Event::Exit(exit, &about, memory)) {
            self.hits.add(Hit::exit(exit, decoded));
        }
        if self.hits.are_enough() { Err(WorldError::Interrupted) } else { Ok(()) }
    }

    fn signal(&mut self, delivered: &DeliveredSignal) {
        if self.is_wanted(delivered.task, &Event::Signal(delivered)) {
            self.hits.add(signal_hit(delivered));
        }
    }
}

/// A signal: its handler is about to run behind the way back into the program, the first step.
fn signal_hit(delivered: &DeliveredSignal) -> Hit {
    let name = signal_name(delivered.signal.into());
    let (steps, text) = match delivered.effect {
        SignalEffect::Handler(handler) => {
            (1, format!("--- {name}, si_code {}, to the handler at {handler:#x} ---", delivered.code))
        }
        SignalEffect::Ends => (0, format!("+++ killed by {name} +++")),
        SignalEffect::Stops => (0, format!("--- stopped by {name} ---")),
    };
    let mut more = Map::new();
    more.insert("signal".into(), name.into());
    let moment = Position::stepped(delivered.exits, steps).into();
    Hit { moment, task: delivered.task, kind: "signal", text, more }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Memory(Vec<u8>);

    impl GuestMemory for Memory {
        fn read(&self, address: u64, out: &mut [u8]) -> usize {
            let from = self.0.get(address as usize..).unwrap_or(&[]);
            let n = from.len().min(out.len());
            out[..n].copy_from_slice(&from[..n]);
            n
        }
    }

    #[test]
    fn text_is_found_across_pieces() {
        let mut bytes = vec![b'a'; 3 * PIECE];
        bytes[2 * PIECE - 2..2 * PIECE + 2].copy_from_slice(b"text");
        let memory = Memory(bytes);
        let all = 0..3 * PIECE as u64;
        assert!(holds(b"text", all.clone(), &memory) && holds(b"", 0..0, &memory));
        assert!(!holds(b"other", all, &memory));
        assert!(!holds(b"text", 0..2 * PIECE as u64, &memory), "the end is behind what was written");
        assert!(!holds(b"text", 3 * PIECE as u64..u64::MAX, &memory), "nothing is there");
    }

    #[test]
    fn names_are_of_calls() {
        for name in OPEN.iter().chain(WRITE.iter().map(|(name, _)| name)) {
            assert!(table::all().iter().any(|call| call.name() == *name), "{name}");
        }
    }
}
