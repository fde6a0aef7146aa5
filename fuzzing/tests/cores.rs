//! Campaigns on several cores, and on several machines.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{build, ended, files, fuzz, names, tool, workshop};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// The contents of a queue.
fn queue(out: &Path, core: &str) -> BTreeSet<Vec<u8>> {
    files(&out.join(core).join("queue")).into_values().collect()
}

/// A campaign's events, one JSON object each.
fn events(said: &str) -> Vec<serde_json::Value> {
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Waits until something holds.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what}");
        sleep(Duration::from_millis(50));
    }
}

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).expect("sent");
}

#[test]
fn two_cores_find_it_together_and_report_it_once() {
    let dir = workshop();
    let out = dir.path().join("out");
    let args = [
        "-j",
        "2",
        "-o",
        "out",
        "--seed",
        "1",
        "--json",
        "--until-crash",
        "--no-own-words",
        "--runs",
        "60000",
    ];
    let done = fuzz(dir.path(), &[&args[..], &["--", "./bugs"]].concat());
    ended(&done, 77);
    let events = events(&String::from_utf8(done.stdout).expect("text"));
    let crashes: Vec<_> = events.iter().filter(|event| event["event"] == "crash").collect();
    assert_eq!(crashes.len(), 1, "{events:?}");
    let input = dir.path().join(crashes[0]["path"].as_str().expect("a path")).join("input");
    assert!(fs::read(input).expect("the input").starts_with(b"BUG"));
    assert_eq!(events.last().expect("events")["event"], "end");
    // Two may find it at the same moment.
    let kept = ["default", "core-2"].map(|core| names(&out.join(core).join("crashes")).len());
    assert!(kept.iter().all(|kept| *kept < 2) && kept.contains(&1), "{kept:?}");

    // What either finds the other gets, and knows when it goes on.
    let (one, two) = (queue(&out, "default"), queue(&out, "core-2"));
    assert!(one.intersection(&two).count() > 1, "{one:?} {two:?}");
    let args = ["-j", "2", "-o", "out", "--json", "--no-own-words", "--runs", "500", "--", "./bugs"];
    let done = fuzz(dir.path(), &args);
    ended(&done, 77);
    let said = String::from_utf8(done.stdout).expect("text");
    assert!(said.contains("goes on with") && !said.contains(r#""event":"crash""#), "{said}");
    let end = self::events(&said).pop().expect("events");
    assert_eq!((&end["event"], &end["runs"]), (&"end".into(), &500.into()), "the runs of both");
    assert!(queue(&out, "core-2").is_superset(&two));
}

#[test]
fn campaigns_elsewhere_exchange_what_they_find() {
    let dir = workshop();
    build(dir.path(), &["gcc", "-O0"], "words.c", "words");
    // Each has a word that the other does not come to by itself.
    let words = [b"Precest!", b"Gsecond!"].map(|word| BTreeSet::from([word.to_vec()]));
    for (seed, word) in ["first", "second"].iter().zip(&words) {
        fs::write(dir.path().join(seed), word.first().expect("a word")).expect("a seed");
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = free.local_addr().expect("its number").port().to_string();
    drop(free);
    let peer = format!("127.0.0.1:{port}");
    let said = ended(&fuzz(dir.path(), &["--peer", &peer, "--runs", "1", "--", "./words"]), 1);
    assert!(said.contains(&peer) && said.contains("--listen"), "{said}");

    let start = |name: &str, how: [&str; 2]| {
        let out = format!("{name}-out");
        let args =
            [&["-o", &out, "-i", name, "--json", "--no-own-words"][..], &how, &["--", "./words"]].concat();
        tool(dir.path(), &args).stdout(Stdio::null()).spawn().expect("the tool")
    };
    let has =
        |name: &str, word: &BTreeSet<Vec<u8>>| queue(&dir.path().join(name), "default").is_superset(word);
    let mut first = start("first", ["--listen", &port]);
    until("the first begins", || has("first-out", &words[0]));
    let mut second = start("second", ["--peer", &peer]);
    until("the second has the word of the first", || has("second-out", &words[0]));
    until("the first has the word of the second", || has("first-out", &words[1]));
    for child in [&mut first, &mut second] {
        terminate(child);
        assert_eq!(child.wait().expect("ended").code(), Some(0));
    }
}

#[test]
fn what_is_wrong_is_said_once() {
    let dir = workshop();
    let said = ended(&fuzz(dir.path(), &["-j", "3", "--", "./not-there"]), 125);
    assert_eq!(said.matches("not-there").count(), 1, "{said}");
    let said = ended(&fuzz(dir.path(), &["-j", "2", "--deterministic", "--", "./bugs"]), 125);
    assert!(said.contains("--deterministic") && said.contains("--cores"), "{said}");
    for cores in ["0", "1.5", "many"] {
        let said = ended(&fuzz(dir.path(), &["-j", cores, "--", "./bugs"]), 125);
        assert!(said.contains("cores"), "{said}");
    }
}

#[test]
fn no_process_outlives_the_first() {
    let dir = workshop();
    let mut child = tool(dir.path(), &["-j", "2", "--json", "--", "./bugs"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool");
    let mut out = BufReader::new(child.stdout.take().expect("its output"));
    let second = dir.path().join("fuzz-out/core-2/fuzzer_stats");
    until("both fuzz", || second.exists());
    let pids = ["default", "core-2"].map(|core| {
        let stats = dir.path().join("fuzz-out").join(core).join("fuzzer_stats");
        let stats = fs::read_to_string(stats).expect("a file");
        let line = stats.lines().find(|line| line.starts_with("fuzzer_pid")).expect("a line");
        line.rsplit(' ').next().expect("a number").to_owned()
    });
    child.kill().expect("killed");
    child.wait().expect("gone");
    until("the others end", || pids.iter().all(|pid| !Path::new("/proc").join(pid).join("exe").exists()));
    let mut said = String::new();
    out.read_line(&mut said).and_then(|_| out.read_to_string(&mut said)).expect("text");

    // The same directory again: it is free, and ^C ends it.
    let child = tool(dir.path(), &["-j", "2", "--json", "--", "./bugs"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool");
    until("it goes on", || fs::read_to_string(&second).is_ok_and(|stats| !stats.contains(&pids[1])));
    kill_process(Pid::from_child(&child), Signal::INT).expect("sent");
    let done = child.wait_with_output().expect("ended");
    assert!(matches!(done.status.code(), Some(0 | 77)), "{done:?}");
    let said = String::from_utf8(done.stdout).expect("text");
    let end = events(&said).pop().expect("events");
    assert_eq!((&end["event"], &end["why"]), (&"end".into(), &"by a signal".into()), "{said}");
}
