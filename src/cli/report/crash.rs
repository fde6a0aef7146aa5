//! What a program was at when a signal ended it.

use dejavm::replay::RunEnd;
use dejavm::sandbox::machine::End;
use dejavm::{Error, Host, Replay};

use crate::cli::place::Place;

/// The last moment of a program that a signal ended.
pub struct Crash {
    /// Its number.
    pub signal: u32,
    /// Where it is, or why that is not known.
    pub place: Result<Place, String>,
}

impl Crash {
    /// Of a recording, if a signal ended it. The recording is replayed for it.
    pub fn of(replay: Replay, host: impl FnOnce() -> crate::cli::Result<Host>) -> Option<Crash> {
        let signal = match replay.recording().end() {
            Some(RunEnd::Ended { status }) => match End::of_status(*status) {
                End::Signalled(signal) => signal,
                _ => return None,
            },
            _ => return None,
        };
        let place = host()
            .map_err(|failure| failure.message().to_owned())
            .and_then(|host| place(replay, &host).map_err(|e| e.to_string()));
        Some(Crash { signal, place })
    }
}

fn place(replay: Replay, host: &Host) -> Result<Place, Error> {
    let mut timeline = replay.timeline(host)?;
    timeline.seek_end()?;
    Ok(Place::of(&timeline))
}
