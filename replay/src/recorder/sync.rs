//! Bringing a recording to the disk while the run goes on, so that little is left to wait for at its
//! end.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The log is brought to the disk each time that it has grown by so many bytes.
const STEP: u64 = 4 << 20;

/// A thread that waits for the disk, so that nobody else has to.
#[derive(Debug)]
pub(super) struct Syncer {
    wake: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
    /// Length of the log when the thread was last woken.
    asked_at: u64,
}

impl Syncer {
    /// Starts with what is in the recording's directory already: files, and their names.
    pub fn start(dir: &Path, log: File) -> io::Result<Syncer> {
        // With a message under way another says nothing new.
        let (wake, woken) = sync_channel(1);
        let dir = dir.to_owned();
        let thread = std::thread::Builder::new().name("dejavm-sync".into()).spawn(move || {
            for entry in std::fs::read_dir(&dir)? {
                let entry = entry?;
                if !entry.file_type()?.is_file() {
                    continue;
                }
                match File::open(entry.path()) {
                    // Taken away meanwhile: a checkpoint, or what a ring drops.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    file => file?.sync_all()?,
                }
            }
            File::open(dir)?.sync_all()?;
            woken.iter().try_for_each(|()| log.sync_data())
        })?;
        Ok(Syncer { wake, thread, asked_at: 0 })
    }

    /// Says how long the log is by now. Does not wait.
    pub fn grown(&mut self, len: u64) {
        if len - self.asked_at >= STEP {
            self.asked_at = len;
            // An error of the thread comes out at the end.
            let _ = self.wake.try_send(());
        }
    }

    /// Waits for what was begun.
    ///
    /// # Errors
    /// The first that the thread met.
    pub fn finish(self) -> io::Result<()> {
        drop(self.wake);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the syncing thread ended unexpectedly")))
    }
}
