//! What a system call's failure is to the run.

use crate::machine::RunError;
use crate::program::error::SysError;

impl From<SysError> for RunError {
    fn from(e: SysError) -> RunError {
        match e {
            SysError::World(e) => RunError::World(e),
            SysError::Page(e) => e.into(),
            SysError::Errno(errno) => RunError::Machine(errno.to_string()),
            SysError::Wait(_) | SysError::Signal => {
                RunError::Machine("a call that waits was not expected here".into())
            }
            SysError::Machine(text) => RunError::Machine(text),
        }
    }
}
