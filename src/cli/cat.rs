//! `dejavm cat`

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use dejavm::replay::{Files, Found, FoundKind, Moment, Recording};
use dejavm::sandbox::world::BLOCK_SIZE;

use super::Result;
use super::decoding::ReplayOptions;

/// Writes a file to standard output as the recorded program saw it.
///
/// At the end of the run, or at a position behind an @, as `dejavm find` and `monitor when` tell it. Relative paths
/// start in the working directory of the task that runs then; symbolic links are those of the program. Of a
/// directory the names are written, as `ls -a` would.
///
/// What the program made or changed is there whole. Of the host's files a recording holds what the program read:
/// content that it never read, or a name that it had not looked at by then, is an error that says so (what comes before it has been
/// written). So is a file that is not there at that position, as one that was removed before.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm cat rec /tmp/result
  dejavm cat rec result@31
  dejavm cat rec /proc/self/maps@31+2354
  dejavm cat rec /etc | less
  dejavm cat rec \"notes@$(dejavm find rec --last write to notes | cut -f1)\"")]
pub struct Args {
    /// The recording: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    dir: PathBuf,
    /// The file, and when: EXIT, EXIT+STEPS, or EXIT- for before that exit is made. A path that itself ends in an @
    /// and a number needs a position behind it.
    #[arg(value_name = "PATH[@POSITION]", value_parser = clap::builder::OsStringValueParser::new().map(file))]
    file: (Vec<u8>, Option<Moment>),
    #[command(flatten)]
    replay: ReplayOptions,
}

/// Takes `PATH@POSITION` apart.
fn file(text: OsString) -> (Vec<u8>, Option<Moment>) {
    let text = text.into_vec();
    let at = text.iter().rposition(|byte| *byte == b'@').filter(|at| *at > 0);
    let moment = at.and_then(|at| std::str::from_utf8(&text[at + 1..]).ok()?.parse().ok());
    match (at, moment) {
        (Some(at), Some(moment)) => (text[..at].to_vec(), Some(moment)),
        _ => (text, None),
    }
}

pub fn main(args: Args) -> Result {
    let recording = Recording::open(&args.dir)?;
    let host = super::host()?;
    let mut timeline = args.replay.replay(&recording).timeline(&host)?;
    let (path, moment) = &args.file;
    match moment {
        Some(moment) => timeline.seek(*moment)?,
        None => timeline.seek_end()?,
    }
    let mut files = timeline.files()?;
    // Its checkpoints are not needed any more.
    drop(timeline);
    let found = files.find(path)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = match found.kind() {
        FoundKind::Directory => list(&mut files, &found, &mut out),
        FoundKind::Regular => copy(&mut files, &found, &mut out),
    };
    out.flush()?;
    written.map(|()| 0)
}

fn list(files: &mut Files, directory: &Found, out: &mut impl Write) -> Result<()> {
    let names = files.list(directory)?;
    for name in [&b"."[..], b".."].into_iter().chain(names.iter().map(Vec::as_slice)) {
        out.write_all(name)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn copy(files: &mut Files, file: &Found, out: &mut impl Write) -> Result<()> {
    let mut bytes = vec![0; BLOCK_SIZE];
    let mut offset = 0;
    loop {
        match files.read(file, offset, &mut bytes)? {
            0 => return Ok(()),
            n => {
                out.write_all(&bytes[..n])?;
                offset += n as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dejavm::replay::Position;

    #[test]
    fn a_position_stands_behind_the_last_at() {
        let of = |text: &str| file(text.into());
        let at = |path: &str, exit| (path.as_bytes().to_vec(), Some(Position::behind(exit).into()));
        assert_eq!(of("/etc/passwd"), (b"/etc/passwd".to_vec(), None));
        assert_eq!(of("a@3"), at("a", 3));
        assert_eq!(of("a@3@4"), at("a@3", 4));
        assert_eq!(of("a@3-"), (b"a".to_vec(), Some(Moment::Before(3))));
        for plain in ["you@home", "@3", "a@", "a@-1"] {
            assert_eq!(of(plain), (plain.as_bytes().to_vec(), None));
        }
    }
}
