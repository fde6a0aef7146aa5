//! Descriptors of what happens elsewhere in the kernel: signals that come (`signalfd`), and the end of a process
//! (`pidfd_open`).

use serde::{Deserialize, Serialize};

use super::Fs;
use super::anon::Anon;
use super::env::Env;
use super::error::{FsError, FsResult, fail};
use super::inode::{Body, InodeId};
use crate::errno::Errno;
use crate::program::signal::number::SIGCHLD;
use crate::program::signal::{Info, SI_KERNEL, SI_TIMER, SI_USER, bit};

/// Bytes of `struct signalfd_siginfo` (`include/uapi/linux/signalfd.h`).
pub(super) const SIGNAL_BYTES: usize = 128;

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// It runs.
    Alive,
    /// It has ended, and its parent has yet to wait for it.
    Ended,
    /// It is no more.
    Gone,
}

/// `struct signalfd_siginfo`: which fields there are depends on where the signal comes from (`signalfd_copyinfo`).
fn signal_bytes(info: &Info) -> [u8; SIGNAL_BYTES] {
    let mut bytes = [0u8; SIGNAL_BYTES];
    let mut put = |at: usize, value: u64, len: usize| {
        bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    };
    put(0, info.signal.into(), 4);
    put(8, info.code as u64, 4);
    let (first, second) = (info.value & 0xffff_ffff, info.value >> 32);
    if info.code == SI_TIMER {
        put(24, first, 4);
        put(32, second, 4);
        put(44, info.extra, 4);
        put(48, info.extra, 8);
    } else if info.fault.is_some() {
        put(72, info.value, 8);
    } else {
        put(12, first, 4);
        put(16, second, 4);
        if info.code < 0 {
            put(44, info.extra, 4);
            put(48, info.extra, 8);
        } else if info.signal == SIGCHLD && info.code > SI_USER && info.code < SI_KERNEL {
            put(40, info.extra, 4);
        }
    }
    bytes
}

impl Fs {
    /// Reads the signals of a set that are pending for the caller: as many as there are and fit.
    pub(super) fn read_signals(
        &mut self,
        env: &mut Env<'_>,
        id: InodeId,
        mask: u64,
        buf: &mut [u8],
        nonblock: bool,
    ) -> FsResult<usize> {
        let places = buf.as_chunks_mut::<SIGNAL_BYTES>().0;
        if places.is_empty() {
            return fail(Errno::EINVAL);
        }
        let mut count = 0;
        for place in places {
            let Some(info) = env.caller.take_signal(mask) else { break };
            *place = signal_bytes(&info);
            count += 1;
        }
        match (count, nonblock) {
            (0, true) => fail(Errno::EAGAIN),
            (0, false) => Err(FsError::Block(id)),
            (count, _) => Ok(count * SIGNAL_BYTES),
        }
    }

    /// A signal is pending: who waits for one of a set looks whether it is theirs. Whether there is a set
    /// with it.
    pub(crate) fn note_signal(&mut self, signal: u32) -> bool {
        self.wake_notices(|anon| matches!(anon, Anon::Signals { mask } if *mask & bit(signal) != 0))
    }

    /// A process has ended, or is no more. Whether there is a descriptor of it.
    pub(crate) fn note_process(&mut self, pid: u32, now: Stage) -> bool {
        self.wake_notices(|anon| match anon {
            Anon::Process { pid: of, stage } if *of == pid && *stage < now => {
                *stage = now;
                true
            }
            _ => false,
        })
    }

    /// Whether a descriptor is of the process of this number.
    pub(crate) fn has_process(&self, pid: u32) -> bool {
        let of = |id: &InodeId| matches!(self.anon(*id), Some(Anon::Process { pid: of, .. }) if *of == pid);
        self.notices.iter().any(of)
    }

    fn wake_notices(&mut self, mut concerns: impl FnMut(&mut Anon) -> bool) -> bool {
        let mut of: Vec<InodeId> = self.notices.iter().copied().collect();
        of.retain(|id| self.anon_mut(*id).is_some_and(&mut concerns));
        of.iter().for_each(|id| self.wake(*id));
        !of.is_empty()
    }

    /// Whether the set of these is what there is: for a state out of a file.
    pub(super) fn notices_are_sound(&self) -> bool {
        let are = self.inodes.iter().filter(|(_, inode)| {
            matches!(inode.body, Body::Anon(Anon::Signals { .. } | Anon::Process { .. }))
        });
        are.map(|(id, _)| id).eq(&self.notices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_depend_on_where_a_signal_comes_from() {
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let info = Info { signal: 34, code: -1, value: 7 | 5 << 32, extra: 9 << 32 | 3, ..Info::default() };
        let bytes = signal_bytes(&info);
        assert_eq!([0, 12, 16, 24, 32, 44, 48, 52].map(|at| word(&bytes, at)), [34, 7, 5, 0, 0, 3, 3, 9]);
        let bytes = signal_bytes(&Info { code: SI_TIMER, ..info });
        assert_eq!([12, 16, 24, 32, 44].map(|at| word(&bytes, at)), [0, 0, 7, 5, 3]);
        let bytes = signal_bytes(&Info { signal: SIGCHLD, code: 1, ..info });
        assert_eq!([12, 16, 40, 44].map(|at| word(&bytes, at)), [7, 5, 3, 0]);
    }
}
