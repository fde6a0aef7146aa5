//! The state of a bare-metal guest's machine.

use serde::{Deserialize, Serialize};

use super::devices::DevicesState;
use super::kept::{self, Cpu, Kept};
use super::load::{Loaded, MAX_MEMORY, MIN_MEMORY};
use super::unrepeatable::{self, Found};
use crate::host::CpuIdentity;
use crate::machine::{BadState, MAX_EXITS, Search, expect, first_difference};
use crate::ram::{CHUNK_PAGES, PAGE_SIZE};
use crate::vcpu::CpuState;

/// A bare-metal guest's machine at one moment of its run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KernelState {
    /// The CPU that it ran on.
    pub cpu: CpuIdentity,
    /// The run's seed. Nothing that a bare-metal guest sees follows from it: it is for fault injection.
    pub seed: u64,
    /// The image's name, for people.
    pub name: Vec<u8>,
    /// The command line.
    pub cmdline: Vec<u8>,
    /// Bytes of memory, from address 0 up: whole chunks of 2 MiB.
    pub memory: u64,
    /// The vCPU.
    pub vcpu: CpuState,
    /// The devices.
    pub devices: DevicesState,
    /// Pages that are there before the guest runs, since KVM reads them by itself.
    pub kept: Kept,
    /// Instructions in the image's code whose results no run can repeat.
    pub unrepeatable: Found,
    /// Whether the image unpacks itself, so that most of its code was not looked at for those.
    pub unpacks_itself: bool,
    /// Compared exits so far.
    pub exits: u64,
}

impl KernelState {
    /// The first part, by name, in which another state of the same run differs.
    ///
    /// # Errors
    /// When one cannot be encoded.
    pub fn differs_in(&self, other: &KernelState) -> Result<Option<&'static str>, dejavm_snapshot::Error> {
        Ok(first_difference!(KernelState, self, other, {
            vcpu "the vCPU",
            devices "a device",
            kept "what KVM reads by itself",
            exits "the number of exits",
        }, but { cpu, seed, name, cmdline, memory, unrepeatable, unpacks_itself, }))
    }

    /// The state in which a loaded image is about to be entered, on a machine where KVM reads by itself
    /// what `search` says.
    pub fn start(
        loaded: &Loaded,
        name: Vec<u8>,
        cmdline: Vec<u8>,
        cpu: CpuIdentity,
        search: Search,
    ) -> KernelState {
        let mut sregs = kvm_bindings::kvm_sregs::default();
        loaded.set_system(&mut sregs);
        let pages = loaded.memory.len() / PAGE_SIZE as u64;
        let told = Cpu { regs: &loaded.regs, sregs: &sregs, msrs: &[] };
        let kept = kept::find(&told, &loaded.memory, pages, &loaded.memory.held(), search);
        KernelState {
            cpu,
            seed: 0,
            name,
            cmdline,
            memory: loaded.memory.len(),
            vcpu: CpuState::reset(loaded.regs, sregs),
            devices: DevicesState::default(),
            kept,
            unrepeatable: if loaded.unpacks_itself {
                Found::default()
            } else {
                unrepeatable::search(&loaded.memory, &loaded.code)
            },
            unpacks_itself: loaded.unpacks_itself,
            exits: 0,
        }
    }

    /// Pages of memory.
    pub fn pages(&self) -> u64 {
        self.memory / PAGE_SIZE as u64
    }

    /// Checks what a file claims, as far as the monitor relies on it: what the vCPU is to hold, KVM
    /// checks itself.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn check(&self, snapshot_pages: u64) -> Result<(), BadState> {
        let KernelState {
            cpu,
            // It is for fault injection.
            seed: _,
            // These two are for people.
            name: _,
            cmdline: _,
            memory,
            vcpu,
            devices,
            kept,
            // These two are for people too.
            unrepeatable: _,
            unpacks_itself: _,
            exits,
        } = self;
        expect(cpu.is_valid(), "the CPU")?;
        expect(*exits < MAX_EXITS, "the count of exits")?;
        let aligned = memory.is_multiple_of(PAGE_SIZE as u64 * CHUNK_PAGES);
        expect(aligned && (MIN_MEMORY..=MAX_MEMORY).contains(memory), "memory size")?;
        expect(snapshot_pages <= self.pages(), "pages in the snapshot")?;
        expect(kept.is_valid(self.pages()), "pages that are kept")?;
        expect(vcpu.is_valid(), "the vCPU")?;
        expect(devices.is_valid(), "devices")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::load::{Boot, load};
    use crate::ram::PageSource;

    fn state() -> KernelState {
        // `hlt` at 1 MiB, and nothing else.
        let image = crate::kernel::load::testing::small_elf();
        let boot = Boot {
            image: &image,
            initrd: None,
            cmdline: b"words",
            memory: 16 << 20,
            protocol: None,
            unpack: false,
        };
        let loaded = load(&boot).expect("an image");
        assert!(loaded.memory.has_content(9).expect("in memory"), "its page tables");
        let cpu = CpuIdentity { vendor: String::new(), signature: 0, features: [0; 6], xcr0: 1 };
        KernelState::start(&loaded, b"name".to_vec(), b"words".to_vec(), cpu, Search::Shadow)
    }

    #[test]
    fn a_start_keeps_the_tables_that_it_is_entered_with() {
        let state = state();
        assert!(state.check(0).is_ok());
        let tables = [9, 10, 11];
        assert!(tables.iter().all(|page| state.kept.contains(*page)), "{:?}", state.kept);
        assert!(state.kept.contains(0), "the GDT");
        assert!(!state.kept.contains(256), "the code comes when it is run");
    }

    #[test]
    fn forged_states_are_refused() {
        let good = state();
        let refused = |forge: &dyn Fn(&mut KernelState)| {
            let mut state = good.clone();
            forge(&mut state);
            assert!(state.check(0).is_err());
        };
        refused(&|state| state.memory = 0);
        refused(&|state| state.memory += 4096);
        refused(&|state| state.memory = MAX_MEMORY + (2 << 20));
        refused(&|state| state.memory = 1 << 60);
        // It keeps pages beyond a memory that has shrunk.
        refused(&|state| {
            state.kept = kept::find(
                &Cpu {
                    regs: &state.vcpu.regs,
                    sregs: &state.vcpu.sregs,
                    msrs: &[(0x4b56_4d01, 8 << 20 | 1)],
                },
                &crate::kernel::staged::StagedMemory::new(state.memory).expect("memory"),
                state.memory / PAGE_SIZE as u64,
                &[],
                Search::Hardware,
            );
            assert!(state.kept.contains(2048));
            state.memory = MIN_MEMORY;
        });
        assert!(good.check(good.pages()).is_ok());
        assert!(good.check(good.pages() + 1).is_err(), "a snapshot larger than memory");
    }
}
