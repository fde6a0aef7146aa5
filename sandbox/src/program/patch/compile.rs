//! Conditions as code that runs in the program's stead, at CPL 3, in the handler of breakpoints.
//!
//! The stack of a condition is the CPU's, below the program's registers, to which RBP points. What cannot be
//! computed faults, and the monitor evaluates the condition then: a division by 0, or memory that is not there.

use std::collections::BTreeMap;

use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, al, byte_ptr, cl, dword_ptr, eax, edx, qword_ptr, rax, rbp, rcx, rdx, rsp,
    word_ptr,
};

use super::condition::{Binary, Condition, Op, Register};

/// Offsets of the registers from RBP, in gdb's order: as [`super::sites`] pushes them, and RSP, which is in the
/// CPU's frame above them.
const GENERAL: [i32; 16] = [112, 88, 96, 104, 72, 64, 80, 144, 56, 48, 40, 32, 24, 16, 8, 0];

impl Condition {
    /// Whether it can be compiled: not where it reads what is not saved.
    pub(crate) fn compiles(&self) -> bool {
        let known =
            |register: &Register| !matches!(register, Register::Rflags | Register::FsBase | Register::GsBase);
        self.ops().iter().all(|op| !matches!(op, Op::Register(register) if !known(register)))
    }

    /// The code of it, for the instruction at `rip`: goes to `holds` if it does, else on.
    pub(crate) fn compile(&self, a: &mut CodeAssembler, rip: u64, holds: CodeLabel) -> Result<(), IcedError> {
        let mut labels = BTreeMap::new();
        for op in self.ops() {
            if let Op::Goto(target) | Op::GotoIf(target) = op {
                labels.entry(*target).or_insert_with(|| a.create_label());
            }
        }
        let mut end = a.create_label();
        for (at, op) in self.ops().iter().enumerate() {
            if let Some(label) = labels.get_mut(&at) {
                a.set_label(label)?;
            }
            match *op {
                Op::Push(number) => push(a, number)?,
                Op::Register(Register::General(number)) => {
                    a.push(qword_ptr(rbp + GENERAL[usize::from(number % 16)]))?;
                }
                Op::Register(Register::Selector(selector)) => push(a, selector.into())?,
                Op::Register(_) => push(a, rip)?,
                Op::Binary(op) => binary(a, op)?,
                Op::LogicalNot => {
                    a.pop(rax)?;
                    a.test(rax, rax)?;
                    a.sete(al)?;
                    a.movzx(eax, al)?;
                    a.push(rax)?;
                }
                Op::Complement => a.not(qword_ptr(rsp))?,
                Op::SignExtend(bits) => {
                    a.shl(qword_ptr(rsp), 64 - u32::from(bits))?;
                    a.sar(qword_ptr(rsp), 64 - u32::from(bits))?;
                }
                Op::ZeroExtend(bits) => {
                    a.shl(qword_ptr(rsp), 64 - u32::from(bits))?;
                    a.shr(qword_ptr(rsp), 64 - u32::from(bits))?;
                }
                Op::Load(bytes) => {
                    a.pop(rax)?;
                    match bytes {
                        1 => a.movzx(eax, byte_ptr(rax))?,
                        2 => a.movzx(eax, word_ptr(rax))?,
                        4 => a.mov(eax, dword_ptr(rax))?,
                        _ => a.mov(rax, qword_ptr(rax))?,
                    }
                    a.push(rax)?;
                }
                Op::Pick(below) => a.push(qword_ptr(rsp + 8 * i32::from(below)))?,
                Op::Pop => a.pop(rax)?,
                Op::Swap => {
                    a.pop(rcx)?;
                    a.pop(rax)?;
                    a.push(rcx)?;
                    a.push(rax)?;
                }
                Op::Rotate => {
                    a.pop(rcx)?;
                    a.pop(rax)?;
                    a.pop(rdx)?;
                    a.push(rcx)?;
                    a.push(rdx)?;
                    a.push(rax)?;
                }
                Op::GotoIf(target) => {
                    a.pop(rax)?;
                    a.test(rax, rax)?;
                    a.jne(labels[&target])?;
                }
                Op::Goto(target) => a.jmp(labels[&target])?,
                Op::End => {
                    a.pop(rax)?;
                    a.jmp(end)?;
                }
            }
        }
        a.set_label(&mut end)?;
        a.mov(rsp, rbp)?;
        a.test(rax, rax)?;
        a.jne(holds)
    }
}

fn push(a: &mut CodeAssembler, number: u64) -> Result<(), IcedError> {
    a.mov(rax, number)?;
    a.push(rax)
}

fn binary(a: &mut CodeAssembler, op: Binary) -> Result<(), IcedError> {
    a.pop(rcx)?;
    a.pop(rax)?;
    match op {
        Binary::Add => a.add(rax, rcx)?,
        Binary::Sub => a.sub(rax, rcx)?,
        Binary::Mul => a.imul_2(rax, rcx)?,
        Binary::DivSigned | Binary::RemSigned => {
            a.cqo()?;
            a.idiv(rcx)?;
        }
        Binary::DivUnsigned | Binary::RemUnsigned => {
            a.xor(edx, edx)?;
            a.div(rcx)?;
        }
        Binary::ShiftLeft | Binary::ShiftRightSigned | Binary::ShiftRightUnsigned => {
            // By 64 and more the CPU shifts by less: the monitor says what comes out then.
            let mut fits = a.create_label();
            a.cmp(rcx, 63)?;
            a.jbe(fits)?;
            a.ud2()?;
            a.set_label(&mut fits)?;
            match op {
                Binary::ShiftLeft => a.shl(rax, cl)?,
                Binary::ShiftRightSigned => a.sar(rax, cl)?,
                _ => a.shr(rax, cl)?,
            }
        }
        Binary::And => a.and(rax, rcx)?,
        Binary::Or => a.or(rax, rcx)?,
        Binary::Xor => a.xor(rax, rcx)?,
        Binary::Equal | Binary::LessSigned | Binary::LessUnsigned => {
            a.xor(edx, edx)?;
            a.cmp(rax, rcx)?;
            a.mov(eax, edx)?;
            match op {
                Binary::Equal => a.sete(al)?,
                Binary::LessSigned => a.setl(al)?,
                _ => a.setb(al)?,
            }
        }
    }
    if matches!(op, Binary::RemSigned | Binary::RemUnsigned) {
        a.mov(rax, rdx)?;
    }
    a.push(rax)
}
