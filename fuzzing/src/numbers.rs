//! Numbers of edges that hold for as long as a target is fuzzed.
//!
//! A sandbox numbers edges as it finds them. One that is started in its place numbers them anew, and whoever
//! fuzzes must not take them for others.

use std::collections::BTreeMap;

use crate::Edge;

/// What the numbers of the sandbox that runs mean.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Edges of sandboxes before this one.
    known: BTreeMap<Edge, usize>,
    /// For each number of this sandbox the one that holds; `None` for the first sandbox, whose numbers hold.
    of: Option<Vec<usize>>,
}

impl Numbers {
    /// Another sandbox takes the place of the one that had these edges.
    pub fn start_anew(&mut self, edges: Vec<Edge>) {
        for edge in edges {
            let next = self.known.len();
            self.known.entry(edge).or_insert(next);
        }
        self.of = Some(Vec::new());
    }

    /// The edges by the numbers that hold; `now` are those of the sandbox that runs.
    pub fn edges(&self, now: Vec<Edge>) -> BTreeMap<usize, Edge> {
        match self.of {
            Some(_) => self.known.iter().map(|(edge, number)| (*number, edge.clone())).collect(),
            None => now.into_iter().enumerate().collect(),
        }
    }

    /// Sorts a sandbox's counts by the numbers that hold. `edges` tells what the sandbox's numbers stand for.
    pub fn sort(&mut self, counts: &mut Vec<u8>, edges: impl FnOnce() -> Vec<Edge>) {
        let Some(of) = &mut self.of else { return };
        if of.len() < counts.len() {
            for edge in edges().into_iter().skip(of.len()) {
                let next = self.known.len();
                of.push(*self.known.entry(edge).or_insert(next));
            }
        }
        let mut sorted = vec![0; self.known.len()];
        for (count, number) in counts.iter().zip(of.iter()) {
            sorted[*number] = *count;
        }
        *counts = sorted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Way;

    fn edge(offset: u64) -> Edge {
        Edge { file: "/bin/x".into(), offset, way: Way::Taken }
    }

    #[test]
    fn another_sandbox_numbers_as_the_first() {
        let mut numbers = Numbers::default();
        let mut counts = vec![1, 2, 3];
        numbers.sort(&mut counts, || unreachable!("the first sandbox's numbers hold"));
        assert_eq!(counts, [1, 2, 3]);

        numbers.start_anew(vec![edge(10), edge(20), edge(30)]);
        let mut counts = vec![7, 8];
        numbers.sort(&mut counts, || vec![edge(30), edge(40)]);
        assert_eq!(counts, [0, 0, 7, 8]);
        let mut counts = vec![0, 5, 6];
        numbers.sort(&mut counts, || vec![edge(30), edge(40), edge(10)]);
        assert_eq!(counts, [6, 0, 0, 5]);

        numbers.start_anew(vec![edge(30), edge(40), edge(10), edge(50)]);
        let mut counts = vec![9];
        numbers.sort(&mut counts, || vec![edge(50)]);
        assert_eq!(counts, [0, 0, 0, 0, 9]);
    }
}
