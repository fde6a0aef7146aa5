//! What guests found out about the host, kept in a file for the next process.
//!
//! The file is trusted as far as its owner is this process's user: it decides how guests are run, so
//! whoever can write it could make them misbehave, though not get out.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::fs::{Mode, OFlags, fstat, open, openat, renameat, unlinkat};
use serde::{Deserialize, Serialize};

use super::{BareMetal, CpuIdentity, IoMap};

/// The file's name.
const FILE: &str = "host-profile";
/// To be raised when what is found out changes its meaning.
const FORMAT: u32 = 2;
/// More bytes than such a file ever has.
const MOST: u64 = 4096;

/// What changes when KVM is another one: its device, and its modules, each with an inode of its own for
/// as long as it is loaded.
const KVM: [&str; 5] =
    ["/dev/kvm", "/sys/module/kvm", "/sys/module/kvm_intel", "/sys/module/kvm_amd", "/sys/module/kvm_pvm"];

/// What it takes a guest to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub syscall_stays_user: bool,
    pub tsc_by_cr4: bool,
    pub tsc_by_thread: bool,
    pub io_map: IoMap,
    pub cpuid_traps: bool,
    pub bare_metal: Option<BareMetal>,
}

/// Where it holds: all that what was found out may depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Host {
    format: u32,
    dejavm: String,
    /// Another one after each boot.
    boot: String,
    kernel: String,
    kvm: Vec<Option<(u64, u64)>>,
    cpu: CpuIdentity,
}

impl Host {
    /// `None` where the kernel does not tell.
    fn now(cpu: &CpuIdentity) -> Option<Host> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let kernel = rustix::system::uname();
        let kernel = [kernel.release(), kernel.version()].map(|text| text.to_string_lossy().into_owned());
        let inode = |path: &str| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        Some(Host {
            format: FORMAT,
            dejavm: env!("CARGO_PKG_VERSION").to_owned(),
            boot,
            kernel: kernel.join(" "),
            kvm: KVM.iter().map(|path| inode(path)).collect(),
            cpu: cpu.clone(),
        })
    }
}

/// The file, for this host as it is now.
#[derive(Debug)]
pub(super) struct Known {
    dir: PathBuf,
    host: Option<Host>,
}

impl Known {
    /// In this directory, for a host with this CPU.
    pub fn at(dir: &Path, cpu: &CpuIdentity) -> Known {
        Known { dir: dir.to_owned(), host: Host::now(cpu) }
    }

    /// What an earlier process found out, if that was on this host.
    pub fn read(&self) -> Option<Found> {
        let now = self.host.as_ref()?;
        let dir = self.directory().ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&dir, FILE, flags, Mode::empty()).ok()?;
        if !is_ours(&fstat(&file).ok()?, FileType::RegularFile) {
            return None;
        }
        let mut bytes = Vec::new();
        fs::File::from(file).take(MOST).read_to_end(&mut bytes).ok()?;
        let (host, found): (Host, Found) = dejavm_snapshot::codec::decode(&bytes).ok()?;
        (host == *now).then_some(found)
    }

    /// Keeps what was found out. Where that cannot be done, it is found out again next time.
    pub fn write(&self, found: &Found) {
        if let Err(error) = self.try_write(found) {
            tracing::debug!(dir = %self.dir.display(), %error, "the host's profile is not kept");
        }
    }

    fn try_write(&self, found: &Found) -> io::Result<()> {
        let Some(host) = &self.host else { return Ok(()) };
        let bytes = dejavm_snapshot::codec::encode(&(host, found)).map_err(io::Error::other)?;
        match fs::DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let dir = self.directory()?;
        let new = format!(".{FILE}.{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&dir, &new, flags, Mode::RUSR | Mode::WUSR)?;
        let written = fs::File::from(file).write_all(&bytes);
        written.and_then(|()| Ok(renameat(&dir, &new, &dir, FILE)?)).inspect_err(|_| {
            let _ = unlinkat(&dir, &new, AtFlags::empty());
        })
    }

    /// The directory, if nobody else can have put anything into it.
    fn directory(&self) -> io::Result<rustix::fd::OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = open(&self.dir, flags, Mode::empty())?;
        match is_ours(&fstat(&dir)?, FileType::Directory) {
            true => Ok(dir),
            false => Err(io::Error::other("it is not this user's alone")),
        }
    }
}

/// Whether it is of this kind, this user's, and closed to others.
fn is_ours(stat: &Stat, kind: FileType) -> bool {
    const OTHERS: u32 = 0o077;
    FileType::from_raw_mode(stat.st_mode) == kind
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_mode & OTHERS == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FOUND: Found = Found {
        syscall_stays_user: true,
        io_map: IoMap::Busy,
        tsc_by_cr4: false,
        tsc_by_thread: true,
        cpuid_traps: false,
        bare_metal: Some(BareMetal { shadow_paging: true, out_retires: false }),
    };

    fn cpu() -> CpuIdentity {
        CpuIdentity { vendor: "AuthenticAMD".into(), signature: 1, features: [2; 6], xcr0: 7 }
    }

    fn scene() -> (tempfile::TempDir, PathBuf, Known) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("dejavm");
        let known = Known::at(&path, &cpu());
        (dir, path, known)
    }

    #[test]
    fn what_was_found_out_is_known_on_the_same_host() {
        let (_dir, path, known) = scene();
        assert_eq!(known.read(), None);
        known.write(&FOUND);
        assert_eq!(known.read(), Some(FOUND));
        assert_eq!(fs::metadata(path.join(FILE)).expect("a file").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&path).expect("a directory").count(), 1);
        let other = CpuIdentity { signature: 9, ..cpu() };
        assert_eq!(Known::at(&path, &other).read(), None);
        let mut rebooted = Known::at(&path, &cpu());
        rebooted.host.as_mut().expect("Linux tells").boot.push('x');
        assert_eq!(rebooted.read(), None);
        rebooted.write(&Found { bare_metal: None, ..FOUND });
        assert_eq!(known.read(), None);
        assert!(rebooted.read().is_some());
    }

    #[test]
    fn what_others_could_have_written_is_not_trusted() {
        let (_dir, path, known) = scene();
        known.write(&FOUND);
        let mode =
            |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
        for (dir, file) in [(0o770, 0o600), (0o701, 0o600), (0o700, 0o620), (0o700, 0o604)] {
            mode(&path, dir);
            mode(&path.join(FILE), file);
            assert_eq!(known.read(), None, "{dir:o} {file:o}");
        }
        mode(&path.join(FILE), 0o600);
        assert_eq!(known.read(), Some(FOUND));
        // Neither through a link.
        fs::rename(path.join(FILE), path.join("elsewhere")).expect("renamed");
        std::os::unix::fs::symlink("elsewhere", path.join(FILE)).expect("a link");
        assert_eq!(known.read(), None);
        let link = path.with_file_name("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert_eq!(Known::at(&link, &cpu()).read(), None);
    }

    #[test]
    fn a_damaged_file_is_none() {
        let (_dir, path, known) = scene();
        known.write(&FOUND);
        let bytes = fs::read(path.join(FILE)).expect("a file");
        for len in 0..bytes.len() {
            fs::write(path.join(FILE), &bytes[..len]).expect("written");
            assert_eq!(known.read(), None);
        }
        fs::write(path.join(FILE), vec![0xff; 1 << 20]).expect("written");
        assert_eq!(known.read(), None);
        // It is written anew.
        known.write(&FOUND);
        assert_eq!(known.read(), Some(FOUND));
    }

    #[test]
    fn where_it_cannot_be_kept_nothing_happens() {
        let dir = tempfile::tempdir().expect("a directory");
        let known = Known::at(&dir.path().join("none/dejavm"), &cpu());
        known.write(&FOUND);
        assert_eq!(known.read(), None);
        assert!(!dir.path().join("none").exists());
    }
}
