//! The files of `/proc/<pid>`.

use super::super::Fs;
use super::super::dirlist::Listed;
use super::super::env::{Env, ProcFile};
use super::super::error::{FsResult, fail};
use super::super::inode::{Body, InodeId, Place, Text};
use super::super::resolve::At;
use super::super::stat::{S_IFDIR, S_IFLNK, S_IFREG, Stat};
use super::mapped;
use crate::errno::Errno;

/// An inode number with this bit set is a [`ProcNode`].
const MARK: u64 = 1 << 63;

/// Classes of inode numbers from this on are of mappings: they and the 32 bits in the middle say which page.
const MAPPED: u64 = 0x40;

/// Process and descriptor numbers are below this.
const NUMBER_MAX: u32 = 1 << 24;

/// The text files of a process. A file's place in this list is part of its inode number, and so
/// of snapshots: new ones go to the end.
const FILES: [(&str, ProcFile); 30] = [
    ("maps", ProcFile::Maps),
    ("smaps", ProcFile::Smaps),
    ("cmdline", ProcFile::Cmdline),
    ("environ", ProcFile::Environ),
    ("stat", ProcFile::Stat),
    ("status", ProcFile::Status),
    ("statm", ProcFile::Statm),
    ("auxv", ProcFile::Auxv),
    ("comm", ProcFile::Comm),
    ("limits", ProcFile::Limits),
    ("cgroup", ProcFile::Cgroup),
    ("mounts", ProcFile::Mounts),
    ("mountinfo", ProcFile::MountInfo),
    ("oom_score", ProcFile::OomScore),
    ("oom_score_adj", ProcFile::OomScoreAdj),
    ("coredump_filter", ProcFile::CoredumpFilter),
    ("mem", ProcFile::Mem),
    ("smaps_rollup", ProcFile::SmapsRollup),
    ("io", ProcFile::Io),
    ("loginuid", ProcFile::LoginUid),
    ("sessionid", ProcFile::SessionId),
    ("personality", ProcFile::Personality),
    ("wchan", ProcFile::Wchan),
    ("uid_map", ProcFile::UidMap),
    ("gid_map", ProcFile::GidMap),
    ("setgroups", ProcFile::SetGroups),
    ("timerslack_ns", ProcFile::TimerSlack),
    ("schedstat", ProcFile::SchedStat),
    ("mountstats", ProcFile::MountStats),
    ("syscall", ProcFile::Syscall),
];

/// The namespaces of a process, and the numbers that the first ones have on Linux
/// (`include/linux/proc_ns.h`).
const NAMESPACES: [(&str, u32); 8] = [
    ("cgroup", 0xefff_fffb),
    ("ipc", 0xefff_ffff),
    ("mnt", 0xeff0_0000),
    ("net", 0xeff0_0001),
    ("pid", 0xefff_fffc),
    ("time", 0xefff_fffa),
    ("user", 0xefff_fffd),
    ("uts", 0xefff_fffe),
];

/// The links of a process.
const LINKS: [&str; 3] = ["exe", "cwd", "root"];

/// A file of `/proc/<pid>`. A thread's directory is like its process's, without `task`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum ProcNode {
    /// `/proc/<pid>`
    Process { pid: u32 },
    /// `/proc/<pid>/<file>`
    File { pid: u32, file: u8 },
    /// `/proc/<pid>/<link>`
    Link { pid: u32, link: u8 },
    /// `/proc/<pid>/fd`
    FdDir { pid: u32 },
    /// `/proc/<pid>/fd/<fd>`
    Fd { pid: u32, fd: u32 },
    /// `/proc/<pid>/task`
    TaskDir { pid: u32 },
    /// `/proc/<pid>/task/<tid>`
    Thread { pid: u32, tid: u32 },
    /// `/proc/<pid>/task/<tid>/<file>`
    ThreadFile { pid: u32, tid: u32, file: u8 },
    /// `/proc/<pid>/fdinfo`
    FdInfoDir { pid: u32 },
    /// `/proc/<pid>/fdinfo/<fd>`
    FdInfo { pid: u32, fd: u32 },
    /// `/proc/<pid>/ns`
    NsDir { pid: u32 },
    /// `/proc/<pid>/ns/<namespace>`
    Namespace { pid: u32, namespace: u8 },
    /// `/proc/<pid>/map_files`
    MappedDir { pid: u32 },
    /// `/proc/<pid>/map_files/<addresses>`
    Mapped { pid: u32, page: u64 },
}

impl ProcNode {
    /// What an inode number names, if it names one of these.
    pub fn of(id: InodeId) -> Option<ProcNode> {
        if id.0 & MARK == 0 {
            return None;
        }
        let pid = (id.0 & 0xff_ffff) as u32;
        let sub = ((id.0 >> 24) & 0xff_ffff) as u32;
        let file = ((id.0 >> 48) & 0xff) as u8;
        Some(match (id.0 >> 56) & 0x7f {
            1 => ProcNode::File { pid, file },
            2 => ProcNode::Link { pid, link: file },
            3 => ProcNode::FdDir { pid },
            4 => ProcNode::Fd { pid, fd: sub },
            5 => ProcNode::TaskDir { pid },
            6 => ProcNode::Thread { pid, tid: sub },
            7 => ProcNode::ThreadFile { pid, tid: sub, file },
            8 => ProcNode::NsDir { pid },
            9 => ProcNode::Namespace { pid, namespace: file },
            10 => ProcNode::FdInfoDir { pid },
            11 => ProcNode::FdInfo { pid, fd: sub },
            12 => ProcNode::MappedDir { pid },
            class @ MAPPED.. => {
                let middle = (id.0 >> 24) & 0xffff_ffff;
                ProcNode::Mapped { pid, page: (class - MAPPED) << 32 | middle }
            }
            _ => ProcNode::Process { pid },
        })
    }

    pub fn id(self) -> InodeId {
        let (class, pid, sub, file) = match self {
            ProcNode::Process { pid } => (0, pid, 0, 0),
            ProcNode::File { pid, file } => (1, pid, 0, file),
            ProcNode::Link { pid, link } => (2, pid, 0, link),
            ProcNode::FdDir { pid } => (3, pid, 0, 0),
            ProcNode::Fd { pid, fd } => (4, pid, fd, 0),
            ProcNode::TaskDir { pid } => (5, pid, 0, 0),
            ProcNode::Thread { pid, tid } => (6, pid, tid, 0),
            ProcNode::ThreadFile { pid, tid, file } => (7, pid, tid, file),
            ProcNode::NsDir { pid } => (8, pid, 0, 0),
            ProcNode::Namespace { pid, namespace } => (9, pid, 0, namespace),
            ProcNode::FdInfoDir { pid } => (10, pid, 0, 0),
            ProcNode::FdInfo { pid, fd } => (11, pid, fd, 0),
            ProcNode::MappedDir { pid } => (12, pid, 0, 0),
            ProcNode::Mapped { pid, page } => {
                (MAPPED | page >> 32, pid, page as u32 & 0xff_ffff, (page >> 24) as u8)
            }
        };
        InodeId(
            MARK | (class << 56)
                | (u64::from(file) << 48)
                | (u64::from(sub & 0xff_ffff) << 24)
                | u64::from(pid & 0xff_ffff),
        )
    }

    pub fn is_link(self) -> bool {
        matches!(
            self,
            ProcNode::Link { .. }
                | ProcNode::Fd { .. }
                | ProcNode::Namespace { .. }
                | ProcNode::Mapped { .. }
        )
    }

    pub fn is_dir(self) -> bool {
        !self.is_link()
            && !matches!(self, ProcNode::File { .. } | ProcNode::ThreadFile { .. } | ProcNode::FdInfo { .. })
    }

    /// The thread and the text that a file is.
    pub fn text(self) -> Option<(u32, Text)> {
        let (thread, file) = match self {
            ProcNode::File { pid, file } => (pid, file),
            ProcNode::ThreadFile { tid, file, .. } => (tid, file),
            _ => return None,
        };
        FILES.get(usize::from(file)).map(|(_, file)| (thread, Text::Proc(*file)))
    }

    /// The process whose memory a file is.
    pub fn memory(self) -> Option<u32> {
        self.text().filter(|(_, text)| *text == Text::Proc(ProcFile::Mem)).map(|(pid, _)| pid)
    }

    fn kind(self) -> u32 {
        if self.is_dir() {
            S_IFDIR
        } else if self.is_link() {
            S_IFLNK
        } else {
            S_IFREG
        }
    }

    fn permissions(self) -> u32 {
        match self {
            ProcNode::Mapped { .. } => return 0o400,
            _ if self.is_link() => return 0o777,
            _ => {}
        }
        match self.text() {
            Some((_, Text::Proc(file))) => match file {
                ProcFile::Environ
                | ProcFile::Auxv
                | ProcFile::Io
                | ProcFile::Personality
                | ProcFile::Syscall => 0o400,
                ProcFile::Comm
                | ProcFile::OomScoreAdj
                | ProcFile::CoredumpFilter
                | ProcFile::LoginUid
                | ProcFile::UidMap
                | ProcFile::GidMap
                | ProcFile::SetGroups => 0o644,
                ProcFile::TimerSlack => 0o666,
                ProcFile::Mem => 0o600,
                _ => 0o444,
            },
            _ if matches!(self, ProcNode::FdDir { .. } | ProcNode::MappedDir { .. }) => 0o500,
            _ if matches!(self, ProcNode::FdInfo { .. }) => 0o444,
            _ if matches!(self, ProcNode::NsDir { .. }) => 0o511,
            _ => 0o555,
        }
    }

    pub fn stat(self, born: i64) -> Stat {
        let kind = self.kind();
        Stat {
            dev: Place::Proc.dev(),
            ino: self.id().0 & !MARK,
            mode: kind | self.permissions(),
            nlink: if kind == S_IFDIR { 2 } else { 1 },
            uid: 0,
            gid: 0,
            rdev: 0,
            size: if kind == S_IFLNK { 64 } else { 0 },
            blocks: 0,
            atime: born,
            mtime: born,
            ctime: born,
            btime: born,
        }
    }

    /// Its path from `/proc` on.
    pub fn path(self) -> String {
        let file = |n: u8| FILES.get(usize::from(n)).map_or("", |(name, _)| name);
        match self {
            ProcNode::Process { pid } => format!("/proc/{pid}"),
            ProcNode::File { pid, file: n } => format!("/proc/{pid}/{}", file(n)),
            ProcNode::Link { pid, link } => {
                format!("/proc/{pid}/{}", LINKS.get(usize::from(link)).unwrap_or(&""))
            }
            ProcNode::FdDir { pid } => format!("/proc/{pid}/fd"),
            ProcNode::Fd { pid, fd } => format!("/proc/{pid}/fd/{fd}"),
            ProcNode::TaskDir { pid } => format!("/proc/{pid}/task"),
            ProcNode::FdInfoDir { pid } => format!("/proc/{pid}/fdinfo"),
            ProcNode::FdInfo { pid, fd } => format!("/proc/{pid}/fdinfo/{fd}"),
            ProcNode::NsDir { pid } => format!("/proc/{pid}/ns"),
            ProcNode::Namespace { pid, namespace } => {
                let (name, _) = NAMESPACES.get(usize::from(namespace)).copied().unwrap_or_default();
                format!("/proc/{pid}/ns/{name}")
            }
            ProcNode::MappedDir { pid } => format!("/proc/{pid}/map_files"),
            // Where it ends, the mapping knows.
            ProcNode::Mapped { pid, page } => format!("/proc/{pid}/map_files/{page:x}000"),
            ProcNode::Thread { pid, tid } => format!("/proc/{pid}/task/{tid}"),
            ProcNode::ThreadFile { pid, tid, file: n } => {
                format!("/proc/{pid}/task/{tid}/{}", file(n))
            }
        }
    }
}

/// A decimal number as the kernel writes it.
fn number(name: &[u8]) -> Option<u32> {
    if name.len() > 8 || (name.len() > 1 && name[0] == b'0') {
        return None;
    }
    let n = std::str::from_utf8(name).ok()?;
    if !n.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    n.parse().ok().filter(|n| *n < NUMBER_MAX)
}

fn listed(node: ProcNode, name: &str) -> Listed {
    Listed { name: name.as_bytes().to_vec(), ino: node.id().0 & !MARK, kind: node.kind() }
}

/// What a thread's directory has of its process's, besides files.
fn of_both(pid: u32) -> impl Iterator<Item = Listed> {
    let links = (0..).zip(LINKS).map(move |(link, name)| listed(ProcNode::Link { pid, link }, name));
    let dirs = [
        (ProcNode::FdDir { pid }, "fd"),
        (ProcNode::NsDir { pid }, "ns"),
        (ProcNode::FdInfoDir { pid }, "fdinfo"),
    ];
    links.chain(dirs.map(|(node, name)| listed(node, name)))
}

impl Fs {
    /// Looks a name up in `/proc` or below. `None`: it is not for this part to answer.
    pub(in super::super) fn proc_child(
        &self,
        env: &mut Env<'_>,
        at: At<'_>,
        dir: InodeId,
        name: &[u8],
    ) -> Option<FsResult<Option<InodeId>>> {
        let Some(node) = ProcNode::of(dir) else {
            let processes = matches!(&self.inode(dir).ok()?.body, Body::Dir(d) if d.processes);
            let pid = number(name).filter(|_| processes)?;
            let found = env.caller.pids().contains(&pid);
            return Some(Ok(found.then(|| ProcNode::Process { pid }.id())));
        };
        let text = std::str::from_utf8(name).unwrap_or("");
        let file = FILES.iter().position(|(name, _)| *name == text).map(|n| n as u8);
        let link = |pid| {
            let place = LINKS.iter().position(|name| *name == text);
            place.map(|n| ProcNode::Link { pid, link: n as u8 })
        };
        let found = match node {
            ProcNode::Process { pid } => match (file, text) {
                (Some(file), _) => Some(ProcNode::File { pid, file }),
                (_, "fd") => Some(ProcNode::FdDir { pid }),
                (_, "task") => Some(ProcNode::TaskDir { pid }),
                (_, "fdinfo") => Some(ProcNode::FdInfoDir { pid }),
                (_, "ns") => Some(ProcNode::NsDir { pid }),
                (_, "map_files") => Some(ProcNode::MappedDir { pid }),
                _ => link(pid),
            },
            ProcNode::Thread { pid, tid } => match (file, text) {
                (Some(file), _) => Some(ProcNode::ThreadFile { pid, tid, file }),
                // They are its process's.
                (_, "fd") => Some(ProcNode::FdDir { pid }),
                (_, "fdinfo") => Some(ProcNode::FdInfoDir { pid }),
                (_, "ns") => Some(ProcNode::NsDir { pid }),
                _ => link(pid),
            },
            ProcNode::FdDir { pid } => number(name)
                .filter(|fd| pid == env.caller.pid() && at.fds.target(*fd).is_some())
                .map(|fd| ProcNode::Fd { pid, fd }),
            ProcNode::FdInfoDir { pid } => number(name)
                .filter(|fd| pid == env.caller.pid() && at.fds.target(*fd).is_some())
                .map(|fd| ProcNode::FdInfo { pid, fd }),
            ProcNode::MappedDir { pid } => mapped::find(env, pid, name),
            ProcNode::NsDir { pid } => NAMESPACES
                .iter()
                .position(|(name, _)| *name == text)
                .map(|n| ProcNode::Namespace { pid, namespace: n as u8 }),
            ProcNode::TaskDir { pid } => number(name)
                .filter(|tid| env.caller.tids(pid).contains(tid))
                .map(|tid| ProcNode::Thread { pid, tid }),
            _ => return Some(fail(Errno::ENOTDIR)),
        };
        Some(Ok(found.map(ProcNode::id)))
    }

    /// `..` of a directory below `/proc`.
    pub(in super::super) fn proc_parent(&self, node: ProcNode) -> FsResult<InodeId> {
        match node {
            ProcNode::FdDir { pid }
            | ProcNode::FdInfoDir { pid }
            | ProcNode::TaskDir { pid }
            | ProcNode::MappedDir { pid }
            | ProcNode::NsDir { pid } => Ok(ProcNode::Process { pid }.id()),
            ProcNode::Thread { pid, .. } => Ok(ProcNode::TaskDir { pid }.id()),
            _ => match self.built_in_child(self.root, "proc") {
                Some(id) => Ok(id),
                None => fail(Errno::ENOENT),
            },
        }
    }

    /// The inode that a link below `/proc` leads to without a path.
    pub(in super::super) fn proc_jump(
        &self,
        env: &mut Env<'_>,
        at: At<'_>,
        node: ProcNode,
    ) -> FsResult<Option<InodeId>> {
        match node {
            ProcNode::Fd { pid, fd } => match at.fds.target(fd) {
                Some(id) if pid == env.caller.pid() => Ok(Some(id)),
                _ => fail(Errno::ENOENT),
            },
            ProcNode::Link { pid, link: 1 } if pid != env.caller.pid() => Ok(Some(self.root)),
            ProcNode::Link { pid, link: 1 } => match env.caller.cwd(pid) {
                Some(id) => Ok(Some(id)),
                None => fail(Errno::ENOENT),
            },
            ProcNode::Link { link: 2, .. } => Ok(Some(self.root)),
            // Straight to the file, also when it has no name any more.
            ProcNode::Link { pid, link: 0 } if pid == env.caller.pid() => Ok(env.caller.executable()),
            ProcNode::Link { link: 0, .. } => fail(Errno::ENOENT),
            _ => Ok(None),
        }
    }

    /// What `readlink` says of a link below `/proc`.
    pub(in super::super) fn proc_link(
        &self,
        env: &mut Env<'_>,
        at: At<'_>,
        node: ProcNode,
    ) -> FsResult<Vec<u8>> {
        match (node, self.proc_jump(env, at, node)?) {
            (_, Some(id)) => Ok(self.path_of(id)),
            (ProcNode::Link { pid, .. }, None) => Ok(env.caller.exe(pid)),
            (ProcNode::Namespace { namespace, .. }, None) => {
                let (name, number) = NAMESPACES.get(usize::from(namespace)).copied().unwrap_or_default();
                Ok(format!("{name}:[{number}]").into_bytes())
            }
            (ProcNode::Mapped { pid, page }, None) => {
                mapped::target(env, pid, page).map_or_else(|| fail(Errno::ENOENT), Ok)
            }
            _ => fail(Errno::EINVAL),
        }
    }

    /// What lies in a directory below `/proc`.
    pub(in super::super) fn proc_list(&self, env: &mut Env<'_>, at: At<'_>, node: ProcNode) -> Vec<Listed> {
        let mut all: Vec<Listed> = match node {
            ProcNode::Process { pid } => {
                let files = FILES
                    .iter()
                    .enumerate()
                    .map(|(n, (name, _))| listed(ProcNode::File { pid, file: n as u8 }, name));
                let task = listed(ProcNode::TaskDir { pid }, "task");
                let mapped = listed(ProcNode::MappedDir { pid }, "map_files");
                files.chain(of_both(pid)).chain([task, mapped]).collect()
            }
            ProcNode::Thread { pid, tid } => FILES
                .iter()
                .enumerate()
                .map(|(n, (name, _))| listed(ProcNode::ThreadFile { pid, tid, file: n as u8 }, name))
                .chain(of_both(pid))
                .collect(),
            ProcNode::FdDir { pid } if pid == env.caller.pid() => {
                at.fds.fds().into_iter().map(|fd| listed(ProcNode::Fd { pid, fd }, &fd.to_string())).collect()
            }
            ProcNode::FdInfoDir { pid } if pid == env.caller.pid() => {
                let info = |fd: u32| listed(ProcNode::FdInfo { pid, fd }, &fd.to_string());
                at.fds.fds().into_iter().map(info).collect()
            }
            ProcNode::NsDir { pid } => (0..)
                .zip(NAMESPACES)
                .map(|(n, (name, _))| listed(ProcNode::Namespace { pid, namespace: n }, name))
                .collect(),
            ProcNode::MappedDir { pid } => {
                mapped::list(env, pid).iter().map(|(node, name)| listed(*node, name)).collect()
            }
            ProcNode::TaskDir { pid } => env
                .caller
                .tids(pid)
                .into_iter()
                .map(|tid| listed(ProcNode::Thread { pid, tid }, &tid.to_string()))
                .collect(),
            _ => Vec::new(),
        };
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The descriptor that an inode tells of, if it is a file of `/proc/<pid>/fdinfo`.
    pub(crate) fn told_descriptor(&self, id: InodeId) -> Option<u32> {
        match ProcNode::of(id) {
            Some(ProcNode::FdInfo { fd, .. }) => Some(fd),
            _ => None,
        }
    }

    /// The descriptor that an inode leads to, if it is a link of `/proc/<pid>/fd`.
    pub(crate) fn linked_descriptor(&self, id: InodeId) -> Option<u32> {
        match ProcNode::of(id) {
            Some(ProcNode::Fd { fd, .. }) => Some(fd),
            _ => None,
        }
    }

    /// The processes, as `/proc` lists them.
    pub(in super::super) fn proc_processes(&self, env: &mut Env<'_>) -> Vec<Listed> {
        let pids = env.caller.pids().into_iter().filter(|pid| *pid < NUMBER_MAX);
        pids.map(|pid| listed(ProcNode::Process { pid }, &pid.to_string())).collect()
    }
}
