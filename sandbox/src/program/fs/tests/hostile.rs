//! Guests and answers that mean no good.

use crate::errno::Errno;
use crate::program::fs::DirFormat;
use crate::program::fs::testing::{Bench, FakeWorld, errno};
use crate::program::fs::{At, Env, NoFds, OpenFlags};
use crate::world::{
    DirEntry, FileKind, Metadata, Request, Response, TerminalAnswer, Wake, Woken, World, WorldError,
};

#[test]
fn names_and_paths_have_limits() {
    let mut b = Bench::empty();
    let name = "n".repeat(255);
    b.mkdir(&format!("/{name}")).unwrap();
    assert_eq!(b.mkdir(&format!("/{name}n")), Err(Errno::ENAMETOOLONG));
    assert_eq!(b.lookup(&format!("/{name}n/x")), Err(Errno::ENAMETOOLONG));
    let path = format!("/{}tmp", "./".repeat(2045));
    assert_eq!(path.len(), 4094);
    assert!(b.lookup(&path).is_ok());
    assert!(b.lookup(&format!("/{path}")).is_ok());
    assert_eq!(b.lookup(&format!("//{path}")), Err(Errno::ENAMETOOLONG));
    assert_eq!(b.mkdir("/a\0b"), Err(Errno::EINVAL));
    assert_eq!(b.symlink(&"t".repeat(4096), "/s"), Err(Errno::ENAMETOOLONG));
    assert_eq!(b.lookup("tmp/../../../../../tmp"), b.lookup("/tmp"));
}

#[test]
fn deep_trees_are_only_deep() {
    let mut b = Bench::with_quota(4 << 20);
    let mut base = b.fs.root();
    let mut depth = 0;
    loop {
        let at = At { base, fds: &NoFds };
        let mut env = Env { world: &mut b.world, caller: &mut b.kernel };
        match b.fs.mkdir(&mut env, at, b"d", 0o755) {
            Ok(id) => base = id,
            Err(e) => {
                assert_eq!(errno::<()>(Err(e)), Err(Errno::ENOSPC));
                break;
            }
        }
        depth += 1;
    }
    assert!(depth > 3000);
    assert_eq!(errno(b.fs.getcwd(base)), Err(Errno::ENAMETOOLONG));
    let renamed = b.run(|fs, env, at| fs.rename(env, (at, b"/d"), (At { base, ..at }, b"in"), false));
    assert_eq!(errno(renamed), Err(Errno::EINVAL));
}

#[test]
fn links_to_links_do_not_grow_paths() {
    let mut b = Bench::empty();
    let target = format!("{}x", "./".repeat(2000));
    b.mkdir("/x").unwrap();
    for n in 0..45 {
        let next = format!("{}l{}", &target[..3990], n + 1);
        b.symlink(&next, &format!("/l{n}")).unwrap();
    }
    assert_eq!(b.lookup("/l0/l0/l0"), Err(Errno::ELOOP));
}

#[test]
fn a_whole_mebibyte_of_names_is_listed_by_parts() {
    let mut b = Bench::empty();
    b.mkdir("/d").unwrap();
    for n in 0..600 {
        b.put(&format!("/d/{n:0>200}"), b"").unwrap();
    }
    let id = b.lookup("/d").unwrap();
    let mut cursor = crate::program::fs::DirCursor::default();
    let bytes =
        b.run(|fs, env, at| fs.getdents(env, at, id, &mut cursor, (usize::MAX, DirFormat::Large))).unwrap();
    assert!(bytes.len() <= 1 << 20);
    assert_eq!(b.ls("/d").map(|names| names.len()), Err(Errno::EINVAL));
}

/// Answers everything with what does not fit.
struct Liar(u32);

impl World for Liar {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        self.0 += 1;
        let kinds = [FileKind::Regular, FileKind::Directory, FileKind::Symlink, FileKind::Other];
        let kind = kinds[self.0 as usize % 4];
        Ok(match request {
            Request::Clock => Response::Input(Ok(vec![1; 10])),
            Request::Input { max, .. } => Response::Input(Ok(vec![1; max + 1])),
            Request::Output { data, .. } => Response::Output(Ok(data.len() + 1)),
            Request::OutputFile { change, .. } => Response::OutputFile(Ok(change.data().len() + 1)),
            Request::Wait { .. } => Response::Wait(Woken { by: Wake::Never, ns: u64::MAX }),
            Request::Signal { .. } => Response::Signal(Some(1000)),
            Request::Terminal(_) => Response::Terminal(Ok(TerminalAnswer::Available(u32::MAX))),
            Request::Metadata { .. } => Response::Metadata(Ok(Metadata {
                kind,
                mode: u32::MAX,
                uid: 0,
                gid: 0,
                nlink: self.0.wrapping_mul(u32::MAX / 5),
                size: if self.0.is_multiple_of(3) { u64::MAX } else { 1 << 43 },
                mtime: i64::MIN,
            })),
            Request::ReadLink { .. } => Response::Link(Ok(vec![b'/'; 5000])),
            Request::ReadDir { .. } => {
                let names = [&b""[..], b".", b"..", b"a/b", b"nul\0", &[b'x'; 300], b"ok", b"ok"];
                let entry = |name: &&[u8]| DirEntry { name: name.to_vec(), kind };
                Response::Dir(Ok(names.iter().map(entry).collect()))
            }
            Request::ReadBlock { .. } => Response::Block(Ok(vec![1; 100_000].into())),
        })
    }
}

#[test]
fn answers_that_do_not_fit_are_errors() {
    let mut b = Bench::new(FakeWorld::default());
    b.kernel.memory = Some(1 << 20);
    for start in 0..12 {
        let mut fs = b.fs.clone();
        let mut liar = Liar(start);
        let mut env = Env { world: &mut liar, caller: &mut b.kernel };
        let at = At { base: fs.root(), fds: &NoFds };
        for path in [&b"a"[..], b"ok", b"a/b/c", b"x/", b"ok/ok", b"q"] {
            let _ = fs.lookup(&mut env, at, path, true);
            let Ok(id) = fs.open(&mut env, at, path, OpenFlags::RDWR, 0) else { continue };
            let mut buf = [0; 100];
            let _ = fs.read_at(&mut env, id, 1 << 42, &mut buf);
            let _ = fs.write_at(&mut env, id, 1 << 42, &buf);
            let _ = fs.make_shared(&mut env, id);
            let _ = fs.truncate(&mut env, id, 5);
            let _ = fs.stat(&mut env, id);
            let mut cursor = Default::default();
            let _ = fs.getdents(&mut env, at, id, &mut cursor, (1000, DirFormat::Large));
        }
        let _ = fs.getdents(&mut env, at, fs.root(), &mut Default::default(), (1000, DirFormat::Large));
        let input = fs.input_ready(&mut env, false, false);
        assert!(input.is_err());
    }
}
