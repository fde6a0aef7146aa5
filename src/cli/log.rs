//! `dejavm log`

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use dejavm::replay::text::{format_record, json_record};
use dejavm::replay::{Ending, Record, Recording};

use super::failure::{json_line, say};
use super::{Failure, Result};

/// Shows the exits of a recording, as strace would.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm log rec
  dejavm log rec --from 1000 --faults
  dejavm log rec --json | jq -r 'select(.call == \"openat\").errno'
  dejavm log rec --digest")]
pub struct Args {
    /// The recording.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Only one number for all exits together: runs with the same one made the same exits.
    #[arg(long, conflicts_with_all = ["json", "from", "faults", "answers"])]
    digest: bool,
    /// Starts at this exit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Page faults too.
    #[arg(long)]
    faults: bool,
    /// Questions to the outside and their answers too.
    #[arg(long)]
    answers: bool,
}

pub fn main(args: Args) -> Result {
    let recording = Recording::open(&args.dir)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    if args.digest {
        writeln!(out, "{}", recording.digest()?)?;
        out.flush()?;
        return Ok(0);
    }
    for record in recording.records_from(args.from) {
        let record = match record {
            Ok(record) => record,
            Err(e) => {
                // What comes before the damage is worth seeing.
                out.flush()?;
                return Err(e.into());
            }
        };
        let wanted = match &record {
            // What led to the first exit is not asked for.
            Record::Exit(exit) => exit.number >= args.from,
            Record::Fault(_) => args.faults,
            Record::World(_) | Record::Keyed(_) => args.answers,
        };
        if wanted && args.json {
            writeln!(out, "{}", json_line(&json_record(&record)))?;
        } else if wanted {
            writeln!(out, "{}", format_record(&record))?;
        }
    }
    out.flush()?;
    match recording.ending() {
        Ending::Sealed { .. } => Ok(0),
        Ending::Damaged { .. } => {
            Err(Failure::new(format_args!("{}: {}", args.dir.display(), recording.ending())))
        }
        ending => {
            say(format_args!("{}: {ending}", args.dir.display()));
            Ok(0)
        }
    }
}
