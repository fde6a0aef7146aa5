//! One number for a whole run.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use dejavm_sandbox::exit::{Exit, ExitKind, Observer, Trapped};
use dejavm_sandbox::world::WorldError;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// The digest of all compared exits so far, in order: number, kind, RIP, result, effects, clock.
///
/// Two runs with the same digest made the same exits. Faults and answers of the outside are not in
/// it, so it does not depend on the host, nor on whether the run was recorded or replayed.
///
/// It is a chain, `d = xxh3_128(d ++ exit)` from 16 zero bytes, so that its whole state is its
/// value. It tells runs apart; it is not made to withstand someone who forges a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunDigest([u8; 16]);

/// Chain value, and at most 14 words of an exit.
const BUFFER: usize = 16 + 14 * 8;

impl RunDigest {
    /// The digest of no exits.
    pub fn new() -> RunDigest {
        RunDigest::default()
    }

    /// Takes one more exit in.
    pub fn add(&mut self, exit: &Exit) {
        let mut buffer = Words { bytes: [0; BUFFER], used: 16 };
        buffer.bytes[..16].copy_from_slice(&self.0);
        buffer.push(exit.number);
        match &exit.kind {
            ExitKind::Syscall { number, args } => {
                buffer.push(1);
                buffer.push(*number);
                args.iter().for_each(|&a| buffer.push(a));
            }
            ExitKind::Instruction(Trapped::Rdtsc) => buffer.push(2),
            ExitKind::Instruction(Trapped::Rdtscp) => buffer.push(3),
            ExitKind::Instruction(Trapped::Cpuid { leaf, subleaf }) => {
                buffer.push(4);
                buffer.push(u64::from(*leaf));
                buffer.push(u64::from(*subleaf));
            }
            ExitKind::Instruction(Trapped::Rdrand) => buffer.push(8),
            ExitKind::Instruction(Trapped::Rdseed) => buffer.push(9),
            ExitKind::Instruction(Trapped::Pause) => buffer.push(12),
            ExitKind::Instruction(Trapped::Rdpid) => buffer.push(13),
            ExitKind::Instruction(Trapped::Xgetbv) => buffer.push(15),
            ExitKind::Exception { vector, code, address } => {
                buffer.push(5);
                buffer.push(u64::from(*vector));
                buffer.push(*code);
                buffer.push(*address);
            }
            ExitKind::End { status } => {
                buffer.push(6);
                buffer.push(i64::from(*status) as u64);
            }
            ExitKind::Timer { steps } => {
                buffer.push(7);
                buffer.push(*steps);
            }
            ExitKind::In { port, len } => {
                buffer.push(10);
                buffer.push(u64::from(*port));
                buffer.push(u64::from(*len));
            }
            ExitKind::Out { port, len } => {
                buffer.push(11);
                buffer.push(u64::from(*port));
                buffer.push(u64::from(*len));
            }
            ExitKind::Preempted { steps } => {
                buffer.push(14);
                buffer.push(*steps);
            }
            ExitKind::Sliced { branches } => {
                buffer.push(17);
                buffer.push(*branches);
            }
            ExitKind::Circle { steps } => {
                buffer.push(16);
                buffer.push(*steps);
            }
        }
        for word in [exit.task.into(), exit.rip, exit.result, exit.effects, exit.clock] {
            buffer.push(word);
        }
        self.0 = xxh3_128(&buffer.bytes[..buffer.used]).to_le_bytes();
    }

    /// Its 16 bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// From its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> RunDigest {
        RunDigest(bytes)
    }

    /// From 32 hexadecimal digits, as [`Display`](fmt::Display) writes them; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<RunDigest> {
        crate::record::parse_hex16(text).map(RunDigest)
    }
}

impl fmt::Display for RunDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::record::write_hex(f, &self.0)
    }
}

struct Words {
    bytes: [u8; BUFFER],
    used: usize,
}

impl Words {
    fn push(&mut self, word: u64) {
        self.bytes[self.used..self.used + 8].copy_from_slice(&word.to_le_bytes());
        self.used += 8;
    }
}

/// Reads the digest of a run while an observer from [`RunDigest::watch`] takes it.
#[derive(Clone, Debug, Default)]
pub struct DigestHandle(Arc<Mutex<RunDigest>>);

impl DigestHandle {
    /// The digest of the exits so far.
    pub fn value(&self) -> RunDigest {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunDigest {
    /// An observer that takes a run's digest and never ends the run, and the handle to read it by.
    pub fn watch() -> (DigestHandle, Box<dyn Observer>) {
        let handle = DigestHandle::default();
        (handle.clone(), Box::new(DigestObserver(handle)))
    }
}

struct DigestObserver(DigestHandle);

impl Observer for DigestObserver {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).add(exit);
        Ok(())
    }
}
