//! How to get to a moment of a run again, whose count of steps may be unknown.
//!
//! A run at full speed does not count instructions, so where it stops at a breakpoint is known by how often
//! that was reached. Steps are counted when somebody wants to know them.

use std::ops::Range;
use std::sync::Arc;

use dejavm_sandbox::program::machine::AccessWatch;
use dejavm_sandbox::program::patch::Condition;

use super::{Position, Stops};

/// A moment of a run: from a position, by hops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where it begins.
    pub base: Position,
    /// What leads on from there, without a compared exit in between.
    pub hops: Vec<Hop>,
}

/// A part of a way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// To where the instruction at `address` is about to run in `process` for the `count`th time, not counting the
    /// start of this hop, and, if there are conditions, one of them holds.
    Reach { process: u32, address: u64, conditions: Arc<[Condition]>, count: u64 },
    /// So many steps.
    Steps(u64),
    /// To where an instruction is about to write to a page with some of these addresses in it, or to make any use of
    /// one in which accesses are looked for, for the `count`th time.
    Trap { process: u32, addresses: Arc<[Range<u64>]>, accesses: Arc<[AccessWatch]>, count: u64 },
}

impl Hop {
    /// How often what ends the hop must come.
    pub fn count(&self) -> u64 {
        match self {
            Hop::Steps(count) | Hop::Reach { count, .. } | Hop::Trap { count, .. } => *count,
        }
    }

    /// The same, to where what ends it comes for another time.
    fn with_count(&self, times: u64) -> Hop {
        let mut hop = self.clone();
        match &mut hop {
            Hop::Steps(count) | Hop::Reach { count, .. } | Hop::Trap { count, .. } => *count = times,
        }
        hop
    }

    /// What of this hop is left behind another. Writes are not told apart: one that was stopped before is met
    /// again.
    fn beyond(&self, other: &Hop) -> Option<Hop> {
        match (self, other) {
            (Hop::Steps(count), Hop::Steps(made)) => Some(Hop::Steps(count.checked_sub(*made)?)),
            (Hop::Reach { count, .. }, Hop::Reach { count: met, .. }) => {
                let left = self.with_count(count.checked_sub(*met)?);
                (self.with_count(*met) == *other).then_some(left)
            }
            _ => (self == other).then_some(Hop::Steps(0)),
        }
    }

    /// What is to be stopped at on the way.
    pub fn stops(&self) -> Stops {
        match self {
            Hop::Steps(_) => Stops::default(),
            Hop::Reach { process, address, conditions, .. } => {
                let mut stops = Stops { process: *process, ..Stops::default() };
                stops.add(*address, conditions);
                stops
            }
            Hop::Trap { process, addresses, accesses, .. } => Stops {
                process: *process,
                writes: addresses.to_vec(),
                accesses: accesses.to_vec(),
                ..Stops::default()
            },
        }
    }
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
    pub fn reach(&mut self, stops: &Stops, reached: u64) {
        let held = stops.conditions_at(reached);
        match self.hops.last_mut() {
            Some(Hop::Reach { process, address, conditions, count })
                if (*process, *address, &**conditions) == (stops.process, reached, held) =>
            {
                *count += 1;
            }
            _ => self.hops.push(Hop::Reach {
                process: stops.process,
                address: reached,
                conditions: held.into(),
                count: 1,
            }),
        }
    }

    /// An instruction was let through that is the `count`th from here, within the same exit, to write to a page
    /// with some of what is watched in it.
    pub fn write(&mut self, stops: &Stops, count: u64) {
        self.trap(stops, count);
        self.step(1);
    }

    /// An instruction is about to run that is the `count`th so.
    pub fn trap(&mut self, stops: &Stops, count: u64) {
        let (addresses, accesses) = ((&stops.writes[..]).into(), (&stops.accesses[..]).into());
        self.hops.push(Hop::Trap { process: stops.process, addresses, accesses, count });
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

    /// What leads on to this place from another, if it is on the way there.
    pub fn beyond(&self, other: &Place) -> Option<Vec<Hop>> {
        let behind = self.hops.get(..other.hops.len())?;
        let (last, others) = (behind.split_last(), other.hops.split_last());
        let (Some((last, before)), Some((other_last, others))) = (last, others) else {
            return (self.base == other.base).then(|| self.hops.clone());
        };
        let rest = last.beyond(other_last).filter(|_| self.base == other.base && before == others)?;
        let rest = Some(rest).filter(|rest| rest.count() > 0);
        Some(rest.into_iter().chain(self.hops[other.hops.len()..].iter().cloned()).collect())
    }

    /// Some steps were made from here.
    pub fn step(&mut self, steps: u64) {
        match self.hops.last_mut() {
            _ if steps == 0 => {}
            None => self.base.steps += steps,
            Some(Hop::Steps(before)) => *before += steps,
            Some(Hop::Reach { .. } | Hop::Trap { .. }) => self.hops.push(Hop::Steps(steps)),
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
        assert_eq!(place.position(), Some(Position::stepped(4, 2)));
        let condition = Condition::new(&[0x22, 1, 0x27]).unwrap();
        let mut stops = Stops::default();
        place.reach(&stops, 0x10);
        place.reach(&stops, 0x10);
        place.reach(&stops, 0x20);
        stops.add(0x20, std::slice::from_ref(&condition));
        place.reach(&stops, 0x20);
        place.reach(&stops, 0x20);
        place.step(1);
        place.step(3);
        place.step(0);
        assert_eq!(place.position(), None);
        let reach = |address, conditions: &[Condition], count| Hop::Reach {
            process: stops.process,
            address,
            conditions: conditions.into(),
            count,
        };
        let hops = [reach(0x10, &[], 2), reach(0x20, &[], 1), reach(0x20, &[condition], 2), Hop::Steps(4)];
        assert_eq!(place.hops, hops);
        assert_eq!(place.hops[2].stops(), stops);
    }

    #[test]
    fn what_leads_on_from_a_place_on_the_way() {
        let place = |hops: &[Hop]| Place { base: Position::behind(4), hops: hops.to_vec() };
        let reach = |address, count| Hop::Reach { process: 2, address, conditions: Arc::new([]), count };
        let trap = |count| Hop::Trap {
            process: 2,
            addresses: Arc::new([0..8, 8..16]),
            accesses: Arc::new([]),
            count,
        };
        let whole = place(&[reach(0x10, 3), Hop::Steps(2)]);
        assert_eq!(whole.beyond(&place(&[])), Some(whole.hops.clone()));
        assert_eq!(whole.beyond(&place(&[reach(0x10, 1)])), Some(vec![reach(0x10, 2), Hop::Steps(2)]));
        assert_eq!(whole.beyond(&place(&[reach(0x10, 3)])), Some(vec![Hop::Steps(2)]));
        assert_eq!(whole.beyond(&place(&[reach(0x10, 3), Hop::Steps(1)])), Some(vec![Hop::Steps(1)]));
        assert_eq!(whole.beyond(&whole), Some(vec![]));
        let written = place(&[trap(3), Hop::Steps(1)]);
        assert_eq!(written.beyond(&place(&[trap(3)])), Some(vec![Hop::Steps(1)]));
        let not =
            [&[reach(0x10, 4)][..], &[reach(0x20, 1)], &[reach(0x10, 2), Hop::Steps(1)], &[Hop::Steps(3)]];
        for other in not {
            assert_eq!(whole.beyond(&place(other)), None, "{other:?}");
        }
        assert_eq!(written.beyond(&place(&[trap(2)])), None);
        assert_eq!(whole.beyond(&Position::behind(3).into()), None);
    }
}
