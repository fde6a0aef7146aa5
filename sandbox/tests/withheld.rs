//! Runs whose outside lacks the blocks of mapped files that an earlier run did not read, as a replay
//! does: what brings in more than the guest wants leaves those pages out, and a guest that wants one
//! of them all the same ends with the outside's own words.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dejavm_sandbox::exit::Rung;
use dejavm_sandbox::guest::{Machine, MachineState};
use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::{
    End, MachineOptions, Memory, PauseAt, RunEnd, RunError, RunOptions, StartError,
};
use dejavm_sandbox::program::exec::Command;
use dejavm_sandbox::program::fs::Mount;
use dejavm_sandbox::program::state::{ProgramSpec, ProgramState};
use dejavm_sandbox::world::{HostPath, HostWorld, Request, Response, World, WorldError, default_grants};

type Block = (HostPath, u64);

/// The host, for the blocks that are known; for all, with a note of each, where none are.
struct Files {
    host: HostWorld,
    known: Option<BTreeSet<Block>>,
    asked: Arc<Mutex<Vec<Block>>>,
}

impl World for Files {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        if let Request::ReadBlock { path, block } = request {
            if !self.has_block(path, block) {
                return Err(WorldError::Diverged(format!("block {block} was not read")));
            }
            self.asked.lock().unwrap().push((path.clone(), block));
        }
        self.host.ask(request)
    }

    fn has_block(&self, path: &HostPath, block: u64) -> bool {
        self.known.as_ref().is_none_or(|known| known.contains(&(path.clone(), block)))
    }
}

/// Runs a shell; its exits, and the blocks that it asked for, in that order.
fn run(known: Option<BTreeSet<Block>>, options: &MachineOptions) -> Result<(u64, Vec<Block>), WorldError> {
    let host = HostProfile::probe().unwrap();
    let words = ["sh", "-c", "for i in 1 2 3; do x=$x$((i * i)); done; test $x = 149 && exit 42"];
    let mut spec = ProgramSpec::new(Command {
        path: b"/bin/sh".to_vec(),
        args: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        env: Vec::new(),
    });
    spec.mounts = Mount::of_grants(&default_grants());
    let state = MachineState::Program(Box::new(ProgramState::start(spec, host.level).unwrap()));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let grants = default_grants().into_iter().map(|(_, grant)| grant);
    let files =
        Files { host: HostWorld::builder().grants(grants).build().unwrap(), known, asked: asked.clone() };
    let stop = StopHandle::new().unwrap();
    stop.set_deadline(Some(Instant::now() + Duration::from_secs(30)));
    let mut machine = match Machine::start(state, Memory::Zeros, Box::new(files), host, stop, options) {
        Ok(machine) => machine,
        Err(StartError::Run(e)) => return Err(worlds(e)),
        Err(e) => panic!("{e}"),
    };
    match machine.run(RunOptions { pause: PauseAt::Never, observer: None }) {
        Ok(end) => assert_eq!(end, RunEnd::Ended(End::Exited(42)), "{options:?}"),
        Err(e) => return Err(worlds(e)),
    }
    let asked = asked.lock().unwrap().clone();
    Ok((machine.core().exits, asked))
}

fn worlds(error: RunError) -> WorldError {
    match error {
        RunError::World(e) => e,
        e => panic!("not what the outside said: {e}"),
    }
}

#[test]
fn what_the_outside_lacks_stays_absent_until_it_is_wanted() {
    let (exits, asked) = run(None, &MachineOptions::default()).unwrap();
    let known: BTreeSet<Block> = asked.iter().cloned().collect();
    let everything = MachineOptions { rung: Some(Rung::Populate), ..MachineOptions::default() };
    let (_, more) = run(None, &everything).unwrap();
    assert!(more.len() > asked.len(), "the shell touches all of its files: this test shows nothing");

    // The one that was asked for last is wanted by a page fault.
    let mut short = known.clone();
    short.remove(asked.last().unwrap());
    // The last rung stands for a host on which nothing shows that a page was touched.
    let rungs = [None, Some(Rung::Poison), Some(Rung::Decode), Some(Rung::Populate), Some(Rung::Region)];
    for rung in rungs {
        for eager in [false, true] {
            let options = MachineOptions { rung, eager, ..MachineOptions::default() };
            let (seen, blocks) = run(Some(known.clone()), &options).unwrap();
            assert_eq!(seen, exits, "{options:?}");
            assert!(blocks.iter().all(|block| known.contains(block)));
            match run(Some(short.clone()), &options) {
                Err(WorldError::Diverged(_)) => {}
                other => panic!("{options:?}: {other:?}"),
            }
        }
    }
}
