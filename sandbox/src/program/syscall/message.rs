//! Sending and receiving.

use super::Args;
use super::control::{Asked, Control, may_claim};
use super::socket::Open;
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::files::AT_FDCWD;
use crate::program::fs::InodeId;
use crate::program::kernel::Kernel;
use crate::program::limits;
use crate::program::mm::Access;
use crate::program::net::{Extras, Kind, Name, Received, Take, Ucred};
use crate::program::process::FIRST_PID;
use crate::program::wait::Wait;

/// `MSG_*` (`include/linux/socket.h`).
const OOB: u32 = 1;
const PEEK: u32 = 2;
const CTRUNC: u32 = 8;
const TRUNC: u32 = 0x20;
const DONTWAIT: u32 = 0x40;
const WAITALL: u32 = 0x100;
const NOSIGNAL: u32 = 0x4000;
const WAITFORONE: u32 = 0x1_0000;
const CMSG_CLOEXEC: u32 = 0x4000_0000;

/// Parts of a stream that are sent at once.
const PARTS: usize = 4;
/// Bytes that one call receives at most: more than a sender's buffer holds.
const RECEIVE_MOST: usize = 1 << 20;
/// Bytes of control messages at most (`net.core.optmem_max`).
const CONTROL_MOST: u64 = 131_072;
/// Bytes of an address that are looked at.
const ADDRESS_MOST: u32 = 128;
/// `UIO_MAXIOV`.
const VECTOR_MOST: u64 = 1024;
/// Bytes of `struct mmsghdr`, and where it has the length.
const MMSGHDR: u64 = 64;
const MMSG_LEN: u64 = 56;

/// A message to be sent.
struct Outgoing {
    segments: Vec<(u64, u64)>,
    /// The address that it is for; empty for the peer.
    to: Vec<u8>,
    control: Vec<u8>,
    flags: u32,
}

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

/// `struct msghdr`.
struct Header {
    at: u64,
    name: u64,
    name_len: u32,
    vector: u64,
    count: u64,
    control: u64,
    control_len: u64,
}

impl Kernel {
    fn read_header(&mut self, at: u64) -> Result<Header, SysError> {
        let [name, name_len, vector, count, control, control_len, _] = self.read_words::<7>(at)?;
        let name_len = name_len as u32;
        if name_len > i32::MAX as u32 {
            return Err(Errno::EINVAL.into());
        }
        if count > VECTOR_MOST {
            return Err(Errno::EMSGSIZE.into());
        }
        Ok(Header { at, name, name_len: name_len.min(ADDRESS_MOST), vector, count, control, control_len })
    }

    /// Reads what there is in ranges of memory behind the first `skip` bytes, at most `most`: as far as it
    /// can be read.
    fn gather(&mut self, segments: &[(u64, u64)], skip: u64, most: usize) -> Result<Vec<u8>, SysError> {
        let mut data = Vec::new();
        let mut skip = skip;
        for (address, len) in segments {
            let skipped = skip.min(*len);
            skip -= skipped;
            let want = (len - skipped).min((most - data.len()) as u64) as usize;
            let usable = self.space.accessible(address + skipped, want, Access::Read);
            let from = data.len();
            data.resize(from + usable, 0);
            self.read(address + skipped, &mut data[from..])?;
            if usable < want {
                return if data.is_empty() { Err(Errno::EFAULT.into()) } else { Ok(data) };
            }
        }
        Ok(data)
    }

    /// What goes along with a message.
    fn extras(&mut self, control: &[u8]) -> Result<Extras, SysError> {
        let Asked { fds, creds } = Asked::of(control)?;
        let pid = self.pid();
        let known = creds
            .is_none_or(|creds| creds.pid == pid || creds.pid == FIRST_PID || self.process.has(creds.pid));
        let limit = self.process.limits[limits::NOFILE].0;
        self.with_files(|_, files, env, _| {
            let who = env.caller.credentials();
            let privileged = who.can(cap::SYS_RESOURCE) || who.can(cap::SYS_ADMIN);
            let passed = files.to_pass(&fds)?;
            if creds.is_some_and(|creds| !may_claim(creds, pid, who)) {
                return Err(Errno::EPERM.into());
            }
            if !known {
                return Err(Errno::ESRCH.into());
            }
            let sender = Ucred { pid, uid: who.user.real, gid: who.group.real };
            Ok(Extras { sender, creds, passed, limit: if privileged { u64::MAX } else { limit } })
        })
    }

    /// Sends a message of which `done` bytes were sent before the call waited.
    fn send_message(&mut self, fd: u64, message: &Outgoing, done: u64) -> SysResult {
        let Open { inode, nonblock } = self.socket(fd)?;
        let extras = self.extras(&message.control)?;
        if message.flags & OOB != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let nonblock = nonblock || message.flags & DONTWAIT != 0;
        match self.with_files(|fs, _, _, _| fs.sockets().kind(inode))? {
            Kind::Stream => {
                let sent = self.send_stream(inode, message, &extras, nonblock, done);
                self.broken_pipe(sent, message.flags & NOSIGNAL == 0)
            }
            kind => self.send_packet(inode, kind, message, &extras, nonblock),
        }
    }

    fn send_stream(
        &mut self,
        inode: InodeId,
        message: &Outgoing,
        extras: &Extras,
        nonblock: bool,
        done: u64,
    ) -> SysResult {
        if !message.to.is_empty() {
            let connected = self.with_files(|fs, _, _, _| fs.sockets().peer_name(inode).is_ok());
            return Err(if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP }.into());
        }
        let (timeout, _) = self.with_files(|fs, _, _, _| fs.sockets().timeouts(inode));
        let len: u64 = message.segments.iter().map(|(_, len)| len).sum();
        let mut done = done;
        loop {
            let begun = done > 0 || self.resumed().is_some();
            let part = self.with_files(|fs, _, _, _| fs.sockets().start_bytes(inode, begun))?;
            let data = match self.gather(&message.segments, done, part * PARTS) {
                Err(SysError::Errno(_)) if done > 0 => return Ok(done),
                data => data?,
            };
            self.effects.add(0, &data);
            let sent = self.with_files(|fs, files, _, _| {
                let sent = fs.with_sockets(|sockets| {
                    sockets.send_bytes(inode, &data, extras, nonblock, done == 0, begun)
                })?;
                if sent.passed {
                    files.pass(&extras.passed);
                }
                Ok(sent)
            });
            let sent = match self.or_wait(sent, timeout, done) {
                Err(SysError::Wait(_)) if done > 0 && self.signals().any_deliverable() => return Ok(done),
                Err(SysError::Errno(_)) if done > 0 => return Ok(done),
                sent => sent?,
            };
            done += sent.bytes as u64;
            // Without room for the rest the next turn waits.
            if done >= len || sent.bytes < data.len() && !sent.waits {
                return Ok(done);
            }
            self.stop.check()?;
        }
    }

    fn send_packet(
        &mut self,
        inode: InodeId,
        kind: Kind,
        message: &Outgoing,
        extras: &Extras,
        nonblock: bool,
    ) -> SysResult {
        // Packets go to the peer, whatever the address.
        let to = match &message.to[..] {
            [] => None,
            _ if kind == Kind::Packets => None,
            address => Some(Name::of_address(address).map_err(Errno::from)?),
        };
        self.name_sender(inode)?;
        let len: u64 =
            message.segments.iter().map(|(_, len)| len).fold(0, |sum, len| sum.saturating_add(*len));
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let (timeout, _) = self.with_files(|fs, _, _, _| fs.sockets().timeouts(inode));
        let started = self
            .with_files(|fs, _, _, _| fs.with_sockets(|sockets| sockets.start_packet(inode, len, nonblock)));
        self.or_wait(started, timeout, 0)?;
        let data = self.gather(&message.segments, 0, len)?;
        if data.len() < len {
            return Err(Errno::EFAULT.into());
        }
        self.effects.add(0, &data);
        let sent = self.with_files(|fs, files, env, task| {
            let other = match &to {
                None => None,
                Some(name) => {
                    let at = files.at(AT_FDCWD, task.cwd, name.path().unwrap_or_default())?;
                    Some(fs.find_socket(env, at, inode, name)?)
                }
            };
            let sent =
                fs.with_sockets(|sockets| sockets.send_packet(inode, other, &data, extras, nonblock))?;
            if sent.passed {
                files.pass(&extras.passed);
            }
            Ok(sent.bytes as u64)
        });
        self.with_files(|fs, files, env, _| files.settle(fs, env))?;
        self.or_wait(sent, timeout, 0)
    }

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
        let mut done = done;
        loop {
            let parts = self.writable(&to.segments, done, RECEIVE_MOST)?;
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
                self.stop.check()?;
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
    fn writable(
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
            let usable = self.space.accessible(address + skipped, want, Access::Write);
            if usable > 0 {
                parts.push((address + skipped, usable));
            }
            left -= usable;
            if usable < want {
                return if parts.is_empty() { Err(Errno::EFAULT.into()) } else { Ok(parts) };
            }
        }
        Ok(parts)
    }

    fn scatter(&mut self, parts: &[(u64, usize)], data: &[u8]) -> Result<(), SysError> {
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

    /// What the call had done before it waited.
    fn done_before(&self) -> u64 {
        self.resumed().map_or(0, |parked| parked.wait.done)
    }

    /// `write` and its kin to a socket.
    pub(super) fn write_socket(
        &mut self,
        fd: i32,
        segments: Vec<(u64, u64)>,
        (nonblock, signals): (bool, bool),
    ) -> SysResult {
        let flags = if nonblock { DONTWAIT } else { 0 } | if signals { 0 } else { NOSIGNAL };
        let message = Outgoing { segments, to: Vec::new(), control: Vec::new(), flags };
        self.send_message(fd as u64, &message, self.done_before())
    }

    /// `read` and its kin from a socket.
    pub(super) fn read_socket(&mut self, fd: i32, segments: Vec<(u64, u64)>, nonblock: bool) -> SysResult {
        let flags = if nonblock { DONTWAIT } else { 0 };
        let to = Incoming { segments, control: None, flags };
        Ok(self.receive_message(fd as u64, &to, 0)?.bytes)
    }

    pub(super) fn sys_sendto(&mut self, a: Args) -> SysResult {
        let [fd, address, len, flags, to, to_len] = a;
        self.socket(fd)?;
        let to = if to == 0 { Vec::new() } else { self.read_address(to, to_len as u32)? };
        let len = len.min(i32::MAX as u64);
        let message =
            Outgoing { segments: vec![(address, len)], to, control: Vec::new(), flags: flags as u32 };
        self.send_message(fd, &message, self.done_before())
    }

    /// Sends what a `struct msghdr` says.
    fn send_header(&mut self, fd: u64, at: u64, flags: u32, done: u64) -> SysResult {
        self.socket(fd)?;
        let header = self.read_header(at)?;
        let to = match header.name {
            0 => Vec::new(),
            name => self.read_address(name, header.name_len)?,
        };
        let segments = self.ranges(header.vector, header.count)?;
        if header.control_len > CONTROL_MOST {
            return Err(Errno::ENOBUFS.into());
        }
        let mut control = vec![0; header.control_len as usize];
        self.read(header.control, &mut control)?;
        self.send_message(fd, &Outgoing { segments, to, control, flags }, done)
    }

    pub(super) fn sys_sendmsg(&mut self, a: Args) -> SysResult {
        self.send_header(a[0], a[1], a[2] as u32, self.done_before())
    }

    pub(super) fn sys_sendmmsg(&mut self, a: Args) -> SysResult {
        let [fd, vector, count, flags, ..] = a;
        self.socket(fd)?;
        self.each_message(u64::from(count as u32), None, |kernel, n, done| {
            let at = vector.wrapping_add(n * MMSGHDR);
            let sent = kernel.send_header(fd, at, flags as u32, done)?;
            kernel.write(at.wrapping_add(MMSG_LEN), &(sent as u32).to_le_bytes())
        })
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
        let until = match timeout {
            0 => None,
            address => {
                let ns = self.read_timespec(address)?;
                self.refresh_clock()?;
                Some(self.clock.monotonic().saturating_add(ns))
            }
        };
        self.socket(fd)?;
        let flags = flags as u32;
        self.each_message(u64::from(count as u32), until, |kernel, n, done| {
            let at = vector.wrapping_add(n * MMSGHDR);
            let waits = if n > 0 && flags & WAITFORONE != 0 { DONTWAIT } else { 0 };
            let got = kernel.receive_header(fd, at, flags & !WAITFORONE | waits, done)?;
            kernel.write(at.wrapping_add(MMSG_LEN), &(got as u32).to_le_bytes())
        })
    }

    /// Does something with each of many messages, until a moment after which no other is begun; gives how
    /// many there were. `act` gets the number of the message, and what was done of it before the call
    /// waited.
    fn each_message(
        &mut self,
        count: u64,
        until: Option<u64>,
        act: impl Fn(&mut Kernel, u64, u64) -> Result<(), SysError>,
    ) -> SysResult {
        /// Bits of what was done of a message: less than 2^31 bytes.
        const BITS: u32 = 32;
        let before = self.done_before();
        let (start, mut done) = (before >> BITS, before & u64::from(u32::MAX));
        for n in start..count.min(VECTOR_MOST) {
            match act(self, n, done) {
                Ok(()) => done = 0,
                Err(SysError::Wait(wait)) => {
                    if n > 0 && self.signals().any_deliverable() {
                        return Ok(n);
                    }
                    return Err(SysError::Wait(Wait { done: n << BITS | wait.done, ..wait }));
                }
                Err(SysError::Errno(_)) if n > 0 => return Ok(n),
                Err(e) => return Err(e),
            }
            if until.is_some_and(|until| until <= self.clock.monotonic()) {
                return Ok(n + 1);
            }
            self.stop.check()?;
        }
        Ok(count.min(VECTOR_MOST))
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
    files: &mut crate::program::files::FdTable,
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
