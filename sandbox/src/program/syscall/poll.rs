//! Waiting for descriptors.

use super::Args;
use super::signal::SET_BYTES;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::files::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLRDNORM, POLLWRNORM};
use crate::program::kernel::Kernel;
use crate::program::wait::{Key, Wait};

/// Bytes of `struct pollfd`.
const POLLFD: usize = 8;
/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;
/// The most descriptors of a `select` (`FD_SETSIZE`, which Linux does not insist on).
const MAX_SELECT: u64 = 1024;

/// A descriptor, what is wanted of it, and what it is ready for.
struct Watched {
    fd: i32,
    events: u16,
    ready: u16,
}

impl Kernel {
    /// Waits until one is ready or the time is over; gives how many are.
    fn wait_ready(&mut self, watched: &mut [Watched], timeout: Option<u64>) -> Result<usize, SysError> {
        let count = self.look(watched)?;
        if count > 0 {
            return Ok(count);
        }
        self.wait_at_most(timeout, |kernel| Ok(Wait { on: kernel.keys_of(watched), ..Wait::default() }))?;
        Ok(0)
    }

    fn look(&mut self, watched: &mut [Watched]) -> Result<usize, SysError> {
        self.with_files(|fs, files, env, _| {
            let mut count = 0;
            for one in watched.iter_mut().filter(|one| one.fd >= 0) {
                one.ready = files.poll(fs, env, one.fd, one.events)?;
                count += usize::from(one.ready != 0);
            }
            Ok(count)
        })
    }

    /// What makes one of them ready.
    fn keys_of(&mut self, watched: &[Watched]) -> Vec<Key> {
        self.with_files(|fs, files, _, _| {
            let of = |one: &Watched| files.keys_of(fs, one.fd, one.events).unwrap_or_default();
            let mut keys: Vec<Key> = watched.iter().filter(|one| one.fd >= 0).flat_map(of).collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        })
    }

    fn poll_list(&mut self, address: u64, count: u64, timeout: Option<u64>) -> SysResult {
        let count = u64::from(count as u32);
        if count > u64::from(self.files.limit()) {
            return Err(Errno::EINVAL.into());
        }
        let mut bytes = vec![0u8; count as usize * POLLFD];
        self.read(address, &mut bytes)?;
        let mut watched: Vec<Watched> = bytes
            .as_chunks::<POLLFD>()
            .0
            .iter()
            .map(|b| Watched {
                fd: i32::from_le_bytes([b[0], b[1], b[2], b[3]]),
                events: u16::from_le_bytes([b[4], b[5]]),
                ready: 0,
            })
            .collect();
        let ready = self.wait_ready(&mut watched, timeout)?;
        for (out, one) in bytes.as_chunks_mut::<POLLFD>().0.iter_mut().zip(&watched) {
            out[6..8].copy_from_slice(&one.ready.to_le_bytes());
        }
        self.write(address, &bytes)?;
        Ok(ready as u64)
    }

    pub(super) fn sys_poll(&mut self, a: Args) -> SysResult {
        let timeout = u64::try_from(a[2] as i32).ok().map(|ms| ms * MILLISECOND);
        self.poll_list(a[0], a[1], timeout)
    }

    pub(super) fn sys_ppoll(&mut self, a: Args) -> SysResult {
        let timeout = if a[2] == 0 { None } else { Some(self.read_timespec(a[2])?) };
        let mask = self.read_mask(a[3], a[4])?;
        self.with_mask(mask, |p| p.poll_list(a[0], a[1], timeout))
    }

    /// Reads a set of signals, if there is one.
    pub(super) fn read_mask(&mut self, address: u64, size: u64) -> Result<Option<u64>, SysError> {
        match address {
            0 => Ok(None),
            _ if size != SET_BYTES => Err(Errno::EINVAL.into()),
            address => Ok(Some(self.read_u64(address)?)),
        }
    }

    /// Runs a wait with another signal mask. One that a signal ended leaves it to the handler's frame to
    /// go back to the mask from before.
    pub(super) fn with_mask(
        &mut self,
        mask: Option<u64>,
        wait: impl FnOnce(&mut Kernel) -> SysResult,
    ) -> SysResult {
        let Some(mask) = mask else { return wait(self) };
        self.task.signals.begin_wait(mask);
        let result = wait(self);
        if !matches!(result, Err(SysError::Wait(_) | SysError::Errno(Errno::EINTR))) {
            self.task.signals.end_wait();
        }
        result
    }

    pub(super) fn sys_select(&mut self, a: Args) -> SysResult {
        let timeout = if a[4] == 0 {
            None
        } else {
            let [seconds, microseconds] = self.read_words::<2>(a[4])?;
            if seconds as i64 <= -1 || microseconds as i64 <= -1 {
                return Err(Errno::EINVAL.into());
            }
            Some(seconds.saturating_mul(1_000_000_000).saturating_add(microseconds.saturating_mul(1000)))
        };
        self.select([a[0], a[1], a[2], a[3]], timeout)
    }

    pub(super) fn sys_pselect6(&mut self, a: Args) -> SysResult {
        let timeout = if a[4] == 0 { None } else { Some(self.read_timespec(a[4])?) };
        let mask = match a[5] {
            0 => None,
            pair => {
                let [set, size] = self.read_words::<2>(pair)?;
                self.read_mask(set, size)?
            }
        };
        self.with_mask(mask, |p| p.select([a[0], a[1], a[2], a[3]], timeout))
    }

    fn select(&mut self, [count, read, write, except]: [u64; 4], timeout: Option<u64>) -> SysResult {
        if count as i32 <= -1 {
            return Err(Errno::EINVAL.into());
        }
        let count = count.min(MAX_SELECT) as usize;
        let bytes = count.div_ceil(64) * 8;
        let mut sets = [vec![0u8; bytes], vec![0u8; bytes], vec![0u8; bytes]];
        let addresses = [read, write, except];
        for (set, address) in sets.iter_mut().zip(addresses) {
            if address != 0 {
                self.read(address, set)?;
            }
        }
        let has = |set: &[u8], fd: usize| set[fd / 8] & 1 << (fd % 8) != 0;
        let mut watched = Vec::new();
        for fd in 0..count {
            let wants = [POLLIN | POLLRDNORM, POLLOUT | POLLWRNORM, 0];
            let events =
                sets.iter().zip(wants).filter(|(set, _)| has(set, fd)).fold(0, |e, (_, want)| e | want);
            if sets.iter().any(|set| has(set, fd)) {
                watched.push(Watched { fd: fd as i32, events, ready: 0 });
            }
        }
        self.wait_ready(&mut watched, timeout)?;
        if watched.iter().any(|one| one.ready & POLLNVAL != 0) {
            return Err(Errno::EBADF.into());
        }
        let answers = [POLLIN | POLLRDNORM | POLLHUP | POLLERR, POLLOUT | POLLWRNORM | POLLERR, 0];
        let mut total = 0;
        for ((set, address), answer) in sets.iter_mut().zip(addresses).zip(answers) {
            let mut out = vec![0u8; set.len()];
            for one in &watched {
                let fd = one.fd as usize;
                if has(set, fd) && one.ready & answer != 0 {
                    out[fd / 8] |= 1 << (fd % 8);
                    total += 1;
                }
            }
            if address != 0 {
                self.write(address, &out)?;
            }
        }
        Ok(total)
    }
}
