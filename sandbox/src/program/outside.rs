//! What a program's system calls and its page faults both reach: the file system and the world.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fs::{Caller, ContentRef, Env, Fs, FsError, FsResult, InodeId, Lower, ProcFile};
use crate::errno::Errno;
use crate::host::thread::let_rdtsc_run;
use crate::world::{HostPath, Request, Response, Stream, World, WorldError};

/// The file system and the world of one sandbox. Locks are taken in the order of the fields, and
/// never while guest memory is being accessed on behalf of a page fault.
struct Both {
    fs: Mutex<Fs>,
    world: Mutex<Box<dyn World>>,
}

impl Both {
    fn fs(&self) -> MutexGuard<'_, Fs> {
        self.fs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn world(&self) -> MutexGuard<'_, Box<dyn World>> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file system and the world as system calls reach them. There is one of a sandbox, in its kernel, and
/// it is borrowed for as long as a lock is held: nothing that takes the lock itself, as the delivery of a
/// signal does, can be called meanwhile.
pub struct Outside(Arc<Both>);

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outside")
    }
}

impl Outside {
    /// A file system over a world.
    pub fn new(fs: Fs, world: Box<dyn World>) -> Outside {
        Outside(Arc::new(Both { fs: Mutex::new(fs), world: Mutex::new(Box::new(Foreign(world))) }))
    }

    /// The file system.
    pub fn fs(&mut self) -> MutexGuard<'_, Fs> {
        self.0.fs()
    }

    /// The world.
    pub fn world(&mut self) -> MutexGuard<'_, Box<dyn World>> {
        self.0.world()
    }

    /// Both.
    pub fn both(&mut self) -> (MutexGuard<'_, Fs>, MutexGuard<'_, Box<dyn World>>) {
        (self.0.fs(), self.0.world())
    }

    /// Looks at the file system. What looks knows nothing else, so that it cannot lock again.
    pub fn look<A, T>(&self, look: fn(&Fs, A) -> T, at: A) -> T {
        look(&self.0.fs(), at)
    }

    /// The contents of files, for page faults.
    pub fn contents(&self) -> Contents {
        Contents(self.0.clone())
    }
}

/// The file system and the world as page faults reach them: they read.
#[derive(Clone)]
pub struct Contents(Arc<Both>);

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Contents")
    }
}

impl Contents {
    /// Reads the content of a mapped file, for a page fault.
    ///
    /// # Errors
    /// As [`Fs::read_frozen`].
    pub fn read_frozen(&self, content: ContentRef, offset: u64, out: &mut [u8]) -> FsResult<usize> {
        let mut fs = self.0.fs();
        let mut world = self.0.world();
        fs.read_frozen(&mut Env { world: &mut **world, caller: &mut Nobody }, content, offset, out)
    }

    /// Whether [`Contents::read_frozen`] has an answer: see [`World::has_block`].
    pub fn has_frozen(&self, content: ContentRef, offset: u64) -> bool {
        let fs = self.0.fs();
        let world = self.0.world();
        fs.has_frozen(&**world, content, offset)
    }

    /// A block of a host file of `size` bytes.
    ///
    /// # Errors
    /// When the file is not what the guest knows, or cannot be read.
    pub fn host_block(&self, file: &Lower, size: u64, block: u64) -> FsResult<Arc<[u8]>> {
        let mut fs = self.0.fs();
        let mut world = self.0.world();
        fs.host_block(&mut **world, file, size, block)
    }

    /// Whether [`Contents::host_block`] has an answer: see [`World::has_block`].
    pub fn has_host_block(&self, file: &Lower, block: u64) -> bool {
        let fs = self.0.fs();
        let world = self.0.world();
        fs.has_host_block(&**world, file, block)
    }
}

/// A world as it is asked while a program runs: it may read clocks, which the thread's time stamp must be
/// made fit for first.
struct Foreign(Box<dyn World>);

impl World for Foreign {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        let_rdtsc_run();
        self.0.ask(request)
    }

    fn has_block(&self, path: &HostPath, block: u64) -> bool {
        let_rdtsc_run();
        self.0.has_block(path, block)
    }

    fn may_have_signal(&self) -> bool {
        self.0.may_have_signal()
    }

    fn seek_input(&mut self, offset: u64) {
        let_rdtsc_run();
        self.0.seek_input(offset);
    }

    fn seek_output(&mut self, stream: Stream, offset: u64) {
        let_rdtsc_run();
        self.0.seek_output(stream, offset);
    }
}

/// Stands for the calling task where there is none: frozen content is bytes, and asks nothing of
/// it.
pub(super) struct Nobody;

impl Caller for Nobody {
    fn now(&self) -> i64 {
        0
    }

    fn random(&mut self, buf: &mut [u8]) {
        buf.fill(0);
    }

    fn pid(&self) -> u32 {
        0
    }

    fn proc_text(&mut self, _pid: u32, _file: ProcFile) -> Option<Vec<u8>> {
        None
    }

    fn exe(&self, _pid: u32) -> Vec<u8> {
        Vec::new()
    }

    fn cwd(&self, _pid: u32) -> Option<InodeId> {
        None
    }

    fn read_shared(&mut self, _object: u64, _offset: u64, _buf: &mut [u8]) -> FsResult<Vec<Range<usize>>> {
        Err(FsError::Errno(Errno::EIO))
    }

    fn put_below(&mut self, _object: u64, _content: ContentRef, _len: u64) {}

    fn write_shared(&mut self, _object: u64, _offset: u64, _data: &[u8]) -> FsResult<()> {
        Err(FsError::Errno(Errno::EIO))
    }

    fn zero_shared(&mut self, _object: u64, _range: Range<u64>) -> FsResult<()> {
        Err(FsError::Errno(Errno::EIO))
    }

    fn resize_shared(&mut self, _object: u64, _len: u64) -> FsResult<()> {
        Err(FsError::Errno(Errno::EIO))
    }

    fn drop_shared(&mut self, _object: u64) -> FsResult<()> {
        Ok(())
    }
}
