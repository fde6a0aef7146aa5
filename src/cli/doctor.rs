//! `dejavm doctor`

use std::io::Write;

use dejavm::sandbox::host::doctor;

use super::failure::status;
use super::{Failure, Result};

/// Says what this host's KVM and memory management do, and whether sandboxes run here.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 when sandboxes run here, 125 when they do not.

Examples:
  dejavm doctor
  dejavm doctor --json | jq .usable")]
pub struct Args {
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub fn main(args: Args) -> Result {
    let report = doctor::report();
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report).map_err(Failure::new)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.usable { 0 } else { status::FAILED })
}
