//! Signals: what a program has asked for, what is pending, and the frame that a handler runs on.

use serde::{Deserialize, Serialize};

use super::mm::{AddressSpace, MemError, Memory};
use crate::machine::{BadState, expect};
use crate::vcpu::registers::{ExtendedState, General};

#[allow(missing_docs)]
pub mod number {
    //! Signal numbers (`arch/x86/include/uapi/asm/signal.h`).
    pub const SIGHUP: u32 = 1;
    pub const SIGINT: u32 = 2;
    pub const SIGQUIT: u32 = 3;
    pub const SIGILL: u32 = 4;
    pub const SIGTRAP: u32 = 5;
    pub const SIGABRT: u32 = 6;
    pub const SIGBUS: u32 = 7;
    pub const SIGFPE: u32 = 8;
    pub const SIGKILL: u32 = 9;
    pub const SIGSEGV: u32 = 11;
    pub const SIGPIPE: u32 = 13;
    pub const SIGALRM: u32 = 14;
    pub const SIGCHLD: u32 = 17;
    pub const SIGCONT: u32 = 18;
    pub const SIGSTOP: u32 = 19;
    pub const SIGURG: u32 = 23;
    pub const SIGXFSZ: u32 = 25;
    pub const SIGVTALRM: u32 = 26;
    pub const SIGPROF: u32 = 27;
    pub const SIGWINCH: u32 = 28;
    /// The highest.
    pub const MAX: u32 = 64;
}

use number::{MAX, SIGCHLD, SIGCONT, SIGKILL, SIGSTOP, SIGURG, SIGWINCH};

/// The name of a signal, as a shell prints it.
pub fn name(signal: u32) -> String {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    match (signal as usize).checked_sub(1).and_then(|i| NAMES.get(i)) {
        Some(name) => (*name).to_string(),
        None => format!("signal {signal}"),
    }
}

/// `SIG_DFL`.
const DEFAULT: u64 = 0;
/// `SIG_IGN`.
const IGNORE: u64 = 1;

/// `SA_*` flags (`include/uapi/asm-generic/signal-defs.h`).
pub mod flags {
    /// The handler runs on the alternate stack.
    pub const ONSTACK: u64 = 0x0800_0000;
    /// Interrupted calls are made again.
    pub const RESTART: u64 = 0x1000_0000;
    /// The signal is not blocked while its handler runs.
    pub const NODEFER: u64 = 0x4000_0000;
    /// The action goes back to the default when the handler is entered.
    pub const RESETHAND: u64 = 0x8000_0000;
    /// `sa_restorer` is set.
    pub const RESTORER: u64 = 0x0400_0000;
}

/// `struct sigaction` of the kernel's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Handler's address, or `SIG_DFL` (0), or `SIG_IGN` (1).
    pub handler: u64,
    /// [`flags`].
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Signals blocked while it runs.
    pub mask: u64,
}

/// `siginfo_t`, as far as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Signal number.
    pub signal: u32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr` of a fault, or `si_pid` and `si_uid` of a `kill`.
    pub value: u64,
    /// Exception vector, error code and CR2 for the context of a fault.
    pub fault: Option<(u8, u64, u64)>,
}

/// `SI_USER`.
pub const SI_USER: i32 = 0;
/// `SI_KERNEL`.
pub const SI_KERNEL: i32 = 0x80;
/// `SI_TKILL`.
pub const SI_TKILL: i32 = -6;

/// An alternate signal stack; none when its size is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AltStack {
    /// Lowest address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
}

impl AltStack {
    /// Whether a stack pointer lies on it.
    pub fn holds(&self, rsp: u64) -> bool {
        self.size > 0 && rsp.wrapping_sub(self.base) <= self.size
    }

    /// `ss_flags`, as long as no handler runs on it.
    pub fn flags(&self) -> u32 {
        if self.size == 0 { SS_DISABLE } else { 0 }
    }
}

/// `SS_DISABLE`.
pub const SS_DISABLE: u32 = 2;

/// A program's signals.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signals {
    actions: Vec<Action>,
    /// Blocked signals: bit `n - 1` for signal `n`.
    pub mask: u64,
    /// Pending signals, at most one of each.
    pending: Vec<Info>,
    /// The alternate stack.
    pub alt: AltStack,
    /// The mask to go back to after the handler that ends a `sigsuspend`.
    pub saved_mask: Option<u64>,
}

impl Default for Signals {
    fn default() -> Self {
        Signals {
            actions: vec![Action::default(); MAX as usize],
            mask: 0,
            pending: Vec::new(),
            alt: AltStack::default(),
            saved_mask: None,
        }
    }
}

impl Signals {
    /// Checks what a file claims.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self) -> Result<(), BadState> {
        // A program may set the masks and the alternate stack to anything.
        let Signals { actions, mask: _, pending, alt: _, saved_mask: _ } = self;
        expect(actions.len() == MAX as usize, "the signal actions")?;
        let mut seen = 0;
        for Info { signal, code: _, value: _, fault: _ } in pending {
            expect((1..=MAX).contains(signal) && seen & bit(*signal) == 0, "a pending signal")?;
            seen |= bit(*signal);
        }
        Ok(())
    }
}

/// A signal's bit in a mask.
pub fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// What a signal does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// The program ends.
    Terminate,
    /// Nothing.
    Ignore,
}

/// What a signal does when nothing else was asked for (signal(7)). A stop has nobody to continue
/// it here, and is ignored.
pub fn default_action(signal: u32) -> DefaultAction {
    match signal {
        SIGCHLD | SIGCONT | SIGSTOP | SIGURG | SIGWINCH | 20..=22 => DefaultAction::Ignore,
        _ => DefaultAction::Terminate,
    }
}

/// What is to be done about a pending signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Run the handler.
    Handle(Info, Action),
    /// End the program.
    Terminate(Info),
}

impl Signals {
    /// The action of a signal (1 to 64).
    pub fn action(&self, signal: u32) -> Action {
        self.actions.get(signal as usize - 1).copied().unwrap_or_default()
    }

    /// Sets the action of a signal (1 to 64).
    pub fn set_action(&mut self, signal: u32, action: Action) {
        if let Some(slot) = self.actions.get_mut(signal as usize - 1) {
            *slot = action;
        }
        if self.is_ignored(signal) {
            self.pending.retain(|info| info.signal != signal);
        }
    }

    /// For `execve`: handlers are gone, what was ignored stays ignored.
    pub fn reset_handlers(&mut self) {
        for action in &mut self.actions {
            let handler = if action.handler == IGNORE { IGNORE } else { DEFAULT };
            *action = Action { handler, ..Action::default() };
        }
        self.alt = AltStack::default();
    }

    fn is_ignored(&self, signal: u32) -> bool {
        match self.action(signal).handler {
            IGNORE => true,
            DEFAULT => default_action(signal) == DefaultAction::Ignore,
            _ => false,
        }
    }

    /// Makes a signal pending, unless it is ignored.
    pub fn send(&mut self, info: Info) {
        let blocked = self.mask & bit(info.signal) != 0;
        if self.is_ignored(info.signal) && !blocked {
            return;
        }
        if !self.pending.iter().any(|p| p.signal == info.signal) {
            self.pending.push(info);
        }
    }

    /// Sends a signal for something the program itself did: it cannot be blocked or ignored.
    pub fn force(&mut self, info: Info) {
        let blocked = self.mask & bit(info.signal) != 0;
        if blocked || self.action(info.signal).handler == IGNORE {
            self.set_action(info.signal, Action::default());
            self.mask &= !bit(info.signal);
        }
        self.pending.retain(|p| p.signal != info.signal);
        self.pending.insert(0, info);
    }

    /// Signals that end the program when they come: bits.
    pub fn fatal(&self) -> u64 {
        let ends = |signal: &u32| {
            let default = self.action(*signal).handler == DEFAULT;
            default && default_action(*signal) == DefaultAction::Terminate
        };
        let ends = (1..=MAX).filter(ends).fold(0, |bits, signal| bits | bit(signal));
        ends & !self.mask | bit(SIGKILL)
    }

    /// The signals that are ignored, and those that have handlers: bits.
    pub fn handled_bits(&self) -> (u64, u64) {
        let with = |wanted: fn(u64) -> bool| {
            let actions = self.actions.iter().enumerate();
            actions.filter(|(_, a)| wanted(a.handler)).fold(0, |bits, (i, _)| bits | 1 << i)
        };
        (with(|handler| handler == IGNORE), with(|handler| handler > IGNORE))
    }

    /// Signals that are pending and blocked: bits.
    pub fn pending_bits(&self) -> u64 {
        self.pending.iter().fold(0, |bits, info| bits | bit(info.signal))
    }

    /// Whether a signal waits to be delivered.
    pub fn any_deliverable(&self) -> bool {
        self.pending.iter().any(|info| self.mask & bit(info.signal) == 0 || info.signal == SIGKILL)
    }

    /// Takes the next signal to deliver, in the order in which they came.
    pub fn take_next(&mut self) -> Option<Delivery> {
        loop {
            let at =
                self.pending.iter().position(|i| self.mask & bit(i.signal) == 0 || i.signal == SIGKILL)?;
            let info = self.pending.remove(at);
            let action = self.action(info.signal);
            match (info.signal, action.handler) {
                (SIGKILL, _) => return Some(Delivery::Terminate(info)),
                (_, IGNORE) => {}
                (signal, DEFAULT) => match default_action(signal) {
                    DefaultAction::Ignore => {}
                    DefaultAction::Terminate => return Some(Delivery::Terminate(info)),
                },
                _ => {
                    if action.flags & flags::RESETHAND != 0 {
                        self.set_action(info.signal, Action { handler: DEFAULT, ..action });
                    }
                    return Some(Delivery::Handle(info, action));
                }
            }
        }
    }
}

/// Sizes and offsets of `struct rt_sigframe` (`arch/x86/include/asm/sigframe.h`): return address,
/// ucontext, siginfo.
mod layout {
    pub const UCONTEXT: usize = 8;
    pub const STACK: usize = UCONTEXT + 16;
    pub const CONTEXT: usize = UCONTEXT + 40;
    pub const MASK: usize = CONTEXT + 256;
    pub const SIGINFO: usize = MASK + 8;
    pub const SIZE: usize = SIGINFO + 128;
    /// In the context: segment selectors, error code, trap number, CR2, pointer to the FPU state.
    pub const SELECTORS: usize = CONTEXT + 144;
    pub const FPSTATE: usize = CONTEXT + 184;
}

/// `FP_XSTATE_MAGIC1`, `FP_XSTATE_MAGIC2` (`arch/x86/include/uapi/asm/sigcontext.h`).
const FP_MAGIC1: u32 = 0x4650_5853;
const FP_MAGIC2: u32 = 0x4650_5845;
/// Offset of the software-reserved bytes in the FXSAVE area.
const FP_RESERVED: usize = 464;
/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS: u64 = 7;
/// Bytes below RSP that a function may use.
const RED_ZONE: u64 = 128;
/// RFLAGS bits that a program may set through a signal frame (`FIX_EFLAGS`).
const USER_FLAGS: u64 = 0x5_0dd5;
/// RFLAGS that are always set here: bit 1 and IF.
pub const FIXED_FLAGS: u64 = 0x202;
/// DF, TF and RF: cleared for a handler.
const HANDLER_CLEARS: u64 = 1 << 10 | 1 << 8 | 1 << 16;

/// RFLAGS as a program may have them.
pub fn sanitize_flags(flags: u64) -> u64 {
    flags & USER_FLAGS | FIXED_FLAGS
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

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Signals {
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
        let use_alt = action.flags & flags::ONSTACK != 0 && self.alt.size > 0 && !self.alt.holds(regs.rsp);
        let top =
            if use_alt { self.alt.base.wrapping_add(self.alt.size) } else { regs.rsp.wrapping_sub(RED_ZONE) };
        let fp_at = top.wrapping_sub(fp_size as u64 + 4) & !63;
        let frame_at = (fp_at.wrapping_sub(layout::SIZE as u64) & !15).wrapping_sub(8);

        let mut area = fp.image(fp_size);
        put(&mut area, FP_RESERVED, &FP_MAGIC1.to_le_bytes());
        put(&mut area, FP_RESERVED + 4, &(fp_size as u32 + 4).to_le_bytes());
        put(&mut area, FP_RESERVED + 8, &fp_components.to_le_bytes());
        put(&mut area, FP_RESERVED + 16, &(fp_size as u32).to_le_bytes());
        area.extend_from_slice(&FP_MAGIC2.to_le_bytes());
        space.write(memory, fp_at, &area)?;

        let mut frame = [0u8; layout::SIZE];
        let restorer = if action.flags & flags::RESTORER != 0 { action.restorer } else { trampoline };
        put(&mut frame, 0, &restorer.to_le_bytes());
        put(&mut frame, layout::UCONTEXT, &UC_FLAGS.to_le_bytes());
        put(&mut frame, layout::STACK, &self.alt.base.to_le_bytes());
        put(&mut frame, layout::STACK + 8, &self.alt.flags().to_le_bytes());
        put(&mut frame, layout::STACK + 16, &self.alt.size.to_le_bytes());
        for (i, register) in context_registers(regs).into_iter().enumerate() {
            put(&mut frame, layout::CONTEXT + i * 8, &register.to_le_bytes());
        }
        let (vector, code, cr2) = info.fault.unwrap_or_default();
        put(&mut frame, layout::SELECTORS, &super::entry::USER_CS.to_le_bytes());
        put(&mut frame, layout::SELECTORS + 6, &super::entry::USER_DS.to_le_bytes());
        put(&mut frame, layout::SELECTORS + 8, &code.to_le_bytes());
        put(&mut frame, layout::SELECTORS + 16, &u64::from(vector).to_le_bytes());
        let mask = self.saved_mask.take().unwrap_or(self.mask);
        put(&mut frame, layout::SELECTORS + 24, &mask.to_le_bytes());
        put(&mut frame, layout::SELECTORS + 32, &cr2.to_le_bytes());
        put(&mut frame, layout::FPSTATE, &fp_at.to_le_bytes());
        put(&mut frame, layout::MASK, &mask.to_le_bytes());
        put(&mut frame, layout::SIGINFO, &info.signal.to_le_bytes());
        put(&mut frame, layout::SIGINFO + 8, &info.code.to_le_bytes());
        put(&mut frame, layout::SIGINFO + 16, &info.value.to_le_bytes());
        space.write(memory, frame_at, &frame)?;

        self.mask |= action.mask;
        if action.flags & flags::NODEFER == 0 {
            self.mask |= bit(info.signal);
        }
        self.mask &= !(bit(SIGKILL) | bit(SIGSTOP));
        regs.rip = action.handler;
        regs.rsp = frame_at;
        regs.rdi = u64::from(info.signal);
        regs.rsi = frame_at + layout::SIGINFO as u64;
        regs.rdx = frame_at + layout::UCONTEXT as u64;
        regs.rax = 0;
        regs.rflags &= !HANDLER_CLEARS;
        Ok(())
    }

    /// Takes back what a handler was entered with: `rt_sigreturn`. Returns the floating-point state,
    /// if the frame has one.
    ///
    /// # Errors
    /// When the frame is not readable: the program dies of `SIGSEGV`.
    pub fn leave(
        &mut self,
        memory: &mut Memory,
        space: &mut AddressSpace,
        regs: &mut General,
        fp_size: usize,
    ) -> Result<Option<ExtendedState>, MemError> {
        let frame_at = regs.rsp.wrapping_sub(8);
        let mut frame = [0u8; layout::SIZE];
        space.read(memory, frame_at, &mut frame)?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| frame[at + i]));
        for (i, register) in context_registers(regs).into_iter().enumerate() {
            *register = word(layout::CONTEXT + i * 8);
        }
        regs.rflags = sanitize_flags(regs.rflags);
        self.mask = word(layout::MASK) & !(bit(SIGKILL) | bit(SIGSTOP));
        let fp_at = word(layout::FPSTATE);
        if fp_at == 0 {
            return Ok(None);
        }
        let mut area = vec![0u8; fp_size];
        space.read(memory, fp_at, &mut area)?;
        area[FP_RESERVED..512].fill(0);
        Ok(Some(ExtendedState::from_bytes(&area)))
    }
}

#[cfg(test)]
mod tests {
    use super::number::*;
    use super::*;

    #[test]
    fn ignored_signals_do_not_pend() {
        let mut signals = Signals::default();
        signals.send(Info { signal: SIGCHLD, ..Default::default() });
        assert_eq!(signals.take_next(), None);
        signals.send(Info { signal: SIGPIPE, ..Default::default() });
        assert!(matches!(signals.take_next(), Some(Delivery::Terminate(i)) if i.signal == SIGPIPE));
    }

    #[test]
    fn blocked_signals_wait() {
        let mut signals = Signals { mask: bit(SIGINT), ..Default::default() };
        signals.set_action(SIGINT, Action { handler: 0x1000, ..Default::default() });
        signals.send(Info { signal: SIGINT, ..Default::default() });
        signals.send(Info { signal: SIGINT, ..Default::default() });
        assert_eq!(signals.take_next(), None);
        assert_eq!(signals.pending_bits(), bit(SIGINT));
        signals.mask = 0;
        assert!(matches!(signals.take_next(), Some(Delivery::Handle(..))));
        assert_eq!(signals.take_next(), None);
    }

    #[test]
    fn a_forced_signal_cannot_be_blocked() {
        let mut signals = Signals { mask: bit(SIGSEGV), ..Default::default() };
        signals.set_action(SIGSEGV, Action { handler: 0x1000, ..Default::default() });
        signals.force(Info { signal: SIGSEGV, ..Default::default() });
        assert!(matches!(signals.take_next(), Some(Delivery::Terminate(_))));
    }

    #[test]
    fn flags_are_sanitized() {
        assert_eq!(sanitize_flags(u64::MAX) & (3 << 12), 0);
        assert_eq!(sanitize_flags(0), FIXED_FLAGS);
    }
}
