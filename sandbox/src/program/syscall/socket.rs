//! Sockets of a pair. There is no network: other sockets cannot be made.

use super::Args;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::fs::{Anon, InodeId, IoOutcome, OpenFlags, SOCKET_SIZE};
use crate::program::kernel::Kernel;
use crate::program::mm::Access;

const AF_UNIX: u64 = 1;
/// `SOCK_*`.
const STREAM: u64 = 1;
const DGRAM: u64 = 2;
const SEQPACKET: u64 = 5;
const KIND: u64 = 0xf;

/// `MSG_*`.
const PEEK: u64 = 2;
const TRUNCATED: u64 = 0x20;
const DONTWAIT: u64 = 0x40;
const NOSIGNAL: u64 = 0x4000;

const SOL_SOCKET: u64 = 1;

impl Kernel {
    pub(super) fn sys_socketpair(&mut self, a: Args) -> SysResult {
        let [domain, kind, protocol, address, ..] = a;
        let flags = kind & !KIND;
        let known = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
        if domain != AF_UNIX {
            return Err(
                if domain == 2 || domain == 10 { Errno::EOPNOTSUPP } else { Errno::EAFNOSUPPORT }.into()
            );
        }
        if flags & !u64::from(known.0) != 0 {
            return Err(Errno::EINVAL.into());
        }
        if protocol > AF_UNIX {
            return Err(Errno::EPROTONOSUPPORT.into());
        }
        let kind = match kind & KIND {
            STREAM => (false, false),
            SEQPACKET => (true, false),
            DGRAM => (true, true),
            _ => return Err(Errno::ESOCKTNOSUPPORT.into()),
        };
        if self.space.accessible(address, 8, Access::Write) < 8 {
            return Err(Errno::EFAULT.into());
        }
        let flags = OpenFlags::RDWR | OpenFlags(flags as u32);
        let [first, second] = self.with_files(|fs, files, env, _| files.socket_pair(fs, env, kind, flags))?;
        self.write(address, &[first.to_le_bytes(), second.to_le_bytes()].concat())?;
        Ok(0)
    }

    /// A descriptor's socket, and whether it does not wait.
    fn socket(&mut self, fd: u64) -> Result<(InodeId, bool), SysError> {
        self.with_files(|fs, files, _, _| {
            let description = files.get_open(fd as i32)?;
            let nonblock = description.flags().has(OpenFlags::NONBLOCK);
            match fs.anon(description.inode()) {
                Some(Anon::Socket(_)) => Ok((description.inode(), nonblock)),
                _ => Err(Errno::ENOTSOCK.into()),
            }
        })
    }

    fn send_bytes(&mut self, fd: u64, data: &[u8], flags: u64) -> SysResult {
        let (inode, nonblock) = self.socket(fd)?;
        self.effects.add(0, data);
        let nonblock = nonblock || flags & DONTWAIT != 0;
        let done = self.resumed().map_or(0, |parked| parked.wait.done as usize).min(data.len());
        let sent = self.with_files(|fs, _, _, _| fs.send(inode, &data[done..], nonblock));
        match self.broken_pipe(sent.map_err(SysError::from), flags & NOSIGNAL == 0) {
            Ok(IoOutcome::Done(n) | IoOutcome::Partial(n)) => Ok((done + n) as u64),
            Err(SysError::Wait(_)) if done > 0 && self.signals().any_deliverable() => Ok(done as u64),
            Ok(IoOutcome::Control(_)) => Ok(0),
            Err(e) => Err(e),
        }
    }

    pub(super) fn sys_sendto(&mut self, a: Args) -> SysResult {
        let [fd, address, len, flags, to, _] = a;
        if to != 0 {
            return Err(Errno::EISCONN.into());
        }
        let len = self.usable(address, len, Access::Read)?.min(SOCKET_SIZE + 1);
        let mut data = vec![0; len];
        self.read(address, &mut data)?;
        self.send_bytes(fd, &data, flags)
    }

    pub(super) fn sys_recvfrom(&mut self, a: Args) -> SysResult {
        let [fd, address, len, flags, from, from_len] = a;
        let (inode, nonblock) = self.socket(fd)?;
        let len = self.usable(address, len, Access::Write)?.min(SOCKET_SIZE);
        let mut data = vec![0; len];
        let nonblock = nonblock || flags & DONTWAIT != 0;
        let (n, whole) =
            self.with_files(|fs, _, _, _| fs.receive(inode, &mut data, nonblock, flags & PEEK != 0))?;
        self.write(address, &data[..n])?;
        if from != 0 && from_len != 0 {
            // The other end has no name.
            self.write(from_len, &0u32.to_le_bytes())?;
        }
        Ok(if flags & TRUNCATED != 0 { whole } else { n } as u64)
    }

    /// The parts of a `struct msghdr`: name length's place, vector, how many, control's place and length.
    fn message(&mut self, address: u64) -> Result<[u64; 7], SysError> {
        self.read_words::<7>(address)
    }

    pub(super) fn sys_sendmsg(&mut self, a: Args) -> SysResult {
        let [_, _, vector, count, control, control_len, _] = self.message(a[1])?;
        if control != 0 && control_len != 0 {
            // What goes along with messages is not there yet.
            self.count_unknown(super::number::SENDMSG);
            return Err(Errno::EOPNOTSUPP.into());
        }
        let mut data = Vec::new();
        for (address, len) in self.ranges(vector, count)? {
            let room = SOCKET_SIZE + 1 - data.len();
            let len = self.usable(address, len, Access::Read)?.min(room);
            let from = data.len();
            data.resize(from + len, 0);
            self.read(address, &mut data[from..])?;
        }
        self.send_bytes(a[0], &data, a[2])
    }

    pub(super) fn sys_recvmsg(&mut self, a: Args) -> SysResult {
        let [_, _, vector, count, _, _, _] = self.message(a[1])?;
        let (inode, nonblock) = self.socket(a[0])?;
        let ranges = self.ranges(vector, count)?;
        let len = ranges.iter().map(|(_, len)| *len).fold(0, u64::saturating_add).min(SOCKET_SIZE as u64);
        let mut data = vec![0; len as usize];
        let nonblock = nonblock || a[2] & DONTWAIT != 0;
        let (n, whole) =
            self.with_files(|fs, _, _, _| fs.receive(inode, &mut data, nonblock, a[2] & PEEK != 0))?;
        let mut at = 0;
        for (address, len) in ranges {
            let part = (len as usize).min(n - at);
            self.write(address, &data[at..at + part])?;
            at += part;
        }
        // No name, no control data; flags say whether the message was cut.
        self.write(a[1] + 8, &0u32.to_le_bytes())?;
        self.write_words(a[1] + 40, &[0, if whole > n { TRUNCATED } else { 0 }])?;
        Ok(if a[2] & TRUNCATED != 0 { whole } else { n } as u64)
    }

    pub(super) fn sys_shutdown(&mut self, a: Args) -> SysResult {
        let (inode, _) = self.socket(a[0])?;
        let how = match a[1] as u32 {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            _ => return Err(Errno::EINVAL.into()),
        };
        self.with_files(|fs, _, _, _| fs.shut(inode, how))?;
        Ok(0)
    }

    /// `getsockname` and `getpeername`: the ends of a pair have no names.
    pub(super) fn sys_getsockname(&mut self, a: Args) -> SysResult {
        self.socket(a[0])?;
        let len = self.read_u32(a[2])?;
        let family = (AF_UNIX as u16).to_le_bytes();
        self.write(a[1], &family[..2.min(len as usize)])?;
        self.write(a[2], &2u32.to_le_bytes())?;
        Ok(0)
    }

    pub(super) fn sys_getsockopt(&mut self, a: Args) -> SysResult {
        let [fd, level, option, address, len_at, _] = a;
        let (inode, _) = self.socket(fd)?;
        let kind = self.with_files(|fs, _, _, _| match fs.anon(inode) {
            Some(Anon::Socket(socket)) if socket.datagrams => DGRAM,
            Some(Anon::Socket(socket)) if socket.messages.is_some() => SEQPACKET,
            _ => STREAM,
        });
        let value = match (level, option) {
            // SO_TYPE, SO_ERROR, SO_SNDBUF, SO_RCVBUF, SO_PROTOCOL, SO_DOMAIN, SO_ACCEPTCONN.
            (SOL_SOCKET, 3) => kind as u32,
            (SOL_SOCKET, 4 | 38 | 30) => 0,
            (SOL_SOCKET, 7 | 8) => SOCKET_SIZE as u32,
            (SOL_SOCKET, 39) => AF_UNIX as u32,
            _ => {
                self.count_unknown(super::number::GETSOCKOPT);
                return Err(Errno::ENOPROTOOPT.into());
            }
        };
        let len = self.read_u32(len_at)?.min(4);
        self.write(address, &value.to_le_bytes()[..len as usize])?;
        self.write(len_at, &len.to_le_bytes())?;
        Ok(0)
    }
}
