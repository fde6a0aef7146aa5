//! The program's files, for the debugger's symbols: as the program saw them, out of the recording.
//!
//! A recording has of a file what the program read, in blocks of 64 KiB. What it lacks comes from the file of
//! the same name on this machine, if that is of the same length and begins as the recorded one does.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dejavm_sandbox::program::fs::ContentRef;
use dejavm_sandbox::program::mm::Backing;
use dejavm_sandbox::ram::PAGE_SIZE;

use super::Debugger;

/// Files that a debugger may have open.
const OPEN_MAX: usize = 256;

/// Where debug files lie that are found by a program's build ID: those of this machine are given out, too.
const DEBUG_FILES: &str = "/usr/lib/debug/";

/// A file that is open.
#[derive(Debug)]
pub(super) struct OpenFile {
    recorded: Option<ContentRef>,
    here: Option<File>,
    /// Bytes.
    len: u64,
}

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

impl OpenFile {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }
}

impl Debugger {
    /// Opens a file that the program has mapped, or a debug file of this machine.
    pub(super) fn open_file(&self, path: &[u8]) -> Option<OpenFile> {
        let here = || {
            let file = File::open(Path::new(std::ffi::OsStr::from_bytes(path))).ok()?;
            let len = file.metadata().ok().filter(|metadata| metadata.is_file())?.len();
            Some((file, len))
        };
        let Some((content, len)) = self.mapped_file(path) else {
            let (file, len) = here().filter(|_| path.starts_with(DEBUG_FILES.as_bytes()))?;
            return Some(OpenFile { recorded: None, here: Some(file), len });
        };
        let begins_alike = |file: &File| {
            let (mut recorded, mut found) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
            let n = PAGE_SIZE.min(usize::try_from(len).unwrap_or(PAGE_SIZE));
            self.recorded_page(content, 0, &mut recorded).is_some()
                && file.read_exact_at(&mut found[..n], 0).is_ok()
                && recorded == found
        };
        let here = here().filter(|(file, length)| *length == len && begins_alike(file)).map(|(file, _)| file);
        Some(OpenFile { recorded: Some(content), here, len })
    }

    /// The content of a file that the running program has mapped, and its length. Mappings are named by what
    /// symbolic links lead to, and a debugger asks for the link: `libx.so.1` is `libx.so.1.2` as well.
    fn mapped_file(&self, path: &[u8]) -> Option<(ContentRef, u64)> {
        let kernel = &self.timeline.machine().program()?.kernel;
        let name = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let wanted = name(path);
        let version = [&wanted[..], b"."].concat();
        let find = |is_it: &dyn Fn(&[u8]) -> bool| {
            kernel.space.state.vmas.values().find_map(|vma| match vma.backing {
                Backing::File { content, len, .. } if is_it(&vma.name) => Some((content, len)),
                _ => None,
            })
        };
        find(&|mapped| mapped == path)
            .or_else(|| find(&|mapped| name(mapped) == wanted))
            .or_else(|| find(&|mapped| name(mapped).starts_with(&version)))
    }

    fn recorded_page(&self, content: ContentRef, offset: u64, out: &mut [u8; PAGE_SIZE]) -> Option<()> {
        let kernel = &self.timeline.machine().program()?.kernel;
        kernel.memory.pages.peek_content(content, offset, out).ok()
    }

    /// Reads a file; as much as lies in one page. `None` where neither the recording nor this machine has it.
    pub(super) fn read_file(&self, file: &OpenFile, offset: u64, out: &mut [u8]) -> Option<usize> {
        let within = (offset % PAGE_SIZE as u64) as usize;
        let n = usize::try_from(file.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = n.min(out.len()).min(PAGE_SIZE - within);
        if n == 0 {
            return Some(0);
        }
        let mut page = [0; PAGE_SIZE];
        let recorded =
            file.recorded.and_then(|content| self.recorded_page(content, offset - within as u64, &mut page));
        match (recorded, &file.here) {
            (Some(()), _) => out[..n].copy_from_slice(&page[within..within + n]),
            (None, Some(here)) => here.read_exact_at(&mut out[..n], offset).ok()?,
            (None, None) => return None,
        }
        Some(n)
    }
}
