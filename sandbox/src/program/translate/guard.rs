//! What comes before the copy of an instruction that has a breakpoint with conditions: they are computed there, and
//! where none holds, the program goes on.
//!
//! The program's registers are put on a stack of the copies' own, as conditions expect them
//! ([`crate::program::patch`]), and taken from there again.

use iced_x86::code_asm::{CodeAssembler, ecx, ptr, rax, rbp, rdx, rsp};
use iced_x86::{BlockEncoderOptions, IcedError, Register};

use super::emit::Emitter;
use super::layout::FRAME_RSP;
use super::piece::{Landing, Piece, Saved};
use crate::program::patch::{Condition, pop_all, push_others};
use crate::ram::PAGE_SIZE;

/// Computes the conditions of the instruction at `rip`: goes on behind what it makes if none holds, and to the
/// instruction itself if one does. Whether they are computed so.
pub(super) fn guard(
    e: &mut Emitter,
    pieces: &mut Vec<Piece>,
    rip: u64,
    conditions: &[Condition],
) -> Result<bool, IcedError> {
    if conditions.is_empty() || !conditions.iter().all(Condition::compiles) {
        return Ok(false);
    }
    let mut is = |at, saved| {
        pieces.push(Piece { at, landing: Landing::at(rip).saved(saved), same: false });
    };
    let start = e.here();
    // The distances are the same wherever it is.
    let (code, has_frame) = computed(start, rip, conditions)?;
    if code.len() > PAGE_SIZE {
        return Ok(false);
    }
    is(start, Saved::Nothing);
    e.store(Register::RSP, FRAME_RSP);
    is(e.here(), Saved::Rsp);
    e.address_of(Register::RSP, FRAME_RSP);
    is(e.here() + has_frame, Saved::Frame);
    e.bytes(&code);
    let none = e.jump_if_rcx_is_0(0);
    let own = take_frame(e)?;
    is(own, Saved::Rsp);
    is(e.here(), Saved::Nothing);
    e.jump_far(rip);
    e.is_here(none);
    is(e.here(), Saved::Frame);
    let own = take_frame(e)?;
    is(own, Saved::Rsp);
    Ok(true)
}

/// The code that puts the program's registers above its stack and leaves in RCX whether a condition holds; and how far
/// in it is where all of them are there.
fn computed(base: u64, rip: u64, conditions: &[Condition]) -> Result<(Vec<u8>, u64), IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let [mut has_frame, mut holds, mut end] = [(); 3].map(|()| a.create_label());
    // As behind an exception: RFLAGS, CS and RIP, which nobody reads.
    a.pushfq()?;
    a.lea(rsp, ptr(rsp - 16))?;
    a.push(rax)?;
    a.push(rdx)?;
    push_others(&mut a)?;
    a.set_label(&mut has_frame)?;
    a.mov(rbp, rsp)?;
    for condition in conditions {
        condition.compile(&mut a, rip, holds)?;
    }
    a.xor(ecx, ecx)?;
    a.jmp(end)?;
    a.set_label(&mut holds)?;
    a.mov(ecx, 1)?;
    a.set_label(&mut end)?;
    a.zero_bytes()?;
    let made = a.assemble_options(base, BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS)?;
    let has_frame = made.label_ip(&has_frame)? - base;
    Ok((made.inner.code_buffer, has_frame))
}

/// Gives the program its registers. Where only RSP is not its own.
fn take_frame(e: &mut Emitter) -> Result<u64, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    pop_all(&mut a)?;
    a.lea(rsp, ptr(rsp + 16))?;
    a.popfq()?;
    e.bytes(&a.assemble(0)?);
    let own = e.here();
    // `mov rsp, [rsp]`.
    e.bytes(&[0x48, 0x8b, 0x24, 0x24]);
    Ok(own)
}
