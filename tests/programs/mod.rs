//! The table of jobs: real Debian programs on real input.

#![allow(dead_code)] // each test binary uses its part of this

mod archives;
mod busybox;
mod coreutils;
pub mod corpus;
mod files;
mod job;
pub mod languages;
mod processes;
pub mod run;
pub mod runtimes;
mod system;
mod text;

use std::time::Instant;

use crate::common;

pub use job::{Compare, Job, Stdin};

/// The jobs by kind of program.
pub fn families() -> Vec<(&'static str, Vec<Job>)> {
    let mut all = vec![
        ("busybox", busybox::jobs()),
        ("coreutils", coreutils::jobs()),
        ("coreutils on files", files::jobs()),
        ("coreutils on the system", system::jobs()),
        ("text", text::jobs()),
        ("archives", archives::jobs()),
        ("languages", languages::jobs()),
        ("processes", processes::jobs()),
        ("runtimes", runtimes::jobs()),
    ];
    // Their programs are installed for the full tests only.
    if common::full() {
        all.push(("large runtimes", runtimes::large_jobs()));
    }
    all
}

/// The families of what runs in several processes and threads.
pub const OF_SEVERAL: [&str; 3] = ["processes", "runtimes", "large runtimes"];

/// What `DEJAVM_TEST_JOB` says: only these jobs are to be run. It is a part of a job's name, or of its family's.
fn wanted() -> Option<String> {
    std::env::var("DEJAVM_TEST_JOB").ok().filter(|name| !name.is_empty())
}

/// The jobs of one family, or those of them that are wanted.
pub fn family(name: &str) -> Vec<Job> {
    let (_, jobs) = families().into_iter().find(|(n, _)| *n == name).expect("a family of jobs");
    let Some(wanted) = wanted() else { return jobs };
    assert!(!chosen().is_empty(), "DEJAVM_TEST_JOB={wanted}: no job has this in its name");
    jobs.into_iter().filter(|job| name.contains(&wanted) || job.name().contains(&wanted)).collect()
}

/// Whether jobs are asked for by name.
pub fn is_named() -> bool {
    wanted().is_some()
}

/// The jobs that are wanted; otherwise all, or the sample of them.
pub fn chosen() -> Vec<Job> {
    let Some(wanted) = wanted() else { return selected(common::full()) };
    let families = families().into_iter();
    let jobs = families.flat_map(|(name, jobs)| jobs.into_iter().map(move |job| (name, job)));
    jobs.filter(|(name, job)| name.contains(&wanted) || job.name().contains(&wanted))
        .map(|(_, job)| job)
        .collect()
}

/// Does `work` on each job, with its number, and says how long that took.
pub fn for_each(jobs: &[Job], work: impl Fn(usize, &Job) -> Result<(), String> + Sync) {
    let jobs: Vec<_> = jobs.iter().enumerate().collect();
    common::for_each(&jobs, |(number, job)| {
        let began = Instant::now();
        let result = work(*number, job);
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        println!("{word} in {:.1} s: {}", began.elapsed().as_secs_f64(), job.name());
        result
    });
    println!("{} jobs", jobs.len());
}

/// All jobs, or the sample of them.
pub fn selected(full: bool) -> Vec<Job> {
    families().into_iter().flat_map(|(_, jobs)| jobs).filter(|job| full || job.sampled).collect()
}
