//! The host, probed once.

use std::path::Path;
use std::sync::Arc;

use dejavm_sandbox::host::HostProfile;

use crate::Error;
use crate::view::SystemGrants;

/// What this host's KVM can do. Probing takes about a millisecond: do it once and share the value,
/// which is cheap to clone, among all sandboxes and threads.
#[derive(Clone, Debug)]
pub struct Host {
    profile: Arc<HostProfile>,
    system: Arc<SystemGrants>,
    allocator_reads_no_clock: bool,
}

impl Host {
    /// This host, as if its CPU were of another level: for tests.
    #[cfg(test)]
    pub(crate) fn of_level(&self, level: dejavm_sandbox::x86::processor::Level) -> Host {
        let mut profile = HostProfile::clone(&self.profile);
        profile.level = level;
        Host { profile: Arc::new(profile), ..self.clone() }
    }

    /// Finds out what the host can do, by running a tiny guest.
    ///
    /// # Errors
    /// [`Error::Host`] when no sandbox can run here: no `/dev/kvm`, no permission, a KVM too old.
    pub fn probe() -> Result<Host, Error> {
        Ok(HostProfile::probe()?.into())
    }

    /// As [`Host::probe`], for a process that makes one sandbox and is in a hurry, as the command-line
    /// tool is: what takes a guest to find out is kept in this directory from one process to the next,
    /// as long as kernel and CPU are the same. It should be in the user's runtime directory; what
    /// somebody else could have written is not trusted.
    ///
    /// # Errors
    /// As [`Host::probe`].
    pub fn probe_cached(dir: impl AsRef<Path>) -> Result<Host, Error> {
        Ok(HostProfile::probe_cached(dir.as_ref())?.into())
    }

    /// Everything that was found out.
    pub fn profile(&self) -> &Arc<HostProfile> {
        &self.profile
    }

    /// Says that this process's allocator never reads the CPU's time stamp or a clock, as the C
    /// library's does not and some others do. Where RDTSC can be made to fault in a guest only
    /// together with the thread that runs it, an exit of which nobody outside is told is then cheaper,
    /// by about a fifth; with an allocator that does read a clock, the process would end by `SIGSEGV`.
    #[must_use]
    pub fn with_clock_free_allocator(mut self) -> Host {
        self.allocator_reads_no_clock = true;
        self
    }

    /// See [`Host::with_clock_free_allocator`].
    pub(crate) fn allocator_reads_no_clock(&self) -> bool {
        self.allocator_reads_no_clock
    }

    /// What [`View::system`](crate::View::system) shows of it.
    pub(crate) fn system(&self) -> &SystemGrants {
        &self.system
    }
}

impl From<Arc<HostProfile>> for Host {
    fn from(profile: Arc<HostProfile>) -> Host {
        Host { profile, system: Arc::default(), allocator_reads_no_clock: false }
    }
}
