//! What a reset has missed.

/// What a machine has that it had not, or lacks, when it was put back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// A part of its state.
    #[error("{0} is not what it was")]
    State(&'static str),
    /// What a page of its memory holds.
    #[error("page {page:#x} of memory is not what it was, first at offset {offset:#x}")]
    Memory {
        /// Its number.
        page: u64,
        /// The first byte that differs.
        offset: usize,
    },
    /// What the page tables of an address space say of an address.
    #[error("the page tables of address space {space} do not fit its mappings at {address:#x}")]
    Tables {
        /// The address space.
        space: u32,
        /// The address.
        address: u64,
    },
}
