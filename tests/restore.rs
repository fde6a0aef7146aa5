//! Snapshots of real programs: a python3 with its modules imported answers any number of requests
//! from one file, and a program goes on behind a snapshot as if there had been none.
//!
//! `DEJAVM_TEST_FULL=1` for all of it; by default a sample.

mod common;
#[path = "programs/mod.rs"]
mod programs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Finished, Input, dejavm, finish, tool};
use programs::corpus::Corpus;
use programs::run::{arguments, difference, memory, view};
use programs::{Job, Stdin};
use serde_json::Value;
use tempfile::TempDir;

/// Requests: in all, and in the sample.
const REQUESTS: (usize, usize) = (100, 20);

/// The most that a snapshot may take of its non-zero pages' size.
const SIZE_RATIO: f64 = 0.45;

/// Imports, then waits for its request.
const SERVER: &str = "import json, re, decimal, hashlib, sqlite3, sys\nprint(eval(sys.stdin.read()))";

/// The same work for many requests, one a line: what the answers are compared with.
const NATIVE: &str =
    "import json, re, decimal, hashlib, sqlite3, sys\nfor line in sys.stdin: print(eval(line))";

/// A request unlike all others.
fn request(n: usize) -> String {
    let m = n * 7919 % 1009;
    match n % 10 {
        0 => {
            format!("json.dumps({{'n': {n}, 'list': [{m}, None, True, 1.5e{n}], 'é': 'ü'}}, sort_keys=True)")
        }
        1 => format!("json.loads('[1, {{\"a\": [{n}.25, \"\\\\u00e9\"]}}]')[1]['a'][0] * {m}"),
        2 => format!("re.sub(r'(\\w)(\\d+)', lambda k: k.group(2) + k.group(1) * {n}, 'a{m} b{n} c')"),
        3 => format!("re.findall('[aeiou]{{1,2}}', ' '.join(str(x) + 'queue' for x in range({n})))[-3:]"),
        4 => format!("decimal.Context(prec={}).sqrt(decimal.Decimal({m}))", n + 20),
        5 => format!("sum(decimal.Decimal(1) / k for k in range(1, {}))", n + 2),
        6 => format!(
            "hashlib.sha256(b'{m}' * {n}).hexdigest(), hashlib.blake2b(b'x', digest_size=16).hexdigest()"
        ),
        7 => format!("hashlib.pbkdf2_hmac('sha1', b'{n}', b'salt', {}).hex()", 10 + m),
        8 => format!(
            "sqlite3.connect(':memory:').execute('WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + {n} FROM c \
             WHERE x < 5000) SELECT count(*), sum(x * x), max(hex(x)) FROM c').fetchone()"
        ),
        _ => format!("sorted(str(x ** {}) for x in range({m}, {m} + 5)), {n} ** 40 % 10 ** 12", n % 30),
    }
}

/// The answers, as native python3 gives them.
fn answers(requests: &[String]) -> Vec<String> {
    let mut command = Command::new(common::native("/usr/bin/python3"));
    command.args(["-c", NATIVE]).env_clear().envs(common::ENVIRONMENT);
    let lines = requests.join("\n");
    finish(&mut command, Input::Pipe(lines.as_bytes())).text().lines().map(str::to_owned).collect()
}

/// Makes the snapshot of the server in a directory that goes away.
fn server(dir: &Path) -> PathBuf {
    let file = dir.join("python.dvm");
    let made_in = TempDir::new().expect("temporary directory");
    let args = ["snapshot", "-q", "-o", file.to_str().unwrap(), "--at", "first-read", "--"];
    let done = tool(made_in.path(), args.iter().chain(&["/usr/bin/python3", "-c", SERVER]));
    assert_eq!((done.status, done.stdout.len()), (0, 0), "{done:?}");
    file
}

fn restore(file: &Path, dir: &Path, options: &[&str], request: &str) -> Finished {
    let mut command = dejavm(["restore", "-q"]);
    command.args(options).arg(file).current_dir(dir);
    finish(&mut command, Input::Pipe(request.as_bytes()))
}

fn inspect(what: &Path) -> Value {
    let text = tool(Path::new("/"), ["inspect".as_ref(), "--json".as_ref(), what.as_os_str()]).text();
    serde_json::from_str(&text).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn one_python_answers_many_requests() {
    common::require_kvm();
    let dir = TempDir::new().expect("temporary directory");
    let file = server(dir.path());
    let seen = inspect(&file);
    let pages = &seen["pages"];
    let stored = number(&pages["compressed"]) + number(&pages["raw"]) + number(&pages["repeated"]);
    let ratio = number(&seen["file_bytes"]) / (stored * 4096.0);
    assert!(stored > 1000.0 && ratio <= SIZE_RATIO, "{ratio:.3} of the non-zero pages: {seen}");

    let count = if common::full() { REQUESTS.0 } else { REQUESTS.1 };
    let requests: Vec<String> = (0..count).map(request).collect();
    let expected = answers(&requests);
    assert_eq!(expected.len(), count);
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).expect("create");
    let before = std::fs::read(&file).expect("read");
    let all: Vec<_> = requests.iter().zip(&expected).collect();
    let ask = |(request, answer): &(&String, &String), options: &[&str]| {
        let done = restore(&file, &empty, options, request);
        if (done.status, done.stdout.as_slice()) == (0, format!("{answer}\n").as_bytes()) {
            Ok(done)
        } else {
            Err(format!("{options:?} {request}\nexpected {answer}\ngot {done:?}"))
        }
    };
    common::for_each(&all, |pair| {
        let done = ask(pair, &["--stats=json"])?;
        let stats: Value = serde_json::from_slice(&done.stderr).map_err(|e| format!("{e}: {done:?}"))?;
        let brought = number(&stats["pages"]);
        if brought > stored / 2.0 {
            Err(format!("{brought} of {stored} pages for {}", pair.0))
        } else {
            Ok(())
        }
    });
    assert!(std::fs::read(&file).expect("read") == before, "a restore changed the snapshot");

    // The other ways to bring pages in, before and after the snapshot knows its working set.
    let few: Vec<_> = all.iter().step_by(7).copied().collect();
    common::for_each(&few, |pair| ask(pair, &["--eager"]).map(drop));
    let warmed = finish(dejavm(["warm", "-q"]).arg(&file).current_dir(&empty), Input::Pipe(b"6 * 7"));
    assert_eq!(warmed.status, 0, "{warmed:?}");
    let set = &inspect(&file)["working_set"];
    assert!(number(&set["pages"]) > 100.0);
    // The answer comes before the end, so not all of it is wanted first.
    let first = number(&set["first_clusters"]);
    assert!(first > 0.0 && first < number(&set["clusters"]), "{set}");
    common::for_each(&all, |pair| ask(pair, &[]).map(drop));
    common::for_each(&few, |pair| ask(pair, &["--no-prefetch"]).map(drop));
    common::for_each(&few, |pair| ask(pair, &["--eager"]).map(drop));
}

#[test]
fn restores_are_one_run_however_pages_come_in() {
    common::require_kvm();
    let dir = TempDir::new().expect("temporary directory");
    let file = server(dir.path());
    let request = request(8);
    let recorded = |name: &str, options: &[&str]| {
        let recording = dir.path().join(name);
        let to = recording.to_str().unwrap();
        let done = restore(&file, dir.path(), &[&["--record", to], options].concat(), &request);
        let digest = tool(dir.path(), ["log", to, "--digest"]).text();
        let replayed = tool(dir.path(), ["replay", "-q", to]);
        assert_eq!(done, replayed, "replay of {options:?}");
        (done, digest)
    };
    let first = recorded("lazy", &[]);
    assert_eq!(first.0.text(), format!("{}\n", answers(std::slice::from_ref(&request))[0]));
    for (n, options) in common::possible(&[
        &["--eager"],
        &["--rung", "poison"],
        &["--rung", "decode"],
        &["--rung", "populate"],
        &["--evict", "every=3,seed=5"],
    ])
    .iter()
    .enumerate()
    {
        assert_eq!(recorded(&format!("cold-{n}"), options), first, "{options:?}");
    }
    let warmed = finish(dejavm(["warm", "-q"]).arg(&file).current_dir(&dir), Input::Pipe(b"6 * 7"));
    assert_eq!(warmed.status, 0, "{warmed:?}");
    let evict = ["--evict", "every=3,seed=5"];
    for (n, options) in
        [&[][..], &["--no-prefetch"], &["--eager"], &["--rung", "decode"], &evict].iter().enumerate()
    {
        assert_eq!(recorded(&format!("warm-{n}"), options), first, "warmed, {options:?}");
    }
}

/// The lines of a recording's compared exits behind exit `from`.
fn exits(recording: &Path, from: u64) -> Vec<String> {
    let from = (from + 1).to_string();
    let args = ["log".as_ref(), "--json".as_ref(), "--from".as_ref(), from.as_ref(), recording.as_os_str()];
    tool(Path::new("/"), args).text().lines().map(str::to_owned).collect()
}

/// Stops a job behind exit `at`, restores it, and compares output and exits with those of a run
/// that was not stopped.
fn goes_on(job: &Job, dir: &Path, own: &Path, whole: &Finished, at: u64) -> Result<(), String> {
    let recording = own.join("whole");
    let file = own.join(format!("{at}.dvm"));
    let point = format!("exit:{at}");
    let mut command = dejavm(["snapshot", "-q", "--at", &point, "-o"]);
    let first = finish(command.arg(&file).args(arguments(job)).current_dir(dir), Input::Pipe(b""));
    if first.status != 0 {
        return Err(format!("{} at exit {at}: {first:?}", job.name()));
    }
    let rest = own.join(format!("rest-{at}"));
    // A restore grants anew what the snapshot's guest may use and see.
    let granted = [memory(job), view(job)].concat();
    let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    let second = restore(&file, dir, &[&["--record", rest.to_str().unwrap()], &granted[..]].concat(), "");
    let both = Finished {
        status: second.status,
        stdout: [first.stdout, second.stdout].concat(),
        stderr: [first.stderr, second.stderr].concat(),
    };
    if let Some(text) = difference(whole, &both) {
        return Err(format!("{} at exit {at}: {text}", job.name()));
    }
    let (expected, seen) = (exits(&recording, at), exits(&rest, 0));
    let same = expected.iter().zip(&seen).take_while(|(a, b)| a == b).count();
    if same != expected.len() || same != seen.len() {
        let show = |lines: &[String]| lines.get(same).cloned().unwrap_or_else(|| "nothing".into());
        return Err(format!(
            "{} at exit {at}:\nexpected {}\ngot {}",
            job.name(),
            show(&expected),
            show(&seen)
        ));
    }
    Ok(())
}

/// Exits at which to stop: near the start, in the middle, right before the end, and where most tasks are alive.
/// How many those are, too.
fn moments(recording: &Path) -> (Vec<u64>, usize) {
    let mut lives: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut count = 0;
    for line in exits(recording, 0) {
        let exit: Value = serde_json::from_str(&line).expect("JSON");
        let task = exit["task"].as_u64().unwrap_or(0);
        count = exit["number"].as_u64().unwrap_or(count);
        lives.entry(task).or_insert((count, count)).1 = count;
    }
    let alive = |at: u64| lives.values().filter(|(from, to)| (*from..=*to).contains(&at)).count();
    let counts: Vec<usize> = (1..=count).map(alive).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    let middle_of = |least: usize| {
        let all: Vec<u64> = (1..=count).filter(|at| counts[*at as usize - 1] >= least).collect();
        all.get(all.len() / 2).copied().unwrap_or(1)
    };
    let all = [2, count / 3, middle_of(2), middle_of(most), count.saturating_sub(2)];
    let all: BTreeSet<u64> = all.into_iter().map(|at| at.max(1)).collect();
    (all.into_iter().collect(), most)
}

#[test]
fn programs_go_on_behind_any_exit() {
    common::require_kvm();
    let scratch = TempDir::new().expect("temporary directory");
    let dir = scratch.path().join("inputs");
    Corpus::new().copy_to(&dir);
    // Standard input is the restoring process's own; jobs that read it are another matter.
    let jobs = programs::chosen().into_iter().filter(|job| matches!(job.stdin, Stdin::Pipe("")));
    // Of all jobs some; of those of many processes and threads all, or the sample.
    let step = if common::full() { 4 } else { 5 };
    let several: Vec<String> = programs::families()
        .into_iter()
        .filter(|(name, _)| programs::OF_SEVERAL.contains(name))
        .flat_map(|(_, jobs)| jobs)
        .map(|job| job.name())
        .collect();
    let jobs = jobs.enumerate().filter(|(n, job)| n % step == 0 || several.contains(&job.name()));
    let jobs: Vec<Job> = jobs.map(|(_, job)| job).collect();
    programs::for_each(&jobs, |n, job| {
        let own = scratch.path().join(format!("job-{n}"));
        std::fs::create_dir(&own).expect("create");
        let mut command = dejavm(["record", "-q", "-o"]);
        command.arg(own.join("whole")).args(arguments(job)).current_dir(&dir);
        let whole = finish(&mut command, Input::Pipe(b""));
        let (mut moments, most) = moments(&own.join("whole"));
        if !common::full() {
            // One of them, which goes round from job to job.
            let first = n % moments.len();
            moments.rotate_left(first);
            moments.truncate(1);
        }
        println!("stopped behind exits {moments:?}, with up to {most} tasks alive: {}", job.name());
        for at in moments {
            goes_on(job, &dir, &own, &whole, at)?;
        }
        std::fs::remove_dir_all(own).expect("remove");
        Ok(())
    });
}

#[test]
fn a_program_says_when_it_is_ready() {
    common::require_kvm();
    let dir = TempDir::new().expect("temporary directory");
    let file = dir.path().join("ready.dvm");
    let to = file.to_str().unwrap();
    let script = "x=$((6 * 7)); echo before; echo snapshot > /dev/dejavm; read -r y; echo $x $y; exit 4";
    let first = tool(dir.path(), ["snapshot", "-q", "-o", to, "--at", "ready", "--", "sh", "-c", script]);
    assert_eq!(first.text(), "before\n");
    for n in 0..3 {
        let done = restore(&file, dir.path(), &[], &format!("request {n}\n"));
        assert_eq!((done.status, done.stdout), (4, format!("42 request {n}\n").into_bytes()));
    }
    // Without a snapshot nothing stops.
    let whole =
        finish(dejavm(["run", "-q", "--", "sh", "-c", script]).current_dir(&dir), Input::Pipe(b"y\n"));
    assert_eq!((whole.status, whole.stdout), (4, b"before\n42 y\n".to_vec()));
}
