//! A program is run up to an address, and its functions are called from outside.

mod common;

use std::path::Path;
use std::time::Duration;

use common::guest;
use dejavm::{
    Called, Error, General, Host, Modules, Outcome, Program, Sandbox, Sink, StandardFile, Stdio, StdioKind,
    View,
};
use tempfile::TempDir;

fn program(dir: &Path) -> Program {
    Program::new("/guest/harness").show("/guest", dir).memory(256 << 20).capture_output()
}

/// A host, a directory with the guest, and a sandbox before it parses.
fn ready() -> (Host, TempDir, Sandbox) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    guest(dir.path(), "harness.c", &[]);
    let host = Host::probe().expect("KVM");
    let mut sandbox = program(dir.path()).start(&host).expect("a sandbox");
    let parse = sandbox.symbol("parse").expect("a symbol of the executable's");
    assert_eq!(sandbox.run_to([parse, 0x1234]).expect("a run"), Outcome::Paused);
    assert_eq!(sandbox.registers().rip, parse);
    (host, dir, sandbox)
}

#[test]
fn files_are_found_where_they_are_loaded() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    guest(dir.path(), "harness.c", &[]);
    let mut sandbox = program(dir.path()).start(&Host::probe().expect("KVM")).expect("a sandbox");
    assert_eq!(sandbox.loaded_at("libc.so.6"), None, "it does not run yet");
    let entry = sandbox.entry().expect("a beginning");
    assert_eq!(Some(entry), sandbox.symbol("_start"));
    assert_eq!(sandbox.run_to([entry]).expect("a run"), Outcome::Paused);
    let library = sandbox.loaded_at("libc.so.6").expect("its library");
    let strtoul = sandbox.symbol("strtoul").expect("a library's");
    let mut magic = [0; 4];
    sandbox.read_memory(library, &mut magic).expect("memory");
    assert!(magic == *b"\x7fELF" && (library..library + (4 << 20)).contains(&strtoul));
    let program = sandbox.loaded_at("/guest/harness").expect("its file");
    assert_eq!(sandbox.loaded_at("harness"), Some(program));
    assert!(program < entry && sandbox.loaded_at("ness").is_none() && sandbox.loaded_at("").is_none());
}

#[test]
fn functions_are_called() {
    let (_, _dir, mut sandbox) = ready();
    let at = |name: &str| sandbox.symbol(name);
    let (parse, often, malloc, strtoul) = (at("parse"), at("often"), at("malloc"), at("strtoul"));
    let begins = at("begins");
    assert!(at("main").is_some() && at("calls").is_some() && at("no_such_name").is_none());
    assert_eq!(sandbox.symbol("parse"), Some(sandbox.registers().rip));

    let mut call = |function: Option<u64>, arguments: &[u64]| {
        let before = sandbox.registers();
        let called = sandbox.call(function.expect("a symbol"), arguments).expect("a call");
        assert_eq!(sandbox.registers(), before);
        called
    };
    let Called::Returned(buffer) = call(malloc, &[16]) else { panic!("malloc returns") };
    assert_eq!(call(often, &[3, 5, 7, 11, 13, 1]), Called::Returned(9700 * 3 + 1 + 2 + 3 + 35 + 143 + 1));
    assert_eq!(call(begins, &[8]), Called::Returned(9));
    sandbox.write_memory(buffer, b"4711\0").expect("memory");
    let before = sandbox.registers();
    assert_eq!(
        sandbox.call(strtoul.expect("a library's"), &[buffer, 0, 10]).expect("a call"),
        Called::Returned(4711)
    );
    assert_eq!(sandbox.call(parse.expect("a symbol"), &[buffer, 1]).expect("a call"), Called::Returned(5204));
    assert_eq!(sandbox.registers(), before);

    // A function that comes to where calls return to has not returned: here the program begins once more, and dies of
    // what it is given.
    let mut point = sandbox.reset_point().expect("a mark");
    let called = sandbox.call(begins.expect("a symbol"), &[7]).expect("a call");
    assert!(matches!(called, Called::Ended(Outcome::Signalled(_) | Outcome::Exited(_))), "{called:?}");
    sandbox.reset_to(&mut point).expect("a reset");

    // The program goes on as if nothing had been, but for what the calls did.
    let report = sandbox.run().expect("a run");
    assert_eq!((report.outcome, &report.stdout[..]), (Outcome::Exited(0), &b"29405\n"[..]));
}

trait Returns {
    fn returned(self) -> u64;
}

impl Returns for Called {
    fn returned(self) -> u64 {
        let Called::Returned(value) = self else { panic!("{self:?}") };
        value
    }
}

#[test]
fn a_function_is_tried_with_many_inputs() {
    let (_, _dir, mut sandbox) = ready();
    let parse = sandbox.registers().rip;
    let malloc = sandbox.symbol("malloc").expect("a library's");
    let buffer = sandbox.call(malloc, &[64]).expect("a call").returned();
    sandbox.cover(Modules::Own).expect("counts");
    let mut point = sandbox.reset_point().expect("a mark");
    let (mut counts, mut known) = (Vec::new(), Vec::new());
    for round in 0..3 {
        for (number, (input, expected)) in [
            (&b"abc"[..], Called::Returned(29401)),
            (b"die", Called::Ended(Outcome::Signalled(11))),
            (b"", Called::Returned(1)),
            (b"exit", Called::Ended(Outcome::Exited(3))),
            (b"loop", Called::Ended(Outcome::Deadline)),
            (b"zz", Called::Returned(24401)),
        ]
        .into_iter()
        .enumerate()
        {
            sandbox.write_memory(buffer, input).expect("memory");
            let is_endless = input == b"loop";
            sandbox.set_deadline(Some(Duration::from_millis(if is_endless { 100 } else { 60_000 })));
            let called = sandbox.call(parse, &[buffer, input.len() as u64]).expect("a call");
            assert_eq!(called, expected, "{input:?}, round {round}");
            sandbox.take_counts(&mut counts);
            if round == 0 {
                known.push(counts.clone());
            } else if !is_endless {
                counts.truncate(known[number].len());
                assert_eq!(counts, known[number], "{input:?}, round {round}");
            }
            sandbox.reset_to(&mut point).expect("a reset");
            sandbox.verify_reset(&point).expect("everything is what it was");
        }
    }
    assert_ne!(known[0], known[2]);
}

#[test]
fn a_program_is_given_the_content_of_a_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("file"), "the host's").expect("a file");
    let host = Host::probe().expect("KVM");
    let cat = Program::new("cat").arg("/guest/none").arg("/guest/file");
    let mut sandbox =
        cat.view(View::system()).show("/guest", dir.path()).capture_output().start(&host).expect("a sandbox");
    assert_eq!(sandbox.run_to_use_of("/guest/file").expect("a run"), Outcome::Paused);
    let mut point = sandbox.reset_point().expect("a mark");
    for content in [&b"longer than the one of the host's"[..], b"", b"x", &[7; 10_000]] {
        sandbox.write_file("/guest/file", content).expect("a file");
        let report = sandbox.run().expect("a run");
        assert_eq!((report.outcome, &report.stdout[..]), (Outcome::Exited(1), content));
        sandbox.reset_to(&mut point).expect("a reset");
        sandbox.verify_reset(&point).expect("everything is what it was");
    }
    for (path, why) in [("/guest", "a directory"), ("/guest/none", "nothing"), ("/proc/self/maps", "no file")]
    {
        let refused = sandbox.write_file(path, b"x");
        assert!(matches!(refused, Err(Error::NotChanged { .. })), "{why}: {refused:?}");
    }
    // The host's own is what the program finds that nothing is given, and stays that.
    let report = sandbox.run().expect("a run");
    assert_eq!((report.outcome, &report.stdout[..]), (Outcome::Exited(1), &b"the host's"[..]));
    assert_eq!(std::fs::read(dir.path().join("file")).expect("the file"), b"the host's");

    let mut never = Program::new("true").view(View::system()).start(&host).expect("a sandbox");
    assert_eq!(never.run_to_use_of("/guest/file").expect("a run"), Outcome::Exited(0));
}

/// What a program writes to is the host's file, and not to be replaced from outside.
#[test]
fn a_file_that_output_goes_to_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("out");
    std::fs::write(&path, "before").expect("a file");
    let file = std::fs::File::options().write(true).open(&path).expect("the file");
    let stdout = StdioKind::File(StandardFile::of_output(&file).expect("a regular file"));
    let program = Program::new("true").stdio(Stdio { stdout, ..Stdio::default() }).stdout(Sink::fd(file));
    let mut sandbox = program.start(&Host::probe().expect("KVM")).expect("a sandbox");
    let refused = sandbox.write_file("/dev/stdout", b"x");
    assert!(matches!(refused, Err(Error::NotChanged { .. })), "{refused:?}");
    assert_eq!(sandbox.run().expect("a run").outcome, Outcome::Exited(0));
    assert_eq!(std::fs::read(&path).expect("the file"), b"before");
}

#[test]
fn what_cannot_be_is_refused() {
    let (host, dir, mut sandbox) = ready();
    let before = sandbox.registers();
    let refused =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::NotChanged { .. })), "{result:?}");
    refused(sandbox.set_registers(&General { rip: 1 << 60, ..before }));
    refused(sandbox.write_memory(8, b"x"));
    assert_eq!(sandbox.registers(), before);
    // Where no memory is, a function dies as it would by itself.
    assert_eq!(sandbox.call(0x1234, &[]).expect("a call"), Called::Ended(Outcome::Signalled(11)));

    let mut recorded =
        program(dir.path()).record(dir.path().join("recording")).start(&host).expect("a sandbox");
    let main = recorded.symbol("main").expect("a symbol");
    refused(recorded.run_to([main]).map(drop));
    refused(recorded.set_registers(&before));
    refused(recorded.write_memory(main, b"x"));
    assert_eq!(recorded.run().expect("a run").outcome, Outcome::Exited(0));
}
