//! What calls are about: the files that their paths name and their descriptors are open on.

use std::collections::BTreeMap;

use dejavm::replay::text::{files_among, path_at};
use dejavm::sandbox::program::syscall::number;
use dejavm::{Exit, ExitKind, GuestMemory, MadeCall};

/// `AT_FDCWD`: where a directory's descriptor is due, the working directory.
const AT_FDCWD: i32 = -100;

/// Bytes of paths that are kept of calls that wait. What would pass it is not known: a guest may have any number of
/// tasks.
const MOST_KEPT: usize = 64 << 20;

/// A file that a call is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The place of the argument.
    pub argument: usize,
    /// Absolute path: as the program named it, or as `/proc/self/fd` has it.
    pub path: Vec<u8>,
    /// It is named by a descriptor.
    pub open: bool,
}

/// What a call is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Its files, as they were when it was made.
    pub files: Vec<Subject>,
    /// It ends the last task of its process.
    pub last_task: bool,
}

impl About {
    /// Of a call that is about to be answered.
    pub fn of(call: &MadeCall, memory: &dyn GuestMemory) -> About {
        let (descriptors, paths) = files_among(call.number);
        let mut files = Vec::new();
        for argument in descriptors {
            if let Some(path) = memory.path_of(call.args[argument] as u32) {
                files.push(Subject { argument, path, open: true });
            }
        }
        for (argument, directory) in paths {
            let Some(path) = path_at(memory, call.args[argument]) else { continue };
            let base = match directory.map(|at| call.args[at] as i32) {
                _ if path.first() == Some(&b'/') => Some(Vec::new()),
                None | Some(AT_FDCWD) => memory.working_directory(),
                Some(descriptor) => memory.path_of(descriptor as u32),
            };
            if let Some(base) = base {
                files.push(Subject { argument, path: absolute(&base, &path), open: false });
            }
        }
        About { files, last_task: memory.process().is_some_and(|(_, tasks)| tasks == 1) }
    }

    fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.path.len()).sum()
    }
}

/// A path from a directory, without `.`, `..` and double slashes; symbolic links are not followed.
pub fn absolute(base: &[u8], path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in base.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let mut out = Vec::with_capacity(base.len() + path.len() + 1);
    for name in names {
        out.push(b'/');
        out.extend_from_slice(name);
    }
    if out.is_empty() { b"/".to_vec() } else { out }
}

/// What the calls are about that are not answered yet, by task.
#[derive(Debug, Default)]
pub struct OpenCalls {
    calls: BTreeMap<u32, (MadeCall, About)>,
    kept: usize,
}

impl OpenCalls {
    /// A call is made.
    pub fn made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) {
        self.take(call.task);
        let about = About::of(call, memory);
        if self.kept + about.bytes() <= MOST_KEPT {
            self.kept += about.bytes();
            self.calls.insert(call.task, (*call, about));
        }
    }

    /// What the call was about that this exit answers.
    pub fn answered(&mut self, exit: &Exit) -> About {
        let ExitKind::Syscall { number, args } = exit.kind else { return About::default() };
        let is_it = |call: &MadeCall| (call.number, call.args) == (number, args);
        let own = self.calls.get(&exit.task).is_some_and(|(call, _)| is_it(call)).then_some(exit.task);
        // A thread that executes a program has its process's number by now.
        let task = own.or_else(|| {
            let executes = matches!(number, number::EXECVE | number::EXECVEAT);
            let other = self.calls.iter().find(|(_, (call, _))| executes && is_it(call));
            other.map(|(task, _)| *task)
        });
        task.and_then(|task| self.take(task)).unwrap_or_default()
    }

    fn take(&mut self, task: u32) -> Option<About> {
        let (_, about) = self.calls.remove(&task)?;
        self.kept -= about.bytes();
        Some(about)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute() {
        for (base, path, expected) in [
            ("/work", "a", "/work/a"),
            ("/work", "./b//c/", "/work/b/c"),
            ("/work/x", "../../..", "/"),
            ("", "/etc/../x", "/x"),
            ("/work", "", "/work"),
        ] {
            assert_eq!(absolute(base.as_bytes(), path.as_bytes()), expected.as_bytes(), "{base} {path}");
        }
    }

    /// Paths by descriptor, and the bytes of a path.
    struct Guest(&'static [u8]);

    impl GuestMemory for Guest {
        fn read(&self, address: u64, out: &mut [u8]) -> usize {
            let from = self.0.get(address as usize..).unwrap_or(&[]);
            let n = from.len().min(out.len());
            out[..n].copy_from_slice(&from[..n]);
            n
        }

        fn path_of(&self, descriptor: u32) -> Option<Vec<u8>> {
            (descriptor == 3).then(|| b"/dir".to_vec())
        }

        fn working_directory(&self) -> Option<Vec<u8>> {
            Some(b"/work".to_vec())
        }
    }

    #[test]
    fn relative_paths_start_where_the_call_says() {
        let guest = Guest(b"\0name\0");
        let call = |directory: i32| MadeCall {
            task: 2,
            number: 257,
            args: [directory as u32 as u64, 1, 0, 0, 0, 0],
            ..MadeCall::default()
        };
        let paths = |directory| -> Vec<Vec<u8>> {
            About::of(&call(directory), &guest).files.into_iter().map(|file| file.path).collect()
        };
        assert_eq!(paths(AT_FDCWD), [b"/work/name"]);
        assert_eq!(paths(3), [b"/dir/name"]);
        assert!(paths(4).is_empty());
    }
}
