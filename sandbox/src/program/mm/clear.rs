//! Giving up an address space.

use super::{AddressSpace, MapError, Memory, SpaceState, USER_END, USER_MIN};
use crate::ram::PageError;

impl AddressSpace {
    /// Removes all mappings, as `execve` does. What lay behind those of files and shared objects is
    /// still to be given back: [`AddressSpace::take_lost_backing`].
    ///
    /// # Errors
    /// When the host refuses.
    pub fn clear(&mut self, memory: &mut Memory) -> Result<(), PageError> {
        match self.unmap(memory, USER_MIN, USER_END - USER_MIN) {
            // The range is a good one.
            Ok(()) | Err(MapError::Errno(_)) => {}
            Err(MapError::Page(e)) => return Err(e),
        }
        self.state = SpaceState::default();
        Ok(())
    }
}
