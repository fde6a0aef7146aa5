//! Replays that look: what the system calls of a recording pointed to.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dejavm::replay::Recording;
use dejavm::replay::text::{Decoded, Decoder, strings_at};
use dejavm::sandbox::program::syscall::number;
use dejavm::{
    DeliveredSignal, Exit, ExitKind, GuestMemory, Image, MadeCall, Observer, Replay, Report, Sandbox,
    WorldError,
};

use super::options::CeilingOptions;
use super::{Result, confine};

/// How a recording is replayed.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The replay")]
pub struct ReplayOptions {
    /// Replays on a CPU below the level of the recorded run's.
    #[arg(long)]
    any_cpu: bool,
    #[command(flatten)]
    ceilings: CeilingOptions,
}

impl ReplayOptions {
    /// The words of a command line that say the same.
    pub fn words(&self) -> Vec<OsString> {
        let ReplayOptions { any_cpu, ceilings: CeilingOptions { memory, disk } } = self;
        let sizes = [("--memory", memory), ("--disk", disk)];
        let sizes = sizes.into_iter().flat_map(|(name, bytes)| [name.into(), bytes.to_string().into()]);
        any_cpu.then(|| "--any-cpu".into()).into_iter().chain(sizes).collect()
    }

    /// A replay of a recording as these options say.
    pub fn replay(&self, recording: &Recording) -> Replay {
        Replay::of(recording.clone())
            .any_cpu(self.any_cpu)
            .memory(self.ceilings.memory)
            .disk(self.ceilings.disk)
    }
}

/// How a recording is replayed by a command that only looks at it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The replay")]
pub struct DecodeOptions {
    #[command(flatten)]
    pub replay: ReplayOptions,
    /// Leaves this process as it is, as with `dejavm run --no-confine`.
    #[arg(long)]
    pub no_confine: bool,
}

/// What comes of telling: an error ends the replay.
pub type Watched = std::result::Result<(), WorldError>;

/// Who is told of a replay. An error ends it.
pub trait Viewer: Send + 'static {
    /// Bytes of a string that are decoded.
    fn strings(&self) -> usize;

    /// A call is made; told before what it does.
    fn made(&mut self, _call: &MadeCall, _memory: &dyn GuestMemory) {}

    /// An exit was answered.
    ///
    /// # Errors
    /// Ends the replay.
    fn exit(&mut self, exit: &Exit, decoded: &Decoded, memory: &dyn GuestMemory) -> Watched;

    /// A signal is delivered.
    fn signal(&mut self, _signal: &DeliveredSignal) {}

    /// The replay is over; these calls were not answered, each with its text.
    fn over(&mut self, _unanswered: Vec<(MadeCall, String)>) {}
}

/// A viewer and what is decoded for it.
pub struct Look<V>(Arc<Mutex<Watch<V>>>);

struct Watch<V> {
    decoder: Decoder,
    viewer: V,
}

impl<V: Viewer> Look<V> {
    /// For this viewer.
    pub fn new(viewer: V) -> Look<V> {
        let decoder = Decoder::new(viewer.strings());
        Look(Arc::new(Mutex::new(Watch { decoder, viewer })))
    }

    /// Replays a recording and tells the viewer of all that it comes by; gives why that was not all, if so. The
    /// file is one that the viewer writes.
    pub fn at(
        &self,
        recording: &Recording,
        options: &DecodeOptions,
        writes: Option<&Path>,
    ) -> Option<String> {
        let prepared = self.prepare(recording, options);
        let result = prepared.and_then(|sandbox| {
            if let Some(sandbox) = &sandbox {
                confine::confine(sandbox, options.no_confine, writes)?;
            }
            self.run(sandbox)
        });
        result.err().map(|failure| first_line(failure.message()))
    }

    /// Makes the replay. `None` for a bare-metal guest, which makes no system calls: there is nothing to look at.
    pub fn prepare(&self, recording: &Recording, options: &DecodeOptions) -> Result<Option<Sandbox>> {
        self.start(options.replay.replay(recording))
    }

    /// As [`Look::prepare`], with a replay of one's own.
    pub fn start(&self, replay: Replay) -> Result<Option<Sandbox>> {
        if Image::of_start(replay.recording())?.state().program().is_none() {
            return Ok(None);
        }
        let host = super::host()?;
        Ok(Some(replay.observe(Look(self.0.clone())).start(&host)?))
    }

    /// Runs it; what came of it.
    pub fn run(&self, sandbox: Option<Sandbox>) -> Result<Option<Report>> {
        let result = sandbox.map(|mut sandbox| sandbox.run()).transpose();
        let watch = &mut *self.lock();
        watch.viewer.over(watch.decoder.unanswered().collect());
        Ok(result?)
    }

    /// Does something with the viewer.
    pub fn with<T>(&self, act: impl FnOnce(&mut V) -> T) -> T {
        act(&mut self.lock().viewer)
    }

    /// The viewer, when nothing is told any more.
    pub fn into_viewer(self) -> Option<V> {
        let watch = Arc::into_inner(self.0)?;
        Some(watch.into_inner().unwrap_or_else(PoisonError::into_inner).viewer)
    }

    fn lock(&self) -> MutexGuard<'_, Watch<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line of a message that may have several.
pub fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}

/// Where an exit comes without memory to look at.
pub struct Nothing;

impl GuestMemory for Nothing {
    fn read(&self, _address: u64, _out: &mut [u8]) -> usize {
        0
    }
}

impl<V: Viewer> Observer for Look<V> {
    fn exit(&mut self, exit: &Exit) -> Watched {
        // Calls come with their memory.
        match exit.kind {
            ExitKind::Syscall { .. } => Ok(()),
            _ => self.lock().viewer.exit(exit, &Decoded::default(), &Nothing),
        }
    }

    fn reads_memory(&self) -> bool {
        true
    }

    fn made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) {
        let watch = &mut *self.lock();
        watch.decoder.made(call, memory);
        watch.viewer.made(call, memory);
    }

    fn answered(&mut self, exit: &Exit, memory: &dyn GuestMemory) -> Watched {
        let watch = &mut *self.lock();
        let decoded = watch.decoder.answered(exit, memory);
        watch.viewer.exit(exit, &decoded, memory)
    }

    fn signal(&mut self, signal: &DeliveredSignal) {
        self.lock().viewer.signal(signal);
    }
}

/// Bytes of one argument of a command that are kept.
const ARGUMENT_BYTES: usize = 200;

/// The command of a program that a call executes, when it is made.
pub fn executed(call: &MadeCall, memory: &dyn GuestMemory) -> Option<Vec<Vec<u8>>> {
    let argv = match call.number {
        number::EXECVE => call.args[1],
        number::EXECVEAT => call.args[2],
        _ => return None,
    };
    strings_at(memory, argv, ARGUMENT_BYTES)
}

/// `CLONE_THREAD`.
pub const CLONE_THREAD: u64 = 0x1_0000;

/// Flags of a call that makes a task; 0 where they cannot be read.
pub fn clone_flags(number: u64, args: &[u64; 6], memory: &dyn GuestMemory) -> u64 {
    match number {
        number::CLONE => args[0],
        number::CLONE3 => {
            let mut flags = [0; 8];
            let read = memory.read(args[0], &mut flags);
            if read == flags.len() { u64::from_le_bytes(flags) } else { 0 }
        }
        _ => 0,
    }
}
