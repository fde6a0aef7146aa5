//! `dejavm restore`

use std::path::{Path, PathBuf};

use dejavm::Image;

use super::conclude;
use super::options::{RunOptions, ViewOptions, apply};
use super::signals::Signals;
use super::{Result, Voice, confine};

/// Goes on from a snapshot.
///
/// The program gets this process's standard streams. It sees what is shown it of the host at the
/// same guest paths as before; what is not shown is not there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  echo '6*7' | dejavm restore py.dvm
  dejavm restore py.dvm --record rec --stats < input
  dejavm warm py.dvm < input")]
pub struct Args {
    /// The snapshot.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Records the run in this directory, which is made, or empty.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Draws random bytes from this seed from now on, instead of going on with the snapshot's: else
    /// all that is restored from it sees the same ones.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Runs on a CPU with other features than the snapshot's.
    #[arg(long)]
    any_cpu: bool,
    #[command(flatten)]
    view: ViewOptions,
    #[command(flatten)]
    run: RunOptions,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let signals = Signals::block()?;
    let host = super::host()?;
    let image = Image::open(&args.file)?;
    let mut restore = image.restore().any_cpu(args.any_cpu).view(args.view.view()?);
    if let Some(dir) = args.record {
        restore = restore.record(dir);
    }
    if let Some(seed) = args.seed {
        restore = restore.seed(seed);
    }
    let sandbox = apply!(&args.run, restore).start(&host)?;
    confine::confine(&sandbox, args.run.no_confine, None)?;
    conclude::run(sandbox, &signals, &name(&image, &args.file), &args.run, voice)
}

/// The restored program's name, for messages.
fn name(image: &Image, file: &Path) -> String {
    match image.state().command().first() {
        Some(name) => String::from_utf8_lossy(name).into_owned(),
        None => file.display().to_string(),
    }
}
