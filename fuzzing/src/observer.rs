//! The map of edges, for LibAFL.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

use libafl::observers::{HitcountsMapObserver, MapObserver, Observer};
use libafl_bolts::{HasLen, Named};
use serde::{Deserialize, Serialize};

/// [`EdgesObserver`] with AFL's classes of counts: what [`SandboxExecutor`](crate::SandboxExecutor) fills.
pub type EdgesMap = HitcountsMapObserver<EdgesObserver>;

/// How often a run took each edge, by the edge's number.
///
/// Edges are found while the target is fuzzed, so that the map grows; LibAFL's own observers have maps of one length,
/// and all of such a map is looked at after each run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EdgesObserver {
    name: Cow<'static, str>,
    counts: Vec<u8>,
}

impl EdgesObserver {
    /// An empty map.
    #[must_use]
    pub fn new(name: &'static str) -> EdgesObserver {
        EdgesObserver { name: name.into(), counts: Vec::new() }
    }

    /// Takes over the counts of a run. A map that was longer keeps its length.
    pub fn set_counts(&mut self, counts: &[u8]) {
        let len = self.counts.len().max(counts.len());
        self.counts.clear();
        self.counts.extend_from_slice(counts);
        self.counts.resize(len, 0);
    }
}

impl<I, S> Observer<I, S> for EdgesObserver {
    fn pre_exec(&mut self, _state: &mut S, _input: &I) -> Result<(), libafl::Error> {
        self.reset_map()
    }
}

impl MapObserver for EdgesObserver {
    type Entry = u8;

    fn get(&self, idx: usize) -> u8 {
        self.counts.get(idx).copied().unwrap_or(0)
    }

    fn set(&mut self, idx: usize, val: u8) {
        if let Some(count) = self.counts.get_mut(idx) {
            *count = val;
        }
    }

    fn usable_count(&self) -> usize {
        self.counts.len()
    }

    fn count_bytes(&self) -> u64 {
        self.counts.iter().filter(|count| **count > 0).count() as u64
    }

    fn initial(&self) -> u8 {
        0
    }

    fn reset_map(&mut self) -> Result<(), libafl::Error> {
        self.counts.fill(0);
        Ok(())
    }

    fn to_vec(&self) -> Vec<u8> {
        self.counts.clone()
    }

    fn how_many_set(&self, indexes: &[usize]) -> usize {
        indexes.iter().filter(|idx| self.get(**idx) > 0).count()
    }
}

impl Named for EdgesObserver {
    fn name(&self) -> &Cow<'static, str> {
        &self.name
    }
}

impl HasLen for EdgesObserver {
    fn len(&self) -> usize {
        self.counts.len()
    }
}

impl Hash for EdgesObserver {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.counts.hash(hasher);
    }
}

impl Deref for EdgesObserver {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.counts
    }
}

impl DerefMut for EdgesObserver {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.counts
    }
}

impl AsRef<EdgesObserver> for EdgesObserver {
    fn as_ref(&self) -> &EdgesObserver {
        self
    }
}

impl AsMut<EdgesObserver> for EdgesObserver {
    fn as_mut(&mut self) -> &mut EdgesObserver {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_grows_and_does_not_shrink() {
        let mut map = EdgesObserver::new("edges");
        map.set_counts(&[1, 2, 3]);
        map.set_counts(&[0, 4]);
        assert_eq!((&map[..], map.len(), map.count_bytes()), (&[0, 4, 0][..], 3, 1));
        assert_eq!((map.get(1), map.get(9), map.how_many_set(&[0, 1, 9])), (4, 0, 1));
        map.reset_map().expect("zeros");
        assert_eq!(&map[..], [0; 3]);
    }
}
