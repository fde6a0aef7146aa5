//! Options of sockets (`include/uapi/asm-generic/socket.h`).

use super::Args;
use super::number;
use super::socket::Open;
use crate::errno::Errno;
use crate::program::error::SysResult;
use crate::program::fs::Fs;
use crate::program::fs::{FsResult, InodeId, fail};
use crate::program::kernel::Kernel;
use crate::program::net::{Flag, State};

const SOL_SOCKET: u64 = 1;

const SO_REUSEADDR: u32 = 2;
const SO_TYPE: u32 = 3;
const SO_ERROR: u32 = 4;
const SO_DONTROUTE: u32 = 5;
const SO_BROADCAST: u32 = 6;
const SO_SNDBUF: u32 = 7;
const SO_RCVBUF: u32 = 8;
const SO_KEEPALIVE: u32 = 9;
const SO_REUSEPORT: u32 = 15;
const SO_PASSCRED: u32 = 16;
const SO_PEERCRED: u32 = 17;
const SO_RCVLOWAT: u32 = 18;
const SO_SNDLOWAT: u32 = 19;
const SO_RCVTIMEO: u32 = 20;
const SO_SNDTIMEO: u32 = 21;
const SO_ACCEPTCONN: u32 = 30;
const SO_PROTOCOL: u32 = 38;
const SO_DOMAIN: u32 = 39;

/// Nanoseconds in a second, and in a microsecond.
const SECOND: u64 = 1_000_000_000;
const MICROSECOND: u64 = 1000;

/// An option that is on or off.
fn flag_of(option: u32) -> Option<Flag> {
    Some(match option {
        SO_REUSEADDR => Flag::ReuseAddress,
        SO_DONTROUTE => Flag::DontRoute,
        SO_BROADCAST => Flag::Broadcast,
        SO_KEEPALIVE => Flag::KeepAlive,
        SO_PASSCRED => Flag::PassCredentials,
        _ => return None,
    })
}

/// A timeout as `struct timeval`.
fn timeval(timeout: Option<u64>) -> Vec<u8> {
    let ns = timeout.unwrap_or(0);
    [(ns / SECOND).to_le_bytes(), (ns % SECOND / MICROSECOND).to_le_bytes()].concat()
}

/// What an option is.
fn value_of(fs: &mut Fs, inode: InodeId, option: u32) -> FsResult<Vec<u8>> {
    let sockets = fs.sockets();
    let word = |word: u32| Ok(word.to_le_bytes().to_vec());
    if let Some(flag) = flag_of(option) {
        return word(sockets.flag(inode, flag)?.into());
    }
    match option {
        SO_TYPE => word(sockets.kind(inode)?.number()),
        SO_ERROR => {
            let error = fs.with_sockets(|sockets| sockets.take_error(inode))?;
            word(error.map_or(0, |error| error.number() as u32))
        }
        SO_SNDBUF => word(sockets.buffers(inode)?.0),
        SO_RCVBUF => word(sockets.buffers(inode)?.1),
        SO_PEERCRED => Ok(sockets.peer_cred(inode)?.to_bytes().to_vec()),
        SO_RCVLOWAT | SO_SNDLOWAT | SO_DOMAIN => word(1),
        SO_PROTOCOL | SO_REUSEPORT => word(0),
        SO_RCVTIMEO => Ok(timeval(sockets.timeouts(inode).1)),
        SO_SNDTIMEO => Ok(timeval(sockets.timeouts(inode).0)),
        SO_ACCEPTCONN => word((sockets.state(inode)? == State::Listening).into()),
        _ => fail(Errno::ENOPROTOOPT),
    }
}

impl Kernel {
    pub(super) fn sys_getsockopt(&mut self, a: Args) -> SysResult {
        let [fd, level, option, address, len_at, _] = a;
        let Open { inode, .. } = self.socket(fd)?;
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let room = self.read_u32(len_at)?;
        if room > i32::MAX as u32 {
            return Err(Errno::EINVAL.into());
        }
        let value = self.with_files(|fs, _, _, _| value_of(fs, inode, option as u32));
        if matches!(value, Err(crate::program::fs::FsError::Errno(Errno::ENOPROTOOPT))) {
            self.count_unknown(number::GETSOCKOPT);
        }
        let value = value?;
        let n = value.len().min(room as usize);
        self.write(address, &value[..n])?;
        self.write(len_at, &(n as u32).to_le_bytes())?;
        Ok(0)
    }

    pub(super) fn sys_setsockopt(&mut self, a: Args) -> SysResult {
        let [fd, level, option, address, len, _] = a;
        let Open { inode, .. } = self.socket(fd)?;
        let (option, len) = (option as u32, len as u32);
        if len > i32::MAX as u32 {
            return Err(Errno::EINVAL.into());
        }
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if len < 4 {
            return Err(Errno::EINVAL.into());
        }
        let value = self.read_u32(address)?;
        if matches!(option, SO_RCVTIMEO | SO_SNDTIMEO) {
            return self.set_timeout(inode, option == SO_SNDTIMEO, address, len);
        }
        self.with_files(|fs, _, _, _| {
            fs.with_sockets(|sockets| match (option, flag_of(option)) {
                (_, Some(flag)) => sockets.set_flag(inode, flag, value != 0),
                (SO_SNDBUF, _) => sockets.set_send_buffer(inode, value),
                (SO_RCVBUF, _) => sockets.set_receive_buffer(inode, value),
                (SO_REUSEPORT, _) if value != 0 => fail(Errno::EOPNOTSUPP),
                // One byte is enough to wake who receives: others are not kept.
                (SO_REUSEPORT | SO_RCVLOWAT, _) => Ok(()),
                _ => fail(Errno::ENOPROTOOPT),
            })
        })?;
        Ok(0)
    }

    /// `sock_set_timeout`: no time is for ever, and less is not to wait.
    fn set_timeout(&mut self, inode: InodeId, sends: bool, address: u64, len: u32) -> SysResult {
        if len < 16 {
            return Err(Errno::EINVAL.into());
        }
        let [seconds, micros] = self.read_words::<2>(address)?;
        if micros >= SECOND / MICROSECOND {
            return Err(Errno::EDOM.into());
        }
        let timeout = match seconds.saturating_mul(SECOND).saturating_add(micros * MICROSECOND) {
            _ if (seconds as i64) < 0 => Some(0),
            0 => None,
            ns => Some(ns),
        };
        self.with_files(|fs, _, _, _| fs.with_sockets(|sockets| sockets.set_timeout(inode, sends, timeout)))?;
        Ok(0)
    }
}
