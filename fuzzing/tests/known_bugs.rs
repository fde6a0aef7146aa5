//! Bugs of old versions of real libraries that others found before and that have CVE numbers, after Magma
//! (<https://hexhive.epfl.ch/magma/>): each is found, from small valid inputs, within so many runs. `scripts/known-bugs` fetches
//! and builds the libraries.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{TOOL, names, tool};
use dejavm::Host;
use dejavm_fuzz::Stack;

/// A bug that is to be found.
struct Bug {
    /// The program in `target/known-bugs`, built with the harness `tests/known_bugs/TARGET.c`.
    target: &'static str,
    /// The library and its version.
    library: &'static str,
    cve: &'static str,
    /// A function, and a place in the sources, which one frame of the stack has: no other bug's stack has them. Of a bug that
    /// shows in several places, these.
    seen: &'static [(&'static str, &'static str)],
    /// Small and valid: more than one byte away from any input that shows the bug.
    seeds: &'static [&'static [u8]],
    /// A dictionary.
    words: &'static [&'static str],
    /// Runs until it is found, at most; and as many behind each other bug that is found before it.
    runs: u32,
}

/// All of them. The counts of runs are some times what it took.
const BUGS: &[Bug] = &[
    Bug {
        target: "c-ares",
        library: "c-ares 1.11.1",
        cve: "CVE-2016-5180: a name that ends in an escaped dot is written one byte behind its query",
        seen: &[("ares_create_query", "ares_create_query.c:196")],
        seeds: &[b"www.example.org"],
        words: &[],
        runs: 40_000,
    },
    Bug {
        target: "oniguruma",
        library: "Oniguruma 6.1.1",
        cve: "CVE-2017-9224: a byte of the text is compared before it is known that there is one",
        seen: &[("match_at", "regexec.c:1471")],
        seeds: &[b"(foo|ba[rz])+x?"],
        words: &[],
        runs: 40_000,
    },
    Bug {
        target: "zlib",
        library: "zlib 1.2.11",
        cve: "CVE-2022-37434: a header's extra field that comes in pieces and is longer than there is room for",
        seen: &[("inflate", "inflate.c:764")],
        // "hello", packed: shorter than what shows the bug, and without an extra field.
        seeds: &[b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xcbH\xcd\xc9\xc9\x07\0\x86\xa6\x106\x05\0\0\0"],
        words: &[],
        runs: 8_000,
    },
];

/// Other bugs of a library that may be found first, at most.
const OTHERS: usize = 8;

/// Where scripts/known-bugs builds.
fn built() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/known-bugs")
}

/// What is to be found, and is not.
fn check(bug: &Bug) -> Result<String, String> {
    let program = built().join(bug.target);
    if !program.exists() {
        return Err(format!("{} is missing: scripts/known-bugs builds it", program.display()));
    }
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let work = dir.path();
    let write = |name: &str, bytes: &[u8]| fs::write(work.join(name), bytes).map_err(|e| e.to_string());
    fs::copy(&program, work.join("target")).map_err(|e| e.to_string())?;
    fs::create_dir(work.join("seeds")).map_err(|e| e.to_string())?;
    for (number, seed) in bug.seeds.iter().enumerate() {
        write(&format!("seeds/{number}"), seed)?;
    }
    let words: String = bug.words.iter().map(|word| format!("\"{word}\"\n")).collect();
    write("words", words.as_bytes())?;

    let runs = bug.runs.to_string();
    let host = Host::probe().map_err(|e| e.to_string())?;
    let mut seen = BTreeSet::new();
    loop {
        // It goes on with what there is, each time that it came upon another bug.
        let mut fuzz = tool(work, &["-i", "seeds", "-o", "out", "--deterministic", "--max-len", "4096"]);
        fuzz.args(["--until-crash", "--runs", &runs]);
        if !bug.words.is_empty() {
            fuzz.args(["-x", "words"]);
        }
        let output = fuzz.args(["--", "./target"]).output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !matches!(output.status.code(), Some(0 | 77)) {
            return Err(said.into_owned());
        }
        let crashes = names(&work.join("out/default/crashes"));
        let new: Vec<_> = crashes.into_iter().filter(|path| seen.insert(path.clone())).collect();
        for found in &new {
            let stack =
                Stack::of_end(&found.join("recording"), &host).map_err(|e| e.to_string())?.to_string();
            let is_it = |line: &str| {
                let mut places = bug.seen.iter();
                places.any(|(function, at)| line.contains(&format!(" {function}+")) && line.ends_with(at))
            };
            if stack.lines().any(is_it) {
                replays(work, found, &stack)?;
                let name = found.file_name().unwrap_or_default().to_string_lossy();
                let when = name.split(',').find(|part| part.starts_with("execs:"));
                return Ok(when.unwrap_or("a seed").to_owned());
            }
        }
        if new.is_empty() || seen.len() > OTHERS {
            return Err(format!("not found:\n{said}"));
        }
    }
}

/// Replays a recording in a process of its own, and compares how it ends.
fn replays(work: &Path, found: &Path, stack: &str) -> Result<(), String> {
    let dejavm = Path::new(TOOL).with_file_name("dejavm");
    let output = Command::new(&dejavm).arg("replay").arg(found.join("recording")).current_dir(work).output();
    let output = output.map_err(|e| format!("{}: {e}; scripts/known-bugs builds it", dejavm.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let kept = fs::read_to_string(found.join("stack.txt")).map_err(|e| e.to_string())?;
    let death = kept.lines().next().unwrap_or_default();
    if said.contains(death) && kept.contains(stack) && output.status.code() > Some(128) {
        return Ok(());
    }
    Err(format!("recorded: {kept}replayed: {said}{stack}"))
}

/// The libraries take network and minutes to build, and the campaigns take minutes.
#[test]
#[ignore = "scripts/known-bugs builds the libraries and runs it"]
fn bugs_that_are_known_are_found_and_replay() {
    let chosen = std::env::var("DEJAVM_KNOWN_BUGS").unwrap_or_default();
    let chosen = |bug: &&Bug| chosen.is_empty() || chosen.split(' ').any(|name| name == bug.target);
    let mut missed = Vec::new();
    for bug in BUGS.iter().filter(chosen) {
        let name = format!("{} in {}", bug.cve, bug.library);
        match check(bug) {
            Ok(when) => println!("{name}: found, {when} of {}", bug.runs),
            Err(why) => {
                println!("{name}: {why}");
                missed.push(name);
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
