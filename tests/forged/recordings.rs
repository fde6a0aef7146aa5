//! Limits and secrets of recordings, and what a terminal is told of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::{self, tool};

#[test]
fn a_log_that_comes_to_its_limit_ends_the_run_and_replays() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    // Random bytes for ever, whose digests do not compress.
    let record = ["record", "-o", "rec", "--max-log", "1M", "--", "dd", "if=/dev/urandom", "bs=300"];
    let recorded = tool(dir, record);
    assert_eq!(recorded.status, 119, "{recorded:?}");
    assert!(String::from_utf8_lossy(&recorded.stderr).contains("--max-log"), "{recorded:?}");
    let length = std::fs::metadata(dir.join("rec/log")).expect("a log").len();
    assert!((512 << 10..=1 << 20).contains(&length), "{length}");
    let replayed = tool(dir, ["replay", "rec"]);
    assert_eq!(replayed.status, 119, "{replayed:?}");
    assert!(!replayed.stdout.is_empty() && recorded.stdout.starts_with(&replayed.stdout));
    assert_eq!(tool(dir, ["inspect", "rec", "--verify"]).status, 0);
}

#[test]
fn a_recording_is_its_owners_alone() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    assert_eq!(tool(dir, ["record", "-q", "-o", "rec", "--", "true"]).status, 0);
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir.join("rec")), 0o700);
    for file in ["log", "manifest.json", "start.dvm"] {
        assert_eq!(mode(&dir.join("rec").join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_terminal_is_told_nothing_by_a_file() {
    common::require_kvm();
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let evil = "\x1b]0;owned\x07\x1b[31m\u{9b}1m";
    let words = ["record", "-q", "-o", "rec", "--", "sh", "-c", "kill -9 $$", evil];
    assert_eq!(tool(dir, words).status, 137);
    // Whoever can write the manifest can write anything there.
    let manifest = dir.join("rec/manifest.json");
    let mut value: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&manifest).expect("a manifest")).expect("JSON");
    for field in ["created_by", "cpu", "clock"] {
        value[field] = evil.into();
    }
    value["command"] = serde_json::json!([evil, evil]);
    value["end"] = serde_json::json!({ "stopped": { "why": evil } });
    std::fs::write(&manifest, value.to_string()).expect("a manifest");
    let silent = |words: &[&str]| {
        let done = tool(dir, words);
        let all = [done.stdout.clone(), done.stderr.clone()].concat();
        let text = String::from_utf8(all).expect("text");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{words:?}: {text:?}");
        text
    };
    assert!(silent(&["inspect", "rec"]).contains("\\u{1b}]0;owned"));
    silent(&["inspect", "rec", "--json"]);
    silent(&["log", "rec"]);
    silent(&["log", "rec", "--json", "--answers"]);
    assert!(silent(&["replay", "rec"]).contains("\\u{1b}[31m"));
    silent(&["inspect", "rec/start.dvm"]);
    silent(&["inspect", "rec/start.dvm", "--json"]);
    value["snapshot"]["file"] = format!("{evil}.dvm").into();
    std::fs::write(&manifest, value.to_string()).expect("a manifest");
    assert!(silent(&["replay", "rec"]).contains("manifest"));
}
