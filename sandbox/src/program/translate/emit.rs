//! Machine code of the few kinds that copies add to a program's own (Intel SDM volume 2). None changes a flag.

use iced_x86::{Encoder, IcedError, Instruction, Register};

/// REX.W.
const WIDE: u8 = 0x48;
/// REX.R: the register in ModRM is R8 or higher.
const HIGH_REG: u8 = 0x04;
/// REX.B: the register in the opcode is.
const HIGH_OPCODE: u8 = 0x01;
/// ModRM of a register and a distance from RIP.
const BY_RIP: u8 = 0x05;

/// Code that is being made for a place.
#[derive(Debug)]
pub(super) struct Emitter {
    base: u64,
    code: Vec<u8>,
    /// Words that instructions name, to be laid behind the code: where their distance stands.
    words: Vec<(usize, u64)>,
}

impl Emitter {
    /// For code at this address.
    pub fn new(base: u64) -> Emitter {
        Emitter { base, code: Vec::with_capacity(128), words: Vec::new() }
    }

    /// The address of the next instruction.
    pub fn here(&self) -> u64 {
        self.base + self.code.len() as u64
    }

    /// Code as it is.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// The distance to an address from behind four bytes, which follow.
    fn distance(&mut self, to: u64) {
        let distance = to.wrapping_sub(self.here() + 4) as u32;
        self.bytes(&distance.to_le_bytes());
    }

    fn by_rip(&mut self, opcode: u8, register: Register, address: u64) {
        let number = register.number() as u8;
        self.bytes(&[WIDE | if number < 8 { 0 } else { HIGH_REG }, opcode, BY_RIP | (number & 7) << 3]);
        self.distance(address);
    }

    /// `mov [address], register`.
    pub fn store(&mut self, register: Register, address: u64) {
        self.by_rip(0x89, register, address);
    }

    /// `mov register, [address]`.
    pub fn load(&mut self, register: Register, address: u64) {
        self.by_rip(0x8b, register, address);
    }

    /// Adds 1 to a word of 32 bits, by ECX: `mov ecx, [address]`, `lea ecx, [rcx + 1]`, and, in one store, `mov [address],
    /// ecx`.
    pub fn add_1(&mut self, address: u64) {
        self.bytes(&[0x8b, 0x0d]);
        self.distance(address);
        self.bytes(&[0x8d, 0x49, 0x01, 0x89, 0x0d]);
        self.distance(address);
    }

    /// `lea register, [address]`.
    pub fn address_of(&mut self, register: Register, address: u64) {
        self.by_rip(0x8d, register, address);
    }

    /// `mov register, number`.
    pub fn number(&mut self, register: Register, number: u64) {
        let n = register.number() as u8;
        self.bytes(&[WIDE | if n < 8 { 0 } else { HIGH_OPCODE }, 0xb8 | n & 7]);
        self.bytes(&number.to_le_bytes());
    }

    /// `jmp address`, of five bytes.
    pub fn jump(&mut self, to: u64) {
        self.bytes(&[0xe9]);
        self.distance(to);
    }

    /// `jcc address`, by the condition's number, of six bytes. Where its distance stands.
    pub fn jump_if(&mut self, condition: u8, to: u64) -> usize {
        self.bytes(&[0x0f, 0x80 | condition]);
        self.distance(to);
        self.code.len() - 4
    }

    /// `jrcxz`, over so many bytes. Where that stands.
    pub fn jump_if_rcx_is_0(&mut self, over: u8) -> usize {
        self.bytes(&[0xe3, over]);
        self.code.len() - 1
    }

    /// A distance of one byte, which was not known, is to here.
    pub fn is_here(&mut self, at: usize) {
        self.code[at] = (self.code.len() - at - 1) as u8;
    }

    /// A distance of four bytes, which was not known, is to here.
    pub fn is_here_far(&mut self, at: usize) {
        let distance = (self.code.len() - at - 4) as u32;
        self.code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
    }

    /// `push` of a number, as one store.
    pub fn push(&mut self, number: u64) {
        self.bytes(&[0xff, 0x35]);
        self.word(number);
    }

    /// `jmp` to an address, however far.
    pub fn jump_far(&mut self, to: u64) {
        self.bytes(&[0xff, 0x25]);
        self.word(to);
    }

    fn word(&mut self, word: u64) {
        self.words.push((self.code.len(), word));
        self.bytes(&[0; 4]);
    }

    /// `jmp [address]`.
    pub fn jump_through(&mut self, address: u64) {
        self.bytes(&[0xff, 0x25]);
        self.distance(address);
    }

    /// An instruction, made anew for this place.
    pub fn instruction(&mut self, instruction: &Instruction) -> Result<(), IcedError> {
        let mut encoder = Encoder::new(64);
        encoder.encode(instruction, self.here())?;
        self.code.append(&mut encoder.take_buffer());
        Ok(())
    }

    /// The code, with its words behind it.
    pub fn finish(mut self) -> Vec<u8> {
        for (at, word) in std::mem::take(&mut self.words) {
            self.is_here_far(at);
            self.bytes(&word.to_le_bytes());
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    const BASE: u64 = 0x7fff_ff05_0000;

    fn text(make: impl FnOnce(&mut Emitter)) -> String {
        let mut emitter = Emitter::new(BASE);
        make(&mut emitter);
        let code = emitter.finish();
        Decoder::with_ip(64, &code, BASE, DecoderOptions::NONE).decode().to_string()
    }

    #[test]
    fn what_it_makes() {
        assert_eq!(text(|e| e.store(Register::RCX, BASE + 0x100)), "mov [rel 7FFFFF050100h],rcx");
        assert_eq!(text(|e| e.load(Register::R9, BASE - 0x100)), "mov r9,[rel 7FFFFF04FF00h]");
        assert_eq!(text(|e| e.address_of(Register::RAX, BASE)), "lea rax,[rel 7FFFFF050000h]");
        assert_eq!(text(|e| e.number(Register::RSI, 1 << 40)), "mov rsi,10000000000h");
        assert_eq!(text(|e| e.number(Register::R15, 7)), "mov r15,7");
        assert_eq!(text(|e| e.jump(BASE + 0x40)), "jmp 00007FFFFF050040h");
        assert_eq!(text(|e| _ = e.jump_if(4, BASE - 0x40)), "je near 00007FFFFF04FFC0h");
        assert_eq!(text(|e| _ = e.jump_if_rcx_is_0(3)), "jrcxz 00007FFFFF050005h");
        assert_eq!(text(|e| e.push(1)), "push qword [rel 7FFFFF050006h]");
        let mut count = Emitter::new(BASE);
        count.add_1(BASE - 0x100);
        let code = count.finish();
        let mut added = Decoder::with_ip(64, &code, BASE, DecoderOptions::NONE);
        for expected in ["mov ecx,[rel 7FFFFF04FF00h]", "lea ecx,[rcx+1]", "mov [rel 7FFFFF04FF00h],ecx"] {
            assert_eq!(added.decode().to_string(), expected);
        }
        assert_eq!(text(|e| e.jump_through(BASE)), "jmp qword [rel 7FFFFF050000h]");
    }
}
