//! LibAFL's parts, put together.

use dejavm_fuzz::{EdgesMap, EdgesObserver, Ran, Ready, SandboxExecutor};
use libafl::corpus::{Corpus, CorpusId, InMemoryCorpus};
use libafl::events::NopEventManager;
use libafl::executors::{ExitKind, HasObservers};
use libafl::feedbacks::{MapFeedbackMetadata, MaxMapFeedback};
use libafl::fuzzer::{ExecuteInputResult, ExecutesInput, ExecutionProcessor, HasScheduler, NopInputFilter};
use libafl::inputs::{BytesInput, BytesInputConverter};
use libafl::mutators::{
    HavocScheduledMutator, MutationResult, Mutator, Tokens, havoc_mutations, tokens_mutations,
};
use libafl::observers::{CanTrack, ExplicitTracking};
use libafl::schedulers::Scheduler;
use libafl::state::{HasCorpus, HasExecutions, HasMaxSize, HasRand, StdState};
use libafl::{HasMetadata, HasNamedMetadata, StdFuzzer};
use libafl_bolts::HasLen;
use libafl_bolts::rands::{Rand, StdRand};
use libafl_bolts::tuples::{Handled, Merge, tuple_list, tuple_list_type};

use super::Error;
use super::schedule::Schedule;

/// Changes that are made at once: 2 to this power at most, as AFL++ has it.
const STACK_POW: usize = 4;
/// The map's name.
const EDGES: &str = "edges";

type Map = ExplicitTracking<EdgesMap, true, false>;
type Observers = tuple_list_type!(Map);
type Executor = SandboxExecutor<Map, Observers>;
type Inputs = InMemoryCorpus<BytesInput>;
type State = StdState<Inputs, BytesInput, StdRand, Inputs>;
type Fuzzer = StdFuzzer<Schedule, MaxMapFeedback<Map, EdgesMap>, BytesInputConverter, NopInputFilter, ()>;

/// The queue, what its inputs reached, and what changes them.
pub struct Engine {
    state: State,
    fuzzer: Fuzzer,
    executor: Executor,
    mutator: Box<dyn Mutator<BytesInput, State>>,
    manager: NopEventManager,
}

impl Engine {
    /// An engine with an empty queue.
    pub fn new(ready: Ready, seed: u64, max_len: usize, words: Tokens) -> Result<Engine, Error> {
        let map = EdgesMap::new(EdgesObserver::new(EDGES)).track_indices();
        let edges = map.handle();
        let mut feedback = MaxMapFeedback::new(&map);
        let rand = StdRand::with_seed(seed);
        let mut state = StdState::new(rand, Inputs::new(), Inputs::new(), &mut feedback, &mut ())?;
        state.set_max_size(max_len);
        state.add_metadata(words);
        let fuzzer = StdFuzzer::builder().scheduler(Schedule::default()).feedback(feedback).build();
        let mutations = havoc_mutations().merge(tokens_mutations());
        Ok(Engine {
            state,
            fuzzer,
            executor: SandboxExecutor::new(ready, edges, tuple_list!(map)),
            mutator: Box::new(HavocScheduledMutator::with_max_stack_pow(mutations, STACK_POW)),
            manager: NopEventManager::new(),
        })
    }

    /// Runs an input.
    pub fn run(&mut self, input: &BytesInput) -> Result<ExitKind, Error> {
        let Engine { state, fuzzer, executor, manager, .. } = self;
        match fuzzer.execute_input(state, executor, manager, input) {
            Ok(kind) => Ok(kind),
            Err(e) => Err(executor.take_error().map_or_else(|| e.into(), Error::Target)),
        }
    }

    /// Adds the input that was run last to the queue, if it took edges as none before it did.
    pub fn add_if_new(&mut self, input: &BytesInput) -> Result<Option<CorpusId>, Error> {
        let Engine { state, fuzzer, executor, manager, .. } = self;
        let observers = executor.observers();
        let (_, id) = fuzzer.evaluate_execution(state, manager, input, &*observers, &ExitKind::Ok, false)?;
        self.mutator.post_exec(&mut self.state, id)?;
        Ok(id)
    }

    /// Adds the input that was run last to the queue.
    pub fn add(&mut self, input: &BytesInput) -> Result<Option<CorpusId>, Error> {
        let Engine { state, fuzzer, executor, manager, .. } = self;
        let observers = executor.observers();
        let add = &ExecuteInputResult::Corpus;
        Ok(fuzzer.process_execution(state, manager, input, add, &ExitKind::Ok, &*observers)?)
    }

    /// Chooses the next input to be changed.
    pub fn next(&mut self) -> Result<CorpusId, Error> {
        let schedule = HasScheduler::<BytesInput, State>::scheduler_mut(&mut self.fuzzer);
        Ok(Scheduler::<BytesInput, State>::next(schedule, &mut self.state)?)
    }

    /// A changed copy of an input; `None` where nothing could be changed.
    pub fn changed(&mut self, id: CorpusId) -> Result<Option<BytesInput>, Error> {
        let mut input = self.state.corpus().cloned_input_for_id(id)?;
        let done = self.mutator.mutate(&mut self.state, &mut input)?;
        let fits = input.len() <= self.state.max_size();
        Ok((done == MutationResult::Mutated && fits).then_some(input))
    }

    /// An input, and the one that it was made of: nothing for a first one.
    pub fn input_and_parent(&self, id: CorpusId) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let corpus = self.state.corpus();
        let parent = corpus.get(id)?.borrow().parent_id();
        let bytes = |id| corpus.cloned_input_for_id(id).map(Vec::<u8>::from);
        Ok((bytes(id)?, parent.map(bytes).transpose()?.unwrap_or_default()))
    }

    /// A random number below another.
    pub fn random(&mut self, below: usize) -> usize {
        self.state.rand_mut().below_or_zero(below)
    }

    /// What came of the last run.
    pub fn ran(&self) -> Option<&Ran> {
        self.executor.ran()
    }

    /// AFL's classes of the counts of the last run, by edge.
    pub fn classes(&self) -> Vec<u8> {
        use libafl::observers::MapObserver;
        self.executor.observers().0.as_ref().to_vec()
    }

    /// Runs so far.
    pub fn runs(&self) -> u64 {
        *self.state.executions()
    }

    /// Inputs in the queue.
    pub fn inputs(&self) -> usize {
        self.state.corpus().count()
    }

    /// Edges that the queue's inputs take.
    pub fn edges(&self) -> usize {
        let seen = self.state.named_metadata_map().get::<MapFeedbackMetadata<u8>>(EDGES);
        seen.map_or(0, |seen| seen.num_covered_map_indexes)
    }

    /// The queue's order.
    pub fn schedule(&self) -> &Schedule {
        HasScheduler::<BytesInput, State>::scheduler(&self.fuzzer)
    }

    /// The target.
    pub fn ready(&self) -> &Ready {
        self.executor.ready()
    }
}
