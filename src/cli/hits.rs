//! What was found in a recording: a position and a text a line.

use std::collections::VecDeque;
use std::io::{BufWriter, Stdout, Write};

use dejavm::replay::text::{CallLine, Decoded, format_what};
use dejavm::replay::{Moment, Position};
use dejavm::{Exit, ExitKind};
use serde_json::{Map, Value};

use super::failure::json_line;
use super::{Failure, Result};

/// The most that can be asked for from the end: so many are kept.
const MOST_KEPT: u64 = 10_000;

/// Characters of a text that are shown.
const SHOWN: usize = 4096;

/// How much is shown of what was found, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct HitOptions {
    /// Stops behind so many.
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    n: Option<u64>,
    /// Stops behind the first.
    #[arg(long, conflicts_with = "n")]
    first: bool,
    /// Shows the last one, or with -n the last N (10,000 at most), and none before.
    #[arg(long, conflicts_with = "first")]
    last: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Something that was found.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Where a debugger shows it.
    pub moment: Moment,
    /// The task.
    pub task: u32,
    /// What it is, in one word.
    pub kind: &'static str,
    /// A line about it.
    pub text: String,
    /// What else is told of it in JSON.
    pub more: Map<String, Value>,
}

impl Hit {
    /// An exit.
    pub fn exit(exit: &Exit, decoded: &Decoded) -> Hit {
        let mut more = Map::new();
        let (kind, text) = match CallLine::of(exit, decoded) {
            Some(line) => {
                more.insert("call".into(), line.name.to_string().into());
                ("call", line.to_string())
            }
            None => (
                if matches!(exit.kind, ExitKind::Exception { .. }) { "fault" } else { "exit" },
                format_what(exit),
            ),
        };
        Hit { moment: moment_of(exit), task: exit.task, kind, text, more }
    }

    fn shorten(&mut self) {
        if self.text.len() > SHOWN {
            self.text = self.text.chars().take(SHOWN).chain("...".chars()).collect();
        }
    }
}

/// Where a debugger shows an exit: a call, and any other instruction that makes one, before it runs; an exception
/// behind it, with the registers as they were at the instruction.
pub fn moment_of(exit: &Exit) -> Moment {
    match exit.kind {
        ExitKind::Syscall { .. } | ExitKind::Instruction(_) => Moment::Before(exit.number),
        _ => Position::behind(exit.number).into(),
    }
}

/// The first things that are found, or the last.
#[derive(Debug, Default)]
pub struct Kept {
    hits: VecDeque<Hit>,
    most: u64,
    last: bool,
}

impl Kept {
    /// Whether nothing more is wanted.
    pub fn are_enough(&self) -> bool {
        !self.last && self.hits.len() as u64 >= self.most
    }

    /// Something was found.
    pub fn add(&mut self, mut hit: Hit) {
        if self.are_enough() {
            return;
        }
        if self.hits.len() as u64 >= self.most {
            self.hits.pop_front();
        }
        hit.shorten();
        self.hits.push_back(hit);
    }

    /// What was kept, in order.
    pub fn into_hits(self) -> impl Iterator<Item = Hit> {
        self.hits.into_iter()
    }
}

/// Writes what is found, as far as it is wanted.
pub struct Hits {
    json: bool,
    out: BufWriter<Stdout>,
    found: u64,
    most: u64,
    /// The last ones, where these are wanted.
    kept: Option<Kept>,
    failure: Option<std::io::Error>,
}

impl Hits {
    /// For these options; `most` unless they say how many.
    pub fn new(options: &HitOptions, most: u64) -> Hits {
        let most = match options.n {
            Some(n) => n,
            None if options.first || options.last => 1,
            None => most,
        };
        let mut hits = Hits {
            json: options.json,
            out: BufWriter::new(std::io::stdout()),
            found: 0,
            most,
            kept: None,
            failure: None,
        };
        hits.kept = options.last.then(|| Kept { last: true, ..hits.keeper() });
        hits
    }

    /// What keeps as many as these do at most.
    pub fn keeper(&self) -> Kept {
        let last = self.kept.is_some();
        Kept { hits: VecDeque::new(), most: self.most.min(MOST_KEPT), last }
    }

    /// Whether nothing more is wanted.
    pub fn are_enough(&self) -> bool {
        self.failure.is_some() || self.kept.is_none() && self.found >= self.most
    }

    /// Something was found.
    pub fn add(&mut self, hit: Hit) {
        if self.are_enough() {
            return;
        }
        self.found += 1;
        match &mut self.kept {
            Some(kept) => kept.add(hit),
            None => self.write(hit),
        }
    }

    fn write(&mut self, mut hit: Hit) {
        hit.shorten();
        let Hit { moment, task, kind, text, mut more } = hit;
        let line = match self.json {
            false => format!("{moment}\t[pid {task}] {text}"),
            true => {
                more.insert("position".into(), moment.to_string().into());
                more.insert("task".into(), task.into());
                more.insert("kind".into(), kind.into());
                more.insert("text".into(), text.into());
                json_line(&Value::Object(more))
            }
        };
        if let Err(e) = writeln!(self.out, "{line}") {
            self.failure.get_or_insert(e);
        }
    }

    /// Writes what is left; gives the exit status, as of `grep`. `fell_short` says why not all was looked at, if so.
    ///
    /// # Errors
    /// That, unless enough was found, and what was wrong with the output, now or before.
    pub fn finish(&mut self, fell_short: Option<String>) -> Result {
        let enough = self.are_enough();
        for hit in self.kept.take().into_iter().flat_map(Kept::into_hits) {
            self.write(hit);
        }
        if let Some(e) = self.failure.take() {
            return Err(e.into());
        }
        self.out.flush()?;
        match fell_short.filter(|_| !enough) {
            Some(why) => Err(Failure::new(format_args!("not all was searched: {why}"))),
            None => Ok(u8::from(self.found == 0)),
        }
    }
}
