//! Kinds of arguments, for those who show calls to people.

/// What an argument of a system call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// File descriptor.
    Descriptor,
    /// Directory descriptor, which may be `AT_FDCWD`.
    Directory,
    /// Address.
    Address,
    /// Size or count.
    Size,
    /// Signed number of 32 bits.
    Signed,
    /// Signed number of 64 bits.
    Long,
    /// Flags, or anything else that is best shown in hexadecimal.
    Hexadecimal,
    /// Flags of `open`.
    OpenFlags,
    /// Protection of memory (`PROT_*`).
    Protection,
    /// Flags of `mmap`.
    MapFlags,
    /// Mode of a file. Behind [`Argument::OpenFlags`] it counts only where these make a file.
    Mode,
    /// Signal number.
    Signal,
    /// A number or flags that have names.
    Named(Names),
    /// Address of what the call reads.
    In(Pointee),
    /// Address of what the call fills in.
    Out(Pointee),
}

/// Makes an enumeration and the letters that stand for its values in a row.
macro_rules! lettered {
    ($(#[$about:meta])* $name:ident: $($(#[$doc:meta])* $letter:literal $variant:ident,)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Panics where a row is wrong. Rows are constants: they do not compile then.
            const fn of(letter: u8) -> $name {
                match letter {
                    $($letter => $name::$variant,)*
                    _ => panic!("an unknown letter"),
                }
            }
        }
    };
}

lettered! {
    /// Whose names a number has; behind `#` in a row.
    Names:
    /// `SEEK_*`.
    b'w' Whence,
    /// Modes of `access`.
    b'c' Access,
    /// `AT_*`.
    b'a' At,
    /// `AF_*`.
    b'd' Domain,
    /// `SOCK_*`.
    b't' SocketType,
    /// `MSG_*`.
    b's' Message,
    /// `SHUT_*`.
    b'h' Shutdown,
    /// `CLOCK_*`.
    b'k' Clock,
    /// `SIG_BLOCK` and so on.
    b'm' MaskHow,
    /// Operations of `futex`.
    b'f' Futex,
    /// `MADV_*`.
    b'v' Advice,
    /// Options of `wait4`.
    b'o' Wait,
    /// Requests of `ioctl`.
    b'i' Ioctl,
    /// `RLIMIT_*`.
    b'l' Resource,
    /// Commands of `fcntl`.
    b'n' Fcntl,
    /// `CLONE_*`, with a signal.
    b'C' Clone,
    /// `EPOLL_CTL_*`.
    b'e' EpollOperation,
    /// Options of `prctl`.
    b'p' Prctl,
    /// `ARCH_*`.
    b'r' ArchPrctl,
    /// `GRND_*`.
    b'R' Random,
    /// `MREMAP_*`.
    b'M' Remap,
    /// `SOL_*`.
    b'L' SocketLevel,
    /// `SO_*`.
    b'O' SocketOption,
    /// `MFD_*`.
    b'F' Memfd,
    /// `TIMER_ABSTIME`.
    b'A' TimerFlags,
    /// Whether a descriptor blocks and outlives `execve`: `O_*`.
    b'x' DescriptorFlags,
    /// The same of epoll, `EPOLL_CLOEXEC`.
    b'E' EpollFlags,
    /// The same of events, `EFD_*`.
    b'V' EventFlags,
    /// The same of sockets, `SOCK_*`.
    b'K' SocketFlags,
    /// The same of signal descriptors, `SFD_*`.
    b'G' SignalFlags,
    /// The same of timers, `TFD_*`.
    b'I' TimerDescriptorFlags,
    /// `STATX_*`.
    b'X' StatxMask,
    /// `RUSAGE_*`.
    b'u' Usage,
    /// Timers of `setitimer`.
    b'z' Interval,
}

lettered! {
    /// What an address points to; behind `<` (read) or `>` (filled in) in a row.
    Pointee:
    /// A path, up to its NUL.
    b's' Path,
    /// Another string, up to its NUL.
    b't' Text,
    /// Bytes. Of those that are read the next argument says how many, of those that are filled in the result.
    b'b' Bytes,
    /// Pointers to strings, up to a null one.
    b'v' Strings,
    /// The same of an environment.
    b'e' Environment,
    /// `struct iovec`s, of which the next argument says how many.
    b'i' Iovecs,
    /// `struct stat`.
    b'S' Stat,
    /// `struct statx`.
    b'X' Statx,
    /// `struct timespec`.
    b'T' Timespec,
    /// Two of them.
    b'U' Timespecs,
    /// `struct timeval`.
    b'V' Timeval,
    /// `struct itimerval`.
    b'I' Itimerval,
    /// `struct itimerspec`.
    b'P' Itimerspec,
    /// A wait status.
    b'w' WaitStatus,
    /// `struct sockaddr`. The next argument says how long it is, or where that stands.
    b'A' SocketAddress,
    /// An `int`.
    b'n' Int,
    /// Eight bytes, signed.
    b'N' Long,
    /// `struct pollfd`s, of which the next argument says how many.
    b'p' PollFds,
    /// The kernel's `struct sigaction`.
    b'k' SigAction,
    /// A set of 64 signals.
    b'm' SigSet,
    /// Two `int`s.
    b'2' IntPair,
    /// `struct clone_args`, whose length the next argument says.
    b'c' CloneArgs,
    /// Directory entries, as many bytes as the result says.
    b'd' Dirents,
    /// `struct msghdr`.
    b'M' MessageHeader,
    /// `struct new_utsname`.
    b'u' Utsname,
    /// `struct rlimit64`.
    b'l' Rlimit,
    /// A `struct epoll_event`; of those that are filled in as many as the result says.
    b'E' EpollEvents,
    /// `fd_set`, of as many descriptors as the first argument says.
    b'f' FdSet,
    /// `struct open_how`.
    b'o' OpenHow,
    /// `siginfo_t` of `waitid`.
    b'g' ChildInfo,
}

/// Arguments that a system call can have.
const MOST: usize = 6;

/// Arguments of a system call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments {
    kinds: [Argument; MOST],
    count: usize,
}

impl Arguments {
    /// Takes apart what a row says: a letter for each argument, or two, or `*` where they are not known.
    ///
    /// # Panics
    /// When it is wrong. Rows are constants: they do not compile then.
    pub(super) const fn of(letters: &str) -> Arguments {
        let letters = letters.as_bytes();
        let mut kinds = [Argument::Hexadecimal; MOST];
        if matches!(letters, b"*") {
            return Arguments { kinds, count: MOST };
        }
        let (mut count, mut at) = (0, 0);
        while at < letters.len() {
            kinds[count] = match letters[at] {
                b'f' => Argument::Descriptor,
                b'a' => Argument::Directory,
                b'p' => Argument::Address,
                b'n' => Argument::Size,
                b'i' => Argument::Signed,
                b'l' => Argument::Long,
                b'x' => Argument::Hexadecimal,
                b'o' => Argument::OpenFlags,
                b'r' => Argument::Protection,
                b'm' => Argument::MapFlags,
                b'd' => Argument::Mode,
                b'g' => Argument::Signal,
                sign => {
                    at += 1;
                    match sign {
                        b'#' => Argument::Named(Names::of(letters[at])),
                        b'<' => Argument::In(Pointee::of(letters[at])),
                        b'>' => Argument::Out(Pointee::of(letters[at])),
                        _ => panic!("an unknown letter"),
                    }
                }
            };
            (count, at) = (count + 1, at + 1);
        }
        Arguments { kinds, count }
    }

    /// The kinds, in order.
    pub(super) const fn as_slice(&self) -> &[Argument] {
        self.kinds.split_at(self.count).0
    }
}
