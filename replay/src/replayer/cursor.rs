//! The place in the log that a replay has reached.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};

use super::divergence::Window;
use crate::error::Error;
use crate::reader::Records;
use crate::record::Record;

/// Blocks that are read ahead: enough that the run does not wait, few enough to bound memory.
const AHEAD: usize = 2;

/// A stretch of the log; `None` at its end.
type Chunk = Option<Result<Vec<Record>, Error>>;

/// The log's records, less what is not compared.
#[derive(Debug)]
pub(super) struct Cursor {
    source: Source,
    chunk: std::vec::IntoIter<Record>,
    next: Option<Record>,
    done: bool,
    path: PathBuf,
}

/// Who decodes the log, and the contents that belong to its records.
#[derive(Debug)]
enum Source {
    /// Whoever asks.
    Here(Records),
    /// A thread, ahead of the run. It ends with the log or with the cursor.
    Thread(Receiver<Chunk>),
}

impl Source {
    fn next(&mut self) -> Result<Chunk, RecvError> {
        match self {
            Source::Here(records) => Ok(records.chunk()),
            Source::Thread(chunks) => chunks.recv(),
        }
    }
}

impl Cursor {
    pub fn new(records: Records) -> Cursor {
        let path = records.path().to_owned();
        let source = Source::Here(records.with_contents());
        Cursor { source, chunk: Vec::new().into_iter(), next: None, done: false, path }
    }

    /// Reads ahead of the run from now on, by a thread.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn read_ahead(&mut self) -> Result<(), Error> {
        if matches!(self.source, Source::Thread(_)) || self.done {
            return Ok(());
        }
        let (sender, chunks) = sync_channel(AHEAD);
        let Source::Here(records) = std::mem::replace(&mut self.source, Source::Thread(chunks)) else {
            return Ok(());
        };
        std::thread::Builder::new()
            .name("dejavm-replay".into())
            .spawn(move || read_ahead(records, &sender))
            .map_err(|e| Error::io("start a thread to read", &self.path, e))?;
        Ok(())
    }

    /// The next exit or ordered answer; the faults before it go into `faults`.
    pub fn peek(&mut self, faults: &mut Window) -> Result<Option<&Record>, Error> {
        while self.next.is_none() && !self.done {
            match self.chunk.next() {
                Some(Record::Fault(fault)) => faults.push(fault),
                Some(Record::Keyed(_)) => {}
                Some(record) => self.next = Some(record),
                None => match self.source.next() {
                    Ok(Some(Ok(chunk))) => self.chunk = chunk.into_iter(),
                    Ok(None) => self.done = true,
                    Ok(Some(Err(e))) => {
                        self.done = true;
                        return Err(e);
                    }
                    // A lost thread must not look like the end of the log.
                    Err(e) => {
                        self.done = true;
                        return Err(Error::io("read ahead in", &self.path, io::Error::other(e)));
                    }
                },
            }
        }
        Ok(self.next.as_ref())
    }

    /// Goes past what [`Cursor::peek`] showed.
    pub fn take(&mut self) -> Option<Record> {
        self.next.take()
    }
}

fn read_ahead(mut records: Records, sender: &SyncSender<Chunk>) {
    loop {
        let chunk = records.chunk();
        let last = chunk.is_none();
        // Without a receiver nobody wants more.
        if sender.send(chunk).is_err() || last {
            return;
        }
    }
}
