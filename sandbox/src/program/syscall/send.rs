//! Sending: `sendto`, `sendmsg` and `write` to sockets.

use super::Args;
use super::control::{Asked, may_claim};
use super::message::flag::{DONTWAIT, NOSIGNAL, OOB};
use super::message::{CONTROL_MOST, MMSG_LEN, MMSGHDR};
use super::socket::Open;
use crate::errno::Errno;
use crate::program::credentials::cap;
use crate::program::error::{SysError, SysResult};
use crate::program::files::AT_FDCWD;
use crate::program::fs::InodeId;
use crate::program::kernel::Kernel;
use crate::program::limits;
use crate::program::mm::Access;
use crate::program::net::{Extras, Kind, Name, Ucred};
use crate::program::process::FIRST_PID;

/// Parts of a stream that are sent at once.
const PARTS: usize = 4;

/// A message to be sent.
struct Outgoing {
    segments: Vec<(u64, u64)>,
    /// The address that it is for; empty for the peer.
    to: Vec<u8>,
    control: Vec<u8>,
    flags: u32,
}

impl Kernel {
    /// Reads what there is in ranges of memory behind the first `skip` bytes, at most `most`: as far as it
    /// can be read.
    pub(super) fn gather(
        &mut self,
        segments: &[(u64, u64)],
        skip: u64,
        most: usize,
    ) -> Result<Vec<u8>, SysError> {
        let mut data = Vec::new();
        let mut skip = skip;
        for (address, len) in segments {
            let skipped = skip.min(*len);
            skip -= skipped;
            let want = (len - skipped).min((most - data.len()) as u64) as usize;
            let usable = self.space.accessible(address.wrapping_add(skipped), want, Access::Read);
            let from = data.len();
            data.resize(from + usable, 0);
            self.read(address.wrapping_add(skipped), &mut data[from..])?;
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
        let before = done;
        let mut done = done;
        loop {
            let begun = done > 0 || self.resumed().is_some();
            let part = self.with_files(|fs, _, _, _| fs.sockets().start_bytes(inode, begun))?;
            let data = match self.gather(&message.segments, done, part * PARTS) {
                // What was sent in this turn is not sent again.
                Err(_) if done > before => return Ok(done),
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
}
