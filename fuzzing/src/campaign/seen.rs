//! What crashes or hangs were like so far.

use std::collections::HashSet;

use dejavm::Death;

/// Edges with their classes of counts, and places, that were seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// A bit for each class of counts of an edge.
    edges: Vec<u8>,
    /// Signals, and where the program was.
    places: HashSet<(u32, u64)>,
}

impl Seen {
    /// Whether a run took an edge, or took it so often, or died at a place, as none before it did.
    pub fn is_new(&mut self, classes: &[u8], death: Option<&Death>) -> bool {
        if self.edges.len() < classes.len() {
            self.edges.resize(classes.len(), 0);
        }
        let mut new = false;
        for (seen, class) in self.edges.iter_mut().zip(classes) {
            new |= class & !*seen != 0;
            *seen |= class;
        }
        death.is_some_and(|death| self.places.insert((death.signal, death.rip))) || new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_places_are_new_once() {
        let mut seen = Seen::default();
        let death = |rip| Death { signal: 11, rip, address: None, nearest: String::new() };
        assert!(seen.is_new(&[0, 1], None));
        assert!(!seen.is_new(&[0, 1, 0], None));
        assert!(seen.is_new(&[0, 2], None), "more often");
        assert!(seen.is_new(&[0, 1], Some(&death(0x10))));
        assert!(!seen.is_new(&[0, 2], Some(&death(0x10))));
        assert!(seen.is_new(&[], Some(&death(0x20))));
    }
}
