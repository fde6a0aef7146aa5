//! Running jobs, natively and in the sandbox, and comparing.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::corpus::{Corpus, fingerprint};
use super::{Compare, Job, Stdin};
use crate::common::{self, Finished, Input, dejavm, finish};

/// Where the guest sees the directory that `dejavm` is run in.
const GUEST_DIR: &[u8] = b"/work";

/// A job's standard input, whose file lies in `dir`.
fn with_input<T>(job: &Job, dir: &Path, work: impl FnOnce(Input<'_>) -> T) -> T {
    match job.stdin {
        Stdin::Pipe(text) => work(Input::Pipe(text.as_bytes())),
        Stdin::File(name) => work(Input::File(&dir.join(name))),
    }
}

/// Runs a job on the host itself.
pub fn natively(job: &Job, dir: &Path) -> Finished {
    let program = common::native(job.argv[0]);
    let mut command = match job.memory {
        None => {
            let mut command = Command::new(&program);
            command.arg0(job.argv[0]);
            command
        }
        Some(megabytes) => {
            let mut command = Command::new(common::native("prlimit"));
            command.arg(format!("--as={}", u64::from(megabytes) << 20)).arg(&program);
            command
        }
    };
    let args = &job.argv[1..];
    command.args(args).current_dir(dir).env_clear().envs(common::ENVIRONMENT).envs(job.env.iter().copied());
    with_input(job, dir, |input| finish(&mut command, input))
}

/// What of `dejavm`'s command line a job brings along: `dejavm VERB OPTIONS these`.
pub fn arguments(job: &Job) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    for (name, value) in &job.env {
        args.extend(["--env".into(), format!("{name}={value}")]);
    }
    // Each of them is there, or this fails and says how to get it.
    job.needs.iter().for_each(|program| drop(common::native(program)));
    args.extend(memory(job));
    if let Some(time) = job.start_time {
        args.extend(["--start-time".into(), time.into()]);
    }
    args.extend(view(job));
    if let Some(time) = job.timer_step {
        args.extend(["--timer-step".into(), time.into()]);
    }
    args.push("--".into());
    args.extend(job.argv.iter().map(|arg| (*arg).to_owned()));
    args
}

/// What lets a job, or a snapshot or recording of it, have as much memory as it may use.
pub fn memory(job: &Job) -> Vec<String> {
    match job.memory.or(job.guest_memory) {
        Some(megabytes) => vec!["--memory".into(), format!("{megabytes}M")],
        None => Vec::new(),
    }
}

/// What a job, or a snapshot of it, is shown of the host besides the usual.
pub fn view(job: &Job) -> Vec<String> {
    job.shows.map_or_else(Vec::new, |dir| vec!["--ro".into(), dir.into()])
}

/// Runs a job in the sandbox: `dejavm VERB OPTIONS…`. The host's own environment is not the job's:
/// `junk` is set there.
pub fn sandboxed(job: &Job, dir: &Path, options: &[&str], junk: &[(&str, &str)]) -> Finished {
    let mut command = dejavm(options);
    command.args(arguments(job)).current_dir(dir).envs(junk.iter().copied());
    with_input(job, dir, |input| finish(&mut command, input))
}

/// Runs a job both ways and says what differs.
pub fn compare(job: &Job, corpus: &Corpus) -> Result<(), String> {
    let scratch = tempfile::TempDir::new().expect("temporary directory");
    let place = |name: &str| {
        let dir = scratch.path().join(name);
        corpus.copy_to(&dir);
        dir
    };
    let dir = place("sandbox");
    let before = fingerprint(&dir);
    let ours = sandboxed(job, &dir, &["run", "-q"], &[]);
    let complaint = |what: String| Err(format!("--- {}\n{what}", job.name()));
    if fingerprint(&dir) != before {
        return complaint("changed the host's files".into());
    }
    if let Compare::Says(text) = job.compare {
        return if ours.stdout == text.as_bytes() {
            Ok(())
        } else {
            complaint(format!("expected {text:?}, got {ours:?}"))
        };
    }
    let home = place("native");
    let native = natively(job, &home);
    let home = home.as_os_str().as_encoded_bytes();
    let shape = |bytes: &[u8]| shape(bytes, job.compare);
    let moved = |bytes: &[u8]| shape(&replace(bytes, home, GUEST_DIR));
    let expected =
        Finished { status: native.status, stdout: moved(&native.stdout), stderr: moved(&native.stderr) };
    let seen = Finished { status: ours.status, stdout: shape(&ours.stdout), stderr: shape(&ours.stderr) };
    match difference(&expected, &seen) {
        None => Ok(()),
        Some(text) => complaint(text),
    }
}

/// What differs between two runs, in a few lines.
pub fn difference(expected: &Finished, seen: &Finished) -> Option<String> {
    const BEFORE: usize = 60;
    const SHOWN: usize = 300;
    let mut out = String::new();
    if expected.status != seen.status {
        out += &format!("status: expected {}, got {}\n", expected.status, seen.status);
    }
    for (name, a, b) in
        [("stdout", &expected.stdout, &seen.stdout), ("stderr", &expected.stderr, &seen.stderr)]
    {
        if a != b {
            let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            let show = |bytes: &[u8]| {
                bytes[at.saturating_sub(BEFORE)..bytes.len().min(at + SHOWN)].escape_ascii().to_string()
            };
            out += &format!(
                "{name} from byte {at} of {}/{}\n  expected {}\n  got      {}\n",
                a.len(),
                b.len(),
                show(a),
                show(b)
            );
        }
    }
    if out.is_empty() { None } else { Some(out) }
}

/// What of a stream is compared.
fn shape(bytes: &[u8], compare: Compare) -> Vec<u8> {
    match compare {
        Compare::Exact | Compare::Says(_) => bytes.to_vec(),
        Compare::AnyOrder => {
            let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
            lines.sort_unstable();
            lines.join(&b'\n')
        }
        Compare::Addresses => {
            let mut out = Vec::new();
            for word in bytes.chunk_by(|a, b| a.is_ascii_hexdigit() == b.is_ascii_hexdigit()) {
                let address = word.len() >= 8 && word[0].is_ascii_hexdigit();
                out.extend_from_slice(if address { b"#" } else { word });
            }
            out
        }
        Compare::Length => bytes.len().to_string().into_bytes(),
        Compare::Shape => {
            let mut out: Vec<u8> = Vec::new();
            for byte in bytes {
                let byte = if byte.is_ascii_digit() || b". ".contains(byte) { b'#' } else { *byte };
                if byte != b'#' || out.last() != Some(&b'#') {
                    out.push(byte);
                }
            }
            out
        }
    }
}

/// Where the input files lie has another name natively.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(from) {
            out.extend_from_slice(to);
            at += from.len();
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}
