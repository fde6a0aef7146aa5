//! Which memory a system call reads and fills in, by the table's kinds of arguments.

use std::ops::Range;

use dejavm_sandbox::exit::GuestMemory;
use dejavm_sandbox::program::syscall::table::{Argument, Pointee};

use super::reading::{MOST_OF_PATH, bytes, string, u32_at, u32_in, u64_in};
use super::{call, errno_of};

/// Vectors of one call (`UIO_MAXIOV`).
const MOST_VECTORS: u64 = 1024;

/// Memory that a call reads or fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The place of the argument that leads there.
    pub argument: usize,
    /// Its addresses.
    pub addresses: Range<u64>,
    /// The call fills it in, and does not read it.
    pub fills: bool,
    /// It is the content that the call moves, and not what describes it.
    pub content: bool,
}

/// The memory that an answered call read, and, unless it failed, what it filled in. Not told are the
/// strings of `execve`, the control data of messages, and what pointers of other structures lead to.
pub fn extents(call_number: u64, args: &[u64; 6], result: u64, memory: &dyn GuestMemory) -> Vec<Extent> {
    let failed = errno_of(result).is_some();
    let mut found = Found { argument: 0, fills: false, all: Vec::new() };
    for (at, kind) in call(call_number).1.iter().enumerate() {
        let (pointee, fills) = match kind {
            Argument::In(pointee) => (*pointee, false),
            Argument::Out(pointee) if !failed => (*pointee, true),
            _ => continue,
        };
        if args[at] == 0 {
            continue;
        }
        (found.argument, found.fills) = (at, fills);
        // Of what is moved, as much as was.
        let moves = matches!(pointee, Pointee::Bytes | Pointee::Iovecs | Pointee::MessageHeader);
        let moved = match (fills, moves) {
            (true, _) => result,
            (false, true) if failed => 0,
            (false, true) if moves_result(call_number) => result,
            _ => u64::MAX,
        };
        found.add(pointee, at, args, moved, memory);
    }
    found.all
}

/// Whether what a call reads by its address is as long as its result says.
fn moves_result(number: u64) -> bool {
    let (name, _) = call(number);
    ["write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg"].contains(&&*name)
}

struct Found {
    argument: usize,
    fills: bool,
    all: Vec<Extent>,
}

impl Found {
    fn push(&mut self, address: u64, len: u64, content: bool) {
        let addresses = address..address.saturating_add(len);
        if !addresses.is_empty() {
            self.all.push(Extent { argument: self.argument, addresses, fills: self.fills, content });
        }
    }

    fn add(&mut self, pointee: Pointee, at: usize, args: &[u64; 6], moved: u64, memory: &dyn GuestMemory) {
        let address = args[at];
        let next = args.get(at + 1).copied().unwrap_or(0);
        match pointee {
            Pointee::Path | Pointee::Text if self.fills => self.push(address, moved, false),
            Pointee::Path | Pointee::Text => {
                if let Some((text, _)) = string(memory, address, MOST_OF_PATH) {
                    self.push(address, text.len() as u64 + 1, false);
                }
            }
            Pointee::Bytes => self.push(address, next.min(moved), true),
            Pointee::Iovecs => self.vectors(memory, address, next, moved),
            Pointee::MessageHeader => {
                let Some(header) = bytes::<56>(memory, address) else { return };
                self.push(address, header.len() as u64, false);
                let [name, vectors, count] = [0, 16, 24].map(|at| u64_in(&header, at));
                if name != 0 {
                    self.push(name, u32_in(&header, 8).into(), false);
                }
                self.vectors(memory, vectors, count, moved);
            }
            Pointee::Dirents => self.push(address, moved, true),
            Pointee::SocketAddress if self.fills => {
                let len = u32_at(memory, next).unwrap_or(0);
                self.push(address, len.into(), false);
            }
            Pointee::SocketAddress | Pointee::CloneArgs | Pointee::OpenHow => {
                self.push(address, next, false);
            }
            Pointee::PollFds => self.push(address, next.saturating_mul(8), false),
            Pointee::FdSet => self.push(address, args[0].div_ceil(64).saturating_mul(8), false),
            Pointee::EpollEvents if self.fills => self.push(address, moved.saturating_mul(12), false),
            other => self.push(address, size(other), false),
        }
    }

    /// What vectors lead to, `moved` bytes in all. They are read themselves, whoever fills in what they lead to.
    fn vectors(&mut self, memory: &dyn GuestMemory, address: u64, count: u64, moved: u64) {
        let fills = std::mem::take(&mut self.fills);
        self.push(address, count.min(MOST_VECTORS) * 16, false);
        self.fills = fills;
        let mut left = moved;
        for n in 0..count.min(MOST_VECTORS) {
            let at = address.saturating_add(n * 16);
            let Some(vector) = bytes::<16>(memory, at).filter(|_| left > 0) else { return };
            let len = u64_in(&vector, 8).min(left);
            self.push(u64_in(&vector, 0), len, true);
            left -= len;
        }
    }
}

/// Bytes of a structure that has always the same size; 0 of what has none.
fn size(pointee: Pointee) -> u64 {
    match pointee {
        Pointee::Int | Pointee::WaitStatus => 4,
        Pointee::Long | Pointee::SigSet | Pointee::IntPair => 8,
        Pointee::EpollEvents => 12,
        Pointee::Timespec | Pointee::Timeval | Pointee::Rlimit => 16,
        Pointee::Timespecs | Pointee::Itimerval | Pointee::Itimerspec | Pointee::SigAction => 32,
        Pointee::ChildInfo => 128,
        Pointee::Stat => 144,
        Pointee::Statx => 256,
        // Six names of 65 bytes.
        Pointee::Utsname => 390,
        _ => 0,
    }
}

/// The path at an address; `None` where there is none that a call would take.
pub fn path_at(memory: &dyn GuestMemory, address: u64) -> Option<Vec<u8>> {
    string(memory, address, MOST_OF_PATH).filter(|(_, more)| !more).map(|(path, _)| path)
}

/// The places of the arguments of a call that are descriptors, and of those that are paths, each path with the
/// place of the directory's descriptor that it starts in, if it has one.
pub fn files_among(call_number: u64) -> (Vec<usize>, Vec<(usize, Option<usize>)>) {
    let kinds = call(call_number).1;
    let (mut descriptors, mut paths) = (Vec::new(), Vec::new());
    for (at, kind) in kinds.iter().enumerate() {
        match kind {
            Argument::Descriptor => descriptors.push(at),
            Argument::In(Pointee::Path) => {
                let before = at.checked_sub(1);
                paths.push((at, before.filter(|before| kinds[*before] == Argument::Directory)));
            }
            _ => {}
        }
    }
    (descriptors, paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dejavm_sandbox::program::syscall::{number, table};

    /// Memory from address 0x1000 on.
    struct Memory(Vec<u8>);

    impl GuestMemory for Memory {
        fn read(&self, address: u64, out: &mut [u8]) -> usize {
            let from = address.checked_sub(0x1000).and_then(|at| self.0.get(at as usize..)).unwrap_or(&[]);
            let n = from.len().min(out.len());
            out[..n].copy_from_slice(&from[..n]);
            n
        }
    }

    fn told(call: u64, args: [u64; 6], result: u64, memory: &[u8]) -> Vec<(usize, Range<u64>, bool)> {
        let all = extents(call, &args, result, &Memory(memory.to_vec()));
        all.into_iter().map(|extent| (extent.argument, extent.addresses, extent.fills)).collect()
    }

    #[test]
    fn as_much_as_was_moved() {
        let eio = (-5i64) as u64;
        assert_eq!(told(number::READ, [3, 0x1000, 64, 0, 0, 0], 5, &[]), [(1, 0x1000..0x1005, true)]);
        assert_eq!(told(number::READ, [3, 0x1000, 64, 0, 0, 0], eio, &[]), []);
        assert_eq!(told(number::WRITE, [3, 0x1000, 64, 0, 0, 0], 60, &[]), [(1, 0x1000..0x103c, false)]);
        assert_eq!(told(number::OPEN, [0x1000, 0, 0, 0, 0, 0], eio, b"/a\0"), [(0, 0x1000..0x1003, false)]);
        let vectors = [0x2000u64, 4, 0x3000, 4].map(u64::to_le_bytes).concat();
        let expected = [(1, 0x1000..0x1020, false), (1, 0x2000..0x2004, true), (1, 0x3000..0x3001, true)];
        assert_eq!(told(number::READV, [3, 0x1000, 2, 0, 0, 0], 5, &vectors), expected);
    }

    #[test]
    fn numbers_of_the_guest_make_no_work() {
        let most = u64::MAX;
        let all = told(number::WRITEV, [3, 0x1000, most, 0, 0, 0], most - 5000, &[0xff; 64]);
        assert!(all.len() < 6, "{all:x?}");
        assert_eq!(
            told(number::READ, [3, most - 1, most, 0, 0, 0], 1 << 62, &[]),
            [(1, most - 1..most, true)]
        );
        assert_eq!(told(most, [0x1000; 6], 0, &[]), []);
    }

    fn named(name: &str) -> u64 {
        table::all().iter().find(|call| call.name() == name).expect("a call").number()
    }

    #[test]
    fn files_are_among_the_arguments() {
        assert_eq!(files_among(named("openat")), (vec![], vec![(1, Some(0))]));
        assert_eq!(files_among(named("rename")), (vec![], vec![(0, None), (1, None)]));
        assert_eq!(files_among(number::WRITE), (vec![0], vec![]));
    }
}
