//! Which source lines ran, and how often, worked out from the ways that control flow took.

use std::collections::{BTreeMap, BTreeSet};

use dejavm::{ConstantMemory, Edge, Modules, Sandbox, Way};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

use crate::memory::read;

/// Bytes of code that are looked at, at most.
const MOST_CODE: u64 = 64 << 20;

/// How often each line of each source file ran, of all lines that there is code for.
pub type Lines = BTreeMap<String, BTreeMap<u32, u64>>;

/// The instructions of covered files, and how often each ran.
struct Code {
    parts: Vec<(ConstantMemory, Vec<u8>)>,
    ran: BTreeMap<u64, u64>,
}

/// The lines of covered files, given how often each way was gone, and where control came from elsewhere, so often.
pub(crate) fn lines(
    sandbox: &mut Sandbox,
    modules: &Modules,
    ways: &[(Edge, u64)],
    entered: Option<(u64, u64)>,
) -> Lines {
    let mut left = MOST_CODE;
    let parts = sandbox.constant_memory(modules).into_iter().filter(|part| part.is_code);
    let parts = parts.map(|part| {
        let len = (part.addresses.end - part.addresses.start).min(left);
        left -= len;
        let bytes = read(sandbox, part.addresses.start, len as usize);
        (part, bytes)
    });
    let mut code = Code { parts: parts.collect(), ran: BTreeMap::new() };
    for (edge, count) in ways {
        if let Some(start) = code.start(edge) {
            code.run(start, *count);
        }
    }
    if let Some((start, count)) = entered {
        code.run(start, count);
    }
    let addresses = code.addresses();
    let mut lines = Lines::new();
    for (address, line) in addresses.iter().zip(sandbox.source_lines(&addresses)) {
        let Some((file, line)) = line.filter(|(_, line)| *line > 0) else { continue };
        let count = lines.entry(file).or_default().entry(line).or_default();
        *count = (*count).max(code.ran.get(address).copied().unwrap_or(0));
    }
    lines
}

impl Code {
    fn instruction(&self, at: u64) -> Option<Instruction> {
        let (part, bytes) = self.parts.iter().find(|(part, _)| part.addresses.contains(&at))?;
        let rest = bytes.get((at - part.addresses.start) as usize..)?;
        let instruction = Decoder::with_ip(64, rest, at, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// Where control went by a way.
    fn start(&self, edge: &Edge) -> Option<u64> {
        let at = self.parts.iter().find_map(|(part, bytes)| {
            let within = edge.offset.checked_sub(part.offset).filter(|at| *at < bytes.len() as u64);
            within.filter(|_| part.file == edge.file).map(|within| part.addresses.start + within)
        })?;
        let jump = self.instruction(at);
        Some(match edge.way {
            Way::Entered => at,
            Way::Taken => jump?.near_branch_target(),
            Way::NotTaken => jump?.next_ip(),
        })
    }

    /// Control came to an address so often, and goes on from there to where ways part.
    fn run(&mut self, start: u64, count: u64) {
        let (mut starts, mut seen) = (vec![start], BTreeSet::new());
        while let Some(mut at) = starts.pop() {
            while seen.insert(at) {
                let Some(instruction) = self.instruction(at) else { break };
                let ran = self.ran.entry(at).or_default();
                *ran = ran.saturating_add(count);
                match instruction.flow_control() {
                    FlowControl::Next | FlowControl::Interrupt => at = instruction.next_ip(),
                    FlowControl::UnconditionalBranch => at = instruction.near_branch_target(),
                    // Its return is a way of its own. Of a `syscall` there is none.
                    FlowControl::Call if instruction.is_call_near() => {
                        starts.push(instruction.near_branch_target());
                        break;
                    }
                    FlowControl::Call => at = instruction.next_ip(),
                    _ => break,
                }
            }
        }
    }

    /// All instructions.
    fn addresses(&self) -> Vec<u64> {
        let of = |(part, bytes): &(ConstantMemory, Vec<u8>)| {
            let mut decoder = Decoder::with_ip(64, bytes, part.addresses.start, DecoderOptions::NONE);
            let mut addresses = Vec::new();
            while decoder.can_decode() {
                addresses.push(decoder.ip());
                let _ = decoder.decode();
            }
            addresses
        };
        // What ran is known to be an instruction's beginning; a sweep may come out of step.
        let swept: BTreeSet<u64> = self.parts.iter().flat_map(of).collect();
        swept.into_iter().chain(self.ran.keys().copied()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}
