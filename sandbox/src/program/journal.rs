//! Maps that can be put back to a moment: what a key had then is noted when it is first changed.

use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A map that is read as a [`BTreeMap`], and changed by the methods here alone.
#[derive(Debug)]
pub struct Journal<K, V> {
    map: BTreeMap<K, V>,
    /// What keys had at the mark whose values may have changed since, or that came or went.
    before: Option<BTreeMap<K, Option<V>>>,
}

impl<K: Ord + Copy, V: Clone> Journal<K, V> {
    /// Marks this moment; an earlier mark is over.
    pub fn mark(&mut self) {
        self.before = Some(BTreeMap::new());
    }

    /// Becomes what it was at the mark, or, if there is none, what `then` is.
    pub fn return_to(&mut self, then: &Journal<K, V>) {
        match &mut self.before {
            Some(before) => {
                for (key, value) in std::mem::take(before) {
                    match value {
                        Some(value) => self.map.insert(key, value),
                        None => self.map.remove(&key),
                    };
                }
            }
            None => self.map.clone_from(&then.map),
        }
    }

    /// The value of a key, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let value = self.map.get_mut(key)?;
        if let Some(before) = &mut self.before {
            before.entry(*key).or_insert_with(|| Some(value.clone()));
        }
        Some(value)
    }

    /// Sets the value of a key; gives the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let had = self.map.insert(key, value);
        if let Some(before) = &mut self.before {
            before.entry(key).or_insert_with(|| had.clone());
        }
        had
    }

    /// Takes a key out; gives its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let had = self.map.remove(key)?;
        if let Some(before) = &mut self.before {
            match before.get(key) {
                // It came and went: nothing is to be remembered of it.
                Some(None) => drop(before.remove(key)),
                Some(Some(_)) => {}
                None => drop(before.insert(*key, Some(had.clone()))),
            }
        }
        Some(had)
    }

    /// Calls `act` for every value, which may change it.
    pub fn each_mut(&mut self, mut act: impl FnMut(&K, &mut V)) {
        for (key, value) in &mut self.map {
            if let Some(before) = &mut self.before {
                before.entry(*key).or_insert_with(|| Some(value.clone()));
            }
            act(key, value);
        }
    }
}

impl<K, V> Default for Journal<K, V> {
    fn default() -> Journal<K, V> {
        Journal { map: BTreeMap::new(), before: None }
    }
}

impl<K, V> Deref for Journal<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &BTreeMap<K, V> {
        &self.map
    }
}

/// A copy has no mark.
impl<K: Clone, V: Clone> Clone for Journal<K, V> {
    fn clone(&self) -> Journal<K, V> {
        Journal { map: self.map.clone(), before: None }
    }
}

impl<K, V> FromIterator<(K, V)> for Journal<K, V>
where
    K: Ord,
{
    fn from_iter<I: IntoIterator<Item = (K, V)>>(values: I) -> Journal<K, V> {
        Journal { map: values.into_iter().collect(), before: None }
    }
}

impl<K: Serialize, V: Serialize> Serialize for Journal<K, V> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.map.serialize(s)
    }
}

impl<'de, K: Ord + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Journal<K, V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Journal<K, V>, D::Error> {
        BTreeMap::deserialize(d).map(|map| Journal { map, before: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_it_was() {
        let mut map: Journal<u32, &str> = [(1, "a"), (2, "b"), (3, "c")].into_iter().collect();
        map.mark();
        let then = map.clone();
        for _ in 0..2 {
            *map.get_mut(&1).expect("there") = "x";
            *map.get_mut(&1).expect("there") = "y";
            assert_eq!(map.get_mut(&9), None);
            assert_eq!((map.remove(&2), map.remove(&2)), (Some("b"), None));
            assert_eq!((map.insert(4, "d"), map.insert(2, "z")), (None, None));
            map.remove(&4);
            map.insert(5, "e");
            map.return_to(&then);
            assert_eq!(*map, *then);
        }
        map.each_mut(|_, value| *value = "all");
        map.return_to(&then);
        assert_eq!(*map, *then);
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        let mut map: Journal<u32, u32> = Journal::default();
        map.mark();
        for key in 0..1000 {
            map.insert(key, 1);
            map.remove(&key);
        }
        assert_eq!(map.before.map(|before| before.len()), Some(0));
    }

    #[test]
    fn without_a_mark_it_is_copied() {
        let mut map: Journal<u32, u32> = [(1, 1)].into_iter().collect();
        let then = map.clone();
        map.insert(2, 2);
        map.return_to(&then);
        assert_eq!(*map, *then);
    }
}
