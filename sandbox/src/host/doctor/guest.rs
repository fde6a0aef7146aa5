//! What several groups of probes need to run a guest.

use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;

use super::Host;
use crate::host::HostError;
use crate::host::tiny::{Event, Ring, START, Tiny};

/// Assembles a program that starts at [`START`].
///
/// # Panics
/// When it cannot be assembled: programs are constants.
pub fn assemble(build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let program = || {
        let mut a = CodeAssembler::new(64)?;
        build(&mut a)?;
        a.assemble(START)
    };
    program().expect("programs are constants")
}

impl Host {
    /// A guest with the CPUID table and the components that sandboxes get.
    pub fn tiny(&self) -> Result<Tiny, HostError> {
        Tiny::new(&self.kvm, &self.profile.cpuid, self.profile.xcr0, self.profile.fsgsbase)
    }

    /// A guest with a program, about to start.
    pub fn guest(&self, ring: Ring, code: &[u8]) -> Result<Tiny, HostError> {
        let mut guest = self.tiny()?;
        guest.tables.load(code);
        guest.enter(ring, START, false)?;
        Ok(guest)
    }
}

/// An event that the probe knows nothing to make of.
pub fn strange(what: &str, event: &Event) -> HostError {
    HostError::Guest(format!("{what} gave {event:?}"))
}
