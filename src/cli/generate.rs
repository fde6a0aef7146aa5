//! `dejavm completions` and `dejavm man`: made from the same definitions as `--help`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure, Result};

/// Prints a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm completions bash >~/.local/share/bash-completion/completions/dejavm
  dejavm completions fish >~/.config/fish/completions/dejavm.fish")]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the manual pages.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm man | man -l -
  dejavm man ~/.local/share/man/man1")]
pub struct Man {
    /// A directory that is there, for a page each of dejavm and its commands [default: dejavm's own page goes to
    /// standard output].
    directory: Option<PathBuf>,
}

pub fn completions(args: Completions) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dejavm", &mut script);
    io::stdout().write_all(&script)?;
    Ok(0)
}

pub fn man(args: Man) -> Result {
    let Some(directory) = args.directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        io::stdout().write_all(&page)?;
        return Ok(0);
    };
    clap_mangen::generate_to(Cli::command(), &directory)
        .map_err(|e| Failure::new(format!("cannot write manual pages to {}: {e}", directory.display())))?;
    Ok(0)
}
