//! What a campaign shares with those on other cores and machines, by LibAFL's low-level message passing.

use std::collections::VecDeque;

use libafl_bolts::llmp::{LlmpClient, Tag};
use libafl_bolts::shmem::{ShMemProvider, StdShMem, StdShMemProvider};

/// An input that was kept.
const INPUT: Tag = Tag(0xde1a_0001);
/// The hash of a crash's stack.
const STACK: Tag = Tag(0xde1a_0002);

/// A connection to the process that passes messages on.
pub struct Exchange {
    client: LlmpClient<StdShMem, StdShMemProvider>,
    /// Inputs that came when stacks were asked for.
    inputs: VecDeque<Vec<u8>>,
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
        let client = LlmpClient::create_attach_to_tcp(StdShMemProvider::new()?, port)?;
        Ok(Exchange { client, inputs: VecDeque::new() })
    }

    /// Shares an input.
    pub fn share_input(&mut self, input: &[u8]) -> Result<(), libafl::Error> {
        self.client.send_buf(INPUT, input)
    }

    /// Shares the hash of a crash's stack.
    pub fn share_stack(&mut self, hash: &str) -> Result<(), libafl::Error> {
        self.client.send_buf(STACK, hash.as_bytes())
    }

    /// The stacks that others shared lately.
    pub fn stacks(&mut self) -> Result<Vec<String>, libafl::Error> {
        let (mut stacks, mut inputs) = (Vec::new(), std::mem::take(&mut self.inputs));
        while let Some(shared) = self.next()? {
            match shared {
                Shared::Input(input) => inputs.push_back(input),
                Shared::Stack(hash) => stacks.push(hash),
            }
        }
        self.inputs = inputs;
        Ok(stacks)
    }

    /// What others shared; `None` when there is nothing now, or will not be any more.
    pub fn next(&mut self) -> Result<Option<Shared>, libafl::Error> {
        if let Some(input) = self.inputs.pop_front() {
            return Ok(Some(Shared::Input(input)));
        }
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
