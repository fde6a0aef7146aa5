//! A host in memory and a monitor of few words, for tests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use dejavm_snapshot::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    At, Caller, ContentRef, Env, Fs, FsError, FsOptions, FsResult, InodeId, Mount, MountSource, NoFds,
    OpenFlags, ProcFile, ReadContent, Stdio,
};
use crate::errno::Errno;
use crate::exit::SourceKind;
use crate::program::fs::DirFormat;
use crate::ram::{PAGE_SIZE, PageError, PageSource};
use crate::world::{
    BLOCK_SIZE, DirEntry, FileKind, HostClock, Metadata, OutputChange, Request, Response, Stream, Wake,
    Woken, World, WorldError,
};

const PAGE: u64 = PAGE_SIZE as u64;

/// A file of the host in memory.
#[derive(Clone, Debug)]
pub(crate) enum HostNode {
    Dir,
    File(Vec<u8>),
    Link(Vec<u8>),
    Other,
    /// Every question about it is refused.
    Refused,
}

/// A host in memory. It keeps what it was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeWorld {
    /// By grant and path.
    pub nodes: BTreeMap<(u32, Vec<u8>), HostNode>,
    pub input: VecDeque<Vec<u8>>,
    /// Whether input is at its end when `input` is empty, or may still come.
    pub input_open: bool,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Bytes that an output takes at once.
    pub output_max: Option<usize>,
    pub asked: Vec<String>,
}

impl FakeWorld {
    pub fn dir(mut self, path: &str) -> FakeWorld {
        self.nodes.insert((0, path.as_bytes().to_vec()), HostNode::Dir);
        self
    }

    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> FakeWorld {
        self.nodes.insert((0, path.as_bytes().to_vec()), HostNode::File(content.into()));
        self
    }

    pub fn link(mut self, path: &str, target: &str) -> FakeWorld {
        let target = HostNode::Link(target.as_bytes().to_vec());
        self.nodes.insert((0, path.as_bytes().to_vec()), target);
        self
    }

    pub fn node(mut self, path: &str, node: HostNode) -> FakeWorld {
        self.nodes.insert((0, path.as_bytes().to_vec()), node);
        self
    }

    fn get(&self, path: &crate::world::HostPath) -> Result<&HostNode, Errno> {
        match self.nodes.get(&(path.grant, path.path.clone())) {
            None => Err(Errno::ENOENT),
            Some(HostNode::Refused) => Err(Errno::EACCES),
            Some(node) => Ok(node),
        }
    }
}

fn kind(node: &HostNode) -> FileKind {
    match node {
        HostNode::Dir => FileKind::Directory,
        HostNode::File(_) => FileKind::Regular,
        HostNode::Link(_) => FileKind::Symlink,
        HostNode::Other | HostNode::Refused => FileKind::Other,
    }
}

impl World for FakeWorld {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        let log = match request {
            Request::Metadata { path } | Request::ReadLink { path } | Request::ReadDir { path } => {
                format!("{} {}", request.name(), String::from_utf8_lossy(&path.path))
            }
            Request::ReadBlock { path, block } => {
                format!("block {} {block}", String::from_utf8_lossy(&path.path))
            }
            other => other.name().to_owned(),
        };
        self.asked.push(log);
        Ok(match request {
            Request::Clock => Response::Clock(HostClock { realtime: 1, monotonic: 1 }),
            Request::Input { max, .. } => Response::Input(match self.input.pop_front() {
                Some(mut bytes) => {
                    let rest = bytes.split_off(bytes.len().min(max));
                    if !rest.is_empty() {
                        self.input.push_front(rest);
                    }
                    Ok(bytes)
                }
                None if self.input_open => Err(Errno::EAGAIN),
                None => Ok(Vec::new()),
            }),
            Request::Output { stream, data } => {
                let n = data.len().min(self.output_max.unwrap_or(usize::MAX));
                match stream {
                    Stream::Stdout => self.stdout.extend_from_slice(&data[..n]),
                    Stream::Stderr => self.stderr.extend_from_slice(&data[..n]),
                }
                Response::Output(Ok(n))
            }
            Request::OutputFile { stream, change } => {
                let file = match stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                };
                let data = change.data();
                const LONGEST: u64 = 1 << 20;
                match change {
                    OutputChange::Write { offset, .. } if offset > LONGEST => {
                        return Ok(Response::OutputFile(Err(Errno::EFBIG)));
                    }
                    OutputChange::Resize { len } if len > LONGEST => {
                        return Ok(Response::OutputFile(Err(Errno::EFBIG)));
                    }
                    OutputChange::Write { offset, .. } => {
                        let (start, end) = (offset as usize, offset as usize + data.len());
                        file.resize(file.len().max(end), 0);
                        file[start..end].copy_from_slice(data);
                    }
                    OutputChange::Append { .. } => file.extend_from_slice(data),
                    OutputChange::Resize { len } => file.resize(len as usize, 0),
                    OutputChange::Sync => self.asked.push(format!("sync {stream:?}")),
                }
                Response::OutputFile(Ok(data.len()))
            }
            Request::Wait { .. } => {
                let ready = !self.input.is_empty() || !self.input_open;
                Response::Wait(Woken { by: if ready { Wake::Input } else { Wake::Time }, ns: 0 })
            }
            Request::Signal { .. } => Response::Signal(None),
            Request::Terminal(_) => Response::Terminal(Err(Errno::ENOTTY)),
            Request::Metadata { path } => Response::Metadata(self.get(path).map(|node| Metadata {
                kind: kind(node),
                mode: if matches!(node, HostNode::Dir) { 0o755 } else { 0o644 },
                uid: 7,
                gid: 8,
                nlink: if matches!(node, HostNode::Dir) { 5 } else { 1 },
                size: match node {
                    HostNode::File(bytes) | HostNode::Link(bytes) => bytes.len() as u64,
                    _ => 0,
                },
                mtime: 1_000,
            })),
            Request::ReadLink { path } => Response::Link(match self.get(path) {
                Ok(HostNode::Link(target)) => Ok(target.clone()),
                Ok(_) => Err(Errno::EINVAL),
                Err(e) => Err(e),
            }),
            Request::ReadDir { path } => Response::Dir(self.get(path).map(|_| {
                let mut prefix = path.path.clone();
                if !prefix.is_empty() {
                    prefix.push(b'/');
                }
                let names = self.nodes.iter().filter_map(|((grant, name), node)| {
                    let rest = name.strip_prefix(&prefix[..])?;
                    let direct = *grant == path.grant && !rest.is_empty() && !rest.contains(&b'/');
                    direct.then(|| DirEntry { name: rest.to_vec(), kind: kind(node) })
                });
                names.collect()
            })),
            Request::ReadBlock { path, block } => Response::Block(match self.get(path) {
                Ok(HostNode::File(bytes)) => {
                    let from = bytes.len().min(block as usize * BLOCK_SIZE);
                    Ok(bytes[from..bytes.len().min(from + BLOCK_SIZE)].into())
                }
                Ok(_) => Err(Errno::EINVAL),
                Err(e) => Err(e),
            }),
        })
    }

    fn seek_input(&mut self, offset: u64) {
        self.asked.push(format!("seek input {offset}"));
    }

    fn seek_output(&mut self, stream: Stream, offset: u64) {
        self.asked.push(format!("seek {stream:?} {offset}"));
    }
}

/// A monitor with a clock that stands still unless it is moved, and memory for shared objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeCaller {
    pub now: i64,
    pub objects: BTreeMap<u64, Vec<u8>>,
    /// How much lies below objects.
    pub below: BTreeMap<u64, u64>,
    /// The pages that objects have of their own: object and number.
    pub own: BTreeSet<(u64, u64)>,
    /// Bytes that all objects may have.
    pub memory: Option<u64>,
    /// Contents that moved into objects.
    pub moved: Vec<(ContentRef, u64)>,
}

impl Caller for FakeCaller {
    fn now(&self) -> i64 {
        self.now
    }

    fn random(&mut self, buf: &mut [u8]) {
        buf.fill(4);
    }

    fn pid(&self) -> u32 {
        2
    }

    fn tids(&self, _pid: u32) -> Vec<u32> {
        vec![2, 3]
    }

    fn proc_text(&mut self, pid: u32, file: ProcFile) -> Option<Vec<u8>> {
        match file {
            ProcFile::Maps => Some(format!("maps of {pid}\n").into_bytes()),
            ProcFile::MemInfo => Some(b"MemTotal: 1 kB\n".to_vec()),
            _ => None,
        }
    }

    fn exe(&self, _pid: u32) -> Vec<u8> {
        b"/bin/tool".to_vec()
    }

    fn read_shared(&mut self, object: u64, offset: u64, buf: &mut [u8]) -> FsResult<Vec<Range<usize>>> {
        let bytes = self.objects.get(&object).ok_or(FsError::Errno(Errno::EIO))?;
        // As in guest memory: whoever damages a state may make a file longer than its object.
        let part = bytes.get(offset as usize..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(part.ok_or(FsError::Errno(Errno::EIO))?);
        let end = offset + buf.len() as u64;
        let pages = offset / PAGE..end.div_ceil(PAGE);
        let lacking = pages.filter(|page| self.lacks_shared(object, page * PAGE)).map(|page| {
            let (from, to) = ((page * PAGE).max(offset), ((page + 1) * PAGE).min(end));
            (from - offset) as usize..(to - offset) as usize
        });
        let lacking: Vec<_> = lacking.collect();
        for part in &lacking {
            // Nobody may look at it.
            buf[part.clone()].fill(0xee);
        }
        Ok(lacking)
    }

    fn lacks_shared(&self, object: u64, offset: u64) -> bool {
        self.below.get(&object).is_some_and(|len| offset < *len)
            && !self.own.contains(&(object, offset / PAGE))
    }

    fn put_below(&mut self, object: u64, _content: ContentRef, len: u64) {
        self.below.insert(object, len);
    }

    fn shared_data(&self, object: u64, at: u64) -> Option<u64> {
        let mut own = self.own.range((object, at / PAGE)..(object, u64::MAX));
        match self.below.contains_key(&object) {
            true => own.next().map(|(_, page)| at.max(page * PAGE)),
            false => Some(at),
        }
    }

    fn write_shared(&mut self, object: u64, offset: u64, data: &[u8]) -> FsResult<()> {
        let end = offset + data.len() as u64;
        for page in offset / PAGE..end.div_ceil(PAGE) {
            let whole = offset <= page * PAGE && (page + 1) * PAGE <= end;
            assert!(whole || !self.lacks_shared(object, page * PAGE), "page {page} is written in part");
            self.own.insert((object, page));
        }
        let bytes = self.objects.get_mut(&object).ok_or(FsError::Errno(Errno::EIO))?;
        let n = data.len().min(bytes.len() - offset as usize);
        bytes[offset as usize..][..n].copy_from_slice(&data[..n]);
        Ok(())
    }

    fn zero_shared(&mut self, object: u64, range: Range<u64>) -> FsResult<()> {
        let whole = range.start.div_ceil(PAGE)..range.end / PAGE;
        self.own.retain(|(number, page)| *number != object || !whole.contains(page));
        let bytes = self.objects.get_mut(&object).ok_or(FsError::Errno(Errno::EIO))?;
        bytes[range.start as usize..range.end as usize].fill(0);
        Ok(())
    }

    fn resize_shared(&mut self, object: u64, len: u64) -> FsResult<()> {
        if self.memory.is_some_and(|memory| len > memory) {
            return Err(FsError::Errno(Errno::ENOSPC));
        }
        self.objects.entry(object).or_default().resize(len as usize, 0);
        self.own.retain(|(number, page)| *number != object || page * PAGE < len);
        self.below.entry(object).and_modify(|below| *below = len.min(*below));
        Ok(())
    }

    fn drop_shared(&mut self, object: u64) -> FsResult<()> {
        self.objects.remove(&object);
        self.below.remove(&object);
        self.own.retain(|(number, _)| *number != object);
        Ok(())
    }

    fn content_moved(
        &mut self,
        content: ContentRef,
        _file: InodeId,
        object: u64,
        read: &mut ReadContent<'_>,
    ) -> FsResult<()> {
        read(0, &mut [0; 10])?;
        self.moved.push((content, object));
        Ok(())
    }
}

/// A file system with its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    pub fs: Fs,
    pub world: FakeWorld,
    pub kernel: FakeCaller,
}

impl Bench {
    /// A guest that sees all of a host.
    pub fn new(world: FakeWorld) -> Bench {
        let root = Mount { path: b"/".to_vec(), source: MountSource::Directory { grant: 0 } };
        Bench::with(world.dir(""), FsOptions { mounts: vec![root], ..FsOptions::default() })
    }

    /// A guest that sees nothing of the host.
    pub fn empty() -> Bench {
        Bench::with(FakeWorld::default(), FsOptions::default())
    }

    pub fn with_stdio(stdio: Stdio) -> Bench {
        Bench::with(FakeWorld::default(), FsOptions { stdio, ..FsOptions::default() })
    }

    pub fn with_quota(quota: u64) -> Bench {
        Bench::with(FakeWorld::default(), FsOptions { quota, ..FsOptions::default() })
    }

    pub fn with(world: FakeWorld, options: FsOptions) -> Bench {
        Bench { fs: Fs::new(options).unwrap(), world, kernel: FakeCaller::default() }
    }

    /// Runs an operation that starts at the root.
    pub fn run<T>(&mut self, act: impl FnOnce(&mut Fs, &mut Env<'_>, At<'_>) -> T) -> T {
        let at = At { base: self.fs.root(), fds: &NoFds };
        let mut env = Env { world: &mut self.world, caller: &mut self.kernel };
        act(&mut self.fs, &mut env, at)
    }

    pub fn lookup(&mut self, path: &str) -> Result<InodeId, Errno> {
        errno(self.run(|fs, env, at| fs.lookup(env, at, path.as_bytes(), true)))
    }

    pub fn mkdir(&mut self, path: &str) -> Result<(), Errno> {
        errno(self.run(|fs, env, at| fs.mkdir(env, at, path.as_bytes(), 0o755)).map(drop))
    }

    /// Opens; the inode stays held.
    pub fn open(&mut self, path: &str, flags: OpenFlags) -> Result<InodeId, Errno> {
        errno(self.run(|fs, env, at| fs.open(env, at, path.as_bytes(), flags, 0o644)))
    }

    /// Writes a whole file.
    pub fn put(&mut self, path: &str, content: &[u8]) -> Result<(), Errno> {
        let flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::TRUNC;
        let id = self.open(path, flags)?;
        let written = errno(self.run(|fs, env, _| fs.write_at(env, id, 0, content)));
        errno(self.run(|fs, env, _| fs.release(env, id)))?;
        written.map(drop)
    }

    /// Reads a whole file.
    pub fn cat(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        let id = self.open(path, OpenFlags::RDONLY)?;
        let mut out = Vec::new();
        let mut buf = [0; 1000];
        let read = loop {
            match errno(self.run(|fs, env, _| fs.read_at(env, id, out.len() as u64, &mut buf))) {
                Ok(0) => break Ok(out),
                Ok(n) => out.extend_from_slice(&buf[..n]),
                Err(e) => break Err(e),
            }
        };
        errno(self.run(|fs, env, _| fs.release(env, id)))?;
        read
    }

    pub fn rename(&mut self, old: &str, new: &str) -> Result<(), Errno> {
        errno(self.run(|fs, env, at| fs.rename(env, (at, old.as_bytes()), (at, new.as_bytes()), false)))
    }

    pub fn unlink(&mut self, path: &str) -> Result<(), Errno> {
        errno(self.run(|fs, env, at| fs.unlink(env, at, path.as_bytes())))
    }

    pub fn rmdir(&mut self, path: &str) -> Result<(), Errno> {
        errno(self.run(|fs, env, at| fs.rmdir(env, at, path.as_bytes())))
    }

    pub fn symlink(&mut self, target: &str, path: &str) -> Result<(), Errno> {
        let made = self.run(|fs, env, at| fs.symlink(env, at, path.as_bytes(), target.as_bytes()));
        errno(made.map(drop))
    }

    pub fn link(&mut self, old: &str, new: &str) -> Result<(), Errno> {
        errno(self.run(|fs, env, at| {
            let id = fs.lookup(env, at, old.as_bytes(), false)?;
            fs.link(env, id, at, new.as_bytes())
        }))
    }

    pub fn stat(&mut self, path: &str) -> Result<super::Stat, Errno> {
        errno(self.run(|fs, env, at| {
            let id = fs.lookup(env, at, path.as_bytes(), false)?;
            fs.stat(env, id)
        }))
    }

    pub fn readlink(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        errno(self.run(|fs, env, at| {
            let id = fs.lookup(env, at, path.as_bytes(), false)?;
            fs.readlink(env, at, id)
        }))
    }

    /// The names in a directory, without `.` and `..`.
    pub fn ls(&mut self, path: &str) -> Result<Vec<String>, Errno> {
        let id = self.lookup(path)?;
        let mut cursor = super::DirCursor::default();
        let mut all = Vec::new();
        loop {
            let bytes = errno(
                self.run(|fs, env, at| fs.getdents(env, at, id, &mut cursor, (100, DirFormat::Large))),
            )?;
            if bytes.is_empty() {
                all.retain(|name| name != "." && name != "..");
                return Ok(all);
            }
            all.extend(records(&bytes).into_iter().map(|(name, _)| name));
        }
    }
}

/// Name and type of the records that `getdents64` gave.
pub(crate) fn records(mut bytes: &[u8]) -> Vec<(String, u8)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let len = usize::from(u16::from_le_bytes([bytes[16], bytes[17]]));
        let name = bytes[19..len].split(|b| *b == 0).next().unwrap();
        all.push((String::from_utf8(name.to_vec()).unwrap(), bytes[18]));
        bytes = &bytes[len..];
    }
    all
}

/// The guest's part of a result.
pub(crate) fn errno<T>(result: FsResult<T>) -> Result<T, Errno> {
    match result {
        Ok(value) => Ok(value),
        Err(FsError::Errno(errno)) => Err(errno),
        Err(other) => panic!("{other}"),
    }
}

/// The pages of a snapshot, from `first` on.
pub(crate) struct Pages {
    first: u64,
    pages: Vec<[u8; PAGE_SIZE]>,
}

impl PageSource for Pages {
    fn has_content(&self, _page: u64) -> Result<bool, PageError> {
        Ok(true)
    }

    fn fetch(&self, first: u64, out: &mut [u8]) -> Result<SourceKind, PageError> {
        let outside = || PageError::Outside { page: first, pages: self.pages.len() as u64 };
        let n = first.checked_sub(self.first).ok_or_else(outside)?;
        out.copy_from_slice(self.pages.get(n as usize).ok_or_else(outside)?);
        Ok(SourceKind::Snapshot)
    }
}

/// What a snapshot holds of a file system: its state, to be encoded, and the pages of its blocks,
/// which are numbered from `first` on.
pub(crate) fn store(fs: &Fs, first: u64) -> (Fs, Pages) {
    let mut fs = fs.clone();
    let blocks = fs.place(first);
    let read = |page| {
        let mut out = [1; PAGE_SIZE];
        blocks.read(page, &mut out).unwrap();
        out
    };
    let pages = (first..blocks.end().unwrap_or(first)).map(read).collect();
    (fs, Pages { first, pages })
}

/// A file system and what refers to it, as a snapshot gives them back.
pub(crate) fn restored<T: Serialize + DeserializeOwned>(fs: &Fs, other: &T) -> (Fs, T) {
    let (stored, pages) = store(fs, 100);
    let bytes = codec::encode(&(stored, other)).unwrap();
    let (mut fs, other) = codec::decode::<(Fs, T)>(&bytes).unwrap();
    fs.check_stored(pages.numbers()).unwrap();
    fs.connect(Some(Arc::new(pages)));
    (fs, other)
}

impl Pages {
    /// The page numbers.
    pub fn numbers(&self) -> Range<u64> {
        self.first..self.first + self.pages.len() as u64
    }

    /// The pages without their order, and without those between blocks.
    pub fn sorted(mut self) -> Vec<[u8; PAGE_SIZE]> {
        self.pages.retain(|page| page.iter().any(|byte| *byte != 0));
        self.pages.sort_unstable();
        self.pages
    }
}

impl Fs {
    /// As if no block had pages in a snapshot.
    pub fn forget_places(&mut self) {
        self.chunks.forget_places();
    }
}
