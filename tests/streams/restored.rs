//! Snapshots of programs that took a standard stream for a regular file, and were restored with others.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use dejavm::{
    Host, Image, Input, Outcome, PauseAt, Program, Report, Sink, StandardFile, Stdio, StdioKind, WriteOptions,
};

fn input(path: &Path) -> Input {
    Input::from_fd(File::open(path).expect("a file"))
}

/// A snapshot of a program that has seen what its input is, and how long, and has read three bytes of it.
fn snapshot(host: &Host, dir: &Path, with_files: bool) -> Image {
    let code = "import os; print(os.read(0, 3), os.fstat(0).st_size, flush=True); \
                open('/dev/dejavm', 'w').write('snapshot'); \
                print(os.read(0, 99), flush=True); os.lseek(1, 3, 0); os.write(1, b'!')";
    let file = File::open(dir.join("f")).expect("a file");
    let output = File::create(dir.join("g")).expect("a file");
    let stdio = Stdio {
        stdin: StdioKind::File(StandardFile::of_input(&file).expect("a regular file")),
        stdout: StdioKind::File(StandardFile::of_output(output.as_fd()).expect("a regular file")),
        ..Stdio::default()
    };
    let program =
        Program::new("python3").args(["-S", "-c", code]).stdio(stdio).stdin_from(Input::from_fd(file));
    let mut sandbox = program.stdout(Sink::fd(output)).start(host).expect("a start");
    assert_eq!(sandbox.run_until(PauseAt::Ready).expect("a run"), Outcome::Paused);
    sandbox.keep_host_files(with_files);
    sandbox.snapshot(dir.join("s"), &WriteOptions::default()).expect("a snapshot");
    Image::open(dir.join("s")).expect("an image")
}

fn restore(host: &Host, image: &Image, input: Input) -> Result<Report, dejavm::Error> {
    image.restore().stdin_from(input).capture_output().start(host)?.run()
}

#[test]
fn the_input_must_be_the_one_that_the_program_knows() {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a directory");
    let (f, other) = (dir.path().join("f"), dir.path().join("other"));
    fs::write(&f, "input to be read").expect("a file");
    let image = snapshot(&host, dir.path(), false);
    assert_eq!(fs::read_to_string(dir.path().join("g")).expect("output"), "b'inp' 16\n");

    let done = restore(&host, &image, input(&f)).expect("a run");
    // What is no file has no position to go back to: all comes in the order that it was written in.
    assert_eq!((done.outcome, &*done.stdout), (Outcome::Exited(0), &b"b'ut to be read'\n!"[..]));

    fs::write(&other, "another").expect("a file");
    for wrong in [input(&other), Input::Empty, Input::Bytes(b"input to be read".to_vec())] {
        let error = restore(&host, &image, wrong).expect_err("it is not what it was").to_string();
        assert!(error.contains("/dev/stdin changed on the host"), "{error}");
    }
}

/// A snapshot that keeps the files needs none.
#[test]
fn the_snapshot_may_have_the_input() {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("f"), "input to be read").expect("a file");
    let image = snapshot(&host, dir.path(), true);
    fs::remove_file(dir.path().join("f")).expect("a file");
    let output = dir.path().join("h");
    let restored = image.restore().stdout(Sink::fd(File::create(&output).expect("a file")));
    restored.start(&host).expect("a start").run().expect("a run");
    let mut text = String::new();
    File::open(&output).expect("output").read_to_string(&mut text).expect("text");
    // Positions are the guest's own.
    assert_eq!(text, "b'u! to be read'\n");
}
