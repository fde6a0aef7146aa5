//! The outside of a copy of the program: what the recording holds of the host's files, and room for output.

use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dejavm_sandbox::errno::Errno;
use dejavm_sandbox::program::fs::{Mount, guest_path};
use dejavm_sandbox::world::{BLOCK_SIZE, HostPath, Request, Response, World, WorldError};

use super::files::Held;
use super::mapped::of_this_machine;
use crate::elsewhere::candidates;

/// Bytes of what a copy writes that are kept.
const OUTPUT_MAX: usize = 64 << 10;

/// What is known of what a copy did outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Done(Arc<Mutex<What>>);

#[derive(Debug, Default)]
struct What {
    output: Vec<u8>,
    lacked: Option<&'static str>,
}

impl Done {
    fn what(&self) -> MutexGuard<'_, What> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has written since this was asked last.
    pub(super) fn take_output(&self) -> Vec<u8> {
        std::mem::take(&mut self.what().output)
    }

    /// By name, what it asked for and did not get.
    pub(super) fn lacked(&self) -> Option<&'static str> {
        self.what().lacked
    }
}

/// The outside of a copy.
pub(super) struct Apart {
    pub held: Held,
    pub mounts: Vec<Mount>,
    pub done: Done,
}

impl World for Apart {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        match request {
            Request::Output { data, .. } => {
                let output = &mut self.done.what().output;
                let room = OUTPUT_MAX.saturating_sub(output.len());
                output.extend(&data[..data.len().min(room)]);
                return Ok(Response::Output(Ok(data.len())));
            }
            // There is none.
            Request::Terminal(_) => return Ok(Response::Terminal(Err(Errno::ENOTTY))),
            Request::OutputFile { .. } => return Ok(Response::OutputFile(Err(Errno::ESPIPE))),
            Request::ReadBlock { path, block } if !self.held.has_block(path, block) => {
                if let Some(content) = self.block_of_this_machine(path, block) {
                    return Ok(Response::Block(Ok(content)));
                }
            }
            _ => {}
        }
        self.held.ask(request).inspect_err(|_| self.done.what().lacked = Some(request.name()))
    }

    fn has_block(&self, path: &HostPath, block: u64) -> bool {
        self.held.has_block(path, block)
    }
}

impl Apart {
    /// A block that the recording lacks, out of the file on this machine that the program saw by that name, if it begins
    /// as the recorded one.
    fn block_of_this_machine(&mut self, path: &HostPath, block: u64) -> Option<Arc<[u8]>> {
        if !self.held.has_block(path, 0) {
            return None;
        }
        let Ok(Response::Block(Ok(begin))) = self.held.ask(Request::ReadBlock { path, block: 0 }) else {
            return None;
        };
        let name = guest_path(&self.mounts, path)?;
        candidates(&self.mounts, &name).iter().find_map(|here| {
            let (file, len) = of_this_machine(here)?;
            let mut found = vec![0; begin.len()];
            file.read_exact_at(&mut found, 0).ok()?;
            let offset = block.checked_mul(BLOCK_SIZE as u64)?;
            let mut content = vec![0; len.saturating_sub(offset).min(BLOCK_SIZE as u64) as usize];
            file.read_exact_at(&mut content, offset).ok()?;
            (*found == *begin).then(|| content.into())
        })
    }
}
