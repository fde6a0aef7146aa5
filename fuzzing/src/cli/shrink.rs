//! The smallest input of which something holds.

/// What bytes become that do not matter, as in AFL.
const PLAIN: u8 = b'0';

/// Takes away what is not needed for `holds`, which the input itself satisfies: first blocks, the largest first, until
/// nothing goes any more; then bytes that may be any are made plain. Calls `holds` a few times for each byte.
pub fn shrink<E>(input: &[u8], mut holds: impl FnMut(&[u8]) -> Result<bool, E>) -> Result<Vec<u8>, E> {
    let mut best = input.to_vec();
    loop {
        let before = best.len();
        let mut block = best.len().next_power_of_two().max(2) / 2;
        while block > 0 {
            // From the end: what comes first decides more often how the rest is read.
            let mut end = best.len();
            while end > 0 {
                let start = end.saturating_sub(block);
                let candidate = [&best[..start], &best[end..]].concat();
                if holds(&candidate)? {
                    best = candidate;
                }
                end = start;
            }
            block /= 2;
        }
        if best.len() == before {
            break;
        }
    }
    for at in 0..best.len() {
        let byte = std::mem::replace(&mut best[at], PLAIN);
        if byte != PLAIN && !holds(&best)? {
            best[at] = byte;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_left() {
        let mut calls = 0;
        let holds = |candidate: &[u8]| {
            calls += 1;
            let bug = candidate.iter().position(|byte| *byte == b'B');
            Ok::<_, ()>(bug.is_some_and(|at| candidate[at..].contains(&b'G') && candidate.len() > 2))
        };
        assert_eq!(shrink(b"some B with a long text and G behind", holds), Ok(b"0BG".to_vec()));
        assert!(calls < 200, "{calls}");
        assert_eq!(shrink(b"", |_| Ok::<_, ()>(true)), Ok(Vec::new()));
        assert_eq!(shrink(b"abc", |_| Ok::<_, ()>(true)), Ok(Vec::new()));
        assert_eq!(shrink(b"abc", |_| Err("gone")), Err("gone"));
    }
}
