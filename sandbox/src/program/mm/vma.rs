//! Mappings of a program's address space.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::program::fs::ContentRef;
use crate::ram::PAGE_SIZE;

/// What a mapping allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub exec: bool,
}

impl Protection {
    /// From `PROT_*` bits.
    pub fn from_bits(bits: u64) -> Protection {
        Protection { read: bits & 1 != 0, write: bits & 2 != 0, exec: bits & 4 != 0 }
    }

    /// Read and write.
    pub const READ_WRITE: Protection = Protection { read: true, write: true, exec: false };
    /// Read and execute.
    pub const READ_EXEC: Protection = Protection { read: true, write: false, exec: true };
    /// Read.
    pub const READ: Protection = Protection { read: true, write: false, exec: false };

    /// Whether the CPU has any access: on x86 each kind of access brings reading along.
    pub fn any(self) -> bool {
        self.read || self.write || self.exec
    }

    /// Whether an access is allowed.
    pub fn allows(self, access: Access) -> bool {
        match access {
            Access::Read => self.any(),
            Access::Write => self.write,
            Access::Exec => self.exec,
        }
    }
}

/// A kind of access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A data read.
    Read,
    /// A data write.
    Write,
    /// An instruction fetch.
    Exec,
}

/// What mappings hold while they last: something that they share with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// The content of a file.
    Content(ContentRef),
    /// An object, by its number.
    Object(u64),
}

/// What stands behind a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// Private zeros.
    Anonymous,
    /// The content of a file that nobody has changed since it was mapped. Before the first change
    /// the content moves into an object, and the mapping becomes one of the next two kinds:
    /// [`AddressSpace::follow`](super::AddressSpace::follow).
    File {
        /// The content.
        content: ContentRef,
        /// Offset in the file of the mapping's first byte, a multiple of the page size.
        offset: u64,
        /// Bytes in the file: pages wholly behind them fault with `SIGBUS`.
        len: u64,
        /// `MAP_SHARED`, by a descriptor that cannot write.
        shared: bool,
        /// The first write to each page is noticed, so that it is known which pages are copies when
        /// the file changes. Else they are told by what they hold: files of the host hardly ever
        /// change, and a fault for each page written would be dear.
        tracked: bool,
    },
    /// Pages of a shared object, which other mappings and file descriptors see too.
    Shared {
        /// The object's number.
        object: u64,
        /// Offset in the object of the mapping's first byte.
        offset: u64,
    },
    /// Pages of an object, of which the mapping takes a private copy of each before it is written
    /// ([`SpaceState::copied`](super::SpaceState::copied)).
    Private {
        /// The object's number.
        object: u64,
        /// Offset in the object of the mapping's first byte.
        offset: u64,
    },
}

impl Backing {
    /// What a mapping with this behind it holds.
    pub fn held(&self) -> Option<Held> {
        match self {
            Backing::Anonymous => None,
            Backing::File { content, .. } => Some(Held::Content(*content)),
            Backing::Shared { object, .. } | Backing::Private { object, .. } => Some(Held::Object(*object)),
        }
    }
}

impl Backing {
    /// Whether what is written shows to others: `MAP_SHARED`.
    pub fn is_shared(&self) -> bool {
        matches!(self, Backing::Shared { .. } | Backing::File { shared: true, .. })
    }

    /// Whether all pages are the mapping's own, in its region's chunk.
    pub fn is_in_chunk(&self) -> bool {
        matches!(self, Backing::Anonymous | Backing::File { .. })
    }

    /// Whether the first write to each page must be noticed.
    pub fn notices_writes(&self) -> bool {
        matches!(self, Backing::Private { .. } | Backing::File { tracked: true, .. })
    }

    /// The object, and the offset of the mapping's first byte in it.
    pub fn object(&self) -> Option<(u64, u64)> {
        match self {
            Backing::Shared { object, offset } | Backing::Private { object, offset } => {
                Some((*object, *offset))
            }
            Backing::Anonymous | Backing::File { .. } => None,
        }
    }

    /// Where in the file or object the mapping's first byte is.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Backing::Anonymous => None,
            Backing::File { offset, .. }
            | Backing::Shared { offset, .. }
            | Backing::Private { offset, .. } => Some(*offset),
        }
    }

    /// Goes `bytes` further into the file or object.
    pub fn advance(&mut self, bytes: u64) {
        match self {
            Backing::Anonymous => {}
            Backing::File { offset, .. }
            | Backing::Shared { offset, .. }
            | Backing::Private { offset, .. } => *offset += bytes,
        }
    }

    /// Whether `next` is what lies `len` bytes further on in the same.
    fn goes_on(&self, len: u64, next: &Backing) -> bool {
        let mut on = self.clone();
        on.advance(len);
        on == *next
    }
}

/// One mapping. Its start is its key in the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vma {
    /// Address behind its last byte.
    pub end: u64,
    /// What it allows.
    pub protection: Protection,
    /// What stands behind it.
    pub backing: Backing,
    /// Mapped with `MAP_NORESERVE`: charged when it is touched, not when it is mapped.
    pub no_reserve: bool,
    /// Its private bytes are charged: it was accessible once, and what was written then stays for as long
    /// as it is mapped. Set by the address space.
    pub charged: bool,
    /// It may be made writable (`VM_MAYWRITE`): not if it shares a file that its descriptor could
    /// not write.
    pub may_write: bool,
    /// `mlock`ed: nothing is ever swapped out, but advice to drop its pages is refused.
    pub locked: bool,
    /// It grows downwards when the memory below it is touched: `MAP_GROWSDOWN`.
    pub grows_down: bool,
    /// What `/proc/self/maps` calls it: a path, `[heap]`, `[stack]` or nothing.
    pub name: Arc<[u8]>,
}

/// What a mapping costs, besides its bytes and its name: what the monitor keeps of it, and of the chunks
/// that its first and last page may lie in alone.
pub const MAPPING_BYTES: u64 = 1024;

impl Vma {
    /// Bytes that are charged for the mapping as such.
    pub fn own_cost(&self) -> u64 {
        MAPPING_BYTES + self.name.len() as u64
    }

    /// Whether it is of a file, as far as programs see: what has a path.
    pub fn is_of_file(&self) -> bool {
        self.name.starts_with(b"/")
    }

    /// Whether some of its pages are its own, and not an object's.
    pub fn has_own_pages(&self) -> bool {
        !matches!(self.backing, Backing::Shared { .. })
    }

    /// A private mapping of zeros, up to `end`.
    pub fn anonymous(end: u64, protection: Protection, name: &[u8]) -> Vma {
        Vma {
            end,
            protection,
            backing: Backing::Anonymous,
            no_reserve: false,
            charged: false,
            may_write: true,
            locked: false,
            grows_down: false,
            name: Arc::from(name),
        }
    }

    /// Cuts the mapping, which starts at `start`, in two at `at`; returns the upper part.
    pub fn split(&mut self, start: u64, at: u64) -> Vma {
        debug_assert!(start < at && at < self.end && at.is_multiple_of(PAGE_SIZE as u64));
        let mut upper = self.clone();
        self.end = at;
        upper.backing.advance(at - start);
        upper
    }

    /// Whether `next`, which starts where this mapping ends, is more of the same. `start` is this
    /// mapping's start.
    pub fn joins(&self, start: u64, next: &Vma) -> bool {
        self.protection == next.protection
            && self.no_reserve == next.no_reserve
            && self.charged == next.charged
            && self.may_write == next.may_write
            && self.locked == next.locked
            && self.grows_down == next.grows_down
            && self.name == next.name
            && self.backing.goes_on(self.end - start, &next.backing)
    }
}
