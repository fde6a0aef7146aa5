//! What a campaign shares with those on other cores and machines, by LibAFL's low-level message passing.

use libafl_bolts::llmp::{LlmpClient, Tag};
use libafl_bolts::shmem::{ShMemProvider, StdShMem, StdShMemProvider};

/// An input that was kept.
const INPUT: Tag = Tag(0xde1a_0001);
/// The hash of a crash's stack.
const STACK: Tag = Tag(0xde1a_0002);

/// A connection to the process that passes messages on.
pub struct Exchange {
    client: LlmpClient<StdShMem, StdShMemProvider>,
}

/// What another one shares. It may come from another machine, and be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    /// An input that it kept.
    Input(Vec<u8>),
    /// The hash of a crash's stack.
    Stack(String),
}

impl Exchange {
    /// Connects to a broker of this machine, which passes on to this one all that was shared before, too.
    pub fn connect(port: u16) -> Result<Exchange, libafl::Error> {
        Ok(Exchange { client: LlmpClient::create_attach_to_tcp(StdShMemProvider::new()?, port)? })
    }

    /// Shares an input.
    pub fn share_input(&mut self, input: &[u8]) -> Result<(), libafl::Error> {
        self.client.send_buf(INPUT, input)
    }

    /// Shares the hash of a crash's stack.
    pub fn share_stack(&mut self, hash: &str) -> Result<(), libafl::Error> {
        self.client.send_buf(STACK, hash.as_bytes())
    }

    /// What others shared; `None` when there is nothing now, or will not be any more.
    pub fn next(&mut self) -> Result<Option<Shared>, libafl::Error> {
        let own = self.client.sender().id();
        loop {
            return Ok(match self.client.recv_buf() {
                Ok(Some((from, ..))) if from == own => continue,
                Ok(Some((_, INPUT, input))) => Some(Shared::Input(input.to_vec())),
                Ok(Some((_, STACK, hash))) => Some(Shared::Stack(String::from_utf8_lossy(hash).into_owned())),
                // Of other LibAFL fuzzers.
                Ok(Some(_)) => continue,
                Ok(None) | Err(libafl::Error::ShuttingDown) => None,
                Err(e) => return Err(e),
            });
        }
    }
}
