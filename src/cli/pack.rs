//! `dejavm pack`

use std::ffi::OsString;
use std::path::PathBuf;

use dejavm::replay::{PackOptions, Recording};
use dejavm::snapshot::directory_of;

use super::failure::say;
use super::progress::Progress;
use super::stats::bytes;
use super::{Failure, Result, Voice, redact};

/// Puts a recording into one file, smaller than its directory, that all commands take in its place.
///
/// The whole log is read and checked, and compressed anew; the digest and every replay stay the same. The pack
/// holds what the guest read, its environment included, unless that is taken out by --redact.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm pack rec -o crash.dvr
  dejavm pack rec -o crash.dvr --debug-files
  dejavm pack rec -o crash.dvr --redact --redact-file token.txt
  dejavm replay crash.dvr
  dejavm debug crash.dvr
  dejavm inspect crash.dvr --verify
  dejavm unpack crash.dvr -o rec")]
pub struct Args {
    /// The recording: a directory, or a pack.
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// The file; one that is there is replaced.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How hard to compress, from 1 (fast) to 22 (small).
    #[arg(long, value_name = "N", default_value_t = 19, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// Puts in the programs and libraries that the guest read, each as a whole, and their debug files, as far as
    /// this machine has the very files: backtraces and debuggers then have names and lines anywhere.
    #[arg(long)]
    debug_files: bool,
    /// A directory of debug files, by build ID as in /usr/lib/debug, which is looked into last. May be repeated.
    #[arg(long, value_name = "DIR", requires = "debug_files")]
    debug_dir: Vec<PathBuf>,
    /// Takes the values of the environment out, as `dejavm redact` does: by doing the run again.
    #[arg(long)]
    redact: bool,
    /// Takes out what the program read of these files of the host, too. May be repeated.
    #[arg(long, value_name = "FILE", requires = "redact")]
    redact_file: Vec<OsString>,
    /// Takes out what the program read from its standard input, too.
    #[arg(long, requires = "redact")]
    redact_stdin: bool,
    /// Keeps the value of this variable. May be repeated.
    #[arg(long, value_name = "NAME", requires = "redact")]
    redact_keep: Vec<OsString>,
}

impl Args {
    /// The same for `dejavm redact`.
    fn redaction(&self) -> Vec<OsString> {
        let with = |option: &str, value: &OsString| [OsString::from(option), value.clone()];
        let files = self.redact_file.iter().flat_map(|file| with("--file", file));
        let names = self.redact_keep.iter().flat_map(|name| with("--keep", name));
        files.chain(names).chain(self.redact_stdin.then(|| "--stdin".into())).collect()
    }
}

pub fn main(args: Args, voice: Voice) -> Result {
    let (recording, _redacted) = match args.redact {
        false => (Recording::open(&args.recording)?, None),
        true => {
            let beside = directory_of(&args.output);
            let dir = tempfile::Builder::new().prefix(".dejavm-").suffix(".tmp").tempdir_in(beside);
            let dir = dir.map_err(|e| {
                Failure::new(format_args!("cannot make a directory in {}: {e}", beside.display()))
            })?;
            redact::elsewhere(&args.recording, dir.path(), &args.redaction(), voice)?;
            (Recording::open(dir.path())?, Some(dir))
        }
    };
    let mut options = PackOptions::default();
    options.level = args.level;
    options.debug_files = args.debug_files;
    options.debug_dirs.splice(0..0, args.debug_dir);
    let mut bar = Progress::new(voice);
    let packed = recording.pack(&args.output, &options, &mut |done, total| bar.show(done, total))?;
    bar.done();
    if !voice.quiet {
        let ratio = packed.bytes as f64 / packed.from_bytes.max(1) as f64 * 100.0;
        let files = match packed.files {
            0 => String::new(),
            1 => ", with 1 file of its programs".into(),
            n => format!(", with {n} files of its programs"),
        };
        say(format_args!(
            "{}: {}, {ratio:.0} % of {}{files}",
            args.output.display(),
            bytes(packed.bytes),
            bytes(packed.from_bytes)
        ));
    }
    Ok(0)
}
