//! What the arguments of system calls point to, by the table's kinds of arguments: read out of a guest's memory
//! when a call is made and when it is answered, and shown as strace shows it.

mod arrays;
mod extents;
mod reading;
mod structures;

use std::collections::BTreeMap;

use dejavm_sandbox::exit::{Exit, ExitKind, GuestMemory, MadeCall};
use dejavm_sandbox::program::syscall::number;
use dejavm_sandbox::program::syscall::table::{Argument, Names, Pointee};

use super::args::{self, Texts};
use super::{call, errno_of, names};
pub use arrays::strings_at;
use arrays::{MOST_ELEMENTS, array, descriptors, entries, environment, poll_fds, ready_fds};
pub use extents::{Extent, extents, files_among, path_at};
use reading::{MOST_OF_PATH, bytes, quoted, string, u32_at, u32_in, u64_at, u64_in};

/// Bytes of a string that are shown, unless told otherwise: as strace does.
pub const STRING_BYTES: usize = 32;

/// Most bytes of a string that can be asked for.
pub const MOST_STRING_BYTES: usize = 4096;

/// Bytes of text that are kept of calls that wait. What would pass it is not decoded: a guest may have any number
/// of tasks.
const MOST_KEPT: usize = 64 << 20;

/// What is known of a call besides the numbers in its exit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    texts: Texts,
    /// What is said behind the result.
    note: Option<String>,
}

impl Decoded {
    pub(super) fn texts(&self) -> &Texts {
        &self.texts
    }

    pub(super) fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The arguments whose text is known, by their place.
    pub fn arguments(&self) -> &[Option<String>; 6] {
        &self.texts
    }

    fn bytes(&self) -> usize {
        self.texts.iter().flatten().map(String::len).sum()
    }
}

/// Decodes the calls of a run: it is told of each when it is made and when it is answered.
#[derive(Debug)]
pub struct Decoder {
    strings: usize,
    /// Calls that are not answered yet, by task.
    open: BTreeMap<u32, (MadeCall, Decoded)>,
    /// Bytes of text of those.
    kept: usize,
}

impl Decoder {
    /// One that shows this many bytes of a string, [`MOST_STRING_BYTES`] at most.
    pub fn new(strings: usize) -> Decoder {
        Decoder { strings: strings.min(MOST_STRING_BYTES), open: BTreeMap::new(), kept: 0 }
    }

    /// A call is made: what it reads is read now, since the program may change it before the answer.
    pub fn made(&mut self, made: &MadeCall, memory: &dyn GuestMemory) {
        self.take(made.task);
        let decoded = self.inputs(made.number, &made.args, memory);
        let bytes = decoded.bytes();
        let fits = self.kept + bytes <= MOST_KEPT;
        if fits {
            self.kept += bytes;
        }
        self.open.insert(made.task, (*made, if fits { decoded } else { Decoded::default() }));
    }

    /// A call was answered; nothing is known of other exits.
    pub fn answered(&mut self, exit: &Exit, memory: &dyn GuestMemory) -> Decoded {
        let ExitKind::Syscall { number, args } = &exit.kind else { return Decoded::default() };
        let is_it = |call: &MadeCall| call.number == *number && call.args == *args;
        let mut open = self.take(exit.task).filter(|(call, _)| is_it(call));
        if open.is_none() && matches!(*number, number::EXECVE | number::EXECVEAT) {
            // A thread that executes a program has its process's number by now.
            let task = self.open.iter().find(|(_, (call, _))| is_it(call)).map(|(task, _)| *task);
            open = task.and_then(|task| self.take(task));
        }
        let mut decoded = match open {
            Some((_, decoded)) => decoded,
            // It was made before the recording began.
            None => self.inputs(*number, args, memory),
        };
        if errno_of(exit.result).is_none() {
            self.outputs(&mut decoded, *number, args, exit.result, memory);
        }
        decoded
    }

    /// The calls that were never answered, each with its text so far.
    pub fn unanswered(&self) -> impl Iterator<Item = (MadeCall, String)> {
        self.open.values().map(|(made, decoded)| {
            let (name, kinds) = call(made.number);
            let args = args::format(made.number, kinds, &made.args, &decoded.texts).join(", ");
            (*made, format!("{name}({args} <unfinished ...>"))
        })
    }

    fn take(&mut self, task: u32) -> Option<(MadeCall, Decoded)> {
        let open = self.open.remove(&task)?;
        self.kept -= open.1.bytes();
        Some(open)
    }

    /// What a call reads.
    fn inputs(&self, number: u64, args: &[u64; 6], memory: &dyn GuestMemory) -> Decoded {
        let mut decoded = Decoded::default();
        for (at, kind) in call(number).1.iter().enumerate() {
            decoded.texts[at] = match kind {
                Argument::In(pointee) if args[at] != 0 => self.input(*pointee, at, args, memory),
                // One whose kind follows from another argument.
                _ => special(number, at, args, memory),
            };
        }
        decoded
    }

    fn input(
        &self,
        pointee: Pointee,
        at: usize,
        args: &[u64; 6],
        memory: &dyn GuestMemory,
    ) -> Option<String> {
        let address = args[at];
        let next = args.get(at + 1).copied().unwrap_or(0);
        match pointee {
            Pointee::Path => string(memory, address, MOST_OF_PATH).map(|(text, more)| quoted(&text, more)),
            Pointee::Text => string(memory, address, self.strings).map(|(text, more)| quoted(&text, more)),
            Pointee::Bytes => self.bytes(memory, address, next),
            Pointee::Strings => self.array(memory, address),
            Pointee::Environment => environment(memory, address),
            Pointee::Iovecs => self.iovecs(memory, address, next, u64::MAX),
            Pointee::SocketAddress => structures::socket_address(memory, address, next),
            Pointee::PollFds => poll_fds(memory, address, next),
            Pointee::CloneArgs => structures::clone_args(memory, address, next),
            Pointee::MessageHeader => self.message(memory, address, u64::MAX),
            Pointee::FdSet => descriptors(memory, address, args[0]),
            Pointee::EpollEvents => bytes(memory, address).map(|event| structures::epoll_event(&event)),
            _ => structure(pointee, memory, address),
        }
    }

    /// What a call has filled in.
    fn outputs(
        &self,
        decoded: &mut Decoded,
        number: u64,
        args: &[u64; 6],
        result: u64,
        memory: &dyn GuestMemory,
    ) {
        let kinds = call(number).1;
        for (at, kind) in kinds.iter().enumerate() {
            if let Argument::Out(pointee) = kind
                && args[at] != 0
            {
                decoded.texts[at] = self.output(*pointee, at, args, result, memory);
            }
        }
        decoded.note = match number {
            number::POLL | number::PPOLL | number::SELECT | number::PSELECT6 | number::EPOLL_WAIT
                if result == 0 =>
            {
                Some("Timeout".into())
            }
            number::POLL | number::PPOLL => ready_fds(memory, args[0], args[1]),
            number::SELECT | number::PSELECT6 => {
                let sets = [("in", args[1]), ("out", args[2]), ("except", args[3])];
                let sets = sets.iter().filter(|(_, at)| *at != 0).filter_map(|(name, at)| {
                    let set = descriptors(memory, *at, args[0]).filter(|set| set != "[]")?;
                    Some(format!("{name} {set}"))
                });
                Some(sets.collect::<Vec<_>>().join(", "))
            }
            number::FCNTL if args[1] == F_GETFL => Some(format!("flags {}", args::open_flags(result as u32))),
            number::FCNTL if args[1] == F_GETFD && result == 1 => Some("flags FD_CLOEXEC".into()),
            _ => None,
        };
    }

    fn output(
        &self,
        pointee: Pointee,
        at: usize,
        args: &[u64; 6],
        result: u64,
        memory: &dyn GuestMemory,
    ) -> Option<String> {
        let address = args[at];
        match pointee {
            Pointee::Path => string(memory, address, MOST_OF_PATH).map(|(text, more)| quoted(&text, more)),
            Pointee::Bytes => {
                // A result may be more than there was room for (`MSG_TRUNC`, the size of an attribute).
                let room = args.get(at + 1).copied().unwrap_or(0);
                self.bytes(memory, address, result.min(room))
            }
            Pointee::Iovecs => self.iovecs(memory, address, args.get(at + 1).copied()?, result),
            Pointee::SocketAddress => {
                let len = u32_at(memory, args.get(at + 1).copied()?)?;
                structures::socket_address(memory, address, len.into())
            }
            // Nobody was waited for.
            Pointee::WaitStatus if result == 0 => None,
            Pointee::Dirents => {
                Some(format!("{address:#x} /* {} entries */", entries(memory, address, result)?))
            }
            Pointee::MessageHeader => self.message(memory, address, result),
            Pointee::EpollEvents => array(result, |n| {
                let event = bytes(memory, address.checked_add(n * 12)?)?;
                Some(structures::epoll_event(&event))
            }),
            _ => structure(pointee, memory, address),
        }
    }

    /// So many bytes, the first of them.
    fn bytes(&self, memory: &dyn GuestMemory, address: u64, len: u64) -> Option<String> {
        let shown = len.min(self.strings as u64) as usize;
        let mut out = vec![0; shown];
        (memory.read(address, &mut out) == shown).then(|| quoted(&out, len > shown as u64))
    }

    /// `argv`.
    fn array(&self, memory: &dyn GuestMemory, address: u64) -> Option<String> {
        let mut parts = Vec::new();
        for n in 0..=MOST_ELEMENTS {
            let at = u64_at(memory, address.checked_add(n * 8)?)?;
            if at == 0 {
                break;
            }
            if n == MOST_ELEMENTS {
                parts.push("...".into());
                break;
            }
            let text = string(memory, at, self.strings).map(|(text, more)| quoted(&text, more));
            parts.push(text.unwrap_or_else(|| format!("{at:#x}")));
        }
        Some(format!("[{}]", parts.join(", ")))
    }

    /// Vectors, of which `filled` bytes in all hold something.
    fn iovecs(&self, memory: &dyn GuestMemory, address: u64, count: u64, filled: u64) -> Option<String> {
        let mut left = filled;
        array(count, |n| {
            let vector: [u8; 16] = bytes(memory, address.checked_add(n * 16)?)?;
            let (base, len) = (u64_in(&vector, 0), u64_in(&vector, 8));
            let used = len.min(left);
            left -= used;
            let text = self.bytes(memory, base, used).unwrap_or_else(|| structures::pointer(base));
            Some(format!("{{iov_base={text}, iov_len={len}}}"))
        })
    }

    fn message(&self, memory: &dyn GuestMemory, address: u64, filled: u64) -> Option<String> {
        let header: [u8; 56] = bytes(memory, address)?;
        let [name, iov, count, control, control_len] = [0, 16, 24, 32, 40].map(|at| u64_in(&header, at));
        let name_len = u32_in(&header, 8);
        let name = structures::socket_address(memory, name, name_len.into())
            .unwrap_or_else(|| structures::pointer(name));
        let vectors = self.iovecs(memory, iov, count, filled).unwrap_or_else(|| structures::pointer(iov));
        let control = if control == 0 { String::new() } else { format!(", msg_control={control:#x}") };
        let flags = names::named(Names::Message, u32_in(&header, 48).into());
        Some(format!(
            "{{msg_name={name}, msg_namelen={name_len}, msg_iov={vectors}, msg_iovlen={count}{control}, \
             msg_controllen={control_len}, msg_flags={flags}}}"
        ))
    }
}

const F_GETFD: u64 = 1;
const F_SETFD: u64 = 2;
const F_GETFL: u64 = 3;
const F_SETFL: u64 = 4;

/// Bytes in quotation marks, with all that is not printable ASCII escaped, as C and strace write them.
pub fn quote(bytes: &[u8]) -> String {
    quoted(bytes, false)
}

/// Arguments whose kind follows from others.
fn special(number: u64, at: usize, args: &[u64; 6], memory: &dyn GuestMemory) -> Option<String> {
    const PR_SET_NAME: u64 = 15;
    match (number, at) {
        (number::FCNTL, 2) if args[1] == F_SETFL => Some(args::open_flags(args[2] as u32)),
        (number::FCNTL, 2) if args[1] == F_SETFD && args[2] == 1 => Some("FD_CLOEXEC".into()),
        // Operations that wait, for so long at most.
        (number::FUTEX, 3) if matches!(args[1] & 0x7f, 0 | 6 | 9 | 11 | 13) && args[3] != 0 => {
            structures::timespec(memory, args[3])
        }
        (number::PRCTL, 1) if args[0] == PR_SET_NAME => {
            string(memory, args[1], 15).map(|(text, more)| quoted(&text, more))
        }
        _ => None,
    }
}

/// Structures that need nothing but their address.
fn structure(pointee: Pointee, memory: &dyn GuestMemory, address: u64) -> Option<String> {
    match pointee {
        Pointee::Stat => structures::stat(memory, address),
        Pointee::Statx => structures::statx(memory, address),
        Pointee::Timespec => structures::timespec(memory, address),
        Pointee::Timespecs => structures::timespecs(memory, address),
        Pointee::Timeval => structures::timeval(memory, address),
        Pointee::Itimerval => structures::timer(memory, address, "tv_usec"),
        Pointee::Itimerspec => structures::timer(memory, address, "tv_nsec"),
        Pointee::WaitStatus => {
            u32_at(memory, address).map(|status| format!("[{}]", structures::wait_status(status)))
        }
        Pointee::Int => u32_at(memory, address).map(|n| format!("[{}]", n as i32)),
        Pointee::Long => u64_at(memory, address).map(|n| format!("[{}]", n as i64)),
        Pointee::SigAction => structures::sig_action(memory, address),
        Pointee::SigSet => u64_at(memory, address).map(structures::signals),
        Pointee::IntPair => {
            let pair: [u8; 8] = bytes(memory, address)?;
            Some(format!("[{}, {}]", u32_in(&pair, 0) as i32, u32_in(&pair, 4) as i32))
        }
        Pointee::Utsname => structures::utsname(memory, address),
        Pointee::Rlimit => structures::rlimit(memory, address),
        Pointee::OpenHow => structures::open_how(memory, address),
        Pointee::ChildInfo => structures::child_info(memory, address),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
