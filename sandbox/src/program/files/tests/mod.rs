//! Tests of descriptors.

mod random;
mod streams;

use super::*;
use crate::errno::Errno;
use crate::program::fs::DirFormat;
use crate::program::fs::testing::{Bench, errno, records, restored};
use crate::program::fs::{
    Anon, Env, Event, Fs, FsError, FsResult, IoOutcome, MAX_FILE, OpenFlags, S_IFIFO, Stdio,
};
use dejavm_snapshot::codec;

const RW: OpenFlags = OpenFlags(OpenFlags::RDWR.0 | OpenFlags::CREAT.0);

/// A file system and the descriptors of a program.
#[derive(Clone)]
struct Program {
    bench: Bench,
    table: FdTable,
}

impl Program {
    fn new() -> Program {
        Program::with(Stdio::default())
    }

    fn with(stdio: Stdio) -> Program {
        let mut bench = Bench::with_stdio(stdio);
        let table = FdTable::with_stdio(&mut bench.fs);
        Program { bench, table }
    }

    fn run<T>(
        &mut self,
        act: impl FnOnce(&mut FdTable, &mut Fs, &mut Env<'_>) -> FsResult<T>,
    ) -> Result<T, Errno> {
        errno(self.try_run(act))
    }

    fn try_run<T>(
        &mut self,
        act: impl FnOnce(&mut FdTable, &mut Fs, &mut Env<'_>) -> FsResult<T>,
    ) -> FsResult<T> {
        let mut env = Env { world: &mut self.bench.world, caller: &mut self.bench.kernel };
        act(&mut self.table, &mut self.bench.fs, &mut env)
    }

    fn open(&mut self, path: &str, flags: OpenFlags) -> Result<i32, Errno> {
        let root = self.bench.fs.root();
        self.run(|t, fs, env| t.open(fs, env, (AT_FDCWD, root), path.as_bytes(), flags, 0o644))
    }

    fn close(&mut self, fd: i32) -> Result<(), Errno> {
        self.run(|t, fs, env| t.close(fs, env, fd))
    }

    fn read(&mut self, fd: i32, len: usize) -> Result<Vec<u8>, Errno> {
        let mut buf = vec![0; len];
        let n = self.run(|t, fs, env| t.read(fs, env, fd, &mut buf))?;
        buf.truncate(n);
        Ok(buf)
    }

    fn write(&mut self, fd: i32, data: &[u8]) -> Result<usize, Errno> {
        match self.run(|t, fs, env| t.write(fs, env, fd, data))? {
            IoOutcome::Done(n) => Ok(n),
            other => panic!("{other:?}"),
        }
    }

    fn lseek(&mut self, fd: i32, offset: i64, whence: u32) -> Result<i64, Errno> {
        self.run(|t, fs, env| t.lseek(fs, env, fd, offset, whence))
    }

    fn poll(&mut self, fd: i32, events: u16) -> u16 {
        self.run(|t, fs, env| t.poll(fs, env, fd, events)).unwrap()
    }

    fn ioctl(&mut self, fd: i32, request: u32, input: &[u8]) -> Result<Vec<u8>, Errno> {
        self.run(|t, fs, env| t.ioctl(fs, env, fd, request, 0, input)).map(|answer| answer.output)
    }

    fn fcntl(&mut self, fd: i32, command: u32, arg: u64) -> Result<i64, Errno> {
        self.run(|t, fs, env| t.fcntl(fs, env, fd, (command, arg), &[])).map(|answer| answer.value)
    }
}

#[test]
fn numbers() {
    let mut p = Program::new();
    assert_eq!(p.open("/f", RW), Ok(3));
    assert_eq!(p.open("/f", RW | OpenFlags::CLOEXEC), Ok(4));
    p.close(3).unwrap();
    assert_eq!(p.close(3), Err(Errno::EBADF));
    assert_eq!(p.close(-1), Err(Errno::EBADF));
    assert_eq!(p.close(i32::MAX), Err(Errno::EBADF));
    assert_eq!(errno(p.table.dup(4, 0, false)), Ok(3));
    assert_eq!(errno(p.table.dup(4, 1000, true)), Ok(1000));
    assert_eq!(errno(p.table.dup(4, 1024, true)), Err(Errno::EINVAL));
    assert_eq!(errno(p.table.dup(4, u64::MAX, true)), Err(Errno::EINVAL));
    assert_eq!(p.run(|t, fs, env| t.dup2(fs, env, 4, 9)), Ok(9));
    assert_eq!(p.run(|t, fs, env| t.dup2(fs, env, 4, 4)), Ok(4));
    assert_eq!(p.run(|t, fs, env| t.dup2(fs, env, 77, 77)), Err(Errno::EBADF));
    assert_eq!(p.run(|t, fs, env| t.dup2(fs, env, 4, 1024)), Err(Errno::EBADF));
    assert_eq!(p.run(|t, fs, env| t.dup2(fs, env, 4, -1)), Err(Errno::EBADF));
    assert_eq!(p.run(|t, fs, env| t.dup3(fs, env, (4, 4), false)), Err(Errno::EINVAL));
    assert!(errno(p.table.cloexec(4)).unwrap());
    assert!(!errno(p.table.cloexec(9)).unwrap());
    p.run(|t, fs, env| t.close_on_exec(fs, env)).unwrap();
    assert_eq!(p.close(4), Err(Errno::EBADF));
    assert_eq!(p.close(1000), Err(Errno::EBADF));
    p.run(|t, fs, env| t.close_range(fs, env, (3, u32::MAX), false)).unwrap();
    assert_eq!(p.close(9), Err(Errno::EBADF));
    let wrong = p.run(|t, fs, env| t.close_range(fs, env, (4, 3), false));
    assert_eq!(wrong, Err(Errno::EINVAL));
}

#[test]
fn the_limit_is_kept() {
    let mut p = Program::new();
    for fd in 3..1024 {
        assert_eq!(p.open("/tmp", OpenFlags::RDONLY), Ok(fd));
    }
    assert_eq!(p.open("/made", RW), Err(Errno::EMFILE));
    // The failing call made no file.
    assert_eq!(p.bench.lookup("/made"), Err(Errno::ENOENT));
    assert_eq!(p.run(|t, fs, env| t.pipe(fs, env, OpenFlags(0))), Err(Errno::EMFILE));
    p.close(500).unwrap();
    assert_eq!(p.run(|t, fs, env| t.pipe(fs, env, OpenFlags(0))), Err(Errno::EMFILE));
    p.table.set_limit(0, u64::MAX);
    assert_eq!(p.run(|t, fs, env| t.pipe(fs, env, OpenFlags(0))), Ok((500, 1024)));
    p.table.set_limit(0, 10);
    assert_eq!(p.open("/tmp", OpenFlags::RDONLY), Err(Errno::EMFILE));
    p.close(1024).unwrap();
}

#[test]
fn positions_are_shared_by_duplicates() {
    let mut p = Program::new();
    let fd = p.open("/f", RW).unwrap();
    let other = p.open("/f", RW).unwrap();
    let twin = errno(p.table.dup(fd, 0, false)).unwrap();
    assert_eq!(p.write(fd, b"hello "), Ok(6));
    assert_eq!(p.write(twin, b"world"), Ok(5));
    assert_eq!(p.read(other, 100).unwrap(), b"hello world");
    assert_eq!(p.lseek(twin, 0, 1), Ok(11));
    assert_eq!(p.lseek(twin, -5, 2), Ok(6));
    assert_eq!(p.read(fd, 3).unwrap(), b"wor");
    p.close(fd).unwrap();
    assert_eq!(p.read(twin, 3).unwrap(), b"ld");
    let append = p.open("/f", OpenFlags::WRONLY | OpenFlags::APPEND).unwrap();
    p.lseek(append, 0, 0).unwrap();
    assert_eq!(p.write(append, b"!"), Ok(1));
    assert_eq!(p.lseek(append, 0, 1), Ok(12));
    let at = p.run(|t, fs, env| t.pwrite(fs, env, append, b"?", 0)).unwrap();
    assert_eq!(at, IoOutcome::Done(1));
    assert_eq!(p.bench.cat("/f").unwrap(), b"hello world!?");
}

#[test]
fn access_modes() {
    let mut p = Program::new();
    p.bench.put("/f", b"x").unwrap();
    let reader = p.open("/f", OpenFlags::RDONLY).unwrap();
    let writer = p.open("/f", OpenFlags::WRONLY).unwrap();
    let path = p.open("/f", OpenFlags::PATH | OpenFlags::CLOEXEC).unwrap();
    let dir = p.open("/tmp", OpenFlags::RDONLY).unwrap();
    assert_eq!(p.write(reader, b"y"), Err(Errno::EBADF));
    assert_eq!(p.read(writer, 1), Err(Errno::EBADF));
    assert_eq!(p.read(path, 1), Err(Errno::EBADF));
    assert_eq!(p.read(dir, 1), Err(Errno::EISDIR));
    assert_eq!(p.lseek(path, 0, 0), Err(Errno::EBADF));
    assert_eq!(p.fcntl(path, 4, 0), Err(Errno::EBADF));
    assert_eq!(p.fcntl(path, 3, 0), Ok(OpenFlags::PATH.0.into()));
    assert_eq!(p.fcntl(writer, 3, 0), Ok(0o100_001));
    assert_eq!(p.fcntl(writer, 4, u64::MAX), Ok(0));
    assert_eq!(p.fcntl(writer, 3, 0), Ok(0o1_146_001));
    assert_eq!(p.run(|t, fs, env| t.truncate(fs, env, reader, 0)), Err(Errno::EINVAL));
    assert_eq!(p.run(|t, fs, env| t.truncate(fs, env, writer, 0)), Ok(()));
    assert_eq!(p.run(|t, fs, env| t.fallocate(fs, env, reader, 0, (0, 1))), Err(Errno::EBADF));
    assert_eq!(p.run(|t, fs, env| t.getdents(fs, env, reader, (100, DirFormat::Large))), Err(Errno::ENOTDIR));
    assert!(p.run(|t, fs, env| t.stat(fs, env, path)).is_ok());
}

#[test]
fn offsets_have_limits() {
    let mut p = Program::new();
    let fd = p.open("/f", RW).unwrap();
    assert_eq!(p.lseek(fd, -1, 0), Err(Errno::EINVAL));
    let longest = MAX_FILE as i64;
    assert_eq!(p.lseek(fd, i64::MAX, 0), Err(Errno::EINVAL));
    assert_eq!(p.lseek(fd, longest, 0), Ok(longest));
    assert_eq!(p.lseek(fd, 1, 1), Err(Errno::EINVAL));
    assert_eq!(p.lseek(fd, 0, 9), Err(Errno::EINVAL));
    assert_eq!(p.write(fd, b"x"), Err(Errno::EFBIG));
    assert_eq!(p.read(fd, 10), Ok(Vec::new()));
    let pread = |p: &mut Program, fd, at| p.run(|t, fs, env| t.pread(fs, env, fd, &mut [0], at));
    assert_eq!(pread(&mut p, fd, -1), Err(Errno::EINVAL));
    assert_eq!(pread(&mut p, fd, i64::MAX), Ok(0));
    assert_eq!(p.run(|t, fs, env| t.truncate(fs, env, fd, i64::MAX)), Err(Errno::EFBIG));
    let (r, _) = p.run(|t, fs, env| t.pipe(fs, env, OpenFlags(0))).unwrap();
    assert_eq!(pread(&mut p, r, 0), Err(Errno::ESPIPE));
    assert_eq!(p.lseek(r, 0, 0), Err(Errno::ESPIPE));
    let null = p.open("/dev/null", OpenFlags::RDWR).unwrap();
    assert_eq!(p.lseek(null, 5, 0), Ok(0));
    assert_eq!(pread(&mut p, null, 9), Ok(0));
}

#[test]
fn pipes() {
    let mut p = Program::new();
    let (r, w) = p.run(|t, fs, env| t.pipe(fs, env, OpenFlags(0))).unwrap();
    assert!(matches!(p.try_run(|t, fs, env| t.read(fs, env, r, &mut [0])), Err(FsError::Block(_))));
    assert_eq!(p.poll(r, POLLIN), 0);
    assert_eq!(p.poll(w, POLLIN | POLLOUT), POLLOUT);
    assert_eq!(p.write(w, b"abc"), Ok(3));
    assert_eq!(p.poll(r, POLLIN | POLLOUT), POLLIN);
    assert_eq!(p.ioctl(r, 0x541b, &[]).unwrap(), 3u32.to_le_bytes());
    assert_eq!(p.read(r, 2).unwrap(), b"ab");
    assert_eq!(p.write(r, b"x"), Err(Errno::EBADF));
    let big = vec![1; 100_000];
    let outcome = p.run(|t, fs, env| t.write(fs, env, w, &big)).unwrap();
    // By buffers: what is no whole number of them goes to the one that is there, the rest into fifteen.
    assert_eq!(outcome, IoOutcome::Partial(63_136));
    assert_eq!(p.poll(w, POLLOUT), 0);
    p.fcntl(w, 4, OpenFlags::NONBLOCK.0.into()).unwrap();
    assert_eq!(p.write(w, &[2; 4096]), Err(Errno::EAGAIN));
    assert_eq!(p.read(r, 70_000).unwrap().len(), 63_137);
    assert_eq!(p.write(w, &big), Ok(65_536));
    p.close(w).unwrap();
    assert_eq!(p.poll(r, POLLIN), POLLIN | POLLHUP);
    assert_eq!(p.read(r, 70_000).unwrap().len(), 65_536);
    assert_eq!(p.read(r, 1).unwrap(), b"");
    assert_eq!(p.poll(r, POLLIN), POLLHUP);
    let (r, w) = p.run(|t, fs, env| t.pipe(fs, env, OpenFlags::NONBLOCK)).unwrap();
    assert_eq!(p.read(r, 1), Err(Errno::EAGAIN));
    let stat = p.run(|t, fs, env| t.stat(fs, env, r)).unwrap();
    assert_eq!(stat.kind(), S_IFIFO);
    p.close(r).unwrap();
    assert_eq!(p.write(w, b"x"), Err(Errno::EPIPE));
    assert_eq!(p.poll(w, 0), POLLERR);
    assert_eq!(p.poll(99, POLLIN), POLLNVAL);
    assert_eq!(p.run(|t, fs, env| t.pipe(fs, env, OpenFlags(1))), Err(Errno::EINVAL));
    assert_eq!(p.fcntl(w, 1032, 0), Ok(65_536));
}

#[test]
fn fifos_wait_for_both_ends() {
    let mut p = Program::new();
    p.bench.run(|fs, env, at| fs.mknod(env, at, b"/fifo", 0o010_644)).unwrap();
    let root = p.bench.fs.root();
    let open = |p: &mut Program, flags| {
        p.try_run(|t, fs, env| t.open(fs, env, (AT_FDCWD, root), b"/fifo", flags, 0))
    };
    let nonblock = OpenFlags::WRONLY | OpenFlags::NONBLOCK;
    assert_eq!(errno(open(&mut p, nonblock)), Err(Errno::ENXIO));
    assert!(matches!(open(&mut p, OpenFlags::RDONLY), Err(FsError::Block(_))));
    let w = open(&mut p, OpenFlags::WRONLY).unwrap();
    let r = open(&mut p, OpenFlags::RDONLY).unwrap();
    assert_eq!(p.write(w, b"through"), Ok(7));
    assert_eq!(p.read(r, 10).unwrap(), b"through");
    p.close(w).unwrap();
    assert_eq!(p.read(r, 10).unwrap(), b"");
    p.close(r).unwrap();
    let both = open(&mut p, OpenFlags::RDWR).unwrap();
    assert_eq!(p.write(both, b"x"), Ok(1));
    p.close(both).unwrap();
    p.bench.unlink("/fifo").unwrap();
}

#[test]
fn descriptors_as_files() {
    let mut p = Program::new();
    p.bench.put("/f", b"abc").unwrap();
    let fd = p.open("/f", OpenFlags::RDONLY).unwrap();
    assert_eq!(p.read(fd, 2).unwrap(), b"ab");
    let again = p.open(&format!("/proc/self/fd/{fd}"), OpenFlags::RDONLY).unwrap();
    assert_eq!(p.read(again, 9).unwrap(), b"abc");
    let (r, w) = p.run(|t, fs, env| t.pipe(fs, env, OpenFlags(0))).unwrap();
    let end = p.open(&format!("/dev/fd/{w}"), OpenFlags::WRONLY).unwrap();
    p.close(w).unwrap();
    assert_eq!(p.write(end, b"x"), Ok(1));
    assert_eq!(p.read(r, 1).unwrap(), b"x");
    let out = p.open("/dev/stdout", OpenFlags::WRONLY).unwrap();
    assert_eq!(p.write(out, b"printed"), Ok(7));
    assert_eq!(p.bench.world.stdout, b"printed");
    let dir = p.open("/proc/self/fd", OpenFlags::RDONLY).unwrap();
    let bytes = p.run(|t, fs, env| t.getdents(fs, env, dir, (4096, DirFormat::Large))).unwrap();
    assert_eq!(records(&bytes).len(), 2 + 3 + 6);
    let root = p.bench.fs.root();
    let relative = p.run(|t, fs, env| t.lookup_at(fs, env, (dir, root), b"0", 0));
    assert!(relative.is_ok());
    let bad = p.run(|t, fs, env| t.lookup_at(fs, env, (fd, root), b"x", 0));
    assert_eq!(bad, Err(Errno::ENOTDIR));
    let bad = p.run(|t, fs, env| t.lookup_at(fs, env, (88, root), b"x", 0));
    assert_eq!(bad, Err(Errno::EBADF));
    let bad = p.run(|t, fs, env| t.lookup_at(fs, env, (88, root), b"/tmp", 0));
    assert!(bad.is_ok());
    let own = p.run(|t, fs, env| t.lookup_at(fs, env, (fd, root), b"", AT_EMPTY_PATH));
    assert_eq!(own, Ok(errno(p.table.get(fd)).unwrap().inode()));
}

#[test]
fn devices() {
    let mut p = Program::new();
    let open = |p: &mut Program, name| p.open(&format!("/dev/{name}"), OpenFlags::RDWR).unwrap();
    let (zero, full, random) = (open(&mut p, "zero"), open(&mut p, "full"), open(&mut p, "random"));
    assert_eq!(p.read(zero, 3).unwrap(), [0; 3]);
    assert_eq!(p.write(full, b"x"), Err(Errno::ENOSPC));
    assert_eq!(p.read(random, 3).unwrap(), [4; 3]);
    assert_eq!(p.ioctl(random, 0x5401, &[]), Err(Errno::EINVAL));
    assert_eq!(p.ioctl(zero, 0x5401, &[]), Err(Errno::ENOTTY));
    let control = open(&mut p, "dejavm");
    let outcome = p.run(|t, fs, env| t.write(fs, env, control, b"snapshot")).unwrap();
    assert_eq!(outcome, IoOutcome::Control(b"snapshot".to_vec()));
    assert_eq!(p.poll(zero, POLLIN | POLLOUT), POLLIN | POLLOUT);
}

#[test]
fn copying() {
    let mut p = Program::new();
    p.bench.put("/a", b"0123456789").unwrap();
    let a = p.open("/a", OpenFlags::RDWR).unwrap();
    let b = p.open("/b", RW).unwrap();
    let copy = |p: &mut Program, from, to, len| p.run(|t, fs, env| t.copy_file_range(fs, env, from, to, len));
    let copied = copy(&mut p, (a, Some(2)), (b, None), 5).unwrap();
    assert_eq!(copied, Copied { bytes: 5, input_offset: Some(7), output_offset: None });
    assert_eq!(p.bench.cat("/b").unwrap(), b"23456");
    assert_eq!(p.lseek(a, 0, 1), Ok(0));
    assert_eq!(copy(&mut p, (a, None), (b, Some(100)), u64::MAX).unwrap().bytes, 10);
    assert_eq!(copy(&mut p, (a, None), (b, None), 5).unwrap().bytes, 0);
    assert_eq!(copy(&mut p, (a, Some(0)), (a, Some(5)), 6), Err(Errno::EINVAL));
    assert_eq!(copy(&mut p, (a, Some(-1)), (b, None), 6), Err(Errno::EINVAL));
    assert_eq!(copy(&mut p, (a, Some(0)), (1, None), 6), Err(Errno::EINVAL));
    let sent = p.run(|t, fs, env| t.sendfile(fs, env, 1, (a, Some(8)), 100)).unwrap();
    assert_eq!(sent.bytes, 2);
    assert_eq!(p.bench.world.stdout, b"89");
    let wrong = p.run(|t, fs, env| t.sendfile(fs, env, a, (0, None), 100));
    assert_eq!(wrong, Err(Errno::EINVAL));
}

#[test]
fn locks_are_granted() {
    let mut p = Program::new();
    let fd = p.open("/f", OpenFlags::WRONLY | OpenFlags::CREAT).unwrap();
    let mut lock = vec![0; 32];
    let lock_it =
        |p: &mut Program, command, lock: &[u8]| p.run(|t, fs, env| t.fcntl(fs, env, fd, (command, 0), lock));
    assert_eq!(lock_it(&mut p, 6, &lock), Err(Errno::EBADF));
    lock[0] = 1;
    assert!(lock_it(&mut p, 6, &lock).is_ok());
    assert_eq!(lock_it(&mut p, 5, &lock).unwrap().output[0], 2);
    assert_eq!(lock_it(&mut p, 5, &lock[..8]), Err(Errno::EFAULT));
    lock[0] = 9;
    assert_eq!(lock_it(&mut p, 6, &lock), Err(Errno::EINVAL));
}

#[test]
fn counters_and_sets_that_watch_them() {
    let mut p = Program::new();
    let flags = OpenFlags::RDWR | OpenFlags::NONBLOCK;
    let counter = Anon::Event(Event { count: 1, semaphore: false });
    let fd = p.run(|t, fs, env| t.install_anon(fs, env, counter, flags)).unwrap();
    let set = p.run(|t, fs, env| t.install_anon(fs, env, Anon::Epoll, flags)).unwrap();
    let control = |p: &mut Program, operation, fd, events| {
        p.run(|t, fs, env| t.epoll_control(fs, env, (set, operation, fd), (events, 7)))
    };
    let ready = |p: &mut Program| p.run(|t, fs, env| t.epoll_ready(fs, env, set, 9)).unwrap();
    const EDGE: u32 = 1 << 31;
    assert_eq!(control(&mut p, 3, fd, 1), Err(Errno::ENOENT));
    assert_eq!(control(&mut p, 1, set, 1), Err(Errno::EINVAL));
    control(&mut p, 1, fd, 1 | EDGE).unwrap();
    assert_eq!(control(&mut p, 1, fd, 1), Err(Errno::EEXIST));
    assert_eq!(ready(&mut p), [(1, 7)]);
    assert_eq!(ready(&mut p), [], "it is told of a change once");
    control(&mut p, 3, fd, 1).unwrap();
    assert_eq!((ready(&mut p), ready(&mut p)), (vec![(1, 7)], vec![(1, 7)]));
    assert_eq!(p.read(fd, 8).unwrap(), 1u64.to_le_bytes());
    assert_eq!((ready(&mut p), p.read(fd, 8)), (vec![], Err(Errno::EAGAIN)));
    p.close(fd).unwrap();
    assert_eq!(control(&mut p, 2, fd, 0), Err(Errno::EBADF));
    p.close(set).unwrap();
}

#[test]
fn everything_is_released() {
    let mut p = Program::new();
    let used = p.bench.fs.overlay_bytes();
    let fd = p.open("/f", RW).unwrap();
    p.write(fd, &[1; 10_000]).unwrap();
    p.bench.unlink("/f").unwrap();
    p.run(|t, fs, env| t.close_range(fs, env, (0, u32::MAX), false)).unwrap();
    assert_eq!(p.bench.fs.overlay_bytes(), used);
}

#[test]
fn a_snapshot_keeps_descriptors() {
    let mut p = Program::new();
    let fd = p.open("/f", RW).unwrap();
    p.write(fd, b"some bytes").unwrap();
    p.bench.unlink("/f").unwrap();
    p.lseek(fd, 5, 0).unwrap();
    let (r, w) = p.run(|t, fs, env| t.pipe(fs, env, OpenFlags(0))).unwrap();
    p.write(w, b"in flight").unwrap();
    let dir = p.open("/", OpenFlags::RDONLY).unwrap();
    p.run(|t, fs, env| t.getdents(fs, env, dir, (60, DirFormat::Large))).unwrap();
    let mut q = p.clone();
    (q.bench.fs, q.table) = restored(&p.bench.fs, &p.table);
    let mut rest = Vec::new();
    for p in [&mut p, &mut q] {
        assert_eq!(p.read(fd, 10).unwrap(), b"bytes");
        assert_eq!(p.read(r, 100).unwrap(), b"in flight");
        rest.push(p.run(|t, fs, env| t.getdents(fs, env, dir, (4096, DirFormat::Large))).unwrap());
        p.close(fd).unwrap();
        p.close(w).unwrap();
        assert_eq!(p.open("/new", RW), Ok(fd));
    }
    assert_eq!(rest[0], rest[1]);
    let end = |p: &Program| codec::encode(&(&p.bench.fs, &p.table)).unwrap();
    assert_eq!(end(&p), end(&q));
}

/// Descriptions in messages are held by them, and by nobody else when all that could receive them are there.
#[test]
fn descriptors_in_messages() {
    use crate::program::net::{Extras, Kind, Take, Ucred};
    let who = Ucred { pid: 2, uid: 0, gid: 0 };
    let mut p = Program::new();
    let sound = |p: &Program| {
        assert_eq!(p.bench.fs.check(), Ok(()));
        assert_eq!(p.table.check(&p.bench.fs), Ok(()));
    };
    let pair = |p: &mut Program| {
        p.run(|t, fs, env| t.socket_pair(fs, env, Kind::Datagram, OpenFlags(0), who)).unwrap()
    };
    let pass = |p: &mut Program, to: i32, fds: &[i32]| {
        p.run(|t, fs, _| {
            let passed = t.to_pass(fds)?;
            let inode = t.get(to)?.inode();
            let extras = Extras { sender: who, creds: None, passed, limit: 1024 };
            fs.with_sockets(|sockets| sockets.send_packet(inode, None, b"x", &extras, true))?;
            t.pass(&extras.passed);
            Ok(())
        })
    };
    let before = p.bench.fs.overlay_bytes();
    let [one, other] = pair(&mut p);
    let file = p.open("/file", RW).unwrap();
    pass(&mut p, one, &[file, file]).unwrap();
    p.close(file).unwrap();
    sound(&p);
    let received = p
        .run(|t, fs, env| {
            let inode = t.get(other)?.inode();
            let mut buf = [0; 1];
            let received = fs.with_sockets(|sockets| sockets.receive(inode, &mut buf, Take::default()))?;
            let fd = t.install_passed(received.passed[0], true)?;
            t.settle(fs, env)?;
            Ok(fd)
        })
        .unwrap();
    sound(&p);
    assert_eq!(p.run(|t, _, _| t.cloexec(received)), Ok(true));
    p.close(received).unwrap();
    // Each is in the other's queue, and in its own.
    for _ in 0..3 {
        let [third, fourth] = pair(&mut p);
        pass(&mut p, one, &[third, other]).unwrap();
        pass(&mut p, third, &[one, fourth]).unwrap();
        p.close(third).unwrap();
        p.close(fourth).unwrap();
        sound(&p);
    }
    p.close(one).unwrap();
    sound(&p);
    assert!(p.bench.fs.sockets().any_lost() || p.bench.fs.overlay_bytes() < before + 20_000);
    p.close(other).unwrap();
    p.run(|t, fs, env| t.collect(fs, env)).unwrap();
    sound(&p);
    p.bench.unlink("/file").unwrap();
    assert_eq!(p.bench.fs.overlay_bytes(), before);
}
