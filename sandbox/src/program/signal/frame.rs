//! The frame that a handler runs on: built when it is entered, taken back by `rt_sigreturn`.

use super::{Action, AltStack, INFO_BYTES, Info, TaskSignals, UNBLOCKABLE, bit, flags, floating};
use crate::entry::{USER_CS, USER_DS};
use crate::program::mm::{AddressSpace, MemError, Memory};
use crate::vcpu::registers::{ExtendedState, General};
use crate::x86::flags::rflags;

/// Sizes and offsets of `struct rt_sigframe` (`arch/x86/include/asm/sigframe.h`): return address,
/// ucontext, siginfo.
mod layout {
    pub const UCONTEXT: usize = 8;
    pub const STACK: usize = UCONTEXT + 16;
    pub const CONTEXT: usize = UCONTEXT + 40;
    pub const MASK: usize = CONTEXT + 256;
    pub const SIGINFO: usize = MASK + 8;
    pub const SIZE: usize = SIGINFO + super::INFO_BYTES;
    /// In the context: segment selectors, error code, trap number, CR2, pointer to the FPU state.
    pub const SELECTORS: usize = CONTEXT + 144;
    pub const FPSTATE: usize = CONTEXT + 184;
}

/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS: u64 = 7;
/// `UC_STRICT_RESTORE_SS`: without it a bad SS is replaced.
const UC_STRICT_RESTORE_SS: u64 = 4;
/// Bytes below RSP that a function may use.
const RED_ZONE: u64 = 128;
/// RFLAGS bits that a program may set through a signal frame (`FIX_EFLAGS`).
const USER_FLAGS: u64 = rflags::ARITHMETIC_FLAGS
    | rflags::TRAP_FLAG
    | rflags::DIRECTION_FLAG
    | rflags::RESUME_FLAG
    | rflags::ALIGNMENT_CHECK;
const _: () = assert!(USER_FLAGS == 0x5_0dd5);
/// RFLAGS that are always set here: bit 1 and IF.
pub const FIXED_FLAGS: u64 = rflags::FIXED | rflags::INTERRUPT_FLAG;
/// DF, TF and RF: cleared for a handler.
const HANDLER_CLEARS: u64 = rflags::DIRECTION_FLAG | rflags::TRAP_FLAG | rflags::RESUME_FLAG;

/// RFLAGS as a program may have them.
pub fn sanitize_flags(flags: u64) -> u64 {
    flags & USER_FLAGS | FIXED_FLAGS
}

/// RFLAGS behind a system call: as they were before it, which may be as a program sets them by itself.
pub fn kept_flags(flags: u64) -> u64 {
    flags & (USER_FLAGS | rflags::NESTED_TASK | rflags::ID_FLAG) | FIXED_FLAGS
}

/// The order of registers in `struct sigcontext_64`.
fn context_registers(regs: &mut General) -> [&mut u64; 18] {
    [
        &mut regs.r8,
        &mut regs.r9,
        &mut regs.r10,
        &mut regs.r11,
        &mut regs.r12,
        &mut regs.r13,
        &mut regs.r14,
        &mut regs.r15,
        &mut regs.rdi,
        &mut regs.rsi,
        &mut regs.rbp,
        &mut regs.rbx,
        &mut regs.rdx,
        &mut regs.rax,
        &mut regs.rcx,
        &mut regs.rsp,
        &mut regs.rip,
        &mut regs.rflags,
    ]
}

/// What the frame of a handler is built from.
pub struct Context<'a> {
    /// Registers at the interruption; the handler's afterwards.
    pub regs: &'a mut General,
    /// Floating-point state at the interruption.
    pub fp: &'a ExtendedState,
    /// Bytes of the XSAVE area.
    pub fp_size: usize,
    /// Its components: XCR0.
    pub fp_components: u64,
}

/// What `rt_sigreturn` found besides the registers.
#[derive(Debug)]
pub struct Left {
    /// The floating-point state; `None` where the CPU would refuse it, or it cannot be read.
    pub fp: Option<ExtendedState>,
    /// A segment selector that the CPU would refuse.
    pub bad_selector: Option<u16>,
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

impl TaskSignals {
    /// Writes the frame for a handler and points the registers at it.
    ///
    /// # Errors
    /// When the stack cannot take it: the program dies of `SIGSEGV`.
    pub fn enter(
        &mut self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        context: Context<'_>,
        info: &Info,
        action: &Action,
        trampoline: u64,
    ) -> Result<(), MemError> {
        let Context { regs, fp, fp_size, fp_components } = context;
        let on_alt = self.alt.is_used(regs.rsp);
        let to_alt = action.flags & flags::ONSTACK != 0 && self.alt.size > 0 && !on_alt;
        let top =
            if to_alt { self.alt.base.wrapping_add(self.alt.size) } else { regs.rsp.wrapping_sub(RED_ZONE) };
        let area = floating::image(fp, fp_size, fp_components);
        let fp_at = top.wrapping_sub(area.len() as u64) & !63;
        let frame_at = (fp_at.wrapping_sub(layout::SIZE as u64) & !15).wrapping_sub(8);
        // The alternate stack is not left at its end.
        if (on_alt || to_alt) && !self.alt.holds(frame_at) {
            return Err(MemError::BadAddress(frame_at));
        }
        space.write(memory, fp_at, &area)?;

        let mut frame = [0u8; layout::SIZE];
        let restorer = if action.flags & flags::RESTORER != 0 { action.restorer } else { trampoline };
        put(&mut frame, 0, &restorer.to_le_bytes());
        put(&mut frame, layout::UCONTEXT, &UC_FLAGS.to_le_bytes());
        put(&mut frame, layout::STACK, &self.alt.base.to_le_bytes());
        put(&mut frame, layout::STACK + 8, &self.alt.flags.to_le_bytes());
        put(&mut frame, layout::STACK + 16, &self.alt.size.to_le_bytes());
        for (i, register) in context_registers(regs).into_iter().enumerate() {
            put(&mut frame, layout::CONTEXT + i * 8, &register.to_le_bytes());
        }
        let (vector, code, cr2) = self.last_trap;
        put(&mut frame, layout::SELECTORS, &USER_CS.to_le_bytes());
        put(&mut frame, layout::SELECTORS + 6, &USER_DS.to_le_bytes());
        put(&mut frame, layout::SELECTORS + 8, &code.to_le_bytes());
        put(&mut frame, layout::SELECTORS + 16, &u64::from(vector).to_le_bytes());
        let mask = self.saved_mask.unwrap_or(self.mask);
        put(&mut frame, layout::SELECTORS + 24, &mask.to_le_bytes());
        put(&mut frame, layout::SELECTORS + 32, &cr2.to_le_bytes());
        put(&mut frame, layout::FPSTATE, &fp_at.to_le_bytes());
        put(&mut frame, layout::MASK, &mask.to_le_bytes());
        put(&mut frame, layout::SIGINFO, &info.to_bytes());
        space.write(memory, frame_at, &frame)?;

        self.saved_mask = None;
        if self.alt.disarms() {
            self.alt = AltStack::default();
        }
        self.mask |= action.mask;
        if action.flags & flags::NODEFER == 0 {
            self.mask |= bit(info.signal);
        }
        self.mask &= !UNBLOCKABLE;
        regs.rip = action.handler;
        regs.rsp = frame_at;
        regs.rdi = u64::from(info.signal);
        regs.rsi = frame_at + layout::SIGINFO as u64;
        regs.rdx = frame_at + layout::UCONTEXT as u64;
        regs.rax = 0;
        regs.rflags &= !HANDLER_CLEARS;
        Ok(())
    }

    /// Takes back what a handler was entered with: `rt_sigreturn` (`arch/x86/kernel/signal_64.c`).
    ///
    /// # Errors
    /// When the frame is not readable: nothing has changed then.
    pub fn leave(
        &mut self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        regs: &mut General,
        fp_size: usize,
        fp_components: u64,
    ) -> Result<Left, MemError> {
        let frame_at = regs.rsp.wrapping_sub(8);
        let mut frame = [0u8; layout::SIZE];
        space.read(memory, frame_at, &mut frame[..layout::SIGINFO])?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| frame[at + i]));
        let selector = |at: usize| u16::from_le_bytes([frame[at], frame[at + 1]]) | 3;
        self.mask = word(layout::MASK) & !UNBLOCKABLE;
        for (i, register) in context_registers(regs).into_iter().enumerate() {
            *register = word(layout::CONTEXT + i * 8);
        }
        regs.rflags = sanitize_flags(regs.rflags);
        let fp = match floating::read(memory, space, word(layout::FPSTATE), fp_size, fp_components) {
            Ok(fp) => fp,
            Err(MemError::BadAddress(_)) => None,
            Err(e) => return Err(e),
        };
        if fp.is_some() {
            let alt = AltStack {
                base: word(layout::STACK),
                flags: word(layout::STACK + 8) as u32,
                size: word(layout::STACK + 16),
            };
            // As Linux does: a stack that cannot be set is left as it is.
            let _ = self.set_alt(regs.rsp, alt);
        }
        let (cs, ss) = (selector(layout::SELECTORS), selector(layout::SELECTORS + 6));
        let strict = word(layout::UCONTEXT) & UC_STRICT_RESTORE_SS != 0;
        let bad_selector = [(cs, USER_CS), (ss, USER_DS)]
            .into_iter()
            .find(|(selector, good)| selector != good && (strict || *good == USER_CS));
        Ok(Left { fp, bad_selector: bad_selector.map(|(selector, _)| selector) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_sanitized() {
        assert_eq!(sanitize_flags(u64::MAX) & (3 << 12), 0);
        assert_eq!(sanitize_flags(0), FIXED_FLAGS);
    }
}
