//! Values on the command line.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

use dejavm::command_line::duration as any_duration;
pub use dejavm::command_line::size;

/// A time span, as `dejavm` takes it, that is not zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    match any_duration(text)? {
        Duration::ZERO => Err("too short".into()),
        time => Ok(time),
    }
}

/// A number of cores, or all.
pub fn cores(text: &str) -> Result<usize, String> {
    if text == "all" {
        return available_parallelism().map(NonZeroUsize::get).map_err(|e| e.to_string());
    }
    text.parse().map(NonZeroUsize::get).map_err(|_| "not a number of cores, nor \"all\"".into())
}
