//! Fuzzers: random system calls, instructions, snapshots, recordings and images. Whatever they are given, a run
//! ends as a run or with an error that has a name, in time and in bounded memory, and its replay does the same.
//!
//! In continuous integration each runs a fixed number of cases from a fixed seed.
//! `DEJAVM_FUZZ_SECONDS=600` runs each that long, from a seed of its own that it prints;
//! `DEJAVM_FUZZ_SEED=N` starts from that one, and `DEJAVM_FUZZ_CASES=1` with it repeats one case.
//! `cargo test --profile ci --test fuzz NAME -- --nocapture` runs one fuzzer and shows its figures.

mod common;

#[path = "fuzz/forge.rs"]
mod forge;
#[path = "fuzz/harness.rs"]
mod harness;
#[path = "fuzz/images.rs"]
mod images;
#[path = "fuzz/instructions.rs"]
mod instructions;
#[path = "fuzz/many.rs"]
mod many;
#[path = "fuzz/recordings.rs"]
mod recordings;
#[path = "fuzz/rings.rs"]
mod rings;
#[path = "fuzz/shape.rs"]
mod shape;
#[path = "fuzz/snapshots.rs"]
mod snapshots;
#[path = "fuzz/syscalls.rs"]
mod syscalls;
