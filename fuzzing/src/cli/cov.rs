//! `dejavm-fuzz cov`: which source lines inputs reach.

use std::fmt::Write;
use std::path::PathBuf;

use dejavm_fuzz::Lines;

use super::failure::say;
use super::options::{Inputs, TargetOptions};
use super::{Failure, Result};
use crate::campaign::files;

/// Runs inputs, and writes which source lines they reached, as lcov has it: genhtml makes pages of it. The target needs
/// line tables (-g), and no instrumentation.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dejavm-fuzz cov [-o FILE] [OPTIONS] INPUT... -- TARGET [ARGS, with @@ for the input's path]",
    after_help = "\
Example:
  dejavm-fuzz cov out/default/queue -o cov.info -- ./parse @@ && genhtml cov.info -o cov"
)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// Where it is written.
    #[arg(short, long, value_name = "FILE", default_value = "cov.info")]
    output: PathBuf,
    #[command(flatten)]
    target: TargetOptions,
}

pub fn main(args: Args) -> Result {
    let target = args.target.target(true)?;
    let host = super::host()?;
    let mut ready = target.start(&host)?;
    let (mut taken, mut runs) = (Vec::new(), 0);
    for (_, input) in args.inputs.read()? {
        ready.run(&input)?;
        runs += 1;
        let counts = ready.counts();
        taken.resize(counts.len().max(taken.len()), 0u64);
        taken.iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(*count));
    }
    let lines = ready.lines(&taken);
    if lines.is_empty() {
        return Err(Failure::usage(
            "no file that is covered has lines: build the target with -g, or name another by --cover",
        ));
    }
    files::write_beside(&args.output, text(&lines).as_bytes())?;
    let all = || lines.values().flat_map(|lines| lines.values());
    let reached = all().filter(|count| **count > 0).count();
    let output = args.output.display();
    say(format_args!("{output}: {runs} inputs reach {reached} of {} lines", all().count()));
    Ok(0)
}

/// The format of lcov's tracefiles: geninfo(1).
fn text(lines: &Lines) -> String {
    let mut text = String::from("TN:\n");
    for (file, lines) in lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "SF:{file}");
        for (line, count) in lines {
            let _ = writeln!(text, "DA:{line},{count}");
        }
        let reached = lines.values().filter(|count| **count > 0).count();
        let _ = writeln!(text, "LF:{}\nLH:{reached}\nend_of_record", lines.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lcov_can_read_it() {
        let lines = Lines::from([("a.c".to_owned(), [(3, 0), (4, 7)].into())]);
        assert_eq!(text(&lines), "TN:\nSF:a.c\nDA:3,0\nDA:4,7\nLF:2\nLH:1\nend_of_record\n");
    }
}
