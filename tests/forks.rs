//! Memory that a `fork` leaves to both sides until one of them writes: neither ever sees what the other
//! does. Each part has a way in which what KVM keeps of page tables may be out of date.

mod common;

use common::parts::Part;

/// Natively and in the sandbox the same, also recorded, replayed, with pages taken away, and restored.
#[track_caller]
fn same(part: &str, points: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let guest = common::guest(dir.path(), "forks.c", &[]);
    let part = Part::new(&guest, part, b"", &[]);
    part.is_the_same();
    part.goes_on(points);
}

#[test]
fn what_one_side_writes_does_not_reach_the_other() {
    same("writes", &["exit:43", "exit:48"]);
}

#[test]
fn what_a_call_writes_is_read_at_once() {
    same("calls", &["exit:290", "exit:890"]);
}

#[test]
fn pages_that_are_unmapped_and_given_out_anew() {
    same("unmaps", &["exit:43", "exit:47"]);
}

#[test]
fn page_tables_that_are_used_anew() {
    same("tables", &["exit:80"]);
}

#[test]
fn regions_that_go_while_their_space_goes_on() {
    same("regions", &["exit:90"]);
}

#[test]
fn protections_that_change() {
    same("protections", &["exit:43", "exit:46"]);
}

#[test]
fn children_of_children() {
    same("generations", &["exit:50", "exit:110"]);
}

#[test]
fn private_pages_of_a_file_that_changes() {
    same("files", &["exit:60"]);
}

#[test]
fn anything_at_random() {
    same("anything", &["exit:190", "exit:390"]);
}
