//! A process that fuzzes on a core of its own.

use std::env;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc::Sender;
use std::thread;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::campaign::{Event, Progress};

/// Which core a process is for, as its command line has it: `INDEX/CORES:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From zero.
    pub index: usize,
    /// How many there are.
    pub cores: usize,
    /// Where the broker listens.
    pub port: u16,
}

impl Place {
    /// The share of this core of so many runs.
    pub fn share(&self, runs: u64) -> u64 {
        let (index, cores) = (self.index as u64, self.cores as u64);
        runs / cores + u64::from(index < runs % cores)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let parse = || {
            let (core, port) = text.split_once(':')?;
            let (index, cores) = core.split_once('/')?;
            let place =
                Place { index: index.parse().ok()?, cores: cores.parse().ok()?, port: port.parse().ok()? };
            (place.index < place.cores).then_some(place)
        };
        parse().ok_or_else(|| "not a core".into())
    }
}

/// Called in such a process: it is ended when the one that started it dies.
pub fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::TERM))?)
}

/// The option by which a process is told its place.
pub const OPTION: &str = "--core";

/// What a core says; nothing when it says no more.
pub type Said = (usize, Option<Event>);

/// Such a process, as the one that started it sees it.
pub struct Core {
    child: Child,
    /// What it said last of how far it is.
    pub progress: Progress,
    /// It has come to its end, or said why it does not.
    pub has_said_why: bool,
}

impl Core {
    /// Starts one with this process's command line. What it says is sent there.
    pub fn start(place: Place, to: Sender<Said>) -> io::Result<Core> {
        let Place { index, cores, port } = place;
        let mut child = Command::new(env::current_exe()?)
            .arg(format!("{OPTION}={index}/{cores}:{port}"))
            .args(env::args_os().skip(1))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // ^C is for the process that started it, which passes it on.
            .process_group(0)
            .spawn()?;
        let out = child.stdout.take().map(BufReader::new).ok_or(io::ErrorKind::BrokenPipe)?;
        let listen = move || {
            for line in out.lines() {
                let Ok(line) = line else { break };
                let Ok(event) = serde_json::from_str(&line) else { continue };
                // Nobody listens any more.
                if to.send((index, Some(event))).is_err() {
                    return;
                }
            }
            let _ = to.send((index, None));
        };
        thread::Builder::new().name(format!("core {}", index + 1)).spawn(listen)?;
        Ok(Core { child, progress: Progress::default(), has_said_why: false })
    }

    /// Tells it to end.
    pub fn stop(&self) {
        // It may be gone.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    /// Waits until it is gone.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_runs_shared() {
        let place: Place = "1/3:4000".parse().expect("a place");
        assert_eq!(place, Place { index: 1, cores: 3, port: 4000 });
        for text in ["", "1", "3/3:1", "1/3", "1/3:x", "1/3:70000", "-1/2:1"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        let shares = (0..3).map(|index| Place { index, cores: 3, port: 1 }.share(8));
        assert_eq!(shares.collect::<Vec<_>>(), [3, 3, 2]);
    }
}
