//! A new program, by the options.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use dejavm::{Program, Stdio};

use super::options::{GuestOptions, RunOptions, ViewOptions, apply};
use super::{Result, streams};

/// What makes a new program.
#[derive(Debug, clap::Args)]
pub struct NewGuest {
    #[command(flatten)]
    guest: GuestOptions,
    #[command(flatten)]
    view: ViewOptions,
    #[command(flatten)]
    pub run: RunOptions,
    /// The program, looked for in the guest's PATH unless there is a slash in it, and its
    /// arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM", help_heading = "Arguments")]
    program: Vec<OsString>,
}

impl NewGuest {
    /// The program with this process's standard streams.
    pub fn program(&self, stdio: Stdio) -> Result<Program> {
        let view = self.view.view()?;
        let options = &self.guest;
        let workdir = options.workdir.clone().unwrap_or_else(|| self.view.workdir(&view).into());
        let mut program = Program::new(&self.program[0])
            .args(&self.program[1..])
            .memory(options.memory)
            .disk(options.disk)
            .seed(options.seed)
            .clock(options.clock.into())
            .workdir(workdir)
            .view(view)
            .stdio(stdio);
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
            program = set(program, variable);
        }
        Ok(apply!(&self.run, program))
    }

    /// The program's name, for messages.
    pub fn name(&self) -> String {
        self.program[0].to_string_lossy().into_owned()
    }
}

fn set(program: Program, variable: &OsStr) -> Program {
    let bytes = variable.as_bytes();
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) => program.env(OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])),
        // One that is not set here is not set there.
        None => match std::env::var_os(variable) {
            Some(value) => program.env(variable, value),
            None => program,
        },
    }
}
