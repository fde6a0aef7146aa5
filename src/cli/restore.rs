//! `dejavm restore`

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use dejavm::{HostFiles, Image};

use super::conclude;
use super::failure::shown;
use super::options::{CeilingOptions, FilesOption, RunOptions, ViewOptions, apply};
use super::signals::Signals;
use super::{Result, Voice, confine, parse};

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
    /// Ends a recorded run, with exit status 119, when its log would pass this size, such as 100M.
    #[arg(long, requires = "record", value_name = "SIZE", value_parser = parse::size)]
    max_log: Option<u64>,
    /// Draws random bytes from this seed from now on, instead of going on with the snapshot's: else
    /// all that is restored from it sees the same ones.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Schedules the program's tasks so that its mistakes show, in a way that follows from this seed.
    #[arg(long, value_name = "SEED")]
    chaos: Option<u64>,
    /// Takes a task off the CPU after so many branches of its own, about, while others can run, as `dejavm run` says it
    /// [default: as the snapshot has it; without a number, a million].
    #[arg(long, value_name = "BRANCHES", num_args = 0..=1, default_missing_value = "1000000")]
    time_slice: Option<NonZeroU64>,
    /// Runs on a CPU below the level of the snapshot's.
    #[arg(long)]
    any_cpu: bool,
    /// Sets a variable of the environment, where the snapshot was made before its program was loaded.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::variable)]
    env: Vec<(OsString, OsString)>,
    /// Adds an argument, where the snapshot was made before its program was loaded.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    arg: Vec<OsString>,
    /// Where the content of host files that the guest knew comes from: `stored` takes it from the
    /// snapshot, if that was made `--with-files`, else as `unchanged`; `unchanged` takes it from the
    /// host, and ends the run with an error that names the file if it changed since the snapshot was
    /// made; `host` gives the guest what the host has now, unless it has mapped the file.
    #[arg(long, value_name = "WHICH", value_enum, default_value = "stored")]
    files: FilesOption,
    #[command(flatten)]
    ceilings: CeilingOptions,
    #[command(flatten)]
    view: ViewOptions,
    #[command(flatten)]
    run: RunOptions,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let signals = Signals::block()?;
    let host = super::host()?;
    let image = Image::open(&args.file)?;
    args.view.check(&image, &args.file)?;
    let mut restore = image.restore().any_cpu(args.any_cpu).view(args.view.view(voice)?);
    restore = restore.memory(args.ceilings.memory).disk(args.ceilings.disk);
    restore = args.env.iter().fold(restore, |restore, (name, value)| restore.env(name, value));
    restore = args.arg.iter().fold(restore, |restore, arg| restore.arg(arg));
    restore = restore.host_files(match args.files {
        FilesOption::Stored => HostFiles::Stored,
        FilesOption::Unchanged => HostFiles::Unchanged,
        FilesOption::Host => HostFiles::AsTheyAre,
    });
    if let Some(dir) = &args.record {
        restore = restore.record(dir);
    }
    if let Some(bytes) = args.max_log {
        restore = restore.max_log(bytes);
    }
    if let Some(seed) = args.seed {
        restore = restore.seed(seed);
    }
    if let Some(seed) = args.chaos {
        restore = restore.chaos(seed);
    }
    if let Some(branches) = args.time_slice {
        restore = restore.time_slice(branches);
    }
    let restore = apply!(&args.run, restore);
    let sandbox = signals.while_loading(|stop| Ok(restore.stop_by(stop).start(&host)?))?;
    confine::confine(&sandbox, args.run.no_confine, None)?;
    let recording = args.record.as_deref().filter(|_| image.state().program().is_some());
    conclude::run(sandbox, &signals, &name(&image, &args.file), &args.run, recording, voice)
}

/// The restored program's name, for messages.
fn name(image: &Image, file: &Path) -> String {
    match image.state().command().first() {
        Some(name) => shown(&String::from_utf8_lossy(name)),
        None => file.display().to_string(),
    }
}
