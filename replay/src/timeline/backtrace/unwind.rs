//! From the registers of a function to those of the one that called it: DWARF's call frame information
//! (DWARF 5, section 6.4; numbers of registers: System V ABI for x86-64, figure 3.36).

use dejavm_sandbox::vcpu::registers::General;
use gimli::{
    BaseAddresses, CfaRule, EhFrame, Encoding, EvaluationResult, Expression, LittleEndian, Location,
    Register, RegisterRule, UnwindContext, UnwindSection, Value, X86_64,
};

use super::super::Timeline;

/// Bytes, as gimli reads them.
pub(super) type Bytes = gimli::EndianArcSlice<LittleEndian>;

/// Registers that have a number in unwind tables: the general ones and RIP.
const COUNT: usize = 17;

/// Registers that a function gives back as they were (System V ABI, figure 3.4), when its table is silent.
const KEPT: [Register; 6] = [X86_64::RBX, X86_64::RBP, X86_64::R12, X86_64::R13, X86_64::R14, X86_64::R15];

/// Operations that one expression may take.
const MOST_OPERATIONS: u32 = 1000;

/// The memory that stacks are in.
pub(super) struct Stack<'a>(pub &'a Timeline);

impl Stack<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        self.bytes(address, 8)
    }

    /// A number of so many bytes, 8 at most.
    fn bytes(&self, address: u64, size: u8) -> Option<u64> {
        let mut word = [0; 8];
        let out = word.get_mut(..usize::from(size))?;
        (self.0.look_at_memory(address, out) == out.len()).then(|| u64::from_le_bytes(word))
    }
}

/// Registers, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registers([Option<u64>; COUNT]);

impl Registers {
    /// Those of a task.
    pub fn of(g: &General) -> Registers {
        let values = [
            g.rax, g.rdx, g.rcx, g.rbx, g.rsi, g.rdi, g.rbp, g.rsp, g.r8, g.r9, g.r10, g.r11, g.r12, g.r13,
            g.r14, g.r15, g.rip,
        ];
        Registers(values.map(Some))
    }

    /// Where it goes on.
    pub fn rip(&self) -> u64 {
        self.get(X86_64::RA).unwrap_or(0)
    }

    /// Its stack.
    pub fn rsp(&self) -> u64 {
        self.get(X86_64::RSP).unwrap_or(0)
    }

    fn get(&self, register: Register) -> Option<u64> {
        self.0.get(usize::from(register.0)).copied().flatten()
    }

    fn set(&mut self, register: Register, value: Option<u64>) {
        if let Some(known) = self.0.get_mut(usize::from(register.0)) {
            *known = value;
        }
    }

    /// As of a function that has done nothing yet.
    pub fn by_return(&self, stack: &Stack<'_>) -> Option<Registers> {
        let mut caller = self.clone();
        caller.set(X86_64::RA, stack.word(self.rsp()));
        caller.set(X86_64::RSP, self.rsp().checked_add(8));
        Some(caller)
    }

    /// As of a function that keeps a frame pointer.
    pub fn by_frame_pointer(&self, stack: &Stack<'_>) -> Option<Registers> {
        let frame = self.get(X86_64::RBP).filter(|frame| *frame >= self.rsp() && frame % 8 == 0)?;
        let mut caller = self.clone();
        caller.set(X86_64::RBP, Some(stack.word(frame)?));
        caller.set(X86_64::RA, Some(stack.word(frame.checked_add(8)?)?));
        caller.set(X86_64::RSP, frame.checked_add(16));
        Some(caller)
    }
}

/// What a frame was entered from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unwound {
    /// This function called it, and goes on with these registers.
    Caller(Registers),
    /// It is a signal's trampoline, and this function was interrupted.
    Interrupted(Registers),
    /// Nothing called it.
    Outermost,
}

/// An `.eh_frame`.
#[derive(Debug)]
pub(super) struct Tables {
    section: EhFrame<Bytes>,
    bases: BaseAddresses,
}

impl Tables {
    /// A section that belongs to this address.
    pub fn new(section: Bytes, address: u64) -> Tables {
        let mut section = EhFrame::from(section);
        section.set_address_size(8);
        Tables { section, bases: BaseAddresses::default().set_eh_frame(address) }
    }

    /// The caller's frame, by the tables for an address. `None` when they have nothing for it.
    pub fn unwind(&self, address: u64, registers: &Registers, stack: &Stack<'_>) -> Option<Unwound> {
        let entry = self.section.fde_for_address(&self.bases, address, EhFrame::cie_from_offset).ok()?;
        let encoding = entry.cie().encoding();
        let mut context = UnwindContext::new();
        let row = entry.unwind_info_for_address(&self.section, &self.bases, &mut context, address).ok()?;
        let frame = Frame { tables: self, encoding, registers, stack };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                registers.get(*register).map(|value| value.wrapping_add_signed(*offset))
            }
            CfaRule::Expression(expression) => {
                expression.get(&self.section).ok().and_then(|expression| frame.evaluate(expression, None))
            }
        };
        let Some(cfa) = cfa else { return Some(Unwound::Outermost) };
        let mut caller = Registers([None; COUNT]);
        for number in (0..).take(COUNT).map(Register) {
            let value = match row.register(number) {
                Some(rule) => frame.restored(&rule, number, cfa),
                None if KEPT.contains(&number) => registers.get(number),
                None => None,
            };
            caller.set(number, value);
        }
        if caller.get(X86_64::RSP).is_none() {
            caller.set(X86_64::RSP, Some(cfa));
        }
        Some(match caller.get(X86_64::RA) {
            None => Unwound::Outermost,
            Some(_) if entry.is_signal_trampoline() => Unwound::Interrupted(caller),
            Some(_) => Unwound::Caller(caller),
        })
    }
}

/// A function's frame, while its caller is looked for.
struct Frame<'a> {
    tables: &'a Tables,
    encoding: Encoding,
    registers: &'a Registers,
    stack: &'a Stack<'a>,
}

impl Frame<'_> {
    /// A register of the caller.
    fn restored(&self, rule: &RegisterRule<usize>, register: Register, cfa: u64) -> Option<u64> {
        let evaluate = |expression: &gimli::UnwindExpression<usize>| {
            self.evaluate(expression.get(&self.tables.section).ok()?, Some(cfa))
        };
        match rule {
            RegisterRule::SameValue => self.registers.get(register),
            RegisterRule::Offset(offset) => self.stack.word(cfa.wrapping_add_signed(*offset)),
            RegisterRule::ValOffset(offset) => Some(cfa.wrapping_add_signed(*offset)),
            RegisterRule::Register(other) => self.registers.get(*other),
            RegisterRule::Expression(expression) => self.stack.word(evaluate(expression)?),
            RegisterRule::ValExpression(expression) => evaluate(expression),
            RegisterRule::Constant(value) => Some(*value),
            _ => None,
        }
    }

    /// What an expression gives, with this on its stack.
    fn evaluate(&self, expression: Expression<Bytes>, first: Option<u64>) -> Option<u64> {
        let mut evaluation = expression.evaluation(self.encoding);
        evaluation.set_max_iterations(MOST_OPERATIONS);
        if let Some(first) = first {
            evaluation.set_initial_value(first);
        }
        let mut state = evaluation.evaluate().ok()?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let value = self.stack.bytes(address, size)?;
                    evaluation.resume_with_memory(Value::Generic(value)).ok()?
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.registers.get(register)?;
                    evaluation.resume_with_register(Value::Generic(value)).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.result().first()?.location {
            Location::Address { address } => Some(address),
            _ => None,
        }
    }
}
