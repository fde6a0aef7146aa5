//! Storms of signals, timers and stops: the deadline ends them, and what waits is bounded.

mod common;

use common::parts::sandboxed;

#[test]
fn the_deadline_ends_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "storms.c", &[]);
    for part in ["timers", "timers-of-many", "descriptors", "stops"] {
        let seen = sandboxed(&program, &["run", "-q", "--deadline", "2s"], &[part]);
        assert_eq!(seen.status, 124, "{part}: {seen:?}");
    }
}

#[test]
fn signals_that_wait_are_bounded() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "storms.c", &[]);
    let seen = sandboxed(&program, &["run", "-q", "--deadline", "600s"], &["limits"]);
    let expected = "queued 8192 EAGAIN\ntimer EAGAIN\nkill 0\npending 1 1\ntaken 8192\ntimer ok\n";
    assert_eq!((seen.status, seen.text()), (0, expected.to_owned()), "{seen:?}");
}
