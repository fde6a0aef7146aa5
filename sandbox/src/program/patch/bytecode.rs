//! The bytecode of conditions: its numbers, and the check of it.

use std::collections::BTreeMap;

use super::condition::{Binary, Op, Register};

/// The opcodes of gdb's agent (`gdbsupport/ax.def`); numbers in the code are big-endian.
pub(super) mod code {
    macro_rules! opcodes {
        ($($name:ident = $number:literal),* $(,)?) => { $(pub const $name: u8 = $number;)* };
    }

    opcodes! {
        ADD = 0x02, SUB = 0x03, MUL = 0x04, DIV_SIGNED = 0x05, DIV_UNSIGNED = 0x06, REM_SIGNED = 0x07,
        REM_UNSIGNED = 0x08, LSH = 0x09, RSH_SIGNED = 0x0a, RSH_UNSIGNED = 0x0b, LOG_NOT = 0x0e,
        BIT_AND = 0x0f, BIT_OR = 0x10, BIT_XOR = 0x11, BIT_NOT = 0x12, EQUAL = 0x13, LESS_SIGNED = 0x14,
        LESS_UNSIGNED = 0x15, EXT = 0x16, REF8 = 0x17, REF16 = 0x18, REF32 = 0x19, REF64 = 0x1a,
        IF_GOTO = 0x20, GOTO = 0x21, CONST8 = 0x22, CONST16 = 0x23, CONST32 = 0x24, CONST64 = 0x25,
        REG = 0x26, END = 0x27, DUP = 0x28, POP = 0x29, ZERO_EXT = 0x2a, SWAP = 0x2b, PICK = 0x32, ROT = 0x33,
    }
}

/// Bytes of a condition at most: what a jump can reach.
const MAX_BYTES: usize = 1 << 16;
/// Numbers on the stack at most, as many as gdbserver has.
pub(super) const MAX_DEPTH: usize = 100;

/// Why bytecode is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionError {
    /// An operation that is not known, or does more than reading, or reads floating-point numbers.
    #[error("a condition with the operation {code:#x} at byte {at}, which cannot be evaluated here")]
    Operation {
        /// The opcode.
        code: u8,
        /// Its offset.
        at: usize,
    },
    /// A register that is not general, nor a segment's.
    #[error("a condition that reads register {0}, which cannot be evaluated here")]
    Register(u16),
    /// A number in an operation that makes no sense.
    #[error("a condition with a wrong number at byte {0}")]
    Number(usize),
    /// A jump backwards, into an operation, or beyond the end.
    #[error("a condition with a jump to byte {0}, which is not ahead of it")]
    Jump(usize),
    /// Takes from an empty stack, or has too much on it, or not the same on two ways to an operation.
    #[error("a condition with a wrong stack at byte {0}")]
    Stack(usize),
    /// It does not end, or is longer than what jumps can reach.
    #[error("a condition without an end")]
    End,
}

/// Reads the bytecode and checks it: the operations that can be reached, in their order.
pub(super) fn parse(bytecode: &[u8]) -> Result<Vec<Op>, ConditionError> {
    if bytecode.len() > MAX_BYTES {
        return Err(ConditionError::End);
    }
    let mut ops = Vec::new();
    // Which operation is at which byte.
    let mut places = BTreeMap::new();
    // Numbers on the stack at the targets of jumps that are still ahead.
    let mut targets: BTreeMap<usize, usize> = BTreeMap::new();
    let mut at = 0;
    // None where no way leads.
    let mut depth = Some(0);
    loop {
        let jumped = targets.remove(&at);
        let here = match (depth, jumped) {
            (Some(depth), Some(jumped)) if depth != jumped => return Err(ConditionError::Stack(at)),
            (Some(depth), _) | (None, Some(depth)) => depth,
            (None, None) => match targets.keys().next() {
                Some(next) => {
                    at = *next;
                    continue;
                }
                None => break,
            },
        };
        let (op, len) = decode(bytecode, at)?;
        let next = at + len;
        let (takes, gives) = op.effect();
        let behind = here.checked_sub(takes).map(|left| left + gives).filter(|depth| *depth <= MAX_DEPTH);
        let behind = behind.ok_or(ConditionError::Stack(at))?;
        if let Op::Goto(target) | Op::GotoIf(target) = op {
            if target < next {
                return Err(ConditionError::Jump(target));
            }
            if targets.insert(target, behind).is_some_and(|before| before != behind) {
                return Err(ConditionError::Stack(target));
            }
        }
        if let Some(inside) = targets.keys().next().filter(|target| **target < next) {
            return Err(ConditionError::Jump(*inside));
        }
        places.insert(at, ops.len());
        ops.push(op);
        depth = (!matches!(op, Op::Goto(_) | Op::End)).then_some(behind);
        at = next;
    }
    for op in &mut ops {
        if let Op::Goto(target) | Op::GotoIf(target) = op {
            *target = *places.get(target).ok_or(ConditionError::Jump(*target))?;
        }
    }
    Ok(ops)
}

impl Op {
    /// Numbers that it needs on the stack, and that are there instead of them behind it.
    fn effect(self) -> (usize, usize) {
        match self {
            Op::Push(_) | Op::Register(_) => (0, 1),
            Op::Binary(_) => (2, 1),
            Op::LogicalNot | Op::Complement | Op::SignExtend(_) | Op::ZeroExtend(_) | Op::Load(_) => (1, 1),
            Op::Pick(below) => (usize::from(below) + 1, usize::from(below) + 2),
            Op::Pop | Op::GotoIf(_) => (1, 0),
            Op::Swap => (2, 2),
            Op::Rotate => (3, 3),
            Op::Goto(_) => (0, 0),
            Op::End => (1, 1),
        }
    }
}

/// The operation at a byte, and its length. Targets of jumps are bytes still.
fn decode(bytecode: &[u8], at: usize) -> Result<(Op, usize), ConditionError> {
    let code = *bytecode.get(at).ok_or(ConditionError::End)?;
    let number = |len: usize| {
        let bytes = bytecode.get(at + 1..at + 1 + len).ok_or(ConditionError::End)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let bits = || match number(1)? {
        bits @ 1..=64 => Ok(bits as u8),
        _ => Err(ConditionError::Number(at)),
    };
    let binary = |binary| Ok((Op::Binary(binary), 1));
    match code {
        code::ADD => binary(Binary::Add),
        code::SUB => binary(Binary::Sub),
        code::MUL => binary(Binary::Mul),
        code::DIV_SIGNED => binary(Binary::DivSigned),
        code::DIV_UNSIGNED => binary(Binary::DivUnsigned),
        code::REM_SIGNED => binary(Binary::RemSigned),
        code::REM_UNSIGNED => binary(Binary::RemUnsigned),
        code::LSH => binary(Binary::ShiftLeft),
        code::RSH_SIGNED => binary(Binary::ShiftRightSigned),
        code::RSH_UNSIGNED => binary(Binary::ShiftRightUnsigned),
        code::BIT_AND => binary(Binary::And),
        code::BIT_OR => binary(Binary::Or),
        code::BIT_XOR => binary(Binary::Xor),
        code::EQUAL => binary(Binary::Equal),
        code::LESS_SIGNED => binary(Binary::LessSigned),
        code::LESS_UNSIGNED => binary(Binary::LessUnsigned),
        code::LOG_NOT => Ok((Op::LogicalNot, 1)),
        code::BIT_NOT => Ok((Op::Complement, 1)),
        code::EXT => Ok((Op::SignExtend(bits()?), 2)),
        code::ZERO_EXT => Ok((Op::ZeroExtend(bits()?), 2)),
        code::REF8 => Ok((Op::Load(1), 1)),
        code::REF16 => Ok((Op::Load(2), 1)),
        code::REF32 => Ok((Op::Load(4), 1)),
        code::REF64 => Ok((Op::Load(8), 1)),
        code::IF_GOTO => Ok((Op::GotoIf(number(2)? as usize), 3)),
        code::GOTO => Ok((Op::Goto(number(2)? as usize), 3)),
        code::CONST8 => Ok((Op::Push(number(1)?), 2)),
        code::CONST16 => Ok((Op::Push(number(2)?), 3)),
        code::CONST32 => Ok((Op::Push(number(4)?), 5)),
        code::CONST64 => Ok((Op::Push(number(8)?), 9)),
        code::REG => {
            let register = number(2)? as u16;
            let known = Register::of_gdb(register).ok_or(ConditionError::Register(register))?;
            Ok((Op::Register(known), 3))
        }
        code::END => Ok((Op::End, 1)),
        code::DUP => Ok((Op::Pick(0), 1)),
        code::POP => Ok((Op::Pop, 1)),
        code::SWAP => Ok((Op::Swap, 1)),
        code::PICK => Ok((Op::Pick(number(1)? as u8), 2)),
        code::ROT => Ok((Op::Rotate, 1)),
        code => Err(ConditionError::Operation { code, at }),
    }
}

#[cfg(test)]
mod tests {
    use super::code::*;
    use super::*;

    #[test]
    fn what_is_no_condition_is_refused() {
        let refused = |code: &[u8], why: ConditionError| assert_eq!(parse(code), Err(why), "{code:x?}");
        refused(&[], ConditionError::End);
        refused(&[CONST8], ConditionError::End);
        refused(&[CONST8, 1], ConditionError::End);
        refused(&[END], ConditionError::Stack(0));
        refused(&[CONST8, 1, ADD, END], ConditionError::Stack(2));
        refused(&[CONST8, 1, PICK, 1, END], ConditionError::Stack(2));
        refused(&[CONST8, 1, PICK, 0xff, END], ConditionError::Stack(2));
        refused(&[[CONST8, 1].repeat(101), vec![END]].concat(), ConditionError::Stack(200));
        assert_eq!(parse(&[[CONST8, 1].repeat(100), vec![END]].concat()).unwrap().len(), 101);
        refused(&[CONST8, 1, EXT, 0, END], ConditionError::Number(2));
        refused(&[CONST8, 1, EXT, 65, END], ConditionError::Number(2));
        refused(&[REG, 0, 24, END], ConditionError::Register(24));
        // `float`, `trace`, `ref_float`, `getv`, `printf`.
        for code in [0x01, 0x0c, 0x1b, 0x2c, 0x34, 0xff, 0x00] {
            refused(&[CONST8, 1, code, END], ConditionError::Operation { code, at: 2 });
        }
        refused(&vec![END; MAX_BYTES + 1], ConditionError::End);
    }

    #[test]
    fn jumps_go_forwards_to_operations() {
        let refused = |code: &[u8], why: ConditionError| assert_eq!(parse(code), Err(why), "{code:x?}");
        refused(&[GOTO, 0, 0], ConditionError::Jump(0));
        refused(&[CONST8, 1, GOTO, 0, 2], ConditionError::Jump(2));
        refused(&[CONST8, 1, GOTO, 0, 9, END], ConditionError::End);
        refused(&[CONST8, 1, DUP, IF_GOTO, 0, 7, CONST8, END], ConditionError::Jump(7));
        refused(&[CONST8, 1, IF_GOTO, 0, 7, CONST8, 2, END], ConditionError::Stack(7));
        // What no way leads to is not looked at.
        assert_eq!(parse(&[GOTO, 0, 5, 0xff, 0xff, CONST8, 1, END]).unwrap().len(), 3);
    }

    #[test]
    fn any_bytes_are_taken_or_refused() {
        let mut random = crate::random::Random::new(1, 0);
        for _ in 0..20_000 {
            let mut code = [0u8; 24];
            random.fill(&mut code);
            code.iter_mut().for_each(|byte| *byte %= 0x36);
            if let Ok(ops) = parse(&code) {
                assert!(!ops.is_empty());
            }
        }
    }
}
