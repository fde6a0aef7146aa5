//! Replays that look: what the system calls of a recording pointed to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dejavm::replay::Recording;
use dejavm::replay::text::{Decoded, Decoder};
use dejavm::{Exit, ExitKind, GuestMemory, Image, MadeCall, Observer, Replay, Sandbox, WorldError};

use super::options::CeilingOptions;
use super::{Result, confine};

/// How a recording is replayed by a command that only looks at it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The replay")]
pub struct DecodeOptions {
    /// Replays on a CPU below the level of the recorded run's.
    #[arg(long)]
    any_cpu: bool,
    /// Leaves this process as it is, as with `dejavm run --no-confine`.
    #[arg(long)]
    pub no_confine: bool,
    #[command(flatten)]
    ceilings: CeilingOptions,
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

    /// Replays a recording and tells the viewer of all that it comes by; gives why that was not all, if so.
    pub fn at(&self, recording: &Recording, options: &DecodeOptions) -> Option<String> {
        let prepared = self.prepare(recording, options);
        let result = prepared.and_then(|sandbox| {
            if let Some(sandbox) = &sandbox {
                confine::confine(sandbox, options.no_confine, None)?;
            }
            self.run(sandbox)
        });
        result.err().map(|failure| first_line(failure.message()))
    }

    /// Makes the replay. `None` for a bare-metal guest, which makes no system calls: there is nothing to look at.
    pub fn prepare(&self, recording: &Recording, options: &DecodeOptions) -> Result<Option<Sandbox>> {
        if Image::of_start(recording)?.state().program().is_none() {
            return Ok(None);
        }
        let host = super::host()?;
        Ok(Some(replay(recording, options).observe(Look(self.0.clone())).start(&host)?))
    }

    /// Runs it.
    pub fn run(&self, sandbox: Option<Sandbox>) -> Result<()> {
        let result = sandbox.map_or(Ok(()), |mut sandbox| sandbox.run().map(|_| ()));
        let watch = &mut *self.lock();
        watch.viewer.over(watch.decoder.unanswered().collect());
        Ok(result?)
    }

    /// Does something with the viewer.
    pub fn with<T>(&self, act: impl FnOnce(&mut V) -> T) -> T {
        act(&mut self.lock().viewer)
    }

    fn lock(&self) -> MutexGuard<'_, Watch<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A replay of a recording as these options say.
pub fn replay(recording: &Recording, options: &DecodeOptions) -> Replay {
    Replay::of(recording.clone())
        .any_cpu(options.any_cpu)
        .memory(options.ceilings.memory)
        .disk(options.ceilings.disk)
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
}
