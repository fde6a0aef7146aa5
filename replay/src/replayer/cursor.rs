//! The place in the log that a replay has reached.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::divergence::Window;
use crate::error::Error;
use crate::reader::Records;
use crate::record::Record;

/// Blocks that are read ahead: enough that the run does not wait, few enough to bound memory.
const AHEAD: usize = 2;

/// A stretch of the log; `None` at its end.
type Chunk = Option<Result<Vec<Record>, Error>>;

/// The log's records, less what is not compared. A thread decodes them ahead of the run, and the
/// contents that belong to them; it ends with the log or with this.
#[derive(Debug)]
pub(super) struct Cursor {
    chunks: Receiver<Chunk>,
    chunk: std::vec::IntoIter<Record>,
    next: Option<Record>,
    done: bool,
    path: PathBuf,
}

impl Cursor {
    /// # Errors
    /// When there is no thread to be had.
    pub fn new(records: Records) -> Result<Cursor, Error> {
        let (sender, chunks) = sync_channel(AHEAD);
        let path = records.path().to_owned();
        let records = records.with_contents();
        std::thread::Builder::new()
            .name("dejavm-replay".into())
            .spawn(move || read_ahead(records, &sender))
            .map_err(|e| Error::io("start a thread to read", &path, e))?;
        Ok(Cursor { chunks, chunk: Vec::new().into_iter(), next: None, done: false, path })
    }

    /// The next exit or ordered answer; the faults before it go into `faults`.
    pub fn peek(&mut self, faults: &mut Window) -> Result<Option<&Record>, Error> {
        while self.next.is_none() && !self.done {
            match self.chunk.next() {
                Some(Record::Fault(fault)) => faults.push(fault),
                Some(Record::Keyed(_)) => {}
                Some(record) => self.next = Some(record),
                None => match self.chunks.recv() {
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
