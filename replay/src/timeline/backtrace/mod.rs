//! Who called whom: the frames of the running task's stack, with the names and lines of the program's files.

mod module;
mod symbol;
mod unwind;

use std::collections::BTreeMap;
use std::fmt;

use dejavm_sandbox::program::fs::ContentRef;
use dejavm_sandbox::program::mm::Backing;

use super::Timeline;
use super::mapped::FileReader;
use module::{Module, Place};
pub use symbol::{loaded_at, source_lines, symbol_address};
use unwind::{Registers, Stack, Unwound};

/// Most frames of a backtrace: a stack may be as deep as memory is, or go round in circles.
pub const MOST_FRAMES: usize = 256;

/// Most bytes of the program's files that are read for one backtrace. What does not fit has no names.
const MOST_READ: u64 = 256 << 20;

/// A function that has been called and has not returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Where it is: at the instruction that comes next, which in a caller is the one behind its call.
    pub address: u64,
    /// RSP in it.
    pub stack: u64,
    /// The path of the mapped file that its code is in.
    pub module: Option<String>,
    /// Its name, in the words of its language, and the bytes from its beginning to `address`.
    pub function: Option<(String, u64)>,
    /// The source file, and the line in it. In a caller this is the call's.
    pub source: Option<(String, u32)>,
    /// A signal's handler returns to it: it did not call the one before.
    pub interrupted: bool,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.address)?;
        if let Some((name, offset)) = &self.function {
            write!(f, " {name}+{offset:#x}")?;
        }
        if let Some(module) = &self.module {
            write!(f, " in {module}")?;
        }
        if let Some((file, line)) = &self.source {
            write!(f, " at {file}:{line}")?;
        }
        Ok(())
    }
}

impl Timeline {
    /// The frames of the running task, the innermost first, [`MOST_FRAMES`] at most. They are found by the unwind
    /// tables (`.eh_frame`) of the files that the program has mapped, as they are in the recording or, where it
    /// lacks a part and its pack or this machine has the same file, there; names and lines also by their debug
    /// files; where there is none, by frame pointers. A stack
    /// that is damaged ends early. Empty for a bare-metal guest.
    pub fn backtrace(&self) -> Vec<Frame> {
        if self.machine().program().is_none() {
            return Vec::new();
        }
        let mut walk = Walk { timeline: self, modules: BTreeMap::new(), budget: MOST_READ };
        let mut registers = Registers::of(&self.registers().general);
        let mut frames: Vec<Frame> = Vec::new();
        // The instruction at the address runs next, and not the one behind a call.
        let mut at_next = true;
        while frames.len() < MOST_FRAMES {
            let (address, stack) = (registers.rip(), registers.rsp());
            let code = address.saturating_sub(u64::from(!at_next));
            let mut frame =
                Frame { address, stack, interrupted: at_next && !frames.is_empty(), ..Frame::default() };
            walk.describe(code, &mut frame);
            frames.push(frame);
            // A stack grows downwards, but for the one that a signal's handler runs on.
            (registers, at_next) = match walk.caller(code, &registers, frames.len() == 1) {
                Unwound::Caller(caller) if caller.rsp() > stack => (caller, false),
                Unwound::Interrupted(caller) => (caller, true),
                _ => break,
            };
            if registers.rip() == 0 {
                break;
            }
        }
        frames
    }
}

/// Files that have been read.
struct Walk<'a> {
    timeline: &'a Timeline,
    modules: BTreeMap<ContentRef, Option<Module>>,
    /// Bytes that may still be read.
    budget: u64,
}

impl Walk<'_> {
    /// The file that an address is in, its path, and the address as the file has it.
    fn module(&mut self, address: u64) -> Option<(&Module, String, u64)> {
        let (start, vma) = self.timeline.machine().program()?.kernel.space.find(address)?;
        let Backing::File { content, offset, len, .. } = vma.backing else { return None };
        let path = String::from_utf8_lossy(&vma.name).into_owned();
        let (budget, sources) = (&mut self.budget, self.timeline.sources());
        let module = self.modules.entry(content).or_insert_with(|| {
            let file = sources.open_content(content, len, &vma.name);
            let mut module = Module::load(FileReader::new(sources, file), budget)?;
            let id = sources.build_id(content, len).filter(|_| module.lacks_names());
            if let Some(debug) = id.and_then(|id| sources.open_debug_file(&id)) {
                module.add_debug_file(FileReader::new(sources, debug), budget);
            }
            Some(module)
        });
        let module = module.as_ref()?;
        let address = module.address(offset.checked_add(address - start)?)?;
        Some((module, path, address))
    }

    fn describe(&mut self, code: u64, frame: &mut Frame) {
        let address = frame.address;
        let Some((module, path, known)) = self.module(code) else { return };
        frame.module = Some(path);
        let Place { function, source } = module.place(known);
        // Where the function begins, as the program has it.
        frame.function = function.map(|(name, into)| (name, into.saturating_add(address - code)));
        frame.source = source;
    }

    /// What called the function at this address.
    fn caller(&mut self, code: u64, registers: &Registers, innermost: bool) -> Unwound {
        let stack = Stack(self.timeline);
        let is_nowhere = innermost && !self.is_mapped(code);
        let module = self.module(code);
        let is_module = module.is_some();
        if let Some(unwound) = module.and_then(|(module, _, known)| module.unwind(known, registers, &stack)) {
            return unwound;
        }
        let caller = match is_nowhere && !is_module {
            // What was called is no code: the call has pushed where it came from.
            true => registers.by_return(&stack),
            false => registers.by_frame_pointer(&stack),
        };
        caller.map_or(Unwound::Outermost, Unwound::Caller)
    }

    fn is_mapped(&self, address: u64) -> bool {
        self.timeline.look_at_memory(address, &mut [0]) == 1
    }
}
