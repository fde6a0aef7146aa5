//! Receiving: `recvfrom`, `recvmsg` and `read` from sockets.

use super::Args;
use super::control::Control;
use super::message::flag::{CMSG_CLOEXEC, CTRUNC, DONTWAIT, OOB, PEEK, TRUNC, WAITALL, WAITFORONE};
use super::message::{CONTROL_MOST, Header, MMSG_LEN, MMSGHDR};
use super::socket::Open;
use super::time::SECOND;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::files::FdTable;
use crate::program::fs::InodeId;
use crate::program::kernel::Kernel;
use crate::program::mm::Access;
use crate::program::net::{Kind, Name, Received, Take};

/// Bytes that one call receives at most: more than a sender's buffer holds.
const RECEIVE_MOST: usize = 1 << 20;

/// Where a message is to be received.
struct Incoming {
    segments: Vec<(u64, u64)>,
    /// Bytes for control messages; `None` where they are not asked for.
    control: Option<u64>,
    flags: u32,
}

/// What was received, apart from the data.
struct Got {
    /// What the call returns.
    bytes: u64,
    address: Option<Vec<u8>>,
    control: Vec<u8>,
    flags: u32,
}

impl Kernel {
    /// Receives a message of which `done` bytes were received before the call waited.
    fn receive_message(&mut self, fd: u64, to: &Incoming, done: u64) -> Result<Got, SysError> {
        let Open { inode, nonblock } = self.socket(fd)?;
        let stream = self.with_files(|fs, _, _, _| fs.sockets().kind(inode))? == Kind::Stream;
        if to.flags & OOB != 0 {
            return Err(if stream { Errno::EINVAL } else { Errno::EOPNOTSUPP }.into());
        }
        let (_, timeout) = self.with_files(|fs, _, _, _| fs.sockets().timeouts(inode));
        let take = Take { peek: to.flags & PEEK != 0, nonblock: nonblock || to.flags & DONTWAIT != 0 };
        let all = stream && to.flags & WAITALL != 0 && !take.peek;
        let len = to.segments.iter().map(|(_, len)| *len).fold(0, u64::saturating_add);
        let before = done;
        let mut done = done;
        loop {
            let parts = self.writable(&to.segments, done, RECEIVE_MOST)?;
            match self.bring_in_for(inode, &parts) {
                // What was received in this turn is not there again.
                Err(_) if done > before => return Ok(Got::of_bytes(done, to)),
                brought => brought?,
            }
            let room: usize = parts.iter().map(|(_, len)| len).sum();
            let mut data = vec![0; room];
            let mut control = to.control.map(Control::new);
            let received = self.with_files(|fs, files, env, _| {
                let received = fs.with_sockets(|sockets| sockets.receive(inode, &mut data, take))?;
                let cut = take_along(files, &received, control.as_mut(), to.flags & CMSG_CLOEXEC != 0);
                files.settle(fs, env)?;
                Ok((received, cut))
            });
            let (received, cut) = match self.or_wait(received, timeout, done) {
                Err(SysError::Wait(_)) if done > 0 && self.signals().any_deliverable() => {
                    return Ok(Got::of_bytes(done, to));
                }
                Err(SysError::Errno(_)) if done > 0 => return Ok(Got::of_bytes(done, to)),
                received => received?,
            };
            self.scatter(&parts, &data[..received.bytes])?;
            done += received.bytes as u64;
            let more = all && received.bytes > 0 && done < len && received.passed.is_empty();
            if more {
                continue;
            }
            let whole = if stream { done } else { received.whole as u64 };
            let mut flags = to.flags & CMSG_CLOEXEC;
            flags |= if cut || control.as_ref().is_some_and(|control| control.cut) { CTRUNC } else { 0 };
            flags |= if whole > done { TRUNC } else { 0 };
            return Ok(Got {
                bytes: if to.flags & TRUNC != 0 { whole } else { done },
                address: received.name.as_ref().map(|name| Name::address(Some(name))),
                control: control.map(|control| control.bytes().to_vec()).unwrap_or_default(),
                flags,
            });
        }
    }

    /// The parts of ranges of memory behind the first `skip` bytes that can be written, at most `most`
    /// bytes.
    pub(super) fn writable(
        &mut self,
        segments: &[(u64, u64)],
        skip: u64,
        most: usize,
    ) -> Result<Vec<(u64, usize)>, SysError> {
        let mut parts = Vec::new();
        let (mut skip, mut left) = (skip, most);
        for (address, len) in segments {
            let skipped = skip.min(*len);
            skip -= skipped;
            let want = (len - skipped).min(left as u64) as usize;
            let usable = self.space.accessible(address.wrapping_add(skipped), want, Access::Write);
            if usable > 0 {
                parts.push((address.wrapping_add(skipped), usable));
            }
            left -= usable;
            if usable < want {
                return if parts.is_empty() { Err(Errno::EFAULT.into()) } else { Ok(parts) };
            }
        }
        Ok(parts)
    }

    /// Brings in the pages that what a socket has is to be written to: the call may be interrupted by that,
    /// and made again, only before anything is taken.
    fn bring_in_for(&mut self, inode: InodeId, parts: &[(u64, usize)]) -> Result<(), SysError> {
        let there = self.with_files(|fs, _, _, _| fs.sockets().available(inode));
        let mut left = usize::try_from(there.unwrap_or(0)).unwrap_or(usize::MAX);
        for (address, len) in parts {
            let len = left.min(*len);
            self.space.bring_in(&mut self.memory, *address, len)?;
            left -= len;
        }
        Ok(())
    }

    pub(super) fn scatter(&mut self, parts: &[(u64, usize)], data: &[u8]) -> Result<(), SysError> {
        let mut at = 0;
        for (address, len) in parts {
            let len = (*len).min(data.len() - at);
            if len == 0 {
                break;
            }
            self.write(*address, &data[at..at + len])?;
            at += len;
        }
        Ok(())
    }

    /// `read` and its kin from a socket.
    pub(super) fn read_socket(&mut self, fd: i32, segments: Vec<(u64, u64)>, nonblock: bool) -> SysResult {
        let flags = if nonblock { DONTWAIT } else { 0 };
        let to = Incoming { segments, control: None, flags };
        Ok(self.receive_message(fd as u64, &to, 0)?.bytes)
    }

    pub(super) fn sys_recvfrom(&mut self, a: Args) -> SysResult {
        let [fd, address, len, flags, from, from_len] = a;
        let to = Incoming {
            segments: vec![(address, len.min(i32::MAX as u64))],
            control: None,
            flags: flags as u32,
        };
        let got = self.receive_message(fd, &to, self.done_before())?;
        if from != 0 {
            self.write_address(from, from_len, got.address.as_deref().unwrap_or_default())?;
        }
        Ok(got.bytes)
    }

    /// Receives as a `struct msghdr` says.
    fn receive_header(&mut self, fd: u64, at: u64, flags: u32, done: u64) -> SysResult {
        self.socket(fd)?;
        let header = self.read_header(at)?;
        let segments = self.ranges(header.vector, header.count)?;
        let control = (header.control != 0).then_some(header.control_len);
        let places = [(header.name, header.name_len.into()), (header.control, header.control_len)];
        for (address, len) in places {
            self.space.bring_in(&mut self.memory, address, len.min(CONTROL_MOST) as usize)?;
        }
        let got = self.receive_message(fd, &Incoming { segments, control, flags }, done)?;
        self.write_header(&header, &got)?;
        Ok(got.bytes)
    }

    fn write_header(&mut self, header: &Header, got: &Got) -> Result<(), SysError> {
        if header.name != 0 {
            self.write_address(header.name, header.at + 8, got.address.as_deref().unwrap_or_default())?;
        }
        if !got.control.is_empty() {
            self.write(header.control, &got.control)?;
        }
        self.write(header.at + 48, &got.flags.to_le_bytes())?;
        self.write_words(header.at + 40, &[got.control.len() as u64])
    }

    pub(super) fn sys_recvmsg(&mut self, a: Args) -> SysResult {
        self.receive_header(a[0], a[1], a[2] as u32, self.done_before())
    }

    pub(super) fn sys_recvmmsg(&mut self, a: Args) -> SysResult {
        let [fd, vector, count, flags, timeout, _] = a;
        let until = match (timeout, self.resumed()) {
            (0, _) => None,
            (_, Some(parked)) if parked.wait.limit.is_some() => parked.wait.limit,
            (address, _) => {
                let ns = self.read_timespec(address)?;
                self.refresh_clock()?;
                Some(self.clock.monotonic().saturating_add(ns))
            }
        };
        self.socket(fd)?;
        let flags = flags as u32;
        let count = self.each_message(u64::from(count as u32), until, |kernel, n, done| {
            let at = vector.wrapping_add(n * MMSGHDR);
            let waits = if n > 0 && flags & WAITFORONE != 0 { DONTWAIT } else { 0 };
            let got = kernel.receive_header(fd, at, flags & !WAITFORONE | waits, done)?;
            kernel.write(at.wrapping_add(MMSG_LEN), &(got as u32).to_le_bytes())
        })?;
        if let Some(until) = until.filter(|_| count > 0) {
            let left = until.saturating_sub(self.clock.monotonic());
            self.write_words(timeout, &[left / SECOND, left % SECOND])?;
        }
        Ok(count)
    }
}

impl Got {
    /// Bytes that were received before the call waited for more.
    fn of_bytes(bytes: u64, to: &Incoming) -> Got {
        Got { bytes, address: None, control: Vec::new(), flags: to.flags & CMSG_CLOEXEC }
    }
}

/// Installs descriptors that came with a message, and tells of them and of its sender where there is room
/// for that. Whether something was lost since nothing was asked for.
fn take_along(
    files: &mut FdTable,
    received: &Received,
    control: Option<&mut Control>,
    cloexec: bool,
) -> bool {
    let Some(control) = control else {
        return received.creds.is_some() || !received.passed.is_empty();
    };
    if let Some(creds) = received.creds {
        control.put_creds(creds);
    }
    let mut fds = Vec::new();
    for id in received.passed.iter().take(control.fds()) {
        match files.install_passed(*id, cloexec) {
            Ok(fd) => fds.push(fd),
            Err(_) => break,
        }
    }
    control.put_fds(&fds, received.passed.len());
    false
}
