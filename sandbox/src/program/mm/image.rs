//! What an address space was laid out for.

use serde::{Deserialize, Serialize};

use super::{PAGE, USER_END};
use crate::machine::{BadState, expect};
use crate::program::fs::{Fs, InodeId};

/// Entries of an auxiliary vector at most; there are some twenty.
const AUXV_MAX: usize = 64;

/// The program in an address space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Path of the program.
    pub exe: Vec<u8>,
    /// The program's file: held, and not to be written, while it runs.
    pub executable: Option<InodeId>,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
    /// Its environment at its start.
    pub env: Vec<Vec<u8>>,
    /// The auxiliary vector at its start.
    pub auxv: Vec<(u64, u64)>,
    /// Lowest address of the stack's arguments, for `/proc/self/stat`.
    pub stack: u64,
    /// Where the trampoline of handlers without a restorer is.
    pub sigreturn: u64,
    /// Address of the clock page; 0 before a program is loaded.
    pub clock_page: u64,
    /// Barriers that it has registered for (`membarrier`): commands.
    pub barriers: u32,
}

impl Image {
    /// Checks what a file claims of a program whose files are `fs`.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self, fs: &Fs) -> Result<(), BadState> {
        // Paths, arguments and environment go to `/proc` as they are.
        let Image { exe: _, args: _, env: _, auxv, executable, stack, sigreturn, clock_page, barriers: _ } =
            self;
        expect(auxv.len() <= AUXV_MAX, "the auxiliary vector")?;
        expect(executable.is_none_or(|inode| fs.exists(inode)), "the program's file")?;
        expect(*stack <= USER_END && *sigreturn <= USER_END, "the stack")?;
        expect(clock_page.is_multiple_of(PAGE) && *clock_page < USER_END, "the clock page")
    }
}
