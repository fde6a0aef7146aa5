//! What the doctor says: rows, and how they are printed.

use std::fmt;

use serde::Serialize;

/// How well a host does one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As well as any host.
    Ok,
    /// Right, but slower than elsewhere.
    Slower,
    /// Something does not work, or is not deterministic; sandboxes run.
    Limited,
    /// No sandbox can run.
    Unusable,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Ok => "ok",
            Level::Slower => "slower",
            Level::Limited => "limited",
            Level::Unusable => "unusable",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// A name for programs: lower case, with dashes. It never changes its meaning.
    pub id: &'static str,
    /// A name for people.
    pub name: &'static str,
    /// What this host does. Starts with [`UNKNOWN`] where it could not be found out.
    pub found: String,
    /// What dejavm does about it.
    pub dejavm: String,
    /// What it means for whoever runs sandboxes here.
    pub means: String,
    /// How well the host does it.
    pub level: Level,
}

/// What [`Row::found`] starts with when a probe came to nothing.
pub const UNKNOWN: &str = "unknown: ";

impl Row {
    /// Whether the row could not be found out.
    pub fn is_unknown(&self) -> bool {
        self.found.starts_with(UNKNOWN)
    }
}

/// What this host does, as far as it matters to sandboxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// One row for each thing, always the same ones in the same order.
    pub rows: Vec<Row>,
    /// Whether sandboxes run here.
    pub usable: bool,
    /// The report in one line.
    pub summary: String,
}

impl Report {
    /// From its rows.
    pub(super) fn new(rows: Vec<Row>) -> Report {
        let usable = rows.iter().all(|row| row.level != Level::Unusable);
        let summary = summary(&rows, usable);
        Report { rows, usable, summary }
    }

    /// The row of an id.
    pub fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }
}

fn ids(rows: &[Row], level: Level) -> Vec<&'static str> {
    rows.iter().filter(|row| row.level == level).map(|row| row.id).collect()
}

fn summary(rows: &[Row], usable: bool) -> String {
    if !usable {
        return format!("not usable: {}", ids(rows, Level::Unusable).join(", "));
    }
    let mut text = format!("usable: {} ok", ids(rows, Level::Ok).len());
    for level in [Level::Slower, Level::Limited] {
        let ids = ids(rows, level);
        if !ids.is_empty() {
            text += &format!("; {level}: {}", ids.join(", "));
        }
    }
    text
}

/// Columns of the printed report.
const WIDTH: usize = 100;
const LEVEL_WIDTH: usize = 10;
const NAME_WIDTH: usize = 22;
/// Columns of the text beside level and name.
const TEXT_WIDTH: usize = WIDTH - LEVEL_WIDTH - NAME_WIDTH;
/// What the lines below `found` start with.
const DEJAVM: &str = "dejavm: ";
const MEANS: &str = "you:    ";

impl fmt::Display for Report {
    /// A table of 100 columns: level, name, and beside them what was found, what dejavm does,
    /// and what it means. The summary comes last, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:LEVEL_WIDTH$}{:NAME_WIDTH$}what this host does", "level", "what")?;
        writeln!(f, "{}", "-".repeat(WIDTH))?;
        for row in &self.rows {
            let mut level = Some(row.level);
            let mut names = wrap(row.name, NAME_WIDTH - 2).into_iter();
            for line in text_of(row) {
                let level = level.take().map_or(String::new(), |level| level.to_string());
                writeln!(f, "{level:LEVEL_WIDTH$}{:NAME_WIDTH$}{line}", names.next().unwrap_or_default())?;
            }
        }
        writeln!(f, "{}", "-".repeat(WIDTH))?;
        writeln!(f, "{}", self.summary)
    }
}

/// The lines beside a row's name.
fn text_of(row: &Row) -> Vec<String> {
    let mut lines = wrap(&row.found, TEXT_WIDTH);
    for (label, text) in [(DEJAVM, &row.dejavm), (MEANS, &row.means)] {
        for (i, line) in wrap(text, TEXT_WIDTH - label.len()).into_iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            lines.push(format!("{label:8}{line}"));
        }
    }
    lines
}

/// Breaks text between words into lines of at most `width` characters; longer words are cut.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        let used = line.chars().count();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &'static str, level: Level) -> Row {
        Row {
            id,
            name: "a name that is longer than its column",
            found: "word ".repeat(30),
            dejavm: "x".repeat(150),
            means: "means this".to_string(),
            level,
        }
    }

    #[test]
    fn text_is_wrapped() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert!(wrap("", 5).is_empty());
    }

    #[test]
    fn table_fits_and_ends_with_the_summary() {
        let report = Report::new(vec![row("one", Level::Ok), row("two", Level::Limited)]);
        let text = report.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.lines().last(), Some("usable: 1 ok; limited: two"));
        for part in ["a name that is", "longer than its", "dejavm: xxx", "you:    means this"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn one_unusable_row_is_enough() {
        let report = Report::new(vec![row("one", Level::Ok), row("two", Level::Unusable)]);
        assert!(!report.usable);
        assert_eq!(report.summary, "not usable: two");
    }

    #[test]
    fn report_is_json() {
        let report = Report::new(vec![row("one", Level::Slower)]);
        let json = serde_json::to_value(&report).expect("a report has only text in it");
        assert_eq!(json["usable"], true);
        assert_eq!(json["summary"], "usable: 0 ok; slower: one");
        assert_eq!(json["rows"][0]["id"], "one");
        assert_eq!(json["rows"][0]["level"], "slower");
        for key in ["name", "found", "dejavm", "means"] {
            assert!(json["rows"][0][key].is_string(), "{key}");
        }
    }
}
