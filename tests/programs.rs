//! Every promised program on real input, natively and in the sandbox: standard output, standard
//! error and exit status are the same, and the host's files stay as they are.
//!
//! `cargo test --release --test programs`; `scripts/install-test-programs` installs the programs.

mod common;
#[path = "programs/mod.rs"]
mod programs;

fn family(name: &str) {
    common::require_kvm();
    let corpus = programs::corpus::Corpus::new();
    let wanted = std::env::var("DEJAVM_TEST_JOB").unwrap_or_default();
    let some = programs::selected(true).iter().any(|job| job.name().contains(&wanted));
    assert!(some, "DEJAVM_TEST_JOB={wanted}: no job has this in its name");
    let jobs: Vec<_> =
        programs::family(name).into_iter().filter(|job| job.name().contains(&wanted)).collect();
    assert!(!jobs.is_empty() || !wanted.is_empty(), "{name}: no jobs");
    common::for_each(&jobs, |job| programs::run::compare(job, &corpus));
    println!("{} jobs", jobs.len());
}

#[test]
fn busybox() {
    family("busybox");
}

#[test]
fn coreutils() {
    family("coreutils");
}

#[test]
fn coreutils_on_files() {
    family("coreutils on files");
}

#[test]
fn coreutils_on_the_system() {
    family("coreutils on the system");
}

#[test]
fn text() {
    family("text");
}

#[test]
fn archives() {
    family("archives");
}

#[test]
fn languages() {
    family("languages");
}

#[test]
fn processes() {
    family("processes");
}

#[test]
fn runtimes() {
    family("runtimes");
}

/// Of programs that are installed for the full tests only.
#[test]
fn large_runtimes() {
    if common::full() {
        family("large runtimes");
    } else {
        println!("none without DEJAVM_TEST_FULL=1 and scripts/install-test-programs --all");
    }
}

#[test]
fn the_table_has_no_job_twice() {
    let mut all: Vec<_> = programs::selected(true)
        .into_iter()
        .map(|job| format!("{:?} {:?} {:?}", job.argv, job.stdin, job.env))
        .collect();
    all.sort();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count);
    assert!(count >= 150, "{count} jobs");
}
