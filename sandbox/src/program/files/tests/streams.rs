//! Tests of the standard streams.

use super::Program;
use crate::errno::Errno;
use crate::program::files::POLLIN;
use crate::program::fs::testing::{HostNode, errno};
use crate::program::fs::{OpenFlags, S_IFCHR, S_IFIFO, S_IFREG, Stdio, StdioKind};
use crate::world::{FileKind, Metadata, STDIN_GRANT, StandardFile};

#[test]
fn standard_streams() {
    let mut p = Program::new();
    p.bench.world.input = [b"line\n".to_vec(), b"more".to_vec()].into();
    p.bench.world.input_open = true;
    assert_eq!(p.read(0, 3).unwrap(), b"lin");
    assert_eq!(p.poll(0, POLLIN), POLLIN);
    assert_eq!(p.ioctl(0, 0x541b, &[]).unwrap(), 2u32.to_le_bytes());
    assert_eq!(p.read(0, 100).unwrap(), b"e\n");
    assert_eq!(p.read(0, 100).unwrap(), b"more");
    assert_eq!(p.poll(0, POLLIN), 0);
    p.fcntl(0, 4, OpenFlags::NONBLOCK.0.into()).unwrap();
    assert_eq!(p.read(0, 1), Err(Errno::EAGAIN));
    p.bench.world.input_open = false;
    assert_eq!(p.poll(0, POLLIN), POLLIN);
    assert_eq!(p.read(0, 1).unwrap(), b"");
    assert_eq!(p.write(1, b"out"), Ok(3));
    p.bench.world.output_max = Some(2);
    assert_eq!(p.write(2, b"err"), Ok(2));
    assert_eq!((&p.bench.world.stdout[..], &p.bench.world.stderr[..]), (&b"out"[..], &b"er"[..]));
    assert_eq!(p.write(0, b"x"), Err(Errno::EBADF));
    assert_eq!(p.read(1, 1), Err(Errno::EBADF));
    assert_eq!(p.ioctl(1, 0x5401, &[]), Err(Errno::ENOTTY));
    assert_eq!(p.run(|t, fs, env| t.stat(fs, env, 0)).unwrap().kind(), S_IFIFO);
}

#[test]
fn terminals() {
    let tty = StdioKind::Tty { rows: 30, cols: 100 };
    let mut p = Program::with(Stdio { stdin: tty, stdout: tty, stderr: StdioKind::Null, merged: false });
    assert_eq!(p.ioctl(0, 0x5401, &[]).unwrap().len(), 36);
    assert_eq!(p.ioctl(1, 0x5413, &[]).unwrap(), [30, 0, 100, 0, 0, 0, 0, 0]);
    assert_eq!(p.ioctl(2, 0x5401, &[]), Err(Errno::ENOTTY));
    p.ioctl(0, 0x5402, &[7; 36]).unwrap();
    assert_eq!(p.ioctl(1, 0x5401, &[]).unwrap(), [7; 36]);
    assert_eq!(p.ioctl(0, 0x5402, &[7; 3]), Err(Errno::EFAULT));
    assert_eq!(p.ioctl(0, 0x540f, &[]).unwrap(), 2u32.to_le_bytes());
    let stat = p.run(|t, fs, env| t.stat(fs, env, 1)).unwrap();
    assert_eq!(stat.kind(), S_IFCHR);
    // `ttyname` compares what the link leads to.
    assert_eq!(p.bench.fs.path_of(errno(p.table.get(0)).unwrap().inode()), b"/dev/pts/0");
    assert_eq!(p.bench.stat("/dev/pts/0").unwrap(), stat);
    let fd = p.open("/dev/tty", OpenFlags::RDWR).unwrap();
    assert_eq!(p.write(fd, b"prompt"), Ok(6));
    assert_eq!(p.bench.world.stdout, b"prompt");
    assert_eq!(p.write(2, b"gone"), Ok(4));
    assert!(p.bench.world.stderr.is_empty());
}

#[test]
fn merged_streams_are_one_description() {
    let mut p = Program::with(Stdio { merged: true, ..Stdio::default() });
    assert_eq!(p.write(1, b"a"), Ok(1));
    assert_eq!(p.write(2, b"b"), Ok(1));
    assert_eq!(p.bench.world.stdout, b"ab");
    p.fcntl(2, 4, OpenFlags::NONBLOCK.0.into()).unwrap();
    assert_eq!(p.fcntl(1, 3, 0), Ok(0o4001));
    p.close(2).unwrap();
    assert_eq!(p.write(1, b"c"), Ok(1));
}

pub(super) fn file(size: u64, position: u64, append: bool) -> StdioKind {
    let metadata =
        Metadata { kind: FileKind::Regular, mode: 0o640, uid: 3, gid: 4, nlink: 1, size, mtime: 1_000 };
    StdioKind::File(StandardFile { metadata, position, append })
}

#[test]
fn input_from_a_file() {
    let mut p = Program::with(Stdio { stdin: file(10, 2, false), ..Stdio::default() });
    p.bench.world.nodes.insert((STDIN_GRANT, Vec::new()), HostNode::File(b"0123456789".to_vec()));
    let stat = p.run(|t, fs, env| t.stat(fs, env, 0)).unwrap();
    assert_eq!((stat.mode, stat.size, stat.uid, stat.mtime), (S_IFREG | 0o640, 10, 3, 1_000));
    assert_eq!(p.read(0, 3).unwrap(), b"234");
    assert_eq!(p.bench.world.asked.pop().unwrap(), "seek input 5");
    assert_eq!(p.run(|t, fs, env| t.lseek(fs, env, 0, -1, 2)), Ok(9));
    assert_eq!(p.bench.world.asked.pop().unwrap(), "seek input 9");
    // A description of its own has a position of its own.
    let fd = p.open("/dev/stdin", OpenFlags::RDWR).unwrap();
    assert_eq!(p.read(fd, 2).unwrap(), b"01");
    assert_eq!(p.write(fd, b"xx"), Ok(2));
    assert!(!p.bench.world.asked.iter().any(|asked| asked.starts_with("seek")));
    assert_eq!(p.read(0, 9).unwrap(), b"9");
    assert_eq!(p.bench.fs.check(), Ok(()));
    // What is longer than files can be looks like a pipe.
    let mut p = Program::with(Stdio { stdin: file(u64::MAX, 0, false), ..Stdio::default() });
    assert_eq!(p.run(|t, fs, env| t.stat(fs, env, 0)).unwrap().kind(), S_IFIFO);
}

#[test]
fn output_to_a_file() {
    let mut p =
        Program::with(Stdio { stdout: file(3, 3, false), stderr: file(5, 0, true), ..Stdio::default() });
    (p.bench.world.stdout, p.bench.world.stderr) = (b"old".to_vec(), b"older".to_vec());
    assert_eq!(p.write(1, b"new"), Ok(3));
    assert_eq!(p.run(|t, fs, env| t.lseek(fs, env, 1, 4, 0)), Ok(4));
    assert_eq!(p.bench.world.asked.pop().unwrap(), "seek Stdout 4");
    assert_eq!(p.run(|t, fs, env| t.pwrite(fs, env, 1, b"E", 4).map(|_| ())), Ok(()));
    assert_eq!(p.bench.world.stdout, b"oldnEw");
    // What was there before is not the guest's.
    for offset in [0, 2] {
        assert_eq!(p.run(|t, fs, env| t.pwrite(fs, env, 1, b"x", offset).map(|_| ())), Err(Errno::EPERM));
        assert_eq!(p.run(|t, fs, env| t.truncate(fs, env, 1, offset)), Err(Errno::EPERM));
    }
    let anew = p.open("/dev/stdout", OpenFlags::WRONLY | OpenFlags::TRUNC).unwrap();
    assert_eq!(p.bench.world.stdout, b"old");
    assert_eq!(p.write(anew, b"nEw"), Ok(3));
    assert_eq!(p.bench.world.stdout, b"oldnEw");
    assert_eq!(p.open("/dev/stdout", OpenFlags::RDWR), Err(Errno::EACCES));
    assert_eq!(p.run(|t, fs, env| t.truncate(fs, env, 1, 5)), Ok(()));
    assert_eq!(p.bench.world.stdout, b"oldnE");
    assert_eq!(p.write(2, b"st"), Ok(2));
    assert_eq!(p.bench.world.stderr, b"olderst");
    assert_eq!(p.run(|t, fs, env| t.lseek(fs, env, 2, 0, 1)), Ok(7));
    assert_eq!(p.read(1, 1), Err(Errno::EBADF));
    let stat = p.run(|t, fs, env| t.stat(fs, env, 2)).unwrap();
    assert_eq!((stat.kind(), stat.size), (S_IFREG, 7));
    assert_eq!(p.run(|_, fs, env| fs.sync_outputs(env)), Ok(()));
    let synced = p.bench.world.asked.iter().filter(|asked| asked.starts_with("sync ")).count();
    assert_eq!(synced, 2);
    // Content that is outside is neither moved into memory nor reserved.
    assert_eq!(p.run(|t, fs, env| t.fallocate(fs, env, 1, 3, (0, 5))), Err(Errno::EOPNOTSUPP));
    assert_eq!(p.run(|t, fs, env| t.fallocate(fs, env, 1, 0, (0, 8))), Ok(()));
    assert_eq!(p.bench.world.stdout.len(), 8);
    assert_eq!(p.bench.fs.check(), Ok(()));
}
