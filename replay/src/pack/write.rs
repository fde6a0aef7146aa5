//! Writing a pack.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dejavm_snapshot::{
    Content, ContentsError, NewFile, PAGE_SIZE, PageContents, PageReader, Snapshot, Span, WriteOptions,
    directory_of,
};

use super::checksum;
use super::format::{HEADER, Header, Member, align, encode_table};
use crate::beside::DEBUG_DIR;
use crate::error::Error;
use crate::manifest::{LOG_FILE, MANIFEST_FILE, Manifest};
use crate::reader::Recording;
use crate::recorder::rewrite;

/// How a recording is packed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PackOptions {
    /// zstd level, 1 to 22; 19 by default. Higher ones are smaller and slower.
    pub level: i32,
    /// Puts in what this machine has of the programs and libraries that were read: each as a whole, and its debug
    /// file. Not by default.
    pub debug_files: bool,
    /// Directories of debug files, each with `.build-id/xx/xxxx.debug`: `/usr/lib/debug` by default.
    pub debug_dirs: Vec<PathBuf>,
}

impl Default for PackOptions {
    fn default() -> PackOptions {
        PackOptions { level: 19, debug_files: false, debug_dirs: vec![DEBUG_DIR.into()] }
    }
}

/// What was packed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackSummary {
    /// Length of the pack, bytes.
    pub bytes: u64,
    /// Length of the recording's files before, together, bytes.
    pub from_bytes: u64,
    /// Number of files of programs and libraries that it has besides.
    pub files: usize,
}

/// The parts of the work that progress is told of: reading the log, and the pages of the snapshots.
const PARTS: u64 = 2;

impl Recording {
    /// Puts the recording into one file, replacing any at this path. It appears under its name only when it is
    /// complete and on the disk, readable by its owner only. An interrupted recording stays one. Checkpoints
    /// are left out. `progress` is called now and then with what is done and the total.
    ///
    /// # Errors
    /// Whatever is wrong with the recording, whose log is read and checked in whole, or with its start
    /// snapshot; [`Error::Io`]. A file that is at `path` is untouched then.
    pub fn pack(
        &self,
        path: &Path,
        options: &PackOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PackSummary, Error> {
        let level = options.level.clamp(1, 22);
        let chain = self.start_chain()?;
        let start = self.manifest().snapshot.file.as_bytes();
        let mut names = vec![MANIFEST_FILE.as_bytes().to_vec(), LOG_FILE.into(), start.into()];
        names
            .extend(chain.iter().skip(1).map(|s| s.path().file_name().unwrap_or_default().as_bytes().into()));
        let scratch = scratch(path)?;
        let extras = self.extras(options, scratch.path())?;
        names.extend(extras.iter().map(|(name, _)| name.as_bytes().to_vec()));
        let mut writer = PackWriter::create(path, names)?;
        let manifest = Manifest { checkpoints: Vec::new(), log: LOG_FILE.into(), ..self.manifest().clone() };
        let manifest = manifest.to_text().map_err(|why| writer.bad(why))?;
        writer.member(|file, path| file.write_all(&manifest).map_err(|e| Error::io("write", path, e)))?;
        let scale = |done: u64, total: u64| done.saturating_mul(1000) / total.max(1);
        writer.member(|file, path| {
            rewrite(self, file, path, level, &mut |done, total| progress(scale(done, total), PARTS * 1000))
        })?;
        let mut pages = |done, total| progress(1000 + scale(done, total), PARTS * 1000);
        for snapshot in &chain {
            // A layer stays as it is: its pages are told by their parent's file.
            let smaller = match chain.len() {
                1 => writer.smaller(snapshot, level, &mut pages)?,
                _ => None,
            };
            let bytes = smaller.unwrap_or_else(|| snapshot.bytes());
            writer.copy(&bytes)?;
        }
        for (_, bytes) in &extras {
            writer.copy(bytes)?;
        }
        let from_bytes = manifest.len() as u64
            + self.log_bytes()
            + chain.iter().map(|snapshot| snapshot.bytes().length()).sum::<u64>();
        Ok(PackSummary { bytes: writer.finish()?, from_bytes, files: extras.len() })
    }

    /// The start snapshot and its parents.
    fn start_chain(&self) -> Result<Vec<Arc<Snapshot>>, Error> {
        let first = self.open_snapshot()?;
        let (expected, found) = (self.manifest().snapshot.id, first.id());
        if expected != found {
            let why =
                format!("it starts from snapshot {expected}, and {} is {found}", first.path().display());
            return Err(Error::Manifest { path: self.path().join(MANIFEST_FILE), why });
        }
        let parents = std::iter::successors(Some(first), |snapshot| snapshot.parent());
        Ok(parents.collect())
    }
}

/// The pages of a snapshot, to be written anew.
struct Pages(PageReader);

impl PageContents for Pages {
    fn page_count(&self) -> u64 {
        self.0.snapshot().page_count()
    }

    fn page(&mut self, page: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
        self.0.read(page, out)?;
        Ok(Content::Data)
    }
}

/// A directory for temporary files beside a file.
fn scratch(target: &Path) -> Result<tempfile::TempDir, Error> {
    let dir = tempfile::Builder::new().prefix(".dejavm-").suffix(".tmp").tempdir_in(directory_of(target));
    dir.map_err(|e| Error::io("make a directory beside", target, e))
}

/// A pack that is being written.
struct PackWriter {
    file: NewFile,
    /// What comes first has its place; how much of them, in `written`.
    members: Vec<Member>,
    written: usize,
    /// Bytes written.
    end: u64,
    /// Temporary files that are read from.
    scratch: Vec<tempfile::TempDir>,
}

impl PackWriter {
    /// Starts a pack with members of these names, in this order.
    fn create(target: &Path, names: Vec<Vec<u8>>) -> Result<PackWriter, Error> {
        let file = NewFile::create(target).map_err(|e| Error::io("make a file beside", target, e))?;
        let member = |name| Member { name, offset: 0, length: 0, checksum: 0 };
        let members: Vec<Member> = names.into_iter().map(member).collect();
        let mut writer = PackWriter { file, members, written: 0, end: 0, scratch: Vec::new() };
        // As long as it will be.
        writer.end = HEADER as u64 + writer.table()?.len() as u64;
        Ok(writer)
    }

    fn table(&self) -> Result<Vec<u8>, Error> {
        encode_table(&self.members).map_err(|why| self.bad(why))
    }

    fn bad(&self, why: String) -> Error {
        self.io(io::Error::other(why))
    }

    fn io(&self, e: io::Error) -> Error {
        Error::io("write", self.file.target(), e)
    }

    /// Writes the next member: what `write` writes to the file, from where that stands.
    fn member(&mut self, write: impl FnOnce(&mut File, &Path) -> Result<(), Error>) -> Result<(), Error> {
        let offset = align(self.end).ok_or_else(|| self.io(io::ErrorKind::FileTooLarge.into()))?;
        // What is between is a hole, which reads as zeros.
        let target = self.file.target().to_owned();
        let io = |e| Error::io("write", &target, e);
        let file = self.file.as_file_mut();
        file.set_len(offset).and_then(|()| file.seek(SeekFrom::Start(offset))).map_err(io)?;
        write(file, &target)?;
        self.end = file.metadata().map_err(io)?.len();
        let length = self.end.saturating_sub(offset);
        let whole = Span::open(self.file.path()).map_err(io)?;
        let bytes = whole.part(offset, length).ok_or_else(|| io(io::ErrorKind::UnexpectedEof.into()))?;
        let checksum = checksum(&bytes).map_err(io)?;
        let member = &mut self.members[self.written];
        *member = Member { name: std::mem::take(&mut member.name), offset, length, checksum };
        self.written += 1;
        Ok(())
    }

    /// Writes these bytes as the next member.
    fn copy(&mut self, bytes: &Span) -> Result<(), Error> {
        self.member(|file, path| {
            io::copy(&mut bytes.reader(), file).map(drop).map_err(|e| Error::io("write", path, e))
        })
    }

    /// A snapshot without parents, compressed at this level and without what only makes its start faster; if
    /// that is smaller.
    fn smaller(
        &mut self,
        snapshot: &Arc<Snapshot>,
        level: i32,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<Span>, Error> {
        let dir = scratch(self.file.target())?;
        let path = dir.path().join("snapshot");
        self.scratch.push(dir);
        let options = WriteOptions { level, durable: false, ..WriteOptions::default() };
        let mut pages = Pages(PageReader::new(snapshot.clone())?);
        let summary = dejavm_snapshot::write(&path, &options, snapshot.state()?, &mut pages, progress)?;
        if summary.id != snapshot.id() {
            let why = format!("its content is not what its id says, {}", snapshot.id());
            return Err(Error::io("read", snapshot.path(), io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        let written = Span::open(&path).map_err(|e| self.io(e))?;
        Ok((written.length() < snapshot.bytes().length()).then_some(written))
    }

    /// Gives the pack its header, and its name. Returns its length, bytes.
    fn finish(self) -> Result<u64, Error> {
        let table = self.table()?;
        let header = Header {
            table_len: table.len() as u32,
            file_len: self.end,
            table_checksum: xxhash_rust::xxh3::xxh3_64(&table),
        };
        let PackWriter { mut file, end, .. } = self;
        let target = file.target().to_owned();
        let written = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&header.to_bytes()))
            .and_then(|()| file.write_all(&table))
            .and_then(|()| file.finish(true));
        written.map_err(|e| Error::io("write", &target, e))?;
        Ok(end)
    }
}
