//! Which records are shown: `-e`, as strace has it.

use std::collections::BTreeSet;

use dejavm::sandbox::program::syscall::table::{self, Class};
use dejavm::{Exit, ExitKind, MadeCall};

/// One `-e` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// System calls by number: only these.
    Trace(BTreeSet<u64>),
    /// Page faults too.
    Faults,
}

/// Parses `trace=NAMES`, `NAMES` alone, or `fault`.
pub fn expression(text: &str) -> Result<Expression, String> {
    if matches!(text, "fault" | "faults") {
        return Ok(Expression::Faults);
    }
    let names = match text.split_once('=') {
        Some(("trace" | "t", names)) => names,
        Some((other, _)) => return Err(format!("{other}= is not known here: give trace=NAMES or fault")),
        None => text,
    };
    let (names, negated) = match names.strip_prefix('!') {
        Some(names) => (names, true),
        None => (names, false),
    };
    let mut calls = BTreeSet::new();
    for name in names.split(',') {
        calls.extend(named(name)?);
    }
    if negated {
        calls = table::all().iter().map(table::Syscall::number).filter(|n| !calls.contains(n)).collect();
    }
    Ok(Expression::Trace(calls))
}

/// The calls that a name stands for: one, a class, all or none.
fn named(name: &str) -> Result<Vec<u64>, String> {
    let all = || table::all().iter();
    // A `?` in front of a name says that it need not be known.
    let (name, optional) = match name.strip_prefix('?') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let class = name.strip_prefix('%');
    if let Some(class) = Class::ALL.into_iter().find(|known| known.name() == class.unwrap_or(name)) {
        return Ok(all().filter(|call| class.has(call)).map(table::Syscall::number).collect());
    }
    if let Some(call) = all().find(|call| call.name() == name) {
        return Ok(vec![call.number()]);
    }
    match name {
        "all" => Ok(all().map(table::Syscall::number).collect()),
        "none" => Ok(Vec::new()),
        _ if optional => Ok(Vec::new()),
        _ => {
            let classes = Class::ALL.map(Class::name).join(", ");
            Err(format!("there is no system call {name:?}; a class is one of {classes}"))
        }
    }
}

/// Which exits are shown.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only these calls.
    pub calls: Option<BTreeSet<u64>>,
    /// Only these tasks.
    pub tasks: BTreeSet<u32>,
    /// From this exit on.
    pub from: u64,
    /// To this exit.
    pub to: Option<u64>,
}

impl Filter {
    /// Whether an exit is shown. With a list of calls, of the others only what strace shows: signals' causes and
    /// ends.
    pub fn shows(&self, exit: &Exit) -> bool {
        let called = match (&exit.kind, &self.calls) {
            (_, None) => true,
            (ExitKind::Syscall { number, .. }, Some(calls)) => calls.contains(number),
            (ExitKind::Exception { .. } | ExitKind::End { .. }, Some(_)) => true,
            (_, Some(_)) => false,
        };
        called
            && exit.number >= self.from
            && !self.is_past(exit.number)
            && (self.tasks.is_empty() || self.tasks.contains(&exit.task))
    }

    /// Whether a call is shown that has no exit.
    pub fn shows_call(&self, call: &MadeCall) -> bool {
        self.calls.as_ref().is_none_or(|calls| calls.contains(&call.number))
            && (self.tasks.is_empty() || self.tasks.contains(&call.task))
    }

    /// Whether an exit comes after all that are shown.
    pub fn is_past(&self, exit: u64) -> bool {
        self.to.is_some_and(|to| exit > to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(text: &str) -> Vec<&'static str> {
        match expression(text).expect("an expression") {
            Expression::Trace(calls) => {
                calls.iter().filter_map(|n| table::find(*n)).map(table::Syscall::name).collect()
            }
            Expression::Faults => vec!["faults"],
        }
    }

    #[test]
    fn expressions_as_of_strace() {
        assert_eq!(calls("trace=openat,close"), ["close", "openat"]);
        assert_eq!(calls("read"), ["read"]);
        assert_eq!(calls("fault"), ["faults"]);
        assert_eq!(calls("trace=ipc"), calls("%ipc"));
        assert!(calls("trace=%file,brk").contains(&"openat") && calls("trace=%file,brk").contains(&"brk"));
        let but = calls("trace=!file,read");
        assert!(!but.contains(&"openat") && !but.contains(&"read") && but.contains(&"write"));
        assert_eq!(calls("trace=none"), [""; 0]);
        assert_eq!(calls("trace=!none").len(), table::all().len());
        assert_eq!(calls("trace=?nothing"), [""; 0]);
        for wrong in ["trace=frobnicate", "write=3", "trace=", "%nothing", ""] {
            assert!(expression(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_of_calls_leaves_ends() {
        let exit = |number, kind| Exit { number, task: 2, kind, rip: 0, result: 0, effects: 0, clock: 0 };
        let call = |number, call| exit(number, ExitKind::Syscall { number: call, args: [0; 6] });
        let filter = Filter { calls: Some([1].into()), from: 3, to: Some(5), ..Filter::default() };
        assert!(filter.shows(&call(3, 1)) && filter.shows(&exit(5, ExitKind::End { status: 0 })));
        assert!(!filter.shows(&call(3, 0)) && !filter.shows(&call(2, 1)) && !filter.shows(&call(6, 1)));
        assert!(!filter.shows(&exit(4, ExitKind::Timer { steps: 1 })));
        let others = Filter { tasks: [7].into(), ..Filter::default() };
        assert!(!others.shows(&call(3, 1)));
    }
}
