//! What a program would be without its copies, wherever in them it is left.

use iced_x86::Register;
use kvm_bindings::kvm_regs;

use super::layout::{SAVED_RAX, SAVED_RCX, SAVED_RDX, SAVED_STAND_IN};

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
    pub leaves: Leaves,
}

impl Landing {
    /// At an instruction, with all registers.
    pub fn at(rip: u64) -> Landing {
        Landing { spot: Spot::At(rip), saved: Saved::Nothing, to_count: false, leaves: Leaves::Not }
    }

    /// Behind an indirect branch.
    pub fn target(saved: Saved) -> Landing {
        Landing { spot: Spot::Target, saved, to_count: false, leaves: Leaves::Not }
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

    /// At a `hlt`.
    pub fn leaves(self, leaves: Leaves) -> Landing {
        Landing { leaves, ..self }
    }

    /// Gives the registers back that the copy has for itself, by what `word` says is kept at an address.
    pub fn restore(&self, regs: &mut kvm_regs, word: impl Fn(u64) -> u64) {
        match self.saved {
            Saved::Nothing => {}
            Saved::Rcx => regs.rcx = word(SAVED_RCX),
            Saved::All => {
                (regs.rax, regs.rcx, regs.rdx) = (word(SAVED_RAX), word(SAVED_RCX), word(SAVED_RDX));
            }
            Saved::StandIn(register) => {
                let register = match register {
                    Register::RAX => &mut regs.rax,
                    Register::RCX => &mut regs.rcx,
                    Register::RDX => &mut regs.rdx,
                    Register::RBX => &mut regs.rbx,
                    Register::RSI => &mut regs.rsi,
                    _ => &mut regs.rdi,
                };
                *register = word(SAVED_STAND_IN);
            }
        }
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
