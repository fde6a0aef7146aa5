//! The tool confines itself before a guest runs.

use std::path::Path;

use dejavm::snapshot::directory_of;
use dejavm::{Confinement, Error, Sandbox};

/// Confines this process to what the sandbox needs, unless told otherwise. The file is one that will
/// be written: under another name in its directory first, so all of that directory is left open.
pub fn confine(sandbox: &Sandbox, no_confine: bool, writes: Option<&Path>) -> Result<(), Error> {
    let mut confinement = sandbox.confinement();
    if let Some(file) = writes.filter(|_| !no_confine) {
        confinement = confinement.write(directory_of(file));
        // Where it is a link to another directory, `warm` writes there, and finds its parents there.
        if let Ok(file) = file.canonicalize() {
            confinement = confinement.write(directory_of(&file));
        }
    }
    apply(confinement, no_confine)
}

/// Confines this process to what the sandbox needs, and to what serving a debugger takes that has called already:
/// debug files, and to see gdb end.
pub fn confine_debugged(sandbox: &Sandbox, no_confine: bool) -> Result<(), Error> {
    let confinement = sandbox.confinement().allow_call(libc::SYS_wait4).allow_call(libc::SYS_setsockopt);
    let files = Path::new("/usr/lib/debug");
    apply(if files.is_dir() { confinement.read(files) } else { confinement }, no_confine)
}

fn apply(mut confinement: Confinement, no_confine: bool) -> Result<(), Error> {
    if no_confine {
        return Ok(());
    }
    if std::env::var_os("RUST_BACKTRACE").is_some() {
        confinement = with_backtraces(confinement);
    }
    let confined = confinement.apply()?;
    tracing::info!("{confined}");
    Ok(())
}

/// What the standard library reads to name the functions of a backtrace.
fn with_backtraces(confinement: Confinement) -> Confinement {
    let tool = std::env::current_exe().ok();
    tool.into_iter().fold(confinement.read("/proc/self/maps"), Confinement::read)
}
