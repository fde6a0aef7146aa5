//! Which exits of two recordings belong together. Only a window of each is looked at at a time, so that memory and
//! time are bounded whatever the recordings are.

use std::collections::VecDeque;

use super::myers::{Edit, edits};
use super::stream::{Entry, Streams};
use crate::cli::Result;

/// Exits of each recording that are looked at together.
const WINDOW: usize = 2048;

/// Differences within a window that are followed.
const DIFFERENCES: usize = 800;

/// So many exits in a row that are the same, and what comes behind them belongs together.
const ANCHOR: usize = 4;

/// Exits of one side among which the other's counterpart is looked for.
const REACH: usize = 64;

/// What was found of the next exits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Both have it: the left one's, and its number in the right one.
    Same(Entry, u64),
    /// Both have it, and it came out otherwise.
    Changed(Entry, Entry),
    /// Only the left one has it.
    Left(Entry),
    /// Only the right one has it.
    Right(Entry),
}

/// Where exits come from.
pub trait Source {
    /// The next one of a side, 0 or 1.
    ///
    /// # Errors
    /// When it cannot be had.
    fn next(&mut self, side: usize) -> Result<Option<Entry>>;
}

impl Source for Streams {
    fn next(&mut self, side: usize) -> Result<Option<Entry>> {
        Streams::next(self, side)
    }
}

/// Aligns two sequences of exits.
pub struct Aligner<'a> {
    source: &'a mut dyn Source,
    sides: [VecDeque<Entry>; 2],
    ended: [bool; 2],
}

type Tell<'a> = &'a mut dyn FnMut(Step) -> Result<()>;

impl Aligner<'_> {
    pub fn new(source: &mut dyn Source) -> Aligner<'_> {
        Aligner { source, sides: Default::default(), ended: [false; 2] }
    }

    /// Tells of all exits, in order.
    ///
    /// # Errors
    /// Those of the source and of `tell`.
    pub fn run(mut self, tell: Tell<'_>) -> Result<()> {
        loop {
            self.fill(1)?;
            match (self.sides[0].front(), self.sides[1].front()) {
                (None, None) => return Ok(()),
                (Some(left), Some(right)) if left.key != right.key => {
                    self.fill(WINDOW)?;
                    self.window(tell)?;
                }
                _ => {
                    let [left, right] = &mut self.sides;
                    match (left.pop_front(), right.pop_front()) {
                        (Some(left), Some(right)) => tell(alike(left, right))?,
                        (Some(left), None) => tell(Step::Left(left))?,
                        (None, Some(right)) => tell(Step::Right(right))?,
                        (None, None) => {}
                    }
                }
            }
        }
    }

    /// Sees to it that there are so many exits of each side, as far as it has them.
    fn fill(&mut self, count: usize) -> Result<()> {
        for side in 0..2 {
            while self.sides[side].len() < count && !self.ended[side] {
                match self.source.next(side)? {
                    Some(entry) => self.sides[side].push_back(entry),
                    None => self.ended[side] = true,
                }
            }
        }
        Ok(())
    }

    /// Tells of a part of the window: at least one exit.
    fn window(&mut self, tell: Tell<'_>) -> Result<()> {
        let keys = |side: &VecDeque<Entry>| side.iter().map(|entry| entry.key).collect::<Vec<_>>();
        let goes_on = self.ended != [true; 2];
        let edits = edits(&keys(&self.sides[0]), &keys(&self.sides[1]), goes_on, DIFFERENCES);
        let whole = !goes_on && covers(&edits, self.sides.each_ref().map(VecDeque::len));
        let sure = if whole { edits.len() } else { sure(&edits) };
        let mut gap: [Vec<Entry>; 2] = Default::default();
        for edit in &edits[..sure] {
            let [left, right] = &mut self.sides;
            match edit {
                Edit::Left => gap[0].extend(left.pop_front()),
                Edit::Right => gap[1].extend(right.pop_front()),
                Edit::Same => {
                    pair(std::mem::take(&mut gap), tell)?;
                    if let (Some(left), Some(right)) = (left.pop_front(), right.pop_front()) {
                        tell(alike(left, right))?;
                    }
                }
            }
        }
        pair(gap, tell)
    }
}

/// Two exits with the same key.
fn alike(left: Entry, right: Entry) -> Step {
    if left.wrote_otherwise(&right) { Step::Changed(left, right) } else { Step::Same(left, right.number) }
}

/// Whether edits lead to the ends of both sides.
fn covers(edits: &[Edit], lens: [usize; 2]) -> bool {
    let count = |of: Edit| edits.iter().filter(|edit| **edit == of || **edit == Edit::Same).count();
    [count(Edit::Left), count(Edit::Right)] == lens
}

/// How many of the edits are told: up to the last of several in a row that are the same, since what comes behind
/// may look otherwise with more to look at. Without such, half of them: exits of a window that have nothing in
/// common.
fn sure(edits: &[Edit]) -> usize {
    let mut row = 0;
    let mut last = None;
    for (at, edit) in edits.iter().enumerate() {
        row = if *edit == Edit::Same { row + 1 } else { 0 };
        if row >= ANCHOR {
            last = Some(at + 1);
        }
    }
    last.unwrap_or_else(|| edits.len().div_ceil(2)).max(1).min(edits.len())
}

/// Of exits that only one side has, those that may be the same one that came out otherwise.
fn pair(gap: [Vec<Entry>; 2], tell: Tell<'_>) -> Result<()> {
    let [left, right] = gap;
    let mut right = right.into_iter().collect::<VecDeque<_>>();
    for entry in left {
        match right.iter().take(REACH).position(|other| other.kind == entry.kind) {
            Some(at) => {
                for other in right.drain(..at).collect::<Vec<_>>() {
                    tell(Step::Right(other))?;
                }
                if let Some(other) = right.pop_front() {
                    tell(Step::Changed(entry, other))?;
                }
            }
            None => tell(Step::Left(entry))?,
        }
    }
    right.into_iter().try_for_each(|other| tell(Step::Right(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters: a small one stands for a kind, a large one for the same kind that came out otherwise.
    struct Letters<'a>([std::slice::Iter<'a, u8>; 2]);

    impl Source for Letters<'_> {
        fn next(&mut self, side: usize) -> Result<Option<Entry>> {
            Ok(self.0[side].next().map(|&letter| Entry {
                number: 0,
                key: letter.into(),
                kind: letter.to_ascii_lowercase().into(),
                parts: Vec::new(),
                effects: (0, 0),
                text: char::from(letter).into(),
            }))
        }
    }

    fn aligned(left: &[u8], right: &[u8]) -> Vec<String> {
        let mut source = Letters([left.iter(), right.iter()]);
        let mut steps = Vec::new();
        let told = Aligner::new(&mut source).run(&mut |step| {
            match step {
                Step::Same(..) => {}
                Step::Changed(left, right) => steps.push(format!("{}/{}", left.text, right.text)),
                Step::Left(entry) => steps.push(format!("-{}", entry.text)),
                Step::Right(entry) => steps.push(format!("+{}", entry.text)),
            }
            Ok(())
        });
        told.expect("aligned");
        steps
    }

    #[test]
    fn insertions_deletions_and_changes() {
        let none: [&str; 0] = [];
        assert_eq!(aligned(b"abcdef", b"abcdef"), none);
        assert_eq!(aligned(b"abcdef", b"abxcdef"), ["+x"]);
        assert_eq!(aligned(b"abcdef", b"abdef"), ["-c"]);
        assert_eq!(aligned(b"abcdef", b"abCdef"), ["c/C"]);
        assert_eq!(aligned(b"abcdef", b"abcd"), ["-e", "-f"]);
        assert_eq!(aligned(b"", b"ab"), ["+a", "+b"]);
        assert_eq!(aligned(b"abcdefgh", b"axbCdefg"), ["+x", "c/C", "-h"]);
    }

    #[test]
    fn recordings_longer_than_a_window() {
        let long: Vec<u8> = (0..5 * WINDOW).map(|n| b'a' + (n * n / 7 % 26) as u8).collect();
        let mut other = long.clone();
        other.insert(3, b'0');
        other.remove(3 * WINDOW);
        other.splice(4 * WINDOW..4 * WINDOW, *b"0123456789");
        let steps = aligned(&long, &other);
        assert_eq!(steps.len(), 12, "{steps:?}");
        let nothing_alike = aligned(&vec![b'a'; 3 * WINDOW], &vec![b'z'; 3 * WINDOW]);
        assert_eq!(nothing_alike.len(), 6 * WINDOW);
    }
}
