//! Finding what `execve` runs: the file, through `#!` lines, and the interpreter that it names.

use super::elf::{self, Image};
use super::error::SysError;
use super::exec::Command;
use super::files::{AT_EMPTY_PATH, AT_FDCWD};
use super::fs::{ContentRef, FsError, InodeId, Stat, X_OK, fail};
use super::kernel::Kernel;
use crate::errno::Errno;

/// How many scripts may lead to a program (`exec_binprm`).
const MAX_SCRIPTS: usize = 5;
/// The longest first line of a script (`BINPRM_BUF_SIZE`).
const SCRIPT_LINE: usize = 256;
/// The longest argument or variable, its NUL included (`MAX_ARG_STRLEN`).
pub const MAX_STRING: usize = 128 << 10;
/// What arguments and environment may always take (`ARG_MAX`).
const MIN_ARGUMENTS: u64 = 128 << 10;
/// What they may never take more than: three quarters of the usual stack (`bprm_stack_limits`).
pub const MAX_ARGUMENTS: u64 = 6 << 20;

/// Bytes that arguments and environment may take, with their pointers, where the stack may take
/// `stack` bytes.
pub fn argument_space(stack: u64) -> u64 {
    (stack / 4).clamp(MIN_ARGUMENTS, MAX_ARGUMENTS)
}

/// Bytes that a list of strings takes on the stack.
pub fn space_of<'a>(strings: impl IntoIterator<Item = &'a Vec<u8>>) -> u64 {
    const POINTER: u64 = 8;
    strings.into_iter().map(|s| s.len() as u64 + 1 + POINTER).sum()
}

/// A file that may be executed.
#[derive(Clone, Debug)]
pub struct Executable {
    /// What it is.
    pub inode: InodeId,
    /// The name that it was executed by: `AT_EXECFN`, and what a script's interpreter is given.
    pub name: Vec<u8>,
    /// Its absolute path.
    path: Vec<u8>,
    stat: Stat,
    head: Vec<u8>,
    len: u64,
    /// `/proc/self/fd` has no such descriptor once the program runs: a script could not be read.
    inaccessible: bool,
}

/// A program or its ELF interpreter, ready to be mapped.
#[derive(Debug)]
pub struct Binary {
    /// What it is.
    pub inode: InodeId,
    /// Its content, held once.
    pub content: ContentRef,
    /// Bytes in it.
    pub len: u64,
    /// What its headers say.
    pub image: Image,
    /// Its absolute path.
    pub path: Vec<u8>,
    /// Owner and mode.
    pub stat: Stat,
}

/// All that is needed to run a program.
#[derive(Debug)]
pub struct Found {
    /// The program.
    pub program: Binary,
    /// The interpreter that it names: the dynamic loader.
    pub interpreter: Option<Binary>,
    /// The name that it was executed by, with what `#!` lines made of the arguments.
    pub command: Command,
}

/// Why a program cannot be loaded.
#[derive(Debug)]
pub struct LoadError {
    /// The file that it is about.
    pub path: Vec<u8>,
    /// The script or program that names this file as its interpreter.
    pub of: Option<Vec<u8>>,
    /// What `execve` gives.
    pub error: Box<SysError>,
}

impl LoadError {
    pub(super) fn new(path: &[u8], error: impl Into<SysError>) -> LoadError {
        LoadError { path: path.to_vec(), of: None, error: Box::new(error.into()) }
    }
}

impl Kernel {
    /// Opens a file to be executed, by directory descriptor, path and `AT_*` flags.
    ///
    /// # Errors
    /// As `execveat(2)` before it looks at the arguments.
    pub fn open_executable(&mut self, dirfd: i32, path: &[u8], flags: u32) -> Result<Executable, SysError> {
        let of_fd = flags & AT_EMPTY_PATH != 0 && path.is_empty() && dirfd != AT_FDCWD;
        let relative = dirfd != AT_FDCWD && path.first() != Some(&b'/');
        let name = match (of_fd, relative) {
            (true, _) => format!("/dev/fd/{dirfd}").into_bytes(),
            (false, true) => [format!("/dev/fd/{dirfd}/").as_bytes(), path].concat(),
            _ => path.to_vec(),
        };
        let opened = self.with_files(|fs, files, env, task| {
            let inode = files.lookup_at(fs, env, (dirfd, task.cwd), path, flags)?;
            if fs.is_link(inode) {
                return fail(Errno::ELOOP);
            }
            // What output goes to cannot be read.
            if !fs.is_regular(inode) || fs.is_output_file(inode) {
                return fail(Errno::EACCES);
            }
            fs.expect_permission(env, inode, X_OK)?;
            if files.is_written(inode) {
                return fail(Errno::ETXTBSY);
            }
            let len = fs.len(inode);
            let mut head = vec![0u8; elf::HEAD_BYTES.min(usize::try_from(len).unwrap_or(usize::MAX))];
            let read = fs.read_at(env, inode, 0, &mut head)?;
            head.truncate(read);
            let stat = fs.stat(env, inode)?;
            let inaccessible = relative && files.cloexec(dirfd)?;
            Ok(Executable { inode, name, path: fs.path_of(inode), stat, head, len, inaccessible })
        })?;
        Ok(opened)
    }

    /// Goes through `#!` lines to a program, and from there to its interpreter. Nothing is changed:
    /// what was found holds its contents.
    ///
    /// # Errors
    /// As `execve(2)` before it gives the old program up.
    pub fn find_binary(&mut self, file: Executable, command: Command) -> Result<Found, LoadError> {
        let mut command = Command { path: file.name.clone(), ..command };
        let (file, script) = self.follow_scripts(file, &mut command)?;
        let at = |error: SysError| LoadError {
            path: file.path.clone(),
            of: script.clone(),
            error: Box::new(error),
        };
        let image = elf::parse(&file.head, file.len).map_err(|e| at(e.into()))?;
        let interpreter = match image.interpreter {
            Some((offset, len)) => Some(self.find_interpreter(&file, offset, len)?),
            None => None,
        };
        let strings = space_of(command.args.iter().chain(&command.env)) + command.path.len() as u64 + 1;
        if strings > argument_space(self.process.limits[super::limits::STACK].0) {
            return Err(at(Errno::E2BIG.into()));
        }
        let program = self.freeze(&file, image).map_err(at)?;
        let interpreter = match interpreter {
            Some((file, image)) => match self.freeze(&file, image) {
                Ok(interpreter) => Some(interpreter),
                Err(e) => {
                    self.outside.fs().release_frozen(program.content);
                    return Err(at(e));
                }
            },
            None => None,
        };
        Ok(Found { program, interpreter, command })
    }

    /// The program that a chain of scripts leads to, and the last of the scripts.
    fn follow_scripts(
        &mut self,
        mut file: Executable,
        command: &mut Command,
    ) -> Result<(Executable, Option<Vec<u8>>), LoadError> {
        let mut script = None;
        for _ in 0..=MAX_SCRIPTS {
            let Some(line) = file.head.strip_prefix(b"#!") else { return Ok((file, script)) };
            let (interpreter, argument) = script_line(line).map_err(|e| LoadError::new(&file.path, e))?;
            if file.inaccessible {
                return Err(LoadError::new(&file.path, Errno::ENOENT));
            }
            let mut args = vec![interpreter.clone()];
            args.extend(argument);
            args.push(file.name);
            args.extend(command.args.drain(..).skip(1));
            command.args = args;
            let opened = self.open_executable(AT_FDCWD, &interpreter, 0);
            let of = file.path;
            file = opened.map_err(|error| LoadError {
                path: interpreter,
                of: Some(of.clone()),
                error: Box::new(error),
            })?;
            script = Some(of);
        }
        Err(LoadError::new(&file.path, Errno::ELOOP))
    }

    fn find_interpreter(
        &mut self,
        file: &Executable,
        offset: u64,
        len: u64,
    ) -> Result<(Executable, Image), LoadError> {
        let mut path = vec![0u8; len as usize];
        let read = self.with_files(|fs, _, env, _| fs.read_at(env, file.inode, offset, &mut path));
        path.truncate(read.map_err(|e| LoadError::new(&file.path, e))?);
        if path.pop() != Some(0) {
            return Err(LoadError::new(&file.path, Errno::ENOEXEC));
        }
        // The kernel takes the path for a string: what lies behind a NUL is not looked at.
        path.truncate(path.iter().position(|b| *b == 0).unwrap_or(path.len()));
        let of = |error: SysError| LoadError {
            path: path.clone(),
            of: Some(file.path.clone()),
            error: Box::new(error),
        };
        let interpreter = self.open_executable(AT_FDCWD, &path, 0).map_err(of)?;
        let image = elf::parse(&interpreter.head, interpreter.len).map_err(|_| of(Errno::ELIBBAD.into()))?;
        Ok((interpreter, image))
    }

    fn freeze(&mut self, file: &Executable, image: Image) -> Result<Binary, SysError> {
        let (content, len) = self.with_files(|fs, _, env, _| {
            let content = fs.freeze(env, file.inode).map_err(|e| match e {
                FsError::Errno(Errno::ENODEV) => FsError::Errno(Errno::EACCES),
                other => other,
            })?;
            Ok::<_, FsError>((content, fs.frozen_len(content)))
        })?;
        let (inode, path, stat) = (file.inode, file.path.clone(), file.stat);
        Ok(Binary { inode, content, len, image, path, stat })
    }
}

/// The interpreter and its one optional argument, from what follows `#!`; as `load_script` reads the
/// first 256 bytes of a file, zeros behind its end.
fn script_line(line: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), Errno> {
    const LINE: usize = SCRIPT_LINE - 2;
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let ends = |b: &u8| blank(b) || *b == 0;
    let mut bytes = [0u8; LINE];
    let n = line.len().min(LINE);
    bytes[..n].copy_from_slice(&line[..n]);
    let line = match bytes.iter().position(|b| *b == b'\n') {
        Some(end) => &bytes[..end],
        None => {
            // A line that is cut off must not cut the interpreter's name.
            let name = bytes.iter().position(|b| !blank(b)).ok_or(Errno::ENOEXEC)?;
            if !bytes[name..].iter().any(ends) {
                return Err(Errno::ENOEXEC);
            }
            &bytes[..]
        }
    };
    let end = line.iter().rposition(|b| !blank(b)).map_or(0, |last| last + 1);
    let line = &line[..end];
    let start = line.iter().position(|b| !blank(b)).ok_or(Errno::ENOEXEC)?;
    let line = &line[start..];
    let split = line.iter().position(ends).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at(split);
    if interpreter.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    let argument = match rest.first() {
        None | Some(0) => None,
        Some(_) => rest.iter().position(|b| !blank(b)).map(|from| {
            let argument = &rest[from..];
            argument[..argument.iter().position(|b| *b == 0).unwrap_or(argument.len())].to_vec()
        }),
    };
    Ok((interpreter.to_vec(), argument.filter(|argument| !argument.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_lines() {
        let parse = |s: &str| script_line(s.as_bytes());
        let is = |name: &str, argument: Option<&str>| {
            Ok((name.as_bytes().to_vec(), argument.map(|a| a.as_bytes().to_vec())))
        };
        assert_eq!(parse(" /bin/sh -e \nrest"), is("/bin/sh", Some("-e")));
        assert_eq!(parse("/usr/bin/env python3\n"), is("/usr/bin/env", Some("python3")));
        assert_eq!(parse("/bin/sh"), is("/bin/sh", None));
        assert_eq!(parse("/bin/env -S a  b\t\n"), is("/bin/env", Some("-S a  b")));
        assert_eq!(parse("/bin/sh\0-e"), is("/bin/sh", None));
        assert_eq!(parse("  \n"), Err(Errno::ENOEXEC));
        assert_eq!(parse("\n/bin/sh"), Err(Errno::ENOEXEC));
    }

    #[test]
    fn a_line_that_is_cut_off() {
        let long = format!("/bin/sh {}", "x".repeat(400));
        let (interpreter, argument) = script_line(long.as_bytes()).unwrap();
        assert_eq!((interpreter.as_slice(), argument.map(|a| a.len())), (&b"/bin/sh"[..], Some(254 - 8)));
        assert_eq!(script_line("x".repeat(400).as_bytes()), Err(Errno::ENOEXEC));
        assert_eq!(script_line(" ".repeat(400).as_bytes()), Err(Errno::ENOEXEC));
    }

    #[test]
    fn arguments_have_a_quarter_of_the_stack() {
        assert_eq!(argument_space(8 << 20), 2 << 20);
        assert_eq!(argument_space(0), 128 << 10);
        assert_eq!(argument_space(u64::MAX), 6 << 20);
    }
}
