//! `dejavm unpack`

use std::path::PathBuf;

use dejavm::replay::Recording;

use super::progress::Progress;
use super::{Result, Voice};

/// Makes a recording's directory out of its pack.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm unpack crash.dvr -o rec")]
pub struct Args {
    /// The pack.
    #[arg(value_name = "FILE")]
    pack: PathBuf,
    /// The directory for the recording: made, or empty.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let recording = Recording::open(&args.pack)?;
    let made = dejavm::make_recording_dir(&args.output)?;
    let mut bar = Progress::new(voice);
    let unpacked = recording.unpack(&args.output, &mut |done, total| bar.show(done, total));
    bar.done();
    if made && unpacked.is_err() {
        // Goes only if nothing was written.
        let _ = std::fs::remove_dir(&args.output);
    }
    Ok(unpacked.map(|()| 0)?)
}
