//! Fuzzes a program with parts of LibAFL's own around the executor.
//!
//! `cargo run --release -p dejavm-fuzz --example libafl_harness -- PROGRAM [ARGUMENTS...]`

use dejavm_fuzz::{EdgesMap, EdgesObserver, SandboxExecutor, Target};
use libafl::corpus::{Corpus, InMemoryCorpus};
use libafl::events::SimpleEventManager;
use libafl::feedbacks::{CrashFeedback, MaxMapFeedback};
use libafl::fuzzer::{Evaluator, Fuzzer, StdFuzzer};
use libafl::inputs::BytesInput;
use libafl::monitors::SimpleMonitor;
use libafl::mutators::{HavocScheduledMutator, havoc_mutations};
use libafl::observers::CanTrack;
use libafl::schedulers::{IndexesLenTimeMinimizerScheduler, QueueScheduler};
use libafl::stages::StdMutationalStage;
use libafl::state::{HasSolutions, StdState};
use libafl_bolts::rands::StdRand;
use libafl_bolts::tuples::{Handled, tuple_list};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let name = words.next().ok_or("usage: libafl_harness PROGRAM [ARGUMENTS...]")?;
    let program =
        dejavm::Program::new(name).args(words).show("/work", std::env::current_dir()?).workdir("/work");
    let ready = Target::new(program).start(&dejavm::Host::probe()?)?;

    let map = EdgesMap::new(EdgesObserver::new("edges")).track_indices();
    let mut feedback = MaxMapFeedback::new(&map);
    let mut objective = CrashFeedback::new();
    let inputs = || InMemoryCorpus::<BytesInput>::new();
    let mut state = StdState::new(StdRand::with_seed(1), inputs(), inputs(), &mut feedback, &mut objective)?;
    let scheduler = IndexesLenTimeMinimizerScheduler::new(&map, QueueScheduler::new());
    let mut fuzzer =
        StdFuzzer::builder().scheduler(scheduler).feedback(feedback).objective(objective).build();
    let mut executor = SandboxExecutor::new(ready, map.handle(), tuple_list!(map));
    let mut manager = SimpleEventManager::new(SimpleMonitor::new(|line| println!("{line}")));
    let mut stages = tuple_list!(StdMutationalStage::new(HavocScheduledMutator::new(havoc_mutations())));

    fuzzer.add_input(&mut state, &mut executor, &mut manager, BytesInput::new(b"0\n".to_vec()))?;
    while state.solutions().is_empty() {
        fuzzer.fuzz_one(&mut stages, &mut executor, &mut state, &mut manager)?;
    }
    let crash = state.solutions().cloned_input_for_id(state.solutions().first().ok_or("none")?)?;
    println!("{:?} crashes it", String::from_utf8_lossy(crash.as_ref()));
    Ok(())
}
