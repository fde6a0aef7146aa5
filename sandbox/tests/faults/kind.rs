//! What kind of host this is, by what was tried.

use std::sync::Arc;

use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::vcpu::Exit;
use iced_x86::code_asm::*;

use crate::guest::{DATA, Guest, at, exit};
use crate::rows::DONE;
use crate::run::{There, run};

/// Traits that decide what KVM does with absent pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// KVM walks the guest's page tables itself.
    pub shadow: bool,
    /// Code of CPL 0 is emulated.
    pub emulated: bool,
    /// Poison markers work.
    pub poison: bool,
}

impl Kind {
    /// Finds out.
    pub fn of(host: &Arc<HostProfile>) -> Kind {
        let guest = Guest::kernel(|a| {
            a.mov(rax, qword_ptr(at(DATA)))?;
            exit(a, DONE)
        });
        let outcome = run(host, guest, There::AllBut(&[DATA]), None);
        Kind {
            shadow: host.bare_metal().expect("a host that was probed").shadow_paging,
            emulated: outcome.raw.iter().any(|exit| matches!(exit, Exit::MmioRead { .. })),
            poison: host.poison,
        }
    }

    /// Its name: the traits.
    pub fn name(self) -> String {
        let paging = if self.shadow { "shadow paging" } else { "two-dimensional paging" };
        let kernel = if self.emulated { "CPL 0 emulated" } else { "CPL 0 run by the CPU" };
        let marks = if self.poison { "poison markers" } else { "no poison markers" };
        format!("{paging}, {kernel}, {marks}")
    }
}
