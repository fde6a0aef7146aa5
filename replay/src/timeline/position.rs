//! Where in a run the machine is.

use std::fmt;
use std::str::FromStr;

/// A moment of a run: behind so many compared exits, and so many steps since. The first step is the way back into
/// the program, on which signals are delivered and another task may get the CPU; each other one is an
/// instruction, or one round of a repeated one. An instruction that the monitor stands in for counts together
/// with the next. Between two exits the machine is closed, so that a position has one state, however it was
/// reached.
///
/// As text it is `EXIT` or `EXIT+STEPS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Compared exits before it.
    pub exit: u64,
    /// Steps since the last of them.
    pub steps: u64,
}

impl Position {
    /// Right behind a compared exit, before signals that came with it are delivered. Behind exit 0 the run
    /// begins.
    pub fn behind(exit: u64) -> Position {
        Position { exit, steps: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.steps {
            0 => write!(f, "{}", self.exit),
            steps => write!(f, "{}+{steps}", self.exit),
        }
    }
}

/// A text that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no position: give EXIT, EXIT+STEPS, or EXIT- for the moment before it")]
pub struct BadPosition(String);

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Position, BadPosition> {
        let bad = |_| BadPosition(text.to_owned());
        let (exit, steps) = text.split_once('+').unwrap_or((text, "0"));
        Ok(Position { exit: exit.parse().map_err(bad)?, steps: steps.parse().map_err(bad)? })
    }
}

/// Where to go: a position, or where the program is about to make an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This position: `31` or `31+2354`.
    At(Position),
    /// Before the instruction that makes this exit, `32-`: with a system call's number and arguments in the
    /// registers. Of a call that waited, where it was made, whoever made exits meanwhile.
    Before(u64),
}

impl From<Position> for Moment {
    fn from(position: Position) -> Moment {
        Moment::At(position)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::At(position) => position.fmt(f),
            Moment::Before(exit) => write!(f, "{exit}-"),
        }
    }
}

impl FromStr for Moment {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Moment, BadPosition> {
        match text.strip_suffix('-') {
            Some(exit) => exit.parse().map(Moment::Before).map_err(|_| BadPosition(text.to_owned())),
            None => text.parse().map(Moment::At),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        for position in [Position::behind(0), Position::behind(7), Position { exit: 3, steps: 12 }] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for text in ["", "x", "1+", "+1", "1+2+3", "-1"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        assert!(Position { exit: 3, steps: 12 } < Position::behind(4));
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        for moment in [Moment::Before(3), Position::behind(3).into(), Position { exit: 3, steps: 1 }.into()] {
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
        for text in ["-", "3+1-", "3--", "-3", ""] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
