//! Finding a program by its name, as a shell does.

use super::fs::{At, Env, FsError, NoFds, S_IFMT, S_IFREG};
use super::outside::Nobody;
use super::state::ProgramState;
use crate::errno::Errno;
use crate::world::{World, WorldError};

/// Any of the three execute permissions.
const EXECUTE: u32 = 0o111;

impl ProgramState {
    /// The path of the program `name` in the guest. With a slash in it, it is the path; else it is
    /// looked for in the directories of `path` (`PATH`'s value), the empty one being the working
    /// directory. The state stays as it is: what is learnt of the host on the way is forgotten.
    ///
    /// # Errors
    /// Outer: the world's. Inner: `ENOENT` when there is none, `EACCES` when what there is may not
    /// be executed.
    pub fn find_program(
        &self,
        world: &mut dyn World,
        name: &[u8],
        path: &[u8],
    ) -> Result<Result<Vec<u8>, Errno>, WorldError> {
        if name.contains(&b'/') {
            return Ok(Ok(name.to_vec()));
        }
        let mut refused = Errno::ENOENT;
        if name.is_empty() {
            return Ok(Err(refused));
        }
        let mut fs = self.fs.clone();
        let mut env = Env { world, caller: &mut Nobody };
        for dir in path.split(|b| *b == b':') {
            let mut candidate = if dir.starts_with(b"/") { Vec::new() } else { self.workdir.clone() };
            for part in [dir, name] {
                if !part.is_empty() {
                    if !candidate.is_empty() && !candidate.ends_with(b"/") {
                        candidate.push(b'/');
                    }
                    candidate.extend_from_slice(part);
                }
            }
            let at = At { base: fs.root(), fds: &NoFds };
            let mode = fs.lookup(&mut env, at, &candidate, true).and_then(|id| fs.stat(&mut env, id));
            match mode.map(|stat| stat.mode) {
                Ok(mode) if mode & S_IFMT == S_IFREG && mode & EXECUTE != 0 => return Ok(Ok(candidate)),
                Ok(_) | Err(FsError::Errno(Errno::EACCES)) => refused = Errno::EACCES,
                Err(FsError::World(e)) => return Err(e),
                Err(_) => {}
            }
        }
        Ok(Err(refused))
    }
}
