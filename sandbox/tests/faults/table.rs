//! `docs/faults.md`: one section for each kind of host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::kind::Kind;
use crate::rows::{GROUPS, Row};
use crate::thread::SITES;
use crate::verdict::Cells;

/// The command that writes the document.
pub const COMMAND: &str = "scripts/update-fault-table";

/// Where the document is.
pub fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/faults.md")
}

/// What stands before the sections.
pub const INTRODUCTION: &str = include_str!("introduction.md");

fn line(row: &Row, cells: &Cells) -> String {
    format!(
        "| `{}` | {} | {} | {} | {} | {} |\n",
        row.id, row.access, row.kernel, cells.out, cells.rungs, cells.state
    )
}

/// What the headings of sections start with.
const HEADING: &str = "## Host: ";

/// The heading of a kind of host.
pub fn heading(kind: Kind) -> String {
    format!("{HEADING}{}", kind.name())
}

/// The section of this kind of host.
pub fn section(kind: Kind, cells: &BTreeMap<&str, Cells>) -> String {
    let mut out = format!("{}\n", heading(kind));
    for (group, rows) in GROUPS {
        out += &format!("\n### {group}\n\n");
        out += "| row | access | in KVM, by its source | out of `KVM_RUN` | resolved by | final state |\n";
        out += "|---|---|---|---|---|---|\n";
        rows.iter().for_each(|row| out += &line(row, &cells[row.id]));
    }
    out += "\n### Sites of the mailing-list thread\n\n| site | rows | here |\n|---|---|---|\n";
    for site in SITES {
        let rows: Vec<String> = site.rows.iter().map(|row| format!("`{row}`")).collect();
        let here = (site.not_here)(kind).unwrap_or("as these rows");
        out += &format!("| {} | {} | {here} |\n", site.site, rows.join(", "));
    }
    out
}

/// The sections of a document, without what stands before them.
pub fn sections(document: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in document.split_inclusive('\n') {
        match out.last_mut() {
            _ if line.starts_with(HEADING) => out.push(line.into()),
            Some(section) => section.push_str(line),
            None => {}
        }
    }
    out.into_iter().map(|section| section.trim_end().to_string() + "\n").collect()
}

/// The document with a section in the place of the one with the same heading, or added.
pub fn with_section(document: &str, section: &str) -> String {
    let heading = section.lines().next().expect("a heading");
    let mut all: Vec<String> =
        sections(document).into_iter().filter(|known| known.lines().next() != Some(heading)).collect();
    all.push(section.trim_end().to_string() + "\n");
    all.sort();
    format!("{}\n\n{}", INTRODUCTION.trim_end(), all.join("\n"))
}

/// The lines in which one document differs from another: both, in turn.
pub fn differing(a: &str, b: &str) -> Vec<String> {
    let only = |a: &str, b: &str, sign: char| -> Vec<String> {
        let other: Vec<&str> = b.lines().collect();
        a.lines().filter(|line| !other.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    [only(a, b, '-'), only(b, a, '+')].concat()
}

/// Whether a section has a row with these cells.
pub fn has_row(section: &str, row: &Row, cells: &Cells) -> bool {
    section.contains(&line(row, cells))
}
