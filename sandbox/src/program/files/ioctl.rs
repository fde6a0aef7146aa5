//! `ioctl`: terminals, and the requests that any descriptor has.

use super::FdTable;
use crate::errno::Errno;
use crate::program::fs::{Env, Fs, FsResult, InodeId, Nature, OpenFlags, TERMIOS_SIZE, fail};

const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541b;
const FIONBIO: u32 = 0x5421;
const TIOCNOTTY: u32 = 0x5422;
const TIOCGSID: u32 = 0x5429;
const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIOASYNC: u32 = 0x5452;
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;

/// `struct winsize`: rows, columns, and two unused.
const WINSIZE_SIZE: usize = 8;

/// What `ioctl` or `fcntl` gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The call's result.
    pub value: i64,
    /// Bytes to be written to where the argument points.
    pub output: Vec<u8>,
}

impl Answer {
    /// A result without bytes.
    pub fn value(value: i64) -> Answer {
        Answer { value, output: Vec::new() }
    }

    /// Bytes, and the result 0.
    pub fn bytes(output: Vec<u8>) -> Answer {
        Answer { value: 0, output }
    }
}

/// Bytes that a request reads from where its argument points.
pub fn ioctl_input(request: u32) -> usize {
    match request {
        TCSETS | TCSETSW | TCSETSF => TERMIOS_SIZE,
        TIOCSWINSZ => WINSIZE_SIZE,
        TIOCSPGRP | FIONBIO | FIOASYNC => 4,
        _ => 0,
    }
}

impl FdTable {
    /// `ioctl`; `input` is what [`ioctl_input`] asks for.
    ///
    /// # Errors
    /// As `ioctl(2)`; `ENOTTY` for requests that the file does not have.
    pub fn ioctl(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        fd: i32,
        request: u32,
        input: &[u8],
    ) -> FsResult<Answer> {
        let description = self.get_open(fd)?;
        let (inode, offset) = (description.inode, description.offset);
        if input.len() < ioctl_input(request) {
            return fail(Errno::EFAULT);
        }
        match request {
            FIOCLEX | FIONCLEX => {
                self.set_cloexec(fd, request == FIOCLEX)?;
                Ok(Answer::value(0))
            }
            FIONBIO => self.set_status(fd, OpenFlags::NONBLOCK, word(input) != 0),
            FIOASYNC => self.set_status(fd, OpenFlags::ASYNC, word(input) != 0),
            FIONREAD => available(fs, env, inode, offset),
            FICLONE | FICLONERANGE => fail(Errno::EOPNOTSUPP),
            // The kernel's random devices have an `ioctl` of their own, which says so.
            TCGETS if fs.is_random(inode) => fail(Errno::EINVAL),
            _ if fs.is_tty(inode) => terminal(fs, env, request, input),
            _ => fail(Errno::ENOTTY),
        }
    }

    fn set_status(&mut self, fd: i32, flag: OpenFlags, on: bool) -> FsResult<Answer> {
        let flags = &mut self.get_mut(fd)?.flags;
        flags.0 = if on { flags.0 | flag.0 } else { flags.0 & !flag.0 };
        Ok(Answer::value(0))
    }
}

fn word(input: &[u8]) -> u32 {
    input.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// How much can be read at once.
fn available(fs: &mut Fs, env: &mut Env<'_>, inode: InodeId, offset: u64) -> FsResult<Answer> {
    let n = match fs.nature(inode) {
        Nature::Pipe => fs.pipe(inode).map_or(0, |pipe| pipe.len() as u64),
        Nature::Stream => {
            fs.input_ready(env, false)?;
            fs.input_ahead() as u64
        }
        Nature::File if fs.is_regular(inode) => fs.len(inode).saturating_sub(offset),
        _ => return fail(Errno::ENOTTY),
    };
    let n = i32::try_from(n).unwrap_or(i32::MAX);
    Ok(Answer::bytes(n.to_le_bytes().to_vec()))
}

/// The requests of a terminal. What a guest sets is only remembered: the host's terminal stays as
/// it is.
fn terminal(fs: &mut Fs, env: &mut Env<'_>, request: u32, input: &[u8]) -> FsResult<Answer> {
    let pid = env.host.pid();
    let terminal = fs.terminal();
    match request {
        TCGETS => Ok(Answer::bytes(terminal.termios.clone().unwrap_or_else(default_termios))),
        TCSETS | TCSETSW | TCSETSF => {
            terminal.termios = Some(input[..TERMIOS_SIZE].to_vec());
            Ok(Answer::value(0))
        }
        TIOCGWINSZ => {
            let (rows, cols) = terminal.window();
            let mut size = Vec::with_capacity(WINSIZE_SIZE);
            for n in [rows, cols, 0, 0] {
                size.extend_from_slice(&n.to_le_bytes());
            }
            Ok(Answer::bytes(size))
        }
        TIOCSWINSZ => {
            let field = |n: usize| u16::from_le_bytes([input[n], input[n + 1]]);
            terminal.size = Some((field(0), field(2)));
            Ok(Answer::value(0))
        }
        TIOCGPGRP => Ok(Answer::bytes(terminal.foreground.unwrap_or(pid).to_le_bytes().to_vec())),
        TIOCSPGRP => {
            terminal.foreground = Some(word(input));
            Ok(Answer::value(0))
        }
        TIOCGSID => Ok(Answer::bytes(pid.to_le_bytes().to_vec())),
        TCSBRK | TCXONC | TCFLSH | TIOCSCTTY | TIOCNOTTY => Ok(Answer::value(0)),
        _ => fail(Errno::ENOTTY),
    }
}

/// The settings that the kernel gives a new terminal (`tty_std_termios`).
fn default_termios() -> Vec<u8> {
    const IFLAG: u32 = 0x500; // ICRNL | IXON
    const OFLAG: u32 = 0x5; // OPOST | ONLCR
    const CFLAG: u32 = 0xbf; // B38400 | CS8 | CREAD
    const LFLAG: u32 = 0x8a3b; // ISIG ICANON ECHO ECHOE ECHOK ECHOCTL ECHOKE IEXTEN
    // INTR QUIT ERASE KILL EOF TIME MIN SWTC START STOP SUSP EOL REPRINT DISCARD WERASE LNEXT EOL2
    const CC: [u8; 19] = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0];
    let mut out = Vec::with_capacity(TERMIOS_SIZE);
    for flags in [IFLAG, OFLAG, CFLAG, LFLAG] {
        out.extend_from_slice(&flags.to_le_bytes());
    }
    out.push(0);
    out.extend_from_slice(&CC);
    out
}
