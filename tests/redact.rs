//! `dejavm redact`: a recording without the values of its environment and the contents of files, that is still one.

mod common;

use std::fs;
use std::path::Path;

use common::{Finished, Input, dejavm, finish, tool};
use dejavm::replay::{Record, Recording};
use dejavm::sandbox::world::Response;
use tempfile::TempDir;

const SECRET: &str = "sk-Live42abcdef";

/// Records with a secret in the environment and one in a file.
fn record(dir: &Path, options: &[&str], program: &[&str], input: &[u8]) -> Finished {
    common::require_kvm();
    fs::write(dir.join("token.txt"), "user=alice\npassword=Hunter2 Bears\n").expect("written");
    let variable = format!("API_KEY={SECRET}");
    let args = [&["record", "-q", "-o", "rec", "--env", &variable], options, &["--"], program].concat();
    finish(dejavm(args).current_dir(dir), Input::Pipe(input))
}

/// Whether a text is anywhere in what a recording's run was given.
fn has(recording: &Path, text: &str) -> bool {
    let recording = Recording::open(recording).expect("a recording");
    let within = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let start = recording.open_snapshot().expect("a start");
    within(start.state().expect("a state"))
        || recording.manifest().command.iter().any(|word| within(word.as_bytes()))
        || recording.records().any(|record| {
            let answer = match record.expect("a record") {
                Record::World(world) => world.answer,
                Record::Keyed(keyed) => keyed.answer,
                _ => return false,
            };
            match recording.response(&answer).expect("an answer") {
                Response::Input(Ok(bytes)) => within(&bytes),
                Response::Block(Ok(bytes)) => within(&bytes),
                _ => false,
            }
        })
}

/// What is in a directory, by name.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_left_is_a_recording_without_secrets() {
    for program in [
        &["python3", "-c", "import os\nprint(os.environ['API_KEY'], open('token.txt').read(), input())"][..],
        &[
            "sh",
            "-c",
            "a=$(head -n 1); printenv API_KEY | tr a-z A-Z; cat token.txt | rev | rev; echo $a; kill -TERM $$",
        ],
        &["perl", "-e", "print $ENV{API_KEY}, `cat token.txt`, scalar <STDIN>; print STDERR `env`; exit 3"],
    ] {
        let dir = TempDir::new().expect("a temporary directory");
        let dir = dir.path();
        let recorded = record(dir, &[], program, b"typed Secretly9\n");
        let redact = ["redact", "-q", "rec", "-o", "clean", "--file", "token.txt", "--stdin"];
        assert_eq!(tool(dir, redact).text(), "", "{program:?}");
        // The same again with nothing of the first one left, nor of what it was made from.
        fs::rename(dir.join("rec"), dir.join("moved")).expect("moved");
        fs::write(dir.join("token.txt"), "").expect("written");
        let clean = tool(dir, ["replay", "-q", "clean"]);
        assert_eq!(clean.status, recorded.status);
        let shape = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            dejavm::replay::redact(&mut bytes);
            String::from_utf8(bytes).expect("text")
        };
        let (was, is) = (shape(&recorded.stdout), shape(&clean.stdout));
        assert_eq!(was.to_lowercase(), is.to_lowercase(), "{program:?}");
        for secret in [SECRET, "Hunter2", "Secretly9"] {
            let shown = String::from_utf8_lossy(&clean.stdout).to_lowercase();
            assert!(!shown.contains(&secret.to_lowercase()), "{program:?}: {shown}");
            assert!(has(&dir.join("moved"), secret), "{program:?}: {secret} was never there");
            assert!(!has(&dir.join("clean"), secret), "{program:?}: {secret}");
        }
        let verified = tool(dir, ["inspect", "--verify", "clean"]).text();
        assert!(verified.contains("verified     everything"), "{verified}");
        // Nothing more is to be taken out: it stays as it is.
        tool(dir, ["redact", "-q", "clean", "-o", "again"]).text();
        let digest = |name: &str| tool(dir, ["log", "--digest", name]).text().replace(name, "");
        assert_eq!(digest("clean"), digest("again"));
    }
}

#[test]
fn packs_are_redacted_at_once() {
    let dir = TempDir::new().expect("a temporary directory");
    let dir = dir.path();
    let recorded = record(dir, &[], &["sh", "-c", "echo $API_KEY; cat token.txt"], b"");
    assert_eq!(recorded.text(), format!("{SECRET}\nuser=alice\npassword=Hunter2 Bears\n"));
    let pack = ["pack", "--level", "3", "rec", "-o", "x.dvr", "--redact", "--redact-file", "/work/*.txt"];
    let said = tool(dir, pack);
    assert_eq!(said.status, 0, "{said:?}");
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains("without the values of 1 variable and the contents of 1 file"), "{text}");
    assert_eq!(
        tool(dir, ["replay", "-q", "x.dvr"]).text(),
        "xx-Xxxx00xxxxxx\nxxxx=xxxxx\nxxxxxxxx=Xxxxxx0 Xxxxx\n"
    );
    assert_eq!(names(dir), ["rec", "token.txt", "x.dvr"]);
    let keeps = ["pack", "-q", "rec", "-o", "y.dvr", "--redact", "--redact-keep", "API_KEY"];
    assert_eq!(tool(dir, keeps).text(), "");
    assert_eq!(tool(dir, ["replay", "-q", "y.dvr"]), recorded);
}

#[test]
fn a_run_that_depends_on_a_secret_is_told() {
    let dir = TempDir::new().expect("a temporary directory");
    let dir = dir.path();
    let script = "case $API_KEY in sk*) exit 3;; esac; exit 4";
    assert_eq!(record(dir, &[], &["sh", "-c", script], b"").status, 3);
    for command in [&["redact", "rec", "-o", "clean"][..], &["pack", "rec", "--redact", "-o", "x.dvr"]] {
        let told = tool(dir, command);
        let text = String::from_utf8_lossy(&told.stderr).into_owned();
        assert_eq!(told.status, 122, "{text}");
        assert!(text.contains("exited with 3") && text.contains("--keep NAME"), "{text}");
        assert!(!dir.join("x.dvr").exists() && !dir.join("clean/log").exists());
    }
    // What was left does not stand in the way of another try.
    tool(dir, ["redact", "-q", "rec", "-o", "clean", "--keep", "API_KEY"]).text();
    assert_eq!(tool(dir, ["replay", "-q", "clean"]).status, 3);
}

#[test]
fn what_cannot_be_taken_out_is_told() {
    let dir = TempDir::new().expect("a temporary directory");
    let dir = dir.path();
    // It is an argument, and in a file that is not named.
    let script = "cat token.txt; echo $0";
    record(dir, &["--env", "PASSWORD=Hunter2 Bears"], &["sh", "-c", script, SECRET], b"");
    let told = tool(dir, ["redact", "rec", "-o", "clean"]);
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status, 0, "{text}");
    assert!(text.contains("the value of API_KEY is still in the command line"), "{text}");
    assert!(text.contains("the value of PASSWORD is still in /work/token.txt"), "{text}");
    let told = tool(dir, ["redact", "rec", "-o", "other", "--file", "tokens.txt"]);
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status, 125);
    assert!(text.contains("the program read nothing of tokens.txt"), "{text}");
    assert!(!dir.join("other/log").exists());
    tool(dir, ["snapshot", "-q", "-o", "sh.dvm", "--at", "first-read", "--", "sh"]).text();
    tool(dir, ["restore", "-q", "sh.dvm", "--record", "restored"]).text();
    let told = tool(dir, ["redact", "restored", "-o", "other"]);
    assert_eq!(told.status, 125);
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(text.contains("restored cannot be redacted: it starts from a snapshot"), "{text}");
}

/// One that was stopped ends as it did.
#[test]
fn a_run_without_an_end_stays_one() {
    let dir = TempDir::new().expect("a temporary directory");
    let dir = dir.path();
    let script = "echo $API_KEY; while :; do :; done";
    let recorded = record(dir, &["--deadline", "1s"], &["sh", "-c", script], b"");
    assert_eq!(recorded.status, 124, "{recorded:?}");
    tool(dir, ["redact", "-q", "rec", "-o", "clean"]).text();
    let clean = tool(dir, ["replay", "-q", "clean"]);
    assert_eq!((clean.status, &clean.stdout[..]), (124, &b"xx-Xxxx00xxxxxx\n"[..]));
}
