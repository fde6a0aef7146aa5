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
    /// Whether the limit has refused anything since this sandbox was made. The guest does not see it.
    #[serde(skip)]
    refused: bool,
}

impl Account {
    /// An empty account of `limit` bytes.
    pub fn new(limit: u64) -> Account {
        Account { charged: 0, limit, refused: false }
    }

    /// Charges bytes.
    ///
    /// # Errors
    /// `ENOMEM` when the limit would be passed: nothing is charged then.
    pub fn charge(&mut self, bytes: u64) -> Result<(), Errno> {
        self.expect(bytes, 0)?;
        self.charged += bytes;
        Ok(())
    }

    /// Charges bytes if they fit: for whoever makes do with less, so that it is no refusal.
    pub fn offer(&mut self, bytes: u64) -> bool {
        let fits = bytes <= self.free();
        if fits {
            self.charged += bytes;
        }
        fits
    }

    /// Finds out whether bytes could be charged once `refund` bytes are given back.
    ///
    /// # Errors
    /// `ENOMEM` when the limit would be passed.
    pub fn expect(&mut self, bytes: u64, refund: u64) -> Result<(), Errno> {
        if bytes <= self.free().saturating_add(refund) {
            return Ok(());
        }
        self.refuse();
        Err(Errno::ENOMEM)
    }

    /// Notes that the guest was refused memory.
    pub fn refuse(&mut self) {
        self.refused = true;
    }

    /// Whether the guest was refused memory since this sandbox was made.
    pub fn has_refused(&self) -> bool {
        self.refused
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
    fn an_offer_is_no_refusal() {
        let mut account = Account::new(100);
        assert!(account.offer(60) && !account.offer(41));
        account.expect(100, 60).unwrap();
        assert_eq!((account.charged(), account.has_refused()), (60, false));
        assert_eq!(account.expect(101, 60), Err(Errno::ENOMEM));
        assert!(account.has_refused());
    }

    #[test]
    fn nothing_is_charged_beyond_the_limit() {
        let mut account = Account::new(100);
        account.charge(60).unwrap();
        assert_eq!(account.charge(41), Err(Errno::ENOMEM));
        assert_eq!(account.charge(u64::MAX), Err(Errno::ENOMEM));
        assert_eq!((account.charged(), account.free()), (60, 40));
        assert!(account.has_refused());
        account.refund(60);
        account.charge(100).unwrap();
        assert_eq!(account.free(), 0);
    }
}
