//! `/dev`: devices, and what reading and writing them does.

use super::Fs;
use super::env::Env;
use super::error::{FsResult, fail};
use super::inode::{Body, Device, Link, Place};
use super::io::IoOutcome;
use crate::errno::Errno;

/// Bytes of one message to the monitor.
const CONTROL_MAX: usize = 4096;

/// Random bytes that one call gives at most, as on Linux after an interrupt check.
const RANDOM_MAX: usize = 1 << 20;

pub(super) fn build(fs: &mut Fs) {
    let dev = fs.add_built_in_dir(fs.root, "dev", Place::Dev, 0o755, false);
    for (name, device) in [
        ("null", Device::Null),
        ("zero", Device::Zero),
        ("full", Device::Full),
        ("random", Device::Random),
        ("urandom", Device::Urandom),
        ("tty", Device::Tty),
        ("dejavm", Device::Control),
    ] {
        fs.add_built_in(dev, name.as_bytes(), Place::Dev, 0o666, Body::Device(device));
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let link = Body::Link(Link::Target(target.as_bytes().to_vec()));
        fs.add_built_in(dev, name.as_bytes(), Place::Dev, 0o777, link);
    }
    fs.add_built_in_dir(dev, "shm", Place::Shm, 0o1777, false);
    fs.add_built_in_dir(dev, "pts", Place::Pts, 0o755, true);
}

impl Fs {
    pub(super) fn read_device(
        &mut self,
        env: &mut Env<'_>,
        device: Device,
        buf: &mut [u8],
        nonblock: bool,
    ) -> FsResult<usize> {
        match device {
            Device::Null | Device::Control => Ok(0),
            Device::Zero | Device::Full => {
                buf.fill(0);
                Ok(buf.len())
            }
            Device::Random | Device::Urandom => {
                let n = buf.len().min(RANDOM_MAX);
                env.caller.random(&mut buf[..n]);
                Ok(n)
            }
            Device::Tty => self.read_input(env, true, buf, nonblock),
        }
    }

    pub(super) fn write_device(
        &mut self,
        env: &mut Env<'_>,
        device: Device,
        data: &[u8],
    ) -> FsResult<IoOutcome> {
        match device {
            Device::Full if !data.is_empty() => fail(Errno::ENOSPC),
            Device::Tty => self.write_tty(env, data).map(IoOutcome::Done),
            Device::Control if data.len() > CONTROL_MAX => fail(Errno::EINVAL),
            Device::Control => Ok(IoOutcome::Control(data.to_vec())),
            _ => Ok(IoOutcome::Done(data.len())),
        }
    }
}
