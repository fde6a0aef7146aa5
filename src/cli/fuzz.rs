//! `dejavm fuzz`: a program of its own, so that this one needs nothing of what fuzzing needs.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::{Failure, Result};

/// The program.
const TOOL: &str = "dejavm-fuzz";

/// Fuzzes a program: `dejavm-fuzz`, which is beside this program or in PATH, with these arguments.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, override_usage = "dejavm fuzz [OPTIONS] -- PROGRAM [ARGS]...")]
pub struct Args {
    /// What dejavm-fuzz is given; --help tells.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

pub fn main(args: Args) -> Result {
    let beside = std::env::current_exe().ok().map(|this| this.with_file_name(TOOL));
    let tool = beside.filter(|path| path.is_file());
    // Without a slash it is looked for in PATH.
    let tool = tool.as_deref().unwrap_or(Path::new(TOOL));
    let error = Command::new(tool).args(args.args).exec();
    match error.kind() {
        std::io::ErrorKind::NotFound => Err(Failure::new(format_args!(
            "{TOOL} is neither beside this program nor in PATH; `cargo build --release -p {TOOL}` in dejavm's source makes it"
        ))),
        _ => Err(Failure::new(format_args!("{}: {error}", tool.display()))),
    }
}
