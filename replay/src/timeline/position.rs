//! Where in a run the machine is.

use std::fmt;
use std::str::FromStr;

/// A moment of a run: behind so many compared exits, so many branches since, and so many steps since. The first step
/// behind an exit is the way back into the program, on which signals are delivered and another task may get the
/// CPU; each other one is an instruction, or one round of a repeated one. An instruction that the monitor stands in for
/// counts together with the next. Between two exits the machine is closed, so that a position has one state, however it
/// was reached.
///
/// Branches are counted where a program makes no exit for long: those that go backwards or are indirect. Elsewhere,
/// all steps since the exit are.
///
/// As text it is `EXIT`, `EXIT+STEPS`, `EXIT:BRANCHES` or `EXIT:BRANCHES+STEPS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Compared exits before it.
    pub exit: u64,
    /// Branches since the last of them, as far as they are counted.
    pub branches: u64,
    /// Steps since the last of these.
    pub steps: u64,
}

impl Position {
    /// Right behind a compared exit, before signals that came with it are delivered. Behind exit 0 the run
    /// begins.
    pub fn behind(exit: u64) -> Position {
        Position { exit, branches: 0, steps: 0 }
    }

    /// So many steps behind an exit, without a branch that is counted.
    pub fn stepped(exit: u64, steps: u64) -> Position {
        Position { exit, branches: 0, steps }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.exit)?;
        if self.branches > 0 {
            write!(f, ":{}", self.branches)?;
        }
        if self.steps > 0 { write!(f, "+{}", self.steps) } else { Ok(()) }
    }
}

/// A text that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no position: give EXIT, EXIT+STEPS, EXIT:BRANCHES+STEPS, or EXIT- for the moment before it"
)]
pub struct BadPosition(String);

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Position, BadPosition> {
        let bad = |_| BadPosition(text.to_owned());
        let (behind, steps) = text.split_once('+').unwrap_or((text, "0"));
        let (exit, branches) = behind.split_once(':').unwrap_or((behind, "0"));
        let number = |text: &str| text.parse().map_err(bad);
        Ok(Position { exit: number(exit)?, branches: number(branches)?, steps: number(steps)? })
    }
}

/// Where to go: a position, or where the program is about to make an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This position: `31`, `31+2354` or `31:7000000+12`.
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
        let branched = Position { exit: 3, branches: 5, steps: 0 };
        let both = Position { steps: 9, ..branched };
        assert_eq!(both.to_string(), "3:5+9");
        for position in [Position::behind(0), Position::behind(7), Position::stepped(3, 12), branched, both] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for text in ["", "x", "1+", "+1", "1+2+3", "-1", "1:", "1+2:3", ":1"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        assert!(Position::stepped(3, 12) < branched && branched < both && both < Position::behind(4));
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        for moment in [Moment::Before(3), Position::behind(3).into(), Position::stepped(3, 1).into()] {
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
        for text in ["-", "3+1-", "3--", "-3", ""] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
