//! Where a guest's input comes from, as a builder keeps it that may be cloned.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use dejavm_sandbox::world::{Input, InputBuffer};

/// Clones share the bytes, the reader, or the open file.
#[derive(Clone, Default)]
pub(crate) enum Source {
    #[default]
    Empty,
    Bytes(Arc<Vec<u8>>),
    Buffer(InputBuffer),
    Reader(Arc<Mutex<Box<dyn Read + Send>>>),
    Fd(Arc<OwnedFd>),
    HostStdin,
}

impl From<Input> for Source {
    fn from(input: Input) -> Source {
        match input {
            Input::Empty => Source::Empty,
            Input::Bytes(bytes) => Source::Bytes(Arc::new(bytes)),
            Input::Buffer(buffer) => Source::Buffer(buffer),
            Input::Reader(reader) => Source::Reader(Arc::new(Mutex::new(reader))),
            Input::Fd(fd) => Source::Fd(Arc::new(fd)),
            Input::HostStdin => Source::HostStdin,
            // An input of a kind that this does not know cannot be made.
            _ => Source::Empty,
        }
    }
}

impl Source {
    /// For a run. What no other builder has is taken out of its lock.
    pub fn input(self) -> Input {
        match self {
            Source::Empty => Input::Empty,
            Source::Bytes(bytes) => Input::Bytes(Arc::unwrap_or_clone(bytes)),
            Source::Buffer(buffer) => Input::Buffer(buffer),
            Source::Reader(reader) => Input::Reader(match Arc::try_unwrap(reader) {
                Ok(reader) => reader.into_inner().unwrap_or_else(PoisonError::into_inner),
                Err(shared) => Box::new(Shared(shared)),
            }),
            Source::Fd(fd) => match Arc::try_unwrap(fd).or_else(|fd| fd.try_clone()) {
                Ok(fd) => Input::Fd(fd),
                // Without another descriptor to be had, the guest's reads fail.
                Err(e) => Input::Reader(Box::new(Failed(e))),
            },
            Source::HostStdin => Input::HostStdin,
        }
    }
}

/// One reader for several guests: each byte goes to the one that reads it first.
struct Shared(Arc<Mutex<Box<dyn Read + Send>>>);

impl Read for Shared {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(out)
    }
}

/// Fails as something before it did.
struct Failed(io::Error);

impl Read for Failed {
    fn read(&mut self, _out: &mut [u8]) -> io::Result<usize> {
        Err(self.0.raw_os_error().map_or(io::ErrorKind::Other.into(), io::Error::from_raw_os_error))
    }
}
