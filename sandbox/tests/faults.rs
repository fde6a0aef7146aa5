//! `docs/faults.md`: what KVM does when it meets an absent page, for each way in which it may. Each
//! row is tried here, and the document is written, or compared.

#[path = "faults/guest.rs"]
mod guest;
#[path = "faults/kind.rs"]
mod kind;
#[path = "faults/rows/mod.rs"]
mod rows;
#[path = "faults/run.rs"]
mod run;
#[path = "faults/table.rs"]
mod table;
#[path = "faults/thread.rs"]
mod thread;
#[path = "faults/typed.rs"]
mod typed;
#[path = "faults/verdict.rs"]
mod verdict;
#[path = "faults/watchdog.rs"]
mod watchdog;

use std::collections::BTreeMap;
use std::sync::Arc;

use dejavm_sandbox::host::HostProfile;
use kind::Kind;
use rows::{GROUPS, Row};
use verdict::{Cells, try_row};

/// Set to write the document.
const WRITE: &str = "DEJAVM_WRITE_DOCS";

/// How often a row may be tried. On a busy host the watchdog may look at a guest that would have come
/// out of `KVM_RUN` by itself, and bring in what it was about to want.
const TRIES: usize = 6;

/// A row's cells: as expected, or the same twice.
fn settled(host: &Arc<HostProfile>, row: &Row, expected: Option<&str>) -> Result<Cells, String> {
    let mut before = None;
    for _ in 0..TRIES {
        let cells = try_row(host, row)?;
        if expected.is_some_and(|section| table::has_row(section, row, &cells))
            || before.as_ref() == Some(&cells)
        {
            return Ok(cells);
        }
        before = Some(cells);
    }
    Err(format!("{}: it comes to something else each time, {before:?} at last", row.id))
}

#[test]
fn the_table_is_true() {
    let host = HostProfile::probe().expect("a host that runs guests");
    let kind = Kind::of(&host);
    let document = std::fs::read_to_string(table::path()).unwrap_or_default();
    let heading = table::heading(kind);
    let sections = table::sections(&document);
    let known = sections.iter().find(|section| section.lines().next() == Some(&heading));
    let writes = std::env::var_os(WRITE).is_some();
    let expected = known.map(String::as_str).filter(|_| !writes);

    let mut cells = BTreeMap::new();
    let mut failures = Vec::new();
    for row in GROUPS.iter().flat_map(|(_, rows)| *rows) {
        match settled(&host, row, expected) {
            Ok(found) => assert!(cells.insert(row.id, found).is_none(), "two rows are called {}", row.id),
            Err(failure) => failures.push(failure),
        }
    }
    assert!(failures.is_empty(), "rows that are neither made good nor prevented:\n{}", failures.join("\n"));

    let section = table::section(kind, &cells);
    assert!(!section.to_lowercase().contains("unknown"));
    if writes {
        std::fs::write(table::path(), table::with_section(&document, &section)).expect("docs/faults.md");
    } else if known.is_some() {
        let now = table::with_section(&document, &section);
        assert!(
            now == document,
            "docs/faults.md differs from what this host does: run {}\n{}",
            table::COMMAND,
            table::differing(&document, &now).join("\n")
        );
    } else {
        println!(
            "docs/faults.md has no section \"{}\" yet: run {}, and send what it writes",
            heading,
            table::COMMAND
        );
    }
}

#[test]
fn rows_of_the_thread_are_there() {
    let all: Vec<&str> = GROUPS.iter().flat_map(|(_, rows)| *rows).map(|row| row.id).collect();
    for row in thread::SITES.iter().flat_map(|site| site.rows) {
        assert!(all.contains(row), "{row}");
    }
}
