//! The state of both runs at their first difference: registers that differ, and who called whom.
//!
//! It takes replays that stop in the middle, in a process of their own: the one that compares is confined by then,
//! and can make no more machines.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dejavm::Host;
use dejavm::replay::{Moment, Recording};

use crate::cli::decoding::{ReplayOptions, first_line};
use crate::cli::place::Place;
use crate::cli::{Failure, Result};

/// Frames that are shown of a stack.
const FRAMES: usize = 15;

/// The option by which the other process is told apart.
pub const OPTION: &str = "--states";

/// The process that is asked for the state.
pub struct States(Option<Child>);

impl States {
    /// None is asked.
    pub fn none() -> States {
        States(None)
    }

    /// Starts it for two recordings. It does nothing until it is asked.
    ///
    /// # Errors
    /// When there is no process to be had.
    pub fn start(of: [&Path; 2], options: &ReplayOptions) -> Result<States> {
        let failed = |e| Failure::new(format_args!("cannot start a process that looks at both: {e}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut words: Vec<OsString> = vec!["diff".into(), OPTION.into()];
        words.extend(options.words());
        words.push("--".into());
        words.extend(of.map(|path| path.as_os_str().to_owned()));
        let child = Command::new(program).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Ok(States(Some(child.map_err(failed)?)))
    }

    /// What is to be said of the moments before these exits, one of each recording. It can be asked once.
    pub fn before(&mut self, exits: [u64; 2]) -> Vec<String> {
        let Some(mut child) = self.0.take() else { return Vec::new() };
        let mut ask = || -> std::io::Result<String> {
            let missing = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
            writeln!(child.stdin.as_mut().ok_or_else(missing)?, "{} {}", exits[0], exits[1])?;
            let mut text = Vec::new();
            child.stdout.as_mut().ok_or_else(missing)?.read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        match ask() {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(e) => vec![format!("! the state of neither is known: {e}")],
        }
    }
}

/// The other process: reads two exits, and says what the two recordings are at before them.
///
/// # Errors
/// When it cannot be written.
pub fn main(of: [&Path; 2], options: &ReplayOptions) -> Result {
    let mut line = String::new();
    BufReader::new(std::io::stdin()).read_line(&mut line)?;
    let exits: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // Nothing differs, if nothing is asked.
    let [left, right] = exits[..] else { return Ok(0) };
    let host = crate::cli::host();
    let places = [(of[0], left), (of[1], right)].map(|(path, exit)| {
        let host = host.as_ref().map_err(|failure| first_line(failure.message()))?;
        place(path, exit, options, host)
    });
    let mut text = String::new();
    for line in lines(of, [left, right], &places) {
        text.push_str(&line);
        text.push('\n');
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}

fn place(
    path: &Path,
    exit: u64,
    options: &ReplayOptions,
    host: &Host,
) -> std::result::Result<Option<Place>, String> {
    let why = |e: dejavm::Error| first_line(&e.to_string());
    let recording = Recording::open(path).map_err(|e| why(e.into()))?;
    let last = recording.exit_range().map_or(0, |(_, last)| last);
    let mut timeline = options.replay(&recording).timeline(host).map_err(why)?;
    if timeline.machine().program().is_none() {
        return Ok(None);
    }
    let went = match exit <= last {
        true => timeline.seek(Moment::Before(exit)),
        false => timeline.seek_end(),
    };
    went.map_err(|e| why(e.into()))?;
    Ok(Some(Place::of(&timeline)))
}

/// What is said of two places.
fn lines(
    of: [&Path; 2],
    exits: [u64; 2],
    places: &[std::result::Result<Option<Place>, String>; 2],
) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, place) in of.iter().zip(places) {
        if let Err(why) = place {
            let path = path.display().to_string();
            lines.push(format!("! {}: its state is not known: {why}", path.escape_debug()));
        }
    }
    let [left, right] = places.each_ref().map(|place| place.as_ref().ok().and_then(Option::as_ref));
    if left.is_none() && right.is_none() {
        return lines;
    }
    lines.push(match exits {
        [left, right] if left == right => format!("@@ before exit {left} @@"),
        [left, right] => format!("@@ before exits {left} and {right} @@"),
    });
    if let (Some(left), Some(right)) = (left, right) {
        let pairs = left.registers.iter().zip(&right.registers);
        let differ = pairs.filter(|((_, left), (_, right))| left != right);
        lines.extend(differ.map(|((name, left), (_, right))| format!("!{name:>10}  {left:#x} | {right:#x}")));
    }
    let [left, right] = [left, right].map(|place| place.map(stack));
    match (left, right) {
        (Some(left), Some(right)) if left == right => lines.extend(signed(' ', left)),
        (left, right) => {
            lines.extend(signed('-', left.unwrap_or_default()));
            lines.extend(signed('+', right.unwrap_or_default()));
        }
    }
    lines
}

fn signed(sign: char, stack: Vec<String>) -> impl Iterator<Item = String> {
    stack.into_iter().map(move |line| format!("{sign}{line}"))
}

/// A stack's lines.
fn stack(place: &Place) -> Vec<String> {
    let shown = place.frames.iter().take(FRAMES).enumerate();
    let mut lines: Vec<String> = shown
        .map(|(at, frame)| format!("{:>10}  {}", format!("#{at}"), frame.to_string().escape_debug()))
        .collect();
    match place.frames.len().saturating_sub(FRAMES) {
        0 => {}
        more => lines.push(format!("{:>10}  {more} more", "")),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rdi: u64, frames: usize) -> Place {
        Place { registers: vec![("rax", 1), ("rdi", rdi)], frames: vec![Default::default(); frames] }
    }

    fn said(left: std::result::Result<Option<Place>, String>, right: Option<Place>) -> Vec<String> {
        lines([Path::new("a"), Path::new("b")], [4, 5], &[left, Ok(right)])
    }

    #[test]
    fn only_what_differs_is_said() {
        let head = "@@ before exits 4 and 5 @@";
        let two = said(Ok(Some(at(2, 1))), Some(at(3, 1)));
        assert_eq!(two, [head, "!       rdi  0x2 | 0x3", "         #0  0x0"]);
        assert_eq!(said(Ok(Some(at(2, 0))), Some(at(2, 0))), [head]);
        let deep = said(Ok(Some(at(2, 1))), Some(at(2, 20)));
        assert_eq!(deep.len(), 1 + 1 + 15 + 1);
        assert_eq!((&deep[1][..], &deep[2][..]), ("-        #0  0x0", "+        #0  0x0"));
        assert!(deep[17].ends_with("  5 more"), "{deep:?}");
    }

    #[test]
    fn a_side_that_is_not_known_is_named() {
        let one = said(Err("no".into()), Some(at(3, 1)));
        let expected = ["! a: its state is not known: no", "@@ before exits 4 and 5 @@", "+        #0  0x0"];
        assert_eq!(one, expected);
        // A bare-metal guest.
        assert_eq!(said(Ok(None), None), Vec::<String>::new());
    }
}
