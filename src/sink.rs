//! Where a guest's output goes.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use dejavm_sandbox::world::Output;

/// Bytes that are kept of captured output unless said otherwise.
pub(crate) const CAPTURE_LIMIT: usize = 64 << 20;

/// Where a guest's output goes.
#[derive(Clone)]
pub struct Sink(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Null,
    Stdout,
    Stderr,
    Captured(Captured),
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

    /// To a writer, at once. Where it blocks, the sandbox does, and can be stopped only after it.
    pub fn writer(writer: impl Write + Send + 'static) -> Sink {
        Sink(Kind::Writer(Arc::new(Mutex::new(Box::new(writer)))))
    }

    pub(crate) fn captured(captured: &Captured) -> Sink {
        Sink(Kind::Captured(captured.clone()))
    }

    /// For a live run.
    pub(crate) fn output(&self) -> Output {
        match &self.0 {
            Kind::Null => Output::Null,
            Kind::Stdout => Output::HostStdout,
            Kind::Stderr => Output::HostStderr,
            Kind::Captured(captured) => Output::Writer(Box::new(captured.clone())),
            Kind::Writer(writer) => Output::Writer(Box::new(Shared(writer.clone()))),
        }
    }

    /// For a replay, whose output is a copy.
    pub(crate) fn copy(&self) -> Box<dyn Write + Send> {
        match &self.0 {
            Kind::Null => Box::new(io::sink()),
            Kind::Stdout => Box::new(io::stdout()),
            Kind::Stderr => Box::new(io::stderr()),
            Kind::Captured(captured) => Box::new(captured.clone()),
            Kind::Writer(writer) => Box::new(Shared(writer.clone())),
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::Null => "Null",
            Kind::Stdout => "Stdout",
            Kind::Stderr => "Stderr",
            Kind::Captured(_) => "Captured",
            Kind::Writer(_) => "Writer",
        })
    }
}

/// Captured output. A guest that writes more than the limit gets `ENOSPC`.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    limit: usize,
}

impl Captured {
    pub fn new(limit: usize) -> Captured {
        Captured { bytes: Arc::default(), limit }
    }

    /// Takes what was captured so far.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Captured {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let n = self.limit.saturating_sub(bytes.len()).min(data.len());
        if n == 0 && !data.is_empty() {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        bytes.extend_from_slice(&data[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Shared(Arc<Mutex<Box<dyn Write + Send>>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}
