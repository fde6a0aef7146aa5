//! The running task as the file system knows it: who makes a call, and what it may ask of the rest of the monitor.

use std::ops::Range;

use super::clock::{Clock, ClockMode};
use super::credentials::{Credentials, cap};
use super::current::{Current, Shared};
use super::files::FdTable;
use super::fs::{Caller, ContentRef, Env, Fs, FsError, FsResult, InodeId, ProcFile, ReadContent, fail};
use super::ipc::{self, Ipc};
use super::kernel::{FsContext, Kernel};
use super::limits;
use super::mm::{AddressSpace, Memory};
use super::proc_text::{self, Subject};
use super::process::{FIRST_PID, Process};
use super::settings::{DEFAULT_TIMER_SLACK, SystemNames};
use super::signal::number::SIGXFSZ;
use super::signal::{Actions, Info, SI_USER, Signals};
use super::task::Task;
use super::timers::go_on;
use crate::errno::Errno;
use crate::host::stop::{Pace, StopHandle};
use crate::ram::PageError;
use crate::random::Random;
use crate::x86::processor::Level;

/// What the file system may ask of the running task.
pub struct Running<'a> {
    memory: &'a mut Memory,
    space: &'a mut Shared<AddressSpace>,
    /// Contents that have moved into the objects of these files.
    moved: Vec<(ContentRef, InodeId)>,
    /// A signal was taken, of which a timer may go on.
    took_signal: bool,
    clock: &'a Clock,
    random: &'a mut Random,
    task: &'a mut Current<Task>,
    process: &'a mut Current<Process>,
    context: &'a Shared<FsContext>,
    actions: &'a mut Shared<Actions>,
    names: &'a SystemNames,
    ipc: &'a Ipc,
    cpu: Level,
    stop: &'a StopHandle,
}

impl Running<'_> {
    /// A task by its number, or one of the process of that number.
    fn find(&self, id: u32) -> Option<(u32, &Task)> {
        let by_number = self.task.of(id).map(|task| (id, task));
        by_number.or_else(|| self.task.iter().find(|(_, task)| task.process == id))
    }

    fn find_mut(&mut self, id: u32) -> Option<&mut Task> {
        let tid = self.find(id)?.0;
        self.task.of_mut(tid)
    }
}

impl Caller for Running<'_> {
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
        self.process.id()
    }

    fn tid(&self) -> u32 {
        self.task.id()
    }

    fn may_time_out(&self, certain: bool) -> bool {
        let timer = self.process.timers.next_real().is_some();
        let signalled = self.actions.any_deliverable(&self.task.signals, &self.process.pending);
        self.task.len() > 1 || signalled || timer && (!certain || self.clock.mode == ClockMode::Host)
    }

    fn pids(&self) -> Vec<u32> {
        std::iter::once(FIRST_PID).chain(self.process.iter().map(|(pid, _)| pid)).collect()
    }

    fn tids(&self, pid: u32) -> Vec<u32> {
        if pid == FIRST_PID {
            return vec![FIRST_PID];
        }
        let of_it = self.task.iter().filter(|(_, task)| task.process == pid);
        of_it.map(|(tid, _)| tid).collect()
    }

    fn set_proc(&mut self, pid: u32, file: ProcFile, data: &[u8]) -> FsResult<()> {
        let number = || {
            let text = std::str::from_utf8(data).map(|text| text.trim_matches(['\n', ' ', '\0']));
            text.ok().filter(|text| text.len() <= 20).ok_or(Errno::EINVAL)
        };
        let parsed = |text: &str| text.parse::<i64>().map_err(|_| Errno::EINVAL);
        let privileged = self.task.credentials.can(cap::SYS_RESOURCE);
        let Some(process) = self.find(pid).map(|(_, task)| task.process) else {
            return fail(Errno::EACCES);
        };
        let Some(settings) = self.process.of_mut(process).map(|process| &mut process.settings) else {
            return fail(Errno::ESRCH);
        };
        match file {
            ProcFile::Comm => {
                let name = data.strip_suffix(b"\n").unwrap_or(data);
                let end = name.iter().position(|b| *b == 0).unwrap_or(name.len()).min(15);
                let name = name[..end].to_vec();
                self.find_mut(pid).into_iter().for_each(|task| task.name.clone_from(&name));
            }
            ProcFile::OomScoreAdj => {
                let score = parsed(number()?)?;
                let score = i32::try_from(score).ok().filter(|s| (-1000..=1000).contains(s));
                let score = score.ok_or(Errno::EINVAL)?;
                if score < settings.oom_score && !privileged {
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
                let slack = if slack == 0 { DEFAULT_TIMER_SLACK } else { slack };
                self.find_mut(pid).into_iter().for_each(|task| task.settings.scheduling.slack = slack);
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
        if let Some(text) = ipc::text(file, self.ipc, self.space) {
            return Some(text);
        }
        // Files that are of no process are the same for all.
        let (tid, task) = self.find(pid).unwrap_or((self.task.id(), &**self.task));
        let process = self.process.of(task.process)?;
        let state = match &task.parked {
            _ if process.job.stopped.is_some() => 'T',
            Some(parked) if tid != self.task.id() && !parked.woken => 'S',
            _ => 'R',
        };
        let subject = Subject {
            tid,
            reader: self.task.id(),
            task,
            state,
            process,
            threads: self.task.iter().filter(|(_, other)| other.process == task.process).count(),
            space: self.space.of(task.space)?,
            context: self.context.of(task.context)?,
            actions: self.actions.of(task.actions)?,
            account: &self.memory.state.account,
            clock: self.clock,
            names: self.names,
            cpu: self.cpu,
        };
        proc_text::text(pid, file, &subject)
    }

    fn exe(&self, pid: u32) -> Vec<u8> {
        let space = self.find(pid).and_then(|(_, task)| self.space.of(task.space));
        space.map(|space| space.state.image.exe.clone()).unwrap_or_default()
    }

    fn credentials(&self) -> &Credentials {
        &self.task.credentials
    }

    fn owner(&self) -> (u32, u32) {
        let Credentials { user, group, .. } = &self.task.credentials;
        if self.process.settings.dumpable { (user.effective, group.effective) } else { (0, 0) }
    }

    fn executable(&self) -> Option<InodeId> {
        self.space.state.image.executable
    }

    fn file_size_limit(&self) -> u64 {
        self.process.limits[limits::FSIZE].0
    }

    fn exceed_file_size(&mut self) {
        let value = self.process.id().into();
        let mut signals =
            Signals { actions: self.actions, shared: &mut self.process.pending, own: &mut self.task.signals };
        let blocked = signals.keeps(SIGXFSZ);
        signals.send(Info { signal: SIGXFSZ, code: SI_USER, value, ..Info::default() }, blocked);
    }

    fn take_signal(&mut self, set: u64) -> Option<Info> {
        let mut signals =
            Signals { actions: self.actions, shared: &mut self.process.pending, own: &mut self.task.signals };
        let info = signals.take_of(set)?;
        self.took_signal = true;
        Some(go_on(self.process, self.task, self.clock.monotonic(), info))
    }

    fn has_signal(&self, set: u64) -> bool {
        (self.task.signals.pending.bits() | self.process.pending.bits()) & set != 0
    }

    fn cwd(&self, pid: u32) -> Option<InodeId> {
        let context = self.find(pid).and_then(|(_, task)| self.context.of(task.context));
        context.map(|context| context.cwd)
    }

    fn mapped_file(&self, pid: u32, start: u64) -> Option<(Range<u64>, Vec<u8>)> {
        let space = self.find(pid).and_then(|(_, task)| self.space.of(task.space))?;
        let vma = space.state.vmas.get(&start).filter(|vma| vma.is_of_file())?;
        Some((start..vma.end, vma.name.to_vec()))
    }

    fn mapped_files(&self, pid: u32) -> Vec<Range<u64>> {
        let space = self.find(pid).and_then(|(_, task)| self.space.of(task.space));
        let vmas = space.into_iter().flat_map(|space| &space.state.vmas);
        vmas.filter(|(_, vma)| vma.is_of_file()).map(|(start, vma)| *start..vma.end).collect()
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
        for (_, space) in self.space.iter_mut() {
            space.hide_zeroed(self.memory, object, &range).map_err(machine)?;
        }
        self.memory.zero_object(object, range).map_err(machine)
    }

    fn resize_shared(&mut self, object: u64, len: u64) -> FsResult<()> {
        let longer = self.memory.state.objects.get(&object).is_some_and(|object| object.len > len);
        if longer {
            for (_, space) in self.space.iter_mut() {
                space.cut_object(self.memory, object, len).map_err(machine)?;
            }
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
        for (_, space) in self.space.iter_mut() {
            space.follow(self.memory, content, object, read).map_err(machine)?;
        }
        self.moved.push((content, file));
        Ok(())
    }

    fn read_memory(&mut self, pid: u32, address: u64, buf: &mut [u8]) -> FsResult<usize> {
        let space = self.find(pid).map(|(_, task)| task.space);
        match space.and_then(|space| self.space.of_mut(space)) {
            Some(space) => space.read_any(self.memory, address, buf).map_err(machine),
            None => Ok(0),
        }
    }

    fn write_memory(&mut self, pid: u32, address: u64, data: &[u8]) -> FsResult<usize> {
        let space = self.find(pid).map(|(_, task)| task.space);
        match space.and_then(|space| self.space.of_mut(space)) {
            Some(space) => space.write_any(self.memory, address, data).map_err(machine),
            None => Ok(0),
        }
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

impl Kernel {
    /// Runs file operations for the running task.
    pub fn with_files<T>(
        &mut self,
        act: impl FnOnce(&mut Fs, &mut FdTable, &mut Env<'_>, FsContext) -> T,
    ) -> T {
        let context = *self.context;
        let (mut fs, mut world) = self.outside.both();
        let mut caller = Running {
            memory: &mut self.memory,
            space: &mut self.space,
            moved: Vec::new(),
            took_signal: false,
            clock: &self.clock,
            random: &mut self.random,
            task: &mut self.task,
            process: &mut self.process,
            context: &self.context,
            actions: &mut self.actions,
            names: &self.names,
            ipc: &self.ipc,
            cpu: self.cpu,
            stop: &self.stop,
        };
        let env = &mut Env { world: &mut **world, caller: &mut caller };
        let result = act(&mut fs, &mut self.files, env, context);
        let took_signal = caller.took_signal;
        for (content, file) in std::mem::take(&mut caller.moved) {
            for (_, space) in self.space.iter_mut() {
                if !space.state.contents.remove(&content) {
                    continue;
                }
                fs.release_frozen(content);
                // The file must live for as long as it is mapped.
                if space.state.files.insert(file.number(), file).is_none() {
                    fs.hold(file);
                }
            }
        }
        drop((fs, world));
        if took_signal {
            self.note_timer();
        }
        result
    }
}
