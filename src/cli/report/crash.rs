//! What a program was at when a signal ended it.

use dejavm::replay::{Frame, RunEnd};
use dejavm::sandbox::machine::End;
use dejavm::{Error, Host, Replay};

/// The registers that are shown, by name.
pub type Registers = Vec<(&'static str, u64)>;

/// The last moment of a program that a signal ended.
pub struct Crash {
    /// Its number.
    pub signal: u32,
    /// Where it is, or why that is not known.
    pub place: Result<Place, String>,
}

/// A moment of a recording.
pub struct Place {
    pub registers: Registers,
    pub frames: Vec<Frame>,
}

impl Crash {
    /// Of a recording, if a signal ended it. The recording is replayed for it.
    pub fn of(replay: Replay, host: impl FnOnce() -> crate::cli::Result<Host>) -> Option<Crash> {
        let signal = match replay.recording().end() {
            Some(RunEnd::Ended { status }) => match End::of_status(*status) {
                End::Signalled(signal) => signal,
                _ => return None,
            },
            _ => return None,
        };
        let place = host()
            .map_err(|failure| failure.message().to_owned())
            .and_then(|host| place(replay, &host).map_err(|e| e.to_string()));
        Some(Crash { signal, place })
    }
}

fn place(replay: Replay, host: &Host) -> Result<Place, Error> {
    let mut timeline = replay.timeline(host)?;
    timeline.seek_end()?;
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
    Ok(Place { registers, frames: timeline.backtrace() })
}
