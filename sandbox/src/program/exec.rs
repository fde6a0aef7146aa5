//! Loading a program: what `execve` does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::elf::{self, Image};
use super::fs::{At, FsError};
use super::mm::{Backing, GUARD_GAP, Protection, USER_END, Vma};
use super::process::{Process, SysError, Task};
use super::state::RLIMIT_STACK;
use super::vdso;
use crate::errno::Errno;
use crate::ram::PAGE_SIZE;
use crate::random::Random;
use crate::vcpu::registers::{General, UserRegisters};

const PAGE: u64 = PAGE_SIZE as u64;

/// Bytes of stack a program may use (`RLIMIT_STACK`'s usual value).
pub const STACK_BYTES: u64 = 8 << 20;
/// What mappings leave free for the stack to grow into, whatever `RLIMIT_STACK` (`MIN_GAP`).
const STACK_ROOM: u64 = 128 << 20;
/// Bytes of stack, besides arguments and environment, that are mapped at the start (`stack_expand`).
const STACK_START: u64 = 128 << 10;
/// Bytes that the auxiliary vector, the program's path and the random offset of the top take at most.
const STACK_EXTRA: u64 = 16 << 10;
/// Bytes of arguments and environment together.
const MAX_ARGUMENTS: usize = 2 << 20;
/// How many interpreters a script may go through (`BINPRM_MAX_RECURSION`).
const MAX_SCRIPTS: u32 = 4;
/// The longest first line of a script (`BINPRM_BUF_SIZE`).
const SCRIPT_LINE: usize = 256;
/// Where position-independent programs go, before their random offset (`ELF_ET_DYN_BASE`).
const PIE_BASE: u64 = 0x5555_5555_4000;
/// Random bits of layout, in pages: 2^20 pages is 4 GiB.
const RANDOM_PAGES: u64 = 1 << 20;
/// Random bits of the stack's top, in 16-byte units.
const RANDOM_STACK: u64 = 512;
/// The stream of the seed that layout is drawn from.
const LAYOUT_STREAM: u64 = 1;

/// What a program is told of its CPU.
#[derive(Clone, Copy, Debug)]
pub struct CpuInfo {
    /// CPUID leaf 1 EDX: `AT_HWCAP`.
    pub hwcap: u64,
    /// `AT_HWCAP2`: bit 1 is FSGSBASE.
    pub hwcap2: u64,
    /// Bytes of a signal frame at most: `AT_MINSIGSTKSZ`.
    pub signal_frame: u64,
}

/// A program found and read.
struct Program {
    content: super::fs::ContentRef,
    len: u64,
    image: Image,
    path: Vec<u8>,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program's path, in the guest.
    pub path: Vec<u8>,
    /// Arguments, from the program's name on.
    pub args: Vec<Vec<u8>>,
    /// Environment, `NAME=value` each.
    pub env: Vec<Vec<u8>>,
}

impl Command {
    /// Checks what a file claims. Whether there is such a program, loading finds out.
    ///
    /// # Errors
    /// [`BadState`](crate::machine::BadState).
    pub fn check(&self) -> Result<(), crate::machine::BadState> {
        let Command { path, args, env } = self;
        let strings = || std::iter::once(path).chain(args).chain(env);
        let words = strings().all(|string| !string.contains(&0));
        // What `load` refuses is bounded here already: it is copied before.
        let bytes = strings().map(|string| string.len() + 9).fold(0, usize::saturating_add);
        crate::machine::expect(words && bytes <= 2 * MAX_ARGUMENTS, "the program's arguments")
    }
}

/// Auxiliary vector entries (`include/uapi/linux/auxvec.h`).
mod at {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const HWCAP2: u64 = 26;
    pub const EXECFN: u64 = 31;
    pub const SYSINFO_EHDR: u64 = 33;
    pub const MINSIGSTKSZ: u64 = 51;
}

impl Process {
    /// Replaces the program by another. The address space must be empty: the first program of a
    /// machine.
    ///
    /// # Errors
    /// What `execve` gives, or what ends the run.
    pub fn load(&mut self, command: Command, seed: u64, cpu: &CpuInfo) -> Result<(), SysError> {
        let mut command = command;
        let program = self.find_program(&mut command)?;
        let interpreter = match program.image.interpreter {
            Some((offset, len)) => Some(self.find_interpreter(&program, offset, len)?),
            None => None,
        };
        if command.args.iter().chain(&command.env).map(|s| s.len() + 9).sum::<usize>() > MAX_ARGUMENTS {
            return Err(Errno::E2BIG.into());
        }

        let mut layout = Random::new(seed, LAYOUT_STREAM);
        let stack_top = USER_END - PAGE - layout.below(RANDOM_PAGES) * PAGE;
        let pie_offset = layout.below(RANDOM_PAGES) * PAGE;
        let mmap_top = stack_top - STACK_ROOM - GUARD_GAP - layout.below(RANDOM_PAGES) * PAGE;
        let brk_offset = layout.below(RANDOM_PAGES / 128) * PAGE;
        self.space.state.mmap_top = mmap_top;

        let bias = if program.image.movable {
            let base = PIE_BASE + pie_offset;
            base.next_multiple_of(program.image.align) - program.image.start()
        } else {
            0
        };
        self.map_image(&program, bias)?;
        let mut start = bias.wrapping_add(program.image.entry);
        let mut base = 0;
        if let Some(interpreter) = &interpreter {
            base = if interpreter.image.movable {
                let span = interpreter.image.span();
                let at = self.space.find_free(span, None).ok_or(Errno::ENOMEM)?;
                at - interpreter.image.start()
            } else {
                0
            };
            self.map_image(interpreter, base)?;
            start = base.wrapping_add(interpreter.image.entry);
        }

        let brk = (bias + program.image.end()).next_multiple_of(PAGE) + brk_offset;
        self.space.state.brk_start = brk;
        self.space.state.brk = brk;

        let exec = program.image.exec_stack;
        let protection = Protection { exec, ..Protection::READ_WRITE };
        let stack =
            Vma { no_reserve: true, grows_down: true, ..Vma::anonymous(stack_top, protection, b"[stack]") };
        let strings = command.args.iter().chain(&command.env).map(|s| s.len() as u64 + 9).sum::<u64>();
        let stack_bytes = (strings + STACK_EXTRA).next_multiple_of(PAGE) + STACK_START;
        self.space.state.stack_limit = self.task.limits[RLIMIT_STACK].0;
        self.space.map(&mut self.memory, stack_top - stack_bytes, stack_bytes, stack)?;
        let vdso = self.map_vdso()?;

        let auxv = [
            (at::SYSINFO_EHDR, vdso),
            (at::MINSIGSTKSZ, cpu.signal_frame),
            (at::HWCAP, cpu.hwcap),
            (at::PAGESZ, PAGE),
            (at::CLKTCK, 100),
            (at::PHDR, bias.wrapping_add(program.image.headers)),
            (at::PHENT, 56),
            (at::PHNUM, program.image.header_count),
            (at::BASE, base),
            (at::FLAGS, 0),
            (at::ENTRY, bias.wrapping_add(program.image.entry)),
            (at::UID, 0),
            (at::EUID, 0),
            (at::GID, 0),
            (at::EGID, 0),
            (at::SECURE, 0),
            (at::HWCAP2, cpu.hwcap2),
        ];
        let top = stack_top - layout.below(RANDOM_STACK) * 16;
        let rsp = self.build_stack(top, &command, &program.path, &auxv)?;
        self.regs = UserRegisters {
            general: General { rip: start, rsp, rflags: super::signal::FIXED_FLAGS, ..Default::default() },
            fs_base: 0,
            gs_base: 0,
        };
        let name = program.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        self.task = Task {
            exe: program.path.clone(),
            name: name[..name.len().min(super::process::NAME_BYTES)].to_vec(),
            args: command.args,
            env: command.env,
            stack: rsp,
            ..self.task.clone()
        };
        self.signals.reset_handlers();
        Ok(())
    }

    /// Opens a program, going through `#!` lines.
    fn find_program(&mut self, command: &mut Command) -> Result<Program, SysError> {
        let mut path = command.path.clone();
        for _ in 0..=MAX_SCRIPTS {
            let (program_path, content, len, head) = self.open_program(&path)?;
            if let Some(line) = head.strip_prefix(b"#!") {
                let (interpreter, argument) = script_line(line)?;
                let mut args = vec![interpreter.clone()];
                args.extend(argument);
                args.push(path);
                args.extend(command.args.drain(..).skip(1));
                command.args = args;
                path = interpreter;
                continue;
            }
            let image = elf::parse(&head, len)?;
            return Ok(Program { content, len, image, path: program_path });
        }
        Err(Errno::ELOOP.into())
    }

    fn find_interpreter(&mut self, program: &Program, offset: u64, len: u64) -> Result<Program, SysError> {
        let mut path = vec![0u8; len as usize];
        let read = self.outside.read_frozen(program.content, offset, &mut path)?;
        path.truncate(read);
        if path.pop() != Some(0) || path.contains(&0) {
            return Err(Errno::ENOEXEC.into());
        }
        let (path, content, len, head) = self.open_program(&path)?;
        let image = elf::parse(&head, len).map_err(|_| Errno::ENOEXEC)?;
        Ok(Program { content, len, image, path })
    }

    /// The absolute path, frozen content, length and first bytes of an executable file.
    fn open_program(
        &mut self,
        path: &[u8],
    ) -> Result<(Vec<u8>, super::fs::ContentRef, u64, Vec<u8>), SysError> {
        const X_OK: u32 = 1;
        let opened = self.with_files(|fs, files, env, task| {
            let at = At { base: task.cwd, fds: files };
            let inode = fs.lookup(env, at, path, true)?;
            if fs.is_dir(inode) {
                return Err(Errno::EACCES.into());
            }
            fs.access(env, inode, X_OK)?;
            let content = fs.freeze(env, inode).map_err(|e| match e {
                FsError::Errno(Errno::ENODEV) => FsError::Errno(Errno::EACCES),
                other => other,
            })?;
            let len = fs.frozen_len(content);
            let mut head = vec![0u8; elf::HEAD_BYTES.min(usize::try_from(len).unwrap_or(usize::MAX))];
            let read = fs.read_frozen(env, content, 0, &mut head)?;
            head.truncate(read);
            Ok::<_, SysError>((fs.path_of(inode), content, len, head))
        })?;
        self.task.frozen.insert(opened.1);
        Ok(opened)
    }

    fn map_image(&mut self, program: &Program, bias: u64) -> Result<(), SysError> {
        let name: Arc<[u8]> = Arc::from(&program.path[..]);
        for segment in &program.image.segments {
            let address = bias.checked_add(segment.address).ok_or(Errno::ENOMEM)?;
            let start = address / PAGE * PAGE;
            let file_end = address + segment.file_size;
            let end = (address + segment.memory_size).next_multiple_of(PAGE);
            let file_pages = if segment.file_size > 0 { file_end.next_multiple_of(PAGE) } else { start };
            if file_pages > start {
                let vma = Vma {
                    end: file_pages,
                    protection: segment.protection,
                    backing: Backing::File {
                        content: program.content,
                        offset: segment.offset / PAGE * PAGE,
                        len: program.len,
                        shared: false,
                        tracked: false,
                    },
                    no_reserve: false,
                    charged: false,
                    may_write: true,
                    locked: false,
                    grows_down: false,
                    name: name.clone(),
                };
                self.space.map(&mut self.memory, start, file_pages - start, vma)?;
            }
            if segment.memory_size > segment.file_size {
                if file_pages > file_end && segment.protection.write {
                    let zeros = vec![0u8; (file_pages - file_end) as usize];
                    self.space.place(&mut self.memory, file_end, &zeros)?;
                }
                if end > file_pages {
                    let vma = Vma::anonymous(end, segment.protection, b"");
                    self.space.map(&mut self.memory, file_pages, end - file_pages, vma)?;
                }
            }
        }
        Ok(())
    }

    /// Maps the clock page and the vDSO above it; returns the vDSO's address.
    fn map_vdso(&mut self) -> Result<u64, SysError> {
        let vdso = vdso::build();
        let len = PAGE + vdso.image.len() as u64;
        let at = self.space.find_free(len, None).ok_or(Errno::ENOMEM)?;
        let clock = Vma::anonymous(at + PAGE, Protection::READ_WRITE, b"[vvar]");
        self.space.map(&mut self.memory, at, PAGE, clock)?;
        let code = Vma::anonymous(at + len, Protection::READ_EXEC, b"[vdso]");
        self.space.map(&mut self.memory, at + PAGE, len - PAGE, code)?;
        self.space.place(&mut self.memory, at + PAGE, &vdso.image)?;
        self.clock.place(&mut self.memory, &mut self.space, at)?;
        self.task.sigreturn = at + PAGE + vdso.sigreturn_offset;
        Ok(at + PAGE)
    }

    /// Builds the initial stack (System V ABI, AMD64 supplement, section 3.4.1); returns RSP.
    fn build_stack(
        &mut self,
        top: u64,
        command: &Command,
        path: &[u8],
        auxv: &[(u64, u64)],
    ) -> Result<u64, SysError> {
        let mut at = top & !15;
        let mut push = |this: &mut Process, bytes: &[u8]| -> Result<u64, SysError> {
            at -= bytes.len() as u64;
            this.space.place(&mut this.memory, at, bytes)?;
            Ok(at)
        };
        let string = |s: &[u8]| [s, b"\0"].concat();
        let execfn = push(self, &string(path))?;
        let mut random = [0u8; 16];
        self.random.fill(&mut random);
        let mut pointers = |this: &mut Process, list: &[Vec<u8>]| -> Result<Vec<u64>, SysError> {
            // Last string first, so that they lie in order.
            let mut out: Vec<u64> =
                list.iter().rev().map(|s| push(this, &string(s))).collect::<Result<_, SysError>>()?;
            out.reverse();
            Ok(out)
        };
        let env = pointers(self, &command.env)?;
        let args = pointers(self, &command.args)?;
        let platform = push(self, b"x86_64\0")?;
        let random = push(self, &random)?;

        let mut full: Vec<(u64, u64)> = auxv.to_vec();
        full.extend([(at::RANDOM, random), (at::EXECFN, execfn), (at::PLATFORM, platform), (at::NULL, 0)]);
        let mut words = vec![args.len() as u64];
        words.extend(args);
        words.push(0);
        words.extend(env);
        words.push(0);
        words.extend(full.iter().flat_map(|(key, value)| [*key, *value]));
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let rsp = (at - bytes.len() as u64) & !15;
        self.space.place(&mut self.memory, rsp, &bytes)?;
        self.task.auxv = full;
        Ok(rsp)
    }
}

/// The interpreter and its one optional argument, from what follows `#!`.
fn script_line(line: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), Errno> {
    let line = &line[..line.len().min(SCRIPT_LINE)];
    let end = line.iter().position(|b| *b == b'\n').unwrap_or(line.len());
    let line = line[..end].trim_ascii();
    let split = line.iter().position(|b| b.is_ascii_whitespace()).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at(split);
    if interpreter.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    let rest = rest.trim_ascii();
    Ok((interpreter.to_vec(), (!rest.is_empty()).then(|| rest.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_lines() {
        let parse = |s: &str| script_line(s.as_bytes());
        assert_eq!(parse(" /bin/sh -e \nrest"), Ok((b"/bin/sh".to_vec(), Some(b"-e".to_vec()))));
        assert_eq!(
            parse("/usr/bin/env python3\n"),
            Ok((b"/usr/bin/env".to_vec(), Some(b"python3".to_vec())))
        );
        assert_eq!(parse("/bin/sh"), Ok((b"/bin/sh".to_vec(), None)));
        assert_eq!(parse("  \n"), Err(Errno::ENOEXEC));
    }
}
