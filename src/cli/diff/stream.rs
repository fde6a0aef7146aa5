//! The exits of two recordings as they are compared, one after another.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use dejavm::replay::text::{CallLine, Decoded, MOST_STRING_BYTES, errno_of, format_what};
use dejavm::replay::{Record, Recording};
use dejavm::{Exit, ExitKind, GuestMemory, WorldError};

use crate::cli::decoding::{DecodeOptions, Look, Viewer, Watched, first_line};
use crate::cli::failure::say;
use crate::cli::{Failure, Result, confine};

/// Exits that are prepared ahead of the comparison.
const AHEAD: usize = 256;

/// Bytes of a line that are kept; all of it is compared.
const SHOWN: usize = 1000;

/// What of an exit is compared.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Addresses count.
    pub addresses: bool,
    /// Only these tasks; all if there are none.
    pub tasks: BTreeSet<u32>,
}

/// One exit, as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// Exits with the same key are the same, but for what they wrote into memory.
    pub key: u64,
    /// Exits with the same kind may be the same one that came out otherwise.
    pub kind: u64,
    /// Digests of the parts: each argument, then the result.
    pub parts: Vec<u64>,
    /// Digest of the arguments as numbers, and of what it wrote.
    pub effects: (u64, u64),
    /// Its line.
    pub text: String,
}

impl Entry {
    /// Of an exit and what is known of it.
    pub fn of(exit: &Exit, decoded: &Decoded, keys: &Keys) -> Entry {
        let digest = |text: &str| match keys.addresses {
            true => digest_of(text.as_bytes()),
            false => digest_of(without_addresses(text).as_bytes()),
        };
        let (kind, parts, text) = match CallLine::of(exit, decoded) {
            Some(line) => {
                let mut parts: Vec<u64> = line.arguments.iter().map(|text| digest(text)).collect();
                parts.push(digest(&line.result));
                (line.name.to_string(), parts, line.to_string())
            }
            None => {
                let text = format_what(exit);
                let kind = kind_of(&exit.kind).to_owned();
                // What an instruction gave is no address.
                let part = match exit.kind {
                    ExitKind::Exception { .. } => digest(&text),
                    _ => digest_of(text.as_bytes()),
                };
                (kind, vec![part], text)
            }
        };
        let kind = digest_of(format!("{} {kind}", exit.task).as_bytes());
        let bytes: Vec<u8> = [kind].iter().chain(&parts).flat_map(|part| part.to_le_bytes()).collect();
        let numbers = match &exit.kind {
            ExitKind::Syscall { args, .. } if errno_of(exit.result).is_none() => {
                digest_of(&args.map(u64::to_le_bytes).concat())
            }
            _ => 0,
        };
        let mut text = format!("[pid {}] {text}", exit.task);
        if text.len() > SHOWN {
            text = text.chars().take(SHOWN).chain("...".chars()).collect();
        }
        Entry {
            number: exit.number,
            key: digest_of(&bytes),
            kind,
            parts,
            effects: (numbers, exit.effects),
            text,
        }
    }

    /// Whether two exits with the same key wrote other bytes to the same addresses.
    pub fn wrote_otherwise(&self, other: &Entry) -> bool {
        self.effects.0 != 0 && self.effects.0 == other.effects.0 && self.effects.1 != other.effects.1
    }
}

/// For comparison within this process only.
fn digest_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn kind_of(kind: &ExitKind) -> &'static str {
    match kind {
        ExitKind::Syscall { .. } => "call",
        ExitKind::Instruction(_) => "instruction",
        ExitKind::Exception { .. } => "exception",
        ExitKind::End { .. } => "end",
        ExitKind::Timer { .. } => "timer",
        ExitKind::In { .. } => "in",
        ExitKind::Out { .. } => "out",
        ExitKind::Preempted { .. } => "preempted",
        ExitKind::Sliced { .. } => "sliced",
        ExitKind::Circle { .. } => "circle",
    }
}

/// A text in which numbers that look like addresses, outside quotation marks, are all the same.
fn without_addresses(text: &str) -> String {
    /// Hexadecimal digits from which on a number is above 4 GiB.
    const DIGITS: usize = 9;
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(next) = rest.chars().next() {
        let digits = rest
            .strip_prefix("0x")
            .filter(|_| !quoted)
            .map_or(0, |digits| digits.bytes().take_while(u8::is_ascii_hexdigit).count());
        if digits >= DIGITS {
            out.push_str("0x*");
            rest = &rest[2 + digits..];
            continue;
        }
        if quoted && next == '\\' {
            // Whatever is escaped ends no text.
            let both = rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at);
            out.push_str(&rest[..both]);
            rest = &rest[both..];
            continue;
        }
        quoted ^= next == '"';
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    out
}

/// Sends entries to whoever compares.
struct Sender {
    to: SyncSender<Result<Entry>>,
    keys: Keys,
    last: u64,
}

impl Sender {
    fn send(&mut self, exit: &Exit, decoded: &Decoded) -> Watched {
        self.last = exit.number;
        if !self.keys.tasks.is_empty() && !self.keys.tasks.contains(&exit.task) {
            return Ok(());
        }
        // Nobody listens any more, if this fails.
        self.to.send(Ok(Entry::of(exit, decoded, &self.keys))).map_err(|_| WorldError::Interrupted)
    }
}

impl Viewer for Sender {
    fn strings(&self) -> usize {
        MOST_STRING_BYTES
    }

    fn exit(&mut self, exit: &Exit, decoded: &Decoded, _memory: &dyn GuestMemory) -> Watched {
        self.send(exit, decoded)
    }
}

/// Two recordings, each read by a thread of its own.
pub struct Streams {
    from: Option<[Receiver<Result<Entry>>; 2]>,
    threads: Vec<JoinHandle<Option<String>>>,
}

impl Streams {
    /// Begins to read, with replays if there are options for them. When one of the two cannot be replayed, neither
    /// is: what is decoded is not like what is not.
    ///
    /// # Errors
    /// When this process cannot be confined.
    pub fn start(of: [&Recording; 2], keys: &Keys, decode: Option<&DecodeOptions>) -> Result<Streams> {
        let (senders, from): (Vec<_>, Vec<_>) = of
            .iter()
            .map(|_| {
                let (to, from) = sync_channel(AHEAD);
                (Look::new(Sender { to, keys: keys.clone(), last: 0 }), from)
            })
            .unzip();
        let mut prepared = vec![None, None];
        if let Some(options) = decode {
            let both: Result<Vec<_>> =
                senders.iter().zip(of).map(|(look, recording)| look.prepare(recording, options)).collect();
            match both {
                Ok(both) => prepared = both,
                Err(why) => {
                    say(format_args!("arguments are not decoded: {}", first_line(why.message())));
                }
            }
            // Both need the same, and a process that is confined cannot be again.
            if let Some(sandbox) = prepared.iter().flatten().next() {
                confine::confine(sandbox, options.no_confine, None)?;
            }
        }
        let threads = senders.into_iter().zip(prepared).zip(of).map(|((look, sandbox), recording)| {
            let recording = recording.clone();
            std::thread::Builder::new()
                .spawn(move || {
                    let shortfall = look.run(sandbox).err().map(|why| first_line(why.message()));
                    look.with(|sender| rest(&recording, sender));
                    shortfall
                })
                .map_err(|e| Failure::new(format_args!("no thread to be had: {e}")))
        });
        let threads = threads.collect::<Result<Vec<_>>>()?;
        let from = <[_; 2]>::try_from(from).ok();
        Ok(Streams { from, threads })
    }

    /// The next exit of one side.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn next(&mut self, side: usize) -> Result<Option<Entry>> {
        match self.from.as_ref().map(|from| from[side].recv()) {
            Some(Ok(entry)) => entry.map(Some),
            _ => Ok(None),
        }
    }

    /// Ends reading; gives why a replay fell short, if one did.
    pub fn end(mut self) -> Option<String> {
        self.from = None;
        self.threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).next()
    }
}

/// What a replay did not come by, or all where there is none, from the log.
fn rest(recording: &Recording, sender: &mut Sender) {
    for record in recording.records_from(sender.last.saturating_add(1)) {
        let sent = match record {
            Ok(Record::Exit(exit)) => sender.send(&exit, &Decoded::default()),
            Ok(_) => Ok(()),
            Err(e) => sender.to.send(Err(e.into())).map_err(|_| WorldError::Interrupted),
        };
        if sent.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_alike() {
        assert_eq!(without_addresses("brk(0x5555deadb000) = 0x10"), "brk(0x*) = 0x10");
        assert_eq!(
            without_addresses(r#"("0x5555deadb000\"", 0x7fff00000000)"#),
            r#"("0x5555deadb000\"", 0x*)"#
        );
        assert_eq!(without_addresses("\u{e9}0x"), "\u{e9}0x");
    }

    #[test]
    fn the_same_call_elsewhere_is_the_same() {
        let exit = |address, effects| {
            let kind = ExitKind::Syscall { number: 0, args: [3, address, 64, 0, 0, 0] };
            Exit { number: 1, task: 2, kind, rip: address, result: 5, effects, clock: address }
        };
        let entry = |exit: &Exit, addresses| {
            Entry::of(exit, &Decoded::default(), &Keys { addresses, tasks: BTreeSet::new() })
        };
        let (one, other) = (exit(0x7fff_0000_0000, 1), exit(0x7fff_0000_1000, 2));
        assert_eq!(entry(&one, false).key, entry(&other, false).key);
        assert!(!entry(&one, false).wrote_otherwise(&entry(&other, false)), "elsewhere");
        assert_ne!(entry(&one, true).key, entry(&other, true).key);
        assert!(entry(&one, false).wrote_otherwise(&entry(&exit(0x7fff_0000_0000, 2), false)));
    }
}
