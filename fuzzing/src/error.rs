//! What can go wrong.

use dejavm::Outcome;

use crate::{FUZZ_FUNCTION, Place};

/// What can go wrong with a target. That it crashes is no error: see [`Ran`](crate::Ran).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] dejavm::Error),
    /// No such function.
    #[error("the program has no symbol {name}: was it stripped, or is it a name that C++ or Rust mangles?")]
    NoSymbol {
        /// Its name.
        name: String,
    },
    /// The program came to its end, or to the start's time limit, without calling the function.
    #[error("the program did not call {name}, and {}{}; --stdin gives it inputs by standard input", ended(*outcome), saying(said))]
    NeverCalled {
        /// The function.
        name: String,
        /// How the start ended.
        outcome: Outcome,
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// No such place.
    #[error("the program has no such file loaded as is meant by {place}")]
    NoPlace {
        /// The place.
        place: Place,
    },
    /// The program came to its end, or to the start's time limit, without coming to a place.
    #[error("the program did not come to {place}, and {}{}", ended(*outcome), saying(said))]
    NeverThere {
        /// The place.
        place: Place,
        /// How the start ended.
        outcome: Outcome,
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// A function with another end.
    #[error(
        "the run of a function is over when it returns, and not at {place}; --stdin gives the program inputs by standard input"
    )]
    FunctionReturns {
        /// The place.
        place: Place,
    },
    /// The program could not allocate what an input needs.
    #[error("the program cannot allocate {bytes} bytes for inputs: give it more by --memory")]
    NoMemory {
        /// How much.
        bytes: u64,
    },
    /// What cannot be run by itself: see [`Target::record`](crate::Target::record).
    #[error(
        "only functions of the name {FUZZ_FUNCTION} can be run with a file by the program itself, and not {name}"
    )]
    NotRunAlone {
        /// The function.
        name: String,
    },
    /// A file for a run by itself.
    #[error("cannot make a file with the input: {0}")]
    InputFile(#[from] std::io::Error),
    /// The program came to its end, or to the start's time limit, without using the file.
    #[error("the program did not open {path}, which @@ stands for, and {}{}", ended(*outcome), saying(said))]
    OpensNothing {
        /// The file's path.
        path: String,
        /// How the start ended.
        outcome: Outcome,
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// The program came to its end, or to the start's time limit, without reading standard input.
    #[error("the program did not read its input, and {}{}", ended(*outcome), quoted(said))]
    ReadsNothing {
        /// How the start ended.
        outcome: Outcome,
        /// The end of what it wrote to standard error.
        said: String,
    },
}

/// How a program ended, as the end of a sentence.
fn ended(outcome: Outcome) -> String {
    match outcome {
        Outcome::Exited(status) => format!("ended with status {status}"),
        Outcome::Signalled(signal) => {
            format!("was killed by {}", dejavm::sandbox::program::signal::name(signal))
        }
        Outcome::Deadline => "was still running after a minute".into(),
        outcome => format!("its start ended as {outcome:?}"),
    }
}

fn saying(said: &str) -> String {
    match said.trim() {
        "" => String::new(),
        said => format!(", saying: {said:?}"),
    }
}

fn quoted(said: &str) -> String {
    match said.trim() {
        "" => {
            "; give it arguments with which it reads standard input, or @@ for the path of its input".into()
        }
        said => format!(", saying: {said:?}"),
    }
}
