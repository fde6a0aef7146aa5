//! `dejavm redact`

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dejavm::replay::{Asked, Record, Recording};
use dejavm::sandbox::program::fs::guest_path;
use dejavm::sandbox::world::Response;
use dejavm::{Image, Redaction};

use super::decoding::DecodeOptions;
use super::failure::{say, shown, status};
use super::pattern::Pattern;
use super::{Failure, Result, Voice, confine};

/// Takes secrets out of a recording: the run is done again without them, and recorded.
///
/// The values of all variables of its environment are replaced, but for TERM, LANG, LANGUAGE, LC_*, and what PATH and
/// HOME are unless told otherwise; and the contents of files that are named. Letters become x or X and digits 0; white space and
/// punctuation stay, and so does the length. What follows from that in memory and output follows. When the run does
/// something else without them, there is no recording, and the exit status is 122: keep what it depends on.
///
/// A variable's value that still comes elsewhere, in an argument or in a file that was not named, is told. Names
/// of files, and arguments, stay as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm redact rec -o clean
  dejavm redact rec -o clean --file '/work/config/*.pem' --keep LC_ALL
  dejavm pack rec --redact -o clean.dvr")]
pub struct Args {
    /// The recording, of a program from its start on: its directory, or its pack.
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// The directory for the recording without them: made, or empty.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Takes out what the program read of these files of the host, too: a pattern of paths in the guest, as with
    /// `dejavm find`. May be repeated.
    #[arg(long, value_name = "FILE")]
    file: Vec<String>,
    /// Takes out what the program read from its standard input, too.
    #[arg(long)]
    stdin: bool,
    /// Keeps the value of this variable. May be repeated.
    #[arg(long, value_name = "NAME")]
    keep: Vec<String>,
    #[command(flatten)]
    decode: DecodeOptions,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let recording = Recording::open(&args.recording)?;
    let host = super::host()?;
    let patterns: Vec<Pattern> = args.file.iter().map(|text| Pattern::new(text)).collect();
    let mut redaction = args.keep.iter().fold(Redaction::new(), Redaction::keep);
    if args.stdin {
        redaction = redaction.input();
    }
    if !patterns.is_empty() {
        let patterns = patterns.clone();
        redaction = redaction.files(move |path| patterns.iter().any(|pattern| pattern.matches(path)));
    }
    let before = environment(&recording)?;
    let made = !args.output.exists();
    let result = (|| {
        let mut sandbox =
            args.decode.replay.replay(&recording).redact(redaction, &args.output).start(&host)?;
        confine::confine(&sandbox, args.decode.no_confine, Some(&args.output))?;
        sandbox.run()?;
        let files = sandbox.redacted();
        let missed = patterns.iter().position(|pattern| !files.iter().any(|file| pattern.matches(file)));
        match missed {
            Some(missed) => Err(Failure::new(format_args!(
                "the program read nothing of {}, so that there is nothing to be taken out: `dejavm find {} open` \
                 has the files that it opened",
                shown(&args.file[missed]),
                args.recording.display()
            ))),
            None => Ok(files.len()),
        }
    })();
    let files = match result {
        Ok(files) => files,
        Err(failure) => {
            if made {
                // What is there of it is no recording of this run.
                let _ = fs::remove_dir_all(&args.output);
            }
            if failure.status == status::DIVERGED {
                failure.print();
                return Err(failure.in_other_words(
                    "the run does something else without what was taken out; a variable that it depends on can be \
                     kept (--keep NAME)",
                ));
            }
            return Err(failure);
        }
    };
    let redacted = Recording::open(&args.output)?;
    let after = environment(&redacted)?;
    let secrets: Vec<Secret> = before.into_iter().filter(|secret| !after.contains(secret)).collect();
    for line in remains(&secrets, &redacted)? {
        say(format_args!("{line}"));
    }
    if !voice.quiet {
        say(format_args!(
            "{}: without the values of {} and the contents of {}",
            args.output.display(),
            counted(secrets.len(), "variable"),
            counted(files, "file")
        ));
    }
    Ok(0)
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A variable.
#[derive(PartialEq, Eq)]
struct Secret {
    name: String,
    value: Vec<u8>,
}

/// The environment that a recorded program was started with.
fn environment(recording: &Recording) -> Result<Vec<Secret>> {
    let image = Image::of_start(recording)?;
    let command = image.state().program().and_then(|program| program.pending.as_ref());
    let variables = command.map_or(&[][..], |command| &command.env).iter();
    Ok(variables
        .map(|variable| {
            let at = variable.iter().position(|b| *b == b'=').unwrap_or(variable.len());
            let name = String::from_utf8_lossy(&variable[..at]).into_owned();
            Secret { name, value: variable.get(at + 1..).unwrap_or_default().to_vec() }
        })
        .collect())
}

/// Where values still are, a line each.
fn remains(secrets: &[Secret], recording: &Recording) -> Result<Vec<String>> {
    /// Shorter ones are somewhere in any library.
    const SHORTEST: usize = 6;
    let secrets: Vec<&Secret> = secrets.iter().filter(|secret| secret.value.len() >= SHORTEST).collect();
    let mut lines = Vec::new();
    let mut look = |text: &[u8], place: &str| {
        for Secret { name, value } in &secrets {
            let line = format!("the value of {} is still in {place}", shown(name));
            if text.windows(value.len()).any(|part| part == value) && !lines.contains(&line) {
                lines.push(line);
            }
        }
    };
    for word in &recording.manifest().command {
        look(word.as_bytes(), "the command line");
    }
    let image = Image::of_start(recording)?;
    let mounts = image.state().program().map_or(&[][..], |program| program.fs.mounts());
    for record in recording.records() {
        let (answer, place) = match record? {
            Record::World(world) if matches!(world.asked, Asked::Input { .. }) => {
                (world.answer, "standard input".into())
            }
            Record::Keyed(keyed) => {
                let path = guest_path(mounts, &keyed.path).unwrap_or_default();
                let path = String::from_utf8_lossy(&path).into_owned();
                (keyed.answer, if path.is_empty() { "standard input".into() } else { shown(&path) })
            }
            _ => continue,
        };
        match recording.response(&answer)? {
            Response::Input(Ok(text)) => look(&text, &place),
            Response::Block(Ok(text)) => look(&text, &place),
            _ => {}
        }
    }
    Ok(lines)
}

/// Redacts a recording into a directory by a process of its own, as the one that does it is confined then.
///
/// # Errors
/// As that process ended: it has said why.
pub fn elsewhere(recording: &Path, output: &Path, words: &[OsString], voice: Voice) -> Result<()> {
    let failed = |e| Failure::new(format_args!("cannot start a process that redacts: {e}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("redact").arg("--output").arg(output).args(words);
    if voice.quiet {
        command.arg("--quiet");
    }
    let status = command.arg("--").arg(recording).stdin(Stdio::null()).status().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(Failure::told(status.code())) }
}
