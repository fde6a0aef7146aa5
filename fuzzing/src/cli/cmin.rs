//! `dejavm-fuzz cmin`: the smallest set of inputs that takes the same edges.

use std::path::PathBuf;

use libafl::executors::ExitKind;

use super::failure::say;
use super::options::TargetOptions;
use super::{Failure, Result};
use crate::campaign::{files, read_inputs};

/// Copies of a set of inputs those that together take all edges that all of them take. Inputs that crash or hang are
/// left out.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "dejavm-fuzz cmin -i DIR -o DIR [OPTIONS] -- TARGET [ARGS, with @@ for the input's path]"
)]
pub struct Args {
    /// The inputs.
    #[arg(short, long, value_name = "DIR")]
    input: PathBuf,
    /// Where the chosen ones are copied to, with their names: made, or empty.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    target: TargetOptions,
}

pub fn main(args: Args) -> Result {
    let target = args.target.target(true)?;
    let inputs = read_inputs(&args.input)?;
    if !files::list(&args.output)?.is_empty() {
        return Err(Failure::usage(format_args!(
            "-o {}: not empty: give another directory",
            args.output.display()
        )));
    }
    let host = super::host()?;
    let mut ready = target.start(&host)?;
    let mut taken = Vec::with_capacity(inputs.len());
    for (_, input) in &inputs {
        let mut kind = ready.run(input)?.kind();
        if kind == ExitKind::Timeout {
            // The machine may just have been busy.
            kind = ready.run(input)?.kind();
        }
        let ended = kind == ExitKind::Ok;
        let edges = ready.counts().iter().enumerate().filter(|(_, count)| **count > 0 && ended);
        taken.push((input.len(), edges.map(|(edge, _)| edge).collect::<Vec<_>>()));
    }
    let chosen = choose(&taken);
    files::make_dir(&args.output)?;
    for number in &chosen {
        let (path, bytes) = &inputs[*number];
        files::write_beside(&args.output.join(path.file_name().unwrap_or_default()), bytes)?;
    }
    say(format_args!("{}: {} inputs of {}", args.output.display(), chosen.len(), inputs.len()));
    Ok(0)
}

/// Numbers of inputs, given the length and the edges of each: for each edge, the rarest first, that none of the chosen
/// takes the smallest input that does.
fn choose(inputs: &[(usize, Vec<usize>)]) -> Vec<usize> {
    let edges = inputs.iter().flat_map(|(_, edges)| edges).max().map_or(0, |last| last + 1);
    let mut takers: Vec<(usize, Vec<usize>)> = (0..edges).map(|edge| (edge, Vec::new())).collect();
    for (number, (_, edges)) in inputs.iter().enumerate() {
        edges.iter().for_each(|edge| takers[*edge].1.push(number));
    }
    takers.sort_by_key(|(_, takers)| takers.len());
    let (mut covered, mut chosen) = (vec![false; edges], Vec::new());
    for (edge, takers) in takers {
        let smallest = takers.into_iter().min_by_key(|number| inputs[*number].0);
        let Some(number) = smallest.filter(|_| !covered[edge]) else { continue };
        inputs[number].1.iter().for_each(|edge| covered[*edge] = true);
        chosen.push(number);
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_edges_are_taken_by_few() {
        let inputs = [(9, vec![0, 1]), (5, vec![0]), (7, vec![0, 1, 3]), (1, vec![]), (2, vec![1, 0])];
        assert_eq!(choose(&inputs), [2]);
        let inputs = [(9, vec![0, 1]), (5, vec![2]), (7, vec![0, 1])];
        assert_eq!(choose(&inputs), [1, 2]);
        assert_eq!(choose(&[]), [0; 0]);
    }
}
