//! A thread that does what may block, for readers and writers of the embedder's.
//!
//! It does one thing at a time. While it does, the run can be ended: what it was doing then goes on to
//! its end by itself, and is asked for when the run is made to go on. When the sandbox is dropped, an
//! idle thread is joined; a busy one is left to itself, and ends, with the reader or writer, as soon as
//! that lets it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};

/// A thread that turns jobs into answers.
#[derive(Debug)]
pub(super) struct Helper<J, A> {
    jobs: Option<Sender<J>>,
    answers: Receiver<A>,
    /// Readable when there is an answer, or when there will be none.
    done: Arc<OwnedFd>,
    busy: bool,
    thread: Option<JoinHandle<()>>,
}

/// Says that there is something to see, however the thread ends.
struct Bell(Arc<OwnedFd>);

impl Bell {
    fn ring(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ring();
    }
}

impl<J: Send + 'static, A: Send + 'static> Helper<J, A> {
    /// # Errors
    /// When the process has no more threads or descriptors.
    pub fn new(name: &str, mut work: impl FnMut(J) -> A + Send + 'static) -> io::Result<Helper<J, A>> {
        let done = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (jobs, todo) = channel();
        let (answer, answers) = channel();
        let bell = Bell(done.clone());
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            let (bell, answer) = (bell, answer);
            for job in todo {
                if answer.send(work(job)).is_err() {
                    return;
                }
                bell.ring();
            }
        })?;
        Ok(Helper { jobs: Some(jobs), answers, done, busy: false, thread: Some(thread) })
    }

    /// Gives it something to do; it must be idle.
    pub fn start(&mut self, job: J) {
        self.busy = true;
        if let Some(jobs) = &self.jobs {
            // A thread that is gone has rung already.
            let _ = jobs.send(job);
        }
    }

    /// Whether it is at something, or has done something that nobody has asked for.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Becomes readable when it has done what it was given.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }

    /// What came of it, once it is done; an error when the thread is gone, by a panic of the embedder's.
    pub fn answer(&mut self) -> Option<Result<A, Gone>> {
        match self.answers.try_recv() {
            Ok(answer) => {
                let _ = rustix::io::read(&*self.done, &mut [0; 8]);
                self.busy = false;
                Some(Ok(answer))
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.busy = false;
                Some(Err(Gone))
            }
        }
    }
}

/// The thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl<J, A> Drop for Helper<J, A> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take().filter(|_| !self.busy) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::host::interrupt::{Never, Waited, wait};
    use rustix::event::PollFlags;

    fn finish<A: Send + 'static>(helper: &mut Helper<u32, A>) -> Result<A, Gone> {
        loop {
            if let Some(answer) = helper.answer() {
                return answer;
            }
            let waited = wait(Some((helper.fd(), PollFlags::IN)), None, &Never).expect("no interrupt");
            assert_eq!(waited, Waited::Ready);
        }
    }

    #[test]
    fn jobs_become_answers() {
        let mut helper = Helper::new("test", |n: u32| n + 1).expect("a thread");
        for n in 0..3 {
            helper.start(n);
            assert!(helper.is_busy());
            assert_eq!(finish(&mut helper), Ok(n + 1));
        }
        assert!(!helper.is_busy() && helper.answer().is_none());
    }

    #[test]
    fn a_thread_that_is_gone_is_noticed() {
        let mut helper = Helper::new("test", |_: u32| -> u32 { panic!("on purpose") }).expect("a thread");
        helper.start(1);
        assert_eq!(finish(&mut helper), Err(Gone));
        helper.start(2);
        assert_eq!(finish(&mut helper), Err(Gone));
    }
}
