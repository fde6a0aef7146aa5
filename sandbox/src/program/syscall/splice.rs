//! `splice` and `tee`.

use super::Args;
use crate::errno::Errno;
use crate::program::error::{SysError, SysResult};
use crate::program::kernel::Kernel;

/// `SPLICE_F_*` (`include/linux/splice.h`): hints, and not to wait for a pipe.
const ALL: u64 = 0xf;
const NONBLOCK: u64 = 2;

impl Kernel {
    pub(super) fn sys_splice(&mut self, a: Args) -> SysResult {
        let [input, input_at, output, output_at, len, flags] = a;
        let flags = u64::from(flags as u32);
        if len == 0 {
            return Ok(0);
        }
        if flags & !ALL != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.with_files(|_, files, _, _| {
            files.get_open(input as i32).and_then(|_| files.get_open(output as i32)).map(drop)
        })?;
        let mut start = |address: u64| -> Result<Option<i64>, SysError> {
            if address == 0 {
                return Ok(None);
            }
            let offset = self.read_u64(address)? as i64;
            if offset < 0 { Err(Errno::EINVAL.into()) } else { Ok(Some(offset)) }
        };
        let ends = ((input as i32, start(input_at)?), (output as i32, start(output_at)?));
        let moved =
            self.with_files(|fs, files, env, _| files.splice(fs, env, ends, len, flags & NONBLOCK != 0));
        let moved = self.broken_pipe(moved.map_err(SysError::from), true)?;
        for (address, next) in [(input_at, moved.input_offset), (output_at, moved.output_offset)] {
            if let Some(next) = next.filter(|_| address != 0) {
                self.write_words(address, &[next as u64])?;
            }
        }
        Ok(moved.bytes as u64)
    }

    pub(super) fn sys_tee(&mut self, a: Args) -> SysResult {
        let [input, output, len, flags, ..] = a;
        let flags = u64::from(flags as u32);
        if flags & !ALL != 0 {
            return Err(Errno::EINVAL.into());
        }
        if len == 0 {
            return Ok(0);
        }
        let ends = (input as i32, output as i32);
        let copied = self.with_files(|fs, files, _, _| files.tee(fs, ends, len, flags & NONBLOCK != 0));
        Ok(self.broken_pipe(copied.map_err(SysError::from), true)? as u64)
    }
}
