//! Starting a program.

use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dejavm_sandbox::guest::{Machine, MachineState};
use dejavm_sandbox::machine::{Memory, RunError};
use dejavm_sandbox::program::clock::ClockMode;
use dejavm_sandbox::program::exec::Command;
use dejavm_sandbox::program::fs::Stdio;
use dejavm_sandbox::program::state::{ProgramSpec, ProgramState};
use dejavm_sandbox::ram::Zeros;
use dejavm_sandbox::world::World;

use crate::common::{Common, common_setters, live_setters};
use crate::recording::{self, Taps};
use crate::{Error, Host, Sandbox};

/// The environment that a program has unless told otherwise.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
];

/// A program to be run: an unmodified Linux x86-64 ELF file or a script.
///
/// ```no_run
/// use std::time::Duration;
///
/// let host = dejavm::Host::probe()?;
/// let done = dejavm::Program::new("/usr/bin/python3")
///     .args(["-c", "print(6*7)"])
///     .memory(256 << 20)
///     .deadline(Duration::from_secs(5))
///     .capture_output()
///     .start(&host)?
///     .run()?;
/// assert_eq!(done.stdout, b"42\n");
/// # Ok::<(), dejavm::Error>(())
/// ```
#[derive(Clone)]
pub struct Program {
    name: Vec<u8>,
    args: Vec<Vec<u8>>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    spec: ProgramSpec,
    pub(crate) common: Common,
}

impl Program {
    /// The program at this path in the guest; without a slash, it is looked for in the directories
    /// of the guest's `PATH`. Nothing of this process's environment reaches it.
    pub fn new(path: impl AsRef<OsStr>) -> Program {
        let name = path.as_ref().as_bytes().to_vec();
        let command = Command { path: name.clone(), args: Vec::new(), env: Vec::new() };
        Program {
            args: vec![name.clone()],
            name,
            env: ENVIRONMENT.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())).collect(),
            spec: ProgramSpec::new(command),
            common: Common::default(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.args.push(arg.as_ref().as_bytes().to_vec());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().as_bytes().to_vec()));
        self
    }

    /// A variable of the environment so far.
    pub fn variable(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref().as_bytes();
        self.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| OsStr::from_bytes(value))
    }

    /// The arguments so far, without the program's own name.
    pub fn arguments(&self) -> impl Iterator<Item = &OsStr> {
        self.args.iter().skip(1).map(|arg| OsStr::from_bytes(arg))
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Program {
        let (name, value) = (name.as_ref().as_bytes().to_vec(), value.as_ref().as_bytes().to_vec());
        match self.env.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = value,
            None => self.env.push((name, value)),
        }
        self
    }

    /// Empties the environment, which else has `PATH`, `HOME` and `LANG`.
    #[must_use]
    pub fn env_clear(mut self) -> Program {
        self.env.clear();
        self
    }

    /// The working directory, an absolute path in the guest; `/` by default.
    #[must_use]
    pub fn workdir(mut self, path: impl AsRef<Path>) -> Program {
        self.spec.workdir = path.as_ref().as_os_str().as_bytes().to_vec();
        self
    }

    /// Bytes of memory that the program may use; 1 GiB by default.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Program {
        self.spec.memory = bytes;
        self
    }

    /// Bytes that it may write to files; 1 GiB by default. They are kept in memory.
    #[must_use]
    pub fn disk(mut self, bytes: u64) -> Program {
        self.spec.disk = bytes;
        self
    }

    /// The seed of all that is random: the address-space layout and random bytes. 0 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Program {
        self.spec.seed = seed;
        self
    }

    /// Schedules its tasks so that its mistakes show, in a way that follows from this seed: strict
    /// priorities that change, long starvation of some, a switch at every exit, and switches in the middle
    /// of its code, for which stretches of it are single-stepped. Slower than ordinary scheduling.
    #[must_use]
    pub fn chaos(mut self, seed: u64) -> Program {
        self.spec.chaos = Some(seed);
        self
    }

    /// Takes a task off the CPU behind so many branches of its own, about, while others can run; by default only
    /// exits end a time slice. What is counted are branches that go backwards or are indirect, of code that does not
    /// change, so that it follows from the run alone. Its code runs in copies meanwhile, which takes longer.
    #[must_use]
    pub fn time_slice(mut self, branches: NonZeroU64) -> Program {
        self.spec.time_slice = Some(branches);
        self
    }

    /// Which clock it sees; [`ClockMode::Virtual`] by default, which is a function of the run.
    #[must_use]
    pub fn clock(mut self, clock: ClockMode) -> Program {
        self.spec.clock = clock;
        self
    }

    /// Where the virtual clock starts; by default at 2026-01-01 00:00 UTC.
    #[must_use]
    pub fn start_time(mut self, time: SystemTime) -> Program {
        let nanos = time.duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos());
        self.spec.start = u64::try_from(nanos).unwrap_or(u64::MAX);
        self
    }

    /// Virtual time that one instruction takes while an interval timer is armed: the program is then
    /// single-stepped, for programs that spin until a signal. A step costs about as much as a system
    /// call. Zero, as by default, is no stepping: only exits and reads of the clock take time.
    #[must_use]
    pub fn timer_step(mut self, time: Duration) -> Program {
        self.spec.timer_step = NonZeroU64::new(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self
    }

    /// What the program takes its standard streams for; pipes by default, whatever they lead to. For a
    /// [regular file](crate::StdioKind::File), [`StandardFile`](crate::StandardFile) tells what it is.
    #[must_use]
    pub fn stdio(mut self, stdio: Stdio) -> Program {
        self.spec.stdio = stdio;
        self
    }

    common_setters!();
    live_setters!();

    /// Refuses what would reach the program cut off, or not at all.
    fn check_texts(&self) -> Result<(), Error> {
        let bad = |what: String, text: &[u8], why| {
            let text = text.escape_ascii().to_string();
            Err(Error::BadText { what, text, why })
        };
        const NUL: &str = "it has a NUL in it, where a program's text ends";
        if let Some((number, arg)) = self.args.iter().enumerate().find(|(_, arg)| arg.contains(&0)) {
            return bad(format!("argument {number}"), arg, NUL);
        }
        for (name, value) in &self.env {
            if name.contains(&0) || value.contains(&0) {
                return bad(format!("variable {}", name.escape_ascii()), value, NUL);
            }
            if name.contains(&b'=') {
                return bad("variable".into(), name, "its name has a = in it");
            }
        }
        let workdir = &self.spec.workdir;
        if !workdir.starts_with(b"/") || workdir.contains(&0) {
            return bad("working directory".into(), workdir, "it is not an absolute path of the guest");
        }
        Ok(())
    }

    /// Loads the program. It has not run yet.
    ///
    /// # Errors
    /// [`Error::BadText`] for a NUL in an argument or variable, or a relative working directory;
    /// [`Error::NotFound`] or [`Error::Start`] when there is no such program or it cannot be
    /// loaded; [`Error::Grant`], [`Error::Mount`] for what it is to see; those of the host and of
    /// the recording.
    pub fn start(self, host: &Host) -> Result<Sandbox, Error> {
        let _span = tracing::info_span!("start", program = %self.name.escape_ascii()).entered();
        self.check_texts()?;
        let Program { name, args, env, mut spec, mut common } = self;
        common.machine.allocator_reads_no_clock = host.allocator_reads_no_clock();
        let mut wiring = common.wiring()?;
        let shown = common.view.shown(host.system());
        spec.mounts = shown.mounts();
        spec.command.args = args;
        spec.command.env = env.iter().map(|(name, value)| [name, &b"="[..], value].concat()).collect();
        let grants = shown.grants_for(&spec.mounts);
        let mut world = wiring.host_world(grants, Vec::new(), std::mem::take(&mut common.stdin))?;
        let mut state = ProgramState::start(spec, host.profile().level)?;

        let path = env.iter().find(|(name, _)| name == b"PATH").map_or(&b""[..], |(_, value)| value);
        let found = state.find_program(&mut world, &name, path);
        let found = found.map_err(RunError::from)?.map_err(|errno| Error::NotFound {
            name: String::from_utf8_lossy(&name).into_owned(),
            path: String::from_utf8_lossy(path).into_owned(),
            errno,
        })?;
        if let Some(command) = &mut state.pending {
            command.path = found;
        }

        let world: Box<dyn World> = Box::new(world);
        let state = MachineState::Program(Box::new(state));
        let taps = match &common.record {
            Some(dir) => recording::of_start(dir, &state, &Zeros, 0, world, common.log_limits())?,
            None => Taps::none(world),
        };
        let Taps { world, observer, recording } = taps;
        let machine = Machine::start(
            state,
            Memory::Zeros,
            world,
            host.profile().clone(),
            wiring.stop.clone(),
            &common.machine,
        );
        Sandbox::assemble(machine, observer, recording, None, wiring, common)
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let args: Vec<_> = self.args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
        f.debug_struct("Program").field("args", &args).finish_non_exhaustive()
    }
}
