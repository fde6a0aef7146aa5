//! `dejavm report`: the page is read as XML, so that nothing in it is markup but what is meant to be.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Input, finish, tool};
use serde_json::Value;

/// Records a program.
#[track_caller]
fn record(dir: &Path, status: i32, program: &[&str]) {
    let done = tool(dir, [&["record", "-q", "-o", "rec", "--"], program].concat());
    assert_eq!(done.status, status, "{done:?}");
}

/// What is in the report of the recording; what is said of it is in `said`.
#[track_caller]
fn report(dir: &Path, said: &str) -> Value {
    let done = tool(dir, ["report", "rec", "-o", "report.html"]);
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        done.text().is_empty() && stderr.contains(said) && stderr.is_empty() == said.is_empty(),
        "{done:?}"
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/read.py");
    let python = common::native("python3");
    let read = finish(Command::new(python).arg(script), Input::File(&dir.join("report.html"))).text();
    let page: Value = serde_json::from_str(&read).expect("JSON");
    // Nothing that runs or is loaded.
    let tags = [
        "body", "circle", "code", "h1", "h2", "h3", "head", "html", "line", "meta", "p", "pre", "rect",
        "style", "svg", "table", "td", "text", "th", "title", "tr",
    ];
    let found = page["tags"].as_array().expect("tags");
    assert!(found.iter().all(|tag| tags.contains(&tag.as_str().expect("a tag"))), "{found:?}");
    for attribute in page["attributes"].as_array().expect("attributes") {
        let name = attribute.as_str().expect("a name");
        assert!(!name.starts_with("on") && !["src", "href", "style"].contains(&name), "{name}");
    }
    assert_eq!(page["policy"], serde_json::json!(["default-src 'none'; style-src 'unsafe-inline'"]));
    page
}

/// The row of a table that begins so.
fn row<'a>(page: &'a Value, table: &str, at: usize, cell: &str) -> &'a Value {
    let rows = page["parts"][table].as_array().unwrap_or_else(|| panic!("there is no {table} in {page}"));
    rows.iter().find(|row| row[at] == cell).unwrap_or_else(|| panic!("there is no {cell} in {rows:?}"))
}

#[test]
fn a_run_is_reported() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    record(
        dir,
        3,
        &["sh", "-c", "echo one; echo two >&2; cat /no/such/file; (sleep 2; exit 4) & wait; exit 3"],
    );
    let page = report(dir, "");
    assert_eq!(row(&page, "summary", 0, "Result")[1], "exited with status 3");
    assert!(page["title"].as_str().expect("a title").starts_with("sh -c \"echo one;"));
    assert!(
        row(&page, "summary", 0, "Processor that it saw")[1].as_str().expect("text").starts_with("x86-64-v")
    );
    assert_eq!(page["parts"]["stdout"], "one\n");
    assert!(page["parts"]["stderr"].as_str().expect("text").starts_with("two\ncat: /no/such/file:"));
    assert_eq!(page["parts"].get("signal"), None);
    // The tree is that of `ps`, the calls are those of `log -c`.
    let tasks = tool(dir, ["ps", "rec", "--json"]).text();
    let rows = page["parts"]["processes"].as_array().expect("rows");
    assert_eq!(rows.len() - 1, tasks.lines().count());
    for (row, task) in rows[1..].iter().zip(tasks.lines()) {
        let task: Value = serde_json::from_str(task).expect("JSON");
        assert_eq!((&row[0], &row[5]), (&task["pid"].to_string().into(), &task["status"]));
    }
    assert_eq!(row(&page, "processes", 6, "\u{a0}\u{a0}\u{a0}cat /no/such/file")[5], "exited 1");
    let counted = tool(dir, ["log", "rec", "-c"]).text();
    let calls = page["parts"]["calls"].as_array().expect("rows");
    for (row, line) in calls[1..].iter().zip(counted.lines().skip(2)) {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!((row[0].as_str(), row[1].as_str()), (words.last().copied(), Some(words[3])), "{line}");
    }
    assert_eq!(page["lanes"].as_array().map(Vec::len), Some(tasks.lines().count()));
}

#[test]
fn a_crash_is_reported_without_its_program() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "debugged.c", &["-g", "-O0"]);
    let dir = dir.path();
    record(dir, 128 + 11, &["./debugged", "heap"]);
    std::fs::remove_file(program).expect("deleted");
    let page = report(dir, "");
    assert_eq!(row(&page, "summary", 0, "Result")[1], "killed by SIGSEGV");
    let signal = page["parts"]["signal"].as_str().expect("a signal");
    assert!(
        signal.starts_with("killed by SIGSEGV at RIP 0x") && signal.contains("address 0x4141"),
        "{signal}"
    );
    let frames = page["parts"]["backtrace"].as_array().expect("frames");
    for (frame, function) in frames.iter().zip(["sum+0x", "main+0x"]) {
        assert!(frame[2].as_str().expect("text").starts_with(function), "{frames:?}");
        assert!(frame[3].as_str().expect("text").contains("tests/guests/debugged.c:"), "{frames:?}");
        assert_eq!(frame[4], "/work/debugged");
    }
    let registers = page["parts"]["registers"].as_array().expect("registers").iter();
    let cells: Vec<&Value> = registers.flat_map(|row| row.as_array().expect("cells")).collect();
    let rip = cells.iter().position(|cell| **cell == "rip").expect("RIP");
    let digits = frames[0][1].as_str().expect("an address").trim_start_matches("0x");
    assert!(cells[rip + 1].as_str().expect("a value").ends_with(digits), "{cells:?}");
}

/// Whatever a program is called and writes, it is text.
#[test]
fn a_hostile_program_writes_no_markup() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let text = "</pre></code></title></style><script src=//x.example>alert(1)</script><img onerror='x' src=\"y\">&amp;";
    let script = r#"printf '%s\033[31m\302\233\377\000\342\200\256' "$0""#;
    record(dir, 0, &["sh", "-c", script, text]);
    let page = report(dir, "");
    let written = page["parts"]["stdout"].as_str().expect("text");
    assert_eq!(written, format!("{text}\\u{{1b}}[31m\\u{{9b}}\u{fffd}\\u{{0}}\\u{{202e}}"));
    assert!(page["title"].as_str().expect("a title").contains("<img onerror='x'"));
}

#[test]
fn a_long_run_has_a_short_report() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let script = "import os, sys\n\
                  for n in range(60):\n\
                  \x20   pid = os.fork()\n\
                  \x20   if pid == 0: os._exit(0)\n\
                  \x20   os.waitpid(pid, 0)\n\
                  for n in range(3000): os.getppid()\n\
                  sys.stdout.write('x' * 100_000)";
    record(dir, 0, &["python3", "-c", script]);
    let page = report(dir, "");
    assert!(page["drawn"].as_u64().expect("a number") < 25_000);
    assert_eq!(page["lanes"].as_array().map(Vec::len), Some(40));
    assert_eq!(page["parts"]["processes"].as_array().map(Vec::len), Some(62));
    let notes = page["notes"].as_array().expect("notes");
    assert!(notes.contains(&"21 tasks more.".into()), "{notes:?}");
    let cut = format!("{} bytes more; dejavm stdout writes all.", 100_000 - (64 << 10));
    assert!(notes.contains(&cut.into()), "{notes:?}");
}

/// What the log alone has is reported, and the page says what is missing.
#[test]
fn what_cannot_be_replayed_is_left_out() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    common::guest(dir.path(), "debugged.c", &["-g", "-O0"]);
    let dir = dir.path();
    record(dir, 128 + 11, &["./debugged", "heap"]);
    std::fs::rename(dir.join("rec/start.dvm"), dir.join("rec/elsewhere.dvm")).expect("renamed");
    let page = report(dir, "the replay is not complete: ");
    assert_eq!(page["parts"]["signal"], "killed by SIGSEGV");
    let notes = page["notes"].as_array().expect("notes");
    assert!(notes.iter().any(|note| note.as_str().is_some_and(|note| note.starts_with("No backtrace: "))));
    assert!(notes.iter().any(|note| note.as_str().is_some_and(|note| note.starts_with("From exit 1 on, "))));
    assert_eq!(row(&page, "calls", 0, "write")[1], "1");
    let done = tool(dir, ["report", "rec", "-o", "/dev/full"]);
    assert_eq!(done.status, 125, "{done:?}");
}

/// A browser makes of it what it says, and nothing else.
#[test]
fn a_browser_reads_it() {
    if !common::full() {
        println!("not without DEJAVM_TEST_FULL=1 and scripts/install-test-programs --all");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    record(dir, 0, &["sh", "-c", "echo \"<script>document.title = 'run'</script>\"; sleep 1"]);
    report(dir, "");
    let page = std::fs::read_to_string(dir.join("report.html")).expect("a page");
    let mut browser = Command::new(common::native("chromium-headless-shell"));
    browser.args(["--no-sandbox", "--dump-dom"]).arg(format!("file://{}", dir.join("report.html").display()));
    let dumped = finish(&mut browser, Input::Pipe(b"")).text();
    for element in ["<rect ", "<tr>", "<td ", "<text ", "<pre ", "<h2>", "<title>sh -c"] {
        let count = |text: &str| text.matches(element).count();
        assert!(count(&page) > 0 && count(&dumped) == count(&page), "{element} in\n{dumped}");
    }
    assert!(!dumped.contains("<script"), "{dumped}");
}
