//! The handler of breakpoints, while a debugger's breakpoints go to it, too: it begins with a jump then, to code
//! in a page of its own.

use super::{Entry, HANDLER_CODE, HANDLER_ENTRY, HANDLER_STACK, HANDLER_STACK_TOP};
use super::{HANDLER, SYSCALL_STUB};
use crate::program::mm::{AddressSpace, Memory, USER_END};
use crate::ram::PageError;
use crate::x86::frame::Frame;
use crate::x86::paging::{PRESENT, USER};

/// Address of the page of that code.
pub(crate) const SITES: u64 = USER_END + 0xc000;
/// Bytes of the jump.
const JUMP_BYTES: usize = 5;
/// Bytes of the handler's first instructions, in whose place the jump stands: `push rax`, `mov rax, [rsp + 8]`.
const REPLACED_BYTES: u64 = 6;
/// Where the handler goes on for a breakpoint of no debugger, behind these instructions.
pub(crate) const HANDLER_GOES_ON: u64 = HANDLER_ENTRY + REPLACED_BYTES;
/// Where the handler leaves a breakpoint to the monitor, with all registers as they were.
pub(crate) const HANDLER_TAKES: u64 = HANDLER;
/// General registers that the code pushes below the CPU's frame: all but RSP.
pub(crate) const SAVED_WORDS: usize = 15;
/// Words at the far end of the handler's stack in which copies of instructions keep a register.
pub(crate) const SLOTS: u64 = HANDLER_STACK;
/// How many there are.
pub(crate) const SLOTS_MAX: usize = 32;

impl Entry {
    /// Puts a page of code where the handler jumps to, if it is not in this address space yet.
    ///
    /// # Errors
    /// When there is no memory for page tables.
    pub(crate) fn map_sites(
        &self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        page: u64,
    ) -> Result<(), PageError> {
        if space.entry_of(memory, SITES) & PRESENT != 0 {
            return Ok(());
        }
        space.map_system(memory, SITES, page, USER)
    }

    /// Makes the handler begin with a jump to that page, or as it is.
    pub(crate) fn redirect(&self, memory: &Memory, on: bool) {
        let Some((_, page, _)) = self.pages.iter().find(|(address, ..)| *address == SYSCALL_STUB) else {
            return;
        };
        let at = page + (HANDLER_ENTRY - SYSCALL_STUB);
        let mut jump = [0; JUMP_BYTES];
        if on {
            let distance = (SITES - HANDLER_ENTRY - JUMP_BYTES as u64) as u32;
            jump[0] = 0xe9;
            jump[1..].copy_from_slice(&distance.to_le_bytes());
        } else {
            jump.copy_from_slice(&HANDLER_CODE[(HANDLER_ENTRY - HANDLER) as usize..][..JUMP_BYTES]);
        }
        memory.system.write(at, &jump);
    }

    /// Whether a program is between the instructions that a jump is put over.
    pub(crate) fn is_under_redirection(rip: u64) -> bool {
        (HANDLER_ENTRY + 1..HANDLER_GOES_ON).contains(&rip)
    }

    /// The registers that the code in that page has pushed, the last first.
    pub(crate) fn saved(&self, memory: &Memory) -> [u64; SAVED_WORDS] {
        let frame = Frame::WORDS as u64 * 8;
        let offset = HANDLER_STACK_TOP - HANDLER_STACK - frame - SAVED_WORDS as u64 * 8;
        std::array::from_fn(|i| memory.system.read_u64(self.handler_stack + offset + i as u64 * 8))
    }

    /// A word in which a copy of an instruction keeps a register.
    pub(crate) fn slot(&self, memory: &Memory, address: u64) -> u64 {
        let offset = address.wrapping_sub(HANDLER_STACK).min((SLOTS_MAX as u64 - 1) * 8) & !7;
        memory.system.read_u64(self.handler_stack + offset)
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    #[test]
    fn the_jump_stands_over_whole_instructions() {
        let code = &HANDLER_CODE[(HANDLER_ENTRY - HANDLER) as usize..];
        let mut decoder = Decoder::with_ip(64, code, HANDLER_ENTRY, DecoderOptions::NONE);
        assert_eq!(decoder.decode().to_string(), "push rax");
        assert_eq!(decoder.decode().to_string(), "mov rax,[rsp+8]");
        assert_eq!(decoder.ip(), HANDLER_GOES_ON);
        assert!(REPLACED_BYTES as usize >= JUMP_BYTES);
    }
}
