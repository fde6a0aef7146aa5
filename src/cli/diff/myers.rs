//! The shortest way from one sequence to another (E. Myers, "An O(ND) Difference Algorithm and Its Variations").

/// A step from one sequence to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The next of both, which are the same.
    Same,
    /// The next of the left one, which the right one lacks.
    Left,
    /// The next of the right one.
    Right,
}

/// How far into the left sequence some number of differences leads, by diagonal (left minus right): the place `i` of
/// round `d` is that of diagonal `2 * i - d`.
type Round = Vec<Option<usize>>;

/// Edits that lead along both sequences to their ends, or, of sequences that go on, to the first end of one; or else
/// as far as `most` differences lead. Time is in proportion to the length times the differences, memory to the square
/// of these.
pub fn edits(left: &[u64], right: &[u64], goes_on: bool, most: usize) -> Vec<Edit> {
    let (n, m) = (left.len(), right.len());
    let mut rounds: Vec<Round> = Vec::new();
    loop {
        let d = rounds.len();
        let round: Round = (0..=d)
            .map(|i| {
                let (_, mut x) = origin(&rounds, d, i, n, m)?;
                let mut y = right_of(x, d, i)?;
                while x < n && y < m && left[x] == right[y] {
                    (x, y) = (x + 1, y + 1);
                }
                Some(x)
            })
            .collect();
        let ends = round.iter().enumerate().filter_map(|(i, x)| Some((i, (*x)?, right_of((*x)?, d, i)?)));
        let at_end = ends.clone().find(|(_, x, y)| match goes_on {
            true => *x == n || *y == m,
            false => *x == n && *y == m,
        });
        let end = at_end.or_else(|| ends.filter(|_| d >= most).max_by_key(|(_, x, y)| x + y));
        rounds.push(round);
        if let Some((i, x, _)) = end {
            return way_back(&rounds, i, x, n, m);
        }
        if d >= most.max(n + m) {
            return Vec::new();
        }
    }
}

/// The place in the right sequence that belongs to one in the left, on diagonal `2 * i - d`.
fn right_of(x: usize, d: usize, i: usize) -> Option<usize> {
    (x + d).checked_sub(2 * i)
}

/// The edit that leads into a diagonal in round `d`, and where it leads to in the left sequence.
fn origin(rounds: &[Round], d: usize, i: usize, n: usize, m: usize) -> Option<(Option<Edit>, usize)> {
    let Some(before) = d.checked_sub(1).and_then(|d| rounds.get(d)) else { return Some((None, 0)) };
    let fits = |x: &usize| *x <= n && right_of(*x, d, i).is_some_and(|y| y <= m);
    let from_left = i.checked_sub(1).and_then(|i| before[i]).map(|x| x + 1).filter(fits);
    let from_right = before.get(i).copied().flatten().filter(fits);
    match (from_left, from_right) {
        (Some(left), Some(right)) if left <= right => Some((Some(Edit::Right), right)),
        (Some(left), _) => Some((Some(Edit::Left), left)),
        (None, Some(right)) => Some((Some(Edit::Right), right)),
        (None, None) => None,
    }
}

/// The edits up to place `x` of the left sequence on a diagonal of the last round.
fn way_back(rounds: &[Round], mut i: usize, mut x: usize, n: usize, m: usize) -> Vec<Edit> {
    let mut edits = Vec::new();
    for d in (0..rounds.len()).rev() {
        let Some((edit, from)) = origin(rounds, d, i, n, m) else { break };
        edits.extend(std::iter::repeat_n(Edit::Same, x - from));
        edits.extend(edit);
        x = from;
        if edit == Some(Edit::Left) {
            (i, x) = (i - 1, x - 1);
        }
    }
    edits.reverse();
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of both sequences behind the edits, and how many of these are differences.
    fn follow(left: &[u64], right: &[u64], goes_on: bool, most: usize) -> (usize, usize, usize) {
        let (mut x, mut y, mut differences) = (0, 0, 0);
        for edit in edits(left, right, goes_on, most) {
            match edit {
                Edit::Same => {
                    assert_eq!(left[x], right[y]);
                    (x, y) = (x + 1, y + 1);
                }
                Edit::Left => (x, differences) = (x + 1, differences + 1),
                Edit::Right => (y, differences) = (y + 1, differences + 1),
            }
        }
        (left.len() - x, right.len() - y, differences)
    }

    #[test]
    fn the_way_is_short() {
        let text = |text: &str| text.bytes().map(u64::from).collect::<Vec<_>>();
        let follow_text = |left: &str, right: &str| follow(&text(left), &text(right), false, 99);
        assert_eq!(follow_text("abcabba", "cbabac"), (0, 0, 5));
        assert_eq!(follow_text("same", "same"), (0, 0, 0));
        assert_eq!(follow_text("insert", "inssert"), (0, 0, 1));
        assert_eq!(follow_text("", "xyz"), (0, 0, 3));
        assert_eq!(follow_text("xyz", ""), (0, 0, 3));
        assert_eq!(follow(&text("xyz"), &text("xyzabc"), true, 99), (0, 3, 0), "more of the left may come");
        let (left, right, differences) = follow(&text("aaaaaaaa"), &text("bbbbbbbb"), false, 4);
        assert_eq!((left + right, differences), (12, 4), "no further than it may");
    }

    #[test]
    fn any_two_sequences_have_a_way() {
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let mut sequence = || (0..next(30)).map(|_| next(4)).collect::<Vec<_>>();
            let (left, right) = (sequence(), sequence());
            let (x, y, _) = follow(&left, &right, true, 100);
            assert!(x == 0 || y == 0, "{left:?} {right:?}");
            let (x, y, _) = follow(&left, &right, false, 100);
            assert_eq!((x, y), (0, 0), "{left:?} {right:?}");
            follow(&left, &right, true, 3);
        }
    }
}
