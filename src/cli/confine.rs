//! The tool confines itself before a guest runs.

use std::path::Path;

use dejavm::snapshot::directory_of;
use dejavm::{Error, Sandbox};

/// Confines this process to what the sandbox needs, unless told otherwise. The file is one that will
/// be written: under another name in its directory first, so all of that directory is left open.
pub fn confine(sandbox: &Sandbox, no_confine: bool, writes: Option<&Path>) -> Result<(), Error> {
    if no_confine {
        return Ok(());
    }
    let mut confinement = sandbox.confinement();
    if let Some(file) = writes {
        confinement = confinement.write(directory_of(file));
        // Where it is a link to another directory, `warm` writes there, and finds its parents there.
        if let Ok(file) = file.canonicalize() {
            confinement = confinement.write(directory_of(&file));
        }
    }
    if std::env::var_os("RUST_BACKTRACE").is_some() {
        confinement = with_backtraces(confinement);
    }
    let confined = confinement.apply()?;
    tracing::info!("{confined}");
    Ok(())
}

/// What the standard library reads to name the functions of a backtrace.
fn with_backtraces(confinement: dejavm::Confinement) -> dejavm::Confinement {
    let tool = std::env::current_exe().ok();
    tool.into_iter().fold(confinement.read("/proc/self/maps"), dejavm::Confinement::read)
}
