//! `docs/hosts.md`: what the doctor finds on the emulated hosts of `scripts/on-svm`. Each is started
//! here, and the document's table is written, or compared. `scripts/test-on-svm` runs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::Value;

/// Set to write the document.
const WRITE: &str = "DEJAVM_WRITE_DOCS";

/// The hosts: a heading, and the options of the script.
const HOSTS: &[(&str, &[&str])] = &[
    ("Linux 6.12, nested paging", &["--kernel", "6.12"]),
    ("Linux 6.1, nested paging", &["--kernel", "6.1"]),
    ("Linux 6.12, shadow paging", &["--kernel", "6.12", "--no-npt"]),
];

/// Rows that are times, which say nothing where a CPU is emulated.
const TIMES: &[&str] = &["exit-cost", "vm-cost", "kernel-speed"];

/// Where the table starts; it ends the document.
const HEADING: &str = "## What the doctor finds under SVM";

const INTRODUCTION: &str = "\
What `scripts/on-svm dejavm doctor` prints, with `--kernel 6.1` and `--no-npt` too, but for the rows of times: QEMU
emulates the CPU. `scripts/update-host-table` writes this table; the test `hosts` fails where it differs.";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A row of the doctor's: its id and what it found, with the level where that is not "ok".
type Row = (String, String);

fn doctor(options: &[&str]) -> Vec<Row> {
    let script = root().join("scripts/on-svm");
    let dejavm = env!("CARGO_BIN_EXE_dejavm");
    let out = Command::new(&script).args(options).args(["--", dejavm, "doctor", "--json"]).output();
    let out = out.expect("scripts/on-svm");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success(),
        "scripts/on-svm {options:?}: {}\n{said}\nscripts/install-test-programs --svm installs what it needs",
        out.status
    );
    let report: Value = serde_json::from_slice(&out.stdout).expect("the doctor's JSON");
    let rows = report["rows"].as_array().expect("rows");
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").replace('|', "\\|");
    let cell = |row: &Value| match (text(row, "level"), text(row, "found")) {
        (level, found) if level == "ok" => found,
        (level, found) => format!("**{level}**: {found}"),
    };
    rows.iter()
        .map(|row| (text(row, "id"), cell(row)))
        .filter(|(id, _)| !TIMES.contains(&id.as_str()))
        .collect()
}

/// The table, as the document has it.
fn table(found: &[Vec<Row>]) -> String {
    let names: Vec<&str> = HOSTS.iter().map(|(name, _)| *name).collect();
    let mut out = format!("{HEADING}\n\n{INTRODUCTION}\n\n| row | {} |\n", names.join(" | "));
    out += &format!("|---|{}\n", "---|".repeat(names.len()));
    for (number, (id, _)) in found[0].iter().enumerate() {
        let cells: Vec<&str> = found
            .iter()
            .map(|rows| {
                assert_eq!(&rows[number].0, id, "hosts have the same rows");
                rows[number].1.as_str()
            })
            .collect();
        out += &format!("| `{id}` | {} |\n", cells.join(" | "));
    }
    out
}

fn document(path: &Path) -> (String, String) {
    let text = std::fs::read_to_string(path).expect("docs/hosts.md");
    let at = text.find(HEADING).unwrap_or(text.len());
    (text[..at].trim_end().to_owned(), text[at..].to_owned())
}

#[test]
#[ignore = "starts emulated hosts: scripts/test-on-svm runs it"]
fn the_doctors_table_is_true() {
    let found: Vec<Vec<Row>> = thread::scope(|scope| {
        let all: Vec<_> = HOSTS.iter().map(|(_, options)| scope.spawn(|| doctor(options))).collect();
        all.into_iter().map(|one| one.join().expect("a host that was asked")).collect()
    });
    let now = table(&found);
    assert!(!now.contains("unknown:") && !now.contains("**unusable**"), "{now}");
    let path = root().join("docs/hosts.md");
    let (before, known) = document(&path);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, format!("{before}\n\n{now}")).expect("docs/hosts.md");
        return;
    }
    let differing: Vec<&str> =
        now.lines().filter(|line| !known.lines().any(|other| other == *line)).collect();
    assert!(
        known == now,
        "docs/hosts.md differs from what the doctor finds: run scripts/update-host-table\n{}",
        differing.join("\n")
    );
}
