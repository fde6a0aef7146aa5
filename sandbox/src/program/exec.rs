//! Loading a program: what `execve` does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::binary::{Binary, Found, LoadError, MAX_ARGUMENTS};
use super::error::SysError;
use super::files::AT_FDCWD;
use super::fs::InodeId;
use super::kernel::Kernel;
use super::limits;
use super::mm::{Backing, GUARD_GAP, Held, Image, Protection, USER_END, Vma};
use super::settings::ADDR_NO_RANDOMIZE;
use super::signal::number::SIGSEGV;
use super::signal::{Info, SI_KERNEL};
use super::vdso;
use crate::errno::Errno;
use crate::ram::PAGE_SIZE;
use crate::random::Random;
use crate::vcpu::registers::{ExtendedState, General, UserRegisters};

const PAGE: u64 = PAGE_SIZE as u64;

/// Bytes of stack a program may use (`RLIMIT_STACK`'s usual value).
pub const STACK_BYTES: u64 = 8 << 20;
/// What mappings leave free for the stack to grow into, whatever `RLIMIT_STACK` (`MIN_GAP`).
const STACK_ROOM: u64 = 128 << 20;
/// Bytes of stack, besides arguments and environment, that are mapped at the start (`stack_expand`).
const STACK_START: u64 = 128 << 10;
/// Bytes that the auxiliary vector, the program's path and the random offset of the top take at most.
const STACK_EXTRA: u64 = 16 << 10;
/// Where position-independent programs go, before their random offset (`ELF_ET_DYN_BASE`).
const PIE_BASE: u64 = 0x5555_5555_4000;
/// Random bits of layout, in pages: 2^20 pages is 4 GiB.
const RANDOM_PAGES: u64 = 1 << 20;
/// Random bits of the stack's top, in 16-byte units.
const RANDOM_STACK: u64 = 512;
/// The stream of the seed that layout is drawn from.
const LAYOUT_STREAM: u64 = 1;

/// Bytes of a signal frame besides the XSAVE area, at most.
const FRAME_BYTES: u64 = 1024;

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
        crate::machine::expect(words && bytes <= 2 * MAX_ARGUMENTS as usize, "the program's arguments")
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

impl Kernel {
    /// Loads the first program of a machine.
    ///
    /// # Errors
    /// What `execve` gives, or what ends the run.
    pub fn load(&mut self, command: Command, seed: u64) -> Result<(), LoadError> {
        let path = command.path.clone();
        let file = self.open_executable(AT_FDCWD, &path, 0).map_err(|e| LoadError::new(&path, e))?;
        let found = self.find_binary(file, command)?;
        self.enter(found, Random::new(seed, LAYOUT_STREAM)).map_err(|e| LoadError::new(&path, e))
    }

    /// Gives up the program for another, which was found: what `execve` does from where it cannot
    /// go back. Its address space is laid out anew from the run's random stream. A failure kills.
    ///
    /// # Errors
    /// What ends the run.
    pub fn replace_program(&mut self, found: Found) -> Result<(), SysError> {
        let mut seed = [0u8; 8];
        self.random.fill(&mut seed);
        self.end_siblings()?;
        self.let_go()?;
        self.take_leaders_number();
        self.own_tables()?;
        self.drop_posix_timers();
        self.actions.reset_handlers();
        self.task.signals.drop_alt();
        self.leave_space()?;
        let tid = self.tid();
        let parent = self.task.vfork_parent.take();
        self.release_vfork(tid, parent);
        self.with_files(|fs, files, env, _| files.close_on_exec(fs, env))?;
        self.task.regs = UserRegisters::default();
        self.task.fp = Some(Box::new(ExtendedState::initial()));
        let entered = self.enter(found, Random::new(u64::from_le_bytes(seed), LAYOUT_STREAM));
        // Also what was read of files of which nothing is mapped.
        let contents: Vec<_> =
            self.space.state.contents.iter().map(|content| Held::Content(*content)).collect();
        self.space.note_lost(contents);
        self.release_unmapped()?;
        match entered {
            Err(SysError::Errno(_)) => {
                self.signals().force(Info { signal: SIGSEGV, code: SI_KERNEL, ..Default::default() });
                Ok(())
            }
            result => result,
        }
    }

    /// The task of a process that executes a program is its only one from then on, and its leader
    /// (`de_thread`).
    fn take_leaders_number(&mut self) {
        let (tid, pid) = (self.tid(), self.pid());
        if tid != pid {
            self.task.renumber(pid);
            self.sched.forget(tid, None);
        }
    }

    /// Gives the running task descriptors that it shares with nobody.
    pub(super) fn own_files(&mut self) -> Result<(), SysError> {
        if self.files.users(self.task.files) > 1 {
            let before = std::mem::replace(&mut self.task.files, self.files.duplicate());
            self.files.switch(self.task.files);
            let pid = self.pid();
            self.with_files(|fs, files, env, _| files.release(fs, env, before, pid))?;
        }
        Ok(())
    }

    /// Gives the running task descriptors and signal actions that it shares with nobody.
    fn own_tables(&mut self) -> Result<(), SysError> {
        self.own_files()?;
        if self.actions.users(self.task.actions) > 1 {
            let copy = self.actions.clone_current();
            let before = std::mem::replace(&mut self.task.actions, self.actions.add(copy));
            self.actions.switch(self.task.actions);
            self.actions.release(before);
        }
        Ok(())
    }

    /// Puts a program into the empty address space, and the registers at its first instruction.
    fn enter(&mut self, found: Found, layout: Random) -> Result<(), SysError> {
        let Found { program, interpreter, command } = found;
        self.space.state.contents.extend([program.content]);
        self.space.state.contents.extend(interpreter.as_ref().map(|i| i.content));
        self.set_executable(program.inode)?;
        let secure = self.task.credentials.execute(&program.stat);
        self.task.settings.execute(secure);
        self.process.settings.dumpable = !secure;

        let fixed = self.task.settings.personality & ADDR_NO_RANDOMIZE != 0;
        let mut layout = (!fixed).then_some(layout);
        let mut below = |bound: u64| layout.as_mut().map_or(0, |layout| layout.below(bound));
        let stack_top = USER_END - PAGE - below(RANDOM_PAGES) * PAGE;
        let pie_offset = below(RANDOM_PAGES) * PAGE;
        let mmap_top = stack_top - STACK_ROOM - GUARD_GAP - below(RANDOM_PAGES) * PAGE;
        let brk_offset = below(RANDOM_PAGES / 128) * PAGE;
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
        self.space.state.stack_limit = self.process.limits[limits::STACK].0;
        self.space.map(&mut self.memory, stack_top - stack_bytes, stack_bytes, stack)?;
        let vdso = self.map_vdso()?;

        let (user, group) = (self.task.credentials.user, self.task.credentials.group);
        let auxv = [
            (at::SYSINFO_EHDR, vdso),
            (at::MINSIGSTKSZ, self.cpu.xsave_bytes() as u64 + FRAME_BYTES),
            (at::HWCAP, self.cpu.hwcap().into()),
            (at::PAGESZ, PAGE),
            (at::CLKTCK, 100),
            (at::PHDR, bias.wrapping_add(program.image.headers)),
            (at::PHENT, 56),
            (at::PHNUM, program.image.header_count),
            (at::BASE, base),
            (at::FLAGS, 0),
            (at::ENTRY, bias.wrapping_add(program.image.entry)),
            (at::UID, user.real.into()),
            (at::EUID, user.effective.into()),
            (at::GID, group.real.into()),
            (at::EGID, group.effective.into()),
            (at::SECURE, secure.into()),
            (at::HWCAP2, 0),
        ];
        let top = stack_top - below(RANDOM_STACK) * 16;
        let rsp = self.build_stack(top, &command, &auxv)?;
        self.task.regs = UserRegisters {
            general: General { rip: start, rsp, rflags: super::signal::FIXED_FLAGS, ..Default::default() },
            fs_base: 0,
            gs_base: 0,
        };
        let name = command.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        self.task.name = name[..name.len().min(super::task::NAME_BYTES)].to_vec();
        let Image { exe, args, env, stack, .. } = &mut self.space.state.image;
        (*exe, *args, *env, *stack) = (program.path.clone(), command.args, command.env, rsp);
        Ok(())
    }

    /// Makes a file the one that runs, which nobody may write meanwhile.
    fn set_executable(&mut self, inode: InodeId) -> Result<(), SysError> {
        let before = self.space.state.image.executable.replace(inode);
        self.with_files(|fs, _, env, _| {
            fs.hold(inode);
            before.map_or(Ok(()), |before| fs.release(env, before))
        })?;
        Ok(())
    }

    fn map_image(&mut self, program: &Binary, bias: u64) -> Result<(), SysError> {
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
        let len = PAGE + vdso::IMAGE.len() as u64;
        let at = self.space.find_free(len, None).ok_or(Errno::ENOMEM)?;
        let clock = Vma::anonymous(at + PAGE, Protection::READ_WRITE, b"[vvar]");
        self.space.map(&mut self.memory, at, PAGE, clock)?;
        let code = Vma::anonymous(at + len, Protection::READ_EXEC, b"[vdso]");
        self.space.map(&mut self.memory, at + PAGE, len - PAGE, code)?;
        self.space.place(&mut self.memory, at + PAGE, vdso::IMAGE)?;
        self.clock.place(&mut self.memory, &mut self.space, at)?;
        self.space.state.image.sigreturn = at + PAGE + vdso::SIGRETURN_OFFSET;
        Ok(at + PAGE)
    }

    /// Builds the initial stack (System V ABI, AMD64 supplement, section 3.4.1); returns RSP.
    fn build_stack(&mut self, top: u64, command: &Command, auxv: &[(u64, u64)]) -> Result<u64, SysError> {
        let mut at = top & !15;
        let mut push = |this: &mut Kernel, bytes: &[u8]| -> Result<u64, SysError> {
            at -= bytes.len() as u64;
            this.space.place(&mut this.memory, at, bytes)?;
            Ok(at)
        };
        let string = |s: &[u8]| [s, b"\0"].concat();
        let execfn = push(self, &string(&command.path))?;
        let mut random = [0u8; 16];
        self.random.fill(&mut random);
        let mut pointers = |this: &mut Kernel, list: &[Vec<u8>]| -> Result<Vec<u64>, SysError> {
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
        self.effects.add(rsp, &bytes);
        self.space.state.image.auxv = full;
        Ok(rsp)
    }
}
