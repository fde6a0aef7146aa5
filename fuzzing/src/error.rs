//! What can go wrong.

use dejavm::Outcome;

/// What can go wrong with a target. That it crashes is no error: see [`Ran`](crate::Ran).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] dejavm::Error),
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

fn quoted(said: &str) -> String {
    match said.trim() {
        "" => {
            "; give it arguments with which it reads standard input, or @@ for the path of its input".into()
        }
        said => format!(", saying: {said:?}"),
    }
}
