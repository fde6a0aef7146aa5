//! `/proc`: a fixed tree, and a directory for each process.
//!
//! What lies in `/proc/<pid>` comes and goes with processes, so its files are in no table: their
//! [`InodeId`] says all that there is to know ([`ProcNode`]).

mod mapped;
mod node;
mod text;

pub(super) use node::ProcNode;

use super::env::ProcFile;
use super::inode::{Body, Dir, InodeId, Link, Place, Text};
use super::{Env, Fs};

/// Where in the table of inodes `/proc` is: it is built right after `/dev`, and looked for by name.
pub(super) fn build(fs: &mut Fs) {
    let body = Body::Dir(Dir { fixed: true, processes: true, ..Dir::default() });
    let root = fs.add_built_in(fs.root, b"proc", Place::Proc, 0o555, body);
    fs.add_built_in(root, b"self", Place::Proc, 0o777, Body::Link(Link::ProcSelf));
    fs.add_built_in(root, b"thread-self", Place::Proc, 0o777, Body::Link(Link::ProcThreadSelf));
    let mounts = Body::Link(Link::Target(b"self/mounts".to_vec()));
    fs.add_built_in(root, b"mounts", Place::Proc, 0o777, mounts);
    for (path, source) in text::SYSTEM {
        let text = match source {
            text::Source::Asked(file) => Text::Proc(*file),
            text::Source::Fixed(bytes) => Text::Fixed(bytes.as_bytes().to_vec()),
        };
        add_text(fs, root, Place::Proc, path, text);
    }
}

/// Adds a text at a path below `root`, with the directories that lead there.
pub(super) fn add_text(fs: &mut Fs, root: InodeId, place: Place, path: &str, text: Text) {
    let mut dir = root;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            fs.add_built_in(dir, part.as_bytes(), place, 0o444, Body::Text(text));
            return;
        }
        dir = add_dir(fs, dir, place, part);
    }
}

/// The directory of that name, made if it is not there yet.
pub(super) fn add_dir(fs: &mut Fs, parent: InodeId, place: Place, name: &str) -> InodeId {
    match fs.built_in_child(parent, name) {
        Some(id) => id,
        None => fs.add_built_in_dir(parent, name, place, 0o555, true),
    }
}

impl Fs {
    /// Looks up what was built in, without a question to the host.
    pub(super) fn built_in_child(&self, parent: InodeId, name: &str) -> Option<InodeId> {
        match self.dir(parent).ok()?.entries.get(name.as_bytes())? {
            super::inode::Entry::Node { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// The content of a text file of a process or of the system.
    pub(super) fn text_of(&self, env: &mut Env<'_>, pid: u32, text: &Text) -> Vec<u8> {
        match text {
            Text::Fixed(bytes) => bytes.clone(),
            Text::Proc(ProcFile::NetUnix) => self.sockets().text(),
            Text::Proc(file) => env.caller.proc_text(pid, *file).unwrap_or_else(|| built_in(env, *file)),
        }
    }
}

fn built_in(env: &mut Env<'_>, file: ProcFile) -> Vec<u8> {
    if file == ProcFile::Uuid {
        let mut bytes = [0; 16];
        env.caller.random(&mut bytes);
        return text::uuid(bytes);
    }
    text::built_in(file).as_bytes().to_vec()
}
