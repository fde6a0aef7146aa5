//! The few userfaultfd ioctls that lazily absent memory needs.
//!
//! The descriptor is opened with `UFFD_USER_MODE_ONLY`, so it takes no privilege
//! (`Documentation/admin-guide/mm/userfaultfd.rst`), and it is never read: no thread handles
//! events. Numbers: Linux `include/uapi/linux/userfaultfd.h`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

/// `UFFD_USER_MODE_ONLY`.
const USER_MODE_ONLY: libc::c_int = 1;
const UFFD_API: u64 = 0xaa;

/// `UFFD_FEATURE_PAGEFAULT_FLAG_WP`: write-protect registration works.
pub const FEATURE_WP: u64 = 1 << 0;
/// `UFFD_FEATURE_SIGBUS`: a fault on a missing page fails instead of waiting for a handler.
pub const FEATURE_SIGBUS: u64 = 1 << 7;
/// `UFFD_FEATURE_POISON` (Linux 6.6): `UFFDIO_POISON` works.
pub const FEATURE_POISON: u64 = 1 << 14;

/// `UFFDIO_REGISTER_MODE_MISSING`.
const REGISTER_MISSING: u64 = 1 << 0;
/// `UFFDIO_REGISTER_MODE_WP`.
const REGISTER_WP: u64 = 1 << 1;
/// `UFFDIO_{COPY,ZEROPAGE}_MODE_DONTWAKE`: nobody waits.
const DONT_WAKE: u64 = 1 << 0;

const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_COPY: libc::c_ulong = 0xc028_aa03;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;
const UFFDIO_POISON: libc::c_ulong = 0xc020_aa08;

#[repr(C)]
struct ApiArg {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RangeArg {
    start: u64,
    len: u64,
    mode: u64,
    /// Out: ioctls for `REGISTER`, bytes done or `-errno` for the others.
    out: i64,
}

#[repr(C)]
struct CopyArg {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    /// Out: bytes done or `-errno`.
    copy: i64,
}

/// How often an ioctl that says `EAGAIN` (the address space is changing) is tried again.
const RETRIES: u32 = 10_000;

/// An open userfaultfd.
#[derive(Debug)]
pub struct Uffd {
    file: File,
}

impl Uffd {
    /// Opens one with exactly the given features.
    ///
    /// # Errors
    /// `ENOSYS` or `EPERM` where the kernel has none or a policy forbids it; `EINVAL` where a
    /// feature is missing.
    pub fn open(features: u64) -> io::Result<Uffd> {
        // SAFETY: userfaultfd takes flags alone and touches no memory of ours.
        let fd = unsafe {
            libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        let uffd = Uffd { file: unsafe { File::from_raw_fd(fd as RawFd) } };
        let mut arg = ApiArg { api: UFFD_API, features, ioctls: 0 };
        // SAFETY: `arg` is a valid uffdio_api for the length of the call.
        if unsafe { libc::ioctl(uffd.file.as_raw_fd(), UFFDIO_API, &mut arg) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(uffd)
    }

    fn range(&self, request: libc::c_ulong, start: u64, len: u64, mode: u64) -> (i32, i64) {
        let mut arg = RangeArg { start, len, mode, out: 0 };
        // SAFETY: `arg` is as large as the largest of the structures that `request` may name, and
        // valid for the length of the call. The kernel checks that the range is registered.
        let code = unsafe { libc::ioctl(self.file.as_raw_fd(), request, &mut arg) };
        let errno = if code < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { 0 };
        (errno, arg.out)
    }

    /// Registers a range for poison markers: pages that are merely missing are still filled with
    /// zeros by the kernel, since the registration is for write protection, which is never used.
    pub fn register_markers(&self, start: u64, len: u64) -> io::Result<()> {
        self.register(start, len, REGISTER_WP)
    }

    /// Registers a range so that a touch of a missing page fails.
    pub fn register_missing(&self, start: u64, len: u64) -> io::Result<()> {
        self.register(start, len, REGISTER_MISSING)
    }

    fn register(&self, start: u64, len: u64, mode: u64) -> io::Result<()> {
        match self.range(UFFDIO_REGISTER, start, len, mode) {
            (0, _) => Ok(()),
            (errno, _) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Puts poison markers on a range of missing pages.
    ///
    /// # Errors
    /// `EEXIST` where a page of it is present.
    pub fn poison(&self, start: u64, len: u64) -> io::Result<()> {
        self.over_range(start, len, |start, len| self.range(UFFDIO_POISON, start, len, 0))
    }

    /// Fills a range of missing pages with the kernel's page of zeros; pages that are present
    /// already are left as they are.
    pub fn zero(&self, start: u64, len: u64) -> io::Result<()> {
        self.over_range(start, len, |start, len| self.range(UFFDIO_ZEROPAGE, start, len, DONT_WAKE)).or_else(
            |e| match e.raw_os_error() {
                Some(libc::EEXIST) => self.zero_each(start, len),
                _ => Err(e),
            },
        )
    }

    fn zero_each(&self, start: u64, len: u64) -> io::Result<()> {
        for page in (start..start + len).step_by(super::PAGE_SIZE) {
            match self.over_range(page, super::PAGE_SIZE as u64, |start, len| {
                self.range(UFFDIO_ZEROPAGE, start, len, DONT_WAKE)
            }) {
                Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies `src` to missing or poisoned pages at `start`, each page atomically. Stops at the
    /// first page that is present: returns how many bytes were copied before it.
    pub fn copy(&self, start: u64, src: &[u8]) -> io::Result<usize> {
        let mut done = 0usize;
        for _ in 0..RETRIES {
            let mut arg = CopyArg {
                dst: start + done as u64,
                src: src.as_ptr() as u64 + done as u64,
                len: (src.len() - done) as u64,
                mode: DONT_WAKE,
                copy: 0,
            };
            // SAFETY: `arg.src..+len` lies in `src`, which lives for the call; the kernel checks
            // that the destination is registered with this descriptor.
            let code = unsafe { libc::ioctl(self.file.as_raw_fd(), UFFDIO_COPY, &mut arg) };
            if code == 0 {
                return Ok(src.len());
            }
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            if arg.copy > 0 {
                done += arg.copy as usize;
            }
            match errno {
                libc::EAGAIN => {}
                libc::EEXIST => return Ok(done),
                _ => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }

    /// Calls a range ioctl until the whole range is done, going on after a partial success.
    fn over_range(&self, start: u64, len: u64, call: impl Fn(u64, u64) -> (i32, i64)) -> io::Result<()> {
        let mut done = 0u64;
        for _ in 0..RETRIES {
            let (errno, out) = call(start + done, len - done);
            if errno == 0 {
                return Ok(());
            }
            if out > 0 {
                done += out as u64;
            }
            if errno != libc::EAGAIN {
                return Err(io::Error::from_raw_os_error(errno));
            }
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }
}
