//! Calls on descriptors.

use super::Args;
use crate::errno::Errno;
use crate::program::files::{Answer, fcntl_input, ioctl_input};
use crate::program::fs::{IoOutcome, Nature, OpenFlags};
use crate::program::mm::Access;
use crate::program::process::{PID, Process, SysError, SysResult};
use crate::program::signal::number::SIGPIPE;
use crate::program::signal::{Info, SI_USER};

/// Bytes that one call moves at most (`MAX_RW_COUNT` is 2 GiB; programs go on where it stopped).
const MOST: usize = 64 << 20;
/// `IOV_MAX`.
const IOV_MAX: u64 = 1024;
/// `CLOSE_RANGE_CLOEXEC`.
const CLOSE_RANGE_CLOEXEC: u64 = 4;

/// One direction of a transfer: which offset it works at.
#[derive(Clone, Copy)]
enum At {
    /// The description's own.
    Position,
    /// The given one.
    Offset(i64),
}

impl Process {
    /// How many bytes of a buffer a call may use; none of a non-empty one is `EFAULT`.
    pub(super) fn usable(&self, address: u64, len: u64, access: Access) -> Result<usize, SysError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(MOST);
        let usable = self.space.accessible(address, len, access);
        if usable == 0 && len > 0 { Err(Errno::EFAULT.into()) } else { Ok(usable) }
    }

    /// Reads into one buffer.
    fn read_into(&mut self, fd: u64, address: u64, len: u64, at: At) -> Result<usize, SysError> {
        self.with_files(|_, files, _, _| files.get(fd as i32).map(|_| ()))?;
        let len = self.usable(address, len, Access::Write)?;
        let mut buf = vec![0u8; len];
        let n = self.with_files(|fs, files, env, _| match at {
            At::Position => files.read(fs, env, fd as i32, &mut buf),
            At::Offset(offset) => files.pread(fs, env, fd as i32, &mut buf, offset),
        })?;
        self.write(address, &buf[..n])?;
        Ok(n)
    }

    /// Writes out one buffer.
    fn write_from(&mut self, fd: u64, address: u64, len: u64, at: At) -> Result<usize, SysError> {
        self.with_files(|_, files, _, _| files.get(fd as i32).map(|_| ()))?;
        let len = self.usable(address, len, Access::Read)?;
        let mut buf = vec![0u8; len];
        self.read(address, &mut buf)?;
        // What is written to a terminal or file is an effect as much as what is written to memory.
        self.effects.add(0, &buf);
        let outcome = self.with_files(|fs, files, env, _| match at {
            At::Position => files.write(fs, env, fd as i32, &buf),
            At::Offset(offset) => files.pwrite(fs, env, fd as i32, &buf, offset),
        });
        match self.broken_pipe(outcome.map_err(SysError::from))? {
            IoOutcome::Done(n) | IoOutcome::Partial(n) => Ok(n),
            IoOutcome::Control(words) => {
                self.control.push(words);
                Ok(len)
            }
        }
    }

    /// Sends `SIGPIPE` with an `EPIPE`.
    fn broken_pipe<T>(&mut self, result: Result<T, SysError>) -> Result<T, SysError> {
        if let Err(SysError::Errno(Errno::EPIPE)) = &result {
            self.signals.send(Info { signal: SIGPIPE, code: SI_USER, value: PID.into(), fault: None });
        }
        result
    }

    pub(super) fn sys_read(&mut self, a: Args) -> SysResult {
        Ok(self.read_into(a[0], a[1], a[2], At::Position)? as u64)
    }

    pub(super) fn sys_write(&mut self, a: Args) -> SysResult {
        Ok(self.write_from(a[0], a[1], a[2], At::Position)? as u64)
    }

    pub(super) fn sys_pread(&mut self, a: Args) -> SysResult {
        Ok(self.read_into(a[0], a[1], a[2], At::Offset(a[3] as i64))? as u64)
    }

    pub(super) fn sys_pwrite(&mut self, a: Args) -> SysResult {
        Ok(self.write_from(a[0], a[1], a[2], At::Offset(a[3] as i64))? as u64)
    }

    /// Runs a call over a vector of buffers, until one is not filled.
    fn vectored(
        &mut self,
        a: Args,
        offset: Option<u64>,
        mut one: impl FnMut(&mut Process, u64, u64, u64, At) -> Result<usize, SysError>,
    ) -> SysResult {
        let [fd, vector, count, ..] = a;
        self.with_files(|_, files, _, _| files.get(fd as i32).map(|_| ()))?;
        if count > IOV_MAX {
            return Err(Errno::EINVAL.into());
        }
        let mut total = 0u64;
        // preadv2 and pwritev2 take -1 for the description's own position.
        let offset = offset.map(|o| o as i64).filter(|o| *o != -1);
        for i in 0..count {
            let [address, len] = self.read_words::<2>(vector + i * 16)?;
            if len as i64 <= -1 {
                return Err(Errno::EINVAL.into());
            }
            if len == 0 {
                continue;
            }
            let at = offset.map_or(At::Position, |o| At::Offset(o.saturating_add(total as i64)));
            match one(self, fd, address, len, at) {
                Ok(n) => {
                    total += n as u64;
                    if (n as u64) < len {
                        break;
                    }
                }
                Err(SysError::Errno(_) | SysError::Block | SysError::Signal | SysError::Input(_))
                    if total > 0 =>
                {
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(total)
    }

    pub(super) fn sys_readv(&mut self, a: Args, offset: Option<u64>) -> SysResult {
        self.vectored(a, offset, Process::read_into)
    }

    pub(super) fn sys_writev(&mut self, a: Args, offset: Option<u64>) -> SysResult {
        self.vectored(a, offset, Process::write_from)
    }

    pub(super) fn sys_sendfile(&mut self, a: Args) -> SysResult {
        let [output, input, offset, len, ..] = a;
        let start = if offset == 0 { None } else { Some(self.read_u64(offset)? as i64) };
        let copied = self.with_files(|fs, files, env, _| {
            files.sendfile(fs, env, output as i32, (input as i32, start), len)
        });
        let copied = self.broken_pipe(copied.map_err(SysError::from))?;
        if let Some(next) = copied.input_offset.filter(|_| offset != 0) {
            self.write_words(offset, &[next as u64])?;
        }
        Ok(copied.bytes as u64)
    }

    pub(super) fn sys_copy_file_range(&mut self, a: Args) -> SysResult {
        let [input, input_at, output, output_at, len, flags] = a;
        if flags != 0 {
            return Err(Errno::EINVAL.into());
        }
        let mut start = |address: u64| -> Result<Option<i64>, SysError> {
            if address == 0 { Ok(None) } else { Ok(Some(self.read_u64(address)? as i64)) }
        };
        let (from, to) = (start(input_at)?, start(output_at)?);
        let copied = self.with_files(|fs, files, env, _| {
            files.copy_file_range(fs, env, (input as i32, from), (output as i32, to), len)
        })?;
        for (address, next) in [(input_at, copied.input_offset), (output_at, copied.output_offset)] {
            if let Some(next) = next.filter(|_| address != 0) {
                self.write_words(address, &[next as u64])?;
            }
        }
        Ok(copied.bytes as u64)
    }

    pub(super) fn sys_close(&mut self, a: Args) -> SysResult {
        self.with_files(|fs, files, env, _| files.close(fs, env, a[0] as i32))?;
        Ok(0)
    }

    pub(super) fn sys_close_range(&mut self, a: Args) -> SysResult {
        if a[2] & !(CLOSE_RANGE_CLOEXEC | 2) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let mark = a[2] & CLOSE_RANGE_CLOEXEC != 0;
        self.with_files(|fs, files, env, _| files.close_range(fs, env, (a[0] as u32, a[1] as u32), mark))?;
        Ok(0)
    }

    pub(super) fn sys_lseek(&mut self, a: Args) -> SysResult {
        let at =
            self.with_files(|fs, files, env, _| files.lseek(fs, env, a[0] as i32, a[1] as i64, a[2] as u32))?;
        Ok(at as u64)
    }

    pub(super) fn sys_dup(&mut self, a: Args) -> SysResult {
        Ok(self.with_files(|_, files, _, _| files.dup(a[0] as i32, 0, false))? as u64)
    }

    pub(super) fn sys_dup2(&mut self, a: Args) -> SysResult {
        Ok(self.with_files(|fs, files, env, _| files.dup2(fs, env, a[0] as i32, a[1] as i32))? as u64)
    }

    pub(super) fn sys_dup3(&mut self, a: Args) -> SysResult {
        let cloexec = OpenFlags::CLOEXEC.0;
        if a[2] & !u64::from(cloexec) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let fds = (a[0] as i32, a[1] as i32);
        Ok(self.with_files(|fs, files, env, _| files.dup3(fs, env, fds, a[2] != 0))? as u64)
    }

    pub(super) fn sys_pipe2(&mut self, a: Args) -> SysResult {
        if self.space.accessible(a[0], 8, Access::Write) < 8 {
            return Err(Errno::EFAULT.into());
        }
        let (read, write) =
            self.with_files(|fs, files, env, _| files.pipe(fs, env, OpenFlags(a[1] as u32)))?;
        self.write(a[0], &[read.to_le_bytes(), write.to_le_bytes()].concat())?;
        Ok(0)
    }

    /// Reads what a request's argument points to.
    fn argument(&mut self, address: u64, len: usize) -> Result<Vec<u8>, SysError> {
        let mut input = vec![0u8; len];
        self.read(address, &mut input)?;
        Ok(input)
    }

    fn answer(&mut self, address: u64, answer: Answer) -> SysResult {
        if !answer.output.is_empty() {
            self.write(address, &answer.output)?;
        }
        Ok(answer.value as u64)
    }

    pub(super) fn sys_fcntl(&mut self, a: Args) -> SysResult {
        let input = self.argument(a[2], fcntl_input(a[1] as u32))?;
        let answer =
            self.with_files(|fs, files, _, _| files.fcntl(fs, a[0] as i32, a[1] as u32, a[2], &input))?;
        self.answer(a[2], answer)
    }

    pub(super) fn sys_ioctl(&mut self, a: Args) -> SysResult {
        // A bad descriptor is said before a bad argument is.
        self.with_files(|_, files, _, _| files.get(a[0] as i32).map(|_| ()))?;
        let input = self.argument(a[2], ioctl_input(a[1] as u32)).or_else(|e| match e {
            SysError::Errno(Errno::EFAULT) => Ok(Vec::new()),
            e => Err(e),
        })?;
        let answer = self
            .with_files(|fs, files, env, _| files.ioctl(fs, env, a[0] as i32, a[1] as u32, a[2], &input))?;
        self.answer(a[2], answer)
    }

    /// Whole-file locks: there is nobody to lock out.
    pub(super) fn sys_flock(&mut self, a: Args) -> SysResult {
        self.with_files(|_, files, _, _| files.get(a[0] as i32).map(|_| ()))?;
        Ok(0)
    }

    pub(super) fn sys_fsync(&mut self, a: Args) -> SysResult {
        self.with_files(|fs, files, _, _| {
            let inode = files.get(a[0] as i32)?.inode();
            if fs.is_regular(inode) || fs.is_dir(inode) { Ok(0) } else { Err(Errno::EINVAL.into()) }
        })
    }

    pub(super) fn sys_fadvise(&mut self, a: Args) -> SysResult {
        /// `POSIX_FADV_NOREUSE`, the last.
        const LAST_ADVICE: u64 = 5;
        self.with_files(|fs, files, _, _| {
            let inode = files.get(a[0] as i32)?.inode();
            match (fs.nature(inode) == Nature::Pipe, a[3]) {
                (true, _) => Err(Errno::ESPIPE.into()),
                (false, 0..=LAST_ADVICE) => Ok(0),
                _ => Err(Errno::EINVAL.into()),
            }
        })
    }

    pub(super) fn sys_ftruncate(&mut self, a: Args) -> SysResult {
        if a[1] as i64 <= -1 {
            return Err(Errno::EINVAL.into());
        }
        self.with_files(|fs, files, env, _| files.truncate(fs, env, a[0] as i32, a[1] as i64))?;
        Ok(0)
    }

    pub(super) fn sys_fallocate(&mut self, a: Args) -> SysResult {
        let range = (a[2] as i64, a[3] as i64);
        self.with_files(|fs, files, env, _| files.fallocate(fs, env, a[0] as i32, a[1] as u32, range))?;
        Ok(0)
    }

    pub(super) fn sys_getdents64(&mut self, a: Args) -> SysResult {
        self.with_files(|_, files, _, _| files.get(a[0] as i32).map(|_| ()))?;
        let max = self.usable(a[1], u64::from(a[2] as u32), Access::Write)?;
        let records = self.with_files(|fs, files, env, _| files.getdents(fs, env, a[0] as i32, max))?;
        self.write(a[1], &records)?;
        Ok(records.len() as u64)
    }

    /// Whether a descriptor is the sandbox's standard input.
    pub fn is_stdin(&mut self, fd: u64) -> bool {
        self.with_files(|fs, files, _, _| {
            files.get(fd as i32).is_ok_and(|d| d.flags().reads() && fs.is_stdin(d.inode()))
        })
    }

    /// Whether a write to this descriptor goes to standard output.
    pub fn is_stdout(&mut self, fd: u64) -> bool {
        self.with_files(|fs, files, _, _| {
            files.get(fd as i32).is_ok_and(|d| d.flags().writes() && fs.is_stdout(d.inode()))
        })
    }
}
