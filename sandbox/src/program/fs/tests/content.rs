//! What files hold.

use crate::errno::Errno;
use crate::program::fs::testing::{Bench, FakeWorld, errno};
use crate::program::fs::{Caller, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, InodeId, OpenFlags};

fn write(b: &mut Bench, id: InodeId, offset: u64, data: &[u8]) -> Result<usize, Errno> {
    errno(b.run(|fs, env, _| fs.write_at(env, id, offset, data)))
}

fn read(b: &mut Bench, id: InodeId, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0xee; len];
    let n = b.run(|fs, env, _| fs.read_at(env, id, offset, &mut buf)).unwrap();
    buf.truncate(n);
    buf
}

fn truncate(b: &mut Bench, id: InodeId, len: i64) -> Result<(), Errno> {
    errno(b.run(|fs, env, _| fs.truncate(env, id, len)))
}

const RW: OpenFlags = OpenFlags(OpenFlags::RDWR.0 | OpenFlags::CREAT.0);

#[test]
fn holes_read_as_zeros_and_cost_nothing() {
    let mut b = Bench::empty();
    let id = b.open("/f", RW).unwrap();
    let before = b.fs.overlay_bytes();
    write(&mut b, id, 1 << 40, b"end").unwrap();
    assert!(b.fs.overlay_bytes() - before <= 4096);
    assert_eq!(b.stat("/f").unwrap().size, (1 << 40) + 3);
    assert_eq!(read(&mut b, id, (1 << 40) - 2, 10), b"\0\0end");
    assert_eq!(read(&mut b, id, 5, 3), [0; 3]);
    let seek = |b: &Bench, at, hole| errno(b.fs.seek_data(id, at, hole));
    assert_eq!(seek(&b, 0, false), Ok(1 << 40));
    assert_eq!(seek(&b, 0, true), Ok(0));
    assert_eq!(seek(&b, 1 << 40, true), Ok((1 << 40) + 3));
    assert_eq!(seek(&b, 1 << 41, false), Err(Errno::ENXIO));
}

#[test]
fn cutting_and_extending() {
    let mut b = Bench::empty();
    let id = b.open("/f", RW).unwrap();
    write(&mut b, id, 0, &[7; 200_000]).unwrap();
    truncate(&mut b, id, 100).unwrap();
    truncate(&mut b, id, 70_000).unwrap();
    assert_eq!(read(&mut b, id, 98, 4), [7, 7, 0, 0]);
    assert_eq!(read(&mut b, id, 65_530, 10_000), vec![0; 70_000 - 65_530]);
    assert_eq!(truncate(&mut b, id, -1), Err(Errno::EINVAL));
    assert_eq!(truncate(&mut b, id, i64::MAX), Err(Errno::EFBIG));
    let dir = b.lookup("/tmp").unwrap();
    assert_eq!(truncate(&mut b, dir, 0), Err(Errno::EISDIR));
    let null = b.lookup("/dev/null").unwrap();
    assert_eq!(truncate(&mut b, null, 0), Err(Errno::EINVAL));
}

#[test]
fn punching_holes() {
    let mut b = Bench::empty();
    let id = b.open("/f", RW).unwrap();
    write(&mut b, id, 0, &[9; 300_000]).unwrap();
    let used = b.fs.overlay_bytes();
    let mode = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;
    b.run(|fs, env, _| fs.fallocate(env, id, mode, 10, 200_000)).unwrap();
    assert!(b.fs.overlay_bytes() < used - 100_000);
    let mut wanted = vec![9; 300_000];
    wanted[10..200_010].fill(0);
    assert_eq!(read(&mut b, id, 0, 400_000), wanted);
    b.run(|fs, env, _| fs.fallocate(env, id, 0, 299_999, 10)).unwrap();
    assert_eq!(b.fs.len(id), 300_009);
    let far = b.run(|fs, env, _| fs.fallocate(env, id, mode, 0, i64::MAX));
    assert_eq!(errno(far), Err(Errno::EFBIG));
    let far = b.run(|fs, env, _| fs.fallocate(env, id, 0, i64::MAX, i64::MAX));
    assert_eq!(errno(far), Err(Errno::EFBIG));
    let odd = b.run(|fs, env, _| fs.fallocate(env, id, 0x40, 0, 1));
    assert_eq!(errno(odd), Err(Errno::EOPNOTSUPP));
}

#[test]
fn the_quota_ends_writes() {
    let mut b = Bench::with_quota(1 << 20);
    let id = b.open("/f", RW).unwrap();
    let n = write(&mut b, id, 0, &vec![1; 2 << 20]).unwrap();
    assert!((900_000..=1 << 20).contains(&n), "{n}");
    assert_eq!(b.fs.len(id), n as u64);
    let mut end = n as u64;
    while let Ok(n) = write(&mut b, id, end, &[1; 4096]) {
        end += n as u64;
    }
    assert_eq!(write(&mut b, id, 1 << 30, b"x"), Err(Errno::ENOSPC));
    assert!(b.fs.overlay_bytes() <= 1 << 20);
    // Writing over what is there needs no room.
    assert_eq!(write(&mut b, id, 0, b"again"), Ok(5));
    // Names run out, too.
    let mut names = 0;
    while b.mkdir(&format!("/d{names}")).is_ok() {
        names += 1;
        assert!(names < 10_000);
    }
    assert_eq!(b.mkdir("/one-more-with-a-long-name"), Err(Errno::ENOSPC));
    b.unlink("/f").unwrap();
    b.run(|fs, env, _| fs.release(env, id)).unwrap();
    b.mkdir("/one-more-with-a-long-name").unwrap();
}

#[test]
fn sparse_files_meet_the_quota() {
    let mut b = Bench::with_quota(1 << 20);
    let id = b.open("/f", RW).unwrap();
    let mut n = 0u64;
    while write(&mut b, id, n << 30, b"x").is_ok() {
        n += 1;
    }
    assert!((100..=256).contains(&n), "{n}");
    assert_eq!(write(&mut b, id, u64::MAX - 1, b"xx"), Err(Errno::EFBIG));
    assert_eq!(write(&mut b, id, i64::MAX as u64, b"xx"), Err(Errno::EFBIG));
}

#[test]
fn a_frozen_copy_does_not_change() {
    let old: Vec<u8> = (0..150_000u32).map(|n| n as u8).collect();
    let mut b = Bench::new(FakeWorld::default().file("f", old.clone()));
    let id = b.open("/f", OpenFlags::RDWR).unwrap();
    let lower = b.run(|fs, env, _| fs.freeze(env, id)).unwrap();
    write(&mut b, id, 70_000, b"changed").unwrap();
    let changed = b.run(|fs, env, _| fs.freeze(env, id)).unwrap();
    truncate(&mut b, id, 3).unwrap();
    b.unlink("/f").unwrap();
    b.run(|fs, env, _| fs.release(env, id)).unwrap();
    let mut new = old.clone();
    new[70_000..70_007].copy_from_slice(b"changed");
    for (content, wanted) in [(lower, old), (changed, new)] {
        assert_eq!(b.fs.frozen_len(content), 150_000);
        let mut buf = vec![0; 200_000];
        let n = b.run(|fs, env, _| fs.read_frozen(env, content, 0, &mut buf)).unwrap();
        assert_eq!(&buf[..n], wanted);
    }
    assert!(b.fs.overlay_bytes() > 0);
    b.fs.hold_frozen(changed);
    for content in [lower, changed, changed] {
        b.fs.release_frozen(content);
    }
    assert_eq!(b.fs.overlay_bytes(), 0);
    let gone = b.run(|fs, env, _| fs.read_frozen(env, changed, 0, &mut [0]));
    assert_eq!(errno(gone), Err(Errno::EIO));
}

#[test]
fn shared_content_is_one_with_memory() {
    let mut b = Bench::new(FakeWorld::default().file("f", vec![5; 100_000]));
    let id = b.open("/f", OpenFlags::RDWR).unwrap();
    let object = b.run(|fs, env, _| fs.make_shared(env, id)).unwrap();
    assert_eq!(b.run(|fs, env, _| fs.make_shared(env, id)).unwrap(), object);
    assert_eq!(read(&mut b, id, 0, 200_000), vec![5; 100_000]);
    // Nothing was moved; now a mapping writes a byte.
    assert!(b.kernel.own.is_empty());
    let mut page = vec![5; 4096];
    page[99_999 % 4096] = 6;
    b.kernel.write_shared(object, 99_999 / 4096 * 4096, &page).unwrap();
    write(&mut b, id, 100_000, b"tail").unwrap();
    assert_eq!(read(&mut b, id, 99_998, 10), b"\x05\x06tail");
    truncate(&mut b, id, 99_990).unwrap();
    assert_eq!(b.kernel.objects[&object].len(), 99_990);
    let frozen = b.run(|fs, env, _| fs.freeze(env, id)).unwrap();
    write(&mut b, id, 0, b"new").unwrap();
    let mut buf = [0; 3];
    b.run(|fs, env, _| fs.read_frozen(env, frozen, 0, &mut buf)).unwrap();
    assert_eq!(buf, [5; 3]);
    b.run(|fs, env, _| fs.make_unshared(env, id)).unwrap();
    assert!(b.kernel.objects.is_empty());
    assert_eq!(read(&mut b, id, 0, 4), b"new\x05");
    // Without room in memory the content stays where it was.
    b.kernel.memory = Some(1000);
    assert_eq!(errno(b.run(|fs, env, _| fs.make_shared(env, id))), Err(Errno::ENOSPC));
    assert_eq!(read(&mut b, id, 0, 4), b"new\x05");
    b.kernel.memory = None;
    b.run(|fs, env, _| fs.make_shared(env, id)).unwrap();
    b.unlink("/f").unwrap();
    b.run(|fs, env, _| fs.release(env, id)).unwrap();
    assert!(b.kernel.objects.is_empty());
}

#[test]
fn shared_content_of_the_hosts_is_as_if_it_was_blocks() {
    let old: Vec<u8> = (0..300_000u32).map(|n| (n / 7) as u8).collect();
    type Change = fn(&mut Bench, InodeId);
    let punch = |b: &mut Bench, id, from, len| {
        let mode = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;
        b.run(|fs, env, _| fs.fallocate(env, id, mode, from, len)).unwrap();
    };
    type Model = fn(&mut Vec<u8>);
    let changes: [(Change, Model); 7] = [
        (
            |b, id| assert!(write(b, id, 4090, b"over a border").is_ok()),
            |v| v[4090..4103].copy_from_slice(b"over a border"),
        ),
        (
            |b, id| assert!(write(b, id, 299_999, &[1; 9000]).is_ok()),
            |v| {
                v.truncate(299_999);
                v.extend([1; 9000]);
            },
        ),
        (|b, id| truncate(b, id, 200_001).unwrap(), |v| v.truncate(200_001)),
        (|b, id| truncate(b, id, 400_000).unwrap(), |v| v.resize(400_000, 0)),
        (|b, id| assert!(write(b, id, 65_536, &[9; 65_536]).is_ok()), |v| v[65_536..131_072].fill(9)),
        (
            |b, id| assert!(write(b, id, 350_000, b"behind").is_ok()),
            |v| v[350_000..350_006].copy_from_slice(b"behind"),
        ),
        (|b, id| truncate(b, id, 10).unwrap(), |v| v.truncate(10)),
    ];
    for back in [false, true] {
        let mut b = Bench::new(FakeWorld::default().file("f", old.clone()));
        let id = b.open("/f", OpenFlags::RDWR).unwrap();
        let mut wanted = old.clone();
        for (n, (change, model)) in changes.into_iter().enumerate() {
            b.run(|fs, env, _| fs.make_shared(env, id)).unwrap();
            change(&mut b, id);
            model(&mut wanted);
            for (from, len) in [(100, 50), (60_000, 80_000), (131_000, 5000)] {
                punch(&mut b, id, from, len);
                let end = wanted.len();
                wanted[end.min(from as usize)..end.min((from + len) as usize)].fill(0);
            }
            b.fs.check().unwrap();
            assert_eq!(read(&mut b, id, 0, 500_000), wanted, "{n}");
            let frozen = b.run(|fs, env, _| fs.freeze(env, id)).unwrap();
            let mut copy = vec![0; 500_000];
            let len = b.run(|fs, env, _| fs.read_frozen(env, frozen, 0, &mut copy)).unwrap();
            assert_eq!(copy[..len], wanted, "{n}");
            b.fs.check().unwrap();
            if back {
                b.run(|fs, env, _| fs.make_unshared(env, id)).unwrap();
                b.fs.check().unwrap();
                assert_eq!(read(&mut b, id, 0, 500_000), wanted, "{n}");
            }
            b.fs.release_frozen(frozen);
        }
        b.unlink("/f").unwrap();
        b.run(|fs, env, _| fs.release(env, id)).unwrap();
        b.fs.check().unwrap();
        assert_eq!(b.fs.overlay_bytes(), 0);
    }
}

#[test]
fn a_hole_in_a_long_file_costs_next_to_nothing() {
    let mut b = Bench::new(FakeWorld::default().file("f", vec![5; 1 << 20]));
    let id = b.open("/f", OpenFlags::RDWR).unwrap();
    let mode = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;
    b.run(|fs, env, _| fs.fallocate(env, id, mode, 65_536, 10 * 65_536)).unwrap();
    assert!(b.fs.overlay_bytes() <= 4096, "{}", b.fs.overlay_bytes());
    b.fs.check().unwrap();
    let seek = |b: &Bench, at, hole| b.fs.seek_data(id, at, hole).unwrap();
    assert_eq!(
        [seek(&b, 0, true), seek(&b, 70_000, false), seek(&b, 70_000, true)],
        [65_536, 720_896, 70_000]
    );
    assert_eq!(seek(&b, 720_896, true), 1 << 20);
    write(&mut b, id, 200_000, b"x").unwrap();
    assert_eq!([seek(&b, 70_000, false), seek(&b, 196_608, true)], [196_608, 262_144]);
    let mut wanted = vec![5; 1 << 20];
    wanted[65_536..11 * 65_536].fill(0);
    wanted[200_000] = b'x';
    assert_eq!(read(&mut b, id, 0, 1 << 20), wanted);
}

#[test]
fn mapped_content_moves_before_it_changes() {
    type Change = fn(&mut Bench, InodeId) -> Result<(), Errno>;
    let changes: [Change; 5] = [
        |b, id| write(b, id, 3, b"x").map(|_| ()),
        |b, id| truncate(b, id, 10),
        |b, id| truncate(b, id, 200_000),
        |b, id| {
            let mode = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;
            errno(b.run(|fs, env, _| fs.fallocate(env, id, mode, 0, 5000)))
        },
        |b, id| errno(b.run(|fs, env, _| fs.make_shared(env, id))).map(|_| ()),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut b = Bench::new(FakeWorld::default().file("f", vec![5; 100_000]));
        let id = b.open("/f", OpenFlags::RDWR).unwrap();
        let one = b.run(|fs, env, _| fs.map_content(env, id)).unwrap();
        let two = b.run(|fs, env, _| fs.map_content(env, id)).unwrap();
        assert_eq!((one.content, one.len, one.of_host), (two.content, 100_000, true));
        // These change nothing.
        write(&mut b, id, 3, b"").unwrap();
        truncate(&mut b, id, 100_000).unwrap();
        assert!(b.kernel.moved.is_empty());
        // Without room in memory, neither does this.
        b.kernel.memory = Some(1000);
        assert_eq!(change(&mut b, id), Err(Errno::ENOSPC), "{n}");
        assert_eq!(read(&mut b, id, 0, 4), [5; 4]);
        b.kernel.memory = None;
        b.fs.check().unwrap();
        change(&mut b, id).unwrap();
        assert_eq!(b.kernel.moved, [(one.content, id.number())], "{n}");
        change(&mut b, id).unwrap();
        assert_eq!(b.kernel.moved.len(), 1);
        b.fs.check().unwrap();
        for _ in 0..2 {
            b.fs.release_frozen(one.content);
        }
        // What is mapped next is another content, and the guest's.
        b.run(|fs, env, _| fs.make_unshared(env, id)).unwrap();
        let three = b.run(|fs, env, _| fs.map_content(env, id)).unwrap();
        assert_eq!((three.content == one.content, three.of_host), (false, n == 4));
        b.fs.release_frozen(three.content);
        write(&mut b, id, 0, b"y").unwrap();
        assert_eq!(b.kernel.moved.len(), 1);
    }
}

#[test]
fn times_and_owners() {
    use crate::program::fs::SetTime;
    let mut b = Bench::empty();
    b.kernel.now = 50;
    b.put("/f", b"x").unwrap();
    let id = b.lookup("/f").unwrap();
    let stat = b.stat("/f").unwrap();
    assert_eq!((stat.mode & 0o7777, stat.uid, stat.mtime, stat.blocks), (0o644, 0, 50, 8));
    assert_eq!(b.stat("/").unwrap().mtime, 50);
    b.kernel.now = 60;
    b.run(|fs, env, _| fs.set_times(env, id, SetTime::At(-5), SetTime::Omit)).unwrap();
    let stat = b.stat("/f").unwrap();
    assert_eq!((stat.atime, stat.mtime, stat.ctime), (-5, 50, 60));
    b.run(|fs, env, _| fs.chmod(env, id, 0o107_755)).unwrap();
    assert_eq!(b.stat("/f").unwrap().mode, 0o107_755);
    b.run(|fs, env, _| fs.chown(env, id, Some(5), None)).unwrap();
    let stat = b.stat("/f").unwrap();
    assert_eq!((stat.mode, stat.uid, stat.gid), (0o101_755, 5, 0));
    assert_eq!(errno(b.run(|fs, env, _| fs.expect_permission(env, id, 1))), Ok(()));
    b.run(|fs, env, _| fs.chmod(env, id, 0o600)).unwrap();
    assert_eq!(errno(b.run(|fs, env, _| fs.expect_permission(env, id, 1))), Err(Errno::EACCES));
    assert_eq!(errno(b.run(|fs, env, _| fs.expect_permission(env, id, 6))), Ok(()));
    assert!(matches!(SetTime::from_timespec(i64::MAX, 0), Ok(SetTime::At(i64::MAX))));
    assert_eq!(errno(SetTime::from_timespec(0, -1)), Err(Errno::EINVAL));
}
