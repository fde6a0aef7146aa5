//! What the target sees of the host: as in `dejavm run`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use dejavm::Grant;

use super::Result;
use super::failure::{Failure, say};

/// Where it sees the current directory.
const WORK: &str = "/work";
/// Directories that the sandbox makes itself.
const RESERVED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// What it sees, and where it starts.
pub struct View {
    pub view: dejavm::View,
    pub workdir: &'static str,
}

impl View {
    /// The system's directories, the current one, and those that are asked for.
    pub fn new(ro: &[OsString]) -> Result<View> {
        let mut view = with_current_directory(dejavm::View::system(), ro)?;
        for shown in ro {
            let (host, guest) = split(shown);
            let path = absolute(&host)?;
            let grant = if path.is_dir() { Grant::directory(&path) } else { Grant::file(&path) };
            view = view.show(guest.unwrap_or(path), grant);
        }
        let workdir = if view.covers(WORK) { WORK } else { "/" };
        Ok(View { view, workdir })
    }
}

/// Shows the current directory at `/work` and at its own path. One that holds the user's home directory is shown only
/// if it was asked for.
fn with_current_directory(view: dejavm::View, ro: &[OsString]) -> Result<dejavm::View> {
    let here =
        std::env::current_dir().map_err(|e| Failure::new(format_args!("the current directory: {e}")))?;
    let asked = ro.iter().any(|shown| split(shown).0.canonicalize().is_ok_and(|host| host == here));
    if !asked && holds_home(&here) {
        say(format_args!(
            "{} holds your home directory: it is not shown at {WORK} without --ro .",
            here.display()
        ));
        return Ok(view);
    }
    let taken =
        here.starts_with(WORK) || view.covers(&here) || RESERVED.iter().any(|dir| here.starts_with(dir));
    let grant = Grant::directory(&here);
    let view = view.show(WORK, grant.clone());
    Ok(if taken || here == Path::new("/") { view } else { view.show(&here, grant) })
}

fn holds_home(dir: &Path) -> bool {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let home = home.map(|home| home.canonicalize().unwrap_or(home));
    dir == Path::new("/") || home.is_some_and(|home| home.starts_with(dir))
}

/// Takes `PATH:GUESTPATH` apart. A guest path starts with a slash.
fn split(text: &OsStr) -> (PathBuf, Option<PathBuf>) {
    let bytes = text.as_bytes();
    let path = |part: &[u8]| PathBuf::from(OsString::from_vec(part.to_vec()));
    match bytes.windows(2).rposition(|pair| pair == b":/") {
        Some(at) if at > 0 => (path(&bytes[..at]), Some(path(&bytes[at + 1..]))),
        _ => (path(bytes), None),
    }
}

/// What a path means must not change with the working directory.
fn absolute(host: &Path) -> Result<PathBuf> {
    let failed = |e| Failure::usage(format_args!("--ro {}: {e}", host.display()));
    host.metadata().map_err(failed)?;
    std::path::absolute(host).map_err(failed)
}
