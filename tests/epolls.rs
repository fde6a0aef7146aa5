//! Sets of watched descriptors (`epoll`), as Linux has them.

mod common;

use common::parts;

#[track_caller]
fn same(part: &str, exits: &[u32]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = common::guest(dir.path(), "epolls.c", &["-pthread"]);
    parts::same(&program, part);
    parts::go_on(&program, part, exits);
}

#[test]
fn in_the_order_in_which_they_become_ready() {
    same("order", &[50, 70, 90]);
}

#[test]
fn levels_edges_and_once() {
    same("kinds", &[50, 70, 90]);
}

#[test]
fn sets_within_sets() {
    same("within", &[50, 70]);
}

#[test]
fn waits() {
    same("waits", &[50, 70, 290]);
}
