//! The account of the memory that a sandbox was granted.

use serde::{Deserialize, Serialize};

use crate::errno::Errno;

/// What a sandbox holds of its memory limit: private mappings, shared objects, and what the monitor
/// keeps for the guest's own objects (mappings, pipes, descriptors, ...).
///
/// Charged before memory is taken, refunded when it is given back. Amounts are fixed costs of what the
/// guest has, never of what the host happens to hold: runs, replays and restored runs are refused alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    charged: u64,
    limit: u64,
}

impl Account {
    /// An empty account of `limit` bytes.
    pub fn new(limit: u64) -> Account {
        Account { charged: 0, limit }
    }

    /// Charges bytes.
    ///
    /// # Errors
    /// `ENOMEM` when the limit would be passed: nothing is charged then.
    pub fn charge(&mut self, bytes: u64) -> Result<(), Errno> {
        let charged = self.charged.checked_add(bytes).ok_or(Errno::ENOMEM)?;
        if charged > self.limit {
            return Err(Errno::ENOMEM);
        }
        self.charged = charged;
        Ok(())
    }

    /// Gives charged bytes back.
    pub fn refund(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.charged, "{bytes} of {}", self.charged);
        self.charged = self.charged.saturating_sub(bytes);
    }

    /// Bytes charged.
    pub fn charged(&self) -> u64 {
        self.charged
    }

    /// The most bytes that may be charged.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether so little is charged that a guest may have memory in larger pieces than it asks for.
    pub fn is_ample(&self) -> bool {
        self.charged <= self.limit / 2
    }

    /// Bytes that may still be charged.
    pub fn free(&self) -> u64 {
        self.limit.saturating_sub(self.charged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_charged_beyond_the_limit() {
        let mut account = Account::new(100);
        account.charge(60).unwrap();
        assert_eq!(account.charge(41), Err(Errno::ENOMEM));
        assert_eq!(account.charge(u64::MAX), Err(Errno::ENOMEM));
        assert_eq!((account.charged(), account.free()), (60, 40));
        account.refund(60);
        account.charge(100).unwrap();
        assert_eq!(account.free(), 0);
    }
}
