//! `dejavm run`

use super::conclude;
use super::guest::NewGuest;
use super::signals::Signals;
use super::{Result, Voice, confine, streams};

/// Runs a program in a sandbox.
///
/// The program sees this host's programs and libraries (/usr, /bin, /sbin, /lib*, /opt), its settings
/// (/etc), and the current directory, at /work and at its own path: all of it read-only. What it writes
/// is kept in memory and gone when it ends. It sees no network and nothing of the environment.
///
/// Of the system's directories it does not see what others than owner and group may not read; of the
/// settings neither what has the name of a secret (keys, passwords, tokens) nor what tells this machine
/// from others (hostname, machine-id, fstab): docs/view.md lists these names. Directories that other
/// file systems are mounted on are empty, but for those in /usr: --cross-mounts shows them.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dejavm run [OPTIONS] [--] PROGRAM [ARGS]...",
    after_help = "\
Examples:
  dejavm run -- python3 -c 'print(6*7)'
  dejavm run --memory 256M --deadline 5s --stats -- python3 script.py
  dejavm run --ro /data --ro ./config.json:/etc/app.json -- ./app
  dejavm run --root ./alpine -- /bin/busybox ls /"
)]
pub struct Args {
    #[command(flatten)]
    new: NewGuest,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let signals = Signals::block()?;
    let host = super::host()?;
    let sandbox =
        signals.while_loading(|stop| args.new.start(streams::of_host(), None, &host, Some(stop), voice))?;
    confine::confine(&sandbox, args.new.run.no_confine, None)?;
    conclude::run(sandbox, &signals, &args.new.name(), &args.new.run, None, voice)
}
