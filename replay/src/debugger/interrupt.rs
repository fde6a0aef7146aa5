//! ^C: a byte from the debugger while the program moves.

use std::io;
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dejavm_sandbox::host::stop::StopHandle;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often it is looked whether the move is over, for whom nobody interrupts.
const LOOK: Duration = Duration::from_millis(20);

/// Ends the run of a machine as soon as the debugger says something, until it is dropped.
pub(super) struct Interrupt {
    stop: StopHandle,
    done: std::sync::Arc<std::sync::atomic::AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Interrupt {
    /// Watches a connection.
    ///
    /// # Errors
    /// When the process has no descriptors or threads left.
    pub fn watch(connection: &impl AsFd, stop: StopHandle) -> io::Result<Interrupt> {
        let fd = connection.as_fd().try_clone_to_owned()?;
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (over, handle) = (done.clone(), stop.clone());
        let watcher = std::thread::Builder::new().name("dejavm-debug".into()).spawn(move || {
            let time = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
            while !over.load(std::sync::atomic::Ordering::Acquire) {
                let mut wanted = [PollFd::new(&fd, PollFlags::IN)];
                if matches!(poll(&mut wanted, Some(&time)), Ok(n) if n > 0) {
                    handle.set_deadline(Some(Instant::now()));
                    return;
                }
            }
        })?;
        Ok(Interrupt { stop, done, watcher: Some(watcher) })
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.done.store(true, std::sync::atomic::Ordering::Release);
        if let Some(watcher) = self.watcher.take() {
            // It does nothing that could fail.
            let _ = watcher.join();
        }
        self.stop.set_deadline(None);
    }
}
