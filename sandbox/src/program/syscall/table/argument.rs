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
    /// Signed number.
    Signed,
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
    /// Takes apart what a row says: a letter for each argument, or `*` where they are not known.
    ///
    /// # Panics
    /// When it is wrong. Rows are constants: they do not compile then.
    pub(super) const fn of(letters: &str) -> Arguments {
        let letters = letters.as_bytes();
        let mut kinds = [Argument::Hexadecimal; MOST];
        if matches!(letters, b"*") {
            return Arguments { kinds, count: MOST };
        }
        let mut count = 0;
        while count < letters.len() {
            kinds[count] = match letters[count] {
                b'f' => Argument::Descriptor,
                b'a' => Argument::Directory,
                b'p' => Argument::Address,
                b'n' => Argument::Size,
                b'i' => Argument::Signed,
                b'x' => Argument::Hexadecimal,
                b'o' => Argument::OpenFlags,
                b'r' => Argument::Protection,
                b'm' => Argument::MapFlags,
                b'd' => Argument::Mode,
                b'g' => Argument::Signal,
                _ => panic!("an unknown letter"),
            };
            count += 1;
        }
        Arguments { kinds, count }
    }

    /// The kinds, in order.
    pub(super) const fn as_slice(&self) -> &[Argument] {
        self.kinds.split_at(self.count).0
    }
}
