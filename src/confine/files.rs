//! Which files may be opened: Landlock.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::Error;

/// The newest Landlock whose rights are known here.
const KNOWN: ABI = ABI::V6;

/// What may be opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// Files and directories, for reading.
    pub read: Vec<PathBuf>,
    /// Directories whose files may be made, written, renamed and removed.
    pub write: Vec<PathBuf>,
}

/// How far Landlock went.
pub(super) enum Enforced {
    /// As far as this code knows how to.
    Fully(ABI),
    /// What an older kernel has of it.
    Partly(ABI),
    /// Not at all, and why.
    Not(&'static str),
}

impl Files {
    /// Allows a path for reading, unless it lies below one that is.
    pub fn add_read(&mut self, path: PathBuf) {
        if !self.read.iter().any(|allowed| path.starts_with(allowed)) {
            self.read.push(path);
        }
    }

    /// Restricts the calling thread, and the threads that it starts from now on.
    pub fn restrict(&self) -> Result<Enforced, Error> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let write =
            read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
        let refused = |e: landlock::RulesetError| Error::Confine { what: "Landlock", why: e.to_string() };
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(KNOWN))
            .and_then(|rules| rules.handle_access(AccessNet::from_all(KNOWN)))
            .and_then(|rules| rules.scope(Scope::AbstractUnixSocket))
            .and_then(Ruleset::create)
            .map_err(refused)?;
        for (paths, access) in [(&self.read, read), (&self.write, write)] {
            for path in paths {
                if let Some(rule) = beneath(path, access)? {
                    rules = rules.add_rule(rule).map_err(refused)?;
                }
            }
        }
        let status = rules.restrict_self().map_err(refused)?;
        Ok(match (status.landlock, status.ruleset) {
            (LandlockStatus::NotImplemented, _) => Enforced::Not("the kernel has no Landlock"),
            (LandlockStatus::NotEnabled, _) => Enforced::Not("Landlock is switched off"),
            (_, RulesetStatus::NotEnforced) => Enforced::Not("Landlock did not take the rules"),
            (LandlockStatus::Available { effective_abi, .. }, _) if effective_abi >= KNOWN => {
                Enforced::Fully(effective_abi)
            }
            (LandlockStatus::Available { effective_abi, .. }, _) => Enforced::Partly(effective_abi),
        })
    }
}

/// The rule for a path. None where there is nothing any more: then there is nothing to be opened.
fn beneath(path: &Path, access: BitFlags<AccessFs>) -> Result<Option<PathBeneath<OwnedFd>>, Error> {
    match open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        // On a file, the rights to what is in a directory are left out, in the best effort.
        Ok(fd) => Ok(Some(PathBeneath::new(fd, access))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::Io { what: "open, to grant it,", path: path.to_owned(), source: e.into() }),
    }
}
