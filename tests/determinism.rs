//! One seed gives one run: the same exits with the same effects, whatever the host's time,
//! environment and working directory, whichever way absent pages are found, and with pages taken
//! away in between. And a recording needs none of the files that it was made with.
//!
//! By default a sample of the table's jobs, each run a few times. All of it, with the comparison of
//! every program with its native run:
//!
//! `DEJAVM_TEST_FULL=1 cargo test --release --test programs --test determinism --test restore --test replay`

mod common;
#[path = "programs/mod.rs"]
mod programs;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Finished, tool};
use programs::corpus::Corpus;
use programs::run::{difference, memory, sandboxed};
use programs::{Job, languages};

/// The seed of the runs that must be one.
const SEED: &str = "7";

/// Runs of one job with one seed: in all, and in the sample.
const RUNS: (usize, usize) = (20, 2);

/// Options that must not change what a program does.
const VARIANTS: [&[&str]; 5] = [
    &["--rung", "poison"],
    &["--rung", "decode"],
    &["--rung", "populate"],
    &["--evict", "every=13,seed=7"],
    &["--eager"],
];

/// Directories with the same input files, as unlike each other as can be: one name in the other's
/// place, deep and shallow.
struct Places {
    corpus: Corpus,
    scratch: tempfile::TempDir,
    _elsewhere: tempfile::TempDir,
    dirs: Vec<PathBuf>,
}

impl Places {
    fn new() -> Places {
        let corpus = Corpus::new();
        let scratch = tempfile::TempDir::new().expect("temporary directory");
        // Besides, one that has another first component.
        let elsewhere = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
        let dirs: Vec<_> = ["a", "some where/else", "d/e/e/p/e/r/und so weiter"]
            .iter()
            .map(|name| scratch.path().join(name))
            .chain([elsewhere.path().join("usr")])
            .collect();
        for dir in &dirs {
            corpus.copy_to(dir);
        }
        Places { corpus, scratch, _elsewhere: elsewhere, dirs }
    }
}

/// A recorded run: its output, and the digest of its exits.
fn record(job: &Job, dir: &Path, to: &Path, options: &[&str], junk: &[(&str, &str)]) -> (Finished, String) {
    let to_name = to.to_str().expect("a path in UTF-8");
    let mut words = vec!["record", "-q", "-o", to_name];
    words.extend(options);
    let finished = sandboxed(job, dir, &words, junk);
    let digest = tool(dir, ["log", to_name, "--digest"]).text();
    (finished, digest)
}

/// The variants that a job is tried with: all of them, or, in the sample, one, which goes round from job to job; of a
/// job that is asked for by name two.
fn variants(number: usize) -> Vec<&'static [&'static str]> {
    let mut all = common::possible(&VARIANTS);
    if !common::full() {
        let most = if programs::is_named() { 2 } else { 1 };
        let first = number * most % all.len();
        all.rotate_left(first);
        all.truncate(most);
    }
    all
}

fn check(job: &Job, places: &Places, number: usize) -> Result<(), String> {
    let own = places.scratch.path().join(format!("job-{number}"));
    fs::create_dir(&own).expect("create");
    let complaint = |what: String| Err(format!("--- {}\n{what}", job.name()));
    let seeded = ["--seed", SEED];
    let (first, digest) = record(job, &places.dirs[0], &own.join("first"), &seeded, &[]);
    let expect = |(seen, digest_seen): (Finished, String), how: &str| {
        if let Some(text) = difference(&first, &seen) {
            return complaint(format!("{how}: {text}"));
        }
        if digest_seen != digest {
            return complaint(format!(
                "{how}: digest {digest_seen:?}, not {digest:?}; recordings in {}",
                own.display()
            ));
        }
        Ok(())
    };
    let runs = if common::full() { RUNS.0 } else { RUNS.1 };
    for run in 1..runs {
        let dir = &places.dirs[run % places.dirs.len()];
        let value = "x".repeat(run * 37);
        let number = run.to_string();
        let junk = [("LC_ALL", "de_DE"), ("TZ", "Asia/Tokyo"), ("JUNK", &value), ("PYTHONHASHSEED", &number)];
        let to = own.join("again");
        let seen = record(job, dir, &to, &seeded, &junk);
        expect(seen, &format!("run {run} in {}", dir.display()))?;
        fs::remove_dir_all(to).expect("remove");
    }
    for (n, variant) in variants(number).iter().enumerate() {
        let to = own.join("variant");
        let options = [&seeded[..], variant].concat();
        let seen = record(job, &places.dirs[n % places.dirs.len()], &to, &options, &[]);
        expect(seen, &variant.join(" "))?;
        fs::remove_dir_all(to).expect("remove");
    }
    replay_without_inputs(job, places, &own, &first, &variants(number)).or_else(complaint)?;
    fs::remove_dir_all(own).expect("remove");
    Ok(())
}

/// Records where the input files are changed, removed and replaced before the replay.
fn replay_without_inputs(
    job: &Job,
    places: &Places,
    own: &Path,
    first: &Finished,
    variants: &[&[&str]],
) -> Result<(), String> {
    let inputs = own.join("inputs");
    places.corpus.copy_to(&inputs);
    let recording = own.join("recording");
    record(job, &inputs, &recording, &["--seed", SEED], &[]);
    for entry in fs::read_dir(&inputs).expect("list") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            fs::remove_dir_all(&path).expect("remove");
        } else if path.extension().is_some_and(|e| e == "txt") {
            fs::write(&path, b"something else").expect("write");
        } else {
            fs::remove_file(&path).expect("remove");
        }
    }
    let moved = own.join("moved elsewhere");
    fs::rename(recording, &moved).expect("rename");
    let moved = moved.to_str().expect("a path in UTF-8");
    // However pages come in: the recording has only what the program touched.
    let memory = memory(job);
    let memory: Vec<&str> = memory.iter().map(String::as_str).collect();
    for options in [&[][..]].into_iter().chain(variants.iter().copied()) {
        let replayed = tool(&inputs, [&["replay", "-q", moved], &memory[..], options].concat());
        if let Some(text) = difference(first, &replayed) {
            return Err(format!("replay without the input files, {options:?}: {text}"));
        }
    }
    Ok(())
}

#[test]
fn one_seed_one_run() {
    common::require_kvm();
    let places = Places::new();
    programs::for_each(&programs::chosen(), |number, job| check(job, &places, number));
}

/// A word of a program's output.
fn words(finished: &Finished) -> Vec<String> {
    finished.text().split('\n').map(str::to_owned).collect()
}

#[test]
fn another_seed_changes_randomness_and_nothing_else() {
    common::require_kvm();
    let places = Places::new();
    let random = programs::Job::from_parts(&["/usr/bin/python3", "-c", languages::RANDOM]);
    let run = |job: &Job, seed: &str| sandboxed(job, &places.dirs[0], &["run", "-q", "--seed", seed], &[]);
    let (one, again, other) =
        (words(&run(&random, "1")), words(&run(&random, "1")), words(&run(&random, "2")));
    assert_eq!(one, again);
    assert_eq!(one.len(), other.len());
    for (a, b) in one.iter().zip(&other).filter(|(a, _)| !a.is_empty()) {
        assert_ne!(a, b, "the same with another seed");
    }
    // What draws no random numbers is the same with any seed.
    for name in ["bank.py", "queens.lua", "index.pl"] {
        let job = programs::selected(true).into_iter().find(|job| job.argv.contains(&name)).expect("a job");
        if let Some(text) = difference(&run(&job, "1"), &run(&job, "2")) {
            panic!("{name}: {text}");
        }
    }
}
