//! All values of a few bytes of an input, in turn: where the input is new, the program most likely compares what
//! comes next with something, and chance alone is slow to find which byte it wants.

use std::ops::Range;

/// Bytes that are gone through, from the first on that is not the parent's.
const BYTES: usize = 2;

/// Variants of an input that differ in one byte from it, or have one more.
#[derive(Debug)]
pub struct Sweep {
    input: Vec<u8>,
    places: Range<usize>,
    value: Option<u8>,
}

impl Sweep {
    /// Of an input that was made of another one.
    pub fn new(input: &[u8], parent: &[u8], max_len: usize) -> Sweep {
        let same = input.iter().zip(parent).take_while(|(byte, of_parent)| byte == of_parent).count();
        // The byte behind the end is one of them: the program may want more.
        let end = (input.len() + 1).min(max_len).min(same + BYTES);
        Sweep { input: input.to_vec(), places: same..end, value: Some(0) }
    }
}

impl Iterator for Sweep {
    /// The place that was changed, and the input.
    type Item = (usize, Vec<u8>);

    fn next(&mut self) -> Option<(usize, Vec<u8>)> {
        loop {
            let place = self.places.clone().next()?;
            let Some(value) = self.value else {
                self.places.next();
                self.value = Some(0);
                continue;
            };
            self.value = value.checked_add(1);
            match self.input.get(place) {
                Some(byte) if *byte == value => {}
                _ => {
                    let mut variant = self.input.clone();
                    variant.truncate(place);
                    variant.push(value);
                    variant.extend(self.input.iter().skip(place + 1));
                    return Some((place, variant));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_comes_once() {
        let variants: Vec<_> = Sweep::new(b"ab", b"ax", 9).collect();
        assert_eq!(variants.len(), 255 + 256);
        assert!(variants.contains(&(1, b"ac".to_vec())) && variants.contains(&(2, b"ab\xff".to_vec())));
        assert!(!variants.iter().any(|(_, variant)| variant == b"ab"));
        assert_eq!(Sweep::new(b"ab", b"ab", 2).count(), 0, "no room");
        assert_eq!(Sweep::new(b"", b"", 2).count(), 256);
        assert_eq!(Sweep::new(&[7; 100], b"", 200).count(), 2 * 255);
    }
}
