//! What file operations need from the rest of the monitor.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{ContentRef, FsResult, InodeId};
use crate::host::stop::Pace;
use crate::program::credentials::{Credentials, ROOT};
use crate::program::signal::Info;
use crate::world::World;

/// Reads a file's content from an offset on; zeros behind its end.
pub type ReadContent<'a> = dyn FnMut(u64, &mut [u8]) -> FsResult<()> + 'a;

/// The two parties that a file operation may ask: the outside, and the rest of the monitor.
pub struct Env<'a> {
    /// The outside.
    pub world: &'a mut dyn World,
    /// The rest of the monitor, for the task that makes the call.
    pub caller: &'a mut dyn Caller,
}

/// Looks at the deadline: for a loop that did some tens of microseconds of work since it did so last.
///
/// # Errors
/// When the run must be over.
pub(super) fn look(caller: &dyn Caller) -> FsResult<()> {
    /// Enough for [`Pace`] to look.
    const WORK: usize = 1 << 20;
    match caller.pace() {
        Some(mut pace) => Ok(pace.bytes(WORK)?),
        None => Ok(()),
    }
}

/// What the file system asks of the rest of the monitor, on behalf of the task that makes the
/// call.
pub trait Caller {
    /// The guest's real-time clock, nanoseconds since the Unix epoch.
    fn now(&self) -> i64;

    /// For a loop whose length the task decides: when the run must be over. `None` where there is no
    /// run.
    fn pace(&self) -> Option<Pace<'_>> {
        None
    }

    /// Who makes the call, and what it may do.
    fn credentials(&self) -> &Credentials {
        &ROOT
    }

    /// Who owns the files of the caller in `/proc`.
    fn owner(&self) -> (u32, u32) {
        (0, 0)
    }

    /// The file of the program that runs.
    fn executable(&self) -> Option<InodeId> {
        None
    }

    /// Bytes that a file may grow to: `RLIMIT_FSIZE`.
    fn file_size_limit(&self) -> u64 {
        u64::MAX
    }

    /// A file was to grow beyond [`Caller::file_size_limit`]: the caller gets a signal.
    fn exceed_file_size(&mut self) {}

    /// Takes a pending signal out of a set, a bit for each.
    fn take_signal(&mut self, _set: u64) -> Option<Info> {
        None
    }

    /// Whether a signal of a set is pending.
    fn has_signal(&self, _set: u64) -> bool {
        false
    }

    /// Fills `buf` from the run's random stream.
    fn random(&mut self, buf: &mut [u8]);

    /// The calling process.
    fn pid(&self) -> u32;

    /// The calling thread.
    fn tid(&self) -> u32 {
        self.pid()
    }

    /// Whether a timer may end a wait for input before there is some. Input that is `certain` to come is
    /// there before any virtual time has passed.
    fn may_time_out(&self, _certain: bool) -> bool {
        false
    }

    /// All processes.
    fn pids(&self) -> Vec<u32> {
        vec![self.pid()]
    }

    /// The threads of a process.
    fn tids(&self, pid: u32) -> Vec<u32> {
        vec![pid]
    }

    /// The content of a file under `/proc`; `pid` is the thread that a per-process file is of, 0
    /// for the others. `None` takes the built-in text, see [`ProcFile`].
    fn proc_text(&mut self, pid: u32, file: ProcFile) -> Option<Vec<u8>>;

    /// Sets what a file of a process under `/proc` tells.
    ///
    /// # Errors
    /// `EINVAL` for what cannot be set.
    fn set_proc(&mut self, _pid: u32, _file: ProcFile, _data: &[u8]) -> FsResult<()> {
        super::fail(crate::errno::Errno::EINVAL)
    }

    /// Absolute path of the program that a process runs, for `/proc/<pid>/exe`.
    fn exe(&self, pid: u32) -> Vec<u8>;

    /// The working directory of a process, for `/proc/<pid>/cwd`.
    fn cwd(&self, _pid: u32) -> Option<InodeId> {
        None
    }

    /// What is mapped of a file at an address of a process where a mapping starts: its addresses, and the
    /// file's path.
    fn mapped_file(&self, _pid: u32, _start: u64) -> Option<(Range<u64>, Vec<u8>)> {
        None
    }

    /// The addresses of all mappings of files of a process.
    fn mapped_files(&self, _pid: u32) -> Vec<Range<u64>> {
        Vec::new()
    }

    /// Charges bytes of the monitor's memory to the sandbox's account: before they are taken, and an
    /// amount that is a function of what the guest has.
    ///
    /// # Errors
    /// `ENOMEM` when the sandbox's memory is used up.
    fn charge(&mut self, _bytes: u64) -> FsResult<()> {
        Ok(())
    }

    /// [`Caller::charge`] for what can be done without: whether it fits.
    fn offer(&mut self, _bytes: u64) -> bool {
        true
    }

    /// Gives back what [`Caller::charge`] charged.
    fn refund(&mut self, _bytes: u64) {}

    /// Reads bytes of a file whose content lives in guest memory (see
    /// [`Fs::make_shared`](super::Fs::make_shared)). The range lies within the object's length. Returns
    /// the parts that still come from below: they are not read.
    ///
    /// # Errors
    /// When guest memory cannot be read.
    fn read_shared(&mut self, object: u64, offset: u64, buf: &mut [u8]) -> FsResult<Vec<Range<usize>>>;

    /// Whether the page at an offset of an object still comes from below.
    fn lacks_shared(&self, _object: u64, _offset: u64) -> bool {
        false
    }

    /// Puts content below an object, to show where the object has no memory.
    fn put_below(&mut self, object: u64, content: ContentRef, len: u64);

    /// Writes bytes of a file whose content lives in guest memory. The range lies within the
    /// object's length, its last page counted whole. Pages that still come from below are written whole.
    ///
    /// # Errors
    /// When guest memory cannot be written.
    fn write_shared(&mut self, object: u64, offset: u64, data: &[u8]) -> FsResult<()>;

    /// Makes a part of such a file zeros, and gives back the memory of what is zeros as a whole. The range
    /// lies within the object's length, and what lies below it is zeros already.
    ///
    /// # Errors
    /// When guest memory cannot be changed.
    fn zero_shared(&mut self, object: u64, range: Range<u64>) -> FsResult<()>;

    /// Creates an object, or changes its length; new bytes are zero.
    ///
    /// # Errors
    /// `ENOSPC` when there is no room.
    fn resize_shared(&mut self, object: u64, len: u64) -> FsResult<()>;

    /// A file's content that is mapped has moved into an object, since the file is about to change:
    /// its mappings follow the object from now on. `read` reads the content.
    ///
    /// # Errors
    /// When guest memory cannot be changed.
    fn content_moved(
        &mut self,
        _content: ContentRef,
        _file: InodeId,
        _object: u64,
        _read: &mut ReadContent<'_>,
    ) -> FsResult<()> {
        Ok(())
    }

    /// Reads the memory of a process, for `/proc/<pid>/mem`: 0 bytes where nothing is mapped.
    ///
    /// # Errors
    /// When guest memory cannot be read.
    fn read_memory(&mut self, _pid: u32, _address: u64, _buf: &mut [u8]) -> FsResult<usize> {
        Ok(0)
    }

    /// Writes the memory of a process.
    ///
    /// # Errors
    /// When guest memory cannot be written.
    fn write_memory(&mut self, _pid: u32, _address: u64, _data: &[u8]) -> FsResult<usize> {
        Ok(0)
    }

    /// The first offset of an object from `at` on, at which there may be anything but zeros.
    fn shared_data(&self, _object: u64, at: u64) -> Option<u64> {
        Some(at)
    }

    /// The file is gone, or its content went back into the file system: the object may be freed.
    ///
    /// # Errors
    /// When guest memory cannot be given back.
    fn drop_shared(&mut self, object: u64) -> FsResult<()>;
}

/// A file under `/proc` whose content is asked for when it is read. Those without a built-in text
/// are empty when [`Caller::proc_text`] gives none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProcFile {
    /// `/proc/<pid>/maps`
    Maps,
    /// `/proc/<pid>/smaps`
    Smaps,
    /// `/proc/<pid>/cmdline`
    Cmdline,
    /// `/proc/<pid>/environ`
    Environ,
    /// `/proc/<pid>/stat`
    Stat,
    /// `/proc/<pid>/status`
    Status,
    /// `/proc/<pid>/statm`
    Statm,
    /// `/proc/<pid>/auxv`
    Auxv,
    /// `/proc/<pid>/comm`
    Comm,
    /// `/proc/<pid>/limits`
    Limits,
    /// `/proc/<pid>/mem`: no text, but the process's memory.
    Mem,
    /// `/proc/<pid>/cgroup`; built in.
    Cgroup,
    /// `/proc/<pid>/mounts`; built in.
    Mounts,
    /// `/proc/<pid>/mountinfo`; built in.
    MountInfo,
    /// `/proc/<pid>/oom_score`; built in.
    OomScore,
    /// `/proc/<pid>/oom_score_adj`; built in.
    OomScoreAdj,
    /// `/proc/<pid>/coredump_filter`; built in.
    CoredumpFilter,
    /// `/proc/<pid>/smaps_rollup`
    SmapsRollup,
    /// `/proc/<pid>/io`; built in.
    Io,
    /// `/proc/<pid>/loginuid`; built in.
    LoginUid,
    /// `/proc/<pid>/sessionid`; built in.
    SessionId,
    /// `/proc/<pid>/personality`
    Personality,
    /// `/proc/<pid>/wchan`; built in.
    Wchan,
    /// `/proc/<pid>/uid_map`; built in.
    UidMap,
    /// `/proc/<pid>/gid_map`; built in.
    GidMap,
    /// `/proc/<pid>/setgroups`; built in.
    SetGroups,
    /// `/proc/<pid>/timerslack_ns`
    TimerSlack,
    /// `/proc/<pid>/schedstat`; built in.
    SchedStat,
    /// `/proc/<pid>/mountstats`; built in.
    MountStats,
    /// `/proc/sys/kernel/domainname`
    DomainName,
    /// `/proc/meminfo`
    MemInfo,
    /// `/proc/cpuinfo`; built in.
    CpuInfo,
    /// `/proc/stat`; built in.
    SystemStat,
    /// `/proc/uptime`; built in.
    Uptime,
    /// `/proc/loadavg`; built in.
    LoadAvg,
    /// `/proc/version`; built in.
    Version,
    /// `/proc/filesystems`; built in.
    Filesystems,
    /// `/proc/cgroups`; built in.
    Cgroups,
    /// `/proc/sys/kernel/osrelease`; built in.
    OsRelease,
    /// `/proc/sys/kernel/hostname`; built in.
    Hostname,
    /// `/proc/sys/kernel/random/boot_id`; built in.
    BootId,
    /// `/proc/sys/kernel/random/uuid`: a new one each time it is read; built in.
    Uuid,
    /// `/proc/net/unix`: the sockets.
    NetUnix,
    /// `/proc/sysvipc/shm`
    SharedMemory,
    /// `/proc/sysvipc/sem`
    Semaphores,
    /// `/proc/sysvipc/msg`
    MessageQueues,
    /// `/proc/<pid>/syscall`; built in.
    Syscall,
}
