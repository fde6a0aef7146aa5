//! What answering an exit wrote.

/// The digest of what was written into guest memory to answer an exit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effects {
    digest: u64,
    /// Nobody asks for it: it is not made.
    unwatched: bool,
}

impl Effects {
    /// Adds a write.
    pub fn add(&mut self, address: u64, data: &[u8]) {
        if self.unwatched {
            return;
        }
        let seed = self.digest.rotate_left(5) ^ address ^ (data.len() as u64) << 48;
        self.digest = xxhash_rust::xxh3::xxh3_64_with_seed(data, seed);
    }

    /// Says whether anybody asks for the digests of exits from now on.
    pub fn watch(&mut self, watched: bool) {
        self.unwatched = !watched;
    }

    /// The digest so far, which starts anew.
    pub fn take(&mut self) -> u64 {
        std::mem::take(&mut self.digest)
    }
}
