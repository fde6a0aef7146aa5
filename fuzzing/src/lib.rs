//! Fuzzing of unmodified Linux programs in [`dejavm`] sandboxes, for users of LibAFL.
//!
//! A [`Target`] is a program that reads its input from standard input or a file, or a function of it that is given the input.
//! It is started once and paused when it is about to get it, or at a [`Place`]; from there each input is run, and the sandbox is put back ([`Ready::run`]). [`SandboxExecutor`] is
//! LibAFL's `Executor` over it, and [`EdgesObserver`] the map of the edges that a run took. A run that crashed is made
//! again by itself and recorded ([`Target::record`]), to be replayed and debugged; its [`Stack`] tells crashes apart.
//!
//! ```no_run
//! use dejavm_fuzz::Target;
//!
//! let host = dejavm::Host::probe()?;
//! let mut ready = Target::new(dejavm::Program::new("/usr/bin/jq").arg(".")).start(&host)?;
//! let ran = ready.run(b"[1, 2")?;
//! println!("{:?}, {} edges", ran.outcome, ready.counts().iter().filter(|count| **count > 0).count());
//! # Ok::<(), dejavm_fuzz::Error>(())
//! ```
//!
//! The command-line tool of this package, `dejavm-fuzz`, is made of these parts.
#![forbid(unsafe_code)]

mod door;
mod error;
mod executor;
mod lines;
mod memory;
mod numbers;
mod observer;
mod paused;
mod place;
mod ready;
mod record;
mod stack;
mod target;
mod words;

pub use dejavm::{Edge, Modules, Way};
pub use door::FUZZ_FUNCTION;
pub use error::Error;
pub use executor::SandboxExecutor;
pub use lines::Lines;
pub use observer::{EdgesMap, EdgesObserver};
pub use place::Place;
pub use ready::{Ran, Ready};
pub use record::Recorded;
pub use stack::Stack;
pub use target::{BIND_NOW, Door, INPUT_PATH, Target, with_input_path};
