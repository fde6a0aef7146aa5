//! What cores and machines that work on the same share: inputs of the queue, and the stacks of crashes.

use libafl::executors::ExitKind;
use libafl::inputs::{BytesInput, HasMutatorBytes};

use super::exchange::{Exchange, Shared};
use super::{Campaign, Error};

impl Campaign {
    /// Shares an input.
    pub(super) fn share_input(&mut self, input: &BytesInput) -> Result<(), Error> {
        match &mut self.exchange {
            Some(exchange) => Ok(exchange.share_input(input.mutator_bytes())?),
            None => Ok(()),
        }
    }

    /// Takes what others shared: inputs are run, and kept if there is something new about them.
    pub(super) fn import(&mut self) -> Result<(), Error> {
        while self.reason_to_end().is_none() {
            let Some(exchange) = &mut self.exchange else { break };
            match exchange.next()? {
                Some(Shared::Input(mut bytes)) => {
                    bytes.truncate(self.plan.max_len);
                    self.import_input(&BytesInput::from(bytes))?;
                }
                Some(Shared::Stack(hash)) => self.finder.know_stacks([hash]),
                None => break,
            }
        }
        Ok(())
    }

    fn import_input(&mut self, input: &BytesInput) -> Result<(), Error> {
        let origin = format!("{}op:sync", self.moment());
        match self.run_input(input)? {
            ExitKind::Ok => {
                if let Some(id) = self.engine.add_if_new(input)? {
                    self.keep(id, input, &origin, 1, false)?;
                    self.figures.inputs_imported += 1;
                }
            }
            kind => self.look_into(kind, input, &origin)?,
        }
        self.tick()
    }
}

/// Shares the hash of a crash's stack, and gives those that others shared lately.
pub(super) fn share_stack(exchange: Option<&mut Exchange>, hash: &str) -> Result<Vec<String>, Error> {
    let Some(exchange) = exchange else { return Ok(Vec::new()) };
    let known = exchange.stacks()?;
    exchange.share_stack(hash)?;
    Ok(known)
}
