//! What the guest made or changed: the files to take out after a run.

use super::Fs;
use super::content::Content;
use super::error::{FsResult, fail};
use super::inode::{Body, Entry, InodeId};
use crate::errno::Errno;

/// A regular file that the guest made or whose content it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// Absolute path in the guest, without symbolic links.
    pub path: Vec<u8>,
    /// The file.
    pub id: InodeId,
    /// Bytes that it says it has: more than its disk quota where it has holes.
    pub len: u64,
}

impl Fs {
    /// The regular files that the guest made or changed, at an absolute path or below it, by path.
    /// Asks the host nothing, so that it may be called at any point of a run: what the guest has not
    /// looked at it has not changed. Links are not followed.
    ///
    /// # Errors
    /// `ENOENT` when the path is not one that the guest has looked at.
    pub fn changed_below(&self, path: &[u8]) -> FsResult<Vec<ChangedFile>> {
        let mut top = (self.root, b"/".to_vec());
        for name in path.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b".")) {
            let Some(Entry::Node { id, .. }) = self.dir(top.0)?.entries.get(name) else {
                return fail(Errno::ENOENT);
            };
            top = (*id, join(&top.1, name));
        }
        let mut changed = Vec::new();
        let mut open = vec![top];
        while let Some((id, path)) = open.pop() {
            match self.inode(id).map(|inode| &inode.body) {
                Ok(Body::Dir(dir)) => {
                    for (name, entry) in &dir.entries {
                        // A name that was only listed is as the host has it.
                        let Entry::Node { id, .. } = entry else { continue };
                        open.push((*id, join(&path, name)));
                    }
                }
                Ok(Body::File(content)) if content.is_changed() => {
                    changed.push(ChangedFile { path, id, len: content.len() });
                }
                _ => {}
            }
        }
        changed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changed)
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if dir.ends_with(b"/") { b"" } else { b"/" };
    [dir, slash, name].concat()
}

impl Content {
    /// Whether it is another than the host's.
    fn is_changed(&self) -> bool {
        match self {
            Content::Blocks(blocks) => blocks.is_changed(),
            // Mapped by a descriptor that may write.
            Content::Shared { .. } => true,
        }
    }
}
