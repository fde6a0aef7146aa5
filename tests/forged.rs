//! Files that lie: snapshots and recordings whose checksums are right and whose contents are not. An
//! error with a name, or a run that ends by its deadline at the latest; never a panic, and never more of
//! the host than was allowed.
//!
//! `DEJAVM_TEST_FULL=1` tries thirty times as many.

#[path = "forged/claims.rs"]
mod claims;
mod common;
#[path = "forged/host_files.rs"]
mod host_files;
#[path = "forged/kinds.rs"]
mod kinds;
#[path = "forged/recordings.rs"]
mod recordings;
#[path = "forged/states.rs"]
mod states;
