//! The floor: a virtual machine whose memory is resident before the clock starts.
#![allow(unsafe_code)]

use std::sync::Arc;

use dejavm_sandbox::host::thread::BlockedSignals;
use dejavm_sandbox::host::{HostProfile, open_kvm};
use dejavm_sandbox::program::entry;
use dejavm_sandbox::ram::SystemArea;
use dejavm_sandbox::vcpu::{Exit, Vcpu};
use dejavm_sandbox::x86::paging::{PRESENT, USER, WRITABLE};
use kvm_bindings::kvm_userspace_memory_region;

use super::Result;

/// Where the memory is, guest-physical; above the system area.
const BASE: u64 = 1 << 32;
/// Where the code is mapped.
const CODE: u64 = 0x40_0000;
/// `hlt` at CPL 3: an exit at the first instruction, whichever way the host takes it.
const PROGRAM: [u8; 1] = [0xf4];
/// A slot number that the system area does not use.
const SLOT: u32 = 600;

/// Host memory that is resident.
pub struct Resident {
    address: *mut libc::c_void,
    bytes: usize,
}

impl Resident {
    /// Takes and touches `bytes` of memory.
    pub fn new(bytes: usize) -> Result<Resident> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(Resident { address, bytes })
    }

    /// Makes a machine on this memory and runs its first instruction.
    pub fn boot(&self, host: &HostProfile) -> Result<()> {
        let vm = Arc::new(open_kvm()?.create_vm()?);
        let mut vcpu = Vcpu::new(&vm, 0)?;
        let mut system = SystemArea::new(vm.clone());
        let slot = kvm_userspace_memory_region {
            slot: SLOT,
            flags: 0,
            guest_phys_addr: BASE,
            memory_size: self.bytes as u64,
            userspace_addr: self.address as u64,
        };
        // SAFETY: the mapping lives in `self`, longer than the machine, which ends with this call.
        unsafe { vm.set_user_memory_region(slot)? };
        let tables = [system.take_page()?, system.take_page()?, system.take_page()?, system.take_page()?];
        let code = system.take_page()?;
        let link = PRESENT | WRITABLE | USER;
        for (level, pair) in tables.windows(2).enumerate() {
            let index = (CODE >> (39 - 9 * level)) % 512;
            system.write_u64(pair[0] + index * 8, pair[1] | link);
        }
        system.write_u64(tables[3] + (CODE >> 12) % 512 * 8, code | link);
        system.write(code, &PROGRAM);
        vcpu.set_cpuid(&host.cpuid)?;
        vcpu.set_msrs(&entry::LAYOUT.syscall_msrs())?;
        let mut sregs = vcpu.sregs()?;
        entry::LAYOUT.set_user_mode(&mut sregs, tables[0], 0, 0, host.fsgsbase, false);
        vcpu.set_sregs(&sregs)?;
        vcpu.set_xcr0(host.xcr0)?;
        vcpu.regs_mut().rip = CODE;
        vcpu.regs_mut().rflags = 2;
        // The `hlt` faults, and there is no IDT: a shutdown, or what the host makes of it.
        match vcpu.run(&BlockedSignals::new()) {
            Exit::Signal => Err("interrupted".into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` and is given back once.
        unsafe {
            libc::munmap(self.address, self.bytes);
        }
    }
}
