//! The files that a debugger has open, for its symbols.

use super::Debugger;
use crate::beside::BuildId;
use crate::timeline::OpenFile;

/// Files that a debugger may have open.
const OPEN_MAX: usize = 256;

/// Bytes of a file in /proc that a debugger is given at most.
const OF_PROCESS_MAX: usize = 1 << 20;

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
    /// Opens a file that the program has mapped, one of its /proc, or a debug file of the pack's or of this machine.
    pub(super) fn open_file(&mut self, path: &[u8]) -> Option<OpenFile> {
        if let Some(path) = path.strip_prefix(b"/proc/1/") {
            return self.open_of_process(path);
        }
        let sources = self.subject.sources();
        if !path.starts_with(DEBUG_FILES) {
            return sources.open_mapped_file(path);
        }
        let by_id = BuildId::of_debug_path(path).and_then(|id| sources.open_debug_file(&id));
        by_id.or_else(|| OpenFile::of_this_machine(path))
    }

    /// Opens a file in the /proc directory of the process, which the debugger takes for the first one.
    fn open_of_process(&mut self, path: &[u8]) -> Option<OpenFile> {
        let pid = self.stops.process.to_string();
        let pid = pid.as_bytes();
        let rest = match path.strip_prefix(b"task/1/") {
            Some(rest) => [b"task/", pid, b"/", rest].concat(),
            None => path.to_vec(),
        };
        let mut files = self.subject.recorded()?.timeline.files().ok()?;
        let file = files.find(&[b"/proc/", pid, b"/", &rest].concat()).ok()?;
        let mut content = vec![0; OF_PROCESS_MAX];
        let mut len = 0;
        while len < content.len() {
            match files.read(&file, len as u64, &mut content[len..]) {
                Ok(0) | Err(_) => break,
                Ok(n) => len += n,
            }
        }
        content.truncate(len);
        Some(OpenFile::made(content))
    }
}
