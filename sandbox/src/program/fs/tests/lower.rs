//! The host's files beneath the overlay.

use crate::errno::Errno;
use crate::program::fs::testing::{Bench, FakeWorld, HostNode};
use crate::program::fs::{Fs, FsOptions, Mount, MountError, MountSource, OpenFlags, S_IFDIR};

fn host() -> FakeWorld {
    FakeWorld::default()
        .dir("d")
        .dir("d/sub")
        .file("d/f", "lower")
        .file("d/g", "other")
        .link("d/abs", "/d/f")
        .link("out", "../../../etc/shadow")
        .node("fifo", HostNode::Other)
        .node("secret", HostNode::Refused)
}

#[test]
fn the_host_is_asked_once() {
    let mut b = Bench::new(host());
    for _ in 0..3 {
        assert_eq!(b.cat("/d/f").unwrap(), b"lower");
        assert_eq!(b.cat("/d/abs").unwrap(), b"lower");
        assert_eq!(b.lookup("/d/none"), Err(Errno::ENOENT));
        assert_eq!(b.ls("/d").unwrap(), ["abs", "f", "g", "sub"]);
        assert_eq!(b.stat("/d/g").unwrap().size, 5);
    }
    let mut asked = b.world.asked.clone();
    asked.sort();
    let before = asked.len();
    asked.dedup();
    assert_eq!(asked.len(), before, "{asked:?}");
}

#[test]
fn what_was_seen_stays() {
    let mut b = Bench::new(host());
    assert_eq!(b.ls("/d").unwrap(), ["abs", "f", "g", "sub"]);
    assert_eq!(b.lookup("/later"), Err(Errno::ENOENT));
    b.lookup("/d/f").unwrap();
    b.world.nodes.remove(&(0, b"d/f".to_vec()));
    b.world = b.world.clone().file("later", "x").file("d/more", "x");
    assert_eq!(b.lookup("/later"), Err(Errno::ENOENT));
    assert_eq!(b.stat("/d/f").unwrap().size, 5);
    assert_eq!(b.ls("/d").unwrap(), ["abs", "f", "g", "sub"]);
    // Its bytes are gone, though.
    assert!(b.cat("/d/f").is_err());
}

/// What a guest can see of its working directory does not depend on where that is on the host.
#[test]
fn one_more_mount_changes_no_number() {
    let numbers = |paths: &[&str]| {
        let mount = |path: &&str| Mount {
            path: path.as_bytes().to_vec(),
            source: MountSource::Directory { grant: 0 },
        };
        let mounts = paths.iter().map(mount).collect();
        let mut b = Bench::with(host().dir(""), FsOptions { mounts, ..FsOptions::default() });
        b.mkdir("/tmp/new").unwrap();
        ["/", "/usr/lib", "/usr", "/work", "/work/d", "/work/d/f", "/tmp/new", "/dev/null", "/proc", "/sys"]
            .map(|path| b.stat(path).map(|stat| (stat.ino, stat.nlink)).unwrap())
    };
    let few = numbers(&["/usr/lib", "/usr", "/work"]);
    assert_eq!(few, numbers(&["/usr/lib", "/usr", "/work", "/a/b"]));
    assert_eq!(few, numbers(&["/usr/lib", "/usr", "/work", "/zebra/b/c d/e"]));
    assert_eq!(few, numbers(&["/usr/lib", "/usr", "/work", "/usr/local/x"]));
}

#[test]
fn a_directory_counts_those_in_it() {
    let mut b = Bench::new(host());
    let links = |b: &mut Bench, path: &str| b.stat(path).unwrap().nlink;
    // The host's number, of which the guest's changes are the difference.
    assert_eq!(links(&mut b, "/d"), 5);
    b.mkdir("/d/new").unwrap();
    b.mkdir("/d/new/in").unwrap();
    assert_eq!((links(&mut b, "/d"), links(&mut b, "/d/new"), links(&mut b, "/d/new/in")), (6, 3, 2));
    b.rename("/d/new/in", "/d/moved").unwrap();
    assert_eq!((links(&mut b, "/d"), links(&mut b, "/d/new")), (7, 2));
    b.rmdir("/d/moved").unwrap();
    b.rmdir("/d/sub").unwrap();
    assert_eq!(links(&mut b, "/d"), 5);
    assert_eq!(links(&mut b, "/d/f"), 1);
}

#[test]
fn changes_stay_above() {
    let mut b = Bench::new(host());
    b.kernel.now = 9;
    let id = b.open("/d/f", OpenFlags::WRONLY).unwrap();
    assert_eq!(b.stat("/d/f").unwrap().mtime, 1_000);
    b.run(|fs, env, _| fs.write_at(env, id, 2, b"W")).unwrap();
    assert_eq!(b.cat("/d/f").unwrap(), b"loWer");
    let stat = b.stat("/d/f").unwrap();
    assert_eq!((stat.uid, stat.gid, stat.mtime), (7, 8, 9));
    b.unlink("/d/g").unwrap();
    assert_eq!(b.lookup("/d/g"), Err(Errno::ENOENT));
    assert_eq!(b.ls("/d").unwrap(), ["abs", "f", "sub"]);
    b.put("/d/g", b"new").unwrap();
    assert_eq!(b.cat("/d/g").unwrap(), b"new");
    b.unlink("/d/g").unwrap();
    assert_eq!(b.ls("/d").unwrap(), ["abs", "f", "sub"]);
    assert_eq!(b.rmdir("/d"), Err(Errno::ENOTEMPTY));
    for name in ["/d/abs", "/d/f"] {
        b.unlink(name).unwrap();
    }
    b.rmdir("/d/sub").unwrap();
    b.rmdir("/d").unwrap();
    // A new directory of that name has nothing of the old one.
    b.mkdir("/d").unwrap();
    assert_eq!(b.ls("/d").unwrap(), Vec::<String>::new());
    assert_eq!(b.lookup("/d/f"), Err(Errno::ENOENT));
}

#[test]
fn a_renamed_directory_takes_its_files_along() {
    let mut b = Bench::new(host());
    b.rename("/d", "/moved").unwrap();
    assert_eq!(b.cat("/moved/f").unwrap(), b"lower");
    assert_eq!(b.ls("/moved").unwrap(), ["abs", "f", "g", "sub"]);
    assert_eq!(b.lookup("/d"), Err(Errno::ENOENT));
    b.rename("/moved/f", "/f").unwrap();
    assert_eq!(b.cat("/f").unwrap(), b"lower");
    assert_eq!(b.ls("/moved").unwrap(), ["abs", "g", "sub"]);
    b.rename("/f", "/moved/g").unwrap();
    assert_eq!(b.cat("/moved/g").unwrap(), b"lower");
}

#[test]
fn lower_content_by_parts() {
    let content: Vec<u8> = (0..200_000u32).map(|n| (n / 7) as u8).collect();
    let mut b = Bench::new(FakeWorld::default().file("f", content.clone()));
    let id = b.open("/f", OpenFlags::RDWR).unwrap();
    b.run(|fs, env, _| fs.write_at(env, id, 65_530, b"0123456789")).unwrap();
    let mut wanted = content;
    wanted[65_530..65_540].copy_from_slice(b"0123456789");
    assert_eq!(b.cat("/f").unwrap(), wanted);
    b.run(|fs, env, _| fs.truncate(env, id, 131_080)).unwrap();
    b.run(|fs, env, _| fs.truncate(env, id, 140_000)).unwrap();
    wanted.truncate(131_080);
    wanted.resize(140_000, 0);
    assert_eq!(b.cat("/f").unwrap(), wanted);
    // A write behind the cut must not bring the host's bytes back.
    b.run(|fs, env, _| fs.write_at(env, id, 139_999, b"!")).unwrap();
    wanted[139_999] = b'!';
    assert_eq!(b.cat("/f").unwrap(), wanted);
    b.run(|fs, env, _| fs.fallocate(env, id, 3, 0, 65_536)).unwrap();
    wanted[..65_536].fill(0);
    assert_eq!(b.cat("/f").unwrap(), wanted);
}

#[test]
fn links_out_of_a_grant_stay_in_the_guests_tree() {
    let mut b = Bench::new(host());
    assert_eq!(b.lookup("/out"), Err(Errno::ENOENT));
    assert!(!b.world.asked.iter().any(|asked| asked.contains("..")));
    assert_eq!(b.open("/fifo", OpenFlags::RDONLY), Err(Errno::ENXIO));
    assert_eq!(b.lookup("/secret"), Err(Errno::EACCES));
}

#[test]
fn absent_names_do_not_add_up() {
    let mut b = Bench::new(host());
    for n in 0..1000 {
        assert_eq!(b.lookup(&format!("/d/none{n}")), Err(Errno::ENOENT));
    }
    assert!(b.world.asked.len() < 100);
    assert!(b.fs.dir(b.fs.lookup_test("/d")).unwrap().entries.len() < 10);
    for n in 0..1000 {
        b.put(&format!("/d/new{n}"), b"").unwrap();
        b.unlink(&format!("/d/new{n}")).unwrap();
    }
    assert!(b.fs.dir(b.fs.lookup_test("/d")).unwrap().entries.len() < 10);
    assert_eq!(b.ls("/d").unwrap(), ["abs", "f", "g", "sub"]);
}

impl Fs {
    /// A directory right below the root, for a look at its insides.
    fn lookup_test(&self, path: &str) -> crate::program::fs::InodeId {
        self.built_in_child(self.root, &path[1..]).unwrap()
    }
}

fn mount(path: &str, source: MountSource) -> Mount {
    Mount { path: path.as_bytes().to_vec(), source }
}

#[test]
fn mounts() {
    let mut world = host();
    world.nodes.insert((1, Vec::new()), HostNode::File(b"passwd".to_vec()));
    world.nodes.insert((2, Vec::new()), HostNode::Dir);
    world.nodes.insert((2, b"x".to_vec()), HostNode::File(b"in 2".to_vec()));
    let options = FsOptions {
        mounts: vec![
            mount("/etc/passwd", MountSource::File { grant: 1 }),
            mount("/usr/lib", MountSource::Directory { grant: 2 }),
            mount("/lib", MountSource::Symlink { target: b"usr/lib".to_vec() }),
            mount("/usr/lib/deep/er", MountSource::Directory { grant: 2 }),
        ],
        ..FsOptions::default()
    };
    let mut b = Bench::with(world, options);
    let root = ["dev", "etc", "lib", "proc", "root", "run", "sys", "tmp", "usr", "var"];
    assert_eq!(b.ls("/").unwrap(), root);
    assert_eq!(b.ls("/etc").unwrap(), ["passwd"]);
    assert_eq!(b.cat("/etc/passwd").unwrap(), b"passwd");
    assert_eq!(b.lookup("/etc/shadow"), Err(Errno::ENOENT));
    assert_eq!(b.cat("/lib/x").unwrap(), b"in 2");
    assert_eq!(b.cat("/usr/lib/deep/er/x").unwrap(), b"in 2");
    assert_eq!(b.ls("/usr/lib").unwrap(), ["deep", "x"]);
    assert_eq!(b.stat("/usr/lib/deep").unwrap().kind(), S_IFDIR);
    assert_eq!(b.lookup("/usr/lib/deep/er/../../../.."), b.lookup("/"));
    // Mount points stay; what is around and in them changes.
    assert_eq!(b.unlink("/etc/passwd"), Err(Errno::EBUSY));
    assert_eq!(b.rmdir("/usr/lib"), Err(Errno::EBUSY));
    assert_eq!(b.rename("/usr", "/x"), Err(Errno::EBUSY));
    b.put("/etc/shadow", b"mine").unwrap();
    b.put("/etc/passwd", b"changed").unwrap();
    assert_eq!(b.cat("/etc/passwd").unwrap(), b"changed");
    b.unlink("/usr/lib/x").unwrap();
    assert_eq!(b.cat("/usr/lib/deep/er/x").unwrap(), b"in 2");
}

#[test]
fn a_root_with_a_mount_below() {
    let mut world = host().dir("");
    world.nodes.insert((1, Vec::new()), HostNode::Dir);
    let options = FsOptions {
        mounts: vec![
            mount("/", MountSource::Directory { grant: 0 }),
            mount("/d/in", MountSource::Directory { grant: 1 }),
            mount("/fifo/in", MountSource::Directory { grant: 1 }),
            mount("/missing", MountSource::Directory { grant: 9 }),
        ],
        ..FsOptions::default()
    };
    let mut b = Bench::with(world, options);
    assert_eq!(b.ls("/d").unwrap(), ["abs", "f", "g", "in", "sub"]);
    assert_eq!(b.stat("/d").unwrap().uid, 7);
    // The host has no directory there: one is made up.
    assert_eq!(b.ls("/fifo").unwrap(), ["in"]);
    assert_eq!(b.lookup("/missing"), Err(Errno::ENOENT));
}

#[test]
fn mounts_that_make_no_tree() {
    let new = |mounts: Vec<Mount>| Fs::new(FsOptions { mounts, ..FsOptions::default() });
    let file = || MountSource::File { grant: 0 };
    for path in ["relative", "/a/../b", "/a/./b", "", "/nul\0"] {
        assert!(matches!(new(vec![mount(path, file())]), Err(MountError::Path(_))), "{path}");
    }
    assert!(matches!(new(vec![mount("/dev/x", file())]), Err(MountError::Reserved(_))));
    assert!(matches!(new(vec![mount("/proc", file())]), Err(MountError::Reserved(_))));
    assert!(matches!(new(vec![mount("/", file())]), Err(MountError::Root)));
    let twice = vec![mount("/a", file()), mount("//a/", file())];
    assert!(matches!(new(twice), Err(MountError::Twice(_))));
    let below = vec![mount("/a", file()), mount("/a/b", file())];
    assert!(matches!(new(below), Err(MountError::NotDirectory(_))));
    let below = vec![mount("/a", file()), mount("/a/b/c", file())];
    assert!(matches!(new(below), Err(MountError::NotDirectory(_))));
}
