//! Snapshots that lie, with all checksums right: an error with a name, or a run that ends in time, in bounded
//! memory, and whose replay does the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dejavm::snapshot::codec;
use dejavm::{Grant, Host, Image, MachineState, Outcome, PauseAt, Program, Replay, View, WriteOptions};

use crate::forge::{self, File};
use crate::harness::{Draw, Fuzzer, build, kind_of, name_of};
use crate::shape::Node;

/// The longest that one may run.
const DEADLINE: Duration = Duration::from_millis(300);
const MEMORY: u64 = 128 << 20;
const DISK: u64 = 16 << 20;

/// A snapshot and a layer over it, with a working set, of a guest that has some of everything.
struct Real {
    dir: PathBuf,
    base: File,
    layer: File,
    state: Node,
}

fn view(dir: &Path) -> View {
    View::nothing().show("/guest", Grant::directory(dir.join("guest")))
}

impl Real {
    fn make(host: &Host, dir: &Path) -> Real {
        let guest = dir.join("guest");
        std::fs::create_dir(&guest).expect("a directory");
        build(&guest, "forged/guest.c", &["-static"]);
        let [base, layer] = ["base.dvm", "layer.dvm"].map(|name| dir.join(name));
        let program = Program::new("/guest/guest").view(view(dir)).memory(MEMORY).disk(DISK);
        let mut sandbox = program.start(host).expect("the guest starts");
        assert_eq!(sandbox.run_until(PauseAt::Ready).expect("a run"), Outcome::Paused);
        let exits = sandbox.exits();
        sandbox.snapshot(&base, &WriteOptions::default()).expect("a snapshot");
        let image = Image::open(&base).expect("a snapshot");
        let mut sandbox = image.restore().view(view(dir)).start(host).expect("a restore");
        assert_eq!(sandbox.run_until(PauseAt::Exit(exits + 4)).expect("a run"), Outcome::Paused);
        let options = WriteOptions { parent: Some(image.snapshot().clone()), ..Default::default() };
        sandbox.snapshot(&layer, &options).expect("a layer");
        let image = Image::open(&layer).expect("a layer");
        image.restore().view(view(dir)).warm(host).expect("a warm snapshot");
        let state = Image::open(&layer).expect("a layer").state().clone();
        let [base, layer] = [base, layer].map(|path| File::of(&std::fs::read(path).expect("a file")));
        let state = Node::of(&state);
        assert_eq!(state.encode(), layer.sections[forge::STATE], "the shape is the state's");
        assert!(!layer.sections[forge::WORKING_SET].is_empty());
        Real { dir: dir.to_owned(), base, layer, state }
    }

    /// Writes a pair of files of which one lies; says which part.
    fn forge(&self, draw: &mut Draw, dir: &Path) -> &'static str {
        let (mut base, mut layer) = (self.base.clone(), self.layer.clone());
        let mut places = false;
        let what = match draw.below(10) {
            0..6 => {
                let mut state = self.state.clone();
                state.lie(draw);
                layer.sections[forge::STATE] = state.encode();
                "state"
            }
            6 | 7 => {
                layer.lie(draw);
                "layer"
            }
            8 => {
                base.lie(draw);
                "base"
            }
            _ => {
                places = true;
                "places"
            }
        };
        let mut bytes = layer.build();
        if places {
            forge::spoil_places(&mut bytes, draw);
        }
        std::fs::write(dir.join("base.dvm"), base.build()).expect("room");
        std::fs::write(dir.join("layer.dvm"), bytes).expect("room");
        what
    }

    /// Takes the snapshot in `dir` as `restore` would, and as `inspect`, `snapshot` and `replay` would.
    fn take(&self, host: &Host, draw: &mut Draw, dir: &Path) -> Result<String, String> {
        let image = match Image::open(dir.join("layer.dvm")) {
            Ok(image) => image,
            Err(e) => return Ok(format!("not opened: {}", name_of(&e))),
        };
        if draw.once_in(8) {
            forge::look(image.snapshot());
        }
        let recording = dir.join("recording");
        let (records, keeps, prefetches) = (draw.once_in(4), draw.once_in(8), !draw.once_in(4));
        let mut restore = image.restore().view(view(&self.dir)).any_cpu(true).memory(MEMORY).disk(DISK);
        restore = restore.capture_output().capture_limit(1 << 20).deadline(DEADLINE).prefetch(prefetches);
        if records {
            restore = restore.record(&recording);
        }
        let mut sandbox = match restore.start(host) {
            Ok(sandbox) => sandbox,
            Err(e) => return Ok(format!("not started: {}", name_of(&e))),
        };
        let paused =
            if keeps { sandbox.run_until(PauseAt::Exit(sandbox.exits() + 3)) } else { Ok(Outcome::Paused) };
        if keeps && matches!(paused, Ok(Outcome::Paused)) {
            let _ = sandbox.snapshot(dir.join("again.dvm"), &WriteOptions::default());
        }
        let run = match paused
            .and_then(|paused| if paused.goes_on() { sandbox.run() } else { Ok(sandbox.report(paused)) })
        {
            Ok(run) => run,
            Err(e) => return Ok(format!("failed: {}", name_of(&e))),
        };
        drop(sandbox);
        let end = format!("ran: {}", kind_of(run.outcome));
        if records && run.recording.is_some() {
            let replay = Replay::open(&recording)
                .map(|replay| {
                    replay.any_cpu(true).memory(MEMORY).disk(DISK).prefetch(prefetches).capture_output()
                })
                .and_then(|replay| replay.start(host)?.run());
            let again = replay.map_err(|e| format!("{end}, and its replay: {e}"))?;
            if (again.outcome, &again.stdout) != (run.outcome, &run.stdout) {
                return Err(format!("{end}, and replayed {:?}", again.outcome));
            }
        }
        Ok(end)
    }
}

#[test]
fn snapshots() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = Host::probe().expect("KVM");
    let real = Real::make(&host, dir.path());
    // `codec` is what the file's state is decoded by.
    assert!(codec::decode::<MachineState>(&real.state.encode()).is_ok());
    // A state is decoded, copied and encoded: some times its length, besides what is granted.
    let fuzzer = Fuzzer { name: "snapshots", cases: 120, time: DEADLINE * 3, grants: MEMORY + DISK };
    fuzzer.run(|seed| {
        let mut draw = Draw::new(seed);
        let at = tempfile::tempdir_in(dir.path()).map_err(|e| e.to_string())?;
        let what = real.forge(&mut draw, at.path());
        Ok(format!("{what:6} {}", real.take(&host, &mut draw, at.path())?))
    });
}
