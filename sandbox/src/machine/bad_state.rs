//! Checks of a machine state out of a file.

/// A state that no machine can be in: it comes from a damaged or forged file.
#[derive(Debug, thiserror::Error)]
#[error("the machine state is not one that dejavm writes: {0}; the snapshot is damaged or forged")]
pub struct BadState(pub &'static str);

/// More exits than any run makes.
pub(crate) const MAX_EXITS: u64 = 1 << 60;

/// Checks something of a state; `what` is named when it does not hold.
///
/// # Errors
/// [`BadState`].
pub(crate) fn expect(holds: bool, what: &'static str) -> Result<(), BadState> {
    if holds { Ok(()) } else { Err(BadState(what)) }
}
