//! From what a replay tells to packets.

use std::collections::BTreeMap;
use std::io;

use dejavm::replay::text::{
    CallLine, Decoded, call_name, errno_of, exception_name, format_fault, format_what, signal_name,
};
use dejavm::replay::{Record, Recording, Records};
use dejavm::sandbox::program::clock::EXIT_STEP;
use dejavm::sandbox::program::process::PROGRAM_PID;
use dejavm::sandbox::program::syscall::number;
use dejavm::{DeliveredSignal, Exit, ExitKind, GuestMemory, MadeCall, SignalEffect, WorldError};

use super::packets::{Event, Packets, Value};
use super::tasks::{Open, Tasks, waiting, words};
use crate::cli::Result;
use crate::cli::decoding::{CLONE_THREAD, Viewer, Watched, clone_flags, executed};
use crate::cli::output::Output;

/// Times are signed in Perfetto.
const LAST_TIME: u64 = i64::MAX as u64;

/// Why nothing more is traced.
#[derive(Debug)]
enum Broken {
    Log(dejavm::replay::Error),
    Output(io::Error),
}

impl From<io::Error> for Broken {
    fn from(e: io::Error) -> Broken {
        Broken::Output(e)
    }
}

/// Writes the trace of a run while it is told of it.
pub struct Tracer {
    packets: Packets<Output>,
    /// The log, for its page faults: a replay's own are this host's.
    records: Records,
    strings: usize,
    tasks: Tasks,
    /// The task whose exits come.
    turn: Option<u32>,
    /// Tasks that end when something else happens.
    ended: Vec<u32>,
    /// Texts of calls that are not answered in the end, by task.
    unanswered: BTreeMap<u32, String>,
    /// The clock at which the trace begins.
    zero: Option<u64>,
    /// Nanoseconds since then.
    now: u64,
    last: u64,
    broken: Option<Broken>,
}

impl Tracer {
    /// Of a recording, to this file. Strings are shown up to so many bytes.
    pub fn new(recording: &Recording, out: Output, strings: usize) -> Tracer {
        let command = recording.manifest().command.clone();
        Tracer {
            packets: Packets::new(out),
            records: recording.records(),
            strings,
            tasks: Tasks::new(command),
            turn: None,
            ended: Vec::new(),
            unanswered: BTreeMap::new(),
            zero: None,
            now: 0,
            last: 0,
            broken: None,
        }
    }

    /// Number of the last exit that was told.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// An exit of which there is nothing but the log. Whether more can be told.
    pub fn without_memory(&mut self, exit: &Exit) -> bool {
        self.exit(exit, &Decoded::default(), &crate::cli::decoding::Nothing).is_ok()
    }

    /// Ends all that is open, and gives the file its name.
    ///
    /// # Errors
    /// What was wrong with the output or with the log; a log that is damaged leaves a trace of what comes before.
    pub fn finish(mut self) -> Result<()> {
        self.attempt(Tracer::end);
        let out = self.packets.into_inner();
        match self.broken {
            Some(Broken::Output(e)) => Err(out.failure(e)),
            Some(Broken::Log(e)) => out.finish().and(Err(e.into())),
            None => out.finish(),
        }
    }

    /// Does something unless something was wrong before.
    fn attempt(&mut self, act: impl FnOnce(&mut Tracer) -> std::result::Result<(), Broken>) {
        if self.broken.is_none()
            && let Err(broken) = act(self)
        {
            self.broken = Some(broken);
        }
    }

    /// The time of a clock. It never goes back, whatever a program does to its clock.
    fn time(&mut self, clock: u64) -> u64 {
        let zero = *self.zero.get_or_insert(clock.saturating_sub(EXIT_STEP));
        self.now = self.now.max(clock.saturating_sub(zero).min(LAST_TIME));
        self.now
    }

    fn call_made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) -> io::Result<()> {
        self.bury()?;
        let before = self.now;
        let waits = self.time(call.clock);
        let task = self.tasks.meet(call.task, Some(call.process), &mut self.packets)?;
        // What an exit takes has passed already.
        let began = waits.saturating_sub(EXIT_STEP).max(before);
        task.open = Some(Open { made: *call, began, waits, command: executed(call, memory) });
        Ok(())
    }

    fn signal_delivered(&mut self, signal: &DeliveredSignal) -> io::Result<()> {
        self.bury()?;
        let now = self.time(signal.clock);
        let task = self.tasks.meet(signal.task, Some(signal.process), &mut self.packets)?;
        let effect = match signal.effect {
            SignalEffect::Handler(address) => ("handler", Value::Address(address)),
            SignalEffect::Ends => ("effect", Value::Text("ends the process")),
            SignalEffect::Stops => ("effect", Value::Text("stops the process")),
        };
        let name = signal_name(signal.signal.into());
        let event = Event { category: "signal", name: &name, notes: &[effect] };
        self.packets.instant(&mut task.calls, now, event)?;
        if signal.effect == SignalEffect::Ends {
            self.ended = self.tasks.of(signal.process);
        }
        Ok(())
    }

    fn answered(
        &mut self,
        exit: &Exit,
        decoded: &Decoded,
        memory: &dyn GuestMemory,
    ) -> std::result::Result<(), Broken> {
        // The end is the last task's.
        if !matches!(exit.kind, ExitKind::End { .. }) {
            self.bury()?;
        }
        let before = self.now;
        let now = self.time(exit.clock);
        self.last = exit.number;
        let open = match &exit.kind {
            ExitKind::Syscall { number, args } => {
                let is_it = |made: &MadeCall| made.number == *number && made.args == *args;
                self.tasks.answered(exit.task, is_it, executes(*number))
            }
            _ => None,
        };
        self.runs(exit, open.as_ref(), before)?;
        let task = self.tasks.meet(exit.task, None, &mut self.packets)?;
        task.seen = now;
        let number = ("exit", Value::Number(exit.number));
        match CallLine::of(exit, decoded) {
            Some(line) => {
                let names =
                    ["argument 1", "argument 2", "argument 3", "argument 4", "argument 5", "argument 6"];
                let mut notes: Vec<_> =
                    names.into_iter().zip(line.arguments.iter().map(|text| Value::Text(text))).collect();
                notes.extend([("result", Value::Text(&line.result)), number]);
                let event = Event { category: "syscall", name: &line.name, notes: &notes };
                let began = open.as_ref().map_or(before, |open| open.began);
                self.packets.begin(&mut task.calls, began, event)?;
                self.packets.end(&mut task.calls, now)?;
            }
            None => {
                let what = format_what(exit);
                let (category, name) = kind(exit);
                let notes = [("what", Value::Text(&what)), number];
                self.packets.instant(&mut task.calls, now, Event { category, name, notes: &notes })?;
            }
        }
        if let ExitKind::Syscall { number, args } = &exit.kind {
            self.call(exit, *number, args, open, memory)?;
        }
        Ok(())
    }

    /// Shows that a task has run up to an exit, or waited for it since its call was made.
    fn runs(&mut self, exit: &Exit, open: Option<&Open>, before: u64) -> std::result::Result<(), Broken> {
        let now = self.now;
        let waited = open.filter(|open| now > open.waits);
        let name = waited.map(|open| call_name(open.made.number));
        let goes_on = self.turn == Some(exit.task);
        if !goes_on {
            self.end_turn()?;
            self.turn = Some(exit.task);
        }
        let task = self.tasks.meet(exit.task, None, &mut self.packets)?;
        match (&name, waited) {
            _ if goes_on => {}
            (Some(name), Some(open)) => self.packets.begin(&mut task.state, open.waits, waiting(name))?,
            _ => {
                let from = open.map_or(before, |open| open.began);
                self.packets.begin(&mut task.state, from, RUNNING)?;
            }
        }
        self.faults(exit.number, exit.task, before)?;
        let task = self.tasks.meet(exit.task, None, &mut self.packets)?;
        if let (Some(name), Some(open)) = (&name, waited) {
            if goes_on {
                self.packets.end(&mut task.state, open.waits)?;
                self.packets.begin(&mut task.state, open.waits, waiting(name))?;
            }
            self.packets.end(&mut task.state, now)?;
            self.packets.begin(&mut task.state, now, RUNNING)?;
        }
        Ok(())
    }

    /// The page faults of the log up to an exit, with the task whose exit it is.
    fn faults(&mut self, exit: u64, task: u32, at: u64) -> std::result::Result<(), Broken> {
        for record in self.records.by_ref() {
            match record.map_err(Broken::Log)? {
                Record::Exit(found) if found.number >= exit => break,
                Record::Fault(fault) => {
                    let task = self.tasks.meet(task, None, &mut self.packets)?;
                    let what = format_fault(&fault);
                    let notes = [("what", Value::Text(&what))];
                    let event = Event { category: "fault", name: "page fault", notes: &notes };
                    self.packets.instant(&mut task.state, at, event)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What a call does to tasks, and what its process holds then.
    fn call(
        &mut self,
        exit: &Exit,
        number: u64,
        args: &[u64; 6],
        open: Option<Open>,
        memory: &dyn GuestMemory,
    ) -> io::Result<()> {
        let Some(process) = self.tasks.get(exit.task).map(|task| task.process) else { return Ok(()) };
        match number {
            number::EXIT => self.ended = vec![exit.task],
            number::EXIT_GROUP => self.ended = self.tasks.of(process),
            _ if errno_of(exit.result).is_some() => return Ok(()),
            number::CLONE | number::CLONE3 | number::FORK | number::VFORK => {
                if let Ok(child) = u32::try_from(exit.result) {
                    let thread = clone_flags(number, args, memory) & CLONE_THREAD != 0;
                    self.tasks.made(exit.task, child, thread, &mut self.packets)?;
                }
            }
            _ if executes(number) => {
                self.ended = self.tasks.of(process);
                self.ended.retain(|tid| *tid != exit.task);
                self.bury()?;
                if let Some(command) = open.and_then(|open| open.command) {
                    self.tasks.name(process, words(&command), &mut self.packets)?;
                }
            }
            _ => {}
        }
        match memory.holdings() {
            Some(holds) => self.tasks.holds(process, holds, self.now, &mut self.packets),
            None => Ok(()),
        }
    }

    /// The task that has run does not any more.
    fn end_turn(&mut self) -> io::Result<()> {
        match self.turn.take().and_then(|tid| self.tasks.get(tid)) {
            Some(task) => {
                let ran = task.ran();
                self.packets.end(&mut task.state, ran)
            }
            None => Ok(()),
        }
    }

    /// Tasks that have ended are no more.
    fn bury(&mut self) -> io::Result<()> {
        for tid in std::mem::take(&mut self.ended) {
            let runs = self.turn == Some(tid);
            if runs {
                self.turn = None;
            }
            let text = self.unanswered.get(&tid).map(String::as_str);
            self.tasks.end(tid, runs, text, self.now, &mut self.packets)?;
        }
        Ok(())
    }

    fn end(&mut self) -> std::result::Result<(), Broken> {
        // Behind the last exit there may be faults.
        self.faults(u64::MAX, self.turn.unwrap_or(PROGRAM_PID), self.now)?;
        self.ended = self.tasks.all();
        Ok(self.bury()?)
    }
}

/// The slice of a task that runs.
const RUNNING: Event<'static> = Event { category: "running", name: "running", notes: &[] };

fn executes(number: u64) -> bool {
    matches!(number, number::EXECVE | number::EXECVEAT)
}

/// Category and name of an exit that is no call.
fn kind(exit: &Exit) -> (&'static str, &'static str) {
    match &exit.kind {
        ExitKind::Exception { vector, .. } => ("exception", exception_name(*vector)),
        ExitKind::End { .. } => ("end", "end"),
        ExitKind::Timer { .. } => ("timer", "timer"),
        ExitKind::Preempted { .. } | ExitKind::Sliced { .. } | ExitKind::Circle { .. } => {
            ("preempted", "preempted")
        }
        _ => ("instruction", "instruction"),
    }
}

impl Viewer for Tracer {
    fn strings(&self) -> usize {
        self.strings
    }

    fn made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) {
        self.attempt(|tracer| Ok(tracer.call_made(call, memory)?));
    }

    fn exit(&mut self, exit: &Exit, decoded: &Decoded, memory: &dyn GuestMemory) -> Watched {
        self.attempt(|tracer| tracer.answered(exit, decoded, memory));
        match self.broken {
            Some(_) => Err(WorldError::Interrupted),
            None => Ok(()),
        }
    }

    fn signal(&mut self, signal: &DeliveredSignal) {
        self.attempt(|tracer| Ok(tracer.signal_delivered(signal)?));
    }

    fn over(&mut self, unanswered: Vec<(MadeCall, String)>) {
        self.unanswered = unanswered.into_iter().map(|(call, text)| (call.task, text)).collect();
    }
}
