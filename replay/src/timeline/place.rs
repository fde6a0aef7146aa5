//! How to get to a moment of a run again, whose count of steps may be unknown.
//!
//! A run at full speed does not count instructions, so where it stops at a breakpoint is known by how often
//! that was reached. Steps are counted when somebody wants to know them.

use super::Position;

/// A moment of a run: from a position, by hops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where it begins.
    pub base: Position,
    /// What leads on from there, without a compared exit in between.
    pub hops: Vec<Hop>,
}

/// A part of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// To where the instruction at `address` is about to run for the `count`th time, not counting the start of
    /// this hop.
    Reach { address: u64, count: u64 },
    /// So many steps.
    Steps(u64),
}

impl From<Position> for Place {
    fn from(base: Position) -> Place {
        Place { base, hops: Vec::new() }
    }
}

impl Place {
    /// The position, if it is known.
    pub fn position(&self) -> Option<Position> {
        self.hops.is_empty().then_some(self.base)
    }

    /// A breakpoint was reached from here, within the same exit.
    pub fn reach(&mut self, reached: u64) {
        match self.hops.last_mut() {
            Some(Hop::Reach { address, count }) if *address == reached => *count += 1,
            _ => self.hops.push(Hop::Reach { address: reached, count: 1 }),
        }
    }

    /// One step back, of a place whose last hop is by steps.
    pub fn one_step_less(&self) -> Place {
        let mut place = self.clone();
        if let Some(Hop::Steps(steps)) = place.hops.last_mut() {
            *steps -= 1;
            if *steps == 0 {
                place.hops.pop();
            }
        }
        place
    }

    /// Some steps were made from here.
    pub fn step(&mut self, steps: u64) {
        match self.hops.last_mut() {
            _ if steps == 0 => {}
            None => self.base.steps += steps,
            Some(Hop::Steps(before)) => *before += steps,
            Some(Hop::Reach { .. }) => self.hops.push(Hop::Steps(steps)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_of_a_kind_are_one() {
        let mut place = Place::from(Position::behind(4));
        place.step(2);
        assert_eq!(place.position(), Some(Position { exit: 4, steps: 2 }));
        place.reach(0x10);
        place.reach(0x10);
        place.reach(0x20);
        place.step(1);
        place.step(3);
        place.step(0);
        assert_eq!(place.position(), None);
        let hops =
            [Hop::Reach { address: 0x10, count: 2 }, Hop::Reach { address: 0x20, count: 1 }, Hop::Steps(4)];
        assert_eq!(place.hops, hops);
    }
}
