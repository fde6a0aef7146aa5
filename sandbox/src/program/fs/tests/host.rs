//! A guest's file system over this machine's.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::program::fs::testing::FakeCaller;
use crate::program::fs::{At, Env, Fs, FsOptions, Mount, NoFds};
use crate::world::{HostWorld, default_grants};

#[test]
fn a_guest_sees_this_machine() {
    let grants = default_grants();
    let options = FsOptions { mounts: Mount::of_grants(&grants), ..FsOptions::default() };
    let mut guest = Fs::new(options).unwrap();
    let grants = grants.into_iter().map(|(_, grant)| grant);
    let mut world = HostWorld::builder().grants(grants).build().unwrap();
    let mut kernel = FakeCaller::default();
    let env = &mut Env { world: &mut world, caller: &mut kernel };
    let at = At { base: guest.root(), fds: &NoFds };
    let id = guest.lookup(env, at, b"/bin/sh", true).unwrap();
    let host = fs::metadata("/bin/sh").unwrap();
    let stat = guest.stat(env, id).unwrap();
    assert_eq!((stat.size, stat.mode), (host.len(), host.mode()));
    let mut content = vec![0; host.len() as usize];
    assert_eq!(guest.read_at(env, id, 0, &mut content).unwrap(), content.len());
    assert_eq!(content, fs::read("/bin/sh").unwrap());
    assert!(guest.lookup(env, at, b"/etc/shadow", true).is_err());
    guest.unlink(env, at, b"/usr/bin/env").unwrap();
    assert!(guest.lookup(env, at, b"/bin/env", true).is_err());
    assert!(fs::metadata("/usr/bin/env").is_ok());
}
