//! Debugging a program that runs.

use dejavm_replay::TimelineError;
use dejavm_replay::debugger::{DebugConnection, DebugEnd, DebugError, serve_live};
use dejavm_sandbox::exit::Observer;

use super::Sandbox;
use crate::Error;

impl Sandbox {
    /// Has a debugger run the program, from where it is and forwards, until it goes away or the program has ended. It
    /// speaks gdb's remote serial protocol, as `dejavm run --gdb` does. The run's deadline does not count
    /// meanwhile.
    ///
    /// After [`DebugEnd::Exited`], [`Sandbox::run`] gives the report; after [`DebugEnd::Detached`] it runs the
    /// program on.
    ///
    /// # Errors
    /// [`Error::NotDebugged`] of a bare-metal guest, a recorded run and a replay; [`Error::Debug`],
    /// [`Error::Run`]; [`Error::Unusable`] after [`DebugEnd::Killed`] and [`DebugEnd::Lost`], and after an error.
    pub fn debug(&mut self, connection: DebugConnection) -> Result<DebugEnd, Error> {
        self.check()?;
        let why = if self.recording.is_some() {
            Some("its run is recorded, and what a debugger changes would be in no log")
        } else if self.replayer.is_some() {
            Some("it is a replay: its recording can be, by Replay::timeline")
        } else {
            self.machine.program().is_none().then_some("only programs can be, no bare-metal guests yet")
        };
        if let Some(why) = why {
            return Err(Error::NotDebugged { why });
        }
        let observer = self.observer.as_deref_mut().map(|observer| observer as &mut dyn Observer);
        match serve_live(&mut self.machine, observer, self.wiring.stop.clone(), connection) {
            Ok(end) => {
                if matches!(end, DebugEnd::Killed | DebugEnd::Lost) {
                    self.broken = Some("its debugger has given it up".into());
                }
                Ok(end)
            }
            Err(DebugError::Timeline(TimelineError::Run(error))) => Err(self.fail(*error)),
            Err(error) => {
                self.broken = Some(error.to_string());
                Err(Error::Debug(Box::new(error)))
            }
        }
    }
}
