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

/// What stands behind a mapping.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Backing {
    /// Private zeros.
    Anonymous,
    /// A private copy of a file's content.
    File {
        /// The content, as it was when it was mapped.
        content: ContentRef,
        /// Offset in the file of the mapping's first byte, a multiple of the page size.
        offset: u64,
        /// Bytes in the file: pages wholly behind them fault with `SIGBUS`.
        len: u64,
    },
    /// Pages of a shared object, which other mappings and file descriptors see too.
    Shared {
        /// The object's number.
        object: u64,
        /// Offset in the object of the mapping's first byte.
        offset: u64,
    },
}

impl Backing {
    /// Whether `next` is what lies `len` bytes further on in the same.
    fn goes_on(&self, len: u64, next: &Backing) -> bool {
        match (self, next) {
            (Backing::Anonymous, Backing::Anonymous) => true,
            (
                Backing::File { content, offset, len: file_len },
                Backing::File { content: next, offset: at, len: next_len },
            ) => content == next && file_len == next_len && offset + len == *at,
            (Backing::Shared { object, offset }, Backing::Shared { object: next, offset: at }) => {
                object == next && offset + len == *at
            }
            _ => false,
        }
    }
}

/// One mapping. Its start is its key in the map.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vma {
    /// Address behind its last byte.
    pub end: u64,
    /// What it allows.
    pub protection: Protection,
    /// What stands behind it.
    pub backing: Backing,
    /// Mapped with `MAP_NORESERVE`: charged when it is touched, not when it is mapped.
    pub no_reserve: bool,
    /// What `/proc/self/maps` calls it: a path, `[heap]`, `[stack]` or nothing.
    pub name: Arc<[u8]>,
}

impl Vma {
    /// Cuts the mapping, which starts at `start`, in two at `at`; returns the upper part.
    pub fn split(&mut self, start: u64, at: u64) -> Vma {
        debug_assert!(start < at && at < self.end && at.is_multiple_of(PAGE_SIZE as u64));
        let mut upper = self.clone();
        self.end = at;
        match &mut upper.backing {
            Backing::Anonymous => {}
            Backing::File { offset, .. } | Backing::Shared { offset, .. } => *offset += at - start,
        }
        upper
    }

    /// Whether `next`, which starts where this mapping ends, is more of the same. `start` is this
    /// mapping's start.
    pub fn joins(&self, start: u64, next: &Vma) -> bool {
        self.protection == next.protection
            && self.no_reserve == next.no_reserve
            && self.name == next.name
            && self.backing.goes_on(self.end - start, &next.backing)
    }
}
