//! What the target sees of the host: as in `dejavm run`.

use std::ffi::OsString;

use dejavm::View;
use dejavm::command_line::{Shown, WORK, show_current_directory};

use super::Result;
use super::failure::{Failure, say};

/// The system's directories, the current one, and those that are asked for; and where the target starts.
/// What is left out is said, if it should be.
pub fn view(ro: &[OsString], says: bool) -> Result<(View, &'static str)> {
    let (mut view, left_out) =
        show_current_directory(View::system(), ro, |grant| grant).map_err(Failure::new)?;
    if let Some(here) = left_out.filter(|_| says) {
        let here = here.display();
        say(format_args!("{here} holds your home directory: it is not shown at {WORK} without --ro ."));
    }
    for shown in ro.iter().map(|text| Shown::new(text)) {
        view = view.show(shown.guest().map_err(Failure::usage)?, shown.grant().map_err(Failure::usage)?);
    }
    let workdir = if view.covers(WORK) { WORK } else { "/" };
    Ok((view, workdir))
}
