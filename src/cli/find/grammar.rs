//! What is looked for, in words.

use std::collections::BTreeSet;
use std::ops::Range;

use dejavm::replay::text::signal_name;
use dejavm::sandbox::errno::Errno;

use crate::cli::log::filter;
use crate::cli::pattern::Pattern;

/// Bytes of memory that are watched for a write, unless it is said how many.
const WORD: u64 = 8;

/// Most bytes of memory that can be watched: all of it is looked at whenever its pages are written.
pub const MOST_WATCHED: u64 = 1 << 16;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Exits and signals for which one of these holds: all terms of one.
    Events(Vec<Vec<Term>>),
    /// Where this memory changes.
    Writes(Range<u64>),
}

/// One thing to look for, or its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub negated: bool,
    pub what: What,
}

/// One thing to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// One of these system calls.
    Call(BTreeSet<u64>),
    /// A call that opens or creates a file.
    Open(Pattern),
    /// A call that writes these bytes, somewhere in what it writes.
    Write(Vec<u8>),
    /// A call that writes to a file.
    WriteTo(Pattern),
    /// A call that failed, with this error.
    Failed(Option<Errno>),
    /// A process ended.
    Exit(Option<Status>),
    /// A signal was taken to a task: this one.
    Signal(Option<u32>),
    /// An exception.
    Fault,
    /// A program was executed.
    Exec(Option<Pattern>),
}

/// An exit status that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Any other.
    pub other: bool,
    /// As a shell gives it.
    pub value: u8,
}

impl Status {
    /// Whether a status is such a one.
    pub fn is(&self, status: u8) -> bool {
        (status == self.value) != self.other
    }
}

/// Reads an expression.
///
/// # Errors
/// What is wrong with it, for whoever wrote it.
pub fn query(words: &[String]) -> Result<Query, String> {
    let split: Vec<String>;
    let words = match words {
        // All of it in quotation marks.
        [one] => {
            split = one.split_whitespace().map(str::to_owned).collect();
            &split
        }
        several => several,
    };
    if let Some(range) = watched(words)? {
        return Ok(Query::Writes(range));
    }
    let mut words = Words(words);
    let mut all = vec![Vec::new()];
    loop {
        let term = words.term()?;
        all.last_mut().into_iter().for_each(|terms| terms.push(term.clone()));
        match words.next() {
            None => return Ok(Query::Events(all)),
            Some("and") => {}
            Some("or") => all.push(Vec::new()),
            Some(other) => {
                return Err(format!("{other:?} is one word too many: terms are joined by and, or"));
            }
        }
    }
}

/// The memory of `write to ADDRESS[:LEN]`.
fn watched(words: &[String]) -> Result<Option<Range<u64>>, String> {
    match words {
        [write, to, place, rest @ ..] if write == "write" && to == "to" && place.starts_with("0x") => {
            match rest {
                [] => memory(place).map(Some),
                _ => Err(format!("what is written to {place} is looked for alone: leave the rest out")),
            }
        }
        _ => Ok(None),
    }
}

/// Reads `ADDRESS[:LEN]`, a hexadecimal address and a number.
///
/// # Errors
/// What is wrong with it.
pub fn memory(text: &str) -> Result<Range<u64>, String> {
    let (address, len) = text.split_once(':').unwrap_or((text, ""));
    let start = address.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let start = start.ok_or_else(|| format!("{address:?} is no address: give one such as 0x7ffe1000"))?;
    let len = if len.is_empty() { Some(WORD) } else { len.parse().ok() };
    let len = len.filter(|len| (1..=MOST_WATCHED).contains(len));
    let len = len.ok_or_else(|| format!("give a length from 1 to {MOST_WATCHED} in {text:?}"))?;
    let end = start.checked_add(len).ok_or_else(|| format!("{text:?} passes the last address"))?;
    Ok(start..end)
}

/// The words that are left.
struct Words<'a>(&'a [String]);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// The next word, if it belongs to the term before it.
    fn argument(&mut self) -> Option<&'a str> {
        let joins = |word: &String| matches!(word.as_str(), "and" | "or");
        if self.0.first().is_none_or(joins) { None } else { self.next() }
    }

    fn needed(&mut self, what: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("{what} is missing at the end"))
    }

    fn term(&mut self) -> Result<Term, String> {
        let mut negated = false;
        let what = loop {
            match self.needed("an expression")? {
                "not" => negated = !negated,
                word => break self.what(word)?,
            }
        };
        Ok(Term { negated, what })
    }

    fn what(&mut self, word: &str) -> Result<What, String> {
        Ok(match word {
            "call" => What::Call(calls(self.needed("the name of a call")?)?),
            "open" => What::Open(Pattern::new(self.needed("a path")?)),
            "write" => match (self.needed("what is written")?, self.0.first()) {
                ("to", Some(next)) if !matches!(next.as_str(), "and" | "or") => {
                    let place = self.needed("a path")?;
                    if place.starts_with("0x") {
                        return Err(format!(
                            "what is written to {place} is looked for alone: leave the rest out"
                        ));
                    }
                    What::WriteTo(Pattern::new(place))
                }
                (text, _) => What::Write(unescaped(text)?),
            },
            "failed" => What::Failed(self.argument().map(errno).transpose()?),
            "exit" => What::Exit(self.status()?),
            "signal" => What::Signal(self.argument().map(signal).transpose()?),
            "fault" => What::Fault,
            "exec" => What::Exec(self.argument().map(Pattern::new)),
            other => {
                return Err(format!(
                    "{other:?} is nothing to look for: give call, open, write, failed, exit, signal, fault or exec"
                ));
            }
        })
    }

    /// `[status] [=|!=] N`, all of it or nothing.
    fn status(&mut self) -> Result<Option<Status>, String> {
        let mut word = self.argument();
        if word == Some("status") {
            word = self.argument();
        }
        let (other, number) = match word {
            None => return Ok(None),
            Some("!=") => (true, self.argument()),
            Some("=" | "==") => (false, self.argument()),
            Some(number) => (false, Some(number)),
        };
        let value = number.and_then(|number| number.parse().ok());
        let value = value.ok_or("give an exit status from 0 to 255, as exit 1 or exit != 0")?;
        Ok(Some(Status { other, value }))
    }
}

fn calls(names: &str) -> Result<BTreeSet<u64>, String> {
    match filter::expression(&format!("trace={names}"))? {
        filter::Expression::Trace(calls) => Ok(calls),
        filter::Expression::Faults => Err("give names of calls".into()),
    }
}

/// An error by its name or number.
fn errno(text: &str) -> Result<Errno, String> {
    let known = (1..4096).map(Errno::from_host);
    let number = text.parse::<i32>().ok();
    known
        .into_iter()
        .find(|errno| errno.name() == Some(text) || Some(errno.number()) == number)
        .ok_or_else(|| format!("there is no error {text:?}: give one such as ENOENT"))
}

/// A signal by its name, with or without SIG, or its number.
fn signal(text: &str) -> Result<u32, String> {
    let number = text.parse().ok();
    let is_it = |n: &u32| {
        let name = signal_name((*n).into());
        name == text || name.strip_prefix("SIG") == Some(text) || Some(*n) == number
    };
    (1..=64).find(is_it).ok_or_else(|| format!("there is no signal {text:?}: give one such as SIGSEGV"))
}

/// Takes `\n`, `\t`, `\r`, `\0`, `\xNN` and `\\` for what they stand for.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let bad =
        || format!("{text:?} has a backslash with what it does not stand before: \\n \\t \\r \\0 \\xNN \\\\");
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first().ok_or_else(bad)?;
        rest = after;
        out.push(match kind {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits =
                    rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(bad)?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).map_err(|_| bad())?
            }
            _ => return Err(bad()),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Query, String> {
        query(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn terms(text: &str) -> Vec<Vec<(bool, What)>> {
        match read(text).expect("an expression") {
            Query::Events(all) => all
                .into_iter()
                .map(|terms| terms.into_iter().map(|term| (term.negated, term.what)).collect())
                .collect(),
            Query::Writes(range) => panic!("memory {range:?}"),
        }
    }

    #[test]
    fn terms_are_read() {
        let status = |other, value| What::Exit(Some(Status { other, value }));
        for (text, what) in [
            ("call read", What::Call([0].into())),
            ("open *.c", What::Open(Pattern::new("*.c"))),
            ("write or", What::Write(b"or".to_vec())),
            ("write to", What::Write(b"to".to_vec())),
            (r"write a\n\x00\\", What::Write(b"a\n\0\\".to_vec())),
            ("write to /dev/stdout", What::WriteTo(Pattern::new("/dev/stdout"))),
            ("failed", What::Failed(None)),
            ("failed ENOENT", What::Failed(Some(Errno::ENOENT))),
            ("failed 2", What::Failed(Some(Errno::ENOENT))),
            ("exit", What::Exit(None)),
            ("exit 3", status(false, 3)),
            ("exit status != 0", status(true, 0)),
            ("exit = 1", status(false, 1)),
            ("signal", What::Signal(None)),
            ("signal SEGV", What::Signal(Some(11))),
            ("signal SIGUSR1", What::Signal(Some(10))),
            ("fault", What::Fault),
            ("exec", What::Exec(None)),
            ("exec sh", What::Exec(Some(Pattern::new("sh")))),
        ] {
            assert_eq!(terms(text), [[(false, what)]], "{text}");
        }
    }

    #[test]
    fn terms_are_joined() {
        let joined = terms("open a and not failed or exec and not not fault or signal");
        let open = What::Open(Pattern::new("a"));
        assert_eq!(joined[0], [(false, open), (true, What::Failed(None))]);
        assert_eq!(joined[1], [(false, What::Exec(None)), (false, What::Fault)]);
        assert_eq!(joined[2], [(false, What::Signal(None))]);
        assert_eq!(query(&["fault or signal".into()]), read("fault or signal"));
    }

    #[test]
    fn memory_is_watched_alone() {
        assert_eq!(read("write to 0x1000"), Ok(Query::Writes(0x1000..0x1008)));
        assert_eq!(read("write to 0xff:1"), Ok(Query::Writes(0xff..0x100)));
        for wrong in ["0x", "0x1000:0", "0x1000:65537", "0xffffffffffffffff", "0x1 or fault"] {
            assert!(read(&format!("write to {wrong}")).is_err(), "{wrong}");
        }
        assert!(read("fault or write to 0x1000").is_err());
    }

    #[test]
    fn what_is_wrong_is_told() {
        for wrong in [
            "",
            "call",
            "call frobnicate",
            "open",
            "frobnicate",
            "failed ENOTHING",
            "exit x",
            "exit !=",
            "exit 256",
            "signal SIGX",
            "fault fault",
            "fault and",
            "not",
            r"write \q",
            r"write \x1",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
