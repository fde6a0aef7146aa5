//! The host, probed once.

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
}

impl Host {
    /// Finds out what the host can do, by running a tiny guest.
    ///
    /// # Errors
    /// [`Error::Host`] when no sandbox can run here: no `/dev/kvm`, no permission, a KVM too old.
    pub fn probe() -> Result<Host, Error> {
        Ok(HostProfile::probe()?.into())
    }

    /// Everything that was found out.
    pub fn profile(&self) -> &Arc<HostProfile> {
        &self.profile
    }

    /// What [`View::system`](crate::View::system) shows of it.
    pub(crate) fn system(&self) -> &SystemGrants {
        &self.system
    }
}

impl From<Arc<HostProfile>> for Host {
    fn from(profile: Arc<HostProfile>) -> Host {
        Host { profile, system: Arc::default() }
    }
}
