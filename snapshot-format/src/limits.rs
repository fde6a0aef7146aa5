//! The sizes and limits of the format.

/// Size of a page in bytes. There is no other.
pub const PAGE_SIZE: usize = 4096;

/// The format version this build writes, and the highest one it reads.
pub const FORMAT_VERSION: u32 = 9;

/// Most pages an image may have: 256 GiB of guest memory and files.
pub const MAX_PAGES: u64 = 1 << 26;

/// Most bytes of machine state: 64 MiB.
pub const MAX_STATE_BYTES: u64 = 64 << 20;

/// Most bytes of dictionary: 128 KiB.
pub const MAX_DICTIONARY_BYTES: u64 = 128 << 10;

/// Most pages a working set may name: 4 GiB of guest memory.
pub const MAX_WORKING_SET_PAGES: u64 = 1 << 20;

/// Most pages in a cluster of the working set.
pub const CLUSTER_PAGES: usize = 64;

/// Most files in a chain of layers, the topmost included.
pub const MAX_LAYERS: usize = 16;
