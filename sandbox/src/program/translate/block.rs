//! The copy of a basic block.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Code, Decoder, DecoderOptions, IcedError, Instruction, MemoryOperand, OpKind, Register};

use super::dispatch::DISPATCH;
use super::edges::Counts;
use super::emit::Emitter;
use super::guard::guard;
use super::instruction::{Kind, kind, replaced_bytes};
use super::layout::{COUNTER, FROM, SAVED_RCX, SAVED_STAND_IN, TARGET};
use super::piece::{Landing, Leaves, Piece, Saved};
use crate::program::coverage::Way;
use crate::program::patch::Condition;
use crate::ram::PAGE_SIZE;
use crate::x86::MAX_INSTRUCTION;
use crate::x86::by_rip::with_base;

const PAGE: u64 = PAGE_SIZE as u64;
const NOP: u8 = 0x90;
/// The most instructions of a block: a longer one is several.
pub(super) const MAX_INSTRUCTIONS: usize = 64;
/// `hlt`, with what becomes the distance of a jump behind it.
const UNLINKED: [u8; 5] = [0xf4, 0xcc, 0xcc, 0xcc, 0xcc];

/// A copy, and what it is.
#[derive(Debug)]
pub(super) struct Block {
    pub code: Vec<u8>,
    /// Where in it whoever comes by no indirect branch begins: behind what counts those that do.
    pub direct: u64,
    pub pieces: Vec<Piece>,
    /// Where it goes on: five bytes that are to be a jump there, and the program's address.
    pub links: Vec<(u64, u64)>,
    /// Where the function that it calls returns to.
    pub returns: Option<u64>,
}

/// Breakpoints of a debugger, and what must hold at those that stop only then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Breakpoints<'a> {
    pub at: &'a BTreeSet<u64>,
    pub conditions: &'a BTreeMap<u64, Vec<Condition>>,
}

/// Makes the copy of the block at `start`, to be laid at `base`. `code` is what is there up to the end of its page,
/// or, where an instruction does not end there, that instruction; nothing where `start` may not be run. What stands in
/// the place of instructions is `answered` by the handler of breakpoints, or is the program's own. Instructions with
/// a breakpoint are run where they are, unless its conditions can be computed before, and none holds. Which ways it goes
/// is counted where there are `counts`.
pub(super) fn translate(
    base: u64,
    start: u64,
    code: &[u8],
    answered: bool,
    breakpoints: Breakpoints<'_>,
    counts: Option<Counts<'_>>,
) -> Result<Block, IcedError> {
    let pieces = Vec::with_capacity(8);
    let mut block =
        Maker { emitter: Emitter::new(base), counts, direct: base, pieces, links: Vec::new(), returns: None };
    block.enters(start);
    let mut rip = start;
    let mut code = code;
    for _ in 0..MAX_INSTRUCTIONS {
        if breakpoints.at.contains(&rip) {
            let conditions = breakpoints.conditions.get(&rip).map_or(&[][..], Vec::as_slice);
            // One a block, as they may be long.
            if rip != start {
                break;
            }
            if !guard(&mut block.emitter, &mut block.pieces, rip, conditions)? {
                block.leave(rip);
                return Ok(block.finish());
            }
        }
        if let Some(len) = replaced_bytes(code) {
            // The handler answers it if it reads all of it, and else leaves it to the monitor, which is an exit.
            if !answered || crosses_page(rip, len) {
                block.leave(rip);
                return Ok(block.finish());
            }
            while crosses_page(block.emitter.here(), len) {
                block.is(Landing::at(rip));
                block.emitter.bytes(&[NOP]);
            }
            block.same(rip, &code[..len]);
            (rip, code) = (rip.wrapping_add(len as u64), &code[len..]);
            continue;
        }
        let bytes = &code[..code.len().min(MAX_INSTRUCTION)];
        let instruction = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE).decode();
        // What ends in the next page is made when the program comes to it.
        if instruction.is_invalid() && bytes.len() < MAX_INSTRUCTION && rip != start {
            break;
        }
        if !block.add(&instruction, &bytes[..instruction.len()])? {
            return Ok(block.finish());
        }
        (rip, code) = (instruction.next_ip(), &code[instruction.len()..]);
    }
    block.link(rip);
    Ok(block.finish())
}

/// Whether bytes at an address are not all in one page.
fn crosses_page(at: u64, len: usize) -> bool {
    at / PAGE != (at + len as u64 - 1) / PAGE
}

struct Maker<'a> {
    emitter: Emitter,
    counts: Option<Counts<'a>>,
    direct: u64,
    pieces: Vec<Piece>,
    links: Vec<(u64, u64)>,
    returns: Option<u64>,
}

impl Maker<'_> {
    /// From here on the program is this.
    fn is(&mut self, landing: Landing) {
        self.pieces.push(Piece { at: self.emitter.here(), landing, same: false });
    }

    /// An instruction as it is.
    fn same(&mut self, rip: u64, bytes: &[u8]) {
        let at = self.emitter.here();
        let follows =
            self.pieces.last().is_some_and(|last| last.same && last.landing_at(at) == Landing::at(rip));
        if !follows {
            self.pieces.push(Piece { at, landing: Landing::at(rip), same: true });
        }
        self.emitter.bytes(bytes);
    }

    /// The copy goes on at the copy of an address.
    fn link(&mut self, to: u64) {
        self.is(Landing::at(to).leaves(Leaves::Link));
        self.links.push((self.emitter.here(), to));
        self.emitter.bytes(&UNLINKED);
    }

    /// The instruction at an address is run where it is.
    fn leave(&mut self, rip: u64) {
        self.is(Landing::at(rip));
        self.emitter.jump_far(rip);
    }

    /// Counts a way. It was not gone up to the store that counts it: the program `was` what it is once more if it is
    /// left before, and is what it `becomes` behind it. RCX is saved then.
    fn counts(&mut self, way: (u64, Way), was: Landing, becomes: Landing) -> bool {
        let (at, way) = way;
        let Some(address) = self.counts.as_mut().and_then(|counts| counts.of(at, way)) else { return false };
        self.is(was);
        self.emitter.store(Register::RCX, SAVED_RCX);
        self.is(was.saved(Saved::Rcx));
        self.emitter.add_1(address);
        self.is(becomes.saved(Saved::Rcx));
        true
    }

    /// Counts those that come by an indirect branch.
    fn enters(&mut self, start: u64) {
        let at = Landing::at(start);
        if self.counts((start, Way::Entered), at.to_enter(), at) {
            self.emitter.load(Register::RCX, SAVED_RCX);
        }
        self.direct = self.emitter.here();
    }

    /// A conditional jump is not taken.
    fn falls_through(&mut self, from: u64, behind: u64) {
        if self.counts((from, Way::NotTaken), Landing::at(from), Landing::at(behind)) {
            self.emitter.load(Register::RCX, SAVED_RCX);
        }
        self.link(behind);
    }

    /// A conditional jump is taken.
    fn takes(&mut self, from: u64, to: u64) {
        let is_counted = to <= from;
        let there = Landing { to_count: is_counted, ..Landing::at(to) };
        match self.counts((from, Way::Taken), Landing::at(from), there) {
            true if is_counted => self.branch_backwards(to),
            true => {
                self.emitter.load(Register::RCX, SAVED_RCX);
                self.link(to);
            }
            false => self.branch(from, to),
        }
    }

    /// A direct branch is taken.
    fn branch(&mut self, from: u64, to: u64) {
        if to > from {
            return self.link(to);
        }
        self.is(Landing::at(to).to_count());
        self.emitter.store(Register::RCX, SAVED_RCX);
        self.is(Landing::at(to).to_count().saved(Saved::Rcx));
        self.branch_backwards(to);
    }

    /// One that is counted, with RCX saved.
    fn branch_backwards(&mut self, to: u64) {
        count(&mut self.emitter);
        self.is(Landing::at(to).saved(Saved::Rcx));
        let over = self.emitter.jump_if_rcx_is_0(0);
        self.emitter.load(Register::RCX, SAVED_RCX);
        self.link(to);
        self.emitter.is_here(over);
        self.is(Landing::at(to).saved(Saved::Rcx));
        self.emitter.load(Register::RCX, SAVED_RCX);
        self.is(Landing::at(to).leaves(Leaves::Over));
        self.emitter.bytes(&UNLINKED[..1]);
    }

    /// Adds an instruction. Whether the block goes on behind it.
    fn add(&mut self, instruction: &Instruction, bytes: &[u8]) -> Result<bool, IcedError> {
        let (rip, behind) = (instruction.ip(), instruction.next_ip());
        match kind(instruction) {
            Kind::Same => self.same(rip, bytes),
            Kind::By(register) => self.by(instruction, register)?,
            Kind::Jump(to) => {
                self.branch(rip, to);
                return Ok(false);
            }
            Kind::JumpIf(condition, to) => {
                self.is(Landing::at(rip));
                let taken = self.emitter.jump_if(condition, 0);
                self.falls_through(rip, behind);
                self.emitter.is_here_far(taken);
                self.takes(rip, to);
                return Ok(false);
            }
            Kind::JumpByRcx(to) => {
                self.is(Landing::at(rip));
                let (opcode, _) = bytes.split_at(bytes.len() - 1);
                self.emitter.bytes(opcode);
                self.emitter.bytes(&[UNLINKED.len() as u8]);
                self.link(behind);
                self.branch(rip, to);
                return Ok(false);
            }
            Kind::Call(to) => {
                self.is(Landing::at(rip));
                self.emitter.push(behind);
                self.returns = Some(behind);
                self.branch(rip, to);
                return Ok(false);
            }
            Kind::Return(more) => {
                self.saves_rcx(rip);
                // `mov rcx, [rsp]`.
                self.emitter.bytes(&[0x48, 0x8b, 0x0c, 0x24]);
                self.emitter.store(Register::RCX, TARGET);
                self.notes_from();
                // `lea rsp, [rsp + distance]`.
                self.emitter.bytes(&[0x48, 0x8d, 0xa4, 0x24]);
                self.emitter.bytes(&(8 + u32::from(more)).to_le_bytes());
                self.dispatch();
                return Ok(false);
            }
            kind @ (Kind::JumpIndirect | Kind::CallIndirect) => {
                self.saves_rcx(rip);
                self.target(instruction)?;
                self.notes_from();
                if kind == Kind::CallIndirect {
                    self.emitter.push(behind);
                    self.returns = Some(behind);
                }
                self.dispatch();
                return Ok(false);
            }
            Kind::Leaves => {
                self.leave(rip);
                return Ok(false);
            }
            Kind::Stepped => {
                self.is(Landing::at(rip).leaves(Leaves::Step));
                self.emitter.bytes(&UNLINKED[..1]);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn by(&mut self, instruction: &Instruction, register: Register) -> Result<(), IcedError> {
        let (rip, behind) = (instruction.ip(), instruction.next_ip());
        self.is(Landing::at(rip));
        self.emitter.store(register, SAVED_STAND_IN);
        self.emitter.number(register, instruction.ip_rel_memory_address());
        self.is(Landing::at(rip).saved(Saved::StandIn(register)));
        self.emitter.instruction(&with_base(instruction, register))?;
        self.is(Landing::at(behind).saved(Saved::StandIn(register)));
        self.emitter.load(register, SAVED_STAND_IN);
        Ok(())
    }

    /// An indirect branch begins.
    fn saves_rcx(&mut self, rip: u64) {
        self.is(Landing::at(rip));
        self.emitter.store(Register::RCX, SAVED_RCX);
        self.is(Landing::at(rip).saved(Saved::Rcx));
    }

    /// Where it goes.
    fn target(&mut self, instruction: &Instruction) -> Result<(), IcedError> {
        if instruction.op0_kind() == OpKind::Register {
            self.emitter.store(instruction.op0_register(), TARGET);
            return Ok(());
        }
        let operand = MemoryOperand::new(
            instruction.memory_base(),
            instruction.memory_index(),
            instruction.memory_index_scale(),
            instruction.memory_displacement64() as i64,
            instruction.memory_displ_size(),
            false,
            instruction.segment_prefix(),
        );
        let mut load = Instruction::with2(Code::Mov_r64_rm64, Register::RCX, operand)?;
        if instruction.is_ip_rel_memory_operand() {
            self.emitter.number(Register::RCX, instruction.ip_rel_memory_address());
            load = with_base(&load, Register::RCX);
        }
        self.emitter.instruction(&load)?;
        self.emitter.store(Register::RCX, TARGET);
        Ok(())
    }

    /// Where it comes from can be told by where this is.
    fn notes_from(&mut self) {
        let here = self.emitter.here();
        self.emitter.address_of(Register::RCX, here);
        self.emitter.store(Register::RCX, FROM);
    }

    fn dispatch(&mut self) {
        self.is(Landing::target(Saved::Rcx).to_count());
        self.emitter.jump(DISPATCH);
    }

    fn finish(self) -> Block {
        let Maker { emitter, counts: _, direct, pieces, links, returns } = self;
        Block { code: emitter.finish(), direct, pieces, links, returns }
    }
}

/// Counts a branch: RCX is what is left.
pub(super) fn count(emitter: &mut Emitter) {
    emitter.load(Register::RCX, COUNTER);
    // `lea rcx, [rcx - 1]`.
    emitter.bytes(&[0x48, 0x8d, 0x49, 0xff]);
    emitter.store(Register::RCX, COUNTER);
}

#[cfg(test)]
mod tests {
    use super::super::layout::CODE;
    use super::super::piece::Spot;
    use super::*;

    const BASE: u64 = CODE + 0x100;
    const AT: u64 = 0x40_1000;

    fn block(code: &[u8]) -> Block {
        stopping(code, &[], &BTreeMap::new())
    }

    fn stopping(code: &[u8], at: &[u64], conditions: &BTreeMap<u64, Vec<Condition>>) -> Block {
        let at = at.iter().copied().collect();
        translate(BASE, AT, code, true, Breakpoints { at: &at, conditions }, None).unwrap()
    }

    /// What the program is at each instruction of the copy.
    fn landings(block: &Block) -> Vec<Landing> {
        let mut decoder = Decoder::with_ip(64, &block.code, BASE, DecoderOptions::NONE);
        let mut landings = Vec::new();
        let last = block.pieces.last().unwrap().at;
        while decoder.ip() <= last {
            let at = decoder.ip();
            let piece = block.pieces.iter().rfind(|piece| piece.at <= at).unwrap();
            landings.push(piece.landing_at(at));
            let instruction = decoder.decode();
            // What follows an open link is none.
            if instruction.code() == Code::Hlt && piece.landing.leaves == Leaves::Link {
                (0..4).for_each(|_| decoder.decode_out(&mut Instruction::default()));
            }
        }
        landings
    }

    #[test]
    fn a_block_that_goes_on() {
        // `mov rbx, rdi`, `mov eax, [rip + 1]`, `je` forwards.
        let block = block(&[0x48, 0x89, 0xfb, 0x8b, 0x05, 1, 0, 0, 0, 0x74, 0x10]);
        let at = |offset| Landing::at(AT + offset);
        let stands_in = Saved::StandIn(Register::RCX);
        let expected = vec![
            at(0),
            at(3),
            at(3),
            at(3).saved(stands_in),
            at(9).saved(stands_in),
            at(9),
            at(0xb).leaves(Leaves::Link),
            at(0x1b).leaves(Leaves::Link),
        ];
        assert_eq!(landings(&block), expected);
        assert_eq!(block.links.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [AT + 0xb, AT + 0x1b]);
        assert_eq!(block.returns, None);
    }

    #[test]
    fn conditions_are_computed_before_their_instruction() {
        // `CONST8 0, END`: never.
        let never = Condition::new(&[0x22, 0, 0x27]).unwrap();
        let conditions = BTreeMap::from([(AT + 3, vec![never])]);
        // `mov rbx, rdi`, `mov rax, rbx`, `syscall`.
        let code = [0x48, 0x89, 0xfb, 0x48, 0x89, 0xd8, 0x0f, 0x05];
        let before = stopping(&code, &[AT + 3], &conditions);
        assert_eq!(before.links[0].1, AT + 3, "the block ends there");
        let conditions = BTreeMap::from([(AT, conditions[&(AT + 3)].clone())]);
        let made = stopping(&code, &[AT], &conditions);
        let mut saved: Vec<Saved> = landings(&made).iter().map(|landing| landing.saved).collect();
        assert!(landings(&made).iter().take(40).all(|landing| landing.spot == Spot::At(AT)));
        saved.dedup();
        let (stack, frame) = (Saved::Rsp, Saved::Frame);
        let expected = [Saved::Nothing, stack, frame, stack, Saved::Nothing, frame, stack, Saved::Nothing];
        assert_eq!(saved, expected);
        // Where nothing is to hold, the instruction is run where it is.
        let left = stopping(&code, &[AT], &BTreeMap::new());
        assert_eq!(landings(&left), [Landing::at(AT)]);
    }

    #[test]
    fn what_goes_back_is_counted() {
        // `call` of a lower address.
        let block = block(&[0xe8, 0, 0xff, 0xff, 0xff]);
        let to = Landing::at(AT + 5 - 0x100);
        let expected = vec![
            Landing::at(AT),
            to.to_count(),
            to.to_count().saved(Saved::Rcx),
            to.to_count().saved(Saved::Rcx),
            to.to_count().saved(Saved::Rcx),
            to.saved(Saved::Rcx),
            to.saved(Saved::Rcx),
            to.leaves(Leaves::Link),
            to.saved(Saved::Rcx),
            to.leaves(Leaves::Over),
        ];
        assert_eq!(landings(&block), expected);
        assert_eq!(block.returns, Some(AT + 5));
        let word = &block.code[block.code.len() - 8..];
        assert_eq!(word, (AT + 5).to_le_bytes(), "what is pushed");
    }

    #[test]
    fn indirect_branches() {
        for code in
            [&[0xc3][..], &[0xff, 0xe0], &[0xff, 0x24, 0xc8], &[0xff, 0x15, 8, 0, 0, 0], &[0x64, 0xff, 0x10]]
        {
            let block = block(code);
            let (last, before) = block.pieces.split_last().unwrap();
            assert_eq!(last.landing, Landing::target(Saved::Rcx).to_count());
            assert!(before.iter().all(|piece| piece.landing.spot == Spot::At(AT)));
            assert!(block.links.is_empty());
        }
        let called = block(&[0xff, 0xd0]);
        assert_eq!(called.returns, Some(AT + 2));
    }

    #[test]
    fn what_leaves_the_guest_is_run_where_it_is() {
        let made = block(&[0x90, 0x0f, 0x05]);
        assert_eq!(made.pieces.last().unwrap().landing, Landing::at(AT + 1));
        assert!(made.code.ends_with(&(AT + 1).to_le_bytes()));
        let stepped = block(&[0x9d]);
        assert_eq!(stepped.pieces[0].landing, Landing::at(AT).leaves(Leaves::Step));
    }

    #[test]
    fn a_way_is_gone_with_the_store_that_counts_it() {
        use super::super::edges::Edges;
        use crate::program::coverage::Modules;

        let mut edges = Edges::none(Modules::All);
        let file = edges.file(&std::sync::Arc::from(&b"/bin/a"[..])).unwrap();
        let counts = Counts { edges: &mut edges, file, to_offset: 0 };
        let none = Breakpoints { at: &BTreeSet::new(), conditions: &BTreeMap::new() };
        // `nop`, `je` backwards, to itself.
        let block = translate(BASE, AT, &[0x90, 0x74, 0xfe], true, none, Some(counts)).unwrap();
        let (at, jump, rcx) = (Landing::at(AT), Landing::at(AT + 1), Saved::Rcx);
        let enters =
            [at.to_enter(), at.to_enter().saved(rcx), at.to_enter().saved(rcx), at.to_enter().saved(rcx)];
        let tells = [jump, jump.saved(rcx), jump.saved(rcx), jump.saved(rcx)];
        let (behind, again) = (Landing::at(AT + 3), jump.to_count().saved(rcx));
        let mut expected = [&enters[..], &[at.saved(rcx), at, jump]].concat();
        expected.extend([&tells[..], &[behind.saved(rcx), behind.leaves(Leaves::Link)]].concat());
        expected.extend([&tells[..], &[again, again, again, jump.saved(rcx), jump.saved(rcx)]].concat());
        expected.extend([jump.leaves(Leaves::Link), jump.saved(rcx), jump.leaves(Leaves::Over)]);
        assert_eq!(landings(&block), expected);
        assert_eq!(block.code[(block.direct - BASE) as usize], 0x90, "others begin behind the count");
        let ways: Vec<_> = edges.met().into_iter().map(|edge| (edge.offset, edge.way)).collect();
        assert_eq!(ways, [(AT, Way::Entered), (AT + 1, Way::NotTaken), (AT + 1, Way::Taken)]);
    }

    #[test]
    fn blocks_are_short_and_end_with_their_page() {
        let long = block(&[0x90; 4096]);
        assert_eq!(long.links[0].1, AT + MAX_INSTRUCTIONS as u64);
        let cut = block(&[0x90, 0x48, 0x8b]);
        assert_eq!(cut.links[0].1, AT + 1);
        let nothing = block(&[]);
        assert_eq!(nothing.pieces[0].landing, Landing::at(AT), "the CPU says what is wrong");
    }

    #[test]
    fn what_the_handler_answers_stays_whole() {
        let made = block(&[0xcc, 0x06, 0xcc, 0x16, 0xd0, 0xc3]);
        assert!(made.code.starts_with(&[0xcc, 0x06, 0xcc, 0x16, 0xd0]));
        assert_eq!(made.pieces[1].landing, Landing::at(AT + 5));
        // It is in one page where the original is, and only there.
        let none = Breakpoints { at: &BTreeSet::new(), conditions: &BTreeMap::new() };
        let end = CODE + PAGE - 1;
        let moved = translate(end, AT, &[0xcc, 0x16, 0xd0, 0xc3], true, none, None).unwrap();
        assert!(moved.code.starts_with(&[NOP, 0xcc, 0x16, 0xd0]));
        assert_eq!(moved.pieces[0].landing, Landing::at(AT));
        assert_eq!(moved.pieces[1].landing, Landing::at(AT));
        for at in [AT + PAGE - 1, AT + PAGE - 2] {
            let left = translate(BASE, at, &[0xcc, 0x16, 0xd0, 0xc3], true, none, None).unwrap();
            assert_eq!(left.code[..2], [0xff, 0x25], "it is run where it is");
        }
        let others = translate(BASE, AT, &[0xcc, 0x1e, 0xc3], false, none, None).unwrap();
        assert_eq!(others.code[..2], [0xff, 0x25], "it is the program's own");
    }
}
