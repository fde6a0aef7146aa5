//! What gdbstub asks of files.

use gdbstub::common::Pid;
use gdbstub::target::TargetResult;
use gdbstub::target::ext::exec_file::ExecFile;
use gdbstub::target::ext::host_io::{
    FsKind, HostIo, HostIoClose, HostIoCloseOps, HostIoErrno, HostIoError, HostIoFstat, HostIoFstatOps,
    HostIoOpen, HostIoOpenFlags, HostIoOpenMode, HostIoOpenOps, HostIoPread, HostIoPreadOps, HostIoReadlink,
    HostIoReadlinkOps, HostIoResult, HostIoSetfs, HostIoSetfsOps, HostIoStat,
};

use super::Debugger;
use crate::looking;

/// What is told of a file that the debugger cannot have.
fn errno<'a, T>(errno: HostIoErrno) -> HostIoResult<T, Debugger<'a>> {
    Err(HostIoError::Errno(errno))
}

impl HostIo for Debugger<'_> {
    fn support_open(&mut self) -> Option<HostIoOpenOps<'_, Self>> {
        Some(self)
    }

    fn support_close(&mut self) -> Option<HostIoCloseOps<'_, Self>> {
        Some(self)
    }

    fn support_pread(&mut self) -> Option<HostIoPreadOps<'_, Self>> {
        Some(self)
    }

    fn support_fstat(&mut self) -> Option<HostIoFstatOps<'_, Self>> {
        Some(self)
    }

    fn support_readlink(&mut self) -> Option<HostIoReadlinkOps<'_, Self>> {
        Some(self)
    }

    fn support_setfs(&mut self) -> Option<HostIoSetfsOps<'_, Self>> {
        Some(self)
    }
}

impl HostIoOpen for Debugger<'_> {
    fn open(
        &mut self,
        path: &[u8],
        flags: HostIoOpenFlags,
        _mode: HostIoOpenMode,
    ) -> HostIoResult<u32, Self> {
        if flags != HostIoOpenFlags::O_RDONLY {
            return errno(HostIoErrno::EROFS);
        }
        let Some(file) = self.open_file(path) else { return errno(HostIoErrno::ENOENT) };
        self.files.add(file).map_or_else(|| errno(HostIoErrno::EMFILE), Ok)
    }
}

impl HostIoClose for Debugger<'_> {
    fn close(&mut self, fd: u32) -> HostIoResult<(), Self> {
        if self.files.close(fd) { Ok(()) } else { errno(HostIoErrno::EBADF) }
    }
}

impl HostIoPread for Debugger<'_> {
    fn pread(&mut self, fd: u32, count: usize, offset: u64, buf: &mut [u8]) -> HostIoResult<usize, Self> {
        let Some(file) = self.files.get(fd) else { return errno(HostIoErrno::EBADF) };
        let n = count.min(buf.len());
        self.subject
            .sources()
            .read_file(file, offset, &mut buf[..n])
            .map_or_else(|| errno(HostIoErrno::EIO), Ok)
    }
}

impl HostIoFstat for Debugger<'_> {
    fn fstat(&mut self, fd: u32) -> HostIoResult<HostIoStat, Self> {
        let Some(file) = self.files.get(fd) else { return errno(HostIoErrno::EBADF) };
        Ok(HostIoStat {
            st_dev: 0,
            st_ino: 0,
            st_mode: HostIoOpenMode::S_IFREG | HostIoOpenMode::S_IRUSR,
            st_nlink: 1,
            st_uid: 0,
            st_gid: 0,
            st_rdev: 0,
            st_size: file.len(),
            st_blksize: 4096,
            st_blocks: file.len().div_ceil(512),
            st_atime: 0,
            st_mtime: 0,
            st_ctime: 0,
        })
    }
}

/// The links that tell of a process.
impl HostIoReadlink for Debugger<'_> {
    fn readlink(&mut self, path: &[u8], buf: &mut [u8]) -> HostIoResult<usize, Self> {
        let machine = self.subject.machine();
        let target = match path {
            b"/proc/1/exe" => looking::executable(machine),
            b"/proc/1/cwd" => machine.program().map(|program| program.working_directory()),
            _ => None,
        };
        match target {
            None => errno(HostIoErrno::ENOENT),
            Some(path) if path.len() > buf.len() => errno(HostIoErrno::ENAMETOOLONG),
            Some(path) => Ok(part(&path, 0, path.len(), buf)),
        }
    }
}

impl HostIoSetfs for Debugger<'_> {
    fn setfs(&mut self, _fs: FsKind) -> HostIoResult<(), Self> {
        Ok(())
    }
}

impl ExecFile for Debugger<'_> {
    fn get_exec_file(
        &self,
        _pid: Option<Pid>,
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        let path = looking::executable(self.subject.machine()).unwrap_or_default();
        Ok(part(&path, offset, length, buf))
    }
}

/// Copies a part of a text that the debugger asks for piece by piece.
pub(super) fn part(text: &[u8], offset: u64, length: usize, buf: &mut [u8]) -> usize {
    let rest = text.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
    let n = rest.len().min(length).min(buf.len());
    buf[..n].copy_from_slice(&rest[..n]);
    n
}
