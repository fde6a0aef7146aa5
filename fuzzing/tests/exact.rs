//! Campaigns are exact: the same one has the same queue, whatever its target does with threads, files, memory, processes
//! and time, and its inputs go the same ways each time; and nothing of a run is left for the next. A sample of runs; with
//! DEJAVM_TEST_FULL=1, 200,000 of them, twice, and 10,000 behind each of which the sandbox is compared with what it was.

mod common;

use std::fs;
use std::path::Path;

use common::{ended, files, fuzz, workshop};

/// Runs of each of two campaigns that are compared, and of one whose resets are.
fn runs() -> [&'static str; 2] {
    let full = std::env::var_os("DEJAVM_TEST_FULL").is_some_and(|value| value == "1");
    if full { ["200000", "10000"] } else { ["200", "50"] }
}

/// A field of AFL++'s file.
fn field(out: &Path, name: &str) -> String {
    let stats = fs::read_to_string(out.join("default/fuzzer_stats")).expect("a file");
    let line = stats.lines().find(|line| line.starts_with(name)).expect("a field");
    line.split_once(": ").expect("a value").1.to_owned()
}

/// Fuzzes a program of Debian's.
#[track_caller]
fn is_exact(seed: &str, target: &[&str]) {
    let dir = workshop();
    fs::write(dir.path().join("seed"), seed).expect("a seed");
    let [compared, verified] = runs();
    let queue = |out: &str, args: &[&str]| {
        let args =
            [&["-i", "seed", "-o", out, "--deterministic", "--timeout", "60s"][..], args, &["--"], target]
                .concat();
        let done = fuzz(dir.path(), &args);
        // It may come upon a bug: that counts, too.
        let found = done.status.code() == Some(77);
        let said = ended(&done, if found { 77 } else { 0 });
        let out = dir.path().join(out);
        assert_eq!(field(&out, "stability"), "100.00%", "{said}");
        assert!(field(&out, "edges_found").parse::<u32>().expect("a number") > 20, "{said}");
        let named = |(path, bytes): (std::path::PathBuf, _)| (path.file_name().map(ToOwned::to_owned), bytes);
        files(&out.join("default/queue")).into_iter().map(named).collect::<Vec<_>>()
    };
    let first = queue("first", &["--runs", compared]);
    assert!(!first.is_empty() && first == queue("second", &["--runs", compared]), "{target:?}");
    queue("verified", &["--runs", verified, "--verify-reset", "1"]);
}

#[test]
fn one_that_reads() {
    is_exact("[1, {\"a\": null}]\n", &["jq", "."]);
}

#[test]
fn one_with_threads() {
    is_exact("some text, some text, some text\n", &["pigz", "-p", "2", "-c"]);
}

#[test]
fn one_that_writes_files() {
    is_exact("one\ntwo x\n", &["sed", "-e", "w /tmp/first", "-e", "s/x/yy/gw /tmp/second"]);
}

#[test]
fn one_that_maps_and_unmaps() {
    const LUA: &str = "
        local kept = {}
        for n in io.read('a'):gmatch('%d+') do
            local s = string.rep('x', tonumber(n) % 1000 * 1000)
            if #s % 3000 == 0 then kept[#kept + 1] = s end
            collectgarbage()
        end
        print(#kept)";
    is_exact("1 300 417 2\n", &["lua5.4", "-e", LUA]);
}

#[test]
fn one_that_forks() {
    is_exact("(echo a; exit 3) || echo $? &\n", &["dash"]);
}

#[test]
fn one_with_timers() {
    const PERL: &str = "
        $SIG{ALRM} = sub { print 'late '; die };
        my $n = <STDIN> // die 'nothing';
        eval { alarm 2; select undef, undef, undef, $n % 5; print 'in time '; alarm 0 };
        print time, qq(\\n)";
    is_exact("1\n", &["perl", "-e", PERL]);
}
