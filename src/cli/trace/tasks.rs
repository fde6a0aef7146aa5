//! Processes and tasks that are there, with their tracks.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Write};

use dejavm::replay::text::call_name;
use dejavm::sandbox::program::process::PROGRAM_PID;
use dejavm::{Holdings, MadeCall};

use super::packets::{Event, Packets, Track, Unit, Value};

/// A call that was made and not answered.
#[derive(Debug)]
pub struct Open {
    pub made: MadeCall,
    /// When it was made, and when it began to wait unless it was answered then.
    pub began: u64,
    pub waits: u64,
    /// The program that it executes, if it does.
    pub command: Option<Vec<Vec<u8>>>,
}

/// A task that has not ended.
#[derive(Debug)]
pub struct Task {
    pub process: u32,
    /// Its calls, exceptions and signals.
    pub calls: Track,
    /// Whether it runs or waits, and its page faults.
    pub state: Track,
    /// When it was seen last.
    pub seen: u64,
    pub open: Option<Open>,
}

impl Task {
    /// Up to when it is known to have run.
    pub fn ran(&self) -> u64 {
        self.open.as_ref().map_or(self.seen, |open| open.waits.max(self.seen))
    }
}

#[derive(Debug)]
struct Process {
    track: Track,
    command: Vec<String>,
    /// Counters of what it holds, and what they say.
    counters: Option<(Track, Track)>,
    holds: Holdings,
    tasks: u32,
}

/// All that are there.
#[derive(Debug)]
pub struct Tasks {
    tasks: BTreeMap<u32, Task>,
    processes: BTreeMap<u32, Process>,
    /// The first program's command.
    command: Vec<String>,
}

impl Tasks {
    /// Of a recording of this command.
    pub fn new(command: Vec<String>) -> Tasks {
        Tasks { tasks: BTreeMap::new(), processes: BTreeMap::new(), command }
    }

    /// A task that is there.
    pub fn get(&mut self, tid: u32) -> Option<&mut Task> {
        self.tasks.get_mut(&tid)
    }

    /// The numbers of a process's tasks.
    pub fn of(&self, process: u32) -> Vec<u32> {
        self.tasks.iter().filter(|(_, task)| task.process == process).map(|(tid, _)| *tid).collect()
    }

    /// The numbers of all tasks.
    pub fn all(&self) -> Vec<u32> {
        self.tasks.keys().copied().collect()
    }

    /// A task, of this process if it is new and that is known, with a track.
    pub fn meet<W: Write>(
        &mut self,
        tid: u32,
        process: Option<u32>,
        packets: &mut Packets<W>,
    ) -> io::Result<&mut Task> {
        if !self.tasks.contains_key(&tid) {
            let process = process.unwrap_or(tid);
            let command = if process == PROGRAM_PID { self.command.clone() } else { Vec::new() };
            self.begin(tid, process, command, packets)?;
        }
        self.tasks.get_mut(&tid).ok_or_else(|| io::Error::other("a task that is not there"))
    }

    /// A task has made another, as a thread of its own process or as a process.
    pub fn made<W: Write>(
        &mut self,
        parent: u32,
        child: u32,
        thread: bool,
        packets: &mut Packets<W>,
    ) -> io::Result<()> {
        let process = self.tasks.get(&parent).map_or(parent, |task| task.process);
        let command = self.processes.get(&process).map_or(Vec::new(), |process| process.command.clone());
        match self.tasks.contains_key(&child) {
            false => self.begin(child, if thread { process } else { child }, command, packets),
            // A child of `vfork` has run before its parent hears of it.
            true => match self.processes.get(&child) {
                Some(known) if known.command.is_empty() => self.name(child, command, packets),
                _ => Ok(()),
            },
        }
    }

    /// A process executes another program.
    pub fn name<W: Write>(
        &mut self,
        pid: u32,
        command: Vec<String>,
        packets: &mut Packets<W>,
    ) -> io::Result<()> {
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(()) };
        process.command = command;
        packets.process(&process.track, pid, &process.command)?;
        match self.tasks.get(&pid) {
            Some(task) => packets.thread(&task.calls, pid, pid, program(&process.command)),
            None => Ok(()),
        }
    }

    /// The call that a task waits in, if it is this one.
    pub fn answered(&mut self, tid: u32, is_it: impl Fn(&MadeCall) -> bool, executes: bool) -> Option<Open> {
        let matches = |task: &mut Task| task.open.take_if(|open| is_it(&open.made));
        let own = self.tasks.get_mut(&tid).and_then(matches);
        match own {
            // A thread that executes a program has its process's number by now.
            None if executes => self.tasks.values_mut().find_map(matches),
            own => own,
        }
    }

    /// What a process holds from now on.
    pub fn holds<W: Write>(
        &mut self,
        pid: u32,
        holds: Holdings,
        now: u64,
        packets: &mut Packets<W>,
    ) -> io::Result<()> {
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(()) };
        if process.counters.is_none() {
            let (memory, descriptors) = (packets.track(), packets.track());
            packets.counter(&memory, &process.track, "mapped memory", Unit::Bytes)?;
            packets.counter(&descriptors, &process.track, "open descriptors", Unit::Count)?;
            process.counters = Some((memory, descriptors));
        }
        let Some((memory, descriptors)) = &mut process.counters else { return Ok(()) };
        if holds.mapped != process.holds.mapped {
            packets.count(memory, now, holds.mapped)?;
        }
        if holds.descriptors != process.holds.descriptors {
            packets.count(descriptors, now, holds.descriptors)?;
        }
        process.holds = holds;
        Ok(())
    }

    /// A task is no more: what is open on its tracks ends. A call that it still waits in is shown, with its text
    /// if that is known. Whether it `runs` says what its state is until then.
    pub fn end<W: Write>(
        &mut self,
        tid: u32,
        runs: bool,
        text: Option<&str>,
        now: u64,
        packets: &mut Packets<W>,
    ) -> io::Result<()> {
        let Some(mut task) = self.tasks.remove(&tid) else { return Ok(()) };
        if runs {
            let ran = task.ran();
            packets.end(&mut task.state, ran)?;
        }
        if let Some(open) = task.open {
            let name = call_name(open.made.number);
            let unfinished = [("unfinished", Value::Text(text.unwrap_or("its task ended")))];
            let call = Event { category: "syscall", name: &name, notes: &unfinished };
            packets.begin(&mut task.calls, open.began, call)?;
            packets.end(&mut task.calls, now)?;
            if now > open.waits {
                packets.begin(&mut task.state, open.waits, waiting(&name))?;
                packets.end(&mut task.state, now)?;
            }
        }
        let Some(process) = self.processes.get_mut(&task.process) else { return Ok(()) };
        process.tasks = process.tasks.saturating_sub(1);
        if process.tasks == 0 {
            self.holds(task.process, Holdings::default(), now, packets)?;
            self.processes.remove(&task.process);
        }
        Ok(())
    }

    fn begin<W: Write>(
        &mut self,
        tid: u32,
        pid: u32,
        command: Vec<String>,
        packets: &mut Packets<W>,
    ) -> io::Result<()> {
        let process = match self.processes.entry(pid) {
            Entry::Occupied(process) => process.into_mut(),
            Entry::Vacant(place) => {
                let track = packets.track();
                packets.process(&track, pid, &command)?;
                place.insert(Process { track, command, counters: None, holds: Holdings::default(), tasks: 0 })
            }
        };
        process.tasks += 1;
        let (calls, state) = (packets.track(), packets.track());
        packets.thread(&calls, pid, tid, program(&process.command))?;
        packets.below(&state, &calls, "state")?;
        self.tasks.insert(tid, Task { process: pid, calls, state, seen: 0, open: None });
        Ok(())
    }
}

/// The slice of a task that waits in a call.
pub fn waiting(call: &str) -> Event<'_> {
    Event { category: "waiting", name: call, notes: &[] }
}

/// A command as text.
pub fn words(command: &[Vec<u8>]) -> Vec<String> {
    command.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// A program's name.
fn program(command: &[String]) -> Option<&str> {
    command.first().and_then(|path| path.rsplit('/').next())
}
