//! What the exits of a run say of its tasks.

use std::collections::BTreeMap;

use dejavm::replay::text::{Decoded, errno_of, exception_name, strings_at};
use dejavm::sandbox::program::process::PROGRAM_PID;
use dejavm::sandbox::program::syscall::number;
use dejavm::{Exit, ExitKind, GuestMemory, MadeCall};

use crate::cli::decoding::{Nothing, Viewer, Watched};

/// Bytes of one argument of a command that are kept.
const ARGUMENT_BYTES: usize = 200;

/// `CLONE_THREAD`.
const CLONE_THREAD: u64 = 0x1_0000;

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// By itself.
    Exited(u8),
    /// By this signal.
    Killed(u32),
    /// Its last exit was this exception.
    Died(&'static str),
}

/// A process, or a thread of one.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its number in the guest.
    pub number: u32,
    /// Who made it: a place in the list.
    pub parent: Option<usize>,
    /// Whether it is a thread of its parent.
    pub thread: bool,
    /// The arguments of the last program that it executed.
    pub command: Vec<Vec<u8>>,
    /// Number of its first exit.
    pub first: u64,
    /// Number of its last exit.
    pub last: u64,
    /// Virtual time of its beginning, or of its first exit, nanoseconds since the recording's first exit.
    pub began: u64,
    /// Virtual time of its last exit.
    pub ended: u64,
    /// How it ended, if that is known.
    pub status: Option<Status>,
    /// Threads that have not ended, of a process, itself included.
    threads: u32,
    /// The exception that its last exit was.
    exception: Option<&'static str>,
}

/// All tasks of a run, in the order in which they were seen.
#[derive(Debug)]
pub struct Tasks {
    tasks: Vec<Task>,
    /// Places of the tasks that have these numbers now.
    places: BTreeMap<u32, usize>,
    /// What the programs are given that are being executed, by task.
    executing: BTreeMap<u32, ([u64; 6], Vec<Vec<u8>>)>,
    /// Flags of `clone3`s that are being answered, by task.
    cloning: BTreeMap<u32, u64>,
    command: Vec<Vec<u8>>,
    clock: Option<u64>,
    last: u64,
}

impl Tasks {
    /// Of a recording of this command.
    pub fn new(command: Vec<Vec<u8>>) -> Tasks {
        Tasks {
            tasks: Vec::new(),
            places: BTreeMap::new(),
            executing: BTreeMap::new(),
            cloning: BTreeMap::new(),
            command,
            clock: None,
            last: 0,
        }
    }

    /// Number of the last exit that was told.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The number of a task by its place.
    pub fn number(&self, place: usize) -> u32 {
        self.tasks.get(place).map_or(0, |task| task.number)
    }

    /// All tasks, each behind its parent, and how deep they are in the tree.
    pub fn in_order(&self) -> Vec<(usize, &Task)> {
        let mut children: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for (place, task) in self.tasks.iter().enumerate() {
            children.entry(task.parent).or_default().push(place);
        }
        // No recursion: a guest may make children of children as long as it likes.
        let mut order = Vec::with_capacity(self.tasks.len());
        let mut next: Vec<(usize, usize)> = Vec::new();
        let push = |next: &mut Vec<(usize, usize)>, depth, of: Option<usize>| {
            next.extend(children.get(&of).into_iter().flatten().rev().map(|place| (depth, *place)));
        };
        push(&mut next, 0, None);
        while let Some((depth, place)) = next.pop() {
            order.push((depth, &self.tasks[place]));
            push(&mut next, depth + 1, Some(place));
        }
        order
    }

    /// An exit of which there is nothing but the log.
    pub fn without_memory(&mut self, exit: &Exit) {
        self.see(exit, &Nothing);
    }

    /// The place of a task, which may be new.
    fn place(&mut self, number: u32, exit: &Exit, now: u64) -> usize {
        if let Some(place) = self.places.get(&number) {
            return *place;
        }
        let command = if number == PROGRAM_PID { self.command.clone() } else { Vec::new() };
        self.add(Task {
            number,
            parent: None,
            thread: false,
            command,
            first: exit.number,
            last: exit.number,
            began: now,
            ended: now,
            status: None,
            threads: 1,
            exception: None,
        })
    }

    fn add(&mut self, task: Task) -> usize {
        let place = self.tasks.len();
        self.places.insert(task.number, place);
        self.tasks.push(task);
        place
    }

    /// The process that a task belongs to.
    fn process_of(&self, mut place: usize) -> usize {
        // Threads may make threads: each step goes to an earlier one.
        while let Some(task) = self.tasks.get(place)
            && task.thread
            && let Some(parent) = task.parent
        {
            place = parent;
        }
        place
    }

    fn see(&mut self, exit: &Exit, memory: &dyn GuestMemory) {
        let start = *self.clock.get_or_insert(exit.clock);
        let now = exit.clock.saturating_sub(start);
        self.last = exit.number;
        if exit.task == 0 {
            return;
        }
        let place = self.place(exit.task, exit, now);
        let task = &mut self.tasks[place];
        (task.last, task.ended, task.exception) = (exit.number, now, None);
        match &exit.kind {
            ExitKind::Syscall { number, args } => self.call(place, exit, *number, args, now, memory),
            ExitKind::Exception { vector, .. } => task.exception = Some(exception_name(*vector)),
            // The run ends with its first program.
            ExitKind::End { status } => {
                if let Some(first) = self.places.get(&PROGRAM_PID) {
                    self.ended_with(*first, *status as u32);
                }
            }
            _ => {}
        }
    }

    fn call(
        &mut self,
        place: usize,
        exit: &Exit,
        number: u64,
        args: &[u64; 6],
        now: u64,
        memory: &dyn GuestMemory,
    ) {
        let result = exit.result;
        let cloned = self.cloning.remove(&exit.task);
        let failed = errno_of(result).is_some();
        match number {
            number::EXIT => self.exited(place, args[0] as u8),
            number::EXIT_GROUP => {
                let process = self.process_of(place);
                self.tasks[process].status = Some(Status::Exited(args[0] as u8));
            }
            _ if failed => {}
            number::FORK | number::VFORK => self.made(place, result, 0, exit, now),
            number::CLONE => self.made(place, result, args[0], exit, now),
            number::CLONE3 => self.made(place, result, cloned.unwrap_or(0), exit, now),
            number::EXECVE | number::EXECVEAT => self.executed(place, exit.task, args),
            number::WAIT4 if args[1] != 0 => {
                let status = read_u32(memory, args[1]);
                self.waited_for(result as u32, status);
            }
            number::WAITID if args[2] != 0 => {
                // `siginfo_t`: code, number and status of the child.
                let [code, child, status] = [8, 16, 24].map(|at| read_u32(memory, args[2].wrapping_add(at)));
                let status = match (code, status) {
                    (Some(1), Some(status)) => Some(status << 8),
                    (Some(2 | 3), status) => status,
                    _ => None,
                };
                self.waited_for(child.unwrap_or(0), status);
            }
            _ => {}
        }
    }

    /// A task has made another.
    fn made(&mut self, parent: usize, child: u64, flags: u64, exit: &Exit, now: u64) {
        let Ok(number) = u32::try_from(child) else { return };
        let thread = flags & CLONE_THREAD != 0;
        let command = self.tasks[parent].command.clone();
        // A child of `vfork` has run before its parent hears of it.
        let seen = self.places.get(&number).copied().filter(|place| {
            let task = &self.tasks[*place];
            task.parent.is_none() && task.number != PROGRAM_PID && *place > parent
        });
        match seen {
            Some(place) => {
                let task = &mut self.tasks[place];
                (task.parent, task.thread) = (Some(parent), thread);
                if task.command.is_empty() {
                    task.command = command;
                }
            }
            None => {
                self.add(Task {
                    number,
                    parent: Some(parent),
                    thread,
                    command,
                    first: exit.number,
                    last: exit.number,
                    began: now,
                    ended: now,
                    status: None,
                    threads: 1,
                    exception: None,
                });
            }
        }
        if thread {
            let process = self.process_of(parent);
            self.tasks[process].threads += 1;
        }
    }

    fn executed(&mut self, place: usize, task: u32, args: &[u64; 6]) {
        // A thread that executes a program has its process's number by now.
        let same = |(_, (made, _)): &(&u32, &([u64; 6], _))| *made == *args;
        let own = self.executing.get_key_value(&task).filter(same);
        let of = own.or_else(|| self.executing.iter().find(same)).map(|(task, _)| *task);
        if let Some((_, command)) = of.and_then(|task| self.executing.remove(&task)) {
            self.tasks[place].command = command;
            self.tasks[place].threads = 1;
        }
    }

    /// A thread ended by itself; with the last one its process does.
    fn exited(&mut self, place: usize, code: u8) {
        let process = self.process_of(place);
        if place != process {
            self.tasks[place].status = Some(Status::Exited(code));
        }
        let process = &mut self.tasks[process];
        process.threads = process.threads.saturating_sub(1);
        if process.threads == 0 {
            process.status = Some(Status::Exited(code));
        }
    }

    fn waited_for(&mut self, child: u32, status: Option<u32>) {
        if let (Some(place), Some(status)) = (self.places.get(&child), status) {
            self.ended_with(*place, status);
        }
    }

    /// By a status as `wait4` gives it; not of one that stopped or went on.
    fn ended_with(&mut self, place: usize, status: u32) {
        self.tasks[place].status = Some(match status & 0x7f {
            0 => Status::Exited((status >> 8) as u8),
            0x7f => return,
            signal => Status::Killed(signal),
        });
    }
}

fn read_u32(memory: &dyn GuestMemory, address: u64) -> Option<u32> {
    let mut out = [0; 4];
    (memory.read(address, &mut out) == out.len()).then(|| u32::from_le_bytes(out))
}

impl Viewer for Tasks {
    fn strings(&self) -> usize {
        0
    }

    fn made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) {
        self.executing.remove(&call.task);
        let argv = match call.number {
            number::EXECVE => call.args[1],
            number::EXECVEAT => call.args[2],
            number::CLONE3 => {
                let mut flags = [0; 8];
                if memory.read(call.args[0], &mut flags) == flags.len() {
                    self.cloning.insert(call.task, u64::from_le_bytes(flags));
                }
                return;
            }
            _ => return,
        };
        if let Some(command) = strings_at(memory, argv, ARGUMENT_BYTES) {
            self.executing.insert(call.task, (call.args, command));
        }
    }

    fn exit(&mut self, exit: &Exit, _decoded: &Decoded, memory: &dyn GuestMemory) -> Watched {
        self.see(exit, memory);
        Ok(())
    }

    fn over(&mut self, _unanswered: Vec<(MadeCall, String)>) {
        // What became of those whose last exit was an exception, nobody may have said.
        for task in &mut self.tasks {
            if let (None, Some(exception)) = (&task.status, task.exception) {
                task.status = Some(Status::Died(exception));
            }
        }
    }
}
