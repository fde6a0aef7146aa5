//! What `stat` says of a file, and how Linux lays it out.

use serde::{Deserialize, Serialize};

/// Bits of `st_mode` that say what a file is (`S_IFMT`).
pub const S_IFMT: u32 = 0o170_000;
/// A socket.
pub const S_IFSOCK: u32 = 0o140_000;
/// A symbolic link.
pub const S_IFLNK: u32 = 0o120_000;
/// A regular file.
pub const S_IFREG: u32 = 0o100_000;
/// A block device.
pub const S_IFBLK: u32 = 0o060_000;
/// A directory.
pub const S_IFDIR: u32 = 0o040_000;
/// A character device.
pub const S_IFCHR: u32 = 0o020_000;
/// A FIFO or pipe.
pub const S_IFIFO: u32 = 0o010_000;

/// `STATX_BASIC_STATS | STATX_BTIME`: the fields that [`Stat::to_statx`] fills in.
const STATX_MASK: u32 = 0xfff;

/// What `stat` says of a file. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Device that the file lies on.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device that a device file stands for.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// 512-byte units in use.
    pub blocks: u64,
    /// Time of last access.
    pub atime: i64,
    /// Time of last modification.
    pub mtime: i64,
    /// Time of last change of state.
    pub ctime: i64,
    /// Time of creation.
    pub btime: i64,
}

/// A device number as Linux gives it to programs in `st_dev` (`new_encode_dev`).
pub const fn makedev(major: u32, minor: u32) -> u64 {
    ((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)) as u64
}

fn split_time(nanos: i64) -> (i64, u32) {
    (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000) as u32)
}

impl Stat {
    /// Bytes of the unit that programs should read in.
    pub const BLKSIZE: u32 = 4096;

    /// The type bits of the mode.
    pub fn kind(&self) -> u32 {
        self.mode & S_IFMT
    }

    /// `struct stat` of x86-64 Linux (`arch/x86/include/uapi/asm/stat.h`).
    pub fn to_bytes(&self) -> [u8; 144] {
        let mut out = [0; 144];
        let mut w = Fields { out: &mut out, at: 0 };
        w.u64(self.dev);
        w.u64(self.ino);
        w.u64(u64::from(self.nlink));
        w.u32(self.mode);
        w.u32(self.uid);
        w.u32(self.gid);
        w.u32(0);
        w.u64(self.rdev);
        w.u64(self.size);
        w.u64(u64::from(Stat::BLKSIZE));
        w.u64(self.blocks);
        for time in [self.atime, self.mtime, self.ctime] {
            let (sec, nsec) = split_time(time);
            w.u64(sec as u64);
            w.u64(u64::from(nsec));
        }
        out
    }

    /// `struct statx` (`include/uapi/linux/stat.h`).
    pub fn to_statx(&self) -> [u8; 256] {
        let mut out = [0; 256];
        let mut w = Fields { out: &mut out, at: 0 };
        w.u32(STATX_MASK);
        w.u32(Stat::BLKSIZE);
        w.u64(0); // attributes
        w.u32(self.nlink);
        w.u32(self.uid);
        w.u32(self.gid);
        w.u16(self.mode as u16);
        w.u16(0);
        w.u64(self.ino);
        w.u64(self.size);
        w.u64(self.blocks);
        w.u64(0); // attributes_mask
        for time in [self.atime, self.btime, self.ctime, self.mtime] {
            let (sec, nsec) = split_time(time);
            w.u64(sec as u64);
            w.u32(nsec);
            w.u32(0);
        }
        for dev in [self.rdev, self.dev] {
            w.u32(((dev >> 8) & 0xfff) as u32);
            w.u32(((dev & 0xff) | ((dev >> 12) & 0xfff00)) as u32);
        }
        out
    }
}

/// Writes little-endian fields one after the other.
struct Fields<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Fields<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn u16(&mut self, v: u16) {
        self.put(&v.to_le_bytes());
    }

    fn u32(&mut self, v: u32) {
        self.put(&v.to_le_bytes());
    }

    fn u64(&mut self, v: u64) {
        self.put(&v.to_le_bytes());
    }
}

/// What `statfs` says of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatFs {
    /// Magic number of the file system's type.
    pub kind: u64,
    /// Blocks of 4096 bytes in all.
    pub blocks: u64,
    /// Blocks that are free.
    pub free: u64,
    /// Inodes in all.
    pub files: u64,
    /// Inodes that are free.
    pub files_free: u64,
}

impl StatFs {
    /// `struct statfs` of x86-64 Linux (`include/uapi/asm-generic/statfs.h`).
    pub fn to_bytes(&self) -> [u8; 120] {
        let mut out = [0; 120];
        let mut w = Fields { out: &mut out, at: 0 };
        for field in [
            self.kind,
            4096,
            self.blocks,
            self.free,
            self.free,
            self.files,
            self.files_free,
            0, // fsid
            255,
            4096, // frsize
            0x20, // ST_VALID
        ] {
            w.u64(field);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Stat = Stat {
        dev: makedev(8, 1),
        ino: 42,
        mode: S_IFREG | 0o644,
        nlink: 3,
        uid: 1,
        gid: 2,
        rdev: makedev(136, 0x12345),
        size: 5000,
        blocks: 16,
        atime: -1,
        mtime: 1_500_000_000,
        ctime: 0,
        btime: 7,
    };

    #[test]
    fn stat_layout() {
        let b = SAMPLE.to_bytes();
        assert_eq!(u64::from_le_bytes(b[0..8].try_into().unwrap()), 0x801);
        assert_eq!(u64::from_le_bytes(b[16..24].try_into().unwrap()), 3);
        assert_eq!(u32::from_le_bytes(b[24..28].try_into().unwrap()), 0o100_644);
        assert_eq!(u64::from_le_bytes(b[48..56].try_into().unwrap()), 5000);
        assert_eq!(i64::from_le_bytes(b[72..80].try_into().unwrap()), -1);
        assert_eq!(u64::from_le_bytes(b[80..88].try_into().unwrap()), 999_999_999);
        assert_eq!(i64::from_le_bytes(b[88..96].try_into().unwrap()), 1);
    }

    #[test]
    fn statx_layout() {
        let b = SAMPLE.to_statx();
        assert_eq!(u16::from_le_bytes(b[28..30].try_into().unwrap()), 0o100_644);
        assert_eq!(u64::from_le_bytes(b[32..40].try_into().unwrap()), 42);
        assert_eq!(i64::from_le_bytes(b[112..120].try_into().unwrap()), 1); // mtime
        assert_eq!(u32::from_le_bytes(b[128..132].try_into().unwrap()), 136);
        assert_eq!(u32::from_le_bytes(b[132..136].try_into().unwrap()), 0x12345);
        assert_eq!(u32::from_le_bytes(b[136..140].try_into().unwrap()), 8);
    }
}
