//! `/dev`, `/proc`, `/sys`, and what a snapshot keeps.

use std::sync::Arc;

use dejavm_snapshot::codec;

use crate::errno::Errno;
use crate::program::fs::testing::{Bench, FakeWorld, errno, store};
use crate::program::fs::{At, FdLinks, Fs, InodeId, OpenFlags, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG};

struct OneFd(InodeId);

impl FdLinks for OneFd {
    fn fds(&self) -> Vec<u32> {
        vec![0, 5]
    }

    fn target(&self, fd: u32) -> Option<InodeId> {
        (fd == 5).then_some(self.0)
    }
}

#[test]
fn devices() {
    let mut b = Bench::empty();
    let stat = b.stat("/dev/null").unwrap();
    assert_eq!((stat.kind(), stat.rdev), (S_IFCHR, 0x103));
    assert_eq!(b.stat("/dev/urandom").unwrap().rdev, 0x109);
    assert_eq!(b.stat("/dev/shm").unwrap().mode, S_IFDIR | 0o1777);
    assert_eq!(b.stat("/tmp").unwrap().mode, S_IFDIR | 0o1777);
    assert_eq!(b.readlink("/dev/fd").unwrap(), b"/proc/self/fd");
    assert_eq!(b.lookup("/dev/ptmx"), Err(Errno::ENOENT));
    assert_eq!(b.open("/dev/tty", OpenFlags::RDWR), Err(Errno::ENXIO));
    b.put("/dev/shm/x", b"y").unwrap();
    assert_ne!(b.stat("/dev/shm/x").unwrap().dev, b.stat("/tmp").unwrap().dev);
    // As on a real system, root may break it.
    b.unlink("/dev/null").unwrap();
    assert_eq!(b.lookup("/dev/null"), Err(Errno::ENOENT));
}

#[test]
fn proc_texts() {
    let mut b = Bench::empty();
    assert_eq!(b.cat("/proc/self/maps").unwrap(), b"maps of 2\n");
    assert_eq!(b.cat("/proc/2/task/3/maps").unwrap(), b"maps of 3\n");
    assert_eq!(b.cat("/proc/thread-self/maps").unwrap(), b"maps of 2\n");
    assert_eq!(b.cat("/proc/self/cgroup").unwrap(), b"0::/\n");
    assert_eq!(b.cat("/proc/meminfo").unwrap(), b"MemTotal: 1 kB\n");
    assert!(b.cat("/proc/mounts").unwrap().starts_with(b"overlay / "));
    assert_eq!(b.cat("/proc/sys/kernel/pid_max").unwrap(), b"32768\n");
    let uuid = b.cat("/proc/sys/kernel/random/uuid").unwrap();
    assert_eq!(uuid, b"04040404-0404-4404-8404-040404040404\n");
    assert_eq!(b.cat("/sys/devices/system/cpu/online").unwrap(), b"0\n");
    assert_eq!(b.readlink("/proc/self").unwrap(), b"2");
    assert_eq!(b.readlink("/proc/self/exe").unwrap(), b"/bin/tool");
    assert_eq!(b.lookup("/proc/self/exe"), Err(Errno::ENOENT));
    assert_eq!(b.lookup("/proc/self/root/tmp"), b.lookup("/tmp"));
    for gone in ["/proc/3", "/proc/02", "/proc/99999999999", "/proc/self/none", "/proc/2x"] {
        assert_eq!(b.lookup(gone), Err(Errno::ENOENT), "{gone}");
    }
    assert_eq!(b.lookup("/proc/self/maps/x"), Err(Errno::ENOTDIR));
    assert_eq!(b.stat("/proc/self/maps").unwrap().kind(), S_IFREG);
    assert_eq!(b.stat("/proc/self/").unwrap().kind(), S_IFDIR);
    assert_eq!(b.lookup("/proc/self/task/.."), b.lookup("/proc/2"));
    assert_eq!(b.lookup("/proc/2/.."), b.lookup("/proc"));
    assert_eq!(b.fs.path_of(b.fs.built_in_child(b.fs.root(), "proc").unwrap()), b"/proc");
}

#[test]
fn proc_cannot_be_changed() {
    let mut b = Bench::empty();
    assert_eq!(b.mkdir("/proc/x"), Err(Errno::ENOENT));
    assert_eq!(b.mkdir("/proc/self/x"), Err(Errno::ENOENT));
    assert_eq!(b.mkdir("/sys/x"), Err(Errno::EPERM));
    assert_eq!(b.unlink("/proc/self/maps"), Err(Errno::EPERM));
    assert_eq!(b.unlink("/proc/meminfo"), Err(Errno::EPERM));
    assert_eq!(b.rmdir("/proc/self/"), Err(Errno::ENOTDIR));
    assert_eq!(b.rmdir("/proc/2"), Err(Errno::EPERM));
    assert_eq!(b.rename("/proc/2", "/proc/5"), Err(Errno::ENOENT));
    assert_eq!(b.rename("/proc/meminfo", "/x"), Err(Errno::EXDEV));
    assert_eq!(b.link("/proc/self/maps", "/x"), Err(Errno::EXDEV));
    let maps = b.lookup("/proc/self/maps").unwrap();
    assert_eq!(errno(b.run(|fs, env, _| fs.chmod(env, maps, 0o777))), Err(Errno::EPERM));
    assert_eq!(errno(b.run(|fs, env, _| fs.freeze(env, maps))), Err(Errno::ENODEV));
    // What cannot be set is not said to be.
    assert_eq!(b.put("/proc/self/maps", b"500"), Err(Errno::EINVAL));
    assert_eq!(b.put("/proc/sys/vm/overcommit_memory", b"1"), Err(Errno::EROFS));
}

#[test]
fn proc_lists() {
    let mut b = Bench::empty();
    let names = b.ls("/proc").unwrap();
    assert_eq!(names[0], "2");
    assert!(names.is_sorted());
    assert!(names.contains(&"meminfo".to_owned()) && names.contains(&"self".to_owned()));
    let names = b.ls("/proc/self").unwrap();
    assert!(names.is_sorted());
    assert!(["exe", "fd", "maps", "task"].iter().all(|n| names.contains(&(*n).to_owned())));
    assert_eq!(b.ls("/proc/self/task").unwrap(), ["2", "3"]);
    assert_eq!(b.ls("/proc/self/fd").unwrap(), Vec::<String>::new());
}

#[test]
fn descriptors_are_links_to_what_they_are_open_on() {
    let mut b = Bench::empty();
    b.put("/f", b"content").unwrap();
    let id = b.open("/f", OpenFlags::RDONLY).unwrap();
    let fds = OneFd(id);
    let root = b.fs.root();
    let mut at = |path: &[u8], follow| {
        let at = At { base: root, fds: &fds };
        let fs = &mut b.fs;
        let mut env = super::super::Env { world: &mut b.world, caller: &mut b.kernel };
        let found = errno(fs.lookup(&mut env, at, path, follow))?;
        let stat = errno(fs.stat(&mut env, found))?;
        let link = fs.readlink(&mut env, at, found).ok();
        Ok((found, stat.kind(), link))
    };
    let link = at(b"/proc/self/fd/5", false).unwrap();
    assert_eq!((link.1, link.2), (S_IFLNK, Some(b"/f".to_vec())));
    assert_eq!(at(b"/proc/self/fd/5", true).unwrap().0, id);
    assert_eq!(at(b"/dev/fd/5", true).unwrap().0, id);
    assert_eq!(at(b"/proc/self/fd/5/x", true), Err(Errno::ENOTDIR));
    assert_eq!(at(b"/proc/self/fd/6", true), Err(Errno::ENOENT));
}

#[test]
fn a_snapshot_keeps_everything() {
    let world = FakeWorld::default().dir("d").file("d/f", vec![3; 70_000]).link("l", "d/f");
    let mut b = Bench::new(world);
    b.put("/new", b"overlay").unwrap();
    assert_eq!(b.cat("/l").unwrap().len(), 70_000);
    let id = b.open("/d/f", OpenFlags::RDWR).unwrap();
    b.run(|fs, env, _| fs.write_at(env, id, 66_000, b"up")).unwrap();
    let frozen = b.run(|fs, env, _| fs.freeze(env, id)).unwrap();
    b.unlink("/d/f").unwrap();
    assert_eq!(b.lookup("/none"), Err(Errno::ENOENT));
    let (stored, pages) = store(&b.fs, 1000);
    let bytes = codec::encode(&stored).unwrap();
    assert!(bytes.len() < 30_000, "content is in pages, not in the state of {} bytes", bytes.len());
    let mut c = b.clone();
    c.fs = codec::decode::<Fs>(&bytes).unwrap();
    assert_eq!(c.fs.check(), Ok(()));
    assert_eq!(c.fs.check_stored(pages.numbers()), Ok(()));
    let numbers = pages.numbers();
    for wrong in [numbers.start + 1..numbers.end, numbers.start..numbers.end - 1, 0..0] {
        assert!(c.fs.check_stored(wrong).is_err());
    }
    assert_eq!(codec::encode(&c.fs).unwrap(), bytes);
    c.fs.connect(Some(Arc::new(pages)));
    for b in [&mut b, &mut c] {
        b.world.asked.clear();
        assert_eq!(b.cat("/new").unwrap(), b"overlay");
        assert_eq!(b.lookup("/d/f"), Err(Errno::ENOENT));
        assert_eq!(b.lookup("/none"), Err(Errno::ENOENT));
        let mut buf = [0; 4];
        b.run(|fs, env, _| fs.read_at(env, id, 65_999, &mut buf)).unwrap();
        assert_eq!(&buf, b"\x03up\x03");
        b.run(|fs, env, _| fs.write_at(env, id, 66_000, b"xx")).unwrap();
        b.run(|fs, env, _| fs.read_frozen(env, frozen, 65_999, &mut buf)).unwrap();
        assert_eq!(&buf, b"\x03up\x03");
        b.fs.release_frozen(frozen);
        b.run(|fs, env, _| fs.release(env, id)).unwrap();
        // Only content is asked for again: the rest is part of the state.
        assert!(b.world.asked.iter().all(|asked| asked.starts_with("block")));
        b.put("/later", b"x").unwrap();
    }
    // One has all of its blocks in memory, the other those that it wrote; as snapshots they hold the
    // same, wherever the pages are.
    let all = |fs: &Fs| {
        let (mut stored, pages) = store(fs, 0);
        stored.forget_places();
        (codec::encode(&stored).unwrap(), pages.sorted())
    };
    assert_eq!(all(&b.fs), all(&c.fs));
}
