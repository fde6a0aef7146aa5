//! How much a log may make its reader keep.

use super::header::BlockHeader;

/// Bytes of keyed answers, uncompressed, that any log may have.
const FREE: u64 = 16 << 20;
/// How many times their length in the file they may have besides. The answers of different blocks
/// name different contents, which do not compress: no more than this is ever needed for them.
const RATIO: u64 = 16;

/// Counts the keyed answers of a log. A replay keeps all of them, so that they must be in proportion to
/// the file: a log of some kilobytes could else claim gigabytes. Writer and reader count alike.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyedBudget {
    raw: u64,
    stored: u64,
}

impl KeyedBudget {
    /// Counts a block; `false` when that makes too many.
    #[must_use]
    pub fn takes(&mut self, raw: u64, stored: u64) -> bool {
        self.raw = self.raw.saturating_add(raw);
        self.stored = self.stored.saturating_add(stored);
        self.raw <= FREE.saturating_add(self.stored.saturating_mul(RATIO))
    }

    /// [`KeyedBudget::takes`] for a block that is in the log.
    #[must_use]
    pub fn takes_block(&mut self, header: &BlockHeader) -> bool {
        self.takes(header.raw_len.into(), header.stored_len.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compresses_too_well_is_refused() {
        let mut budget = KeyedBudget::default();
        assert!((0..8).all(|_| budget.takes(2 << 20, 1000)));
        assert!(!budget.takes(2 << 20, 1000));
        let mut budget = KeyedBudget::default();
        assert!((0..10_000).all(|_| budget.takes(2 << 20, 400 << 10)));
    }
}
