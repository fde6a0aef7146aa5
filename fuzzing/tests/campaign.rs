//! Campaigns from their beginning to their end.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{TOOL, build, ended, files, fuzz, names, tool, workshop};
use dejavm::{Host, Outcome, Replay};
use rustix::process::{Pid, Signal, kill_process};

/// Runs in which the bug behind three comparisons is found: some 3,000 are enough.
const ENOUGH: &str = "20000";

fn crashes(out: &Path) -> Vec<std::path::PathBuf> {
    names(&out.join("default/crashes"))
}

#[test]
fn a_bug_behind_three_comparisons_is_found_and_replays() {
    let dir = workshop();
    let out = dir.path().join("out");
    let how =
        ["--deterministic", "--no-own-words", "--runs", ENOUGH, "--until-crash", "--verify-reset", "500"];
    let args = [&["-o", "out"][..], &how].concat();
    let said = ended(&fuzz(dir.path(), &[&args[..], &["--", "./bugs"]].concat()), 77);
    assert!(said.contains("crash: SIGSEGV at"), "{said}");

    let [crash] = &crashes(&out)[..] else { panic!("{:?}", crashes(&out)) };
    assert!(fs::read(crash.join("input")).expect("the input").starts_with(b"BUG"));
    let stack = fs::read_to_string(crash.join("stack.txt")).expect("the stack");
    assert!(stack.contains(" crash+") && stack.contains(" compare+") && stack.contains("bugs.c:"), "{stack}");
    let host = Host::probe().expect("KVM");
    let replay = Replay::open(crash.join("recording")).expect("a recording");
    let report = replay.start(&host).expect("a replay").run().expect("the same run");
    assert_eq!(report.outcome, Outcome::Signalled(11));

    let stats = fs::read_to_string(out.join("default/fuzzer_stats")).expect("a file");
    assert!(stats.contains("saved_crashes     : 1\n"), "{stats}");
    assert!(fs::read_to_string(out.join("default/plot_data")).expect("a file").lines().count() > 1);

    // A campaign that goes on knows the crash, and has the queue.
    let queue = files(&out.join("default/queue"));
    let again = fuzz(
        dir.path(),
        &["-o", "out", "--deterministic", "--seed", "2", "--no-own-words", "--runs", "300", "--", "./bugs"],
    );
    let said = ended(&again, 77);
    assert!(said.contains("goes on with") && !said.contains("crash:"), "{said}");
    assert_eq!(crashes(&out).len(), 1);
    let now = files(&out.join("default/queue"));
    assert!(queue.iter().all(|(path, bytes)| now.get(path) == Some(bytes)));
}

#[test]
fn the_same_campaign_has_the_same_queue() {
    let dir = workshop();
    let seeds = dir.path().join("seeds");
    fs::create_dir(&seeds).expect("a directory");
    fs::write(seeds.join("a"), "BU").expect("a seed");
    fs::write(seeds.join("b,c"), "some text").expect("a seed");
    fs::write(dir.path().join("words"), "one=\"abor\\x74\"\n# a comment\n\"!\"\n").expect("a dictionary");
    let queue = |out: &str, seed: &str| {
        let args =
            ["-i", "seeds", "-o", out, "-x", "words", "--deterministic", "--seed", seed, "--runs", "700"];
        fuzz(dir.path(), &[&args[..], &["--", "./bugs", "@@"]].concat());
        let files = files(&dir.path().join(out).join("default/queue"));
        files
            .into_iter()
            .map(|(path, bytes)| (path.file_name().map(ToOwned::to_owned), bytes))
            .collect::<Vec<_>>()
    };
    let one = queue("one", "7");
    assert!(one.len() > 2, "{one:?}");
    assert_eq!(one, queue("two", "7"));
}

#[test]
fn words_that_the_code_compares_with_are_tried() {
    let dir = workshop();
    build(dir.path(), &["gcc", "-O1"], "words.c", "words");
    let edges = |more: &[&str]| {
        let args =
            [&["-o", "out", "--deterministic", "--runs", "10000"][..], more, &["--", "./words"]].concat();
        ended(&fuzz(dir.path(), &args), 0);
        let queue: Vec<_> = files(&dir.path().join("out/default/queue")).into_values().collect();
        fs::remove_dir_all(dir.path().join("out")).expect("removed");
        let has = |word: &[u8]| queue.iter().any(|input| input.starts_with(word));
        [has(b"Precest!"), has(b"Gsecond!")]
    };
    assert_eq!((edges(&[]), edges(&["--no-own-words"])), ([true, true], [false, false]));
}

#[test]
fn what_was_reported_outlives_the_process() {
    let dir = workshop();
    let queue = dir.path().join("fuzz-out/default/queue");
    let mut child =
        tool(dir.path(), &["--json", "--", "./bugs"]).stdout(Stdio::null()).spawn().expect("the tool");
    let start = Instant::now();
    while names(&queue).len() < 3 {
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", names(&queue));
        sleep(Duration::from_millis(20));
    }
    // Another one must not write there.
    let second = ended(&fuzz(dir.path(), &["--runs", "1", "--", "./bugs"]), 1);
    assert!(second.contains("in use"), "{second}");
    child.kill().expect("killed");
    child.wait().expect("gone");
    let kept = files(&queue);

    let mut child =
        tool(dir.path(), &["--json", "--", "./bugs"]).stdout(Stdio::piped()).spawn().expect("the tool");
    let mut out = BufReader::new(child.stdout.take().expect("its output"));
    let mut said = String::new();
    // That it goes on with what is there.
    out.read_line(&mut said).expect("a line");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).expect("sent");
    out.read_to_string(&mut said).expect("text");
    let status = child.wait().expect("ended");
    assert!(matches!(status.code(), Some(0 | 77)), "{status:?}");
    let now = files(&queue);
    assert!(kept.iter().all(|(path, bytes)| now.get(path) == Some(bytes)));
    let events: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events.last().expect("events")["event"], "end", "{said}");
    assert_eq!(events.last().expect("events")["why"], "by a signal", "{said}");
}

/// A file system of 64 KiB, of 64 MiB afterwards, in a mount namespace of its own.
#[test]
fn a_full_disk_is_one_error_and_the_campaign_goes_on_when_there_is_room() {
    let dir = workshop();
    fs::create_dir(dir.path().join("out")).expect("a directory");
    let root = rustix::process::getuid().is_root();
    for cores in ["1", "2"] {
        let fuzz =
            format!("{TOOL} -j {cores} -o out --seed 1 --no-own-words --runs 20000 --until-crash -- ./bugs");
        let script = format!(
            "mount -t tmpfs -o size=64k none out || exit 9
             i=0; while dd if=/dev/zero of=out/filler$i bs=4k count=1 2>/dev/null; do i=$((i+1)); done
             rm out/filler0 out/filler1 out/filler2 out/filler3 out/filler4 out/filler5
             {fuzz}; echo first status $? >&2
             mount -o remount,size=64m none out || exit 9
             {fuzz}; echo second status $? >&2"
        );
        let unshare = if root { "-m" } else { "-rm" };
        let done =
            Command::new("unshare").args([unshare, "sh", "-c", &script]).current_dir(dir.path()).output();
        let said = ended(&done.expect("unshare"), 0);
        let (first, second) = said.split_once("first status 1").unwrap_or_else(|| panic!("{cores}: {said}"));
        assert_eq!(first.matches("free some space").count(), 1, "{first}");
        assert!(second.contains("crash: SIGSEGV") && second.contains("second status 77"), "{second}");
    }
}

#[test]
fn a_stripped_program_of_debians_is_covered_more_and_more() {
    let dir = workshop();
    fs::write(dir.path().join("seed"), "[1, null]").expect("a seed");
    let args =
        ["-i", "seed", "-o", "out", "--deterministic", "--runs", "500", "--timeout", "60s", "--", "jq", "."];
    ended(&fuzz(dir.path(), &args), 0);
    let plot = fs::read_to_string(dir.path().join("out/default/plot_data")).expect("a file");
    let edges = |line: &str| line.rsplit(", ").next().and_then(|edges| edges.parse::<u32>().ok());
    let counts: Vec<u32> = plot.lines().filter_map(edges).collect();
    let (first, last) = (counts.iter().find(|edges| **edges > 0), counts.last());
    assert!(first.zip(last).is_some_and(|(first, last)| *first > 100 && *last > first + 20), "{plot}");
    assert!(names(&dir.path().join("out/default/queue")).len() > 5);
}
