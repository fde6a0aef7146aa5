//! LibAFL's executor.

use std::marker::PhantomData;

use libafl::executors::{Executor, ExitKind, HasObservers, HasTimeout};
use libafl::inputs::HasTargetBytes;
use libafl::state::HasExecutions;
use libafl_bolts::tuples::{Handle, MatchName, MatchNameRef, RefIndexable};

use crate::{EdgesMap, Error, Ran, Ready};

/// Runs LibAFL's inputs in a target that is ready, and gives the edges to one of its observers, which is an
/// [`EdgesMap`], tracked or not.
pub struct SandboxExecutor<C, OT> {
    ready: Ready,
    observers: OT,
    edges: Handle<C>,
    ran: Option<Ran>,
    error: Option<Error>,
    phantom: PhantomData<C>,
}

impl<C, OT> SandboxExecutor<C, OT> {
    /// An executor with these observers, one of which is the map.
    pub fn new(ready: Ready, edges: Handle<C>, observers: OT) -> SandboxExecutor<C, OT> {
        SandboxExecutor { ready, observers, edges, ran: None, error: None, phantom: PhantomData }
    }

    /// What came of the last run.
    pub fn ran(&self) -> Option<&Ran> {
        self.ran.as_ref()
    }

    /// Takes the error that the last run ended with, of which LibAFL's has only the text.
    pub fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// The target.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }
}

impl<C, EM, I, OT, S, Z> Executor<EM, I, S, Z> for SandboxExecutor<C, OT>
where
    C: 'static + AsMut<EdgesMap>,
    I: HasTargetBytes,
    OT: MatchName,
    S: HasExecutions,
{
    fn run_target(
        &mut self,
        _fuzzer: &mut Z,
        state: &mut S,
        _manager: &mut EM,
        input: &I,
    ) -> Result<ExitKind, libafl::Error> {
        *state.executions_mut() += 1;
        let ran = match self.ready.run(&input.target_bytes()) {
            Ok(ran) => ran,
            Err(e) => {
                let text = e.to_string();
                self.error = Some(e);
                return Err(libafl::Error::unknown(text));
            }
        };
        let map = self.observers.get_mut(&self.edges);
        let map =
            map.ok_or_else(|| libafl::Error::key_not_found("the map of edges is not among the observers"))?;
        map.as_mut().set_counts(self.ready.counts());
        let kind = ran.kind();
        self.ran = Some(ran);
        Ok(kind)
    }
}

impl<C, OT> HasObservers for SandboxExecutor<C, OT> {
    type Observers = OT;

    fn observers(&self) -> RefIndexable<&OT, OT> {
        RefIndexable::from(&self.observers)
    }

    fn observers_mut(&mut self) -> RefIndexable<&mut OT, OT> {
        RefIndexable::from(&mut self.observers)
    }
}

impl<C, OT> HasTimeout for SandboxExecutor<C, OT> {
    fn timeout(&self) -> std::time::Duration {
        self.ready.target().timeout()
    }
}
