//! Words that a program compares its input with, as far as they stand in its code: numbers, and text that code has the
//! address of.

use std::collections::BTreeSet;
use std::ops::Range;

use dejavm::{ConstantMemory, Modules, Sandbox};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::memory::read;

/// Bytes of code that are looked at, at most: some 4 million instructions.
const MOST_CODE: u64 = 16 << 20;
/// Words at most. Of more, some are taken from everywhere among them.
const MOST_WORDS: usize = 2048;
/// Bytes of text, at least and at most, without the zero behind it.
const TEXT: Range<usize> = 2..33;

/// The words of the files whose ways are counted, sorted.
pub(crate) fn words(sandbox: &mut Sandbox, modules: &Modules) -> Vec<Vec<u8>> {
    let memory = sandbox.constant_memory(modules);
    let (mut words, mut texts, mut left) = (BTreeSet::new(), BTreeSet::new(), MOST_CODE);
    for ConstantMemory { addresses, .. } in memory.iter().filter(|part| part.is_code) {
        let len = (addresses.end - addresses.start).min(left);
        left -= len;
        let code = read(sandbox, addresses.start, len as usize);
        for instruction in &mut Decoder::with_ip(64, &code, addresses.start, DecoderOptions::NONE) {
            numbers(&instruction, &mut words);
            if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
                texts.insert(instruction.ip_rel_memory_address());
            }
        }
    }
    let is_constant = |at: &u64| memory.iter().any(|part| part.addresses.contains(at));
    for at in texts.into_iter().filter(is_constant) {
        words.extend(text(&read(sandbox, at, TEXT.end)));
    }
    let every = words.len().div_ceil(MOST_WORDS).max(1);
    words.into_iter().step_by(every).collect()
}

/// The number that an instruction compares with, in either order of its bytes.
fn numbers(instruction: &Instruction, words: &mut BTreeSet<Vec<u8>>) {
    let last = instruction.op_count().saturating_sub(1);
    let bytes = match (instruction.mnemonic(), instruction.op_kind(last)) {
        // A function's frame.
        (Mnemonic::Sub, _) if instruction.op0_register() == Register::RSP => return,
        (Mnemonic::Cmp | Mnemonic::Sub | Mnemonic::Xor, OpKind::Immediate16) => 2,
        (Mnemonic::Cmp | Mnemonic::Sub | Mnemonic::Xor, OpKind::Immediate32) => 4,
        // What a register is compared with later: a comparison has no numbers of this size.
        _ if instruction.code() == Code::Mov_r64_imm64 => 8,
        _ => return,
    };
    let number = instruction.immediate(last).to_le_bytes();
    let number = &number[..bytes];
    // Small ones, also below zero, come about by themselves.
    if number[1..].iter().all(|byte| *byte == 0) || number[1..].iter().all(|byte| *byte == 0xff) {
        return;
    }
    words.insert(number.to_vec());
    words.insert(number.iter().rev().copied().collect());
}

/// The text that bytes begin with, if it looks like a word: no message, and no format.
fn text(bytes: &[u8]) -> Option<Vec<u8>> {
    let len = bytes.iter().position(|byte| *byte == 0)?;
    let text = &bytes[..len];
    let is_text = text.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'));
    let is_word = !text.contains(&b'%') && text.iter().filter(|byte| **byte == b' ').count() < 2;
    (TEXT.contains(&len) && is_text && is_word).then(|| text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &[u8]) -> Vec<Vec<u8>> {
        let mut words = BTreeSet::new();
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        decoder.iter().for_each(|instruction| numbers(&instruction, &mut words));
        words.into_iter().collect()
    }

    #[test]
    fn numbers_that_are_compared_with_are_words() {
        // `cmp eax, "PNG!"`, `cmp ax, 0x4d42`, `movabs rax, "Precest!"`.
        assert_eq!(of(&[0x3d, b'P', b'N', b'G', b'!']), [b"!GNP".to_vec(), b"PNG!".to_vec()]);
        assert_eq!(of(&[0x66, 0x3d, b'B', b'M']), [b"BM".to_vec(), b"MB".to_vec()]);
        assert!(
            of(&[0x48, 0xb8, b'P', b'r', b'e', b'c', b'e', b's', b't', b'!']).contains(&b"Precest!".to_vec())
        );
        // `sub rsp, 0x1238`.
        assert!(of(&[0x48, 0x81, 0xec, 0x38, 0x12, 0, 0]).is_empty());
        // `cmp eax, 200`, `cmp eax, -5`, `mov eax, 0x12345678`.
        assert!(of(&[0x3d, 200, 0, 0, 0, 0x83, 0xf8, 0xfb, 0xb8, 0x78, 0x56, 0x34, 0x12]).is_empty());
    }

    #[test]
    fn messages_are_no_words() {
        assert_eq!(text(b"<!DOCTYPE\0rest"), Some(b"<!DOCTYPE".to_vec()));
        for bytes in [&b"no such file\0"[..], b"%d\0", b"x\0", b"\x01\x02\x03\0", b"no end", b"\0"] {
            assert_eq!(text(bytes), None, "{bytes:?}");
        }
    }
}
