//! Guessing what is wanted next: a guest that touches pages in a row gets some more of the row with
//! each fault, since what a fault costs is mostly the way out of the guest and back.

/// The most pages that come for one touch.
pub(super) const MAX_AHEAD: u64 = 8;
/// Rows that are followed at once: several vCPUs, or one that copies from one place to another.
const ROWS: usize = 8;
/// Pages of a row that may be there already, or hold zeros, and so cause no fault.
const GAP: u64 = 4;

/// The rows that were touched last.
#[derive(Debug, Default)]
pub(super) struct Readahead {
    rows: [Row; ROWS],
    /// The row that gives way to a new one.
    oldest: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// The page behind the last one that came; 0 for none.
    next: u64,
    /// How many came with it.
    pages: u64,
}

impl Readahead {
    /// How many pages to bring in for a touch of this one, itself included: twice as many each time,
    /// as long as the row goes on.
    pub fn pages_for(&mut self, page: u64) -> u64 {
        match self.rows.iter_mut().find(|row| row.next > 0 && (row.next..row.next + GAP).contains(&page)) {
            Some(row) => {
                row.pages = (row.pages * 2).min(MAX_AHEAD);
                row.next = page + row.pages;
                row.pages
            }
            None => {
                self.rows[self.oldest] = Row { next: page + 1, pages: 1 };
                self.oldest = (self.oldest + 1) % ROWS;
                1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_brings_more_each_time() {
        let mut ahead = Readahead::default();
        let mut page = 100;
        let mut came = Vec::new();
        for _ in 0..6 {
            let pages = ahead.pages_for(page);
            came.push(pages);
            page += pages;
        }
        assert_eq!(came, [1, 2, 4, 8, 8, 8]);
        assert_eq!(ahead.pages_for(page + 1), 8, "over a gap");
        assert_eq!(ahead.pages_for(page), 1, "backwards");
    }

    #[test]
    fn rows_are_told_apart() {
        let mut ahead = Readahead::default();
        let came: Vec<u64> = [10, 1000, 11, 1001].map(|page| ahead.pages_for(page)).to_vec();
        assert_eq!(came, [1, 1, 2, 2]);
        // More rows than are followed: the first ones are forgotten.
        assert!((0..ROWS as u64).all(|n| ahead.pages_for(5000 + n * 100) == 1));
        assert_eq!(ahead.pages_for(13), 1);
    }

    #[test]
    fn touches_here_and_there_bring_one_page_each() {
        let mut ahead = Readahead::default();
        assert!([7, 3, 90, 20, 55, 1].iter().all(|page| ahead.pages_for(*page) == 1));
    }
}
