//! Reading and writing: one piece, or a call's worth of pieces.

use super::FdTable;
use crate::errno::Errno;
use crate::program::fs::{
    Env, Fs, FsResult, InodeId, IoOutcome, Nature, OpenFlags, SEAL_FUTURE_WRITE, SEAL_GROW, SEAL_WRITE, Spot,
    fail,
};

/// Which offset a call works at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// The description's own, which it moves.
    Position,
    /// The given one.
    Offset(i64),
}

/// `RWF_*` (`include/uapi/linux/fs.h`): flags of one call of `preadv2` or `pwritev2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RwFlags(pub u32);

impl RwFlags {
    /// Poll for the end: a hint.
    const HIPRI: u32 = 1;
    /// `RWF_DSYNC` and `RWF_SYNC`.
    const SYNC: u32 = 6;
    const NOWAIT: u32 = 8;
    const APPEND: u32 = 0x10;
    const NOAPPEND: u32 = 0x20;
    const ATOMIC: u32 = 0x40;
    const DONTCACHE: u32 = 0x80;
    const NOSIGNAL: u32 = 0x100;
    const KNOWN: u32 = 0x1ff;

    fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    /// `kiocb_set_rw_flags`.
    fn check(self, nature: Nature) -> FsResult<()> {
        let buffered = nature == Nature::File;
        if nature == Nature::Dir && self.0 & !RwFlags::HIPRI != 0
            || self.0 & !RwFlags::KNOWN != 0
            || self.has(RwFlags::ATOMIC)
            || self.has(RwFlags::DONTCACHE) && !buffered
        {
            return fail(Errno::EOPNOTSUPP);
        }
        if self.has(RwFlags::APPEND) && self.has(RwFlags::NOAPPEND) {
            return fail(Errno::EINVAL);
        }
        Ok(())
    }

    /// Whether a write to a pipe that nobody reads raises `SIGPIPE`.
    pub fn signals(self) -> bool {
        !self.has(RwFlags::NOSIGNAL)
    }
}

/// A read or write under way: what it needs of its description, and how far it is.
///
/// The description's position and length are what they were until [`FdTable::finish`]: a call that is
/// interrupted is made again from its start.
#[derive(Clone, Debug)]
pub struct Transfer {
    fd: i32,
    inode: InodeId,
    nature: Nature,
    pub(super) nonblock: bool,
    /// What it writes to a pipe are packets (`O_DIRECT`).
    packets: bool,
    offset: u64,
    /// It works at the description's position.
    moves: bool,
    /// The file's length before it, if it appends.
    end: Option<u64>,
    /// Where it writes to in a regular file that output goes to, and whether what it writes is to be on the
    /// disk. All else that a program writes is as safe as it gets.
    output: Option<(Spot, bool)>,
    /// It is of a process's memory, at addresses.
    of_memory: bool,
    /// It is of a socket.
    of_socket: bool,
}

/// Bytes that one call writes at most to a regular file that output goes to: it is not interrupted, since
/// what is out stays out.
const OUTPUT_MOST: u64 = 32 << 20;

impl Transfer {
    /// Whether there is more after a piece that was filled: not for what gives or takes as much as it
    /// likes.
    pub fn in_pieces(&self) -> bool {
        matches!(self.nature, Nature::File | Nature::Device)
    }

    pub(super) fn fd(&self) -> i32 {
        self.fd
    }

    pub(super) fn inode(&self) -> InodeId {
        self.inode
    }

    /// Where the next byte goes or comes from.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether it is of a process's memory: offsets are addresses, and do not end at 2^63.
    pub fn is_of_memory(&self) -> bool {
        self.of_memory
    }

    /// The descriptor, and whether it does not wait, if it is a socket's: messages are not read and written
    /// piece by piece.
    pub fn socket(&self) -> Option<(i32, bool)> {
        self.of_socket.then_some((self.fd, self.nonblock))
    }

    /// Whether there is more to be written after a piece that was taken whole.
    pub fn writes_on(&self) -> bool {
        self.in_pieces() || self.nature == Nature::Pipe
    }

    /// Whether a call that did part of it can be made again from its start.
    pub fn can_be_undone(&self) -> bool {
        self.output.is_none() && self.nature != Nature::Pipe
    }

    /// Bytes that a call moves at most.
    pub fn most(&self) -> u64 {
        if self.output.is_some() { OUTPUT_MOST } else { u64::MAX }
    }
}

impl FdTable {
    /// Starts a read.
    ///
    /// # Errors
    /// As `preadv2(2)`, for what can be told before any byte is read.
    pub fn start_read(&self, fs: &Fs, fd: i32, at: Where, flags: RwFlags) -> FsResult<Transfer> {
        let transfer = self.start(fs, fd, at, flags)?;
        if !self.get(fd)?.flags.reads() {
            return fail(Errno::EBADF);
        }
        flags.check(transfer.nature)?;
        match transfer.nature {
            Nature::Anon if !fs.anon_io(transfer.inode).0 => fail(Errno::EINVAL),
            Nature::Closed => fail(Errno::EINVAL),
            _ => Ok(transfer),
        }
    }

    /// Starts a write.
    ///
    /// # Errors
    /// As `pwritev2(2)`, for what can be told before any byte is written.
    pub fn start_write(&self, fs: &Fs, fd: i32, at: Where, flags: RwFlags) -> FsResult<Transfer> {
        let mut transfer = self.start(fs, fd, at, flags)?;
        let of_file = self.get(fd)?.flags;
        if !of_file.writes() {
            return fail(Errno::EBADF);
        }
        flags.check(transfer.nature)?;
        let takes_nothing = transfer.nature == Nature::Anon && !fs.anon_io(transfer.inode).1;
        if takes_nothing || matches!(transfer.nature, Nature::Dir | Nature::Closed) {
            return fail(Errno::EINVAL);
        }
        let sync = flags.has(RwFlags::SYNC) || of_file.has(OpenFlags::DSYNC);
        let of_file = of_file.has(OpenFlags::APPEND);
        let append = of_file && !flags.has(RwFlags::NOAPPEND) || flags.has(RwFlags::APPEND);
        if append {
            transfer.offset = fs.len(transfer.inode);
            transfer.end = Some(transfer.offset);
        }
        if fs.is_output_file(transfer.inode) {
            // Of the descriptor outside: what the guest changes of its own does not change that one.
            let appends = fs.standard_file(transfer.inode).is_some_and(|file| file.append);
            let shared = transfer.moves && self.get(fd)?.outside;
            let spot = match (append, shared && append == appends) {
                (_, true) => Spot::Position,
                (true, false) => Spot::End,
                (false, false) => Spot::Offset,
            };
            transfer.output = Some((spot, sync));
        }
        Ok(transfer)
    }

    fn start(&self, fs: &Fs, fd: i32, at: Where, flags: RwFlags) -> FsResult<Transfer> {
        let description = self.get_open(fd)?;
        let nature = fs.nature(description.inode);
        let offset = match at {
            Where::Position => description.offset,
            Where::Offset(offset) => {
                self.expect_offsets(fs, fd, offset)?;
                u64::try_from(offset).unwrap_or(0)
            }
        };
        Ok(Transfer {
            fd,
            inode: description.inode,
            nature,
            nonblock: description.nonblock() || flags.has(RwFlags::NOWAIT),
            packets: description.flags.has(OpenFlags::DIRECT),
            offset,
            moves: at == Where::Position,
            end: None,
            output: None,
            of_memory: fs.is_memory(description.inode),
            of_socket: fs.sockets().has(description.inode),
        })
    }

    /// Refuses what cannot be read or written at an offset.
    ///
    /// # Errors
    /// `EINVAL` for an offset below 0, `EBADF`, `ESPIPE`.
    fn expect_offsets(&self, fs: &Fs, fd: i32, offset: i64) -> FsResult<()> {
        if offset < 0 {
            return fail(Errno::EINVAL);
        }
        match fs.nature(self.get_open(fd)?.inode) {
            Nature::Stream | Nature::Pipe | Nature::Anon => fail(Errno::ESPIPE),
            _ => Ok(()),
        }
    }

    /// Refuses a bad descriptor, and one for paths only.
    ///
    /// # Errors
    /// `EBADF`
    pub fn expect_open(&self, fd: i32) -> FsResult<()> {
        self.get_open(fd).map(|_| ())
    }

    /// Reads the next piece.
    ///
    /// # Errors
    /// As `read(2)`; [`FsError::Block`](crate::program::fs::FsError::Block) for an empty pipe.
    pub fn read_piece(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        transfer: &mut Transfer,
        buf: &mut [u8],
    ) -> FsResult<usize> {
        if transfer.nature == Nature::Dir {
            return fail(Errno::EISDIR);
        }
        let n = match fs.told_descriptor(transfer.inode) {
            Some(told) => self.read_info(told, transfer.offset, buf)?,
            None => match self.read_text(fs, env, transfer, buf)? {
                Some(n) => n,
                None => fs.read(env, transfer.inode, transfer.offset, buf, transfer.nonblock)?,
            },
        };
        transfer.offset = transfer.offset.saturating_add(n as u64);
        Ok(n)
    }

    /// Whether a read would give nothing, whatever its buffer: at the end of a file, and of
    /// `/dev/null`.
    pub fn is_at_end(&mut self, fs: &mut Fs, env: &mut Env<'_>, transfer: &Transfer) -> FsResult<bool> {
        match transfer.nature {
            Nature::File => Ok(self.read_piece(fs, env, &mut transfer.clone(), &mut [0])? == 0),
            Nature::Pipe => {
                let empty = fs.pipe(transfer.inode).is_some_and(|pipe| pipe.len() == 0);
                Ok(empty && fs.read(env, transfer.inode, 0, &mut [0], transfer.nonblock)? == 0)
            }
            Nature::Dir => fail(Errno::EISDIR),
            _ => Ok(fs.is_null(transfer.inode)),
        }
    }

    /// Writes the next piece.
    ///
    /// # Errors
    /// As `write(2)`; [`FsError::Block`](crate::program::fs::FsError::Block) for a full pipe. With
    /// `EPIPE` the caller raises `SIGPIPE`.
    pub fn write_piece(
        fs: &mut Fs,
        env: &mut Env<'_>,
        transfer: &mut Transfer,
        data: &[u8],
    ) -> FsResult<IoOutcome> {
        let seals = fs.seals(transfer.inode);
        if seals & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0 && !data.is_empty() {
            return fail(Errno::EPERM);
        }
        let grows = transfer.offset.saturating_add(data.len() as u64) > fs.len(transfer.inode);
        if seals & SEAL_GROW != 0 && grows {
            return fail(Errno::EPERM);
        }
        let outcome = match transfer.output {
            Some((spot, sync)) => {
                let at = (transfer.offset, spot);
                let n = fs.write_output(env, transfer.inode, at, data)?;
                if sync {
                    fs.sync_output(env, transfer.inode)?;
                }
                IoOutcome::Done(n)
            }
            None if transfer.nature == Nature::Pipe => {
                fs.write_pipe(transfer.inode, data, transfer.nonblock, transfer.packets)?
            }
            None => fs.write(env, transfer.inode, transfer.offset, data, transfer.nonblock)?,
        };
        if let IoOutcome::Done(n) | IoOutcome::Partial(n) = &outcome {
            transfer.offset = transfer.offset.saturating_add(*n as u64);
        }
        Ok(outcome)
    }

    /// Ends a transfer of which something was done.
    ///
    /// # Errors
    /// `EBADF`
    pub fn finish(&mut self, fs: &Fs, env: &mut Env<'_>, transfer: &Transfer) -> FsResult<()> {
        if !transfer.moves || transfer.nature != Nature::File {
            return Ok(());
        }
        if matches!(transfer.output, Some((Spot::Position, _))) {
            // Moved outside by the write.
            self.get_mut(transfer.fd)?.offset = transfer.offset;
            return Ok(());
        }
        self.move_to(fs, env, transfer.fd, transfer.offset)
    }

    /// Moves a description's position.
    pub(super) fn move_to(&mut self, fs: &Fs, env: &mut Env<'_>, fd: i32, offset: u64) -> FsResult<()> {
        let description = self.get_mut(fd)?;
        if description.outside && description.offset != offset {
            fs.seek_outside(env, description.inode, offset);
        }
        description.offset = offset;
        Ok(())
    }

    /// Takes back what an interrupted transfer did that would show when it is made again: what it
    /// appended.
    ///
    /// # Errors
    /// When content in guest memory cannot be changed.
    pub fn undo(fs: &mut Fs, env: &mut Env<'_>, transfer: &Transfer) -> FsResult<()> {
        match transfer.end {
            Some(end)
                if transfer.output.is_none()
                    && fs.is_regular(transfer.inode)
                    && fs.len(transfer.inode) > end =>
            {
                fs.set_len(env, transfer.inode, end)
            }
            _ => Ok(()),
        }
    }

    /// Whether a write is taken whole without a look at it: by `/dev/null` and `/dev/zero`.
    pub fn swallows(fs: &Fs, transfer: &Transfer) -> bool {
        fs.is_null(transfer.inode) || fs.is_zeros(transfer.inode)
    }

    /// Reads at the description's position, and moves it.
    ///
    /// # Errors
    /// As [`FdTable::read_piece`].
    pub fn read(&mut self, fs: &mut Fs, env: &mut Env<'_>, fd: i32, buf: &mut [u8]) -> FsResult<usize> {
        let mut transfer = self.start_read(fs, fd, Where::Position, RwFlags::default())?;
        let n = self.read_piece(fs, env, &mut transfer, buf)?;
        self.finish(fs, env, &transfer)?;
        Ok(n)
    }

    /// Reads `/proc/self/fdinfo/<fd>`.
    fn read_info(&self, fd: u32, offset: u64, buf: &mut [u8]) -> FsResult<usize> {
        /// The mount that `/proc/self/mountinfo` calls by this number.
        const ROOT_MOUNT: u32 = 20;
        let fd = i32::try_from(fd).unwrap_or(-1);
        let description = self.get(fd)?;
        let cloexec = if self.cloexec(fd)? { OpenFlags::CLOEXEC.0 } else { 0 };
        let text = format!(
            "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{ROOT_MOUNT}\nino:\t{}\n",
            description.offset,
            description.flags.0 | cloexec,
            description.inode.number()
        );
        let rest = text.as_bytes().get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    /// Writes at the description's position, or at the end with `O_APPEND`, and moves it.
    ///
    /// # Errors
    /// As [`FdTable::write_piece`].
    pub fn write(&mut self, fs: &mut Fs, env: &mut Env<'_>, fd: i32, data: &[u8]) -> FsResult<IoOutcome> {
        let mut transfer = self.start_write(fs, fd, Where::Position, RwFlags::default())?;
        let outcome = FdTable::write_piece(fs, env, &mut transfer, data)?;
        self.finish(fs, env, &transfer)?;
        Ok(outcome)
    }

    /// Reads at an offset.
    ///
    /// # Errors
    /// As `pread(2)`: `ESPIPE` for what has no offsets, `EINVAL` for one below 0.
    pub fn pread(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        fd: i32,
        buf: &mut [u8],
        offset: i64,
    ) -> FsResult<usize> {
        let mut transfer = self.start_read(fs, fd, Where::Offset(offset), RwFlags::default())?;
        self.read_piece(fs, env, &mut transfer, buf)
    }

    /// Writes at an offset; with `O_APPEND` at the end all the same, as Linux does.
    ///
    /// # Errors
    /// As `pwrite(2)`.
    pub fn pwrite(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        fd: i32,
        data: &[u8],
        offset: i64,
    ) -> FsResult<IoOutcome> {
        let mut transfer = self.start_write(fs, fd, Where::Offset(offset), RwFlags::default())?;
        FdTable::write_piece(fs, env, &mut transfer, data)
    }
}
