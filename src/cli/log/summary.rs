//! `-c`: how often each call was made, and what virtual time passed.

use std::collections::BTreeMap;
use std::io::Write;

use dejavm::replay::text::{call_name, errno_of};
use dejavm::{Exit, ExitKind};

use crate::cli::Result;

/// Counts of one call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// How often it was made.
    pub calls: u64,
    /// How often it failed.
    pub errors: u64,
    /// Nanoseconds of virtual time.
    pub ns: u64,
}

/// Counts of all calls.
#[derive(Debug, Default)]
pub struct Summary {
    counts: BTreeMap<u64, Count>,
}

impl Summary {
    /// Counts an exit, if it is a call, that came so many nanoseconds of virtual time after the one before.
    pub fn count(&mut self, exit: &Exit, ns: u64) {
        let ExitKind::Syscall { number, .. } = exit.kind else { return };
        let count = self.counts.entry(number).or_default();
        count.calls += 1;
        count.errors += u64::from(errno_of(exit.result).is_some());
        count.ns = count.ns.saturating_add(ns);
    }

    /// Names and counts, the calls that took most time first.
    pub fn rows(&self) -> Vec<(String, Count)> {
        let mut rows: Vec<(String, Count)> =
            self.counts.iter().map(|(n, count)| (call_name(*n).into_owned(), *count)).collect();
        rows.sort_by(|(a_name, a), (b_name, b)| {
            (b.ns, b.calls).cmp(&(a.ns, a.calls)).then_with(|| a_name.cmp(b_name))
        });
        rows
    }

    /// Writes the table.
    pub fn write(&self, out: &mut dyn Write) -> Result<()> {
        let rows = self.rows();
        let total = rows.iter().fold(Count::default(), |sum, (_, count)| Count {
            calls: sum.calls + count.calls,
            errors: sum.errors + count.errors,
            ns: sum.ns.saturating_add(count.ns),
        });
        let rule = format!("{:-<6} {:-<11} {:-<11} {:-<9} {:-<9} {:-<16}", "", "", "", "", "", "");
        writeln!(
            out,
            "{:>6} {:>11} {:>11} {:>9} {:>9} syscall",
            "% time", "seconds", "usecs/call", "calls", "errors"
        )?;
        writeln!(out, "{rule}")?;
        for (name, count) in &rows {
            writeln!(out, "{}", row(name, count, total.ns))?;
        }
        writeln!(out, "{rule}")?;
        writeln!(out, "{}", row("total", &total, total.ns))?;
        Ok(())
    }
}

fn row(name: &str, count: &Count, total_ns: u64) -> String {
    let share = count.ns as f64 * 100.0 / total_ns.max(1) as f64;
    let seconds = count.ns as f64 / 1e9;
    let each = count.ns / 1000 / count.calls.max(1);
    let errors = if count.errors == 0 { String::new() } else { count.errors.to_string() };
    format!("{share:>6.2} {seconds:>11.6} {each:>11} {:>9} {errors:>9} {name}", count.calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_time_first() {
        let call = |number, result: i64| {
            let kind = ExitKind::Syscall { number, args: [0; 6] };
            Exit { number: 1, task: 2, kind, rip: 0, result: result as u64, effects: 0, clock: 0 }
        };
        let mut summary = Summary::default();
        for (number, result, ns) in [(0, 1, 1_000_000), (1, 1, 3_000_000), (0, -2, 500_000), (9999, 0, 0)] {
            summary.count(&call(number, result), ns);
        }
        let mut out = Vec::new();
        summary.write(&mut out).expect("written");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "% time     seconds  usecs/call     calls    errors syscall");
        assert_eq!(lines[2], " 66.67    0.003000        3000         1           write");
        assert_eq!(lines[3], " 33.33    0.001500         750         2         1 read");
        assert_eq!(lines[4], "  0.00    0.000000           0         1           syscall_9999");
        assert_eq!(lines[6], "100.00    0.004500        1125         4         1 total");
    }
}
