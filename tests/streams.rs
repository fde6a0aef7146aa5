//! Standard streams as the tool's own are: closed ones.

mod common;
#[path = "streams/loading.rs"]
mod loading;
#[path = "streams/pipes.rs"]
mod pipes;
#[path = "streams/regular.rs"]
mod regular;
#[path = "streams/restored.rs"]
mod restored;

use std::path::Path;
use std::process::Command;

use common::{DEJAVM, ENVIRONMENT, Finished, Input};

/// Bit `n` of the exit status: descriptor `n` is closed.
const CLOSED: &str = "import os\ns = 0\nfor fd in 0, 1, 2:\n try: os.fstat(fd)\n except OSError as e: s |= e.errno == 9 and 1 << fd\nos._exit(s)";

/// What each closes, and the bits of what is closed then.
const WAYS: [(&str, i32); 6] =
    [("", 0), ("<&-", 1), (">&-", 2), ("2>&-", 4), ("<&- 2>&-", 5), ("<&- >&- 2>&-", 7)];

/// Runs a command with its streams so redirected.
fn redirected(how: &str, dir: &Path, command: &[&str]) -> Finished {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$@\" {how}"), "sh"]).args(command);
    shell.env_clear().envs(ENVIRONMENT).current_dir(dir);
    common::finish(&mut shell, Input::Pipe(b""))
}

#[test]
fn a_closed_stream_is_closed_in_the_guest() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let python = ["/usr/bin/python3", "-S", "-c", CLOSED];
    for (how, closed) in WAYS {
        assert_eq!(redirected(how, dir.path(), &python).status, closed, "natively {how}");
        let run = [&[DEJAVM, "run", "--deadline", "60s", "--"][..], &python].concat();
        let seen = redirected(how, dir.path(), &run);
        assert_eq!(seen.status, closed, "{how}: {seen:?}");
    }
    // `/dev/null` is no closed stream, however it was opened.
    for how in ["</dev/null", "<>/dev/null", ">/dev/null", "2<>/dev/null"] {
        let run = [&[DEJAVM, "run", "--deadline", "60s", "--"][..], &python].concat();
        assert_eq!(redirected(how, dir.path(), &run).status, 0, "{how}");
    }
    // What is opened next takes the lowest number that is free.
    let open = ["/usr/bin/python3", "-S", "-c", "import os; os._exit(os.open('/etc', os.O_RDONLY))"];
    let run = [&[DEJAVM, "run", "--deadline", "60s", "--"][..], &open].concat();
    assert_eq!(redirected("2>&-", dir.path(), &run).status, redirected("2>&-", dir.path(), &open).status);
}

/// A replay and a restore have the streams that the guest was started with, whatever theirs are.
#[test]
fn what_was_closed_stays_closed() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let record = [
        &[DEJAVM, "record", "-o", "rec", "--deadline", "60s", "--"][..],
        &["/usr/bin/python3", "-S", "-c", CLOSED],
    ];
    assert_eq!(redirected("<&- 2>&-", dir.path(), &record.concat()).status, 5);
    assert_eq!(redirected("", dir.path(), &[DEJAVM, "replay", "rec"]).status, 5);
    assert_eq!(redirected(">&-", dir.path(), &[DEJAVM, "replay", "rec"]).status, 5);

    let ready = format!("open('/dev/dejavm', 'w').write('snapshot\\n')\n{CLOSED}");
    let snapshot = [
        &[DEJAVM, "snapshot", "--at", "ready", "-o", "s.dvm", "--deadline", "60s", "--"][..],
        &["/usr/bin/python3", "-S", "-c", &ready],
    ];
    let made = redirected("<&-", dir.path(), &snapshot.concat());
    assert_eq!(made.status, 0, "{made:?}");
    for how in ["", "2>&-"] {
        let seen = redirected(how, dir.path(), &[DEJAVM, "restore", "s.dvm"]);
        assert_eq!(seen.status, 1, "{how}: {seen:?}");
    }
}
