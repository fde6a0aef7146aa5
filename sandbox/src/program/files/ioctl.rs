//! `ioctl`: terminals, and the requests that any descriptor has.

use super::FdTable;
use crate::errno::Errno;
use crate::host::tty::Termios;
use crate::program::fs::{Env, Fs, FsError, FsResult, InodeId, Nature, OpenFlags, TERMIOS_SIZE, fail};
use crate::world::{TerminalAnswer, TerminalModes, TerminalRequest};

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
const TIOCOUTQ: u32 = 0x5411;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541b;
const FIONBIO: u32 = 0x5421;
const TIOCNOTTY: u32 = 0x5422;
const TIOCGSID: u32 = 0x5429;
const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIOASYNC: u32 = 0x5452;
const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSW2: u32 = 0x402c_542c;
const TCSETSF2: u32 = 0x402c_542d;
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;

/// `struct winsize`: rows, columns, and pixels across and down.
const WINSIZE_SIZE: usize = 8;
/// `struct termios2`: `struct termios` and two speeds.
const TERMIOS2_SIZE: usize = TERMIOS_SIZE + 8;
/// The speed of a terminal that has none, as `B38400` says.
const SPEED: u32 = 38400;

/// The queues of `TCFLSH`.
const TCIFLUSH: u32 = 0;
const TCIOFLUSH: u32 = 2;

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
        TCSETS2 | TCSETSW2 | TCSETSF2 => TERMIOS2_SIZE,
        TIOCSWINSZ => WINSIZE_SIZE,
        TIOCSPGRP | FIONBIO | FIOASYNC => 4,
        _ => 0,
    }
}

impl FdTable {
    /// `ioctl`; `input` is what [`ioctl_input`] asks for, where `argument` points.
    ///
    /// # Errors
    /// As `ioctl(2)`; `ENOTTY` for requests that the file does not have.
    pub fn ioctl(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        fd: i32,
        request: u32,
        argument: u64,
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
            TIOCOUTQ if fs.sockets().has(inode) => number(fs.sockets().unreceived(inode)?),
            FICLONE | FICLONERANGE => fail(Errno::EOPNOTSUPP),
            // The kernel's random devices have an `ioctl` of their own, which says so.
            TCGETS if fs.is_random(inode) => fail(Errno::EINVAL),
            _ if fs.is_tty(inode) => terminal(fs, env, request, argument, input),
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
        // The writing end of what looks like a pipe has nothing to read.
        Nature::Stream if !fs.is_stdin(inode) && !fs.is_tty(inode) => 0,
        Nature::Stream => {
            let tty = fs.is_tty(inode);
            fs.input_available(env, tty)?
        }
        Nature::Anon if fs.sockets().has(inode) => fs.sockets().available(inode)?,
        Nature::File if fs.is_regular(inode) => fs.len(inode).saturating_sub(offset),
        _ => return fail(Errno::ENOTTY),
    };
    number(n)
}

/// A number of bytes, as a program reads it.
fn number(n: u64) -> FsResult<Answer> {
    let n = i32::try_from(n).unwrap_or(i32::MAX);
    Ok(Answer::bytes(n.to_le_bytes().to_vec()))
}

/// The requests of a terminal: the one outside has its modes and its size. Where there is none, what a
/// guest sets is remembered. Process groups and sessions are the guest's own.
fn terminal(fs: &mut Fs, env: &mut Env<'_>, request: u32, argument: u64, input: &[u8]) -> FsResult<Answer> {
    let pid = env.caller.pid();
    match request {
        TCGETS => Ok(Answer::bytes(modes(fs, env)?.to_vec())),
        TCGETS2 => Ok(Answer::bytes([&modes(fs, env)?[..], &[SPEED.to_le_bytes(); 2].concat()].concat())),
        TCSETS | TCSETSW | TCSETSF | TCSETS2 | TCSETSW2 | TCSETSF2 => {
            if !matches!(request, TCSETS | TCSETS2) {
                ask(env, TerminalRequest::Drain)?;
            }
            if matches!(request, TCSETSF | TCSETSF2) {
                flush(fs, env, TCIFLUSH)?;
            }
            let mut bytes: Termios = [0; TERMIOS_SIZE];
            bytes.copy_from_slice(&input[..TERMIOS_SIZE]);
            let modes = TerminalModes::from_bytes(&bytes);
            if ask(env, TerminalRequest::SetModes(modes))?.is_none() {
                fs.terminal().termios = Some(bytes.to_vec());
            }
            Ok(Answer::value(0))
        }
        TIOCGWINSZ => {
            let size = match ask(env, TerminalRequest::Size)? {
                Some(TerminalAnswer::Size(size)) => size,
                _ => {
                    let (rows, cols) = fs.terminal().window();
                    [rows, cols, 0, 0]
                }
            };
            Ok(Answer::bytes(size.iter().flat_map(|n| n.to_le_bytes()).collect()))
        }
        TIOCSWINSZ => {
            let size = std::array::from_fn(|n| u16::from_le_bytes([input[n * 2], input[n * 2 + 1]]));
            if ask(env, TerminalRequest::SetSize(size))?.is_none() {
                fs.terminal().size = Some((size[0], size[1]));
            }
            Ok(Answer::value(0))
        }
        TIOCGPGRP => {
            let group = fs.terminal().foreground.unwrap_or(pid);
            Ok(Answer::bytes(group.to_le_bytes().to_vec()))
        }
        TIOCSPGRP => {
            fs.terminal().foreground = Some(word(input));
            Ok(Answer::value(0))
        }
        TIOCGSID => Ok(Answer::bytes(pid.to_le_bytes().to_vec())),
        TIOCOUTQ => Ok(Answer::bytes(vec![0; 4])),
        TCFLSH if argument as u32 > TCIOFLUSH => fail(Errno::EINVAL),
        TCFLSH => flush(fs, env, argument as u32),
        // A break takes a line; with an argument it is `tcdrain`.
        TCSBRK => ask(env, TerminalRequest::Drain).map(|_| Answer::value(0)),
        TCXONC | TIOCSCTTY | TIOCNOTTY => Ok(Answer::value(0)),
        _ => fail(Errno::ENOTTY),
    }
}

/// Asks the terminal outside; `None` where there is none.
fn ask(env: &mut Env<'_>, request: TerminalRequest) -> FsResult<Option<TerminalAnswer>> {
    match env.world.terminal(request)? {
        Ok(answer) if request.takes(&answer) => Ok(Some(answer)),
        Ok(_) => fail(Errno::EIO),
        Err(Errno::ENOTTY) => Ok(None),
        Err(Errno::EINTR) => Err(FsError::Signal),
        Err(errno) => fail(errno),
    }
}

fn modes(fs: &mut Fs, env: &mut Env<'_>) -> FsResult<Termios> {
    if let Some(TerminalAnswer::Modes(modes)) = ask(env, TerminalRequest::Modes)? {
        return Ok(modes.to_bytes());
    }
    let kept = fs.terminal().termios.as_ref().and_then(|bytes| bytes.first_chunk().copied());
    Ok(kept.unwrap_or_else(default_termios))
}

fn flush(fs: &mut Fs, env: &mut Env<'_>, queue: u32) -> FsResult<Answer> {
    if ask(env, TerminalRequest::Flush(queue))?.is_some() && matches!(queue, TCIFLUSH | TCIOFLUSH) {
        fs.flush_input();
    }
    Ok(Answer::value(0))
}

/// The settings that the kernel gives a new terminal (`tty_std_termios`).
fn default_termios() -> Termios {
    const IFLAG: u32 = 0x500; // ICRNL | IXON
    const OFLAG: u32 = 0x5; // OPOST | ONLCR
    const CFLAG: u32 = 0xbf; // B38400 | CS8 | CREAD
    const LFLAG: u32 = 0x8a3b; // ISIG ICANON ECHO ECHOE ECHOK ECHOCTL ECHOKE IEXTEN
    // INTR QUIT ERASE KILL EOF TIME MIN SWTC START STOP SUSP EOL REPRINT DISCARD WERASE LNEXT EOL2
    const CC: [u8; 19] = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0];
    TerminalModes { flags: [IFLAG, OFLAG, CFLAG, LFLAG], line: 0, control: CC }.to_bytes()
}
