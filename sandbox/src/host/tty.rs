//! Terminals of the host: their modes, as bytes of the kernel's own structure, and their size.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of the kernel's `struct termios` (`include/uapi/asm-generic/termbits.h`): four flag words, the
/// line discipline and 19 control characters.
pub const TERMIOS_SIZE: usize = 36;

/// `struct termios` as bytes.
pub type Termios = [u8; TERMIOS_SIZE];

/// `struct winsize` as numbers: rows, columns, and pixels across and down.
pub type Winsize = [u16; 4];

fn result(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `TCGETS`.
///
/// # Errors
/// `ENOTTY` for what is no terminal.
pub fn modes(fd: BorrowedFd<'_>) -> io::Result<Termios> {
    let mut termios = [0u8; TERMIOS_SIZE];
    // SAFETY: the kernel writes `struct termios`, of so many bytes, without alignment of its own.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCGETS, termios.as_mut_ptr()) })?;
    Ok(termios)
}

/// `TCSETS`: at once.
///
/// # Errors
/// As the host says.
pub fn set_modes(fd: BorrowedFd<'_>, termios: &Termios) -> io::Result<()> {
    // SAFETY: the kernel reads `struct termios`, of so many bytes.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCSETS, termios.as_ptr()) })
}

/// `TIOCGWINSZ`.
///
/// # Errors
/// `ENOTTY` for what is no terminal.
pub fn size(fd: BorrowedFd<'_>) -> io::Result<Winsize> {
    let mut size: Winsize = [0; 4];
    // SAFETY: the kernel writes `struct winsize`, four 16-bit numbers.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr()) })?;
    Ok(size)
}

/// `TIOCSWINSZ`.
///
/// # Errors
/// As the host says.
pub fn set_size(fd: BorrowedFd<'_>, size: &Winsize) -> io::Result<()> {
    // SAFETY: the kernel reads `struct winsize`, four 16-bit numbers.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, size.as_ptr()) })
}

/// `TCFLSH`: throws away what waits in a queue (`TCIFLUSH`, `TCOFLUSH`, `TCIOFLUSH`).
///
/// # Errors
/// As the host says.
pub fn flush(fd: BorrowedFd<'_>, queue: u32) -> io::Result<()> {
    // SAFETY: this request takes a number.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCFLSH, libc::c_ulong::from(queue)) })
}

/// `FIONREAD`: bytes that can be read at once.
///
/// # Errors
/// As the host says.
pub fn available(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes an int.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &mut count) })?;
    Ok(u32::try_from(count).unwrap_or(0))
}

/// `TIOCOUTQ`: bytes that were written and have not gone out.
///
/// # Errors
/// As the host says.
pub fn unsent(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes an int.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &mut count) })?;
    Ok(u32::try_from(count).unwrap_or(0))
}

/// How long a read waits where lines are not kept and no byte is due: `VTIME`, in tenths of a second,
/// when `VMIN` is 0 and `ICANON` is off.
pub fn read_tenths(termios: &Termios) -> Option<u8> {
    const LOCAL_FLAGS: usize = 12;
    const CONTROL: usize = 17;
    let canonical = termios[LOCAL_FLAGS] & libc::ICANON as u8 != 0;
    (!canonical && termios[CONTROL + libc::VMIN] == 0).then_some(termios[CONTROL + libc::VTIME])
}
