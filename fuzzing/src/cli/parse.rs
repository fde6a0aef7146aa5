//! Values on the command line.

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
