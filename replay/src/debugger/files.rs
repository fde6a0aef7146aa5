//! The files that a debugger has open, for its symbols.

use super::Debugger;
use crate::beside::BuildId;
use crate::timeline::OpenFile;

/// Files that a debugger may have open.
const OPEN_MAX: usize = 256;

/// Where debug files lie that are found by a program's build ID: those of the pack, and of this machine, are given
/// out, too.
const DEBUG_FILES: &[u8] = b"/usr/lib/debug/";

/// The files that a debugger has open, by descriptor.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<Option<OpenFile>>);

impl Files {
    /// Keeps a file open; its descriptor.
    pub fn add(&mut self, file: OpenFile) -> Option<u32> {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free >= OPEN_MAX {
            return None;
        }
        if free == self.0.len() {
            self.0.push(None);
        }
        self.0[free] = Some(file);
        u32::try_from(free).ok()
    }

    /// Closes a descriptor; whether it was open.
    pub fn close(&mut self, fd: u32) -> bool {
        self.0.get_mut(fd as usize).is_some_and(|file| file.take().is_some())
    }

    /// An open file.
    pub fn get(&self, fd: u32) -> Option<&OpenFile> {
        self.0.get(fd as usize)?.as_ref()
    }
}

impl Debugger<'_> {
    /// Opens a file that the program has mapped, or a debug file of the pack's or of this machine.
    pub(super) fn open_file(&self, path: &[u8]) -> Option<OpenFile> {
        let sources = self.subject.sources();
        if !path.starts_with(DEBUG_FILES) {
            return sources.open_mapped_file(path);
        }
        let by_id = BuildId::of_debug_path(path).and_then(|id| sources.open_debug_file(&id));
        by_id.or_else(|| OpenFile::of_this_machine(path))
    }
}
