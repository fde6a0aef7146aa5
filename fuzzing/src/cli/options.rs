//! What subcommands have in common: the target.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dejavm::command_line::with_variable;
use dejavm::{Modules, Program};
use dejavm_fuzz::{Door, Place, Target, with_input_path};

use super::failure::Failure;
use super::{Result, parse, view};
use crate::campaign::read_inputs;

/// Inputs that are run once.
#[derive(Debug, Args)]
pub struct Inputs {
    /// Files, or directories of such.
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
}

impl Inputs {
    /// All of them, with the paths of their files.
    pub fn read(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let inputs =
            self.inputs.iter().map(|path| read_inputs(path)).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(inputs.into_iter().flatten().collect())
    }
}

/// The target, and what it may use.
#[derive(Debug, Args)]
#[command(next_help_heading = "The target")]
pub struct TargetOptions {
    /// How long a run may take, such as 500ms: a longer one is a hang.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse::duration)]
    timeout: Duration,
    /// Memory that it may use, with K, M or G behind the number. A run that wants more is no crash.
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = parse::size)]
    memory: u64,
    /// Counts the edges of this file's code: a path in the guest, or a file name. May be repeated [default: those of
    /// the program and its libraries, but for the C library's].
    #[arg(long, value_name = "FILE")]
    cover: Vec<String>,
    /// Shows a file or directory, read-only, at its own path or another. May be repeated. Programs and libraries and
    /// the current directory are shown unasked, as in `dejavm run`.
    #[arg(long, value_name = "PATH[:GUESTPATH]")]
    ro: Vec<OsString>,
    /// Sets a variable of its environment; without a value, to the one that it has here.
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Gives each input to this function: int FUNCTION(const uint8_t *data, size_t size). The program is run until it
    /// calls it first [default: LLVMFuzzerTestOneInput, if the program has it].
    #[arg(long, value_name = "FUNCTION", conflicts_with = "stdin")]
    call: Option<String>,
    /// Gives inputs by standard input, whatever functions it has.
    #[arg(long)]
    stdin: bool,
    /// Runs begin here, and not where the program is about to get its input: a symbol, 0xADDRESS, FILE+0xOFFSET from where a
    /// file is loaded, or "ready", where it writes `snapshot` to /dev/dejavm. The program must not have read its input before.
    #[arg(long, value_name = "PLACE")]
    at: Option<Place>,
    /// Runs are over here, too, and not only at the program's end.
    #[arg(long, value_name = "PLACE", conflicts_with = "call")]
    until: Option<Place>,
    /// For tests of dejavm: compares the sandbox with what it was, each time that it was put back so often.
    #[arg(long, value_name = "EVERY")]
    verify_reset: Option<NonZeroU64>,
    /// The program, looked for in the guest's PATH unless there is a slash in it, and its arguments. It reads standard
    /// input; @@ in an argument stands for a path at which it can open it.
    #[arg(last = true, required = true, value_name = "TARGET")]
    words: Vec<OsString>,
}

impl TargetOptions {
    /// The target. Says what it will not see, if it should.
    pub fn target(&self, says: bool) -> Result<Target> {
        let (Some(name), args) = (self.words.first(), self.words.iter().skip(1)) else {
            return Err(Failure::usage("give a program behind --"));
        };
        let (view, workdir) = view::view(&self.ro, says)?;
        let mut program = Program::new(name)
            .args(args.map(|arg| with_input_path(arg)))
            .memory(self.memory)
            .workdir(workdir)
            .view(view);
        for variable in &self.env {
            program = with_variable(program, variable);
        }
        let modules = match &self.cover[..] {
            [] => Modules::Own,
            names => Modules::Named(names.to_vec()),
        };
        let door = match &self.call {
            Some(function) => Door::Function(function.clone()),
            None if self.stdin => Door::Input,
            None => Door::Any,
        };
        let has_own = |variable: &OsString| variable.to_string_lossy().contains("SAN_OPTIONS");
        Ok(Target::new(program)
            .by(door)
            .at(self.at.clone())
            .until(self.until.clone())
            .with_sanitizer_options(!self.env.iter().any(has_own))
            .with_timeout(self.timeout)
            .cover(modules)
            .verify_every(self.verify_reset))
    }

    /// Where runs are over, besides the program's end.
    pub fn until(&self) -> Option<&Place> {
        self.until.as_ref()
    }

    /// The program's name.
    pub fn name(&self) -> String {
        let name = self.words.first().map(PathBuf::from);
        let name = name.as_deref().and_then(|path| path.file_name()).unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}
