//! Files that lie: snapshots and recordings whose checksums are right and whose contents are not. An
//! error with a name, or a run that ends by its deadline at the latest; never a panic, and never more of
//! the host than was allowed.
//!
//! `DEJAVM_TEST_FULL=1` tries thirty times as many.

mod common;
#[path = "forged/states.rs"]
mod states;
