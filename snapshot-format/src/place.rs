//! Where bytes are found: in a file of their own, or in a part of a larger one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a snapshot or a log is found: a file, or a part of a file that is open.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file's path; of a part, a name for messages.
    path: PathBuf,
    what: What,
}

/// What is found there.
#[derive(Clone, Debug)]
enum What {
    /// The file at the path, which is not open yet.
    File,
    /// Bytes of an open file.
    Part(Span),
    /// Nothing.
    Missing,
}

impl Place {
    /// The file at this path.
    pub fn file(path: impl Into<PathBuf>) -> Place {
        Place { path: path.into(), what: What::File }
    }

    /// Bytes of an open file. Messages name them by this path.
    pub fn part(path: impl Into<PathBuf>, bytes: Span) -> Place {
        Place { path: path.into(), what: What::Part(bytes) }
    }

    /// A place where nothing is found. Messages name it by this path.
    pub fn missing(path: impl Into<PathBuf>) -> Place {
        Place { path: path.into(), what: What::Missing }
    }

    /// The file's path; of a part, its name for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the bytes for reading.
    ///
    /// # Errors
    ///
    /// As [`Span::open`]; [`io::ErrorKind::NotFound`] for a missing one.
    pub fn open(&self) -> io::Result<Span> {
        match &self.what {
            What::File => Span::open(&self.path),
            What::Part(bytes) => Ok(bytes.clone()),
            What::Missing => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Place {
        Place::file(path)
    }
}

impl From<&PathBuf> for Place {
    fn from(path: &PathBuf) -> Place {
        Place::file(path)
    }
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Place {
        Place::file(path)
    }
}

/// Bytes of a regular file that is open for reading: all that it had when it was opened, or a part of them.
///
/// They are read by `pread`. The file is never mapped: a mapped file that another process cuts short, or
/// whose disk fails, would raise SIGBUS, and end the process that embeds this.
#[derive(Clone, Debug)]
pub struct Span {
    file: Arc<File>,
    /// Bytes from the file's start.
    offset: u64,
    /// Bytes. The end does not overflow.
    length: u64,
}

impl Span {
    /// Opens a regular file. Anything else is refused before it is opened: opening a FIFO waits for a
    /// writer.
    ///
    /// # Errors
    ///
    /// What the system says; [`io::ErrorKind::IsADirectory`], and [`io::ErrorKind::InvalidInput`] for
    /// anything else that is not a regular file.
    pub fn open(path: &Path) -> io::Result<Span> {
        let regular = |metadata: fs::Metadata| match (metadata.is_file(), metadata.is_dir()) {
            (true, _) => Ok(metadata.len()),
            (_, true) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        };
        regular(fs::metadata(path)?)?;
        let file = File::open(path)?;
        // Asked again of the open file: the path may lead elsewhere by now.
        let length = regular(file.metadata()?)?;
        Ok(Span { file: Arc::new(file), offset: 0, length })
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// A part of these bytes; `None` unless all of it is there.
    pub fn part(&self, offset: u64, length: u64) -> Option<Span> {
        let end = offset.checked_add(length)?;
        // No overflow: it is not past this span's end, which does not.
        (end <= self.length).then(|| Span { file: self.file.clone(), offset: self.offset + offset, length })
    }

    /// Reads the bytes from `offset` on into all of `out`.
    ///
    /// # Errors
    ///
    /// What the system says; [`io::ErrorKind::UnexpectedEof`] when they are not all there, by the length
    /// or in the file.
    pub fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(out, self.offset + offset)
    }

    /// How many of the bytes are in the file now: fewer than its length when it has been cut since.
    pub fn length_now(&self) -> u64 {
        let file = self.file.metadata().map_or(0, |metadata| metadata.len());
        file.saturating_sub(self.offset).min(self.length)
    }

    /// The bytes, one after another.
    pub fn reader(&self) -> SpanReader {
        SpanReader { span: self.clone(), at: 0 }
    }
}

/// Reads a span from its start to its end.
#[derive(Debug)]
pub struct SpanReader {
    span: Span,
    at: u64,
}

impl io::Read for SpanReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.span.length - self.at).unwrap_or(usize::MAX);
        let length = left.min(out.len());
        self.span.read_exact_at(&mut out[..length], self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn digits() -> Span {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"0123456789").unwrap();
        Span::open(file.path()).unwrap()
    }

    #[test]
    fn a_part_ends_where_it_ends() {
        let part = digits().part(2, 5).unwrap();
        let mut out = [0; 3];
        part.read_exact_at(&mut out, 2).unwrap();
        assert_eq!(&out, b"456");
        for offset in [3, 5, 8, u64::MAX - 2, u64::MAX] {
            let error = part.read_exact_at(&mut out, offset).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{offset}");
        }
        let mut all = String::new();
        part.part(1, 4).unwrap().reader().read_to_string(&mut all).unwrap();
        assert_eq!(all, "3456");
    }

    #[test]
    fn parts_that_are_not_there_are_not_given() {
        let span = digits();
        for (offset, length) in [(0, 11), (10, 1), (11, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert!(span.part(offset, length).is_none(), "{length} at {offset}");
        }
        assert_eq!(span.part(10, 0).unwrap().length(), 0);
        assert!(span.part(4, 3).unwrap().part(2, 2).is_none());
    }

    #[test]
    fn a_cut_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"0123456789").unwrap();
        let part = Span::open(file.path()).unwrap().part(2, 6).unwrap();
        file.as_file().set_len(5).unwrap();
        assert_eq!(part.length_now(), 3);
        assert_eq!(
            part.reader().read_to_end(&mut Vec::new()).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
