//! What is said of a guest that cannot go on.

use std::fmt;

use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};
use kvm_bindings::kvm_sregs;

use crate::fault::{EMULATION_FAILED, Place};
use crate::vcpu::Exit;
use crate::vcpu::registers::General;

/// A guest came to an exit that has no meaning, or that KVM cannot get past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// What happened.
    pub what: String,
    /// The exit, with all that KVM tells of it: reason, error number, data.
    pub exit: Exit,
    /// General registers.
    pub registers: General,
    /// CR0, CR2, CR3, CR4 and EFER.
    pub control: [u64; 5],
    /// Privilege level.
    pub cpl: u8,
    /// The bytes at RIP, as far as they are in memory.
    pub code: Vec<u8>,
    /// The instruction there, where the bytes are one.
    pub instruction: Option<String>,
}

impl Crash {
    /// From the vCPU's state and the bytes at RIP.
    pub(crate) fn new(what: &str, exit: Exit, place: &Place, sregs: &kvm_sregs, code: &[u8]) -> Crash {
        Crash {
            what: what.into(),
            exit,
            registers: place.general,
            control: [sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer],
            cpl: sregs.ss.dpl,
            code: code.to_vec(),
            instruction: disassemble(code, place),
        }
    }
}

/// The instruction in `code`, in the words of the manuals.
fn disassemble(code: &[u8], place: &Place) -> Option<String> {
    let mut decoder = Decoder::with_ip(place.bits, code, place.general.rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return None;
    }
    let mut text = String::new();
    NasmFormatter::new().format(&instruction, &mut text);
    Some(text)
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rip = self.registers.rip;
        match (&self.exit, &self.instruction) {
            (Exit::InternalError { suberror: EMULATION_FAILED, .. }, Some(instruction)) => writeln!(
                f,
                "this host's KVM emulates code of CPL {}, and its emulator cannot do `{instruction}` at RIP \
                 {rip:#x}; the guest cannot go on here (a host with VMX or SVM runs it natively: see `dejavm doctor`, \
                 kernel-speed)",
                self.cpl
            )?,
            _ => writeln!(
                f,
                "{} at RIP {rip:#x}; the guest cannot go on; `dejavm doctor` shows what this host does",
                self.what
            )?,
        }
        writeln!(f, "  exit: {:?}", self.exit)?;
        let bytes: Vec<String> = self.code.iter().map(|b| format!("{b:02x}")).collect();
        let instruction = self.instruction.as_deref().unwrap_or("no instruction");
        writeln!(
            f,
            "  at RIP: {} ({instruction})",
            if bytes.is_empty() { "nothing".into() } else { bytes.join(" ") }
        )?;
        let r = &self.registers;
        let rows: [&[(&str, u64)]; 6] = [
            &[("rax", r.rax), ("rbx", r.rbx), ("rcx", r.rcx), ("rdx", r.rdx)],
            &[("rsi", r.rsi), ("rdi", r.rdi), ("rsp", r.rsp), ("rbp", r.rbp)],
            &[("r8", r.r8), ("r9", r.r9), ("r10", r.r10), ("r11", r.r11)],
            &[("r12", r.r12), ("r13", r.r13), ("r14", r.r14), ("r15", r.r15)],
            &[("rip", r.rip), ("rflags", r.rflags), ("cr0", self.control[0]), ("cr2", self.control[1])],
            &[("cr3", self.control[2]), ("cr4", self.control[3]), ("efer", self.control[4])],
        ];
        for (i, row) in rows.iter().enumerate() {
            let row: Vec<String> =
                row.iter().map(|(name, value)| format!("{name:>6} {value:016x}")).collect();
            write!(f, "  {}{}", row.join(" "), if i + 1 < rows.len() { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Crash {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instruction_is_named() {
        let place =
            Place { general: General { rip: 0x1000, ..Default::default() }, bits: 64, ..Default::default() };
        let sregs = kvm_sregs::default();
        let exit = Exit::InternalError { suberror: EMULATION_FAILED, data: vec![1] };
        let crash = Crash::new("a failed emulation", exit, &place, &sregs, &[0x0f, 0xae, 0x2f, 0x90]);
        let text = crash.to_string();
        assert!(text.contains("`xrstor [rdi]` at RIP 0x1000"), "{text}");
        assert!(text.contains("0f ae 2f 90"), "{text}");
        let nothing = Crash::new("an exit", Exit::Debug, &place, &sregs, &[]);
        assert!(nothing.to_string().contains("an exit at RIP 0x1000"));
    }
}
