//! What the run sees of a replayer.

use std::sync::PoisonError;

use dejavm_sandbox::exit::{Exit, Fault, Observer};
use dejavm_sandbox::world::{HostPath, Request, Response, Stream, World, WorldError};

use super::state::Reply;
use super::{Live, Outputs, Shared, lock};

/// Gives the recorded answers.
pub(super) struct ReplayWorld {
    state: Shared,
    live: Live,
    outputs: Outputs,
}

impl ReplayWorld {
    pub fn new(state: Shared, live: Live, outputs: Outputs) -> ReplayWorld {
        ReplayWorld { state, live, outputs }
    }

    /// Lets the live outside know, once the log is over.
    fn if_live(&self, tell: impl FnOnce(&mut dyn World)) {
        if lock(&self.state).is_live()
            && let Some(world) = &mut *self.live.lock().unwrap_or_else(PoisonError::into_inner)
        {
            tell(&mut **world);
        }
    }
}

impl World for ReplayWorld {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        let reply = match request {
            Request::ReadBlock { path, block } => lock(&self.state).block(path, block)?,
            _ => lock(&self.state).ask(request)?,
        };
        match reply {
            Reply::Recorded(response) => {
                // No more than the data: the state has checked it. What the guest wrote elsewhere than at
                // the position comes in the order that it was written in, too: the file was another.
                match (request, &response) {
                    (Request::Output { stream, data }, Response::Output(Ok(taken))) => {
                        self.outputs.write(stream, &data[..*taken]);
                    }
                    (Request::OutputFile { stream, change }, Response::OutputFile(Ok(taken))) => {
                        self.outputs.write(stream, &change.data()[..*taken]);
                    }
                    _ => {}
                }
                Ok(response)
            }
            Reply::Live => match &mut *self.live.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(live) => live.ask(request),
                None => Err(WorldError::EndOfLog),
            },
        }
    }

    fn has_block(&self, path: &HostPath, block: u64) -> bool {
        let (recorded, live) = {
            let state = lock(&self.state);
            (state.has_block(path, block), state.is_live())
        };
        let live_has = || {
            let world = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            world.as_ref().is_some_and(|world| world.has_block(path, block))
        };
        recorded || (live && live_has())
    }

    fn seek_input(&mut self, offset: u64) {
        self.if_live(|world| world.seek_input(offset));
    }

    fn seek_output(&mut self, stream: Stream, offset: u64) {
        self.if_live(|world| world.seek_output(stream, offset));
    }
}

/// Compares exits.
pub(super) struct ReplayObserver {
    state: Shared,
}

impl ReplayObserver {
    pub fn new(state: Shared) -> ReplayObserver {
        ReplayObserver { state }
    }
}

impl Observer for ReplayObserver {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        lock(&self.state).exit(exit)
    }

    fn fault(&mut self, fault: &Fault) {
        lock(&self.state).fault(fault);
    }
}
