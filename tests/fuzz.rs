//! Fuzzers, bounded: random system calls from a guest, each run recorded and replayed.
//!
//! `DEJAVM_FUZZ_SECONDS=600` goes on that long instead of through a fixed number of cases, from
//! `DEJAVM_FUZZ_SEED` on (by default 1); a failure names the case's seed.

mod common;

#[path = "fuzz/syscalls.rs"]
mod syscalls;
