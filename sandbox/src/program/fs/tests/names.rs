//! What names do: each error is the one that Linux gives.

use crate::errno::Errno;
use crate::program::fs::DirFormat;
use crate::program::fs::testing::{Bench, errno, records};
use crate::program::fs::{DirCursor, OpenFlags, S_IFDIR, S_IFLNK, S_IFREG};

const CREATE: OpenFlags = OpenFlags(OpenFlags::WRONLY.0 | OpenFlags::CREAT.0);

#[test]
fn create_and_remove() {
    let mut b = Bench::empty();
    b.mkdir("/a").unwrap();
    assert_eq!(b.mkdir("/a"), Err(Errno::EEXIST));
    assert_eq!(b.mkdir("/"), Err(Errno::EEXIST));
    assert_eq!(b.mkdir("/a/."), Err(Errno::EEXIST));
    assert_eq!(b.mkdir("/x/y"), Err(Errno::ENOENT));
    b.mkdir("/a/b/").unwrap();
    b.put("/a/f", b"1").unwrap();
    assert_eq!(b.mkdir("/a/f/x"), Err(Errno::ENOTDIR));
    assert_eq!(b.rmdir("/a"), Err(Errno::ENOTEMPTY));
    assert_eq!(b.rmdir("/a/f"), Err(Errno::ENOTDIR));
    assert_eq!(b.rmdir("/a/b/."), Err(Errno::EINVAL));
    assert_eq!(b.rmdir("/a/b/.."), Err(Errno::ENOTEMPTY));
    assert_eq!(b.rmdir("/"), Err(Errno::EBUSY));
    assert_eq!(b.rmdir("/tmp"), Err(Errno::EBUSY));
    assert_eq!(b.unlink("/a/b"), Err(Errno::EISDIR));
    assert_eq!(b.unlink("/a/f/"), Err(Errno::ENOTDIR));
    assert_eq!(b.unlink("/a/."), Err(Errno::EISDIR));
    b.rmdir("/a/b/").unwrap();
    b.unlink("/a/f").unwrap();
    assert_eq!(b.unlink("/a/f"), Err(Errno::ENOENT));
    b.rmdir("/a").unwrap();
    assert_eq!(b.lookup("/a"), Err(Errno::ENOENT));
    assert_eq!(b.lookup(""), Err(Errno::ENOENT));
}

#[test]
fn everything_is_given_back() {
    let mut b = Bench::empty();
    let before = b.fs.overlay_bytes();
    b.mkdir("/d").unwrap();
    b.put("/d/f", &[1; 100_000]).unwrap();
    b.link("/d/f", "/d/g").unwrap();
    b.symlink("target", "/d/s").unwrap();
    b.rename("/d/f", "/d/longer-name").unwrap();
    assert!(b.fs.overlay_bytes() > before + 100_000);
    for name in ["/d/longer-name", "/d/g", "/d/s"] {
        b.unlink(name).unwrap();
    }
    b.rmdir("/d").unwrap();
    assert_eq!(b.fs.overlay_bytes(), before);
}

#[test]
fn an_open_file_outlives_its_name() {
    let mut b = Bench::empty();
    let before = b.fs.overlay_bytes();
    b.put("/f", b"still here").unwrap();
    let id = b.open("/f", OpenFlags::RDWR).unwrap();
    b.unlink("/f").unwrap();
    let mut buf = [0; 20];
    assert_eq!(b.run(|fs, env, _| fs.read_at(env, id, 6, &mut buf)).unwrap(), 4);
    assert_eq!(&buf[..4], b"here");
    assert_eq!(b.run(|fs, env, _| fs.stat(env, id)).unwrap().nlink, 0);
    assert_eq!(b.fs.path_of(id), b"/f (deleted)");
    assert_eq!(errno(b.run(|fs, env, at| fs.link(env, id, at, b"/g"))), Err(Errno::ENOENT));
    b.run(|fs, env, _| fs.release(env, id)).unwrap();
    assert_eq!(b.fs.overlay_bytes(), before);
}

#[test]
fn open_flags() {
    let mut b = Bench::empty();
    b.mkdir("/d").unwrap();
    b.put("/f", b"abc").unwrap();
    b.symlink("f", "/l").unwrap();
    b.symlink("made", "/dangling").unwrap();
    assert_eq!(b.open("/none", OpenFlags::RDONLY), Err(Errno::ENOENT));
    assert_eq!(b.open("/f", CREATE | OpenFlags::EXCL), Err(Errno::EEXIST));
    assert_eq!(b.open("/dangling", CREATE | OpenFlags::EXCL), Err(Errno::EEXIST));
    assert_eq!(b.open("/l", OpenFlags::NOFOLLOW), Err(Errno::ELOOP));
    assert_eq!(b.open("/l", OpenFlags::NOFOLLOW | OpenFlags::DIRECTORY), Err(Errno::ENOTDIR));
    b.open("/l", OpenFlags::NOFOLLOW | OpenFlags::PATH).unwrap();
    assert_eq!(b.open("/f", OpenFlags::DIRECTORY), Err(Errno::ENOTDIR));
    assert_eq!(b.open("/d", OpenFlags::WRONLY), Err(Errno::EISDIR));
    assert_eq!(b.open("/d", CREATE), Err(Errno::EISDIR));
    assert_eq!(b.open("/new/", CREATE), Err(Errno::EISDIR));
    assert_eq!(b.open("/f/", OpenFlags::RDONLY), Err(Errno::ENOTDIR));
    assert_eq!(b.open("/d", CREATE | OpenFlags::DIRECTORY), Err(Errno::EINVAL));
    b.open("/d", OpenFlags::RDONLY | OpenFlags::DIRECTORY).unwrap();
    b.open("/dangling", CREATE).unwrap();
    assert_eq!(b.stat("/made").unwrap().kind(), S_IFREG);
    b.open("/f", OpenFlags::WRONLY | OpenFlags::TRUNC).unwrap();
    assert_eq!(b.stat("/f").unwrap().size, 0);
}

#[test]
fn nameless_files() {
    let mut b = Bench::empty();
    let flags = OpenFlags::TMPFILE | OpenFlags::DIRECTORY | OpenFlags::RDWR;
    let id = b.open("/tmp", flags).unwrap();
    assert_eq!(b.ls("/tmp").unwrap(), Vec::<String>::new());
    b.run(|fs, env, at| fs.link(env, id, at, b"/tmp/named")).unwrap();
    assert_eq!(b.ls("/tmp").unwrap(), ["named"]);
    let id = b.open("/tmp", flags | OpenFlags::EXCL).unwrap();
    assert_eq!(errno(b.run(|fs, env, at| fs.link(env, id, at, b"/tmp/x"))), Err(Errno::ENOENT));
    let read_only = OpenFlags::TMPFILE | OpenFlags::DIRECTORY;
    assert_eq!(b.open("/tmp", read_only), Err(Errno::EINVAL));
}

#[test]
fn links_count() {
    let mut b = Bench::empty();
    b.put("/f", b"x").unwrap();
    b.link("/f", "/g").unwrap();
    assert_eq!(b.stat("/g").unwrap().nlink, 2);
    assert_eq!(b.stat("/f").unwrap().ino, b.stat("/g").unwrap().ino);
    assert_eq!(b.link("/f", "/g"), Err(Errno::EEXIST));
    b.mkdir("/d").unwrap();
    assert_eq!(b.link("/d", "/e"), Err(Errno::EPERM));
    assert_eq!(b.link("/f", "/e/"), Err(Errno::ENOENT));
    assert_eq!(b.link("/f", "/dev/shm/f"), Err(Errno::EXDEV));
    // Renaming one name of a file to another one does nothing.
    b.rename("/f", "/g").unwrap();
    assert_eq!(b.stat("/f").unwrap().nlink, 2);
    b.unlink("/f").unwrap();
    assert_eq!(b.stat("/g").unwrap().nlink, 1);
    b.symlink("g", "/s").unwrap();
    b.link("/s", "/t").unwrap();
    assert_eq!(b.stat("/t").unwrap().kind(), S_IFLNK);
}

#[test]
fn rename_errors() {
    let mut b = Bench::empty();
    for dir in ["/a", "/a/b", "/a/b/c", "/full", "/full/x", "/e"] {
        b.mkdir(dir).unwrap();
    }
    b.put("/f", b"f").unwrap();
    assert_eq!(b.rename("/none", "/x"), Err(Errno::ENOENT));
    assert_eq!(b.rename("/a", "/a/b/c/d"), Err(Errno::EINVAL));
    assert_eq!(b.rename("/a/b/c", "/a"), Err(Errno::ENOTEMPTY));
    assert_eq!(b.rename("/a", "/f"), Err(Errno::ENOTDIR));
    assert_eq!(b.rename("/f", "/a"), Err(Errno::EISDIR));
    assert_eq!(b.rename("/a", "/full"), Err(Errno::ENOTEMPTY));
    assert_eq!(b.rename("/f/", "/g"), Err(Errno::ENOTDIR));
    assert_eq!(b.rename("/f", "/g/"), Err(Errno::ENOTDIR));
    assert_eq!(b.rename("/f", "/."), Err(Errno::EBUSY));
    assert_eq!(b.rename("/tmp", "/g"), Err(Errno::EBUSY));
    assert_eq!(b.rename("/f", "/dev/shm/f"), Err(Errno::EXDEV));
    let kept = b.run(|fs, env, at| fs.rename(env, (at, b"/f"), (at, b"/e"), true));
    assert_eq!(errno(kept), Err(Errno::EEXIST));
    b.rename("/a", "/e").unwrap();
    assert_eq!(b.lookup("/a"), Err(Errno::ENOENT));
    let c = b.lookup("/e/b/c").unwrap();
    assert_eq!(b.fs.getcwd(c).unwrap(), b"/e/b/c");
    b.rename("/e/b/c", "/c/").unwrap();
    assert_eq!(b.fs.getcwd(c).unwrap(), b"/c");
    assert_eq!(b.lookup("/c/.."), b.lookup("/"));
}

#[test]
fn working_directories() {
    let mut b = Bench::empty();
    b.mkdir("/d").unwrap();
    b.mkdir("/d/e").unwrap();
    let e = b.lookup("/d/e").unwrap();
    b.fs.hold(e);
    b.rmdir("/d/e").unwrap();
    b.rmdir("/d").unwrap();
    assert_eq!(errno(b.fs.getcwd(e)), Err(Errno::ENOENT));
    let made = b.run(|fs, env, at| fs.mkdir(env, crate::program::fs::At { base: e, ..at }, b"x", 0o755));
    assert_eq!(errno(made), Err(Errno::ENOENT));
    let up = b.run(|fs, env, at| fs.lookup(env, crate::program::fs::At { base: e, ..at }, b"..", true));
    assert_eq!(errno(up), Err(Errno::ENOENT));
    b.run(|fs, env, _| fs.release(env, e)).unwrap();
}

#[test]
fn links_are_followed_in_the_guests_tree() {
    let mut b = Bench::empty();
    b.mkdir("/d").unwrap();
    b.put("/d/f", b"x").unwrap();
    b.symlink("/d", "/abs").unwrap();
    b.symlink("../../../../d/f", "/d/up").unwrap();
    b.symlink("loop2", "/loop1").unwrap();
    b.symlink("loop1", "/loop2").unwrap();
    b.symlink("self/x", "/self").unwrap();
    assert_eq!(b.lookup("/abs/f"), b.lookup("/d/f"));
    assert_eq!(b.lookup("/d/up"), b.lookup("/d/f"));
    assert_eq!(b.lookup("/../../d/f"), b.lookup("/d/f"));
    assert_eq!(b.lookup("/loop1"), Err(Errno::ELOOP));
    assert_eq!(b.lookup("/loop1/x"), Err(Errno::ELOOP));
    assert_eq!(b.lookup("/self"), Err(Errno::ELOOP));
    assert_eq!(b.stat("/abs").unwrap().kind(), S_IFLNK);
    assert_eq!(b.stat("/abs").unwrap().size, 2);
    // A slash at the end asks for what the link leads to.
    assert_eq!(b.stat("/abs/").unwrap().kind(), S_IFDIR);
    assert_eq!(b.stat("/d/up/"), Err(Errno::ENOTDIR));
    assert_eq!(b.readlink("/abs").unwrap(), b"/d");
    assert_eq!(b.readlink("/d"), Err(Errno::EINVAL));
    assert_eq!(b.symlink("", "/x"), Err(Errno::ENOENT));
    assert_eq!(b.symlink("y", "/abs"), Err(Errno::EEXIST));
}

#[test]
fn a_chain_of_forty_links_is_the_longest() {
    let mut b = Bench::empty();
    b.put("/l0", b"end").unwrap();
    for n in 1..=41 {
        b.symlink(&format!("l{}", n - 1), &format!("/l{n}")).unwrap();
    }
    assert!(b.lookup("/l40").is_ok());
    assert_eq!(b.lookup("/l41"), Err(Errno::ELOOP));
}

#[test]
fn directories_are_listed_in_order_while_they_change() {
    let mut b = Bench::empty();
    b.mkdir("/d").unwrap();
    for n in 0..50 {
        b.put(&format!("/d/f{n:02}"), b"").unwrap();
    }
    b.mkdir("/d/sub").unwrap();
    b.symlink("x", "/d/ln").unwrap();
    let id = b.lookup("/d").unwrap();
    // `rm -r`: read some, remove them, read on.
    let mut cursor = DirCursor::default();
    let mut seen = Vec::new();
    loop {
        let bytes =
            b.run(|fs, env, at| fs.getdents(env, at, id, &mut cursor, (200, DirFormat::Large))).unwrap();
        if bytes.is_empty() {
            break;
        }
        assert!(bytes.len() <= 200);
        for (name, kind) in records(&bytes) {
            match kind {
                4 if name == "sub" => b.rmdir("/d/sub").unwrap(),
                4 => assert!(name.starts_with('.')),
                _ => b.unlink(&format!("/d/{name}")).unwrap(),
            }
            seen.push((name, kind));
        }
    }
    assert_eq!(seen.len(), 2 + 50 + 2);
    assert_eq!(seen[0], (".".to_owned(), 4));
    assert_eq!(seen[1], ("..".to_owned(), 4));
    assert_eq!(seen[2], ("f00".to_owned(), 8));
    assert_eq!(seen[52], ("ln".to_owned(), 10));
    b.rmdir("/d").unwrap();
}

#[test]
fn cursors_seek() {
    let mut b = Bench::empty();
    b.mkdir("/d").unwrap();
    for name in ["a", "b", "c"] {
        b.put(&format!("/d/{name}"), b"").unwrap();
    }
    let id = b.lookup("/d").unwrap();
    let read = |b: &mut Bench, cursor: &mut DirCursor| {
        let bytes = b.run(|fs, env, at| fs.getdents(env, at, id, cursor, (4096, DirFormat::Large))).unwrap();
        records(&bytes).into_iter().map(|(name, _)| name).collect::<String>()
    };
    let mut cursor = DirCursor::default();
    assert_eq!(read(&mut b, &mut cursor), "...abc");
    assert_eq!(cursor.offset(), 5);
    for (offset, rest) in
        [(0, "...abc"), (1, "..abc"), (2, "abc"), (4, "c"), (5, ""), (9, ""), (u64::MAX, "")]
    {
        cursor.seek(offset);
        assert_eq!(read(&mut b, &mut cursor), rest, "{offset}");
    }
    let none =
        b.run(|fs, env, at| fs.getdents(env, at, id, &mut DirCursor::default(), (20, DirFormat::Large)));
    assert_eq!(errno(none), Err(Errno::EINVAL));
}
