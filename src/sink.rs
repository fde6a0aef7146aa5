//! Where a guest's output goes.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use dejavm_sandbox::world::{Output, OutputBuffer};

/// Bytes that are kept of captured output unless said otherwise.
pub(crate) const CAPTURE_LIMIT: usize = 64 << 20;

/// Where a guest's output goes. Clones go to the same place, and may be of different guests: what is
/// written at once by a guest is not mixed with what others write.
#[derive(Clone)]
pub struct Sink(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Null,
    Stdout,
    Stderr,
    Captured(Box<Kind>, OutputBuffer, usize),
    Fd(Arc<OwnedFd>),
    Writer(Arc<Mutex<Box<dyn Write + Send>>>),
}

impl Sink {
    /// Nowhere.
    pub fn null() -> Sink {
        Sink(Kind::Null)
    }

    /// To this process's standard output.
    pub fn stdout() -> Sink {
        Sink(Kind::Stdout)
    }

    /// To this process's standard error.
    pub fn stderr() -> Sink {
        Sink(Kind::Stderr)
    }

    /// To this descriptor: a pipe, a socket, a file, a terminal.
    pub fn fd(fd: impl Into<OwnedFd>) -> Sink {
        Sink(Kind::Fd(Arc::new(fd.into())))
    }

    /// To a writer, at once, on a thread of its own: while it blocks, the run can be stopped and its
    /// deadline holds. What a run that is ended so was writing may still go out.
    pub fn writer(writer: impl Write + Send + 'static) -> Sink {
        Sink(Kind::Writer(Arc::new(Mutex::new(Box::new(writer)))))
    }

    /// Into memory, and on to here. A guest that writes more than the limit gets `ENOSPC`.
    pub(crate) fn captured(&self, buffer: &OutputBuffer, limit: usize) -> Sink {
        Sink(Kind::Captured(Box::new(self.0.clone()), buffer.clone(), limit))
    }

    /// For a run.
    pub(crate) fn output(&self) -> Output {
        self.0.output()
    }
}

impl Kind {
    fn output(&self) -> Output {
        match self {
            Kind::Null => Output::Null,
            Kind::Stdout => Output::HostStdout,
            Kind::Stderr => Output::HostStderr,
            Kind::Captured(to, buffer, limit) => {
                let (buffer, limit) = (buffer.clone(), *limit);
                match **to {
                    Kind::Null => Output::Capture { buffer, limit },
                    _ => Output::Tee { to: Box::new(to.output()), buffer, limit },
                }
            }
            // Without another descriptor to be had, the guest's writes fail.
            Kind::Fd(fd) => fd.try_clone().map_or_else(|e| Output::Writer(Box::new(Failed(e))), Output::Fd),
            Kind::Writer(writer) => Output::Writer(Box::new(Shared(writer.clone()))),
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::Null => "Null",
            Kind::Stdout => "Stdout",
            Kind::Stderr => "Stderr",
            Kind::Captured(..) => "Captured",
            Kind::Fd(_) => "Fd",
            Kind::Writer(_) => "Writer",
        })
    }
}

/// Fails as something before it did.
struct Failed(io::Error);

impl Write for Failed {
    fn write(&mut self, _data: &[u8]) -> io::Result<usize> {
        Err(self.0.raw_os_error().map_or(io::ErrorKind::Other.into(), io::Error::from_raw_os_error))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One writer for several streams.
struct Shared(Arc<Mutex<Box<dyn Write + Send>>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}
