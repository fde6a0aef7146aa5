//! Differences of two recordings as lines.

use std::collections::{HashMap, VecDeque};
use std::io::{BufWriter, Stdout, Write};

use super::align::Step;
use super::states::States;
use super::stream::Entry;
use crate::cli::Result;
use crate::cli::log::wants_colour;

/// Writes what differs, with some exits before and behind it.
pub struct Printer {
    out: BufWriter<Stdout>,
    names: [String; 2],
    context: usize,
    quiet: bool,
    colour: bool,
    /// Exits that are the same, since the last that was written.
    before: VecDeque<Entry>,
    /// How many more are written behind a difference.
    behind: usize,
    /// Exits that are the same and were not written.
    skipped: u64,
    changed: u64,
    only: [u64; 2],
    /// The names were written.
    named: bool,
    /// Exits that only one has, by what they are: how many more of them the left one has than the right one.
    order: HashMap<u64, i64>,
    /// Asked for the state at the first difference.
    states: States,
    /// Numbers of the last exits of both that were told of.
    last: [u64; 2],
}

impl Printer {
    /// For recordings of these names, which begin behind these exits. The state at their first difference is
    /// asked of `states`.
    pub fn new(names: [String; 2], before: [u64; 2], context: usize, quiet: bool, states: States) -> Printer {
        Printer {
            out: BufWriter::new(std::io::stdout()),
            names,
            context,
            quiet,
            colour: wants_colour(),
            before: VecDeque::new(),
            behind: 0,
            skipped: 0,
            changed: 0,
            only: [0; 2],
            named: false,
            order: HashMap::new(),
            states,
            last: before,
        }
    }

    /// Writes what the runs were given that differs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn given(&mut self, lines: Vec<String>) -> Result<()> {
        for line in lines {
            self.names()?;
            self.write(&format!("! {line}"), "\x1b[33m")?;
        }
        Ok(())
    }

    /// Takes the next step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Same(entry, right) => {
                self.last = [entry.number, right];
                return self.same(entry);
            }
            Step::Changed(left, right) => {
                self.changed += 1;
                self.differs()?;
                self.line('-', &left)?;
                self.line('+', &right)?;
                let what = what_differs(&left, &right);
                self.write(&format!("!           {what}"), "\x1b[33m")?;
                self.states([left.number, right.number])?;
            }
            Step::Left(entry) => {
                self.only[0] += 1;
                *self.order.entry(entry.key).or_default() += 1;
                self.differs()?;
                self.line('-', &entry)?;
                self.states([entry.number, self.last[1] + 1])?;
            }
            Step::Right(entry) => {
                self.only[1] += 1;
                *self.order.entry(entry.key).or_default() -= 1;
                self.differs()?;
                self.line('+', &entry)?;
                self.states([self.last[0] + 1, entry.number])?;
            }
        }
        self.behind = self.context;
        Ok(())
    }

    /// Whether there was a difference; says how many.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn finish(mut self) -> Result<bool> {
        let Printer { changed, only: [left, right], .. } = self;
        let differ = changed + left + right > 0;
        if differ && !self.quiet {
            writeln!(
                self.out,
                "{changed} changed, {left} only in {}, {right} only in {}",
                self.names[0].escape_debug(),
                self.names[1].escape_debug()
            )?;
            let rest: u64 = self.order.values().map(|n| n.unsigned_abs()).sum();
            let moved = (left + right).saturating_sub(rest) / 2;
            if moved > 0 {
                let what = if moved == 1 { "1 exit is" } else { &format!("{moved} exits are") };
                writeln!(self.out, "{what} in both, at other places: the tasks ran in another order")?;
            }
        }
        self.out.flush()?;
        Ok(differ)
    }

    /// Behind the first difference: what both were at before it.
    fn states(&mut self, exits: [u64; 2]) -> Result<()> {
        for line in std::mem::replace(&mut self.states, States::none()).before(exits) {
            let colour = match line.as_bytes().first() {
                Some(b'-') => "\x1b[31m",
                Some(b'+') => "\x1b[32m",
                Some(b'!') => "\x1b[33m",
                Some(b'@') => "\x1b[36m",
                _ => "",
            };
            self.write(&line, colour)?;
        }
        Ok(())
    }

    fn same(&mut self, entry: Entry) -> Result<()> {
        if self.behind > 0 {
            self.behind -= 1;
            return self.line(' ', &entry);
        }
        self.before.push_back(entry);
        if self.before.len() > self.context {
            self.before.pop_front();
            self.skipped += 1;
        }
        Ok(())
    }

    /// Before a difference: what led to it.
    fn differs(&mut self) -> Result<()> {
        self.names()?;
        match std::mem::take(&mut self.skipped) {
            0 => {}
            1 => self.write("@@ 1 exit is the same @@", "\x1b[36m")?,
            n => self.write(&format!("@@ {n} exits are the same @@"), "\x1b[36m")?,
        }
        for entry in std::mem::take(&mut self.before) {
            self.line(' ', &entry)?;
        }
        Ok(())
    }

    /// The recordings' names, once.
    fn names(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.named, true) {
            return Ok(());
        }
        let [left, right] = self.names.clone();
        self.write(&format!("--- {}", left.escape_debug()), "\x1b[1m")?;
        self.write(&format!("+++ {}", right.escape_debug()), "\x1b[1m")
    }

    fn line(&mut self, sign: char, entry: &Entry) -> Result<()> {
        let colour = match sign {
            '-' => "\x1b[31m",
            '+' => "\x1b[32m",
            _ => "",
        };
        self.write(&format!("{sign}{:>8}  {}", entry.number, entry.text), colour)
    }

    fn write(&mut self, line: &str, colour: &str) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        match self.colour && !colour.is_empty() {
            true => writeln!(self.out, "{colour}{line}\x1b[0m")?,
            false => writeln!(self.out, "{line}")?,
        }
        Ok(())
    }
}

/// Which parts of two exits of one kind differ, in words.
fn what_differs(left: &Entry, right: &Entry) -> String {
    if left.key == right.key {
        return "differs: what it wrote into memory".into();
    }
    if left.parts.len() != right.parts.len() || left.parts.len() == 1 {
        return "differs".into();
    }
    let result = left.parts.len() - 1;
    let parts = left.parts.iter().zip(&right.parts).enumerate().filter(|(_, (left, right))| left != right);
    let parts: Vec<String> = parts
        .map(|(at, _)| if at == result { "result".into() } else { format!("argument {}", at + 1) })
        .collect();
    format!("differs: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_in_words() {
        let entry = |key, parts: &[u64]| Entry {
            number: 1,
            key,
            kind: 0,
            parts: parts.to_vec(),
            effects: (1, key),
            text: String::new(),
        };
        assert_eq!(what_differs(&entry(1, &[1, 2, 3]), &entry(2, &[1, 9, 8])), "differs: argument 2, result");
        assert_eq!(what_differs(&entry(1, &[1]), &entry(2, &[2])), "differs");
        assert_eq!(
            what_differs(&entry(1, &[1, 2]), &entry(1, &[1, 2])),
            "differs: what it wrote into memory"
        );
    }
}
