//! What sets of watched descriptors watch, and which of that is to be looked at: a set costs by what happens, not by
//! what it watches (`fs/eventpoll.c`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::description::DescId;
use crate::program::fs::InodeId;

/// What a watched descriptor costs, bytes.
pub(super) const ITEM_BYTES: u64 = 256;

/// What is watched: a descriptor and its description.
pub(super) type Spot = (i32, DescId);

/// A watched descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    /// What it is of.
    pub inode: InodeId,
    /// What is waited for, and flags.
    pub events: u32,
    /// What the program gets back.
    pub data: u64,
    /// It is asked at each look, as nobody tells of it.
    pub asked: bool,
    /// It is told of nothing until it is set anew (`EPOLLONESHOT`).
    pub told: bool,
    /// Its place among those that are to be looked at.
    place: Option<u64>,
    /// Its place among those that watch the same: who came last learns first, but those of whom one alone is to learn
    /// (`EPOLLEXCLUSIVE`) are below 0.
    order: i64,
}

impl Item {
    /// One that is not to be looked at yet.
    pub fn new(inode: InodeId, (events, data): (u32, u64), asked: bool) -> Item {
        Item { inode, events, data, asked, told: false, place: None, order: 0 }
    }
}

/// A set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Set {
    items: BTreeMap<Spot, Item>,
    /// Those to look at, in the order in which something happened.
    ready: BTreeMap<u64, Spot>,
    /// Those that are asked.
    asked: BTreeSet<Spot>,
    /// The next place.
    next: u64,
}

impl Set {
    /// What it watches.
    pub fn items(&self) -> impl Iterator<Item = (&Spot, &Item)> {
        self.items.iter()
    }

    /// Those that are asked.
    pub fn asked(&self) -> impl Iterator<Item = (&Spot, &Item)> {
        self.asked.iter().filter_map(|spot| Some((spot, self.items.get(spot)?)))
    }

    /// Those to look at, by their places.
    pub fn ready(&self) -> impl Iterator<Item = (&Spot, &Item)> {
        self.ready.values().filter_map(|spot| Some((spot, self.items.get(spot)?)))
    }

    /// One of them.
    pub fn get(&self, spot: Spot) -> Option<&Item> {
        self.items.get(&spot)
    }

    /// Something has happened: it is looked at, behind all others, unless it is already.
    pub fn enqueue(&mut self, spot: Spot) {
        let item = self.items.get_mut(&spot).filter(|item| !item.told && item.place.is_none());
        if let Some(item) = item {
            item.place = Some(self.next);
            self.ready.insert(self.next, spot);
            self.next += 1;
        }
    }

    /// It was looked at.
    pub fn dequeue(&mut self, spot: Spot) {
        let place = self.items.get_mut(&spot).and_then(|item| item.place.take());
        place.into_iter().for_each(|place| _ = self.ready.remove(&place));
    }

    /// It is told of no more until it is set anew.
    pub fn quiet(&mut self, spot: Spot) {
        self.items.get_mut(&spot).into_iter().for_each(|item| item.told = true);
    }

    fn remove(&mut self, spot: Spot) -> Option<Item> {
        self.dequeue(spot);
        self.asked.remove(&spot);
        self.items.remove(&spot)
    }

    fn is_sound(&self) -> bool {
        let Set { items, ready, asked, next } = self;
        let placed = items.iter().filter_map(|(spot, item)| Some((item.place?, *spot)));
        let places: BTreeMap<u64, Spot> = placed.collect();
        let are_asked = items.iter().filter(|(_, item)| item.asked).map(|(spot, _)| spot);
        places == *ready
            && items.values().filter(|item| item.place.is_some()).count() == ready.len()
            && are_asked.eq(asked)
            && ready.keys().all(|place| place < next)
            && *next < u64::MAX / 2
    }
}

/// What sets watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watched {
    sets: BTreeMap<InodeId, Set>,
    /// Who watches an inode, by their order: sets, and which of a set.
    watchers: BTreeMap<InodeId, Watchers>,
    /// How many there have been.
    count: i64,
}

type Watchers = BTreeMap<i64, (InodeId, Spot)>;

impl Watched {
    /// A set that watches something, or did.
    pub fn set(&self, set: InodeId) -> Option<&Set> {
        self.sets.get(&set)
    }

    /// The same to change.
    pub fn set_mut(&mut self, set: InodeId) -> Option<&mut Set> {
        self.sets.get_mut(&set)
    }

    /// A set watches something.
    pub fn add(&mut self, set: InodeId, spot: Spot, item: Item, exclusive: bool) {
        self.count += 1;
        let order = if exclusive { -self.count } else { self.count };
        self.watchers.entry(item.inode).or_default().insert(order, (set, spot));
        let set = self.sets.entry(set).or_default();
        if item.asked {
            set.asked.insert(spot);
        }
        set.items.insert(spot, Item { order, ..item });
    }

    /// A set watches something in another way: what is to be looked at stays so.
    pub fn change(&mut self, set: InodeId, spot: Spot, (events, data): (u32, u64)) {
        let item = self.sets.get_mut(&set).and_then(|set| set.items.get_mut(&spot));
        if let Some(item) = item {
            (item.events, item.data, item.told) = (events, data, false);
        }
    }

    /// A set watches something no more.
    pub fn remove(&mut self, set: InodeId, spot: Spot) {
        if let Some(item) = self.sets.get_mut(&set).and_then(|set| set.remove(spot)) {
            self.watches_no_more(&item);
        }
    }

    fn watches_no_more(&mut self, item: &Item) {
        if let Some(watchers) = self.watchers.get_mut(&item.inode) {
            watchers.remove(&item.order);
            if watchers.is_empty() {
                self.watchers.remove(&item.inode);
            }
        }
    }

    /// Who watches something: set and which of the set.
    fn of(&self, inode: InodeId) -> Vec<(InodeId, Spot)> {
        self.watchers.get(&inode).into_iter().flat_map(|of_it| of_it.values().rev()).copied().collect()
    }

    /// A description of an inode is gone.
    pub fn forget(&mut self, inode: InodeId, id: DescId) -> u64 {
        let gone: Vec<_> = self.of(inode).into_iter().filter(|(_, (_, watched))| *watched == id).collect();
        gone.iter().for_each(|(set, spot)| self.remove(*set, *spot));
        gone.len() as u64 * ITEM_BYTES
    }

    /// A set is gone.
    pub fn forget_set(&mut self, set: InodeId) -> u64 {
        let Some(gone) = self.sets.remove(&set) else { return 0 };
        gone.items.values().for_each(|item| self.watches_no_more(item));
        gone.items.len() as u64 * ITEM_BYTES
    }

    /// Notes that files have changed; gives the sets that have something to look at by that, also those that watch
    /// such sets.
    pub fn note_changed(&mut self, changed: &[InodeId]) -> BTreeSet<InodeId> {
        let mut sets = BTreeSet::new();
        let mut next = changed.to_vec();
        while let Some(inode) = next.pop() {
            for (set, spot) in self.of(inode) {
                let told = self.sets.get(&set).and_then(|set| set.get(spot)).is_none_or(|item| item.told);
                self.sets.get_mut(&set).into_iter().for_each(|set| set.enqueue(spot));
                if !told && sets.insert(set) {
                    next.push(set);
                }
            }
        }
        sets
    }

    /// The same of all that is asked.
    pub fn note_input(&mut self) {
        for set in self.sets.values_mut() {
            set.asked.clone().into_iter().for_each(|spot| set.enqueue(spot));
        }
    }

    /// Bytes that the sandbox is charged for.
    pub fn cost(&self) -> u64 {
        self.sets.values().map(|set| set.items.len() as u64 * ITEM_BYTES).sum()
    }

    /// Whether it can be one: for a state out of a file. Each is watched by what is of a description, and whether
    /// it is asked.
    pub fn is_sound(
        &self,
        inode_of: impl Fn(DescId) -> Option<InodeId>,
        is_set: impl Fn(InodeId) -> bool,
        is_asked: impl Fn(InodeId) -> bool,
    ) -> bool {
        let mut watchers: BTreeMap<InodeId, Watchers> = BTreeMap::new();
        let mut sound = true;
        for (set, (spot, item)) in
            self.sets.iter().flat_map(|(set, of_it)| of_it.items().map(move |at| (*set, at)))
        {
            sound &= inode_of(spot.1) == Some(item.inode) && is_asked(item.inode) == item.asked;
            let of_it = watchers.entry(item.inode).or_default();
            sound &= of_it.insert(item.order, (set, *spot)).is_none();
            sound &= (1..=self.count).contains(&item.order.saturating_abs());
        }
        let sets = self.sets.iter().all(|(set, of_it)| is_set(*set) && of_it.is_sound());
        sound && sets && watchers == self.watchers && (0..i64::MAX / 2).contains(&self.count)
    }
}
