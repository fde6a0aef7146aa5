//! The table of system calls: a row for each one that Linux has on x86-64, answered or not.
//!
//! Everything that lists system calls is made from it: the dispatch, the text of logs, what a run
//! names at its end, and `docs/linux.md`.

mod argument;
mod class;
mod rows;

pub use argument::{Argument, Names, Pointee};
pub use class::Class;

use argument::Arguments;

use super::{After, Args};
use crate::errno::Errno;
use crate::program::error::SysError;
use crate::program::kernel::Kernel;

/// How far a system call is implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// As on Linux, as far as a program can tell.
    Complete,
    /// Answered, except for what the text says.
    Partial(&'static str),
    /// Not implemented: every call returns this error.
    Absent(Errno),
}

/// One system call.
#[derive(Debug)]
pub struct Syscall {
    number: u32,
    name: &'static str,
    arguments: Arguments,
    restarts: bool,
    completeness: Completeness,
    answer: fn(&mut Kernel, Args) -> Result<After, SysError>,
}

impl Syscall {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number.into()
    }

    /// Its name, as in the kernel's own table.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What its arguments are. All six, in hexadecimal, where that is not known.
    pub fn arguments(&self) -> &[Argument] {
        self.arguments.as_slice()
    }

    /// Whether a wait that a signal ended is made again where the handler asks for that
    /// (`SA_RESTART`; signal(7)). Of no consequence to a call that does not wait.
    pub fn restarts(&self) -> bool {
        self.restarts
    }

    /// How far it is implemented.
    pub fn completeness(&self) -> Completeness {
        self.completeness
    }

    /// Answers it.
    ///
    /// # Errors
    /// What the program gets as an error, and what ends the run.
    pub(super) fn answer(&self, kernel: &mut Kernel, args: Args) -> Result<After, SysError> {
        (self.answer)(kernel, args)
    }
}

/// All system calls, by number.
pub fn all() -> &'static [Syscall] {
    ROWS
}

/// Finds a system call by its number.
pub fn find(number: u64) -> Option<&'static Syscall> {
    *BY_NUMBER.get(usize::try_from(number).ok()?)?
}

static ROWS: &[Syscall] = rows::ROWS;

/// One more than the highest number.
const NUMBERS: usize = rows::ROWS[rows::ROWS.len() - 1].number as usize + 1;

/// The rows by their numbers, of which some stand for nothing.
static BY_NUMBER: [Option<&Syscall>; NUMBERS] = by_number();

const fn by_number() -> [Option<&'static Syscall>; NUMBERS] {
    let mut calls = [None; NUMBERS];
    let mut row = 0;
    while row < ROWS.len() {
        let number = ROWS[row].number;
        assert!(row == 0 || ROWS[row - 1].number < number, "the rows are in order");
        calls[number as usize] = Some(&ROWS[row]);
        row += 1;
    }
    calls
}

/// Takes a constant of `linux-raw-sys` for the name of its call.
const fn name_of(constant: &'static str) -> &'static str {
    constant.split_at("__NR_".len()).1
}

/// Makes the table of its rows.
///
/// A row is the constant of the number, a letter for each argument, marks, and how the call is
/// answered: by an expression of the process and the arguments, and how complete that is; or not at
/// all, with the error that the program gets.
///
/// Letters: `f` file descriptor, `a` directory descriptor, `p` address, `n` size, `i` signed number, `l` one
/// of 64 bits, `x` hexadecimal, `o` flags of `open`, `r` protection, `m` flags of `mmap`, `d` mode, `g` signal;
/// `#` and a letter of [`Names`] a number that has names; `<` and a letter of [`Pointee`] the address of
/// what the call reads, `>` of what it fills in; `*` for all, where they are not known here.
///
/// Marks: `[once]`, a wait that a signal ended is never made again; `[whole]`, the expression is of an
/// [`After`] instead of the value to return.
macro_rules! syscalls {
    ($(
        $number:ident $letters:literal $([$mark:ident])*
        $(|$process:pat_param, $args:pat_param| $answer:expr,)?
        $status:ident $(($what:tt))?;
    )*) => {
        pub(super) const ROWS: &[Syscall] = &[$(
            Syscall {
                number: $number,
                name: super::name_of(stringify!($number)),
                arguments: Arguments::of($letters),
                restarts: true $(&& syscalls!(@restarts $mark))*,
                completeness: syscalls!(@completeness $status $(($what))?),
                answer: syscalls!(@answer [$($mark)*] $(|$process, $args| $answer,)? $status $(($what))?),
            },
        )*];
    };
    (@restarts once) => { false };
    (@restarts whole) => { true };
    (@completeness complete) => { Completeness::Complete };
    (@completeness partial($missing:literal)) => { Completeness::Partial($missing) };
    (@completeness absent($errno:ident)) => { Completeness::Absent(Errno::$errno) };
    (@answer [] absent($errno:ident)) => { |_, _| Err(Errno::$errno.into()) };
    (@answer [once] $($rest:tt)*) => { syscalls!(@answer [] $($rest)*) };
    (@answer [whole] |$process:pat_param, $args:pat_param| $answer:expr, $($status:tt)*) => {
        |$process, $args| $answer
    };
    (@answer [] |$process:pat_param, $args:pat_param| $answer:expr, $($status:tt)*) => {
        |$process, $args| {
            let value: SysResult = $answer;
            value.map(After::Return)
        }
    };
}
use syscalls;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_row() {
        // Numbers up to 423 are other machines' (`syscall_64.tbl`).
        let last = NUMBERS as u64 - 1;
        let numbers: Vec<u64> = all().iter().map(Syscall::number).collect();
        let expected: Vec<u64> = (0..=335).chain(424..=last).collect();
        assert_eq!(numbers, expected);
        for call in all() {
            assert!(find(call.number()).is_some_and(|found| std::ptr::eq(found, call)), "{}", call.name());
        }
        for unused in [336, 423, last + 1, u64::MAX] {
            assert!(find(unused).is_none());
        }
    }

    #[test]
    fn rows_say_what_they_should() {
        let read = find(0).expect("a row");
        assert_eq!((read.name(), read.completeness()), ("read", Completeness::Complete));
        assert_eq!(read.arguments(), [Argument::Descriptor, Argument::Out(Pointee::Bytes), Argument::Size]);
        let ptrace = find(101).expect("a row");
        assert_eq!((ptrace.name(), ptrace.completeness()), ("ptrace", Completeness::Absent(Errno::ENOSYS)));
        assert_eq!(find(57).expect("a row").arguments(), []);
        let openat = find(257).expect("a row").arguments();
        assert_eq!(openat[..2], [Argument::Directory, Argument::In(Pointee::Path)]);
        let lseek = find(8).expect("a row").arguments();
        assert_eq!(lseek[2], Argument::Named(Names::Whence));
        let unknown = find(206).expect("a row");
        assert_eq!(unknown.arguments(), [Argument::Hexadecimal; 6]);
        let once: Vec<&str> = all().iter().filter(|call| !call.restarts()).map(Syscall::name).collect();
        assert!(once.contains(&"pause") && once.contains(&"clock_nanosleep") && !once.contains(&"read"));
    }

    #[test]
    fn names_are_unique_and_texts_short() {
        let names: std::collections::BTreeSet<&str> = all().iter().map(Syscall::name).collect();
        assert_eq!(names.len(), all().len());
        for call in all() {
            if let Completeness::Partial(missing) = call.completeness() {
                assert!(
                    !missing.is_empty() && missing.len() <= 100 && !missing.contains('|'),
                    "{}",
                    call.name()
                );
            }
        }
    }
}
