//! Records as text: a line each, for people, in the manner of strace, or as JSON, for tools.

mod args;
mod decode;
mod json;
mod names;
mod words;

use std::borrow::Cow;
use std::fmt;

use dejavm_sandbox::errno::Errno;
use dejavm_sandbox::exit::{Exit, ExitKind, Trapped};
use dejavm_sandbox::kernel::ports;
use dejavm_sandbox::machine::End;
use dejavm_sandbox::program::process::PROGRAM_PID;
use dejavm_sandbox::program::syscall::number;
use dejavm_sandbox::program::syscall::table::{self, Argument};

pub use decode::{
    Decoded, Decoder, Extent, MOST_STRING_BYTES, STRING_BYTES, extents, files_among, path_at, quote,
    strings_at,
};
pub use json::{json_exit, json_record};
pub use names::signal as signal_name;
pub(crate) use words::path as format_path;
pub use words::{format_answer, format_asked, format_fault};

use crate::record::Record;

/// The name of an x86-64 system call; `None` for a number that Linux does not use.
pub fn syscall_name(number: u64) -> Option<&'static str> {
    table::find(number).map(table::Syscall::name)
}

/// The name of a system call, or one made of its number.
pub fn call_name(number: u64) -> Cow<'static, str> {
    syscall_name(number).map_or_else(|| format!("syscall_{number}").into(), Cow::from)
}

/// What the arguments of a call are that has no name.
const UNKNOWN: &[Argument] = &[Argument::Hexadecimal; 6];

/// Name and kinds of arguments.
fn call(number: u64) -> (Cow<'static, str>, &'static [Argument]) {
    (call_name(number), table::find(number).map_or(UNKNOWN, table::Syscall::arguments))
}

/// A system call in the parts of its line, `name(arguments) = result`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLine {
    /// The call's name.
    pub name: Cow<'static, str>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What came of it.
    pub result: String,
    /// Whether that is an error.
    pub failed: bool,
}

impl CallLine {
    /// Of a system call, with what is known of it; `None` of another exit.
    pub fn of(exit: &Exit, decoded: &Decoded) -> Option<CallLine> {
        let ExitKind::Syscall { number, args } = &exit.kind else { return None };
        let (name, kinds) = call(*number);
        let mut result = format_result(*number, exit.result);
        if let Some(note) = decoded.note() {
            result.push_str(&format!(" ({note})"));
        }
        let arguments = args::format(*number, kinds, args, decoded.texts());
        Some(CallLine { name, arguments, result, failed: errno_of(exit.result).is_some() })
    }
}

impl fmt::Display for CallLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}) = {}", self.name, self.arguments.join(", "), self.result)
    }
}

/// One line for an exit: its number, what it was, and what came of it, such as
/// `      12  openat(AT_FDCWD, 0x7ffe1000, O_RDONLY) = 3`. No newline.
pub fn format_exit(exit: &Exit) -> String {
    format!("{:>8}  {}", exit.number, format_kind(exit))
}

/// [`format_exit`] without the number. A task other than the first program's first one is named, as
/// `strace -f` names it.
pub fn format_kind(exit: &Exit) -> String {
    match exit.task {
        0 | PROGRAM_PID => format_what(exit),
        task => format!("[pid {task}] {}", format_what(exit)),
    }
}

/// What an exit was and what came of it, without its number and task.
pub fn format_what(exit: &Exit) -> String {
    if let Some(line) = CallLine::of(exit, &Decoded::default()) {
        return line.to_string();
    }
    match &exit.kind {
        // All of these are lines of calls.
        ExitKind::Syscall { .. } => String::new(),
        ExitKind::Instruction(Trapped::Rdtsc) => format!("rdtsc = {:#x}", exit.result),
        ExitKind::Instruction(Trapped::Rdtscp) => format!("rdtscp = {:#x}", exit.result),
        ExitKind::Instruction(Trapped::Rdrand) => format!("rdrand = {:#x}", exit.result),
        ExitKind::Instruction(Trapped::Pause) => "pause".into(),
        ExitKind::Instruction(Trapped::Rdpid) => format!("rdpid = {:#x}", exit.result),
        ExitKind::Instruction(Trapped::Xgetbv) => format!("xgetbv = {:#x}", exit.result),
        ExitKind::Instruction(Trapped::Rdseed) => format!("rdseed = {:#x}", exit.result),
        ExitKind::Instruction(Trapped::Cpuid { leaf, subleaf }) => {
            format!("cpuid({leaf:#x}, {subleaf:#x}) = {:#x}", exit.result)
        }
        ExitKind::Exception { vector, code, address } => {
            let name = exception_name(*vector);
            format!("--- {name}, code {code:#x}, address {address:#x}, at {:#x} ---", exit.rip)
        }
        ExitKind::End { status } => match End::of_status(*status) {
            End::Exited(status) => format!("+++ exited with {status} +++"),
            End::Signalled(signal) => format!("+++ killed by {} +++", names::signal(signal.into())),
            End::Reset => "+++ reset +++".into(),
            End::TripleFault => format!("+++ triple fault at {:#x} +++", exit.rip),
            End::Halted => format!("+++ halted for ever at {:#x} +++", exit.rip),
        },
        ExitKind::In { port, len } => {
            format!("in({}, {len}) = {:#x}", port_name(*port), exit.result)
        }
        ExitKind::Out { port, len } => {
            format!("out({}, {len}, {})", port_name(*port), format_out(exit.result, *len))
        }
        ExitKind::Timer { steps } => format!("--- timer, behind {steps} steps, at {:#x} ---", exit.rip),
        ExitKind::Preempted { steps } => {
            format!("--- preempted, behind {steps} steps, at {:#x} ---", exit.rip)
        }
        ExitKind::Sliced { branches } => {
            format!("--- time slice over, behind {branches} branches, at {:#x} ---", exit.rip)
        }
        ExitKind::Circle { steps } => {
            format!("--- in a circle of {steps} steps, at {:#x} ---", exit.rip)
        }
    }
}

/// A port by its device, else by its number.
fn port_name(port: u16) -> String {
    match ports::name(port) {
        Some(name) => name.into(),
        None => format!("{port:#x}"),
    }
}

/// What was written to a port: a byte that is a character, as that.
fn format_out(value: u64, len: u32) -> String {
    match u8::try_from(value) {
        Ok(byte) if len == 1 && (byte.is_ascii_graphic() || byte.is_ascii_whitespace() || byte == b' ') => {
            format!("{:?}", char::from(byte))
        }
        _ => format!("{value:#x}"),
    }
}

/// RAX after a system call: an error by its name, small numbers decimal, addresses hexadecimal.
fn format_result(call: u64, result: u64) -> String {
    if let Some(errno) = errno_of(result) {
        return match errno.name() {
            Some(name) => format!("-1 {name} ({})", errno.text()),
            None => format!("-{}", errno.number()),
        };
    }
    match call {
        // These do not return.
        number::EXIT | number::EXIT_GROUP => "?".into(),
        number::BRK | number::MMAP | number::MREMAP | number::SHMAT => format!("{result:#x}"),
        _ if result < 1 << 32 => result.to_string(),
        _ => format!("{result:#x}"),
    }
}

/// The error that RAX holds after a system call, if it holds one.
pub fn errno_of(result: u64) -> Option<Errno> {
    let number = (result as i64).checked_neg().filter(|n| (1..4096).contains(n))?;
    Some(Errno::from_host(number as i32))
}

/// The exception's name (Intel SDM volume 3, table 7-1).
pub fn exception_name(vector: u8) -> &'static str {
    match vector {
        0 => "#DE",
        1 => "#DB",
        2 => "NMI",
        3 => "#BP",
        4 => "#OF",
        5 => "#BR",
        6 => "#UD",
        7 => "#NM",
        8 => "#DF",
        10 => "#TS",
        11 => "#NP",
        12 => "#SS",
        13 => "#GP",
        14 => "#PF",
        16 => "#MF",
        17 => "#AC",
        18 => "#MC",
        19 => "#XM",
        20 => "#VE",
        21 => "#CP",
        _ => "exception",
    }
}

/// One line for any record; those that are not exits are set apart. No newline.
pub fn format_record(record: &Record) -> String {
    match record {
        Record::Exit(exit) => format_exit(exit),
        Record::Fault(fault) => format!("{:>8}  . {}", "", format_fault(fault)),
        Record::World(world) => {
            format!("{:>8}  < {} = {}", "", format_asked(&world.asked), format_answer(&world.answer))
        }
        Record::Keyed(keyed) => {
            let path = words::path(&keyed.path);
            format!("{:>8}  < read-block {path} #{} = {}", "", keyed.block, format_answer(&keyed.answer))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(kind: ExitKind, result: u64) -> Exit {
        Exit { number: 12, task: 2, kind, rip: 0x401000, result, effects: 0, clock: 0 }
    }

    fn call(number: u64, args: [u64; 6], result: u64) -> String {
        format_exit(&exit(ExitKind::Syscall { number, args }, result))
    }

    #[test]
    fn calls_as_strace_shows_them() {
        let cwd = (-100i32) as u32;
        let openat = call(257, [u64::from(cwd), 0x7ffe_1000, 0, 0, 0, 0], 3);
        assert_eq!(openat, "      12  openat(AT_FDCWD, 0x7ffe1000, O_RDONLY) = 3");
        let read = call(0, [3, 0x1000, 64, 9, 9, 9], Errno::EBADF.to_rax());
        assert_eq!(read, "      12  read(3, 0x1000, 64) = -1 EBADF (Bad file descriptor)");
        let mmap = call(9, [0, 4096, 3, 0x22, u64::MAX, 0], 0x7fff_f000_0000);
        assert_eq!(
            mmap,
            "      12  mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7ffff0000000"
        );
        assert_eq!(call(39, [1; 6], 7), "      12  getpid() = 7");
        assert_eq!(
            call(9999, [1, 2, 3, 4, 5, 6], 0),
            "      12  syscall_9999(0x1, 0x2, 0x3, 0x4, 0x5, 0x6) = 0"
        );
        assert_eq!(call(62, [5, 9, 0, 0, 0, 0], 0), "      12  kill(5, SIGKILL) = 0");
    }

    #[test]
    fn the_other_kinds() {
        let line = |kind| format_kind(&exit(kind, 1));
        assert_eq!(line(ExitKind::Instruction(Trapped::Rdtsc)), "rdtsc = 0x1");
        assert_eq!(
            line(ExitKind::Instruction(Trapped::Cpuid { leaf: 7, subleaf: 0 })),
            "cpuid(0x7, 0x0) = 0x1"
        );
        assert_eq!(line(ExitKind::End { status: 3 << 8 }), "+++ exited with 3 +++");
        assert_eq!(line(ExitKind::End { status: 11 }), "+++ killed by SIGSEGV +++");
        assert_eq!(line(ExitKind::Timer { steps: 9 }), "--- timer, behind 9 steps, at 0x401000 ---");
        assert_eq!(
            line(ExitKind::Exception { vector: 14, code: 4, address: 0x10 }),
            "--- #PF, code 0x4, address 0x10, at 0x401000 ---"
        );
    }

    #[test]
    fn any_call_has_a_text() {
        for syscall in table::all() {
            for value in [0, 1, u64::MAX, 1 << 63, 0xffff_ffff] {
                let line = call(syscall.number(), [value; 6], 0);
                assert!(line.contains(&format!("  {}(", syscall.name())), "{line}");
                assert!(!line.contains("(,") && !line.contains(", ,") && !line.contains(", )"), "{line}");
            }
            assert_eq!(syscall_name(syscall.number()), Some(syscall.name()));
        }
        assert_eq!(syscall_name(336), None);
        assert_eq!(syscall_name(u64::MAX), None);
    }

    #[test]
    fn any_result_has_a_text() {
        for result in [0, 1, u64::MAX, 1 << 63, u64::MAX - 4094, u64::MAX - 4095, 1 << 32] {
            assert!(!format_result(0, result).is_empty());
        }
        assert_eq!(format_result(0, i64::MIN as u64), "0x8000000000000000");
    }
}
