//! What went another way, for people.

use std::collections::VecDeque;
use std::fmt;

use dejavm_sandbox::exit::{Exit, ExitKind, Fault};
use dejavm_sandbox::world::HostPath;

use crate::record::Asked;
use crate::text::{call_name, format_asked, format_fault, format_kind};

/// Most matching exits that a [`Divergence`] shows.
pub const MAX_MATCHED: usize = 8;

/// Most faults that a [`Window`] keeps.
pub const MAX_FAULTS: usize = 64;

/// The first difference between a run and its recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Number of the exit at which, or on the way to which, it happened.
    pub exit: u64,
    /// What the recording has.
    pub expected: Event,
    /// What the replay did.
    pub seen: Event,
    /// The last exits that were the same, oldest first; at most [`MAX_MATCHED`].
    pub matched: Vec<Exit>,
    /// Pages brought in between the last match and the difference, in the recording.
    pub recorded_faults: Window,
    /// The same in the replay.
    pub seen_faults: Window,
}

/// What a run does next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A compared exit.
    Exit(Exit),
    /// An ordered question to the outside.
    Ask(Asked),
    /// A block of a host file.
    Block {
        /// The file.
        path: HostPath,
        /// The block's number.
        block: u64,
    },
    /// Nothing more: the run had ended.
    End,
    /// Nothing that the recording has: it holds no such block of a host file.
    NoSuchBlock,
}

/// The last faults of some stretch of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The last of them, oldest first; at most [`MAX_FAULTS`].
    pub faults: VecDeque<Fault>,
    /// Number of all of them.
    pub count: u64,
}

/// A field of an exit that differs, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDifference {
    /// The field: `number`, `kind`, `rip`, `result`, `effects` or `clock`; an argument of the same
    /// system call is `arg0` to `arg5`.
    pub field: &'static str,
    /// In the recording.
    pub expected: String,
    /// In the replay.
    pub seen: String,
}

impl Window {
    pub(super) fn push(&mut self, fault: Fault) {
        if self.faults.len() == MAX_FAULTS {
            self.faults.pop_front();
        }
        self.faults.push_back(fault);
        self.count += 1;
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
        self.count = 0;
    }
}

impl Divergence {
    /// The fields in which the two exits differ; none when one of the two is no exit.
    pub fn fields(&self) -> Vec<FieldDifference> {
        match (&self.expected, &self.seen) {
            (Event::Exit(expected), Event::Exit(seen)) => differences(expected, seen),
            _ => Vec::new(),
        }
    }

    /// The difference in one line.
    pub fn headline(&self) -> String {
        let fields: Vec<&str> = self.fields().iter().map(|f| f.field).collect();
        let differ = match fields.len() {
            0 => String::new(),
            1 => format!(" ({} differs)", fields[0]),
            _ => format!(" ({} differ)", fields.join(", ")),
        };
        let (recorded, replayed) = (self.expected.headline(), self.seen.headline());
        format!(
            "the replay diverged at exit {}: {recorded} was recorded, {replayed} replayed{differ}",
            self.exit
        )
    }
}

impl Event {
    /// What it is, as a part of a line: a system call with its arguments and its result.
    fn headline(&self) -> String {
        match self {
            Event::Exit(exit) => format_kind(exit),
            Event::Ask(asked) => format!("the question {}", format_asked(asked)),
            Event::Block { path, block } => {
                format!("the question read-block({}, {block})", crate::text::format_path(path))
            }
            Event::End => "nothing more".into(),
            Event::NoSuchBlock => "no such block".into(),
        }
    }

    /// What it is, in a word or two.
    pub fn name(&self) -> String {
        match self {
            Event::Exit(exit) => match &exit.kind {
                ExitKind::Syscall { number, .. } => format!("exit {}", call_name(*number)),
                ExitKind::Instruction(_) => "exit by an instruction".into(),
                ExitKind::Exception { vector, .. } => format!("exception {vector}"),
                ExitKind::End { .. } => "the guest's end".into(),
                ExitKind::Timer { .. } => "a timer".into(),
                ExitKind::Preempted { .. } => "a preemption".into(),
                ExitKind::Sliced { .. } => "the end of a time slice".into(),
                ExitKind::Circle { .. } => "a circle".into(),
                ExitKind::In { port, .. } => format!("a read of port {port:#x}"),
                ExitKind::Out { port, .. } => format!("a write of port {port:#x}"),
            },
            Event::Ask(asked) => format!("a question ({})", asked.name()),
            Event::Block { .. } => "a question (read-block)".into(),
            Event::End => "nothing more".into(),
            Event::NoSuchBlock => "only blocks that the recorded run read".into(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Exit(exit) => write!(f, "{}  {}", exit.number, format_kind(exit)),
            Event::Ask(asked) => write!(f, "asked the outside: {}", format_asked(asked)),
            Event::Block { path, block } => {
                write!(f, "asked the outside: read-block {} #{block}", crate::text::format_path(path))
            }
            Event::End => f.write_str("nothing more: the run had ended"),
            Event::NoSuchBlock => f.write_str("no such block: the recorded run did not read it"),
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        match self.matched.last() {
            None => writeln!(f, "  last match: none, this is the first exit")?,
            Some(last) => {
                writeln!(f, "  last match: exit {}", last.number)?;
                for exit in &self.matched {
                    writeln!(f, "    {}  {}", exit.number, format_kind(exit))?;
                }
            }
        }
        writeln!(f, "  first difference:")?;
        writeln!(f, "    recorded: {}", self.expected)?;
        writeln!(f, "    replayed: {}", self.seen)?;
        for FieldDifference { field, expected, seen } in self.fields() {
            writeln!(f, "      {field}: {expected} recorded, {seen} replayed")?;
        }
        writeln!(f, "  between them (page faults, not compared):")?;
        self.recorded_faults.write(f, "recorded")?;
        self.seen_faults.write(f, "replayed")
    }
}

impl Window {
    fn write(&self, f: &mut fmt::Formatter<'_>, whose: &str) -> fmt::Result {
        writeln!(f, "    {whose}: {}", self.count)?;
        let hidden = self.count - self.faults.len() as u64;
        if hidden > 0 {
            writeln!(f, "      ({hidden} more before these)")?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "      {}", format_fault(fault)))
    }
}

fn differences(expected: &Exit, seen: &Exit) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    let mut add =
        |field, expected: String, seen: String| found.push(FieldDifference { field, expected, seen });
    if expected.number != seen.number {
        add("number", expected.number.to_string(), seen.number.to_string());
    }
    if expected.task != seen.task {
        add("task", expected.task.to_string(), seen.task.to_string());
    }
    match (&expected.kind, &seen.kind) {
        (ExitKind::Syscall { number: a, args: before }, ExitKind::Syscall { number: b, args: now })
            if a == b =>
        {
            const NAMES: [&str; 6] = ["arg0", "arg1", "arg2", "arg3", "arg4", "arg5"];
            for ((name, before), now) in NAMES.into_iter().zip(before).zip(now) {
                if before != now {
                    add(name, format!("{before:#x}"), format!("{now:#x}"));
                }
            }
        }
        (before, now) if before != now => add("kind", Event::kind_text(before), Event::kind_text(now)),
        _ => {}
    }
    for (field, before, now) in [
        ("rip", expected.rip, seen.rip),
        ("result", expected.result, seen.result),
        ("effects", expected.effects, seen.effects),
    ] {
        if before != now {
            add(field, format!("{before:#x}"), format!("{now:#x}"));
        }
    }
    if expected.clock != seen.clock {
        add("clock", format!("{} ns", expected.clock), format!("{} ns", seen.clock));
    }
    found
}

impl Event {
    /// An exit's kind with all its fields.
    fn kind_text(kind: &ExitKind) -> String {
        match kind {
            ExitKind::Syscall { number, .. } => call_name(*number).into_owned(),
            other => format!("{other:?}"),
        }
    }
}
