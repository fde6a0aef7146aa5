//! Tests of the real outside, on directories of its own.

use std::fs;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::errno::Errno;
use crate::world::{BLOCK_SIZE, FileKind, HostPath};

fn at(grant: u32, path: &str) -> HostPath {
    HostPath { grant, path: path.as_bytes().to_vec() }
}

fn world(grants: impl IntoIterator<Item = Grant>) -> HostWorld {
    HostWorld::builder().grants(grants).build().unwrap()
}

fn metadata(world: &mut dyn World, path: &HostPath) -> Result<crate::world::Metadata, Errno> {
    world.metadata(path).unwrap()
}

fn block(world: &mut dyn World, path: &HostPath, block: u64) -> Result<Vec<u8>, Errno> {
    world.read_block(path, block).unwrap().map(|bytes| bytes.to_vec())
}

#[test]
fn files_are_as_the_host_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..100_000u32).map(|n| (n / 3) as u8).collect();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/file"), &content).unwrap();
    fs::set_permissions(dir.path().join("sub/file"), PermissionsExt::from_mode(0o751)).unwrap();
    symlink("/anywhere", dir.path().join("link")).unwrap();
    let host = fs::metadata(dir.path().join("sub/file")).unwrap();
    let world: &mut dyn World = &mut world([Grant::directory(dir.path())]);

    let file = metadata(world, &at(0, "sub/file")).unwrap();
    assert_eq!((file.kind, file.mode, file.size), (FileKind::Regular, 0o751, 100_000));
    assert_eq!((file.uid, file.gid), (host.uid(), host.gid()));
    assert_eq!(file.mtime, host.mtime() * 1_000_000_000 + host.mtime_nsec());
    assert_eq!(metadata(world, &at(0, "")).unwrap().kind, FileKind::Directory);
    assert_eq!(metadata(world, &at(0, "link")).unwrap().kind, FileKind::Symlink);
    assert_eq!(metadata(world, &at(0, "none")), Err(Errno::ENOENT));
    assert_eq!(metadata(world, &at(0, "sub/file/x")), Err(Errno::ENOTDIR));
    assert_eq!(metadata(world, &at(1, "")), Err(Errno::ENOENT));
    assert_eq!(metadata(world, &at(u32::MAX, "x")), Err(Errno::ENOENT));

    assert_eq!(world.read_link(&at(0, "link")).unwrap().unwrap(), b"/anywhere");
    assert_eq!(world.read_link(&at(0, "sub")).unwrap(), Err(Errno::EINVAL));
    let names = world.read_dir(&at(0, "")).unwrap().unwrap();
    let names: Vec<_> = names.iter().map(|e| (&e.name[..], e.kind)).collect();
    assert_eq!(names, [(&b"link"[..], FileKind::Symlink), (b"sub", FileKind::Directory)]);
    assert_eq!(world.read_dir(&at(0, "sub/file")).unwrap(), Err(Errno::ENOTDIR));

    let mut read = Vec::new();
    for n in 0..2 {
        read.extend(block(world, &at(0, "sub/file"), n).unwrap());
    }
    assert_eq!(read, content);
    assert_eq!(block(world, &at(0, "sub/file"), 2), Ok(Vec::new()));
    assert_eq!(block(world, &at(0, "sub/file"), u64::MAX), Err(Errno::EINVAL));
    assert_eq!(block(world, &at(0, "sub/file"), u64::MAX / BLOCK_SIZE as u64), Err(Errno::EINVAL));
    assert_eq!(block(world, &at(0, "sub"), 0), Err(Errno::EISDIR));
}

#[test]
fn nothing_outside_of_a_grant_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    let inside = dir.path().join("granted");
    fs::create_dir(&inside).unwrap();
    symlink("../secret", inside.join("up")).unwrap();
    symlink(dir.path(), inside.join("abs")).unwrap();
    symlink("/proc/self/root", inside.join("magic")).unwrap();
    fs::create_dir(inside.join("real")).unwrap();
    fs::write(inside.join("real/f"), "f").unwrap();
    symlink("real", inside.join("alias")).unwrap();
    let world: &mut dyn World = &mut world([Grant::directory(&inside)]);
    for path in ["../secret", "real/../../secret", "abs/secret", "/etc/passwd", "magic/etc/passwd"] {
        assert_eq!(metadata(world, &at(0, path)), Err(Errno::ENOENT), "{path}");
        assert_eq!(block(world, &at(0, path), 0), Err(Errno::ENOENT), "{path}");
        assert_eq!(world.read_dir(&at(0, path)).unwrap(), Err(Errno::ENOENT), "{path}");
    }
    // Links are for the guest's file system to follow, even those that stay inside.
    assert_eq!(block(world, &at(0, "alias/f"), 0), Err(Errno::ENOENT));
    assert_eq!(block(world, &at(0, "up"), 0), Err(Errno::ENXIO));
    assert_eq!(world.read_dir(&at(0, "abs")).unwrap(), Err(Errno::ENOTDIR));
    assert_eq!(block(world, &at(0, "real/f"), 0), Ok(b"f".to_vec()));
    assert!(metadata(world, &at(0, "nul\0")).is_err());
    assert_eq!(metadata(world, &at(0, &"n".repeat(300))), Err(Errno::ENAMETOOLONG));
}

#[test]
fn only_regular_files_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let world: &mut dyn World = &mut world([Grant::directory(dir.path()), Grant::directory("/dev")]);
    // An open for reading would wait for a writer.
    for path in [at(0, "fifo"), at(0, "socket"), at(1, "null"), at(1, "zero")] {
        assert_eq!(metadata(world, &path).unwrap().kind, FileKind::Other);
        assert_eq!(block(world, &path, 0), Err(Errno::ENXIO));
    }
}

#[test]
fn a_file_that_changes_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let later = |path: &std::path::Path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() + Duration::from_secs(9)).unwrap();
    };
    fs::write(&path, vec![1; 100_000]).unwrap();
    let world: &mut dyn World = &mut world([Grant::directory(dir.path())]);
    assert_eq!(block(world, &at(0, "f"), 0).unwrap().len(), BLOCK_SIZE);
    fs::write(&path, vec![2; 100_000]).unwrap();
    later(&path);
    assert_eq!(block(world, &at(0, "f"), 1), Err(Errno::EIO));
    // Another file in its place is noticed once it is opened again.
    fs::write(dir.path().join("g"), "old").unwrap();
    assert!(block(world, &at(0, "g"), 0).is_ok());
    for n in 0..20 {
        fs::write(dir.path().join(format!("x{n}")), "x").unwrap();
        assert!(block(world, &at(0, &format!("x{n}")), 0).is_ok());
    }
    fs::write(dir.path().join("new"), "new").unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("g")).unwrap();
    assert_eq!(block(world, &at(0, "g"), 0), Err(Errno::EIO));
    // Cut after its first block was read.
    fs::write(dir.path().join("h"), vec![1; 200_000]).unwrap();
    assert!(block(world, &at(0, "h"), 0).is_ok());
    fs::File::options().write(true).open(dir.path().join("h")).unwrap().set_len(10).unwrap();
    assert_eq!(block(world, &at(0, "h"), 2), Err(Errno::EIO));
}

#[test]
fn single_files_are_granted() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "one").unwrap();
    fs::write(dir.path().join("other"), "two").unwrap();
    symlink("f", dir.path().join("link")).unwrap();
    let world: &mut dyn World = &mut world([
        Grant::file(dir.path().join("f")),
        Grant::file(dir.path().join("link")),
        Grant::symlink("somewhere"),
    ]);
    assert_eq!(block(world, &at(0, ""), 0), Ok(b"one".to_vec()));
    assert_eq!(metadata(world, &at(1, "")).unwrap().kind, FileKind::Regular);
    for path in ["other", "../other", ".", "f"] {
        assert_eq!(metadata(world, &at(0, path)), Err(Errno::ENOTDIR));
    }
    assert_eq!(metadata(world, &at(2, "")), Err(Errno::ENOENT));
}

#[test]
fn grants_must_be_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let build = |grant| HostWorld::builder().grants([grant]).build().unwrap_err();
    let missing = build(Grant::directory(dir.path().join("none")));
    assert!(matches!(&missing, GrantError::Open { .. }));
    assert!(missing.to_string().contains("none"), "{missing}");
    let file = build(Grant::directory(dir.path().join("f")));
    assert!(matches!(file, GrantError::Kind { wanted: "directory", .. }));
    let directory = build(Grant::file(dir.path()));
    assert!(matches!(directory, GrantError::Kind { wanted: "file", .. }));
    assert!(matches!(build(Grant::file("/dev/null")), GrantError::Kind { .. }));
    assert!(matches!(build(Grant::file("/")), GrantError::Kind { .. }));
}

#[test]
fn defaults_hold_no_secrets() {
    let grants = default_grants();
    assert_eq!(grants, default_grants());
    let paths: Vec<_> = grants.iter().map(|(path, _)| String::from_utf8_lossy(path)).collect();
    assert!(paths.iter().any(|path| path == "/usr"));
    assert!(!paths.iter().any(|path| path == "/root"));
    let etc = paths.iter().position(|path| path == "/etc").unwrap() as u32;
    let world: &mut dyn World = &mut self::world(grants.iter().map(|(_, grant)| grant.clone()));
    for secret in ["shadow", "gshadow", "ssl/private", "machine-id", "ssh/ssh_host_rsa_key"] {
        assert_eq!(metadata(world, &at(etc, secret)), Err(Errno::ENOENT), "{secret}");
    }
    assert!(metadata(world, &at(etc, "passwd")).is_ok());
    for (path, grant) in &grants {
        match grant.kind() {
            GrantKind::Directory(host) | GrantKind::File(host) => {
                assert_eq!(host.to_str().unwrap().as_bytes(), path);
            }
            GrantKind::Symlink(target) => {
                let host = fs::read_link(std::str::from_utf8(path).unwrap()).unwrap();
                assert_eq!(host.to_str().unwrap().as_bytes(), target);
            }
            GrantKind::Given(_) => panic!("the system gives no files as bytes"),
        }
    }
}

#[test]
fn what_others_may_not_read_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, mode: u32| {
        let path = dir.path().join(name);
        if name.ends_with('/') {
            fs::create_dir(&path).unwrap()
        } else {
            fs::write(&path, name).unwrap()
        }
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    for (name, mode) in [("open", 0o644), ("closed", 0o640), ("dir/", 0o755), ("dir/f", 0o604)] {
        make(name, mode);
    }
    for (name, mode) in [("shut/", 0o755), ("shut/f", 0o644), ("db-password.ini", 0o644), ("shadow", 0o644)] {
        make(name, mode);
    }
    fs::set_permissions(dir.path().join("shut"), PermissionsExt::from_mode(0o751)).unwrap();
    symlink("closed", dir.path().join("link")).unwrap();
    let plain = Grant::directory(dir.path());
    let grants = [plain.clone(), plain.clone().without_unreadable(), plain.without_secrets()];
    let world: &mut dyn World = &mut self::world(grants);
    let all = ["closed", "db-password.ini", "dir", "link", "open", "shadow", "shut"];
    let readable = ["db-password.ini", "dir", "link", "open", "shadow"];
    for (grant, shown) in [(0, &all[..]), (1, &readable), (2, &["dir", "link", "open"])] {
        let names = world.read_dir(&at(grant, "")).unwrap().unwrap();
        let names: Vec<_> = names.iter().map(|e| str::from_utf8(&e.name).unwrap()).collect();
        assert_eq!(names, shown, "{grant}");
        for name in all {
            assert_eq!(metadata(world, &at(grant, name)).is_ok(), shown.contains(&name), "{grant} {name}");
        }
        assert_eq!(block(world, &at(grant, "dir/f"), 0), Ok(b"dir/f".to_vec()));
        // Not even by a path that no guest's file system makes.
        let inside = block(world, &at(grant, "shut/f"), 0);
        assert_eq!(inside, if grant == 0 { Ok(b"shut/f".to_vec()) } else { Err(Errno::ENOENT) });
        assert_eq!(world.read_dir(&at(grant, "shut")).unwrap().is_ok(), grant == 0);
        assert_eq!(block(world, &at(grant, "closed"), 0).is_ok(), grant == 0);
    }
}

#[test]
fn mounts_are_crossed_only_if_asked() {
    let root = Grant::directory("/");
    let world: &mut dyn World =
        &mut self::world([root.clone(), root.crossing_mounts(), Grant::directory("/proc")]);
    // `/proc` is a mount everywhere.
    let point = metadata(world, &at(0, "proc")).unwrap();
    assert_eq!((point.kind, point.nlink), (FileKind::Directory, 2));
    assert_eq!(world.read_dir(&at(0, "proc")).unwrap().unwrap(), []);
    for inside in ["proc/version", "proc/self", "proc/..", "proc/../etc/passwd"] {
        assert_eq!(metadata(world, &at(0, inside)), Err(Errno::ENOENT), "{inside}");
    }
    assert_eq!(metadata(world, &at(1, "proc/version")).unwrap().kind, FileKind::Regular);
    assert_eq!(metadata(world, &at(2, "version")).unwrap().kind, FileKind::Regular);
}

/// Ends waits by a descriptor or at a time.
struct Stop(Option<OwnedFd>, Option<Instant>);

impl Interrupt for Stop {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    fn remaining(&self) -> Option<Duration> {
        self.1.map(|end| end.saturating_duration_since(Instant::now()))
    }
}

#[test]
fn waits_end() {
    let (idle, _writer) = pipe().unwrap();
    let soon = Stop(None, Some(Instant::now() + Duration::from_millis(20)));
    let ended = interrupt::wait(Some((idle.as_fd(), PollFlags::IN)), None, &soon);
    assert!(matches!(ended, Err(WorldError::Interrupted)));
    let (stop, mut stopper) = pipe().unwrap();
    let by_fd = Stop(Some(stop.into()), None);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        stopper.write_all(b"x").unwrap();
        stopper
    });
    let ended = interrupt::wait(Some((idle.as_fd(), PollFlags::IN)), None, &by_fd);
    assert!(matches!(ended, Err(WorldError::Interrupted)));
    drop(thread.join().unwrap());
    // A stop wins over an answer.
    let (ready, mut writer) = pipe().unwrap();
    writer.write_all(b"x").unwrap();
    let ended = interrupt::wait(Some((ready.as_fd(), PollFlags::IN)), None, &by_fd);
    assert!(matches!(ended, Err(WorldError::Interrupted)));
    assert!(interrupt::wait(Some((ready.as_fd(), PollFlags::IN)), None, &Never).is_ok());
    assert!(matches!(interrupt::check(&by_fd), Err(WorldError::Interrupted)));
    assert!(interrupt::check(&Never).is_ok());
}

#[test]
fn input_from_memory_and_readers() {
    let mut built = HostWorld::builder().input(Input::Bytes(b"hello".to_vec())).build().unwrap();
    let world: &mut dyn World = &mut built;
    assert_eq!(world.input(3, true).unwrap(), Ok(b"hel".to_vec()));
    assert_eq!(world.input(usize::MAX, false).unwrap(), Ok(b"lo".to_vec()));
    assert_eq!(world.input(5, true).unwrap(), Ok(Vec::new()));
    let reader = Box::new(std::io::Cursor::new(b"from a reader").take(6));
    let mut built = HostWorld::builder().input(Input::Reader(reader)).build().unwrap();
    let world: &mut dyn World = &mut built;
    assert_eq!(world.input(100, true).unwrap(), Ok(b"from a".to_vec()));
    assert_eq!(world.input(100, true).unwrap(), Ok(Vec::new()));
    let over = Stop(None, Some(Instant::now()));
    let mut built = HostWorld::builder()
        .input(Input::Reader(Box::new(std::io::empty())))
        .interrupt(Box::new(over))
        .build()
        .unwrap();
    let world: &mut dyn World = &mut built;
    assert!(matches!(world.input(1, true), Err(WorldError::Interrupted)));
}

#[test]
fn output_is_captured_up_to_its_limit() {
    let buffer = OutputBuffer::new();
    let capture = || Output::Capture { buffer: buffer.clone(), limit: 8 };
    let mut built = HostWorld::builder().stdout(capture()).stderr(capture()).build().unwrap();
    let world: &mut dyn World = &mut built;
    assert_eq!(world.output(Stream::Stdout, b"12345").unwrap(), Ok(5));
    assert_eq!(world.output(Stream::Stderr, b"67890").unwrap(), Ok(3));
    assert_eq!(world.output(Stream::Stdout, b"x").unwrap(), Err(Errno::ENOSPC));
    assert_eq!(world.output(Stream::Stdout, b"").unwrap(), Ok(0));
    assert_eq!(buffer.bytes(), b"12345678");
    assert_eq!(buffer.take(), b"12345678");
    assert_eq!(world.output(Stream::Stdout, b"y").unwrap(), Ok(1));
}

#[test]
fn output_to_writers() {
    let (reader, writer) = pipe().unwrap();
    let mut built = HostWorld::builder().stdout(Output::Writer(Box::new(writer))).build().unwrap();
    let world: &mut dyn World = &mut built;
    assert_eq!(world.output(Stream::Stdout, b"abc").unwrap(), Ok(3));
    assert_eq!(world.output(Stream::Stderr, b"abc").unwrap(), Ok(3));
    let mut buf = [0; 3];
    (&reader).read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"abc");
    drop(reader);
    assert_eq!(world.output(Stream::Stdout, b"abc").unwrap(), Err(Errno::EPIPE));
}

#[test]
fn output_to_descriptors() {
    let (reader, writer) = pipe().unwrap();
    let data: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
    let mut output = HostOutput::new(Output::Fd(writer.try_clone().unwrap().into()));
    let wrote = output.write(&data, &Never).unwrap();
    assert_eq!(wrote, Ok(50_000));
    let mut read = vec![0; 50_000];
    (&reader).read_exact(&mut read).unwrap();
    assert_eq!(read, data);
    // A reader that stalls does not keep the sandbox.
    let soon = Stop(None, Some(Instant::now() + Duration::from_millis(20)));
    let most = output.write(&vec![0; 1 << 20], &soon).unwrap().unwrap();
    assert!((4096..1 << 20).contains(&most), "what went out is told: {most}");
    assert!(matches!(output.write(b"x", &soon), Err(WorldError::Interrupted)));
    // Nor does it change how others find the pipe.
    assert!(!rustix::fs::fcntl_getfl(&writer).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
    drop(reader);
    let broken = output.write(b"x", &Never).unwrap();
    assert_eq!(broken, Err(Errno::EPIPE));
}

#[test]
fn the_clock_runs() {
    let world: &mut dyn World = &mut world([]);
    let first = world.clock().unwrap();
    let second = world.clock().unwrap();
    assert!(second.monotonic >= first.monotonic);
    assert!(first.realtime > 1_600_000_000_000_000_000);
}
