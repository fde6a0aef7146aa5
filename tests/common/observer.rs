//! Looking on while a sandbox runs.

use std::sync::{Arc, Mutex};

use dejavm::{Exit, Observer, WorldError};

/// Notes what every exit says.
#[derive(Clone, Default)]
pub struct Exits(Arc<Mutex<Vec<String>>>);

impl Observer for Exits {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        self.0.lock().unwrap().push(format!("{exit:?}"));
        Ok(())
    }
}

impl Exits {
    /// What was noted since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}
