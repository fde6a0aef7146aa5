//! Counting which ways a program's control flow takes.

use dejavm_replay::source_lines;
use dejavm_sandbox::program::coverage::{ConstantMemory, Edge, Modules};

use crate::{Error, Sandbox};

impl Sandbox {
    /// Counts from here on which ways control flow takes in the code of these files, in all of the guest's processes: of
    /// each conditional jump how often it was taken and how often not, and how often an indirect branch came to
    /// where it goes. Nothing changes for the guest, which need not be compiled for it; it runs some
    /// 2 to 4 times as long while it computes. Code that can be written, as compilers at run time make, is not
    /// counted. What was counted before is forgotten, and ways are numbered anew.
    ///
    /// A [reset](Sandbox::reset_to) leaves the counts as they are, and the numbers.
    ///
    /// # Errors
    /// [`Error::NoCoverage`] of a bare-metal guest; [`Error::Run`] when there is no memory; [`Error::Unusable`].
    pub fn cover(&mut self, modules: Modules) -> Result<(), Error> {
        self.check()?;
        let program = self.machine_mut().program_mut().ok_or(Error::NoCoverage)?;
        program.count_edges(modules).map_err(|e| self.fail(e))
    }

    /// How often each way was gone since the last call, by the way's number: up to 262,144 of them, which have numbers as they
    /// are met; 255 is as often, or more. Empty where nothing is counted.
    pub fn take_counts(&mut self, counts: &mut Vec<u8>) {
        match self.machine().program() {
            Some(program) => program.take_counts(counts),
            None => counts.clear(),
        }
    }

    /// The ways that were met so far: what the numbers stand for.
    pub fn edges(&self) -> Vec<Edge> {
        self.machine().program().map_or(Vec::new(), |program| program.edges())
    }

    /// Whether there are as many ways as can be counted: others that are met have no number.
    pub fn edges_are_full(&self) -> bool {
        self.machine().program().is_some_and(|program| program.edges_are_full())
    }

    /// What the running process has of these files that it cannot write there: their code, and their constants.
    pub fn constant_memory(&self, modules: &Modules) -> Vec<ConstantMemory> {
        self.machine().program().map_or(Vec::new(), |program| program.constant_memory(modules))
    }

    /// The source files and lines that addresses of the running process's code belong to, where files that are mapped say so:
    /// as many as addresses, in their order.
    pub fn source_lines(&self, addresses: &[u64]) -> Vec<Option<(String, u32)>> {
        source_lines(self.machine(), addresses)
    }
}
