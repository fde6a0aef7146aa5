//! The code that the handler of breakpoints begins with, while a debugger has breakpoints with conditions.

use std::collections::BTreeMap;

use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, dword_ptr, qword_ptr, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbp, rbx, rcx,
    rdi, rdx, rsi, rsp,
};
use iced_x86::{BlockEncoderOptions, Decoder, DecoderOptions, IcedError};
use kvm_bindings::kvm_regs;

use super::condition::Condition;
use super::relocate::{self, Landing, Slot, Way};
use crate::program::entry::{HANDLER_GOES_ON, HANDLER_TAKES, SAVED_WORDS, SITES, SLOTS, SLOTS_MAX};
use crate::ram::PAGE_SIZE;
use crate::x86::MAX_INSTRUCTION;
use crate::x86::by_rip;
use crate::x86::flags::rflags::TRAP_FLAG;

/// A breakpoint with conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// The instruction's address.
    pub address: u64,
    /// What must hold: one of these.
    pub conditions: Vec<Condition>,
    /// The bytes there, with those of what follows.
    pub code: [u8; MAX_INSTRUCTION],
}

/// The breakpoints that are answered in the guest, and the code that does.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    /// Guest-physical address of its page.
    page: Option<u64>,
    /// What was asked for last.
    wanted: Vec<Site>,
    /// The addresses of those that have room.
    answered: Vec<u64>,
    /// Where the program is, by addresses in the code.
    places: BTreeMap<u64, Place>,
}

/// Where a program is that is at an instruction of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    landing: Landing,
    /// Where it keeps a register.
    slot: u64,
}

impl Place {
    /// The instruction that it is at, or would be if there were no copy.
    pub fn rip(&self) -> u64 {
        self.landing.rip
    }

    /// Where the register is that is not what it was, and that register.
    pub fn saved<'a>(&self, regs: &'a mut kvm_regs) -> Option<(u64, &'a mut u64)> {
        let register = by_rip::register(regs, self.landing.saved?)?;
        Some((self.slot, register))
    }
}

/// Code, and what it is.
struct Made {
    code: Vec<u8>,
    answered: Vec<u64>,
    places: BTreeMap<u64, Place>,
}

impl Sites {
    /// Whether an address is in the page of the code.
    pub fn has(rip: u64) -> bool {
        (SITES..SITES + PAGE_SIZE as u64).contains(&rip)
    }

    /// The page, if there is one.
    pub fn page(&self) -> Option<u64> {
        self.page
    }

    /// This is the page.
    pub fn set_page(&mut self, page: u64) {
        self.page = Some(page);
    }

    /// Whether the code is for these.
    pub fn are(&self, sites: &[Site]) -> bool {
        self.wanted == sites
    }

    /// Whether none is answered in the guest.
    pub fn is_empty(&self) -> bool {
        self.answered.is_empty()
    }

    /// Whether a breakpoint is answered in the guest.
    pub fn answers(&self, address: u64) -> bool {
        self.answered.contains(&address)
    }

    /// Where the program is that is at this address of the code; `None` where that does not run the program's
    /// own instructions.
    pub fn place(&self, rip: u64) -> Option<Place> {
        self.places.get(&rip).copied()
    }

    /// Makes the code for other breakpoints. Those for which there is no room, or which cannot be answered so,
    /// are left out.
    pub fn make(&mut self, sites: Vec<Site>) -> Vec<u8> {
        let mut fit: Vec<(&Site, Way)> = sites.iter().filter_map(|site| Some((site, way(site)?))).collect();
        fit.truncate(SLOTS_MAX);
        let made = loop {
            match make(&fit) {
                Ok(made) if made.code.len() <= PAGE_SIZE => break made,
                _ if fit.pop().is_none() => {
                    break Made { code: Vec::new(), answered: Vec::new(), places: BTreeMap::new() };
                }
                _ => {}
            }
        };
        (self.answered, self.places) = (made.answered, made.places);
        self.wanted = sites;
        made.code
    }
}

/// How the instruction can be run elsewhere, where the condition can be answered in the guest.
fn way(site: &Site) -> Option<Way> {
    let compiles = !site.conditions.is_empty() && site.conditions.iter().all(Condition::compiles);
    let decoded = Decoder::with_ip(64, &site.code, site.address, DecoderOptions::NONE).decode();
    compiles.then(|| relocate::way(&decoded))?
}

/// On the handler's stack is the CPU's frame, with RIP behind the breakpoint.
fn make(sites: &[(&Site, Way)]) -> Result<Made, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let [mut none, mut found] = [(); 2].map(|()| a.create_label());
    let mut labels: Vec<CodeLabel> = sites.iter().map(|_| a.create_label()).collect();
    a.push(rax)?;
    a.mov(rax, qword_ptr(rsp + 8))?;
    // The trap behind a step would be lost.
    a.test(dword_ptr(rsp + 24), TRAP_FLAG as u32)?;
    a.jne(none)?;
    a.push(rdx)?;
    for ((site, _), label) in sites.iter().zip(&labels) {
        a.mov(rdx, site.address.wrapping_add(1))?;
        a.cmp(rax, rdx)?;
        a.je(*label)?;
    }
    a.pop(rdx)?;
    a.set_label(&mut none)?;
    a.jmp(HANDLER_GOES_ON)?;
    let mut words = Vec::new();
    let mut places = Vec::new();
    for (number, ((site, way), label)) in sites.iter().zip(&mut labels).enumerate() {
        a.set_label(label)?;
        push_others(&mut a)?;
        a.mov(rbp, rsp)?;
        for condition in &site.conditions {
            condition.compile(&mut a, site.address, found)?;
        }
        // It does not hold: to the copy.
        let start = a.create_label();
        a.lea(rax, qword_ptr(start))?;
        a.mov(qword_ptr(rbp + 8 * SAVED_WORDS as i32), rax)?;
        pop_all(&mut a)?;
        a.iretq()?;
        let slot = Slot(SLOTS + number as u64 * 8);
        let decoded = Decoder::with_ip(64, &site.code, site.address, DecoderOptions::NONE).decode();
        let code = &site.code[..decoded.len()];
        let copied = relocate::copy(&mut a, &decoded, code, *way, slot, start, &mut words)?;
        places.extend(copied.into_iter().map(|(label, landing)| (label, Place { landing, slot: slot.0 })));
    }
    a.set_label(&mut found)?;
    pop_all(&mut a)?;
    a.jmp(HANDLER_TAKES)?;
    for (mut label, word) in words {
        a.set_label(&mut label)?;
        a.dq(&[word])?;
    }
    let result = a.assemble_options(SITES, BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS)?;
    let places = places
        .into_iter()
        .map(|(label, place)| Ok((result.label_ip(&label)?, place)))
        .collect::<Result<_, IcedError>>()?;
    let answered = sites.iter().map(|(site, _)| site.address).collect();
    Ok(Made { code: result.inner.code_buffer, answered, places })
}

/// Pushes the registers behind RAX and RDX, in the order of [`restore`].
pub(crate) fn push_others(a: &mut CodeAssembler) -> Result<(), IcedError> {
    [rcx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15]
        .into_iter()
        .try_for_each(|register| a.push(register))
}

/// Takes all that was pushed from the stack.
pub(crate) fn pop_all(a: &mut CodeAssembler) -> Result<(), IcedError> {
    [r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rcx, rdx, rax]
        .into_iter()
        .try_for_each(|register| a.pop(register))
}

/// Gives the registers that the code has pushed to the vCPU.
pub(crate) fn restore(saved: [u64; SAVED_WORDS], regs: &mut kvm_regs) {
    [
        regs.r15, regs.r14, regs.r13, regs.r12, regs.r11, regs.r10, regs.r9, regs.r8, regs.rdi, regs.rsi,
        regs.rbp, regs.rbx, regs.rcx, regs.rdx, regs.rax,
    ] = saved;
}

#[cfg(test)]
mod tests {
    use super::super::bytecode::code::{CONST8, END, REG};
    use super::*;

    fn site(address: u64, code: &[u8], condition: &[u8]) -> Site {
        let mut bytes = [0x90; MAX_INSTRUCTION];
        bytes[..code.len()].copy_from_slice(code);
        Site { address, conditions: vec![Condition::new(condition).unwrap()], code: bytes }
    }

    #[test]
    fn code_for_sites() {
        let never: &[u8] = &[CONST8, 0, END];
        let made = vec![
            site(0x40_1000, &[0x48, 0x89, 0xfb], never),
            site(0x40_1003, &[0x8b, 0x05, 1, 0, 0, 0], never),
            site(0x40_1009, &[0xe8, 1, 0, 0, 0], never),
            // `syscall`, and a condition on RFLAGS: not in the guest.
            site(0x40_1010, &[0x0f, 0x05], never),
            site(0x40_1012, &[0x90], &[REG, 0, 17, END]),
        ];
        let mut sites = Sites::default();
        let code = sites.make(made.clone());
        assert!(sites.are(&made) && !code.is_empty());
        let answered: Vec<bool> = made.iter().map(|site| sites.answers(site.address)).collect();
        assert_eq!(answered, [true, true, true, false, false]);
        let landings: Vec<(u64, bool)> =
            sites.places.values().map(|place| (place.rip(), place.landing.saved.is_some())).collect();
        let expected = [
            (0x40_1000, false),
            (0x40_1003, false),
            (0x40_1003, false),
            (0x40_1003, false),
            (0x40_1003, true),
            (0x40_1009, true),
            (0x40_1009, false),
            (0x40_1009, false),
            (0x40_100f, false),
        ];
        assert_eq!(landings, expected);
        assert_eq!(sites.place(SITES), None);
        assert!(sites.places.keys().all(|rip| Sites::has(*rip)));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        // Some 40 bytes a push and a pop.
        let long: Vec<u8> = [CONST8, 1, 0x29].repeat(200).into_iter().chain([CONST8, 0, END]).collect();
        let made: Vec<Site> = (0..3).map(|n| site(0x1000 + n, &[0x90], &long)).collect();
        let mut sites = Sites::default();
        assert!(sites.make(made.clone()).len() <= PAGE_SIZE);
        assert!(sites.answers(0x1000) && !sites.answers(0x1002));
        let many = (0..100).map(|n| site(0x1000 + n, &[0x90], &[CONST8, 0, END])).collect();
        assert!(sites.make(many).len() <= PAGE_SIZE);
        assert!(sites.answers(0x1010));
    }
}
