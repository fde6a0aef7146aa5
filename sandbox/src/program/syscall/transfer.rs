//! `read`, `write` and their kin: bytes between files and the program's memory.
//!
//! A call moves pieces of a bounded size, and looks at the deadline between two of them. A call that
//! is interrupted there is made again from its start when the run goes on: until a call is over, the
//! description's position stays where it was, and so does the random stream.

use super::Args;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::files::{FdTable, RwFlags, Transfer, Where};
use crate::program::fs::IoOutcome;
use crate::program::kernel::Kernel;
use crate::program::mm::Access;
use crate::program::signal::number::SIGPIPE;
use crate::program::signal::{Info, SI_USER};
use crate::program::wait::Wait;

/// Bytes that one call moves at most (`MAX_RW_COUNT`).
const MOST: u64 = 0x7fff_f000;
/// Bytes moved at once.
const PIECE: usize = 256 << 10;
/// Bytes that one call moves at most to or from what is no file: it gives and takes what it likes.
const STREAM_MOST: usize = 1 << 20;
/// `UIO_MAXIOV`.
const IOV_MAX: u64 = 1024;
/// Behind the last address that a program may name (`TASK_SIZE_MAX`).
const USER_LIMIT: u64 = 0x7fff_ffff_f000;

/// The program's buffers of one call, and how much of them was used.
struct Buffers {
    segments: Vec<(u64, u64)>,
    /// The segment that is next.
    at: usize,
    /// Bytes of it that were used.
    used: u64,
    left: u64,
}

impl Buffers {
    /// One buffer.
    fn one(address: u64, len: u64) -> Result<Buffers, SysError> {
        expect_user(address, len)?;
        let len = len.min(MOST);
        Ok(Buffers { segments: vec![(address, len)], at: 0, used: 0, left: len })
    }

    /// The next bytes, at most `max`, as far as they can be accessed: address and length each.
    fn next(&self, process: &Kernel, max: usize, access: Access) -> Vec<(u64, usize)> {
        let mut parts = Vec::new();
        let (mut room, mut used) = (max as u64, self.used);
        for (address, len) in &self.segments[self.at..] {
            let wanted = (len - used).min(room);
            let usable = process.space.accessible(address + used, wanted as usize, access);
            if usable > 0 {
                parts.push((address + used, usable));
            }
            room -= usable as u64;
            if (usable as u64) < wanted || room == 0 {
                break;
            }
            used = 0;
        }
        parts
    }

    /// Says that so many bytes were used.
    fn advance(&mut self, n: usize) {
        self.left -= n as u64;
        let mut n = n as u64;
        while let Some((_, len)) = self.segments.get(self.at)
            && n >= len - self.used
        {
            n -= len - self.used;
            self.at += 1;
            self.used = 0;
        }
        self.used += n;
    }
}

/// `access_ok`
fn expect_user(address: u64, len: u64) -> Result<(), SysError> {
    let inside = address.checked_add(len).is_some_and(|end| end <= USER_LIMIT);
    if inside { Ok(()) } else { Err(Errno::EFAULT.into()) }
}

fn bytes_of(parts: &[(u64, usize)]) -> usize {
    parts.iter().map(|(_, len)| len).sum()
}

/// Whether an error is the program's to see once part of a call is done: the part counts instead.
pub(super) fn is_answer(e: &SysError) -> bool {
    matches!(e, SysError::Errno(_) | SysError::Wait(_) | SysError::Signal)
}

impl Kernel {
    /// How many bytes of a buffer a call may use; none of a non-empty one is `EFAULT`.
    pub(super) fn usable(&self, address: u64, len: u64, access: Access) -> Result<usize, SysError> {
        let len = len.min(MOST) as usize;
        let usable = self.space.accessible(address, len, access);
        if usable == 0 && len > 0 { Err(Errno::EFAULT.into()) } else { Ok(usable) }
    }

    /// Reads a call's vector of buffers (`import_iovec`).
    fn buffers(&mut self, vector: u64, count: u64) -> Result<Buffers, SysError> {
        if count > IOV_MAX {
            return Err(Errno::EINVAL.into());
        }
        let mut bytes = vec![0; count as usize * 16];
        self.read(vector, &mut bytes)?;
        let mut buffers = Buffers { segments: Vec::with_capacity(count as usize), at: 0, used: 0, left: 0 };
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
        if words.iter().skip(1).step_by(2).any(|len| i64::try_from(*len).is_err()) {
            return Err(Errno::EINVAL.into());
        }
        for segment in words.as_chunks::<2>().0 {
            let [address, len] = *segment;
            expect_user(address, len)?;
            let len = len.min(MOST - buffers.left);
            buffers.segments.push((address, len));
            buffers.left += len;
        }
        Ok(buffers)
    }

    /// The ranges of memory that a vector names: address and length each.
    pub(super) fn ranges(&mut self, vector: u64, count: u64) -> Result<Vec<(u64, u64)>, SysError> {
        Ok(self.buffers(vector, count)?.segments)
    }

    /// Runs a transfer piece by piece. One that ends the run leaves no trace that would show when the
    /// call is made again.
    fn run_transfer(
        &mut self,
        transfer: Transfer,
        buffers: Buffers,
        pump: impl FnOnce(&mut Kernel, &mut Transfer, Buffers) -> SysResult,
    ) -> SysResult {
        // As `rw_verify_area`: no byte has an offset of 2^63.
        let end = transfer.offset().saturating_add(buffers.left);
        if end > i64::MAX as u64 && !transfer.is_of_memory() {
            return Err(Errno::EINVAL.into());
        }
        let random = self.random.clone();
        let mut transfer = transfer;
        let done = pump(self, &mut transfer, buffers);
        match &done {
            Ok(_) => self.with_files(|fs, files, env, _| files.finish(fs, env, &transfer))?,
            Err(SysError::World(_)) => {
                self.random = random;
                self.with_files(|fs, _, env, _| FdTable::undo(fs, env, &transfer))?;
            }
            Err(_) => {}
        }
        done
    }

    fn pump_in(&mut self, transfer: &mut Transfer, mut buffers: Buffers) -> SysResult {
        if let Some((fd, nonblock)) = transfer.socket() {
            // Not a byte is none, whether there is something or not.
            return if buffers.left == 0 { Ok(0) } else { self.read_socket(fd, buffers.segments, nonblock) };
        }
        let most = if transfer.in_pieces() { PIECE } else { STREAM_MOST };
        let mut buf = vec![0; buffers.left.min(most as u64) as usize];
        let mut done = 0u64;
        loop {
            let parts = buffers.next(self, most, Access::Write);
            let want = bytes_of(&parts);
            if want == 0 && buffers.left > 0 {
                if done > 0 {
                    return Ok(done);
                }
                let end = self.with_files(|fs, files, env, _| files.is_at_end(fs, env, transfer))?;
                return if end { Ok(0) } else { Err(Errno::EFAULT.into()) };
            }
            if transfer.is_of_memory() {
                self.space.bring_in(&mut self.memory, transfer.offset(), want)?;
            }
            let read = self
                .with_files(|fs, files, env, _| files.read_piece(fs, env, transfer, &mut buf[..want]))
                .map_err(SysError::from);
            let n = match read {
                Err(e) if done > 0 && is_answer(&e) => return Ok(done),
                read => read?,
            };
            let mut at = 0;
            for (address, len) in parts {
                let len = len.min(n - at);
                if len == 0 {
                    break;
                }
                self.write(address, &buf[at..at + len])?;
                at += len;
            }
            done += n as u64;
            buffers.advance(n);
            if n < want || buffers.left == 0 || !transfer.in_pieces() {
                return Ok(done);
            }
            self.stop.check()?;
        }
    }

    fn pump_out(&mut self, transfer: &mut Transfer, mut buffers: Buffers, signals: bool) -> SysResult {
        if let Some((fd, nonblock)) = transfer.socket() {
            return self.write_socket(fd, buffers.segments, (nonblock, signals));
        }
        if self.with_files(|fs, _, _, _| FdTable::swallows(fs, transfer)) {
            return Ok(buffers.left);
        }
        let most = if transfer.in_pieces() { PIECE } else { STREAM_MOST };
        buffers.left = buffers.left.min(transfer.most());
        let mut buf = vec![0; buffers.left.min(most as u64) as usize];
        // Of a call that waited for room in a pipe.
        let mut done = self.resumed().map_or(0, |parked| parked.wait.done).min(buffers.left);
        buffers.advance(done as usize);
        loop {
            let most = buffers.left.min(most as u64) as usize;
            let parts = buffers.next(self, most, Access::Read);
            let want = bytes_of(&parts);
            if want == 0 && buffers.left > 0 {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT.into()) };
            }
            let mut at = 0;
            for (address, len) in parts {
                self.read(address, &mut buf[at..at + len])?;
                at += len;
            }
            // What is written to a terminal or file is an effect as much as what is written to memory.
            self.effects.add(0, &buf[..want]);
            if transfer.is_of_memory() {
                self.space.bring_in(&mut self.memory, transfer.offset(), want)?;
            }
            let written = self
                .with_files(|fs, _, env, _| FdTable::write_piece(fs, env, transfer, &buf[..want]))
                .map_err(SysError::from);
            let mut waits = false;
            let n = match written {
                Err(SysError::Wait(wait)) if done == 0 || !self.signals().any_deliverable() => {
                    return Err(SysError::Wait(Wait { done, ..wait }));
                }
                Err(e) if done > 0 && is_answer(&e) => return Ok(done),
                written => match self.broken_pipe(written, signals)? {
                    IoOutcome::Done(n) => n,
                    IoOutcome::Partial(n) => {
                        waits = true;
                        n
                    }
                    IoOutcome::Control(words) => {
                        self.control.push(words);
                        want
                    }
                },
            };
            done += n as u64;
            buffers.advance(n);
            if !waits && (n < want || buffers.left == 0 || !transfer.writes_on()) {
                return Ok(done);
            }
            if transfer.can_be_undone() {
                self.stop.check()?;
            }
        }
    }

    /// Sends `SIGPIPE` with an `EPIPE`.
    pub(super) fn broken_pipe<T>(
        &mut self,
        result: Result<T, SysError>,
        signals: bool,
    ) -> Result<T, SysError> {
        if let Err(SysError::Errno(Errno::EPIPE)) = &result
            && signals
        {
            let value = self.pid().into();
            let info = Info { signal: SIGPIPE, code: SI_USER, value, ..Info::default() };
            self.send(self.pid(), info);
        }
        result
    }

    fn read_one(&mut self, a: Args, at: Where) -> SysResult {
        let [fd, address, len, ..] = a;
        let transfer =
            self.with_files(|fs, files, _, _| files.start_read(fs, fd as i32, at, RwFlags::default()))?;
        self.run_transfer(transfer, Buffers::one(address, len)?, Kernel::pump_in)
    }

    fn write_one(&mut self, a: Args, at: Where) -> SysResult {
        let [fd, address, len, ..] = a;
        let transfer =
            self.with_files(|fs, files, _, _| files.start_write(fs, fd as i32, at, RwFlags::default()))?;
        let buffers = Buffers::one(address, len)?;
        self.run_transfer(transfer, buffers, |p, transfer, buffers| p.pump_out(transfer, buffers, true))
    }

    pub(super) fn sys_read(&mut self, a: Args) -> SysResult {
        self.read_one(a, Where::Position)
    }

    pub(super) fn sys_write(&mut self, a: Args) -> SysResult {
        self.write_one(a, Where::Position)
    }

    pub(super) fn sys_pread(&mut self, a: Args) -> SysResult {
        self.read_one(a, Where::Offset(a[3] as i64))
    }

    pub(super) fn sys_pwrite(&mut self, a: Args) -> SysResult {
        self.write_one(a, Where::Offset(a[3] as i64))
    }

    pub(super) fn sys_readv(&mut self, a: Args, at: Where, flags: RwFlags) -> SysResult {
        let transfer = self.with_files(|fs, files, _, _| files.start_read(fs, a[0] as i32, at, flags))?;
        let buffers = self.buffers(a[1], a[2])?;
        if buffers.left == 0 {
            return Ok(0);
        }
        self.run_transfer(transfer, buffers, Kernel::pump_in)
    }

    pub(super) fn sys_writev(&mut self, a: Args, at: Where, flags: RwFlags) -> SysResult {
        let transfer = self.with_files(|fs, files, _, _| files.start_write(fs, a[0] as i32, at, flags))?;
        let buffers = self.buffers(a[1], a[2])?;
        if buffers.left == 0 {
            return Ok(0);
        }
        let signals = flags.signals();
        self.run_transfer(transfer, buffers, |p, transfer, buffers| p.pump_out(transfer, buffers, signals))
    }

    /// `preadv2` and `pwritev2` take -1 for the description's own position.
    pub(super) fn second_where(a: Args) -> (Where, RwFlags) {
        let at = if a[3] as i64 == -1 { Where::Position } else { Where::Offset(a[3] as i64) };
        (at, RwFlags(a[5] as u32))
    }

    pub(super) fn sys_getrandom(&mut self, a: Args) -> SysResult {
        /// `GRND_NONBLOCK`, `GRND_RANDOM`, `GRND_INSECURE`.
        const RANDOM: u64 = 2;
        const INSECURE: u64 = 4;
        let [address, len, flags, ..] = a;
        if flags as u32 & !7 != 0 || flags & (RANDOM | INSECURE) == RANDOM | INSECURE {
            return Err(Errno::EINVAL.into());
        }
        // Cut before it is looked at (`import_ubuf`), unlike what is read and written.
        let mut buffers = Buffers::one(address, len.min(MOST))?;
        let before = self.random.clone();
        let mut buf = vec![0; buffers.left.min(PIECE as u64) as usize];
        let mut done = 0;
        while buffers.left > 0 {
            let parts = buffers.next(self, PIECE, Access::Write);
            let [(address, n)] = parts[..] else {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT.into()) };
            };
            self.random.fill(&mut buf[..n]);
            self.write(address, &buf[..n])?;
            done += n as u64;
            buffers.advance(n);
            if buffers.left > 0
                && let Err(e) = self.stop.check()
            {
                self.random = before;
                return Err(e.into());
            }
        }
        Ok(done)
    }
}
