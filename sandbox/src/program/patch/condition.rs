//! Conditions of breakpoints, in the words of gdb's agent: a small program for a stack machine, which reads
//! registers and memory of the stopped task and leaves a number (gdb's manual, appendix "The GDB Agent Expression
//! Mechanism").

use std::sync::Arc;

use super::bytecode::{self, ConditionError};
use crate::entry::{USER_CS, USER_DS};
use crate::vcpu::registers::UserRegisters;

/// What must hold where a breakpoint is to stop a program.
///
/// It has no loops, so that it ends, and its stack is bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    ops: Arc<[Op]>,
}

/// An operation. Numbers are 64 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Pushes a number.
    Push(u64),
    /// Pushes a register.
    Register(Register),
    /// Takes two numbers and pushes one.
    Binary(Binary),
    /// Whether the number is 0.
    LogicalNot,
    /// The number's complement.
    Complement,
    /// Extends the number's so many low bits, 1 to 64, by the highest of them.
    SignExtend(u8),
    /// Extends the number's so many low bits, 1 to 64, by zeros.
    ZeroExtend(u8),
    /// Takes an address and pushes the so many bytes there, 1 to 8.
    Load(u8),
    /// Pushes the number at this place of the stack again, 0 for the top.
    Pick(u8),
    /// Drops the top.
    Pop,
    /// Swaps the top and what is below.
    Swap,
    /// Brings the top below the two that are below it.
    Rotate,
    /// Takes a number, and goes on at this operation unless it is 0.
    GotoIf(usize),
    /// Goes on at this operation.
    Goto(usize),
    /// The top is what comes out.
    End,
}

/// Operations on two numbers, of which the second is the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    DivSigned,
    DivUnsigned,
    RemSigned,
    RemUnsigned,
    ShiftLeft,
    ShiftRightSigned,
    ShiftRightUnsigned,
    And,
    Or,
    Xor,
    Equal,
    LessSigned,
    LessUnsigned,
}

/// Registers that a condition can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// A general register, as gdb counts them: 0 to 15.
    General(u8),
    Rip,
    Rflags,
    /// A segment's selector.
    Selector(u16),
    FsBase,
    GsBase,
}

impl Register {
    /// By gdb's number (`gdb/features/i386/64bit-core.xml`, `64bit-linux.xml` and `64bit-segments.xml`, in the
    /// order of `amd64-linux.xml`), if it is one of these.
    pub fn of_gdb(number: u16) -> Option<Register> {
        Some(match number {
            0..=15 => Register::General(number as u8),
            16 => Register::Rip,
            17 => Register::Rflags,
            18 => Register::Selector(USER_CS),
            19 => Register::Selector(USER_DS),
            20..=23 => Register::Selector(0),
            58 => Register::FsBase,
            59 => Register::GsBase,
            _ => return None,
        })
    }

    fn of(self, regs: &UserRegisters) -> u64 {
        let g = &regs.general;
        match self {
            Register::General(number) => {
                let general = [
                    g.rax, g.rbx, g.rcx, g.rdx, g.rsi, g.rdi, g.rbp, g.rsp, g.r8, g.r9, g.r10, g.r11, g.r12,
                    g.r13, g.r14, g.r15,
                ];
                general[usize::from(number % 16)]
            }
            Register::Rip => g.rip,
            Register::Rflags => g.rflags,
            Register::Selector(selector) => selector.into(),
            Register::FsBase => regs.fs_base,
            Register::GsBase => regs.gs_base,
        }
    }
}

impl Condition {
    /// Checks a condition's bytecode, once for all.
    ///
    /// # Errors
    /// [`ConditionError`] where something of it is unknown, or its end or its stack are not sure.
    pub fn new(bytecode: &[u8]) -> Result<Condition, ConditionError> {
        Ok(Condition { ops: bytecode::parse(bytecode)?.into() })
    }

    /// Its operations. Jumps lead forwards only.
    pub(super) fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Whether it reads the bases of segments, which a program may have changed unseen.
    pub(crate) fn reads_bases(&self) -> bool {
        let is_base = |op: &Op| matches!(op, Op::Register(Register::FsBase | Register::GsBase));
        self.ops.iter().any(is_base)
    }

    /// Whether it holds, with these registers and what `read` finds at addresses. Where it cannot be told, since
    /// memory cannot be read or a number is divided by 0, it holds: a debugger is to say so.
    pub fn holds(&self, regs: &UserRegisters, read: &mut dyn FnMut(u64, &mut [u8]) -> bool) -> bool {
        self.evaluate(regs, read) != Some(0)
    }

    fn evaluate(&self, regs: &UserRegisters, read: &mut dyn FnMut(u64, &mut [u8]) -> bool) -> Option<u64> {
        let mut stack: Vec<u64> = Vec::new();
        let mut at = 0;
        loop {
            let op = *self.ops.get(at)?;
            at += 1;
            match op {
                Op::Push(number) => stack.push(number),
                Op::Register(register) => stack.push(register.of(regs)),
                Op::Binary(binary) => {
                    let (b, a) = (stack.pop()?, stack.pop()?);
                    stack.push(binary.of(a, b)?);
                }
                Op::LogicalNot => change(&mut stack, |a| u64::from(a == 0))?,
                Op::Complement => change(&mut stack, |a| !a)?,
                Op::SignExtend(bits) => {
                    let unused = 64 - u32::from(bits);
                    change(&mut stack, |a| ((a << unused) as i64 >> unused) as u64)?;
                }
                Op::ZeroExtend(bits) => {
                    let unused = 64 - u32::from(bits);
                    change(&mut stack, |a| a << unused >> unused)?;
                }
                Op::Load(bytes) => {
                    let mut loaded = [0; 8];
                    if !read(stack.pop()?, &mut loaded[..usize::from(bytes)]) {
                        return None;
                    }
                    stack.push(u64::from_le_bytes(loaded));
                }
                Op::Pick(below) => {
                    let at = stack.len().checked_sub(1 + usize::from(below))?;
                    stack.push(*stack.get(at)?);
                }
                Op::Pop => drop(stack.pop()?),
                Op::Swap => {
                    let (b, a) = (stack.pop()?, stack.pop()?);
                    stack.extend([b, a]);
                }
                Op::Rotate => {
                    let (c, b, a) = (stack.pop()?, stack.pop()?, stack.pop()?);
                    stack.extend([c, a, b]);
                }
                Op::GotoIf(target) => {
                    if stack.pop()? != 0 {
                        at = target;
                    }
                }
                Op::Goto(target) => at = target,
                Op::End => return stack.pop(),
            }
        }
    }
}

/// Changes the top.
fn change(stack: &mut [u64], by: impl Fn(u64) -> u64) -> Option<()> {
    let top = stack.last_mut()?;
    *top = by(*top);
    Some(())
}

impl Binary {
    /// `None` where there is no number: a division by 0, or one that overflows.
    fn of(self, a: u64, b: u64) -> Option<u64> {
        let (signed_a, signed_b) = (a as i64, b as i64);
        let shift = u32::try_from(b).unwrap_or(u32::MAX);
        Some(match self {
            Binary::Add => a.wrapping_add(b),
            Binary::Sub => a.wrapping_sub(b),
            Binary::Mul => a.wrapping_mul(b),
            Binary::DivSigned => signed_a.checked_div(signed_b)? as u64,
            Binary::DivUnsigned => a.checked_div(b)?,
            Binary::RemSigned => signed_a.checked_rem(signed_b)? as u64,
            Binary::RemUnsigned => a.checked_rem(b)?,
            Binary::ShiftLeft => a.checked_shl(shift).unwrap_or(0),
            Binary::ShiftRightSigned => (signed_a >> shift.min(63)) as u64,
            Binary::ShiftRightUnsigned => a.checked_shr(shift).unwrap_or(0),
            Binary::And => a & b,
            Binary::Or => a | b,
            Binary::Xor => a ^ b,
            Binary::Equal => u64::from(a == b),
            Binary::LessSigned => u64::from(signed_a < signed_b),
            Binary::LessUnsigned => u64::from(a < b),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytecode::code::*;
    use super::*;
    use crate::vcpu::registers::General;

    /// Runs bytecode. Memory is what the address says: each byte its low byte, from 0x1000 to 0x2000.
    fn run(code: &[u8]) -> Option<u64> {
        let general = General { rax: 7, rbp: 0x1010, rip: 0x40_0000, rflags: 0x202, ..General::default() };
        let regs = UserRegisters { general, fs_base: 0xf5, gs_base: 0x65 };
        let mut read = |address: u64, out: &mut [u8]| {
            let there = (0x1000..=0x2000 - out.len() as u64).contains(&address);
            out.iter_mut().zip(address..).for_each(|(byte, at)| *byte = at as u8);
            there
        };
        let condition = Condition::new(code).unwrap();
        let value = condition.evaluate(&regs, &mut read);
        assert_eq!(condition.holds(&regs, &mut read), value != Some(0));
        value
    }

    /// Of two numbers.
    fn of(op: u8, a: i64, b: i64) -> Option<u64> {
        let push = |number: i64| [&[CONST64][..], &number.to_be_bytes()].concat();
        run(&[push(a), push(b), vec![op, END]].concat())
    }

    #[test]
    fn arithmetic() {
        assert_eq!(of(ADD, -1, 3), Some(2));
        assert_eq!(of(SUB, 1, 3), Some(-2i64 as u64));
        assert_eq!(of(MUL, -2, 3), Some(-6i64 as u64));
        assert_eq!((of(DIV_SIGNED, -7, 2), of(REM_SIGNED, -7, 2)), (Some(-3i64 as u64), Some(-1i64 as u64)));
        assert_eq!((of(DIV_UNSIGNED, -1, 2), of(REM_UNSIGNED, -1, 2)), (Some(i64::MAX as u64), Some(1)));
        assert_eq!((of(DIV_SIGNED, 1, 0), of(DIV_SIGNED, i64::MIN, -1)), (None, None));
        assert_eq!((of(REM_UNSIGNED, 1, 0), of(REM_SIGNED, 1, 0)), (None, None));
        assert_eq!((of(LSH, 1, 63), of(LSH, 1, 64), of(LSH, 1, -1)), (Some(1 << 63), Some(0), Some(0)));
        assert_eq!((of(RSH_SIGNED, -8, 1), of(RSH_SIGNED, -8, 99)), (Some(-4i64 as u64), Some(u64::MAX)));
        assert_eq!((of(RSH_UNSIGNED, -1, 60), of(RSH_UNSIGNED, -1, 64)), (Some(15), Some(0)));
        assert_eq!((of(BIT_AND, 6, 3), of(BIT_OR, 6, 3), of(BIT_XOR, 6, 3)), (Some(2), Some(7), Some(5)));
        assert_eq!((of(EQUAL, 3, 3), of(EQUAL, 3, 4)), (Some(1), Some(0)));
        assert_eq!((of(LESS_SIGNED, -1, 0), of(LESS_UNSIGNED, -1, 0)), (Some(1), Some(0)));
        assert_eq!(run(&[CONST8, 0, LOG_NOT, END]), Some(1));
        assert_eq!(run(&[CONST8, 0, BIT_NOT, END]), Some(u64::MAX));
        assert_eq!(run(&[CONST16, 1, 0x80, EXT, 8, END]), Some(-128i64 as u64));
        assert_eq!(run(&[CONST16, 1, 0x80, ZERO_EXT, 8, END]), Some(0x80));
        assert_eq!(run(&[CONST32, 0xff, 1, 2, 3, END]), Some(0xff01_0203));
        assert_eq!(run(&[CONST8, 0xff, EXT, 64, ZERO_EXT, 64, END]), Some(0xff));
    }

    #[test]
    fn registers_and_memory() {
        assert_eq!(run(&[REG, 0, 0, END]), Some(7));
        assert_eq!(run(&[REG, 0, 16, REG, 0, 17, ADD, END]), Some(0x40_0202));
        assert_eq!(run(&[REG, 0, 18, END]), Some(0x33));
        assert_eq!(run(&[REG, 0, 58, REG, 0, 59, SUB, END]), Some(0x90));
        // `*(int *) (rbp - 4) == 0x0f0e0d0c`, as gdb says it.
        let code = [REG, 0, 6, CONST8, 4, SUB, REF32, EXT, 32, CONST32, 0x0f, 0x0e, 0x0d, 0x0c, EQUAL, END];
        assert_eq!(run(&code), Some(1));
        assert_eq!(run(&[REG, 0, 6, REF8, END]), Some(0x10));
        assert_eq!(run(&[REG, 0, 6, REF16, END]), Some(0x1110));
        assert_eq!(run(&[REG, 0, 6, REF64, END]), Some(0x1716_1514_1312_1110));
        assert_eq!(run(&[CONST16, 0x1f, 0xff, REF16, END]), None);
        assert_eq!(run(&[CONST8, 0, REF8, CONST8, 0, BIT_AND, END]), None);
    }

    #[test]
    fn the_stack_and_jumps() {
        let push = |ops: &[u8]| run(&[&[CONST8, 1, CONST8, 2, CONST8, 3][..], ops, &[END]].concat());
        assert_eq!(push(&[DUP, ADD]), Some(6));
        assert_eq!(push(&[POP]), Some(2));
        assert_eq!(push(&[SWAP]), Some(2));
        assert_eq!(push(&[ROT]), Some(2));
        assert_eq!(push(&[ROT, POP]), Some(1));
        assert_eq!(push(&[PICK, 2]), Some(1));
        // `a ? 5 : 6`.
        let choose = |a| run(&[CONST8, a, IF_GOTO, 0, 10, CONST8, 6, GOTO, 0, 12, CONST8, 5, END]);
        assert_eq!((choose(1), choose(0)), (Some(5), Some(6)));
        // `a && b`, as gdb says it.
        let both = |a, b| {
            run(&[
                CONST8, a, IF_GOTO, 0, 10, CONST8, 0, GOTO, 0, 17, CONST8, b, LOG_NOT, LOG_NOT, GOTO, 0, 17,
                END,
            ])
        };
        assert_eq!((both(1, 5), both(1, 0), both(0, 5)), (Some(1), Some(0), Some(0)));
    }

    #[test]
    fn bases_are_known() {
        assert!(Condition::new(&[REG, 0, 58, END]).unwrap().reads_bases());
        assert!(!Condition::new(&[REG, 0, 7, END]).unwrap().reads_bases());
    }
}
