//! Where a recorded run ended.

use std::fmt::{self, Write};
use std::path::Path;

use dejavm::replay::{Frame, Timeline, loaded_at};
use dejavm::sandbox::program::coverage::is_c_library;
use dejavm::{Host, Replay};
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;

/// Frames that tell crashes apart.
const TELLING: usize = 5;
/// Beginnings of the names of sanitizers' functions, which are in a library or in the executable.
/// `printf_common` and `scanf_common` are of what stands before the C library's (`sanitizer_common_interceptors_format.inc`).
const SANITIZERS: [&str; 8] = [
    "__asan",
    "__sanitizer",
    "__interceptor_",
    "__ubsan",
    "__lsan",
    "___interceptor_",
    "printf_common",
    "scanf_common",
];

/// Who called whom at the end of a recorded run. `Display` has one line for each frame.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The innermost first.
    pub frames: Vec<Frame>,
    /// Words for the places of the frames that hold wherever the program is loaded.
    places: Vec<String>,
}

impl Stack {
    /// That of a recording's end. The recording is replayed for it.
    ///
    /// # Errors
    /// Those of the replay.
    pub fn of_end(recording: &Path, host: &Host) -> Result<Stack, Error> {
        // It was made here, with what the target was given.
        let replay = Replay::open(recording)?.memory(u64::MAX).disk(u64::MAX);
        let mut timeline = replay.timeline(host)?;
        timeline.seek_end().map_err(dejavm::Error::from)?;
        let frames = timeline.backtrace();
        let places = frames.iter().map(|frame| place(frame, &timeline)).collect();
        Ok(Stack { frames, places })
    }

    /// The number of the first frame that is neither the C library's nor a sanitizer's: it is their caller that is to
    /// blame for what `abort` or `memcpy` does.
    fn blamed(&self) -> usize {
        self.frames.iter().position(|frame| !is_anybodys(frame)).unwrap_or(0)
    }

    /// Where the program is to blame.
    pub fn place(&self) -> Option<&Frame> {
        self.frames.get(self.blamed())
    }

    /// A hash of the five innermost frames, from the first on that is to blame. The same for all crashes with the same
    /// stack and signal.
    pub fn hash(&self, signal: u32) -> u64 {
        let own = self.blamed();
        let mut text = format!("{signal}\n");
        for place in self.places.iter().skip(own).take(TELLING) {
            text.push_str(place);
            text.push('\n');
        }
        xxh3_64(text.as_bytes())
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, frame) in self.frames.iter().enumerate() {
            // A function's name is a file's word.
            writeln!(f, "#{number} {}", frame.to_string().escape_debug())?;
        }
        Ok(())
    }
}

/// Whether a frame is the C library's or a sanitizer's.
fn is_anybodys(frame: &Frame) -> bool {
    let function = frame.function.as_ref().map_or("", |(name, _)| name);
    frame.module.as_deref().is_some_and(is_c_library)
        || SANITIZERS.iter().any(|beginning| function.starts_with(beginning))
}

/// The function and the offset in it; else the file and the offset from where it is loaded; else the address.
fn place(frame: &Frame, timeline: &Timeline) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match (&frame.function, &frame.module) {
        (Some((name, offset)), _) => write!(text, "{name}+{offset:#x}"),
        (None, Some(module)) => {
            let base = loaded_at(timeline.machine(), module).unwrap_or(0);
            write!(text, "{module}+{:#x}", frame.address.wrapping_sub(base))
        }
        (None, None) => write!(text, "{:#x}", frame.address),
    };
    text
}
