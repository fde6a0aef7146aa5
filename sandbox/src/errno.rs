//! Linux error numbers, as a guest sees them.

use serde::{Deserialize, Serialize};

/// A Linux `errno` value (1 to 4095), as a system call returns it, negated.
///
/// Numbers: Linux `include/uapi/asm-generic/errno-base.h` and `errno.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Errno(u16);

macro_rules! errnos {
    ($($name:ident $number:literal $text:literal,)*) => {
        #[allow(missing_docs)]
        impl Errno {
            $(pub const $name: Errno = Errno($number);)*
        }

        impl Errno {
            /// The symbolic name, such as `ENOENT`; `None` for a number that Linux does not name here.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// What `strerror` says of it.
            pub fn text(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "Unknown error",
                }
            }
        }
    };
}

errnos! {
    EPERM 1 "Operation not permitted",
    ENOENT 2 "No such file or directory",
    ESRCH 3 "No such process",
    EINTR 4 "Interrupted system call",
    EIO 5 "Input/output error",
    ENXIO 6 "No such device or address",
    E2BIG 7 "Argument list too long",
    ENOEXEC 8 "Exec format error",
    EBADF 9 "Bad file descriptor",
    ECHILD 10 "No child processes",
    EAGAIN 11 "Resource temporarily unavailable",
    ENOMEM 12 "Cannot allocate memory",
    EACCES 13 "Permission denied",
    EFAULT 14 "Bad address",
    ENOTBLK 15 "Block device required",
    EBUSY 16 "Device or resource busy",
    EEXIST 17 "File exists",
    EXDEV 18 "Invalid cross-device link",
    ENODEV 19 "No such device",
    ENOTDIR 20 "Not a directory",
    EISDIR 21 "Is a directory",
    EINVAL 22 "Invalid argument",
    ENFILE 23 "Too many open files in system",
    EMFILE 24 "Too many open files",
    ENOTTY 25 "Inappropriate ioctl for device",
    ETXTBSY 26 "Text file busy",
    EFBIG 27 "File too large",
    ENOSPC 28 "No space left on device",
    ESPIPE 29 "Illegal seek",
    EROFS 30 "Read-only file system",
    EMLINK 31 "Too many links",
    EPIPE 32 "Broken pipe",
    EDOM 33 "Numerical argument out of domain",
    ERANGE 34 "Numerical result out of range",
    EDEADLK 35 "Resource deadlock avoided",
    ENAMETOOLONG 36 "File name too long",
    ENOLCK 37 "No locks available",
    ENOSYS 38 "Function not implemented",
    ENOTEMPTY 39 "Directory not empty",
    ELOOP 40 "Too many levels of symbolic links",
    ENOMSG 42 "No message of desired type",
    EIDRM 43 "Identifier removed",
    ENODATA 61 "No data available",
    ETIME 62 "Timer expired",
    EOVERFLOW 75 "Value too large for defined data type",
    ELIBBAD 80 "Accessing a corrupted shared library",
    EUSERS 87 "Too many users",
    ENOTSOCK 88 "Socket operation on non-socket",
    EMSGSIZE 90 "Message too long",
    EPROTOTYPE 91 "Protocol wrong type for socket",
    ENOPROTOOPT 92 "Protocol not available",
    EPROTONOSUPPORT 93 "Protocol not supported",
    ESOCKTNOSUPPORT 94 "Socket type not supported",
    EOPNOTSUPP 95 "Operation not supported",
    EAFNOSUPPORT 97 "Address family not supported by protocol",
    EADDRINUSE 98 "Address already in use",
    ECONNRESET 104 "Connection reset by peer",
    ENOBUFS 105 "No buffer space available",
    EISCONN 106 "Transport endpoint is already connected",
    ENOTCONN 107 "Transport endpoint is not connected",
    ETOOMANYREFS 109 "Too many references: cannot splice",
    ETIMEDOUT 110 "Connection timed out",
    ECONNREFUSED 111 "Connection refused",
    ESTALE 116 "Stale file handle",
}

impl Errno {
    /// The number that Linux uses (1 to 4095).
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// The value that a system call leaves in RAX: the number, negated.
    pub fn to_rax(self) -> u64 {
        (-i64::from(self.0)) as u64
    }

    /// From a host error number; `EIO` where it is outside what Linux gives to programs.
    pub fn from_host(number: i32) -> Errno {
        match u16::try_from(number) {
            Ok(n) if (1..4096).contains(&n) => Errno(n),
            _ => Errno::EIO,
        }
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(e: rustix::io::Errno) -> Errno {
        Errno::from_host(e.raw_os_error())
    }
}

impl std::fmt::Debug for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} ({})", self, self.text())
    }
}

impl std::error::Error for Errno {}
