//! What a program would be without its copies, wherever in them it is left.

use iced_x86::Register;
use kvm_bindings::kvm_regs;

use super::layout::{FRAME, FRAME_RFLAGS, FRAME_RSP, SAVED_RAX, SAVED_RCX, SAVED_RDX, SAVED_STAND_IN};
use crate::program::patch;
use crate::x86::by_rip;
use crate::x86::flags::rflags::ARITHMETIC_FLAGS;
use crate::x86::frame::Frame;

/// Where a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// At the instruction at this address.
    At(u64),
    /// Where the word of the indirect branch that it makes says.
    Target,
}

/// Registers that are not what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    Nothing,
    Rcx,
    All,
    StandIn(Register),
    /// RSP.
    Rsp,
    /// All of them, and the arithmetic flags, while a condition is computed.
    Frame,
}

/// Why a copy leaves the guest, at its `hlt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// It does not: the program does.
    Not,
    /// What it goes on with has no copy yet, or is not known to be one.
    Link,
    /// An indirect branch goes where the table has nothing.
    Miss,
    /// As many branches were counted as were asked for.
    Over,
    /// The instruction is to be stepped where it is.
    Step,
}

/// What a program is, at an instruction of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    pub spot: Spot,
    pub saved: Saved,
    /// The branch that brings it there is still to be counted.
    pub to_count: bool,
    /// That it has come to where it is, by an indirect branch, is still to be counted.
    pub to_enter: bool,
    pub leaves: Leaves,
}

impl Landing {
    /// At an instruction, with all registers.
    pub fn at(rip: u64) -> Landing {
        Landing {
            spot: Spot::At(rip),
            saved: Saved::Nothing,
            to_count: false,
            to_enter: false,
            leaves: Leaves::Not,
        }
    }

    /// Behind an indirect branch.
    pub fn target(saved: Saved) -> Landing {
        Landing { spot: Spot::Target, saved, to_count: false, to_enter: true, leaves: Leaves::Not }
    }

    /// Whether it is behind an indirect branch.
    pub fn is_target(&self) -> bool {
        self.spot == Spot::Target
    }

    /// With this saved.
    pub fn saved(self, saved: Saved) -> Landing {
        Landing { saved, ..self }
    }

    /// With the branch to be counted.
    pub fn to_count(self) -> Landing {
        Landing { to_count: true, ..self }
    }

    /// With the arrival to be counted.
    pub fn to_enter(self) -> Landing {
        Landing { to_enter: true, ..self }
    }

    /// At a `hlt`.
    pub fn leaves(self, leaves: Leaves) -> Landing {
        Landing { leaves, ..self }
    }

    /// Gives the registers back that the copy has for itself, by what `word` says is kept at an address.
    pub fn restore(&self, regs: &mut kvm_regs, word: impl Fn(u64) -> u64) {
        match self.saved {
            Saved::Nothing | Saved::Rsp => {}
            Saved::Rcx => regs.rcx = word(SAVED_RCX),
            Saved::All => {
                (regs.rax, regs.rcx, regs.rdx) = (word(SAVED_RAX), word(SAVED_RCX), word(SAVED_RDX));
            }
            Saved::StandIn(register) => {
                if let Some(register) = by_rip::register(regs, register) {
                    *register = word(SAVED_STAND_IN);
                }
            }
            Saved::Frame => {
                let saved = std::array::from_fn(|number| word(FRAME + number as u64 * 8));
                patch::restore(saved, regs);
            }
        }
    }

    /// What the program's frame would be at a place, where this one is the copy's.
    pub fn frame(&self, rip: u64, frame: &Frame, word: impl Fn(u64) -> u64) -> Frame {
        let mut program = Frame { rip, ..*frame };
        if matches!(self.saved, Saved::Rsp | Saved::Frame) {
            program.rsp = word(FRAME_RSP);
        }
        if self.saved == Saved::Frame {
            program.rflags = frame.rflags & !ARITHMETIC_FLAGS | word(FRAME_RFLAGS) & ARITHMETIC_FLAGS;
        }
        program
    }

    /// Whether a condition of a breakpoint is computed here.
    pub fn is_condition(&self) -> bool {
        self.saved == Saved::Frame
    }
}

/// What holds from one place in the copies on, up to the next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins.
    pub at: u64,
    pub landing: Landing,
    /// It is the program's own code, byte for byte.
    pub same: bool,
}

impl Piece {
    /// What the program is at an instruction of this piece.
    pub fn landing_at(&self, rip: u64) -> Landing {
        match self.landing.spot {
            Spot::At(first) if self.same => {
                Landing { spot: Spot::At(first.wrapping_add(rip - self.at)), ..self.landing }
            }
            _ => self.landing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_of_a_program_while_a_condition_is_computed() {
        let copy = Frame { rip: 1, rsp: 2, rflags: 0x246, cs: 3, ss: 4 };
        let word = |address| match address {
            FRAME_RSP => 0x7000,
            FRAME_RFLAGS => 0x8d7,
            _ => 0,
        };
        let of = |saved| Landing::at(5).saved(saved).frame(5, &copy, word);
        assert_eq!(of(Saved::Frame), Frame { rip: 5, rsp: 0x7000, rflags: 0xad7, cs: 3, ss: 4 });
        assert_eq!(of(Saved::Rsp), Frame { rip: 5, rsp: 0x7000, ..copy });
        assert_eq!(of(Saved::All), Frame { rip: 5, ..copy });
    }
}
