//! The program's files, as the program saw them, out of the recording.
//!
//! A recording has of a file what the program read, in blocks of 64 KiB, or all of it, and of what was loaded before it
//! begins what is in memory. What it lacks comes from the file of the same build ID in the pack, or the file on this
//! machine that the program saw by that name, if it is of the same length and begins as the recorded one does. Debug
//! files are found by the build ID: in the pack, then on this machine.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dejavm_sandbox::guest::Machine;
use dejavm_sandbox::program::fs::{ContentRef, Fs};
use dejavm_sandbox::program::mm::Backing;
use dejavm_sandbox::ram::PAGE_SIZE;

use super::Timeline;
use crate::beside::{Beside, BuildId, DEBUG_DIR, Kind};
use crate::elsewhere::candidates;
use crate::home::Home;
use crate::looking;

/// A file that is open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    recorded: Option<ContentRef>,
    here: Option<Here>,
    /// Bytes.
    len: u64,
}

/// Where all of a file is.
#[derive(Debug)]
enum Here {
    /// On this machine.
    File(File),
    /// With the recording.
    Beside(Beside),
    /// Nowhere: it was made.
    Made(Vec<u8>),
}

impl OpenFile {
    /// One of this machine.
    pub fn of_this_machine(path: &[u8]) -> Option<OpenFile> {
        let (file, len) = of_this_machine(Path::new(std::ffi::OsStr::from_bytes(path)))?;
        Some(OpenFile { recorded: None, here: Some(Here::File(file)), len })
    }

    /// One that was made.
    pub fn made(content: Vec<u8>) -> OpenFile {
        OpenFile { recorded: None, len: content.len() as u64, here: Some(Here::Made(content)) }
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }
}

/// A file of this machine, and its length.
pub(super) fn of_this_machine(path: &Path) -> Option<(File, u64)> {
    // To open what is no file may take for ever.
    let len = path.metadata().ok().filter(|metadata| metadata.is_file())?.len();
    Some((File::open(path).ok()?, len))
}

/// What a program's files are read from: its machine, and what stands beside the recording of its run.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The recording; none of a program that runs.
    pub home: Option<&'a Home>,
}

impl Timeline {
    /// What the program's files are read from.
    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources { machine: self.machine(), home: Some(self.recording.home()) }
    }
}

impl Sources<'_> {
    /// Opens a file that the running program has mapped.
    pub(crate) fn open_mapped_file(&self, path: &[u8]) -> Option<OpenFile> {
        let (content, len) = self.mapped_file(path)?;
        Some(self.open_content(content, len, path))
    }

    /// Opens a content of so many bytes, which has this path.
    pub(crate) fn open_content(&self, content: ContentRef, len: u64, path: &[u8]) -> OpenFile {
        let id = self.build_id(content, len);
        let beside = id.and_then(|id| Beside::open(self.home?, Kind::File, &id));
        if let Some(beside) = beside.filter(|beside| beside.len() == len) {
            return OpenFile { recorded: Some(content), here: Some(Here::Beside(beside)), len };
        }
        let begins_alike = |file: &File| {
            let (mut recorded, mut found) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
            let n = PAGE_SIZE.min(usize::try_from(len).unwrap_or(PAGE_SIZE));
            self.recorded_page(content, 0, &mut recorded).is_some()
                && file.read_exact_at(&mut found[..n], 0).is_ok()
                && recorded == found
        };
        // A program that runs can be asked for all of it.
        let here = self.home.and_then(|_| {
            let mut files = self.here(path).into_iter().filter_map(|path| of_this_machine(&path));
            files.find(|(file, length)| *length == len && begins_alike(file))
        });
        OpenFile { recorded: Some(content), here: here.map(|(file, _)| Here::File(file)), len }
    }

    /// Where this machine may have a file of this path.
    fn here(&self, path: &[u8]) -> Vec<PathBuf> {
        let Some(program) = self.machine.program() else { return Vec::new() };
        let candidates = |fs: &Fs, path: Vec<u8>| candidates(fs.mounts(), &path);
        program.kernel.outside.look(candidates, path.to_vec())
    }

    /// The build ID of a content of so many bytes, if that part of it was read.
    pub(crate) fn build_id(&self, content: ContentRef, len: u64) -> Option<BuildId> {
        let file = OpenFile { recorded: Some(content), here: None, len };
        BuildId::of(FileReader::new(*self, file))
    }

    /// Opens the debug file of a build ID.
    pub(crate) fn open_debug_file(&self, id: &BuildId) -> Option<OpenFile> {
        if let Some(beside) = self.home.and_then(|home| Beside::open(home, Kind::Debug, id)) {
            let len = beside.len();
            return Some(OpenFile { recorded: None, here: Some(Here::Beside(beside)), len });
        }
        OpenFile::of_this_machine(id.debug_path(Path::new(DEBUG_DIR)).as_os_str().as_bytes())
    }

    /// The content of a file that the running program has mapped, and its length. Mappings are named by what
    /// symbolic links lead to, and a debugger asks for the link: `libx.so.1` is `libx.so.1.2` as well.
    fn mapped_file(&self, path: &[u8]) -> Option<(ContentRef, u64)> {
        let kernel = &self.machine.program()?.kernel;
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
        let kernel = &self.machine.program()?.kernel;
        let peeked = kernel.memory.pages.peek_content(content, offset, out).ok();
        peeked.or_else(|| self.loaded_page(content, offset, out))
    }

    /// A page of the beginning of a file, as the program has it in its memory: there is the build ID of what was
    /// loaded before a recording begins. Of what it may write, or what is relocated, that is another matter.
    fn loaded_page(&self, content: ContentRef, offset: u64, out: &mut [u8; PAGE_SIZE]) -> Option<()> {
        let kernel = &self.machine.program()?.kernel;
        let address = kernel.space.state.vmas.iter().find_map(|(start, vma)| match vma.backing {
            Backing::File { content: of, offset: 0, .. } if of == content && !vma.protection.write => {
                start.checked_add(offset).filter(|address| *address < vma.end)
            }
            _ => None,
        });
        (looking::memory(self.machine, address?, out) == out.len()).then_some(())
    }

    /// Reads a file; as much as lies in one page. `None` where neither the recording nor this machine has it.
    pub(crate) fn read_file(&self, file: &OpenFile, offset: u64, out: &mut [u8]) -> Option<usize> {
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
            (None, Some(Here::File(file))) => file.read_exact_at(&mut out[..n], offset).ok()?,
            (None, Some(Here::Beside(file))) => file.read(offset, &mut out[..n])?,
            (None, Some(Here::Made(content))) => {
                let from = usize::try_from(offset).ok()?;
                out[..n].copy_from_slice(content.get(from..from + n)?);
            }
            (None, None) => return None,
        }
        Some(n)
    }
}

/// A file of a program, to be read as others are.
pub(super) struct FileReader<'a> {
    sources: Sources<'a>,
    file: OpenFile,
    at: u64,
}

impl<'a> FileReader<'a> {
    /// From its beginning.
    pub fn new(sources: Sources<'a>, file: OpenFile) -> FileReader<'a> {
        FileReader { sources, file, at: 0 }
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.sources.read_file(&self.file, self.at, out);
        let n = read.ok_or_else(|| io::Error::other("the recording has not this part of the file"))?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for FileReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
