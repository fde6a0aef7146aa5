//! Calls on descriptors.

use super::Args;
use super::transfer::is_answer;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::files::{Answer, Copied, fcntl_input, fcntl_knows, ioctl_input};
use crate::program::fs::{DirFormat, Nature, OpenFlags, SEAL_EXEC, SEAL_SEAL};
use crate::program::kernel::Kernel;
use crate::program::mm::Access;
use crate::program::wait::Wait;

/// `CLOSE_RANGE_*`.
const CLOSE_RANGE_UNSHARE: u64 = 2;
const CLOSE_RANGE_CLOEXEC: u64 = 4;

impl Kernel {
    pub(super) fn sys_sendfile(&mut self, a: Args) -> SysResult {
        let [output, input, offset, len, ..] = a;
        let start = if offset == 0 { None } else { Some(self.read_u64(offset)? as i64) };
        // Of a call that waited for room in a socket; a position has moved meanwhile.
        let before = self.done_before();
        let mut done = before;
        loop {
            let at = start.map(|start| start.saturating_add(done as i64));
            let copied = self.with_files(|fs, files, env, _| {
                files.sendfile(fs, env, output as i32, (input as i32, at), len.saturating_sub(done))
            });
            let copied = match self.broken_pipe(copied.map_err(SysError::from), true) {
                Err(SysError::Wait(wait)) if done == 0 || !self.signals().any_deliverable() => {
                    return Err(SysError::Wait(Wait { done, ..wait }));
                }
                // What was sent in this turn is not sent again.
                Err(_) if done > before => Copied { bytes: 0, input_offset: at, output_offset: None },
                Err(e) if done > 0 && is_answer(&e) => {
                    Copied { bytes: 0, input_offset: at, output_offset: None }
                }
                copied => copied?,
            };
            done += copied.bytes as u64;
            if copied.bytes > 0 && done < len && self.waits_for_room(output) {
                continue;
            }
            if let Some(next) = copied.input_offset.filter(|_| offset != 0) {
                self.write_words(offset, &[next as u64])?;
            }
            return Ok(done);
        }
    }

    /// Whether a descriptor is a socket's that takes all that is written to it, be it later.
    fn waits_for_room(&mut self, fd: u64) -> bool {
        self.socket(fd).is_ok_and(|socket| !socket.nonblock)
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
        let (first, last, flags) = (a[0] as u32, a[1] as u32, u64::from(a[2] as u32));
        if flags & !(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE) != 0 || first > last {
            return Err(Errno::EINVAL.into());
        }
        if flags & CLOSE_RANGE_UNSHARE != 0 {
            self.unshare_files()?;
        }
        let mark = flags & CLOSE_RANGE_CLOEXEC != 0;
        self.with_files(|fs, files, env, _| files.close_range(fs, env, (first, last), mark))?;
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
        if !fcntl_knows(a[1] as u32) {
            self.count_unknown(super::number::FCNTL);
        }
        let input = self.argument(a[2], fcntl_input(a[1] as u32))?;
        let answer = self
            .with_files(|fs, files, env, _| files.fcntl(fs, env, a[0] as i32, (a[1] as u32, a[2]), &input))?;
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

    pub(super) fn sys_flock(&mut self, a: Args) -> SysResult {
        self.with_files(|_, files, _, _| files.flock(a[0] as i32, a[1] as u32))?;
        Ok(0)
    }

    pub(super) fn sys_fsync(&mut self, a: Args) -> SysResult {
        self.with_files(|fs, files, env, _| {
            let inode = files.get_open(a[0] as i32)?.inode();
            fs.sync_output(env, inode)?;
            if fs.is_regular(inode) || fs.is_dir(inode) { Ok(0) } else { Err(Errno::EINVAL.into()) }
        })
    }

    /// What output went to; all else is as safe as it gets.
    pub(super) fn sys_sync(&mut self) -> SysResult {
        // It tells of no error.
        self.with_files(|fs, _, env, _| fs.sync_outputs(env))?;
        Ok(0)
    }

    pub(super) fn sys_fadvise(&mut self, a: Args) -> SysResult {
        /// `POSIX_FADV_NOREUSE`, the last.
        const LAST_ADVICE: u64 = 5;
        self.with_files(|fs, files, _, _| {
            let inode = files.get_open(a[0] as i32)?.inode();
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

    pub(super) fn sys_getdents(&mut self, a: Args, format: DirFormat) -> SysResult {
        self.with_files(|_, files, _, _| files.get(a[0] as i32).map(|_| ()))?;
        let max = self.usable(a[1], u64::from(a[2] as u32), Access::Write)?;
        let records =
            self.with_files(|fs, files, env, _| files.getdents(fs, env, a[0] as i32, (max, format)))?;
        self.write(a[1], &records)?;
        Ok(records.len() as u64)
    }

    pub(super) fn sys_memfd_create(&mut self, a: Args) -> SysResult {
        /// `MFD_*` (`include/uapi/linux/memfd.h`).
        const CLOEXEC: u32 = 1;
        const ALLOW_SEALING: u32 = 2;
        const HUGETLB: u32 = 4;
        const NOEXEC_SEAL: u32 = 8;
        const EXEC: u32 = 0x10;
        const KNOWN: u32 = CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC;
        /// Bytes of the longest name: what `memfd:` leaves.
        const NAME: usize = 249;
        let flags = a[1] as u32;
        if flags & HUGETLB != 0 {
            // As a kernel without them.
            return Err(Errno::ENOSYS.into());
        }
        if flags & !KNOWN != 0 || flags & (EXEC | NOEXEC_SEAL) == EXEC | NOEXEC_SEAL {
            return Err(Errno::EINVAL.into());
        }
        let name = self.space.read_string(&mut self.memory, a[0], NAME + 1)?.ok_or(Errno::EINVAL)?;
        let file = match flags & (NOEXEC_SEAL | ALLOW_SEALING) {
            0 => (0o777, SEAL_SEAL),
            ALLOW_SEALING => (0o777, 0),
            _ => (0o666, SEAL_EXEC),
        };
        let fd =
            self.with_files(|fs, files, env, _| files.memfd(fs, env, &name, file, flags & CLOEXEC != 0))?;
        Ok(fd as u64)
    }

    /// Nothing is read ahead: a hint.
    pub(super) fn sys_readahead(&mut self, a: Args) -> SysResult {
        self.with_files(|fs, files, _, _| {
            files.expect_open(a[0] as i32)?;
            let description = files.get(a[0] as i32)?;
            match (description.flags().reads(), fs.is_regular(description.inode())) {
                (false, _) => Err(Errno::EBADF.into()),
                (_, false) => Err(Errno::EINVAL.into()),
                _ => Ok(0),
            }
        })
    }

    /// What was written is as safe as it gets.
    pub(super) fn sys_sync_file_range(&mut self, a: Args) -> SysResult {
        /// `SYNC_FILE_RANGE_*`
        const KNOWN: u64 = 7;
        let [fd, offset, len, flags, ..] = a;
        let end = (offset as i64).checked_add(len as i64);
        self.with_files(|fs, files, env, _| {
            files.expect_open(fd as i32)?;
            if flags & !KNOWN != 0 || (offset as i64) < 0 || end.is_none_or(|end| end < offset as i64) {
                return Err(Errno::EINVAL.into());
            }
            let inode = files.get(fd as i32)?.inode();
            fs.sync_output(env, inode)?;
            if fs.is_regular(inode) || fs.is_dir(inode) { Ok(0) } else { Err(Errno::ESPIPE.into()) }
        })
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
