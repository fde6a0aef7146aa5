//! Confining the process that a sandbox runs in.
//!
//! The guest is kept in by the virtual machine. This is for the day that it finds a way to make the
//! monitor do its bidding: what the monitor's process may do is then no more than what the sandbox
//! needs. Each file here is one means of Linux's:
//! * `calls`, `filter`: the system calls that may be made, by seccomp;
//! * `files`: the files that may be opened, by Landlock;
//! * `powers`: no capabilities, and lower limits.

mod calls;
mod files;
mod filter;
mod powers;

use std::ffi::c_long;
use std::path::PathBuf;

use dejavm_sandbox::world::{Grant, GrantKind};
use rustix::thread::{CapabilitySet, set_no_new_privs};

use crate::Error;
use files::{Enforced, Files};

/// What this process is to be confined to: for processes that are there for one sandbox, or for some
/// that may see the same.
///
/// It is process-wide and cannot be undone. [`Sandbox::confinement`](crate::Sandbox::confinement)
/// gives one that has all that the sandbox needs; then [`Confinement::apply`] it, before the guest is
/// run. New sandboxes cannot be made in the process afterwards.
///
/// ```no_run
/// let host = dejavm::Host::probe()?;
/// let mut sandbox = dejavm::Program::new("/bin/ls").stdout(dejavm::Sink::stdout()).start(&host)?;
/// let confined = sandbox.confinement().apply()?;
/// eprintln!("{confined}");
/// sandbox.run()?;
/// # Ok::<(), dejavm::Error>(())
/// ```
///
/// # Threads
///
/// System calls are filtered on all threads of the process. The other means reach the calling thread
/// and those that are started from then on, as the sandbox's own all are: Linux keeps them by thread.
/// So it should be applied before the process starts threads of its own.
///
/// # What it means for the process
///
/// A system call that is not allowed ends the process by `SIGSYS`, and the kernel's log says which one
/// it was. Files other than those that are granted cannot be opened (`EACCES`). As root, what only root
/// may read of what is granted may be out of reach: files of other users that they keep to themselves.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    files: Files,
    calls: Vec<c_long>,
}

impl Confinement {
    /// To no files at all, and to the system calls of sandboxes that run.
    pub fn new() -> Confinement {
        Confinement::default()
    }

    /// What this grant shows may be read.
    #[must_use]
    pub(crate) fn grant(mut self, grant: &Grant) -> Confinement {
        match grant.kind() {
            GrantKind::Directory(path) | GrantKind::File(path) => self.files.add_read(path.clone()),
            _ => {}
        }
        self
    }

    /// This file, or all of this directory, may be read.
    #[must_use]
    pub fn read(mut self, path: impl Into<PathBuf>) -> Confinement {
        self.files.add_read(path.into());
        self
    }

    /// Files in this directory and below it may be made, read, written, renamed and removed: for a
    /// snapshot that is to be written there, say.
    #[must_use]
    pub fn write(mut self, dir: impl Into<PathBuf>) -> Confinement {
        self.files.write.push(dir.into());
        self
    }

    /// This system call may be made, with any arguments, besides those that sandboxes make: for
    /// what the process does besides.
    #[must_use]
    pub fn allow_call(mut self, number: c_long) -> Confinement {
        self.calls.push(number);
        self
    }

    /// Confines the process, as far as its kernel can: what it lacks is in [`Confined::missing`].
    ///
    /// # Errors
    /// [`Error::Io`] for a granted path that cannot be looked at, and [`Error::Confine`] where the
    /// kernel has the means but refuses. The process may be confined in part then.
    pub fn apply(&self) -> Result<Confined, Error> {
        let mut confined = Confined::default();
        match set_no_new_privs(true) {
            Ok(()) => confined.did("no new privileges"),
            Err(e) => confined.lacks(format!("no_new_privs: {e}")),
        }
        match powers::limit() {
            Ok(()) => confined.did("limits"),
            Err(e) => confined.lacks(format!("limits: {e}")),
        }
        let enforced = self.files.restrict()?;
        let only_granted = matches!(enforced, Enforced::Fully(_) | Enforced::Partly(_));
        match enforced {
            Enforced::Fully(abi) => confined.did(format!("Landlock (version {})", abi as i32)),
            Enforced::Partly(abi) => {
                confined.did(format!("Landlock (version {})", abi as i32));
                confined.lacks("what newer Landlocks can refuse".to_owned());
            }
            Enforced::Not(why) => confined.lacks(why.to_owned()),
        }
        match powers::drop_capabilities(&self.files, only_granted) {
            Ok(kept) if kept.is_empty() => confined.did("no capabilities"),
            Ok(kept) => confined.did(format!("no capabilities but {}", names(kept))),
            Err(e) => confined.lacks(format!("dropping capabilities: {e}")),
        }
        // Last: the calls that the others make are not among those allowed.
        match filter::install(!self.files.write.is_empty(), &self.calls) {
            Ok(()) => confined.did("seccomp"),
            Err(seccompiler::Error::ThreadSync(thread)) => {
                let why = format!("thread {thread} has a filter of its own; apply this before it starts");
                return Err(Error::Confine { what: "seccomp", why });
            }
            Err(e) => confined.lacks(format!("seccomp: {e}")),
        }
        Ok(confined)
    }
}

fn names(kept: CapabilitySet) -> String {
    let names: Vec<String> = kept.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    names.join(" and ")
}

/// How a process is confined. Its `Display` is a line that says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confined {
    means: Vec<String>,
    missing: Vec<String>,
}

impl Confined {
    /// The means that are in force.
    pub fn means(&self) -> &[String] {
        &self.means
    }

    /// What this kernel lacks, or does not let this process have.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    fn did(&mut self, what: impl Into<String>) {
        self.means.push(what.into());
    }

    fn lacks(&mut self, what: String) {
        self.missing.push(what);
    }
}

impl std::fmt::Display for Confined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "confined by {}", self.means.join(", "))?;
        if !self.missing.is_empty() {
            write!(f, "; not by {}", self.missing.join(", "))?;
        }
        Ok(())
    }
}
