//! What answering an exit wrote.

/// The digest of what was written into guest memory to answer an exit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effects(u64);

impl Effects {
    /// Adds a write.
    pub fn add(&mut self, address: u64, data: &[u8]) {
        let seed = self.0.rotate_left(5) ^ address ^ (data.len() as u64) << 48;
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(data, seed);
    }

    /// The digest so far, which starts anew.
    pub fn take(&mut self) -> u64 {
        std::mem::take(&mut self.0)
    }
}
