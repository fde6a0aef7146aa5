//! Mappings and the files behind them (`tests/guests/mappings.c`): natively and in the sandbox, with pages
//! that go and come back, straight on and behind a snapshot, recorded and replayed, programs see the same.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Input, dejavm, finish};
use tempfile::TempDir;

/// Ways in which pages come and go.
const WAYS: [&[&str]; 4] = [&[], &["--evict", "every=7,seed=1"], &["--rung", "decode"], &["--eager"]];

/// What the guest reads where a snapshot may be made.
const INPUT: Input<'_> = Input::Pipe(b"x");

/// The guest, built, with a file of the host beside it.
struct Guest {
    dir: TempDir,
}

impl Guest {
    fn new() -> Guest {
        let dir = TempDir::new().expect("temporary directory");
        common::guest(dir.path(), "mappings.c", &[]);
        host_file(dir.path());
        Guest { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn native(&self, act: &str) -> String {
        let scratch = TempDir::new().expect("temporary directory");
        host_file(scratch.path());
        let program = self.file("mappings");
        let text = finish(Command::new(program).arg(act).current_dir(scratch.path()), INPUT).text();
        assert!(text.ends_with("the end\n"), "{text}");
        text
    }

    /// What the tool prints, with the guest's files around it.
    #[track_caller]
    fn tool(&self, args: &[&str], more: &[&str]) -> String {
        finish(dejavm(args).args(more).current_dir(self.dir.path()), INPUT).text()
    }

    /// Runs an act in every way, natively and in the sandbox, and compares.
    #[track_caller]
    fn same(&self, act: &str) {
        let native = self.native(act);
        let command = ["--", "./mappings", act];
        for way in WAYS {
            let args = [&["run", "-q"], way].concat();
            assert_same(&self.tool(&args, &command), &native, &format!("{act} {way:?}"));
        }
        self.tool(&["record", "-q", "-o", "rec"], &command);
        for way in [&WAYS[0], &WAYS[1]] {
            assert_same(
                &self.tool(&["replay", "-q", "rec"], way),
                &native,
                &format!("{act}: replay {way:?}"),
            );
        }
        std::fs::remove_dir_all(self.file("rec")).expect("the recording");
    }

    /// The same with a snapshot in the middle.
    #[track_caller]
    fn same_behind_a_snapshot(&self, act: &str) {
        let native = self.native(act);
        let command = ["--", "./mappings", act];
        let before = self.tool(&["snapshot", "-q", "--at", "first-read", "-o", "s.dvm"], &command);
        for way in WAYS {
            let after = self.tool(&["restore", "-q", "s.dvm"], way);
            assert_same(&(before.clone() + &after), &native, &format!("{act}: restore {way:?}"));
        }
        self.tool(&["restore", "-q", "s.dvm", "--record", "rec"], &[]);
        let after = self.tool(&["replay", "-q", "rec"], &[]);
        assert_same(&(before + &after), &native, &format!("{act}: restore and replay"));
        std::fs::remove_dir_all(self.file("rec")).expect("the recording");
        std::fs::remove_file(self.file("s.dvm")).expect("the snapshot");
    }
}

/// Six pages of one letter each.
fn host_file(dir: &Path) {
    let pages: Vec<u8> = b"hijklm".iter().flat_map(|letter| [*letter; 4096]).collect();
    std::fs::write(dir.join("host"), pages).expect("a file");
}

#[track_caller]
fn assert_same(seen: &str, native: &str, what: &str) {
    let different = common::linux::differences(native, seen);
    assert!(different.is_empty(), "{what}: native and sandboxed: {different:#?}");
    assert_eq!(seen.lines().count(), native.lines().count(), "{what}: {seen}");
}

/// Each kind of act is a test, so that one that fails does not hide the others.
macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident: $act:literal $(, $snapshot:ident)?;)*) => {
        $($(#[$doc])* #[test]
        fn $name() {
            let guest = Guest::new();
            guest.same($act);
            $(guest.$snapshot($act);)?
        })*
    };
}

/// A library that wants an executable stack changes the whole of it, also what has yet to grow.
#[test]
fn a_library_with_an_executable_stack() {
    let guest = Guest::new();
    let sources = [
        (
            "lib.c",
            "int deep(int n) { volatile char frame[8192]; frame[0] = n; return n ? deep(n - 1) + frame[0] * 0 : 7; }",
        ),
        (
            "main.c",
            "#include <dlfcn.h>\n#include <stdio.h>\nint main() { void *lib = dlopen(\"./lib.so\", RTLD_NOW);\n\
             if (!lib) return puts(dlerror()), 1; int (*deep)(int) = dlsym(lib, \"deep\");\n\
             char code[] = {0xb8, 5, 0, 0, 0, 0xc3}; __builtin___clear_cache(code, code + 6);\n\
             printf(\"%d\\n\", deep(500) + ((int (*)(void))code)()); }",
        ),
    ];
    for (name, text) in sources {
        std::fs::write(guest.file(name), text).expect("a source");
    }
    for args in [
        &["-O0", "-w", "-shared", "-fPIC", "-z", "execstack", "-o", "lib.so", "lib.c"][..],
        &["-O0", "-w", "-z", "noexecstack", "-o", "main", "main.c"],
    ] {
        let built = Command::new("gcc").args(args).current_dir(guest.dir.path()).status();
        assert!(built.expect("gcc").success(), "{args:?}");
    }
    let native = finish(Command::new("./main").current_dir(guest.dir.path()), INPUT).text();
    assert_eq!(native, "12\n");
    assert_eq!(guest.tool(&["run", "-q"], &["--", "./main"]), native);
}

acts! {
    /// A shared mapping that cannot write sees what others write.
    shared_readers: "shared-reader", same_behind_a_snapshot;
    /// A private mapping sees what is written to the file, until it writes itself.
    private_readers: "private-reader", same_behind_a_snapshot;
    /// The same with a file of the host, which is written only after it was mapped.
    host_files: "host-file", same_behind_a_snapshot;
    /// A file that is cut takes its pages along.
    cut_files: "cut", same_behind_a_snapshot;
    /// Pages that are dropped, removed and moved away.
    removed_pages: "remove";
    /// The main stack grows to its limit.
    deep_stacks: "stack", same_behind_a_snapshot;
    /// So do mappings that say so, and their protection reaches down.
    growing_mappings: "grows-down";
    /// `/proc/self/mem`.
    memory_as_a_file: "proc-mem";
    /// `process_madvise` of the process's own memory.
    advice_of_several_ranges: "vectors";
    /// Arguments at the edges.
    edges: "edges";
    /// What is placed beside what is alike is one mapping with it.
    neighbours: "neighbours";
}
