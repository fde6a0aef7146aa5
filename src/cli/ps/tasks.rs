//! What the exits of a run say of its tasks.

use std::collections::BTreeMap;

use dejavm::replay::text::{Decoded, errno_of, exception_name};
use dejavm::sandbox::program::process::PROGRAM_PID;
use dejavm::sandbox::program::syscall::number;
use dejavm::{Exit, ExitKind, GuestMemory, MadeCall};

use crate::cli::decoding::{CLONE_THREAD, Nothing, Viewer, Watched, clone_flags, executed};

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
    /// Whether it is a thread, of the same process as its parent.
    pub thread: bool,
    /// The place of the process that it is, or that it is a thread of.
    process: usize,
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
        self.add(number, None, false, command, exit, now)
    }

    /// Adds a task that is first seen now; gives its place.
    fn add(
        &mut self,
        number: u32,
        parent: Option<usize>,
        thread: bool,
        command: Vec<Vec<u8>>,
        exit: &Exit,
        now: u64,
    ) -> usize {
        let place = self.tasks.len();
        let process = parent.filter(|_| thread).map_or(place, |parent| self.tasks[parent].process);
        self.places.insert(number, place);
        self.tasks.push(Task {
            number,
            parent,
            thread,
            process,
            command,
            first: exit.number,
            last: exit.number,
            began: now,
            ended: now,
            status: None,
            threads: 1,
            exception: None,
        });
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
                let process = self.tasks[place].process;
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
                let process = if thread { self.tasks[parent].process } else { place };
                let task = &mut self.tasks[place];
                (task.parent, task.thread, task.process) = (Some(parent), thread, process);
                if task.command.is_empty() {
                    task.command = command;
                }
            }
            None => {
                self.add(number, Some(parent), thread, command, exit, now);
            }
        }
        if thread {
            let process = self.tasks[parent].process;
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
        let process = self.tasks[place].process;
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
        if call.number == number::CLONE3 {
            self.cloning.insert(call.task, clone_flags(call.number, &call.args, memory));
        }
        if let Some(command) = executed(call, memory) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of calls, each a task, a call with its first two arguments, and a result.
    fn run(calls: &[(u32, u64, [u64; 2], i64)]) -> Tasks {
        let mut tasks = Tasks::new(vec![b"first".to_vec()]);
        for (number, (task, call, [one, two], result)) in (1..).zip(calls) {
            let kind = ExitKind::Syscall { number: *call, args: [*one, *two, 0, 0, 0, 0] };
            let result = *result as u64;
            let exit = Exit { number, task: *task, kind, rip: 0, result, effects: 0, clock: 1000 + number };
            tasks.without_memory(&exit);
        }
        tasks
    }

    fn shown(tasks: &Tasks) -> Vec<(usize, u32, bool, Option<Status>)> {
        tasks.in_order().iter().map(|(depth, t)| (*depth, t.number, t.thread, t.status.clone())).collect()
    }

    #[test]
    fn children_stand_behind_their_parents() {
        let tasks = run(&[
            (2, number::CLONE, [CLONE_THREAD, 0], 3),
            (2, number::FORK, [0, 0], 4),
            // A thread makes a process, and that one a thread, which is the last to end.
            (3, number::FORK, [0, 0], 5),
            (5, number::CLONE, [CLONE_THREAD, 0], 6),
            (5, number::EXIT, [1, 0], 0),
            (6, number::EXIT, [9, 0], 0),
            (3, number::EXIT_GROUP, [7, 0], 0),
            (4, number::KILL, [0, 0], -1),
        ]);
        let exited = |code| Some(Status::Exited(code));
        let expected = [
            (0, 2, false, exited(7)),
            (1, 3, true, None),
            (2, 5, false, exited(9)),
            (3, 6, true, exited(9)),
            (1, 4, false, None),
        ];
        assert_eq!(shown(&tasks), expected);
        let first = tasks.in_order()[0].1.clone();
        assert_eq!((first.first, first.last, first.began, first.ended), (1, 2, 0, 1));
    }

    /// Its parent hears of the child when that has executed another program or ended.
    #[test]
    fn a_child_of_vfork_is_seen_before_its_parent_knows() {
        let tasks = run(&[
            (2, number::GETPID, [0, 0], 2),
            (3, number::GETPID, [0, 0], 3),
            (3, number::EXIT_GROUP, [5, 0], 0),
            (2, number::VFORK, [0, 0], 3),
        ]);
        let expected = [(0, 2, false, None), (1, 3, false, Some(Status::Exited(5)))];
        assert_eq!(shown(&tasks), expected);
        assert_eq!(tasks.in_order()[1].1.command, [b"first".to_vec()]);
    }

    #[test]
    fn the_deepest_tree_is_told() {
        let deep: Vec<_> = (2..20_000).map(|n| (n, number::FORK, [0, 0], i64::from(n) + 1)).collect();
        assert_eq!(run(&deep).in_order().last().expect("a task").0, 19_998);
    }
}
