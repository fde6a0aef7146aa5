//! What programs need of the host to start at all: programs, libraries, and harmless settings.

use std::fs::{read_dir, read_link, symlink_metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::Grant;

/// Directories of programs and libraries.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt"];

/// Files and directories of `/etc` that programs read and that hold no secrets. Whatever is not
/// here, the guest does not see: `shadow`, keys, credentials of services.
const ETC: [&str; 41] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "gai.conf",
    "gitconfig",
    "group",
    "host.conf",
    "inputrc",
    "ld-musl-x86_64.d",
    "ld-musl-x86_64.path",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld.so.preload",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "magic.mime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "perl",
    "pki/tls/certs",
    "profile",
    "profile.d",
    "protocols",
    "redhat-release",
    "rpc",
    "services",
    "shells",
    "skel",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
];

/// Beginnings of names in `/etc` of directories that belong to language run-times.
const ETC_PREFIXES: [&str; 2] = ["java-", "python3"];

/// The directories of programs and libraries, and what of `/etc` is harmless, each with its guest
/// path, which is the same as the host's. A host path that is a symbolic link is one for the
/// guest, too. What does not exist is left out.
///
/// This depends on nothing but what exists on the host.
pub fn default_grants() -> Vec<(Vec<u8>, Grant)> {
    let mut paths: Vec<String> = SYSTEM.iter().map(|path| (*path).to_owned()).collect();
    paths.extend(ETC.iter().map(|name| format!("/etc/{name}")));
    let mut versions: Vec<String> = read_dir("/etc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| ETC_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .map(|name| format!("/etc/{name}"))
        .collect();
    versions.sort();
    paths.append(&mut versions);
    paths
        .into_iter()
        .filter_map(|path| Some((path.as_bytes().to_vec(), grant_of(Path::new(&path))?)))
        .collect()
}

/// A path as it is on the host.
fn grant_of(path: &Path) -> Option<Grant> {
    // What lies behind a link in the directory's own path is somewhere else than it seems.
    let parent = path.parent()?;
    if parent.as_os_str().as_bytes() != b"/" && parent.canonicalize().ok()? != parent {
        return None;
    }
    let kind = symlink_metadata(path).ok()?.file_type();
    if kind.is_symlink() {
        return Some(Grant::symlink(read_link(path).ok()?.into_os_string().into_vec()));
    }
    if kind.is_dir() {
        return Some(Grant::directory(path));
    }
    kind.is_file().then(|| Grant::file(path))
}
