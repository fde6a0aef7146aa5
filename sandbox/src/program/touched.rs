//! Values that know whether they may have changed.

use std::ops::{Deref, DerefMut};

/// A value, and whether it was borrowed to be changed since [`Touched::settle`].
#[derive(Clone, Debug, Default)]
pub struct Touched<T> {
    value: T,
    touched: bool,
}

impl<T> Touched<T> {
    /// A value that may have changed: nobody has looked at it.
    pub fn new(value: T) -> Touched<T> {
        Touched { value, touched: true }
    }

    /// Whether it may have changed.
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// What it is now is what changes are told from.
    pub fn settle(&mut self) {
        self.touched = false;
    }
}

impl<T> Deref for Touched<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Touched<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.touched = true;
        &mut self.value
    }
}
