//! The input files of all jobs: the same bytes, permissions and times in every directory that they
//! are written to.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use tempfile::TempDir;

use super::runtimes;
use crate::common::{self, Input};

/// Modification time of the first file, seconds since the Unix epoch; the others follow.
const FIRST_TIME: i64 = 1_600_000_000;

/// Scripts, which are files of this repository. All of them are input files.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/scripts");

/// Numbers that look random and never change (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn word(&mut self) -> String {
        const PARTS: [&str; 16] = [
            "an", "be", "cor", "da", "el", "fi", "gra", "ho", "in", "ju", "ka", "lo", "mé", "no", "ös", "pri",
        ];
        (0..=self.below(3)).map(|_| PARTS[self.below(16) as usize]).collect()
    }
}

fn words(n: &mut Numbers) -> String {
    (0..20_000).map(|_| n.word() + "\n").collect()
}

fn prose(n: &mut Numbers) -> String {
    let mut out = String::new();
    for _ in 0..60 {
        for sentence in 0..6 {
            let count = 4 + n.below(14);
            let line: Vec<String> = (0..count).map(|_| n.word()).collect();
            let _ = write!(out, "{}{}.", if sentence == 0 { "" } else { " " }, line.join(" "));
        }
        out.push_str("\n\n");
    }
    out
}

fn table(n: &mut Numbers) -> String {
    let mut out = String::from("id,name,quantity,price\n");
    for id in 1..=2000 {
        let (name, quantity, price) = (n.word(), n.below(100), n.below(100_000));
        let _ = writeln!(out, "{id},{name},{quantity},{}.{:02}", price / 100, price % 100);
    }
    out
}

fn json(n: &mut Numbers) -> String {
    let rows: Vec<String> = (0..400)
        .map(|id| {
            let (name, x, y) = (n.word(), n.below(1000), n.below(2));
            format!("  {{\"id\": {id}, \"name\": \"{name}\", \"tags\": [\"{}\", null], \"x\": {x}.5, \"on\": {}}}", n.word(), y == 1)
        })
        .collect();
    format!("[\n{}\n]\n", rows.join(",\n"))
}

/// Writes what depends on no program.
fn write_plain(dir: &Path) {
    let mut n = Numbers(1);
    let write = |name: &str, bytes: &[u8]| fs::write(dir.join(name), bytes).expect("write an input file");
    write("words.txt", words(&mut n).as_bytes());
    write("prose.txt", prose(&mut n).as_bytes());
    write("table.csv", table(&mut n).as_bytes());
    write("data.json", json(&mut n).as_bytes());
    let numbers: String = (0..5000).map(|_| format!("{}\n", n.below(1_000_000) as i64 - 500_000)).collect();
    write("numbers.txt", numbers.as_bytes());
    let random: Vec<u8> = (0..300_000).map(|_| n.below(256) as u8).collect();
    write("random.bin", &random);
    write("left.txt", b"apple\nbanana\ncherry\ndate\nfig\ngrape\nkiwi\n");
    write("right.txt", b"apple\nblueberry\ncherry\ndate\nelderberry\nfig\ngrape\nkiwi fruit\n");
    write("keys.txt", b"apple red\nbanana yellow\ncherry red\nfig purple\n");
    write("tabs.txt", b"a\tb\tc\n\tindented\n        eight spaces\nx  y\t z\n");
    write("order.txt", b"shirt tie\ntie jacket\ntrousers shoes\ntrousers belt\nbelt jacket\nsocks shoes\n");
    write("dos.txt", b"one\r\ntwo\r\nthree\r\n");
    write("empty", b"");
    write("holes", &[vec![0u8; 8192], b"end".to_vec()].concat());
    write("latin1.txt", b"caf\xe9 na\xefve\nplain\n");
    for script in fs::read_dir(SCRIPTS).expect("list") {
        let script = script.expect("entry");
        write(&script.file_name().to_string_lossy(), &fs::read(script.path()).expect("read a script"));
    }
    for sub in ["tree/bark/deep", "tree/leaves", "tree/void"] {
        fs::create_dir_all(dir.join(sub)).expect("create an input directory");
    }
    write("tree/root.txt", b"the root\n");
    write("tree/bark/rough.txt", b"rough and\nbrown\n");
    write("tree/bark/deep/core.txt", &b"ring\n".repeat(3000));
    write("tree/leaves/green.txt", b"green\n");
    write("tree/leaves/.hidden", b"hidden\n");
    symlink("../root.txt", dir.join("tree/leaves/up")).expect("symlink");
    symlink("nowhere", dir.join("tree/dangling")).expect("symlink");
    fs::set_permissions(dir.join("builtins.sh"), Permissions::from_mode(0o755)).expect("chmod");
    fs::set_permissions(dir.join("tree/root.txt"), Permissions::from_mode(0o600)).expect("chmod");
}

/// Writes what native programs make of the plain files.
fn write_derived(dir: &Path) {
    let run = |program: &str, args: &[&str], to: Option<&str>, input: Input<'_>| {
        let mut command = Command::new(common::native(program));
        command.args(args).current_dir(dir).env_clear().envs(common::ENVIRONMENT);
        let done = common::finish(&mut command, input);
        assert_eq!(done.status, 0, "{program} {args:?}: {done:?}");
        if let Some(to) = to {
            fs::write(dir.join(to), &done.stdout).expect("write an input file");
        }
    };
    let none = Input::Pipe(b"");
    run("gzip", &["-nc", "words.txt"], Some("words.gz"), none);
    run("xz", &["-T1", "-c", "words.txt"], Some("words.xz"), none);
    run("zstd", &["--single-thread", "-qc", "words.txt"], Some("words.zst"), none);
    let tar = ["--sort=name", "--mtime=@1600000000", "--owner=0", "--group=0", "-cf", "tree.tar", "tree"];
    run("tar", &tar, None, none);
    run("gzip", &["-nc", "tree.tar"], Some("tree.tar.gz"), none);
    if common::full() {
        write_large(dir);
    }
    run("sqlite3", &["shop.db"], None, Input::File(&dir.join("shop.sql")));
    run("sha256sum", &["words.txt", "random.bin", "tree/root.txt"], Some("sums.sha256"), none);
}

/// Writes what compilers make that only the full tests need.
fn write_large(dir: &Path) {
    let scratch = TempDir::new().expect("temporary directory");
    for name in ["channels.go", "Threads.java", "threads.hs"] {
        fs::copy(dir.join(name), scratch.path().join(name)).expect("copy a source");
    }
    let out = |name: &str| dir.join(name).to_str().expect("a path in UTF-8").to_owned();
    for words in [
        // Where a CPU is emulated it takes a minute.
        &[runtimes::rust().1, "-O", "-o", &out("threads-rs"), &out("threads.rs")][..],
        &["go", "build", "-o", &out("channels"), "channels.go"],
        &["javac", "-d", &out(""), "Threads.java"],
        &["ghc", "-v0", "-O", "-outputdir", "plain", "-o", &out("threads-hs"), "threads.hs"],
        &[
            "ghc",
            "-v0",
            "-O",
            "-threaded",
            "-outputdir",
            "threaded",
            "-o",
            &out("threads-hs-threaded"),
            "threads.hs",
        ],
    ] {
        let mut command = Command::new(common::native(words[0]));
        command.args(&words[1..]).current_dir(scratch.path()).env_clear().envs(common::ENVIRONMENT);
        command.env("GOCACHE", scratch.path().join("cache"));
        let done = common::finish(&mut command, Input::Pipe(b""));
        assert_eq!(done.status, 0, "{words:?}: {done:?}");
    }
}

/// Gives every file and directory its modification time, in the order of names.
fn set_times(dir: &Path, seconds: &mut i64) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).expect("list").map(|e| e.expect("entry").path()).collect();
    entries.sort();
    for path in entries {
        let kind = fs::symlink_metadata(&path).expect("metadata").file_type();
        if kind.is_dir() {
            set_times(&path, seconds);
        }
        set_time(&path, *seconds);
        *seconds += 1001;
    }
    set_time(dir, *seconds);
}

/// Of a link, its own.
fn set_time(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("set times");
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create a directory");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("type");
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).expect("link"), target).expect("symlink");
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}

/// The input files, once.
pub struct Corpus(TempDir);

impl Corpus {
    /// Writes them to a temporary directory.
    pub fn new() -> Corpus {
        let dir = TempDir::new().expect("temporary directory");
        write_plain(dir.path());
        write_derived(dir.path());
        Corpus(dir)
    }

    /// Writes all of them to `dir`, which is made.
    pub fn copy_to(&self, dir: &Path) {
        copy_tree(self.0.path(), dir);
        set_times(dir, &mut { FIRST_TIME });
    }
}

/// Every file's path, size, time and content, to see whether a run changed anything.
pub fn fingerprint(dir: &Path) -> Vec<(PathBuf, u64, SystemTime, Vec<u8>)> {
    let mut all = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).expect("list").map(|e| e.expect("entry").path()).collect();
    entries.sort();
    for path in entries {
        let meta = fs::symlink_metadata(&path).expect("metadata");
        let content = if meta.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
        all.push((path.clone(), meta.len(), meta.modified().expect("time"), content));
        if meta.is_dir() {
            all.append(&mut fingerprint(&path));
        }
    }
    all
}
