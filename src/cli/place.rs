//! A moment of a recording: registers, and who called whom.

use dejavm::replay::{Frame, Timeline};

/// The registers that are shown, by name.
pub type Registers = Vec<(&'static str, u64)>;

/// What the running task is at.
pub struct Place {
    pub registers: Registers,
    pub frames: Vec<Frame>,
}

impl Place {
    /// Where a timeline is.
    pub fn of(timeline: &Timeline) -> Place {
        let regs = timeline.registers();
        let g = regs.general;
        let registers = vec![
            ("rax", g.rax),
            ("rbx", g.rbx),
            ("rcx", g.rcx),
            ("rdx", g.rdx),
            ("rsi", g.rsi),
            ("rdi", g.rdi),
            ("rbp", g.rbp),
            ("rsp", g.rsp),
            ("r8", g.r8),
            ("r9", g.r9),
            ("r10", g.r10),
            ("r11", g.r11),
            ("r12", g.r12),
            ("r13", g.r13),
            ("r14", g.r14),
            ("r15", g.r15),
            ("rip", g.rip),
            ("rflags", g.rflags),
            ("fs_base", regs.fs_base),
            ("gs_base", regs.gs_base),
        ];
        Place { registers, frames: timeline.backtrace() }
    }
}
