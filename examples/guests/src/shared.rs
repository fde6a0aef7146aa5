//! Statics that change: one CPU without interrupts needs no locks.

use core::cell::UnsafeCell;

/// A static that whoever is running may change.
pub struct Shared<T>(UnsafeCell<T>);

// SAFETY: there is one CPU. What exception handlers change is not held across code that faults.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// With this value at the start.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Where it is.
    pub const fn get(&self) -> *mut T {
        self.0.get()
    }
}
