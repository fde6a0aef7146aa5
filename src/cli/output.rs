//! The file that a command makes: it is seen under its name only when it is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use dejavm::snapshot::NewFile;

use super::{Failure, Result};

/// A file that is being written, readable by its owner only: recordings may hold secrets.
#[derive(Debug)]
pub struct Output {
    target: PathBuf,
    to: To,
}

#[derive(Debug)]
enum To {
    /// A regular file, under a temporary name until it is whole.
    File(BufWriter<NewFile>),
    /// Standard output, or what is no regular file.
    Stream(BufWriter<File>),
}

impl Output {
    /// Starts a file; `-` is standard output.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(target: &Path) -> Result<Output> {
        let failed = |e| failure(target, e);
        let is_stream = target.metadata().is_ok_and(|metadata| !metadata.is_file());
        let to = if target.as_os_str() == "-" {
            let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
            To::Stream(BufWriter::new(stdout.into()))
        } else if is_stream {
            To::Stream(BufWriter::new(OpenOptions::new().write(true).open(target).map_err(failed)?))
        } else {
            To::File(BufWriter::new(NewFile::create(target).map_err(failed)?))
        };
        Ok(Output { target: target.to_owned(), to })
    }

    /// The file that will have been written, if it gets its name at the end.
    pub fn renamed(&self) -> Option<&Path> {
        matches!(self.to, To::File(_)).then_some(&self.target)
    }

    /// What is said of an error of writing.
    pub fn failure(&self, e: io::Error) -> Failure {
        failure(&self.target, e)
    }

    /// Gives the file its name, once all of it is on the disk.
    ///
    /// # Errors
    /// When it cannot be written or named.
    pub fn finish(self) -> Result<()> {
        let Output { target, to } = self;
        let finished = match to {
            To::File(file) => {
                file.into_inner().map_err(|e| e.into_error()).and_then(|file| file.finish(true))
            }
            To::Stream(mut file) => file.flush(),
        };
        finished.map_err(|e| failure(&target, e))
    }
}

fn failure(target: &Path, e: io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::BrokenPipe => e.into(),
        _ => Failure::new(format_args!("{}: {e}", target.display())),
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            To::File(file) => file.write(bytes),
            To::Stream(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::File(file) => file.flush(),
            To::Stream(file) => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_seen_when_it_is_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let target = dir.path().join("file");
        let mut output = Output::create(&target).expect("a file");
        output.write_all(b"text").expect("written");
        assert!(!target.exists());
        output.finish().expect("named");
        assert_eq!(std::fs::read(&target).expect("read"), b"text");
        // One that is given up leaves nothing.
        drop(Output::create(&target).expect("a file"));
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1);
        assert!(Output::create(&dir.path().join("no/file")).is_err());
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let mut null = Output::create(Path::new("/dev/null")).expect("opened");
        assert_eq!(null.renamed(), None);
        null.write_all(b"text").expect("written");
        null.finish().expect("done");
        assert!(!Path::new("/dev/null").is_file());
    }
}
