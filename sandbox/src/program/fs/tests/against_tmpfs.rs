//! Random operations, compared one by one with those of a real file system.

use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, fstat, ftruncate, linkat, mkdirat, openat,
    readlinkat, renameat_with, statat, symlinkat, unlinkat,
};

use crate::errno::Errno;
use crate::program::fs::DirFormat;
use crate::program::fs::testing::{Bench, errno, records};
use crate::program::fs::{At, DirCursor, Env, InodeId, NoFds, OpenFlags, Stat};

/// Directories above the one that the operations start in, on both sides, so that no `..` leads
/// out of what is compared: a path has at most three, and so has each of the 40 links that it may
/// go through.
const DEPTH: usize = 130;

#[derive(Clone, Debug)]
enum Op {
    Mkdir(String),
    Rmdir(String),
    Unlink(String),
    Rename(String, String, bool),
    Link(String, String),
    Symlink(String, String),
    Readlink(String),
    Stat(String, bool),
    List(String),
    Truncate(String, u64),
    Write { path: String, flags: u32, offset: u64, data: Vec<u8> },
    Read { path: String, flags: u32, offset: u64, len: usize },
}

/// What an operation gave, as far as it must be the same.
#[derive(Debug, PartialEq)]
enum Outcome {
    Nothing,
    Bytes(Vec<u8>),
    Names(Vec<(String, u8)>),
    /// Type, size and links; those of directories differ between file systems.
    Stat(u32, Option<u64>, u64),
}

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c", "d"]),
        1 => prop::sample::select(vec![".", ".."]),
    ];
    (prop::collection::vec(part, 1..4), prop::bool::weighted(0.15))
        .prop_map(|(parts, slash)| parts.join("/") + if slash { "/" } else { "" })
}

fn flags(access: Vec<u32>) -> impl Strategy<Value = u32> {
    let extra = [
        OpenFlags::CREAT,
        OpenFlags::EXCL,
        OpenFlags::TRUNC,
        OpenFlags::APPEND,
        OpenFlags::NOFOLLOW,
        OpenFlags::DIRECTORY,
    ];
    let extra = prop::collection::vec(prop::sample::select(extra.to_vec()), 0..3);
    (prop::sample::select(access), extra).prop_filter_map("kernels differ", |(access, extra)| {
        let flags = extra.into_iter().fold(access, |all, flag| all | flag.0);
        let both = (OpenFlags::CREAT | OpenFlags::DIRECTORY).0;
        (flags & both != both).then_some(flags)
    })
}

fn op() -> impl Strategy<Value = Op> {
    let offset = prop_oneof![0u64..20, 60_000u64..140_000];
    let create = OpenFlags::CREAT.0;
    let data = (0usize..70_000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]);
    let writable = flags(vec![1, 2, 1 | create, 2 | create]);
    prop_oneof![
        3 => path().prop_map(Op::Mkdir),
        1 => path().prop_map(Op::Rmdir),
        1 => path().prop_map(Op::Unlink),
        3 => (path(), path(), any::<bool>()).prop_map(|(a, b, keep)| Op::Rename(a, b, keep)),
        1 => (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        2 => (path(), path()).prop_map(|(a, b)| Op::Symlink(a, b)),
        1 => path().prop_map(Op::Readlink),
        2 => (path(), any::<bool>()).prop_map(|(a, follow)| Op::Stat(a, follow)),
        1 => path().prop_map(Op::List),
        1 => (path(), offset.clone()).prop_map(|(a, len)| Op::Truncate(a, len)),
        3 => (path(), writable, offset.clone(), data)
            .prop_map(|(path, flags, offset, data)| Op::Write { path, flags, offset, data }),
        2 => (path(), flags(vec![0, 2, create]), offset, 0usize..70_000)
            .prop_map(|(path, flags, offset, len)| Op::Read { path, flags, offset, len }),
    ]
}

/// The real side.
struct Real {
    base: OwnedFd,
    _dir: tempfile::TempDir,
}

impl Real {
    fn new() -> Real {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let directory = OFlags::DIRECTORY | OFlags::RDONLY;
        let mut base = openat(CWD, dir.path(), directory, Mode::empty()).unwrap();
        for _ in 0..DEPTH {
            mkdirat(&base, "s", Mode::from(0o755)).unwrap();
            base = openat(&base, "s", directory, Mode::empty()).unwrap();
        }
        Real { base, _dir: dir }
    }

    fn open(&self, path: &str, flags: u32) -> rustix::io::Result<OwnedFd> {
        openat(&self.base, path, OFlags::from_bits_retain(flags), Mode::from(0o644))
    }

    fn run(&self, op: &Op) -> rustix::io::Result<Outcome> {
        let at = self.base.as_fd();
        match op {
            Op::Mkdir(path) => mkdirat(at, path, Mode::from(0o755))?,
            Op::Rmdir(path) => unlinkat(at, path, AtFlags::REMOVEDIR)?,
            Op::Unlink(path) => unlinkat(at, path, AtFlags::empty())?,
            Op::Rename(old, new, keep) => {
                let flags = if *keep { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
                renameat_with(at, old, at, new, flags)?;
            }
            Op::Link(old, new) => linkat(at, old, at, new, AtFlags::empty())?,
            Op::Symlink(target, path) => symlinkat(target, at, path)?,
            Op::Readlink(path) => {
                return Ok(Outcome::Bytes(readlinkat(at, path, Vec::new())?.into_bytes()));
            }
            Op::Stat(path, follow) => {
                let flags = if *follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                let stat = statat(at, path, flags)?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                let size = (kind != FileType::Directory).then_some(stat.st_size as u64);
                return Ok(Outcome::Stat(stat.st_mode & 0o170_000, size, stat.st_nlink));
            }
            Op::List(path) => {
                let fd = self.open(path, OFlags::DIRECTORY.bits())?;
                let mut names = Vec::new();
                for entry in Dir::read_from(&fd)? {
                    let entry = entry?;
                    let kind = match entry.file_type() {
                        FileType::Directory => 4,
                        FileType::Symlink => 10,
                        _ => 8,
                    };
                    names.push((entry.file_name().to_str().unwrap().to_owned(), kind));
                }
                names.sort();
                return Ok(Outcome::Names(names));
            }
            Op::Truncate(path, len) => ftruncate(self.open(path, 1)?, *len)?,
            Op::Write { path, flags, offset, data } => {
                let fd = self.open(path, *flags)?;
                assert_eq!(rustix::io::pwrite(&fd, data, *offset)?, data.len());
            }
            Op::Read { path, flags, offset, len } => {
                let fd = self.open(path, *flags)?;
                let mut buf = vec![0; *len];
                let n = rustix::io::pread(&fd, &mut buf[..], *offset)?;
                buf.truncate(n);
                assert!(fstat(&fd).is_ok());
                return Ok(Outcome::Bytes(buf));
            }
        }
        Ok(Outcome::Nothing)
    }
}

/// Our side.
struct Ours {
    bench: Bench,
    base: InodeId,
}

impl Ours {
    fn new() -> Ours {
        let mut bench = Bench::empty();
        let mut base = bench.fs.root();
        for _ in 0..=DEPTH {
            let at = At { base, fds: &NoFds };
            let mut env = Env { world: &mut bench.world, caller: &mut bench.kernel };
            base = bench.fs.mkdir(&mut env, at, b"s", 0o755).unwrap();
        }
        bench.fs.hold(base);
        Ours { bench, base }
    }

    fn run(&mut self, op: &Op) -> Result<Outcome, Errno> {
        let at = At { base: self.base, fds: &NoFds };
        let fs = &mut self.bench.fs;
        let env = &mut Env { world: &mut self.bench.world, caller: &mut self.bench.kernel };
        let mut act = || match op {
            Op::Mkdir(path) => fs.mkdir(env, at, path.as_bytes(), 0o755).map(|_| Outcome::Nothing),
            Op::Rmdir(path) => fs.rmdir(env, at, path.as_bytes()).map(|()| Outcome::Nothing),
            Op::Unlink(path) => fs.unlink(env, at, path.as_bytes()).map(|()| Outcome::Nothing),
            Op::Rename(old, new, keep) => {
                fs.rename(env, (at, old.as_bytes()), (at, new.as_bytes()), *keep).map(|()| Outcome::Nothing)
            }
            Op::Link(old, new) => {
                let id = fs.lookup(env, at, old.as_bytes(), false)?;
                fs.link(env, id, at, new.as_bytes()).map(|()| Outcome::Nothing)
            }
            Op::Symlink(target, path) => {
                fs.symlink(env, at, path.as_bytes(), target.as_bytes()).map(|_| Outcome::Nothing)
            }
            Op::Readlink(path) => {
                let id = fs.lookup(env, at, path.as_bytes(), false)?;
                fs.readlink(env, at, id).map(Outcome::Bytes)
            }
            Op::Stat(path, follow) => {
                let id = fs.lookup(env, at, path.as_bytes(), *follow)?;
                let stat: Stat = fs.stat(env, id)?;
                let size = (stat.kind() != 0o040_000).then_some(stat.size);
                Ok(Outcome::Stat(stat.kind(), size, stat.nlink.into()))
            }
            Op::List(path) => {
                let id = fs.open(env, at, path.as_bytes(), OpenFlags::DIRECTORY, 0)?;
                let mut cursor = DirCursor::default();
                let bytes = fs.getdents(env, at, id, &mut cursor, (1 << 16, DirFormat::Large))?;
                fs.release(env, id)?;
                let mut names = records(&bytes);
                names.sort();
                Ok(Outcome::Names(names))
            }
            Op::Truncate(path, len) => {
                let id = fs.open(env, at, path.as_bytes(), OpenFlags::WRONLY, 0)?;
                let done = fs.truncate(env, id, *len as i64);
                fs.release(env, id)?;
                done.map(|()| Outcome::Nothing)
            }
            Op::Write { path, flags, offset, data } => {
                let id = fs.open(env, at, path.as_bytes(), OpenFlags(*flags), 0o644)?;
                let append = OpenFlags(*flags).has(OpenFlags::APPEND);
                let offset = if append { fs.len(id) } else { *offset };
                assert_eq!(fs.write_at(env, id, offset, data)?, data.len());
                fs.release(env, id)?;
                Ok(Outcome::Nothing)
            }
            Op::Read { path, flags, offset, len } => {
                let id = fs.open(env, at, path.as_bytes(), OpenFlags(*flags), 0o644)?;
                let mut buf = vec![0xee; *len];
                let read = fs.read_at(env, id, *offset, &mut buf);
                fs.release(env, id)?;
                buf.truncate(read?);
                Ok(Outcome::Bytes(buf))
            }
        };
        errno(act())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_operation_gives_the_same(ops in prop::collection::vec(op(), 1..60)) {
        let real = Real::new();
        let mut ours = Ours::new();
        for (n, op) in ops.iter().enumerate() {
            let wanted = real.run(op).map_err(Errno::from);
            prop_assert_eq!(ours.run(op), wanted, "operation {}: {:?}", n, op);
        }
        prop_assert_eq!(ours.bench.fs.check(), Ok(()));
        // All is given back when all is removed.
        let base = std::mem::replace(&mut ours.base, ours.bench.fs.root());
        ours.bench.run(|fs, env, _| fs.release(env, base)).unwrap();
        remove_all(&mut ours, "s");
        prop_assert_eq!(ours.bench.fs.overlay_bytes(), 0);
    }
}

fn remove_all(ours: &mut Ours, dir: &str) {
    // The names may be longer than a path can be, so that the way goes down step by step.
    let base = ours.base;
    let Ok(Outcome::Names(names)) = ours.run(&Op::List(dir.to_owned())) else { panic!("{dir}") };
    let at = At { base, fds: &NoFds };
    let env = &mut Env { world: &mut ours.bench.world, caller: &mut ours.bench.kernel };
    ours.base = ours.bench.fs.lookup(env, at, dir.as_bytes(), false).unwrap();
    for (name, kind) in names.into_iter().filter(|(name, _)| name != "." && name != "..") {
        if kind == 4 {
            remove_all(ours, &name);
        } else {
            ours.run(&Op::Unlink(name)).unwrap();
        }
    }
    ours.base = base;
    ours.run(&Op::Rmdir(dir.to_owned())).unwrap();
}
