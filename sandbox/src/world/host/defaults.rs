//! What programs need of the host to start at all: programs, libraries, and settings.

use std::fs::{read_link, symlink_metadata};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::Grant;

/// Directories of programs and libraries. What is mounted in them is shown: it was put there for
/// programs.
const PROGRAMS: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// Programs that are no part of the system. Anything may be mounted there.
const OTHERS: &str = "/opt";

/// The settings of what is installed.
const SETTINGS: &str = "/etc";

/// The guest paths of [`default_grants`], as far as the host has them.
pub fn default_paths() -> impl Iterator<Item = &'static str> {
    PROGRAMS.into_iter().chain([OTHERS, SETTINGS])
}

/// The directories of programs, libraries and settings, each with its guest path, which is the same as
/// the host's. A host path that is a symbolic link is one for the guest, too. What does not exist is
/// left out; so is, in these directories, what holds secrets ([`Grant::without_unreadable`],
/// [`Grant::without_secrets`]).
///
/// This depends on nothing but what exists on the host.
pub fn default_grants() -> Vec<(Vec<u8>, Grant)> {
    default_paths().filter_map(|path| Some((path.as_bytes().to_vec(), grant_of(path)?))).collect()
}

/// A path as it is on the host.
fn grant_of(path: &str) -> Option<Grant> {
    let kind = symlink_metadata(path).ok()?.file_type();
    if kind.is_symlink() {
        return Some(Grant::symlink(read_link(path).ok()?.into_os_string().into_vec()));
    }
    let grant = Grant::directory(Path::new(path)).without_unreadable();
    kind.is_dir().then(|| match path {
        SETTINGS => grant.without_secrets(),
        OTHERS => grant,
        _ => grant.crossing_mounts(),
    })
}
