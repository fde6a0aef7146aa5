//! Sockets: how they are made, named, connected and shut. There is no network: only those of the UNIX domain
//! can be made.

use super::Args;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::files::AT_FDCWD;
use crate::program::fs::{Env, FsError, FsResult, InodeId, OpenFlags};
use crate::program::kernel::Kernel;
use crate::program::mm::Access;
use crate::program::net::{Kind, Name, NameError, SOMAXCONN, Ucred};
use crate::program::wait::{Key, Wait};

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
/// Families that Linux knows.
const FAMILIES: u32 = 46;
/// `SOCK_*`: what of a type is no flag, and how many there are.
const KIND: u32 = 0xf;
const KINDS: u32 = 11;
/// Bytes of an address at most (`struct sockaddr_storage`).
const ADDRESS_BYTES: u32 = 128;

/// A descriptor's socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// It.
    pub inode: InodeId,
    /// The descriptor does not wait.
    pub nonblock: bool,
}

/// The process that makes a call, as a peer sees it.
fn peer(env: &Env<'_>) -> Ucred {
    let who = env.caller.credentials();
    Ucred { pid: env.caller.pid(), uid: who.user.effective, gid: who.group.effective }
}

/// What kind of socket is to be made, and the flags of its descriptor.
fn kind_of(kind: u32, protocol: u32) -> Result<Kind, Errno> {
    if protocol > AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind & KIND {
        1 => Ok(Kind::Stream),
        // `SOCK_RAW` is the same.
        2 | 3 => Ok(Kind::Datagram),
        5 => Ok(Kind::Packets),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

fn flags_of(flags: u32) -> Result<OpenFlags, Errno> {
    let known = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
    if flags & !known.0 == 0 { Ok(OpenFlags(flags)) } else { Err(Errno::EINVAL) }
}

impl Kernel {
    pub(super) fn sys_socket(&mut self, a: Args) -> SysResult {
        let [family, kind, protocol] = [a[0] as u32, a[1] as u32, a[2] as u32];
        let flags = flags_of(kind & !KIND)?;
        if family >= FAMILIES {
            return Err(Errno::EAFNOSUPPORT.into());
        }
        if kind & KIND >= KINDS {
            return Err(Errno::EINVAL.into());
        }
        if family != AF_UNIX {
            return Err(Errno::EAFNOSUPPORT.into());
        }
        let kind = kind_of(kind, protocol)?;
        let fd = self.with_files(|fs, files, env, _| files.socket(fs, env, kind, flags))?;
        Ok(fd as u64)
    }

    pub(super) fn sys_socketpair(&mut self, a: Args) -> SysResult {
        let [family, kind, protocol] = [a[0] as u32, a[1] as u32, a[2] as u32];
        let flags = flags_of(kind & !KIND)?;
        if family != AF_UNIX {
            let connects = matches!(family, AF_INET | AF_INET6);
            return Err(if connects { Errno::EOPNOTSUPP } else { Errno::EAFNOSUPPORT }.into());
        }
        if kind & KIND >= KINDS {
            return Err(Errno::EINVAL.into());
        }
        let kind = kind_of(kind, protocol)?;
        if self.space.accessible(a[3], 8, Access::Write) < 8 {
            return Err(Errno::EFAULT.into());
        }
        let [first, second] = self.with_files(|fs, files, env, _| {
            let who = peer(env);
            files.socket_pair(fs, env, kind, flags, who)
        })?;
        self.write(a[3], &[first.to_le_bytes(), second.to_le_bytes()].concat())?;
        Ok(0)
    }

    /// A descriptor's socket.
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`.
    pub(super) fn socket(&mut self, fd: u64) -> Result<Open, SysError> {
        self.with_files(|fs, files, _, _| {
            let description = files.get_open(fd as i32)?;
            let inode = description.inode();
            let nonblock = description.flags().has(OpenFlags::NONBLOCK);
            if fs.sockets().has(inode) { Ok(Open { inode, nonblock }) } else { Err(Errno::ENOTSOCK.into()) }
        })
    }

    /// Reads an address (`move_addr_to_kernel`).
    pub(super) fn read_address(&mut self, address: u64, len: u32) -> Result<Vec<u8>, SysError> {
        if len > ADDRESS_BYTES {
            return Err(Errno::EINVAL.into());
        }
        let mut bytes = vec![0; len as usize];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes an address as far as there is room, and how long it is (`move_addr_to_user`).
    pub(super) fn write_address(&mut self, address: u64, len_at: u64, bytes: &[u8]) -> Result<(), SysError> {
        let room = self.read_u32(len_at)?;
        if room > i32::MAX as u32 {
            return Err(Errno::EINVAL.into());
        }
        let n = bytes.len().min(room as usize);
        if n > 0 {
            self.write(address, &bytes[..n])?;
        }
        self.write(len_at, &(bytes.len() as u32).to_le_bytes())
    }

    /// A socket operation that cannot be done yet waits, at most as long as the socket's timeout says, and
    /// remembers how much it did.
    pub(super) fn or_wait<T>(
        &mut self,
        result: FsResult<T>,
        timeout: Option<u64>,
        done: u64,
    ) -> Result<T, SysError> {
        let Err(FsError::Block(id)) = result else { return Ok(result?) };
        let until = match timeout {
            None => None,
            Some(ns) => Some(self.deadline(ns)?),
        };
        if self.has_come(until) {
            return Err(Errno::EAGAIN.into());
        }
        if until.is_some() && self.signals().any_deliverable() {
            // Such a call is never made again (`sock_intr_errno`).
            return Err(Errno::EINTR.into());
        }
        Err(SysError::Wait(Wait { until, done, ..Wait::on(Key::File(id)) }))
    }

    /// Gives a socket a free name, if it wants one.
    pub(super) fn name_sender(&mut self, inode: InodeId) -> Result<(), SysError> {
        Ok(self.with_files(|fs, _, env, _| {
            if !fs.sockets().wants_name(inode) {
                return Ok(());
            }
            let number = random_number(env);
            fs.with_sockets(|sockets| sockets.bind_any(inode, number))
        })?)
    }

    pub(super) fn sys_bind(&mut self, a: Args) -> SysResult {
        let Open { inode, .. } = self.socket(a[0])?;
        let address = self.read_address(a[1], a[2] as u32)?;
        let name = Name::of_address(&address);
        self.with_files(|fs, files, env, task| match name {
            Ok(name) => {
                let path = name.path().unwrap_or_default().to_vec();
                let at = files.at(AT_FDCWD, task.cwd, &path)?;
                fs.bind_socket(env, at, inode, name, task.umask)
            }
            Err(NameError::Any) => {
                let number = random_number(env);
                fs.with_sockets(|sockets| sockets.bind_any(inode, number))
            }
            Err(e) => Err(Errno::from(e).into()),
        })?;
        Ok(0)
    }

    pub(super) fn sys_listen(&mut self, a: Args) -> SysResult {
        let Open { inode, .. } = self.socket(a[0])?;
        let backlog = (a[1] as u32).min(SOMAXCONN);
        self.with_files(|fs, _, env, _| {
            let who = peer(env);
            fs.with_sockets(|sockets| sockets.listen(inode, backlog, who))
        })?;
        Ok(0)
    }

    pub(super) fn sys_connect(&mut self, a: Args) -> SysResult {
        let Open { inode, nonblock } = self.socket(a[0])?;
        let address = self.read_address(a[1], a[2] as u32)?;
        let connects = self.with_files(|fs, _, _, _| fs.sockets().kind(inode))?.connects();
        let name = match Name::of_address(&address) {
            Ok(name) => name,
            Err(NameError::None) if !connects => {
                self.with_files(|fs, files, env, _| {
                    fs.with_sockets(|sockets| sockets.disconnect(inode));
                    files.settle(fs, env)
                })?;
                return Ok(0);
            }
            Err(e) => return Err(Errno::from(e).into()),
        };
        self.name_sender(inode)?;
        let (timeout, _) = self.with_files(|fs, _, _, _| fs.sockets().timeouts(inode));
        let connected = self.with_files(|fs, files, env, task| {
            let at = files.at(AT_FDCWD, task.cwd, name.path().unwrap_or_default())?;
            let other = fs.find_socket(env, at, inode, &name)?;
            if connects {
                let who = peer(env);
                return fs.connect_socket(env, inode, other, who, nonblock);
            }
            fs.with_sockets(|sockets| sockets.connect_datagram(inode, other))?;
            files.settle(fs, env)
        });
        self.or_wait(connected, timeout, 0)?;
        Ok(0)
    }

    pub(super) fn sys_accept4(&mut self, a: Args) -> SysResult {
        let Open { inode, nonblock } = self.socket(a[0])?;
        let flags = flags_of(a[3] as u32)?;
        let (_, timeout) = self.with_files(|fs, _, _, _| fs.sockets().timeouts(inode));
        let accepted = self.with_files(|fs, files, _, _| files.accept(fs, inode, flags, nonblock));
        let (fd, new) = self.or_wait(accepted, timeout, 0)?;
        if a[1] != 0 {
            let address = self.with_files(|fs, _, _, _| fs.sockets().peer_name(new).map(Name::address))?;
            if let Err(e) = self.write_address(a[1], a[2], &address) {
                // Nobody gets the connection.
                self.with_files(|fs, files, env, _| files.close(fs, env, fd))?;
                return Err(e);
            }
        }
        Ok(fd as u64)
    }

    pub(super) fn sys_shutdown(&mut self, a: Args) -> SysResult {
        let Open { inode, .. } = self.socket(a[0])?;
        let how = match a[1] as u32 {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            _ => return Err(Errno::EINVAL.into()),
        };
        self.with_files(|fs, _, _, _| fs.with_sockets(|sockets| sockets.shut(inode, how)))?;
        Ok(0)
    }

    pub(super) fn sys_getsockname(&mut self, a: Args) -> SysResult {
        let Open { inode, .. } = self.socket(a[0])?;
        let address = self.with_files(|fs, _, _, _| fs.sockets().name(inode).map(Name::address))?;
        self.write_address(a[1], a[2], &address)?;
        Ok(0)
    }

    pub(super) fn sys_getpeername(&mut self, a: Args) -> SysResult {
        let Open { inode, .. } = self.socket(a[0])?;
        let address = self.with_files(|fs, _, _, _| fs.sockets().peer_name(inode).map(Name::address))?;
        self.write_address(a[1], a[2], &address)?;
        Ok(0)
    }
}

fn random_number(env: &mut Env<'_>) -> u32 {
    let mut bytes = [0; 4];
    env.caller.random(&mut bytes);
    u32::from_le_bytes(bytes)
}
