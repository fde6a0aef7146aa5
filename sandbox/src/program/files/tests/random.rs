//! Random calls: whatever a guest does, nothing breaks.

use std::sync::Arc;

use dejavm_snapshot::codec;
use proptest::prelude::*;

use super::Program;
use super::streams::file;
use crate::program::files::{AT_FDCWD, FdTable};
use crate::program::fs::testing::{Bench, FakeWorld, HostNode, restored, store};
use crate::program::fs::{DirFormat, Fs, FsError, FsResult, OpenFlags, Scope, Stdio};
use crate::world::STDIN_GRANT;

const RW: OpenFlags = super::RW;

/// A program with some descriptors, its standard streams regular files if wanted.
fn program(files: bool) -> Program {
    let world = FakeWorld::default().file("lower", vec![3; 150_000]).dir("dir");
    let mut bench = Bench::new(world.file("dir/x", "lower"));
    if files {
        let (stdin, stdout, stderr) = (file(9, 2, false), file(5, 5, false), file(7, 0, true));
        bench = Bench::with_stdio(Stdio { stdin, stdout, stderr, merged: false });
        bench.world.nodes.insert((STDIN_GRANT, Vec::new()), HostNode::File(b"123456789".to_vec()));
    }
    bench.kernel.memory = Some(1 << 20);
    bench.mkdir("/d").unwrap();
    let table = FdTable::with_stdio(&mut bench.fs);
    let mut p = Program { bench, table };
    for path in ["/lower", "/f", "/dev/zero"] {
        p.open(path, RW).unwrap();
    }
    for path in ["/", "/proc/self/maps"] {
        p.open(path, OpenFlags::RDONLY).unwrap();
    }
    p.run(|t, fs, env| t.pipe(fs, env, OpenFlags::NONBLOCK)).unwrap();
    p
}

/// A call with arguments of a guest's choice.
#[derive(Clone, Debug)]
struct Call {
    number: u8,
    fd: i32,
    other: i32,
    a: i64,
    b: u64,
    path: String,
}

fn call() -> impl Strategy<Value = Call> {
    let fd = || prop_oneof![8 => -1i32..12, 1 => any::<i32>()];
    let number = prop_oneof![
        4 => 0i64..10,
        2 => 0i64..200_000,
        1 => any::<i64>(),
        1 => Just(i64::MAX),
        1 => Just(i64::MIN),
    ];
    let paths = [
        "/f",
        "/d",
        "/d/f",
        "lower",
        "dir",
        "dir/x",
        "/proc/self/fd/3",
        "/dev/fd/4",
        "/dev/tty",
        "/dev/full",
        "/proc/self/maps",
        "/proc",
        "/fifo",
        "/tmp",
        "..",
        "/link",
        "/dev/dejavm",
        "",
    ];
    let path = prop::sample::select(paths.to_vec()).prop_map(str::to_owned);
    (0u8..40, fd(), fd(), number.clone(), number, path).prop_map(|(number, fd, other, a, b, path)| Call {
        number,
        fd,
        other,
        a,
        b: b as u64,
        path,
    })
}

fn make(p: &mut Program, call: &Call) -> FsResult<()> {
    let Call { number, fd, other, a, b, path } = call.clone();
    let root = p.bench.fs.root();
    let path = path.as_bytes();
    let len = (b % 100_000) as usize;
    let mut buf = vec![1; len];
    p.try_run(|t, fs, env| {
        let from = (if other % 2 == 0 { AT_FDCWD } else { other }, root);
        match number {
            0..4 => drop(t.open(fs, env, from, path, OpenFlags(a as u32 & b as u32), 0o644)?),
            4 => drop(t.open(fs, env, from, path, RW, 0o644)?),
            5 => drop(t.read(fs, env, fd, &mut buf)?),
            6 => drop(t.write(fs, env, fd, &buf)?),
            7 => drop(t.pread(fs, env, fd, &mut buf, a)?),
            8 => drop(t.pwrite(fs, env, fd, &buf, a)?),
            9 => drop(t.lseek(fs, env, fd, a, b as u32 % 6)?),
            10 => t.close(fs, env, fd)?,
            11 => drop(t.dup(fd, b, a % 2 == 0)?),
            12 => drop(t.dup3(fs, env, (fd, other), false)?),
            13 => t.close_range(fs, env, (a as u32 % 16, a as u32 % 16 + b as u32 % 2), a % 2 == 0)?,
            14 => drop(t.pipe(fs, env, OpenFlags(a as u32 & 0o4000))?),
            15 => t.truncate(fs, env, fd, a)?,
            16 => t.fallocate(fs, env, fd, other as u32 & 0x13, (a, b as i64))?,
            17 => drop(t.ioctl(fs, env, fd, 0x5400 | (a as u32 % 0x80), 0, &[0; 40])?),
            18 => drop(t.fcntl(fs, env, fd, (a as u32, b), &[0; 32])?),
            19 => drop(t.poll(fs, env, fd, a as u16)?),
            20 => drop(t.copy_file_range(fs, env, (fd, Some(a)), (other, None), len as u64)?),
            21 => drop(t.sendfile(fs, env, fd, (other, None), b)?),
            22 => drop(t.getdents(fs, env, fd, (len, DirFormat::Large))?),
            23 => drop(t.stat(fs, env, fd)?),
            24 => drop(fs.mkdir(env, t.at(from.0, root, path)?, path, b as u32)?),
            25 => fs.unlink(env, t.at(from.0, root, path)?, path)?,
            26 => {
                let at = t.at(from.0, root, path)?;
                fs.rename(env, (at, path), (at, b"/d/f"), a % 2 == 0)?;
            }
            27 => drop(fs.mknod(env, t.at(from.0, root, path)?, path, 0o010_644)?),
            28 => {
                let id = t.lookup_at(fs, env, from, path, b as u32)?;
                fs.make_shared(env, id)?;
            }
            29 => {
                let id = t.lookup_at(fs, env, from, path, b as u32)?;
                let content = fs.freeze(env, id)?;
                fs.read_frozen(env, content, a as u64, &mut buf)?;
                fs.release_frozen(content);
                fs.make_unshared(env, id)?;
            }
            30 => drop(fs.symlink(env, t.at(from.0, root, path)?, b"/link", path)?),
            31 => t.flock(fd, b as u32 % 16)?,
            32 => {
                let mut lock = [0; 32];
                lock[0] = b as u8 % 3;
                lock[8..16].copy_from_slice(&a.to_le_bytes());
                lock[16..24].copy_from_slice(&(b as i64 >> 3).to_le_bytes());
                let command = [5, 6, 36, 37][other as usize % 4];
                drop(t.fcntl(fs, env, fd, (command, 0), &lock)?);
            }
            33 => drop(t.memfd(fs, env, path, (0o777, a as u32 % 64), false)?),
            34 => drop(t.fcntl(fs, env, fd, (1033, b % 64), &[])?),
            35 => {
                let id = t.lookup_at(fs, env, from, path, 0)?;
                fs.set_xattr(env, id, b"user.a", buf, a as u32 % 4)?;
            }
            36 => {
                let id = t.lookup_at(fs, env, from, path, 0)?;
                fs.remove_xattr(env, id, b"user.a")?;
            }
            37 => {
                let at = t.at(from.0, root, path)?;
                fs.exchange(env, (at, path), (at, b"/d/f"))?;
            }
            38 => {
                let flags = OpenFlags(b as u32 & 0o1102);
                t.open_within(fs, env, from, path, (flags, 0o600), Scope(a as u64 % 32))?;
            }
            _ => t.close_on_exec(fs, env)?,
        }
        Ok(())
    })
}

proptest! {
    #[test]
    fn no_call_panics(calls in prop::collection::vec(call(), 1..80), files in any::<bool>()) {
        let mut p = program(files);
        for (n, call) in calls.iter().enumerate() {
            let failed = make(&mut p, call);
            prop_assert!(!matches!(failed, Err(FsError::World(_) | FsError::Machine(_))));
            // What a snapshot in the middle gives goes on in the same way.
            if n == calls.len() / 2 {
                (p.bench.fs, p.table) = restored(&p.bench.fs, &p.table);
            }
        }
        prop_assert_eq!(p.bench.fs.check(), Ok(()));
        prop_assert_eq!(p.table.check(&p.bench.fs), Ok(()));
        p.run(|t, fs, env| t.close_range(fs, env, (0, u32::MAX), false)).unwrap();
        prop_assert_eq!(p.bench.fs.check(), Ok(()));
    }

    #[test]
    fn a_damaged_state_is_refused_or_harmless(
        first in prop::collection::vec(call(), 1..30),
        then in prop::collection::vec(call(), 1..30),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        files in any::<bool>(),
    ) {
        let mut p = program(files);
        for call in &first {
            let _ = make(&mut p, call);
        }
        let (stored, pages) = store(&p.bench.fs, 100);
        let mut bytes = codec::encode(&(&stored, &p.table)).unwrap();
        for (at, byte) in damage {
            // Inodes come first; the descriptors are at the end.
            let (front, back) = (bytes.len().min(60_000), bytes.len().min(2_000));
            let n = at.index(front + back);
            let at = if n < front { n } else { bytes.len() - (n - front) - 1 };
            bytes[at] = byte;
        }
        let Ok((mut fs, table)) = codec::decode::<(Fs, FdTable)>(&bytes) else { return Ok(()) };
        if fs.check_stored(pages.numbers()).is_err() {
            return Ok(());
        }
        fs.connect(Some(Arc::new(pages)));
        if fs.check().is_err() || table.check(&fs).is_err() {
            return Ok(());
        }
        (p.bench.fs, p.table) = (fs, table);
        for call in &then {
            let _ = make(&mut p, call);
        }
    }
}
