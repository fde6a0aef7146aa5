//! Giving up an address space.

use super::{AddressSpace, Memory, SpaceState, USER_END, USER_MIN};
use crate::ram::PageError;

impl AddressSpace {
    /// Removes all mappings, as `execve` does, whatever the deadline: the call cannot be made again.
    /// What lay behind those of files and shared objects is still to be given back:
    /// [`AddressSpace::take_lost`].
    ///
    /// # Errors
    /// When the host refuses.
    pub fn clear(&mut self, memory: &mut Memory) -> Result<(), PageError> {
        // Nothing runs in it any more: what others see as well need not be invalidated.
        self.take_back(memory, &(USER_MIN..USER_END))?;
        // Not to be stopped halfway: what the call was told lies in the memory that goes.
        self.remove(memory, &(USER_MIN..USER_END), false)?;
        self.settle(memory);
        *self.state = SpaceState::default();
        self.code = None;
        Ok(())
    }
}
