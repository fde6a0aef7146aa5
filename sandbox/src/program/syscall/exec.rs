//! `execve` and `execveat`.

use super::Args;
use crate::errno::Errno;
use crate::host::stop::Pace;
use crate::program::binary::{MAX_STRING, argument_space, space_of};
use crate::program::error::SysError;
use crate::program::exec::Command;
use crate::program::files::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use crate::program::kernel::Kernel;
use crate::program::limits;

impl Kernel {
    pub(super) fn sys_execve(&mut self, a: Args) -> Result<(), SysError> {
        self.sys_execveat([AT_FDCWD as u64, a[0], a[1], a[2], 0, 0])
    }

    /// All that can fail comes before the old program is given up.
    pub(super) fn sys_execveat(&mut self, a: Args) -> Result<(), SysError> {
        let [dirfd, path, args, env, flags, _] = a;
        let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
        if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let path = self.read_path(path)?;
        let file = self.open_executable(dirfd as i32, &path, flags)?;
        let mut room = argument_space(self.process.limits[limits::STACK].0);
        let mut args = self.read_strings(args, &mut room)?;
        if args.is_empty() {
            // As Linux since 5.18: programs expect to have a name.
            args.push(Vec::new());
        }
        let env = self.read_strings(env, &mut room)?;
        let command = Command { path, args, env };
        let found = self.find_binary(file, command).map_err(|e| *e.error)?;
        self.replace_program(found)
    }

    /// Reads a list of strings that ends with a null pointer, and takes what they need from `room`.
    fn read_strings(&mut self, mut list: u64, room: &mut u64) -> Result<Vec<Vec<u8>>, SysError> {
        let mut strings = Vec::new();
        if list == 0 {
            return Ok(strings);
        }
        let stop = self.stop.clone();
        let mut pace = Pace::new(&stop);
        loop {
            let at = self.read_u64(list)?;
            if at == 0 {
                return Ok(strings);
            }
            let string = self.space.read_string(&mut self.memory, at, MAX_STRING)?;
            let string = string.ok_or(Errno::E2BIG)?;
            pace.bytes(string.len())?;
            *room = room.checked_sub(space_of([&string])).ok_or(Errno::E2BIG)?;
            strings.push(string);
            list = list.wrapping_add(8);
        }
    }
}
