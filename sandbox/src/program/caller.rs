//! The program as the file system knows it: who makes a call, and what it may ask of the rest of the monitor.

use std::ops::Range;

use super::clock::{Clock, ClockMode};
use super::credentials::{Credentials, cap};
use super::files::FdTable;
use super::fs::{ContentRef, Env, Fs, FsError, FsResult, InodeId, Kernel, ProcFile, ReadContent, fail};
use super::mm::{AddressSpace, Memory};
use super::proc_text;
use super::process::{FIRST_PID, PID, Process, Task};
use super::settings::DEFAULT_TIMER_SLACK;
use super::signal::number::SIGXFSZ;
use super::signal::{Info, SI_USER, Signals};
use super::state::RLIMIT_FSIZE;
use super::timers::Which;
use crate::errno::Errno;
use crate::host::stop::{Pace, StopHandle};
use crate::ram::PageError;
use crate::random::Random;

/// What of a task paths and new files depend on.
#[derive(Clone, Copy, Debug)]
pub struct PathContext {
    /// Working directory.
    pub cwd: InodeId,
    /// File mode creation mask.
    pub umask: u32,
}

/// What the file system may ask of a program.
pub struct Host<'a> {
    memory: &'a mut Memory,
    space: &'a mut AddressSpace,
    /// Contents that have moved into the objects of these files.
    moved: Vec<(ContentRef, InodeId)>,
    clock: &'a Clock,
    random: &'a mut Random,
    task: &'a mut Task,
    signals: &'a mut Signals,
    stop: &'a StopHandle,
}

impl Kernel for Host<'_> {
    fn pace(&self) -> Option<Pace<'_>> {
        Some(Pace::new(self.stop))
    }

    fn now(&self) -> i64 {
        i64::try_from(self.clock.realtime()).unwrap_or(i64::MAX)
    }

    fn random(&mut self, buf: &mut [u8]) {
        self.random.fill(buf);
    }

    fn pid(&self) -> u32 {
        PID
    }

    fn may_time_out(&self, certain: bool) -> bool {
        self.task.timers.get(Which::Real).expiry().is_some()
            && (!certain || self.clock.mode == ClockMode::Host)
    }

    fn pids(&self) -> Vec<u32> {
        vec![FIRST_PID, PID]
    }

    fn set_proc(&mut self, pid: u32, file: ProcFile, data: &[u8]) -> FsResult<()> {
        let settings = &mut self.task.settings;
        let number = || {
            let text = std::str::from_utf8(data).map(|text| text.trim_matches(['\n', ' ', '\0']));
            text.ok().filter(|text| text.len() <= 20).ok_or(Errno::EINVAL)
        };
        let parsed = |text: &str| text.parse::<i64>().map_err(|_| Errno::EINVAL);
        if pid != PID {
            return fail(Errno::EACCES);
        }
        match file {
            ProcFile::Comm => {
                let name = data.strip_suffix(b"\n").unwrap_or(data);
                let end = name.iter().position(|b| *b == 0).unwrap_or(name.len()).min(15);
                self.task.name = name[..end].to_vec();
            }
            ProcFile::OomScoreAdj => {
                let score = parsed(number()?)?;
                let score = i32::try_from(score).ok().filter(|s| (-1000..=1000).contains(s));
                let score = score.ok_or(Errno::EINVAL)?;
                if score < settings.oom_score && !self.task.credentials.can(cap::SYS_RESOURCE) {
                    return fail(Errno::EACCES);
                }
                settings.oom_score = score;
            }
            ProcFile::CoredumpFilter => {
                /// All kinds of mappings that there are.
                const KINDS: u32 = 0x1ff;
                let text = number()?;
                let value = match text.strip_prefix("0x") {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => text.parse(),
                };
                settings.core_filter = value.map_err(|_| Errno::EINVAL)? & KINDS;
            }
            ProcFile::TimerSlack => {
                let slack = u64::try_from(parsed(number()?)?).map_err(|_| Errno::EINVAL)?;
                settings.scheduling.slack = if slack == 0 { DEFAULT_TIMER_SLACK } else { slack };
            }
            // They can be written once, and have been.
            ProcFile::UidMap | ProcFile::GidMap | ProcFile::SetGroups | ProcFile::LoginUid => {
                return fail(Errno::EPERM);
            }
            _ => return fail(Errno::EINVAL),
        }
        Ok(())
    }

    fn proc_text(&mut self, pid: u32, file: ProcFile) -> Option<Vec<u8>> {
        let account = &self.memory.state.account;
        proc_text::text(pid, file, self.space, account, self.task, self.signals, self.clock)
    }

    fn exe(&self, _pid: u32) -> Vec<u8> {
        self.task.exe.clone()
    }

    fn credentials(&self) -> &Credentials {
        &self.task.credentials
    }

    fn owner(&self) -> (u32, u32) {
        let Credentials { user, group, .. } = &self.task.credentials;
        if self.task.settings.dumpable { (user.effective, group.effective) } else { (0, 0) }
    }

    fn executable(&self) -> Option<InodeId> {
        self.task.executable
    }

    fn file_size_limit(&self) -> u64 {
        self.task.limits[RLIMIT_FSIZE].0
    }

    fn exceed_file_size(&mut self) {
        self.signals.send(Info { signal: SIGXFSZ, code: SI_USER, value: PID.into(), fault: None });
    }

    fn cwd(&self, _pid: u32) -> Option<InodeId> {
        Some(self.task.cwd)
    }

    fn charge(&mut self, bytes: u64) -> FsResult<()> {
        Ok(self.memory.state.account.charge(bytes)?)
    }

    fn offer(&mut self, bytes: u64) -> bool {
        self.memory.state.account.offer(bytes)
    }

    fn refund(&mut self, bytes: u64) {
        self.memory.state.account.refund(bytes);
    }

    fn read_shared(&mut self, object: u64, offset: u64, buf: &mut [u8]) -> FsResult<Vec<Range<usize>>> {
        self.memory.read_object(object, offset, buf)
    }

    fn lacks_shared(&self, object: u64, offset: u64) -> bool {
        self.memory.lacks(object, offset)
    }

    fn put_below(&mut self, object: u64, content: ContentRef, len: u64) {
        self.memory.put_below(object, content, len);
    }

    fn write_shared(&mut self, object: u64, offset: u64, data: &[u8]) -> FsResult<()> {
        self.memory.write_object(object, offset, data)
    }

    fn zero_shared(&mut self, object: u64, range: Range<u64>) -> FsResult<()> {
        self.space.zero_object(self.memory, object, range).map_err(machine)
    }

    fn resize_shared(&mut self, object: u64, len: u64) -> FsResult<()> {
        let longer = self.memory.state.objects.get(&object).is_some_and(|object| object.len > len);
        if longer {
            self.space.cut_object(self.memory, object, len).map_err(machine)?;
        }
        self.memory.resize_object(object, len)
    }

    fn content_moved(
        &mut self,
        content: ContentRef,
        file: InodeId,
        object: u64,
        read: &mut ReadContent<'_>,
    ) -> FsResult<()> {
        self.space.follow(self.memory, content, object, read).map_err(machine)?;
        self.moved.push((content, file));
        Ok(())
    }

    fn read_memory(&mut self, _pid: u32, address: u64, buf: &mut [u8]) -> FsResult<usize> {
        self.space.read_any(self.memory, address, buf).map_err(machine)
    }

    fn write_memory(&mut self, _pid: u32, address: u64, data: &[u8]) -> FsResult<usize> {
        self.space.write_any(self.memory, address, data).map_err(machine)
    }

    fn shared_data(&self, object: u64, at: u64) -> Option<u64> {
        self.memory.object_data(object, at)
    }

    fn drop_shared(&mut self, object: u64) -> FsResult<()> {
        self.memory.drop_object(object).map_err(machine)
    }
}

fn machine(e: PageError) -> FsError {
    FsError::Machine(Box::new(e))
}

impl Process {
    /// Runs file operations.
    pub fn with_files<T>(
        &mut self,
        act: impl FnOnce(&mut Fs, &mut FdTable, &mut Env<'_>, PathContext) -> T,
    ) -> T {
        let context = PathContext { cwd: self.task.cwd, umask: self.task.umask };
        let outside = self.outside.clone();
        let mut fs = outside.fs();
        let mut world = outside.world();
        let mut host = Host {
            memory: &mut self.memory,
            space: &mut self.space,
            moved: Vec::new(),
            clock: &self.clock,
            random: &mut self.random,
            task: &mut self.task,
            signals: &mut self.signals,
            stop: &self.stop,
        };
        let result =
            act(&mut fs, &mut self.files, &mut Env { world: &mut **world, host: &mut host }, context);
        for (content, file) in std::mem::take(&mut host.moved) {
            if self.task.frozen.remove(&content) {
                fs.release_frozen(content);
            }
            // The file must live for as long as it is mapped.
            if self.task.shared.insert(file.number(), file).is_none() {
                fs.hold(file);
            }
        }
        result
    }
}
