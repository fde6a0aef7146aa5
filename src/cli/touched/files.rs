//! Calls that touch a file.

use std::collections::BTreeSet;

use dejavm::replay::text::{Decoded, STRING_BYTES, errno_of};
use dejavm::sandbox::program::syscall::table;
use dejavm::{Exit, ExitKind, GuestMemory, MadeCall, WorldError};

use crate::cli::about::{OpenCalls, Subject};
use crate::cli::decoding::{Viewer, Watched};
use crate::cli::hits::{Hit, Hits};
use crate::cli::pattern::Pattern;

/// Other names of the files that are kept; no more are learnt.
const MOST_NAMES: usize = 1024;

/// What `/proc/self/fd` writes behind the path of a file that has no name any more.
const DELETED: &[u8] = b" (deleted)";

/// What calls do to a file. Those that tell nothing of it, such as `close` and `lseek`, are not here.
const VERBS: &[(&str, &[&str])] = &[
    ("opened", &["open", "openat", "openat2", "creat"]),
    ("executed", &["execve", "execveat"]),
    (
        "read",
        &[
            "read",
            "pread64",
            "readv",
            "preadv",
            "preadv2",
            "getdents",
            "getdents64",
            "readlink",
            "readlinkat",
        ],
    ),
    ("wrote", &["write", "pwrite64", "writev", "pwritev", "pwritev2"]),
    ("copied", &["sendfile", "splice", "tee", "copy_file_range"]),
    ("mapped", &["mmap"]),
    (
        "looked at",
        &[
            "stat",
            "lstat",
            "fstat",
            "newfstatat",
            "statx",
            "access",
            "faccessat",
            "faccessat2",
            "statfs",
            "fstatfs",
            "getxattr",
            "lgetxattr",
            "fgetxattr",
            "listxattr",
            "llistxattr",
            "flistxattr",
        ],
    ),
    (
        "changed",
        &[
            "truncate",
            "ftruncate",
            "fallocate",
            "chmod",
            "fchmod",
            "fchmodat",
            "chown",
            "lchown",
            "fchown",
            "fchownat",
            "utime",
            "utimes",
            "utimensat",
            "futimesat",
            "setxattr",
            "lsetxattr",
            "fsetxattr",
            "removexattr",
            "lremovexattr",
            "fremovexattr",
        ],
    ),
    ("renamed", &["rename", "renameat", "renameat2"]),
    ("removed", &["unlink", "unlinkat", "rmdir"]),
    ("made", &["mkdir", "mkdirat", "mknod", "mknodat", "symlink", "symlinkat", "link", "linkat"]),
    ("entered", &["chdir", "fchdir"]),
];

/// Looks for what touches files.
pub struct FileTouches {
    pattern: Pattern,
    /// What else the files are called: what symbolic links lead to, and new names.
    names: BTreeSet<Vec<u8>>,
    open: OpenCalls,
    /// What was found.
    pub hits: Hits,
}

impl FileTouches {
    /// Of the files of this pattern.
    pub fn new(pattern: Pattern, hits: Hits) -> FileTouches {
        FileTouches { pattern, names: BTreeSet::new(), open: OpenCalls::default(), hits }
    }

    fn is_it(&self, file: &Subject) -> bool {
        let path = match file.open {
            true => file.path.strip_suffix(DELETED).unwrap_or(&file.path),
            false => &file.path,
        };
        self.pattern.matches(path) || self.names.contains(path)
    }

    fn learn(&mut self, name: Vec<u8>) {
        if self.names.len() < MOST_NAMES && !self.pattern.matches(&name) {
            self.names.insert(name);
        }
    }
}

fn verb(call: u64) -> Option<&'static str> {
    let name = table::find(call)?.name();
    VERBS.iter().find(|(_, names)| names.contains(&name)).map(|(verb, _)| *verb)
}

impl Viewer for FileTouches {
    fn strings(&self) -> usize {
        STRING_BYTES
    }

    fn made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) {
        self.open.made(call, memory);
    }

    fn exit(&mut self, exit: &Exit, decoded: &Decoded, memory: &dyn GuestMemory) -> Watched {
        let ExitKind::Syscall { number, .. } = exit.kind else { return Ok(()) };
        let about = self.open.answered(exit);
        let touched = about.files.iter().position(|file| self.is_it(file));
        if let (Some(touched), Some(verb)) = (touched, verb(number)) {
            let mut hit = Hit::exit(exit, decoded);
            hit.text = format!("{verb}: {}", hit.text);
            hit.more.insert("touch".into(), verb.into());
            self.hits.add(hit);
            let succeeded = errno_of(exit.result).is_none();
            match verb {
                "opened" if succeeded => {
                    let opened = u32::try_from(exit.result).ok().and_then(|opened| memory.path_of(opened));
                    opened.into_iter().for_each(|path| self.learn(path));
                }
                "renamed" if succeeded && touched == 0 => {
                    about.files.get(1).into_iter().for_each(|to| self.learn(to.path.clone()));
                }
                _ => {}
            }
        }
        if self.hits.are_enough() { Err(WorldError::Interrupted) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_of_calls() {
        let mut seen = BTreeSet::new();
        for name in VERBS.iter().flat_map(|(_, names)| names.iter()) {
            assert!(table::all().iter().any(|call| call.name() == *name), "{name}");
            assert!(seen.insert(name), "{name} is there twice");
        }
    }
}
