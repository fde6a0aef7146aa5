//! Which of a run's checkpoints can be spared.

/// Of checkpoints behind these exits, ascending, the place of the one whose neighbours are nearest to each other
/// as seen from the last: the farther back, the farther apart they may be. Neither the first nor the last one;
/// `None` if there are no others.
pub(crate) fn spare(exits: &[u64]) -> Option<usize> {
    let last = exits.last()?;
    let cost = |(_, window): &(usize, &[u64])| {
        let gap = window[2].saturating_sub(window[0]);
        let age = last.saturating_sub(window[1]).saturating_add(1);
        // As parts of 2^32 of the age, so that nothing is lost to rounding.
        (u128::from(gap) << 32) / u128::from(age)
    };
    exits.windows(3).enumerate().min_by_key(cost).map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_near_the_end_stay_denser() {
        let mut kept = Vec::new();
        for exit in 1..=1000 {
            kept.push(exit);
            if kept.len() > 10 {
                let at = spare(&kept).expect("one to spare");
                assert!(at > 0 && at < kept.len() - 1, "{at} of {kept:?}");
                kept.remove(at);
            }
        }
        assert_eq!((kept[0], kept[9]), (1, 1000));
        let gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps[8] <= 8 && gaps[1] > 100, "{kept:?}");
        assert_eq!(spare(&[1, 2]), None);
    }
}
