//! The run's random stream: ChaCha20 from its seed.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// A random stream that a snapshot can keep: seed and position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    rng: ChaCha20Rng,
}

impl Random {
    /// Stream `stream` of a seed. Different streams of one seed are independent.
    pub fn new(seed: u64, stream: u64) -> Random {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Random { rng }
    }

    /// The next bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.rng.fill_bytes(out);
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias is below 2^-32 for the bounds used here, and only layout depends on it.
        self.rng.next_u64() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_function_of_its_seed() {
        let bytes = |seed, stream| {
            let mut out = [0u8; 16];
            Random::new(seed, stream).fill(&mut out);
            out
        };
        assert_eq!(bytes(1, 0), bytes(1, 0));
        assert_ne!(bytes(1, 0), bytes(2, 0));
        assert_ne!(bytes(1, 0), bytes(1, 1));
    }
}
