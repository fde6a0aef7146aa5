//! What the guest's standard streams look like: what this process's are.

use std::io::{stderr, stdin, stdout};
use std::os::fd::BorrowedFd;

use dejavm::sandbox::host::standard::closed_at_start;
use dejavm::{StandardFile, Stdio, StdioKind};
use rustix::fs::{FileType, Stat, fstat, major, minor};
use rustix::termios::{isatty, tcgetwinsize};

/// `/dev/null`'s device number.
const NULL: (u32, u32) = (1, 3);
/// A terminal that does not know its size: what most programs take it for.
const USUAL_SIZE: (u16, u16) = (24, 80);

/// The streams as they are.
pub fn of_host() -> Stdio {
    let (stdin, stdout, stderr) = (stdin(), stdout(), stderr());
    use std::os::fd::AsFd;
    let closed = closed_at_start();
    // In the place of one that was closed, the standard library has opened /dev/null.
    let kind = |number: usize, fd| match number {
        _ if closed[number] => StdioKind::Closed,
        0 => kind(fd, StandardFile::of_input(fd)),
        _ => kind(fd, StandardFile::of_output(fd)),
    };
    Stdio {
        stdin: kind(0, stdin.as_fd()),
        stdout: kind(1, stdout.as_fd()),
        stderr: kind(2, stderr.as_fd()),
        merged: same(stdout.as_fd(), stderr.as_fd()),
    }
}

/// The streams as a recorded run is to see them: output to `/dev/null` is output all the same, and is
/// recorded.
pub fn to_record() -> Stdio {
    let output = |kind| if kind == StdioKind::Null { StdioKind::Pipe } else { kind };
    let streams = of_host();
    Stdio { stdout: output(streams.stdout), stderr: output(streams.stderr), ..streams }
}

/// The streams as a guest is to see them whose snapshot will be given others: pipes, but for what is closed.
pub fn to_keep() -> Stdio {
    let [stdin, stdout, stderr] = closed_at_start().map(|closed| match closed {
        true => StdioKind::Closed,
        false => StdioKind::Pipe,
    });
    Stdio { stdin, stdout, stderr, merged: false }
}

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    isatty(stdin())
}

fn kind(fd: BorrowedFd<'_>, file: Option<StandardFile>) -> StdioKind {
    if let Some(file) = file {
        return StdioKind::File(file);
    }
    if isatty(fd) {
        let size = tcgetwinsize(fd).map_or((0, 0), |size| (size.ws_row, size.ws_col));
        let (rows, cols) = if size == (0, 0) { USUAL_SIZE } else { size };
        return StdioKind::Tty { rows, cols };
    }
    match fstat(fd) {
        Ok(stat) if is_null(&stat) => StdioKind::Null,
        Ok(_) => StdioKind::Pipe,
        Err(_) => StdioKind::Null,
    }
}

fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == NULL
}

/// Whether two descriptors are of one file.
fn same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    match (fstat(a), fstat(b)) {
        (Ok(a), Ok(b)) => !is_null(&a) && (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}
