//! Where this machine has a file that a recorded program saw.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use dejavm_sandbox::program::fs::Mount;

/// Paths at which a file of this path in the guest may be: the same path, and where it lies in a directory that is
/// shown at several places, such as `/work`, those. Whether it is that file, whoever takes it finds out.
pub(crate) fn candidates(mounts: &[Mount], path: &[u8]) -> Vec<PathBuf> {
    let join = |mount: &[u8], rest: &[u8]| {
        let mount = mount.strip_suffix(b"/").unwrap_or(mount);
        PathBuf::from(OsStr::from_bytes(&[mount, rest].concat()))
    };
    let shows = |mount: &&Mount| mount.grant().is_some();
    let rest = mounts.iter().filter(shows).filter_map(|mount| {
        let rest = path.strip_prefix(mount.path.strip_suffix(b"/").unwrap_or(&mount.path))?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some((mount.path.len(), rest))
    });
    let mut candidates = vec![PathBuf::from(OsStr::from_bytes(path))];
    // The one that shows it is the innermost.
    if let Some((_, rest)) = rest.max_by_key(|(length, _)| *length) {
        let others = mounts.iter().filter(shows).map(|mount| join(&mount.path, rest));
        candidates.extend(others.filter(|other| other.as_os_str().as_bytes() != path));
    }
    candidates
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dejavm_sandbox::program::fs::MountSource;

    use super::*;

    #[test]
    fn a_directory_that_is_shown_twice() {
        let mounts = ["/usr", "/work", "/home/a"]
            .map(|path| Mount { path: path.into(), source: MountSource::Directory { grant: 0 } });
        let of = |path: &str| candidates(&mounts, path.as_bytes());
        let paths = ["/work/bin/x", "/usr/bin/x", "/home/a/bin/x"].map(|path| Path::new(path).to_owned());
        assert_eq!(of("/work/bin/x"), paths);
        assert_eq!(of("/tmp/x"), [Path::new("/tmp/x")]);
        assert_eq!(of("/workshop/x"), [Path::new("/workshop/x")]);
    }
}
