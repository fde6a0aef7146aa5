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

/// The jobs of one family.
pub fn family(name: &str) -> Vec<Job> {
    let (_, jobs) = families().into_iter().find(|(n, _)| *n == name).expect("a family of jobs");
    jobs
}

/// All jobs, or the sample of them.
pub fn selected(full: bool) -> Vec<Job> {
    families().into_iter().flat_map(|(_, jobs)| jobs).filter(|job| full || job.sampled).collect()
}
