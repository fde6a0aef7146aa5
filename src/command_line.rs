//! Words of a command line, as all tools of this workspace take them: sizes, times, variables, and what a guest is shown.
//! An error is text for whoever wrote the word.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::{Grant, Program, View};

/// Where a guest sees the current directory.
pub const WORK: &str = "/work";

/// Directories that the sandbox makes itself.
const RESERVED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Bytes: a number with `K`, `M`, `G` or `T` behind it, powers of 1024.
///
/// # Errors
/// When it is none.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => {
            return Err(
                "not a size: give a whole number, with K, M, G or T behind it if you like, such as 512M"
                    .into(),
            );
        }
    };
    let number: u64 =
        digits.parse().map_err(|_| "not a size: give a whole number, such as 512M".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".into())
}

/// A time span: a number with `us`, `ms`, `s`, `m` or `h` behind it; seconds without.
///
/// # Errors
/// When it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "not a time: give a number with us, ms, s, m or h behind it, such as 500ms".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad()),
    };
    let number: f64 = digits.parse().map_err(|_| bad())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| bad())
}

/// Sets a variable of a program's environment, by `NAME=VALUE`; by `NAME` to what it is in this process's, if it is set
/// there.
#[must_use]
pub fn with_variable(program: Program, variable: &OsStr) -> Program {
    let bytes = variable.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => program.env(OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])),
        None => match std::env::var_os(variable) {
            Some(value) => program.env(variable, value),
            None => program,
        },
    }
}

/// What a guest is shown: `PATH[:GUESTPATH]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The host's path, as it was written.
    pub host: PathBuf,
    /// The guest's, which starts with a slash, if there was one.
    at: Option<PathBuf>,
}

impl Shown {
    /// Takes it apart.
    pub fn new(text: &OsStr) -> Shown {
        let bytes = text.as_bytes();
        let path = |part: &[u8]| PathBuf::from(OsString::from_vec(part.to_vec()));
        match bytes.windows(2).rposition(|pair| pair == b":/") {
            Some(at) if at > 0 => Shown { host: path(&bytes[..at]), at: Some(path(&bytes[at + 1..])) },
            _ => Shown { host: path(bytes), at: None },
        }
    }

    /// Where the guest sees it: where nothing was said, at its own path as it was written, made absolute.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn guest(&self) -> Result<PathBuf, String> {
        if let Some(guest) = &self.at {
            return Ok(guest.clone());
        }
        let failed = |e| format!("--ro {}: {e}", self.host.display());
        let path = std::path::absolute(&self.host).map_err(failed)?;
        if path.components().any(|part| part == Component::ParentDir) {
            return path.canonicalize().map_err(failed);
        }
        Ok(path)
    }

    /// The file or directory.
    ///
    /// # Errors
    /// When it is neither, or cannot be looked at.
    pub fn grant(&self) -> Result<Grant, String> {
        let failed = |why: &dyn std::fmt::Display| format!("--ro {}: {why}", self.host.display());
        let metadata = std::fs::metadata(&self.host).map_err(|e| failed(&e))?;
        // What the path means must not change with the working directory.
        let path = std::path::absolute(&self.host).unwrap_or_else(|_| self.host.clone());
        if metadata.is_dir() {
            Ok(Grant::directory(path))
        } else if metadata.is_file() {
            Ok(Grant::file(path))
        } else {
            Err(failed(&"neither a file nor a directory"))
        }
    }
}

/// Shows the current directory at [`WORK`], so that a run does not depend on where it is started, and at its own path, so
/// that absolute paths work; `limited` says what of it. One that holds the user's home directory is shown only if it
/// was `asked` for, since somebody who just opened a terminal did not mean to: else it is given back, to be told.
///
/// # Errors
/// When there is no current directory.
pub fn show_current_directory(
    view: View,
    asked: &[OsString],
    limited: impl Fn(Grant) -> Grant,
) -> Result<(View, Option<PathBuf>), String> {
    let here = std::env::current_dir().map_err(|e| format!("the current directory: {e}"))?;
    let is_asked = asked.iter().any(|text| match Shown::new(text) {
        Shown { host, at: None } => host.canonicalize().is_ok_and(|host| host == here),
        Shown { at: Some(_), .. } => false,
    });
    if !is_asked && holds_home(&here) {
        return Ok((view, Some(here)));
    }
    let taken =
        here.starts_with(WORK) || view.covers(&here) || RESERVED.iter().any(|dir| here.starts_with(dir));
    let grant = limited(Grant::directory(&here));
    let view = view.show(WORK, grant.clone());
    // All of the host takes no other's place.
    let is_alone = taken || here == Path::new("/");
    Ok((if is_alone { view } else { view.show(&here, grant) }, None))
}

/// Whether a directory is the user's home directory or holds it.
fn holds_home(dir: &Path) -> bool {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let home = home.map(|home| home.canonicalize().unwrap_or(home));
    // The root holds every home, known or not.
    dir == Path::new("/") || home.is_some_and(|home| home.starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64K"), Ok(64 << 10));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        for bad in ["", "M", "1.5G", "10X", "-1", "99999999999T", "1kk"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        for bad in ["", "s", "-1s", "1d", "inf", "nan", "1e999"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        let of = |text: &str| {
            let Shown { host, at } = Shown::new(OsStr::new(text));
            (host, at)
        };
        assert_eq!(of("/a"), ("/a".into(), None));
        assert_eq!(of("a:/b"), ("a".into(), Some("/b".into())));
        assert_eq!(of("/a:b:/c"), ("/a:b".into(), Some("/c".into())));
        assert_eq!(of("a:b"), ("a:b".into(), None));
    }
}
