//! `docs/linux.md`: which system calls of Linux are answered, and how far. It is made here from the table
//! that the monitor answers by, and written or compared.

use std::fmt::Write;
use std::path::PathBuf;

use dejavm_sandbox::program::syscall::table::{self, Completeness, Syscall};

/// Set to write the document.
const WRITE: &str = "DEJAVM_WRITE_DOCS";

/// The command that writes the document.
const COMMAND: &str = "scripts/update-linux-table";

/// What stands before the tables.
const INTRODUCTION: &str = include_str!("linux/introduction.md");

/// Sections of the document, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Complete,
    Partial,
    Absent,
}

impl Section {
    const ALL: [Section; 3] = [Section::Complete, Section::Partial, Section::Absent];

    fn of(call: &Syscall) -> Section {
        match call.completeness() {
            Completeness::Complete => Section::Complete,
            Completeness::Partial(_) => Section::Partial,
            Completeness::Absent(_) => Section::Absent,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Section::Complete => "Complete",
            Section::Partial => "Partial",
            Section::Absent => "Absent",
        }
    }

    fn calls(self) -> Vec<&'static Syscall> {
        table::all().iter().filter(|call| Section::of(call) == self).collect()
    }
}

/// What a call's row says of it: whether it is answered, and what is missing.
fn cells(call: &Syscall) -> (String, &'static str) {
    match call.completeness() {
        Completeness::Complete => ("yes".into(), "–"),
        Completeness::Partial(missing) => ("in part".into(), missing),
        Completeness::Absent(errno) => (format!("no: `{errno:?}`"), "all"),
    }
}

fn document() -> String {
    let mut out = format!("{}\n\n| | calls |\n|---|---|\n", INTRODUCTION.trim_end());
    for section in Section::ALL {
        let (title, count) = (section.title(), section.calls().len());
        writeln!(out, "| [{title}](#{}) | {count} |", title.to_lowercase()).expect("a string");
    }
    writeln!(out, "| all | {} |", table::all().len()).expect("a string");
    for section in Section::ALL {
        write!(out, "\n## {}\n\n", section.title()).expect("a string");
        out += "| name | number | answered | what is missing |\n|---|---|---|---|\n";
        for call in section.calls() {
            let (answered, missing) = cells(call);
            writeln!(out, "| `{}` | {} | {answered} | {missing} |", call.name(), call.number())
                .expect("a string");
        }
    }
    out
}

#[test]
fn the_page_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/linux.md");
    let now = document();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, now).expect("docs/linux.md");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = now.lines().zip(written.lines()).find(|(now, written)| now != written);
    assert!(now == written, "docs/linux.md is not current: run {COMMAND} (first difference: {differs:?})");
}
