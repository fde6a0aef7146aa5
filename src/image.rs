//! Going on from a snapshot.

use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use dejavm_replay::Recording;
use dejavm_sandbox::guest::{self, Anew, Machine, MachineState};
use dejavm_sandbox::machine::{Memory, StartError};
use dejavm_sandbox::world::World;
use dejavm_snapshot::Snapshot;

use crate::common::{Common, HostFiles, ceiling_setters, common_setters, live_setters};
use crate::recording::{self, Taps};
use crate::{Error, Host, Sandbox};

/// A snapshot, open and decoded. Cheap to clone and to share between threads: one serves any number
/// of sandboxes, at the same time.
#[derive(Clone, Debug)]
pub struct Image {
    state: Arc<MachineState>,
    snapshot: Arc<Snapshot>,
}

impl Image {
    /// Opens a snapshot file. The work does not grow with the image's size.
    ///
    /// # Errors
    /// When it is not a snapshot, or damaged, or lacks a parent.
    pub fn open(path: impl AsRef<Path>) -> Result<Image, Error> {
        Image::of(Snapshot::open(path)?)
    }

    /// Opens the snapshot that a recording starts from.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn of_start(recording: &Recording) -> Result<Image, Error> {
        Image::of(recording.open_snapshot()?)
    }

    /// Decodes an open snapshot.
    pub(crate) fn of(snapshot: Arc<Snapshot>) -> Result<Image, Error> {
        let path = snapshot.path();
        let state = guest::state_of(&snapshot).map_err(|e| match e {
            StartError::Snapshot(e @ dejavm_snapshot::Error::Codec { .. }) => strange(path, &e),
            StartError::State(e) => strange(path, &e),
            e => e.into(),
        })?;
        Ok(Image { state: Arc::new(state), snapshot })
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The state of the machine without its memory.
    pub fn state(&self) -> &MachineState {
        &self.state
    }

    /// A sandbox that goes on from here.
    pub fn restore(&self) -> Restore {
        Restore {
            image: self.clone(),
            anew: Anew::default(),
            env: Vec::new(),
            args: Vec::new(),
            common: Common::default(),
        }
    }
}

fn strange(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::State { path: path.to_owned(), why: why.to_string() }
}

/// A sandbox that goes on from a snapshot.
///
/// ```no_run
/// let host = dejavm::Host::probe()?;
/// let image = dejavm::Image::open("python.dvm")?;
/// for input in ["1+1", "6*7"] {
///     let done = image.restore().stdin(input).capture_output().start(&host)?.run()?;
///     println!("{}", String::from_utf8_lossy(&done.stdout));
/// }
/// # Ok::<(), dejavm::Error>(())
/// ```
#[derive(Clone)]
pub struct Restore {
    image: Image,
    anew: Anew,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    args: Vec<Vec<u8>>,
    common: Common,
}

impl Restore {
    /// From a snapshot file; to restore one more than once, use [`Image`].
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Restore, Error> {
        Ok(Image::open(path)?.restore())
    }

    /// The snapshot that it goes on from.
    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.image.snapshot
    }

    /// The state that it goes on from.
    pub(crate) fn state(&self) -> &MachineState {
        &self.image.state
    }

    /// Draws random bytes from this seed from now on. Without it, all sandboxes of one snapshot see
    /// the same ones. What a program drew before is in its memory and stays.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Restore {
        self.anew.seed = Some(seed);
        self
    }

    /// As [`Program::chaos`](crate::Program::chaos), from now on.
    #[must_use]
    pub fn chaos(mut self, seed: u64) -> Restore {
        self.anew.chaos = Some(seed);
        self
    }

    /// As [`Program::time_slice`](crate::Program::time_slice), from now on.
    #[must_use]
    pub fn time_slice(mut self, branches: NonZeroU64) -> Restore {
        self.anew.time_slice = Some(branches);
        self
    }

    /// Runs on a CPU below the level of the processor that the snapshot's programs see (of a bare-metal guest: on
    /// another than the snapshot's).
    #[must_use]
    pub fn any_cpu(mut self, any: bool) -> Restore {
        self.common.machine.any_cpu = any;
        self
    }

    common_setters!();
    live_setters!();
    ceiling_setters!();

    /// Sets a variable of the environment of a program that is yet to be loaded, such as that of a
    /// recording's start. It takes the place of one of the same name.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Restore {
        self.env.push((name.as_ref().as_bytes().to_vec(), value.as_ref().as_bytes().to_vec()));
        self
    }

    /// Where the content of the host's files comes from, and what becomes of those that changed since the
    /// snapshot was made.
    #[must_use]
    pub fn host_files(mut self, files: HostFiles) -> Restore {
        self.common.host_files = files;
        self
    }

    /// Adds an argument to those of a program that is yet to be loaded.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Restore {
        self.args.push(arg.as_ref().as_bytes().to_vec());
        self
    }

    /// Gives the program that is yet to be loaded what it is to have besides.
    fn extend(&self, state: &mut MachineState) -> Result<(), Error> {
        let pending = match state {
            MachineState::Program(program) => program.pending.as_mut(),
            MachineState::Kernel(_) => None,
        };
        let loaded = |what| Err(Error::Loaded { path: self.image.snapshot.path().to_owned(), what });
        match pending {
            Some(command) => {
                command.args.extend(self.args.iter().cloned());
                for (name, value) in &self.env {
                    let start = [&name[..], b"="].concat();
                    command.env.retain(|variable| !variable.starts_with(&start));
                    command.env.push([start, value.clone()].concat());
                }
                Ok(())
            }
            None if !self.args.is_empty() => loaded("arguments"),
            None if !self.env.is_empty() => loaded("environment variables"),
            None => Ok(()),
        }
    }

    /// Makes the sandbox. The guest has not run yet.
    ///
    /// # Errors
    /// [`Error::Start`] when the CPUs differ or the state is damaged; those of the host, of what
    /// the guest is to see, and of the recording.
    pub fn start(self, host: &Host) -> Result<Sandbox, Error> {
        let _span =
            tracing::info_span!("restore", snapshot = %self.image.snapshot.path().display()).entered();
        self.common.ceilings.check(self.image.snapshot.path(), &self.image.state)?;
        let mut state = MachineState::clone(&self.image.state);
        self.extend(&mut state)?;
        self.common.host_files.apply(&mut state);
        let Restore { image, anew, mut common, .. } = self;
        common.machine.allocator_reads_no_clock = host.allocator_reads_no_clock();
        let mut wiring = common.wiring()?;
        state.begin_anew(&anew);
        let grants = common.view.shown(host.system()).grants_of(&state);
        let stdin = std::mem::take(&mut common.stdin);
        let world: Box<dyn World> =
            Box::new(wiring.host_world(grants, common.host_files.known(&state), stdin)?);
        let taps = match &common.record {
            Some(dir) => recording::of_image(dir, &state, anew, &image.snapshot, world, common.log_limits())?,
            None => Taps::none(world),
        };
        let Taps { world, observer, recording } = taps;
        let machine = Machine::start(
            state,
            Memory::Snapshot(image.snapshot),
            world,
            host.profile().clone(),
            wiring.stop.clone(),
            &common.machine,
        );
        Sandbox::assemble(machine, observer, recording, None, wiring, common)
    }
}

impl std::fmt::Debug for Restore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restore").field("snapshot", &self.image.snapshot).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dejavm_sandbox::x86::processor::Level;

    use crate::{Outcome, PauseAt, Program, WriteOptions};

    #[test]
    fn a_lesser_cpu_is_named_and_may_be_tried() {
        let host = Host::probe().expect("KVM");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s.dvm");
        let mut sandbox = Program::new("sh").args(["-c", "read x"]).start(&host).expect("a shell");
        assert_eq!(sandbox.run_until(PauseAt::FirstRead).expect("a run"), Outcome::Paused);
        sandbox.snapshot(&path, &WriteOptions::default()).expect("a snapshot");

        let image = Image::open(&path).expect("an image");
        let MachineState::Program(program) = &*image.state else { panic!("a program") };
        let level = program.cpu;
        let lesser = Level::ALL.into_iter().rfind(|other| *other < level);
        let lesser = host.of_level(lesser.expect("test hosts have more than the least"));
        let error = image.restore().start(&lesser).map(drop).expect_err("a lesser CPU").to_string();
        assert!(error.contains(level.name()), "{error}");
        for (host, any) in [(&lesser, true), (&host, false)] {
            let done = image.restore().any_cpu(any).stdin("x\n").start(host).and_then(|mut s| s.run());
            assert_eq!(done.expect("a run").outcome, Outcome::Exited(0));
        }
    }
}
