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

/// The first part of a state, by name, in which another one differs. Nothing of a state is forgotten: what is not
/// compared is named, too.
macro_rules! first_difference {
    ($state:ident, $now:expr, $then:expr, { $($part:ident $what:literal,)* }, but { $($other:ident,)* }) => {{
        let $state { $($part,)* $($other: _,)* } = $now;
        'found: {
            $(if dejavm_snapshot::codec::encode($part)? != dejavm_snapshot::codec::encode(&$then.$part)? {
                break 'found Some($what);
            })*
            None
        }
    }};
}
pub(crate) use first_difference;
