//! Every promised program on real input, natively and in the sandbox: standard output, standard
//! error and exit status are the same, and the host's files stay as they are.
//!
//! `cargo test --release --test programs`; `scripts/install-test-programs` installs the programs. With
//! `DEJAVM_TEST_JOB=word` only the jobs are run that have this word in their name or in their family's; so in
//! all tests of the table.

use std::path::Path;

mod common;
#[path = "programs/mod.rs"]
mod programs;

fn family(name: &str) {
    common::require_kvm();
    let corpus = programs::corpus::Corpus::new();
    programs::for_each(&programs::family(name), |_, job| programs::run::compare(job, &corpus));
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

/// A script that is missing fails in the same way on both sides.
#[test]
fn every_script_of_a_job_is_there() {
    let dir = tempfile::TempDir::new().expect("temporary directory");
    programs::corpus::Corpus::new().copy_to(dir.path());
    let languages = ["sh", "py", "rb", "pl", "js", "php", "lisp", "erl", "tcl", "lua", "awk", "bc", "sql"];
    let all = programs::selected(true);
    let words = all.iter().flat_map(|job| job.argv.iter().copied()).map(Path::new);
    let scripts = words.filter(|word| word.extension().is_some_and(|e| languages.iter().any(|l| e == *l)));
    // But for those that are to be missing.
    let scripts =
        scripts.filter(|name| !name.is_absolute() && !name.to_string_lossy().starts_with("missing"));
    let missing: Vec<&Path> = scripts.filter(|name| !dir.path().join(name).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
