//! Tables of what tasks have, each with the running task's entry at hand.
//!
//! A system call is about the running task nearly always, so the tables of a [`Kernel`](super::kernel::Kernel)
//! stand for that task's entries: `kernel.space` is its address space, `kernel.files` its descriptors. A
//! switch of tasks moves every table to the entries of the task that runs next.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

/// Values by number, of which one is current.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Current<T> {
    id: u32,
    value: T,
    others: BTreeMap<u32, T>,
}

impl<T> Deref for Current<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Current<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Current<T> {
    /// With one value, which is current.
    pub fn new(id: u32, value: T) -> Current<T> {
        Current { id, value, others: BTreeMap::new() }
    }

    /// The current value's number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Makes another value current. `false` when there is none of this number.
    pub fn switch(&mut self, id: u32) -> bool {
        if id != self.id {
            let Some(next) = self.others.remove(&id) else { return false };
            let before = std::mem::replace(&mut self.value, next);
            self.others.insert(std::mem::replace(&mut self.id, id), before);
        }
        true
    }

    /// The value of a number.
    pub fn of(&self, id: u32) -> Option<&T> {
        if id == self.id { Some(&self.value) } else { self.others.get(&id) }
    }

    /// The value of a number, to change.
    pub fn of_mut(&mut self, id: u32) -> Option<&mut T> {
        if id == self.id { Some(&mut self.value) } else { self.others.get_mut(&id) }
    }

    /// Whether there is a value of this number.
    pub fn has(&self, id: u32) -> bool {
        self.of(id).is_some()
    }

    /// Gives the current value another number, which is free.
    pub fn renumber(&mut self, id: u32) {
        debug_assert!(!self.has(id), "a number stands for one value");
        self.id = id;
    }

    /// Adds a value under a number that is free.
    pub fn insert(&mut self, id: u32, value: T) {
        debug_assert!(!self.has(id), "a number stands for one value");
        self.others.insert(id, value);
    }

    /// Takes a value out that is not current.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        self.others.remove(&id)
    }

    /// How many values there are: at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.others.len() + 1
    }

    /// All values, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let below = self.others.range(..self.id).map(|(id, value)| (*id, value));
        let above = self.others.range(self.id..).map(|(id, value)| (*id, value));
        below.chain(std::iter::once((self.id, &self.value))).chain(above)
    }

    /// All values to change, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let others = self.others.iter_mut().map(|(id, value)| (*id, value));
        std::iter::once((self.id, &mut self.value)).chain(others)
    }

    /// A table of what `make` makes of each value.
    ///
    /// # Errors
    /// The first of `make`.
    pub fn try_map<U, E>(self, mut make: impl FnMut(T) -> Result<U, E>) -> Result<Current<U>, E> {
        let value = make(self.value)?;
        let others = self.others.into_iter().map(|(id, value)| Ok((id, make(value)?)));
        Ok(Current { id: self.id, value, others: others.collect::<Result<_, E>>()? })
    }
}

/// A value, and how many tasks have it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counted<T> {
    value: T,
    users: u32,
}

/// Values that tasks share by count, of which the running task's is current.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Shared<T> {
    table: Current<Counted<T>>,
    /// The number of the next value.
    next: u32,
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.table.value
    }
}

impl<T> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.table.value.value
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Shared<T> {
    /// With one value, of number 0, which the one task has.
    pub fn new(value: T) -> Shared<T> {
        Shared { table: Current::new(0, Counted { value, users: 1 }), next: 1 }
    }

    /// The current value's number.
    pub fn id(&self) -> u32 {
        self.table.id()
    }

    /// Makes another value current. `false` when there is none of this number.
    pub fn switch(&mut self, id: u32) -> bool {
        self.table.switch(id)
    }

    /// The value of a number.
    pub fn of(&self, id: u32) -> Option<&T> {
        self.table.of(id).map(|counted| &counted.value)
    }

    /// The value of a number, to change.
    pub fn of_mut(&mut self, id: u32) -> Option<&mut T> {
        self.table.of_mut(id).map(|counted| &mut counted.value)
    }

    /// A copy of the current value.
    pub fn clone_current(&self) -> T
    where
        T: Clone,
    {
        self.table.value.value.clone()
    }

    /// How many values there are: at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Adds a value that one task has; gives its number.
    pub fn add(&mut self, value: T) -> u32 {
        let id = self.next;
        // Numbers are given out once for each task that is made, of which there are fewer.
        self.next = self.next.wrapping_add(1);
        self.table.insert(id, Counted { value, users: 1 });
        id
    }

    /// One more task has a value.
    pub fn hold(&mut self, id: u32) {
        if let Some(counted) = self.table.of_mut(id) {
            counted.users = counted.users.saturating_add(1);
        }
    }

    /// How many tasks have a value.
    pub fn users(&self, id: u32) -> u32 {
        self.table.of(id).map_or(0, |counted| counted.users)
    }

    /// One task less has a value; gives it back when that was the last one. The current value stays
    /// where it is: another one is to be made current first.
    pub fn release(&mut self, id: u32) -> Option<T> {
        let counted = self.table.of_mut(id)?;
        counted.users = counted.users.saturating_sub(1);
        if counted.users > 0 { None } else { self.table.remove(id).map(|counted| counted.value) }
    }

    /// All values, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.table.iter().map(|(id, counted)| (id, &counted.value))
    }

    /// All values to change, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.table.iter_mut().map(|(id, counted)| (id, &mut counted.value))
    }

    /// A table of what `make` makes of each value, shared as these are.
    ///
    /// # Errors
    /// The first of `make`.
    pub fn try_map<U, E>(self, mut make: impl FnMut(T) -> Result<U, E>) -> Result<Shared<U>, E> {
        let table =
            self.table.try_map(|Counted { value, users }| Ok(Counted { value: make(value)?, users }))?;
        Ok(Shared { table, next: self.next })
    }

    /// A table of what `make` makes of each value, shared as these are.
    pub fn map_ref<U>(&self, mut make: impl FnMut(&T) -> U) -> Shared<U> {
        let mut made = |counted: &Counted<T>| Counted { value: make(&counted.value), users: counted.users };
        let value = made(&self.table.value);
        let others = self.table.others.iter().map(|(id, counted)| (*id, made(counted))).collect();
        Shared { table: Current { id: self.table.id, value, others }, next: self.next }
    }

    /// Becomes what `to` was made of: by number, `change` makes a value what it was, or makes the value if there is none;
    /// gives those that are too many.
    ///
    /// # Errors
    /// The first of `change`.
    pub fn return_to<U, E>(
        &mut self,
        to: &Shared<U>,
        mut change: impl FnMut(u32, Option<&mut T>, &U) -> Result<Option<T>, E>,
    ) -> Result<Vec<T>, E> {
        for (id, then) in to.table.iter() {
            let mut now = self.table.of_mut(id);
            let made = change(id, now.as_mut().map(|now| &mut now.value), &then.value)?;
            match (now, made) {
                (Some(now), _) => now.users = then.users,
                (None, Some(value)) => self.table.insert(id, Counted { value, users: then.users }),
                (None, None) => {}
            }
        }
        self.table.switch(to.id());
        self.next = to.next;
        let gone: Vec<u32> = self.table.others.keys().copied().filter(|id| !to.table.has(*id)).collect();
        Ok(gone.into_iter().filter_map(|id| self.table.remove(id)).map(|counted| counted.value).collect())
    }

    /// Whether each value is had by as many tasks as `uses` has its number, and `current` is current: for
    /// a table out of a file.
    pub fn is_had(&self, uses: &[u32], current: u32) -> bool {
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        uses.iter().for_each(|id| *counts.entry(*id).or_default() += 1);
        let had = self.table.iter().map(|(id, counted)| (id, counted.users));
        self.id() == current && had.eq(counts) && self.table.iter().all(|(id, _)| id < self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_at_hand() {
        let mut table = Current::new(5, 'a');
        table.insert(3, 'b');
        table.insert(9, 'c');
        assert_eq!(
            table.iter().map(|(id, value)| (id, *value)).collect::<Vec<_>>(),
            [(3, 'b'), (5, 'a'), (9, 'c')]
        );
        assert!(table.switch(9) && !table.switch(4));
        assert_eq!((*table, table.id(), table.of(5)), ('c', 9, Some(&'a')));
        assert_eq!((table.remove(9), table.remove(3), table.len()), (None, Some('b'), 2));
    }

    #[test]
    fn the_last_task_takes_it_along() {
        let mut table = Shared::new("first");
        let second = table.add("second");
        table.hold(second);
        assert!(table.is_had(&[0, second, second], 0));
        assert_eq!(table.release(second), None);
        assert_eq!(table.release(second), Some("second"));
        assert!(table.is_had(&[0], 0) && !table.is_had(&[0, 0], 0));
        assert_ne!(table.add("third"), second);
    }
}
