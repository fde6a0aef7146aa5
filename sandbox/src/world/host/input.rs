//! Where standard input comes from.

use std::io::{ErrorKind, Read, stdin};
use std::os::fd::AsFd;

use rustix::event::PollFlags;

use super::interrupt::{Interrupt, check, is_ready, wait};
use crate::errno::Errno;
use crate::world::WorldError;

/// Bytes read at once.
const MOST: usize = 1 << 20;

/// Where standard input comes from.
pub enum Input {
    /// Nowhere: it is at its end.
    Empty,
    /// From these bytes.
    Bytes(Vec<u8>),
    /// From a reader. It is asked when the guest reads, and taken to be always ready: where it
    /// blocks, the sandbox does, and cannot be interrupted.
    Reader(Box<dyn Read + Send>),
    /// From the standard input of this process.
    HostStdin,
}

/// Standard input, so far read.
pub(super) struct InputState {
    input: Input,
    /// How much of [`Input::Bytes`] was read.
    position: usize,
}

impl InputState {
    pub fn new(input: Input) -> InputState {
        InputState { input, position: 0 }
    }

    /// Reads at most `max` bytes; none at the end.
    pub fn read(
        &mut self,
        max: usize,
        block: bool,
        interrupt: &dyn Interrupt,
    ) -> Result<Result<Vec<u8>, Errno>, WorldError> {
        let max = max.min(MOST);
        match &mut self.input {
            Input::Empty => Ok(Ok(Vec::new())),
            Input::Bytes(bytes) => {
                let rest = &bytes[self.position..];
                let part = rest[..rest.len().min(max)].to_vec();
                self.position += part.len();
                Ok(Ok(part))
            }
            Input::Reader(reader) => {
                check(interrupt)?;
                Ok(read_from(reader, max))
            }
            Input::HostStdin => {
                let stdin = stdin();
                let mut bytes = vec![0; max];
                loop {
                    if block {
                        wait(&stdin, PollFlags::IN, interrupt)?;
                    } else if !is_ready(stdin.as_fd(), PollFlags::IN) {
                        return Ok(Err(Errno::EAGAIN));
                    }
                    // Past the buffer of the standard library, which `poll` does not see.
                    match rustix::io::read(&stdin, &mut bytes[..]) {
                        Ok(n) => {
                            bytes.truncate(n);
                            return Ok(Ok(bytes));
                        }
                        Err(rustix::io::Errno::INTR) => {}
                        // Somebody else was faster, on a descriptor that does not block.
                        Err(rustix::io::Errno::AGAIN) if block => {}
                        Err(e) => return Ok(Err(e.into())),
                    }
                }
            }
        }
    }
}

fn read_from(reader: &mut dyn Read, max: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; max];
    loop {
        match reader.read(&mut bytes) {
            Ok(n) => {
                bytes.truncate(n);
                return Ok(bytes);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.raw_os_error().map_or(Errno::EIO, Errno::from_host)),
        }
    }
}
