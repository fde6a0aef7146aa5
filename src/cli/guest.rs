//! A new guest, by the options.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dejavm::command_line::with_variable;
use dejavm::{Host, Input, Kernel, Program, Sandbox, Stdio, StopHandle};

use super::failure::say;
use super::options::{GuestOptions, KernelOptions, RunOptions, ViewOptions, apply};
use super::{Failure, Result, Voice, streams};

/// Where a guest is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// The recording's directory.
    pub dir: &'a Path,
    /// Most bytes of its log.
    pub max_log: Option<u64>,
    /// Time between two of its checkpoints.
    pub checkpoints: Option<Duration>,
    /// Bytes of its log that are kept.
    pub ring: Option<u64>,
}

/// What makes a new guest.
#[derive(Debug, clap::Args)]
pub struct NewGuest {
    #[command(flatten)]
    pub guest: GuestOptions,
    #[command(flatten)]
    view: ViewOptions,
    #[command(flatten)]
    pub run: RunOptions,
    /// Runs this image as a bare-metal guest, instead of a program: see `dejavm kernel`.
    #[arg(long, value_name = "IMAGE", help_heading = "A bare-metal guest")]
    kernel: Option<PathBuf>,
    #[command(flatten)]
    bare: KernelOptions,
    /// The program, looked for in the guest's PATH unless there is a slash in it, and its
    /// arguments.
    #[arg(
        required_unless_present = "kernel",
        conflicts_with = "kernel",
        trailing_var_arg = true,
        value_name = "PROGRAM",
        help_heading = "Arguments"
    )]
    program: Vec<OsString>,
}

impl NewGuest {
    /// The guest with this process's standard streams, about to run. A program takes them for
    /// `stdio`. It is recorded in the directory, if one is given, and stopped by the handle.
    pub fn start(
        &self,
        stdio: Stdio,
        record: Option<Recorded<'_>>,
        host: &Host,
        stop: Option<StopHandle>,
        voice: Voice,
    ) -> Result<Sandbox> {
        if let Some(image) = &self.kernel {
            if !self.view.ro.is_empty() || self.view.root.is_some() || self.view.cross_mounts {
                return Err(Failure::new(
                    "--ro, --root and --cross-mounts are of programs: a bare-metal guest sees no files",
                ));
            }
            let sandbox = kernel(image, &self.bare, &self.run, self.guest.memory, record, host, stop)?;
            warn_of_unpacking(&sandbox, host, voice);
            return Ok(sandbox);
        }
        let KernelOptions { initrd, cmdline, input, protocol, unpack } = &self.bare;
        if initrd.is_some() || !cmdline.is_empty() || input.is_some() || protocol.is_some() || *unpack {
            return Err(Failure::new(
                "--initrd, --cmdline, --input, --protocol and --unpack are of bare-metal guests: give --kernel IMAGE instead of a program",
            ));
        }
        let mut program = self.program(stdio, voice)?;
        if let Some(recorded) = record {
            program = program.record(recorded.dir);
            if let Some(bytes) = recorded.max_log {
                program = program.max_log(bytes);
            }
            if let Some(every) = recorded.checkpoints {
                program = program.checkpoints(every);
            }
            if let Some(bytes) = recorded.ring {
                program = program.ring(bytes);
            }
        }
        if let Some(stop) = stop {
            program = program.stop_by(stop);
        }
        Ok(program.start(host)?)
    }

    /// Whether it is a bare-metal guest.
    pub fn is_bare_metal(&self) -> bool {
        self.kernel.is_some()
    }

    fn program(&self, stdio: Stdio, voice: Voice) -> Result<Program> {
        let view = self.view.view(voice)?;
        let options = &self.guest;
        let workdir = options.workdir.clone().unwrap_or_else(|| self.view.workdir(&view).into());
        let mut program = Program::new(&self.program[0])
            .args(&self.program[1..])
            .disk(options.disk)
            .seed(options.seed)
            .clock(options.clock.into())
            .workdir(workdir)
            .view(view)
            .stdio(stdio);
        if let Some(bytes) = options.memory {
            program = program.memory(bytes);
        }
        if let Some(seed) = options.chaos {
            program = program.chaos(seed);
        }
        if let Some(branches) = options.time_slice {
            program = program.time_slice(branches);
        }
        if let Some(time) = options.start_time {
            program = program.start_time(time);
        }
        if let Some(time) = options.timer_step {
            program = program.timer_step(time);
        }
        if streams::stdin_is_terminal()
            && let Some(term) = std::env::var_os("TERM")
        {
            program = program.env("TERM", term);
        }
        for variable in &options.env {
            program = with_variable(program, variable);
        }
        Ok(apply!(&self.run, program))
    }

    /// The guest's name, for messages.
    pub fn name(&self) -> String {
        let name = self.kernel.as_ref().map(|image| image.as_os_str()).or(self.program.first().map(|p| &**p));
        name.unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// A bare-metal guest, about to run.
pub fn kernel(
    image: &Path,
    options: &KernelOptions,
    run: &RunOptions,
    memory: Option<u64>,
    record: Option<Recorded<'_>>,
    host: &Host,
    stop: Option<StopHandle>,
) -> Result<Sandbox> {
    let mut kernel = Kernel::new(image).cmdline(options.cmdline.as_bytes().to_vec()).unpack(options.unpack);
    kernel = apply!(run, kernel);
    if let Some(path) = &options.input {
        let file =
            File::open(path).map_err(|e| Failure::new(format_args!("--input {}: {e}", path.display())))?;
        kernel = kernel.stdin_from(Input::from_fd(file));
    }
    if let Some(bytes) = memory {
        kernel = kernel.memory(bytes);
    }
    if let Some(path) = &options.initrd {
        kernel = kernel.initrd(path);
    }
    if let Some(protocol) = options.protocol {
        kernel = kernel.protocol(protocol.into());
    }
    if let Some(recorded) = record {
        kernel = kernel.record(recorded.dir);
        if let Some(bytes) = recorded.max_log {
            kernel = kernel.max_log(bytes);
        }
    }
    if let Some(stop) = stop {
        kernel = kernel.stop_by(stop);
    }
    Ok(kernel.start(host)?)
}

/// Says what to do where a kernel is about to unpack itself at a crawl.
pub fn warn_of_unpacking(sandbox: &Sandbox, host: &Host, voice: Voice) {
    let unpacks = sandbox.machine().kernel().is_some_and(|kernel| kernel.start_state().unpacks_itself);
    if unpacks && host.profile().syscall_stays_user && !voice.quiet {
        say(
            "the image unpacks itself, and this host's KVM emulates CPL 0: that takes minutes; --unpack saves them",
        );
    }
}
