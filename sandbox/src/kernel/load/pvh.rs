//! What a kernel is told by PVH: `struct hvm_start_info` with its tables
//! (`xen/include/public/arch-x86/hvm/start_info.h`).

use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::ByteValued;

use super::layout::{self, COMMAND_LINE, START_INFO};
use super::{Told, map_type};

/// Offset of the list of modules from [`START_INFO`]: of one, the initrd.
const MODULES: u64 = 0x40;
/// Offset of the memory map.
const MEMORY_MAP: u64 = 0x80;
/// The version that has a memory map.
const VERSION: u32 = 1;

/// The start information for a guest with `memory` bytes, with its tables, for [`START_INFO`].
pub fn start_info(told: &Told, memory: u64) -> Vec<u8> {
    let map = layout::memory_map(memory);
    let mut info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        cmdline_paddr: COMMAND_LINE,
        memmap_paddr: START_INFO + MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    let mut module = hvm_modlist_entry::default();
    if let Some(initrd) = &told.initrd {
        (info.nr_modules, info.modlist_paddr) = (1, START_INFO + MODULES);
        (module.paddr, module.size) = (initrd.start, initrd.end - initrd.start);
    }
    let mut bytes = info.as_slice().to_vec();
    bytes.resize(MODULES as usize, 0);
    bytes.extend(module.as_slice());
    bytes.resize(MEMORY_MAP as usize, 0);
    for entry in &map {
        let entry = hvm_memmap_table_entry {
            addr: entry.address,
            size: entry.size,
            type_: map_type(entry),
            ..Default::default()
        };
        bytes.extend(entry.as_slice());
    }
    bytes
}

const _: () = assert!(size_of::<hvm_start_info>() as u64 <= MODULES);
const _: () = assert!(MODULES + size_of::<hvm_modlist_entry>() as u64 <= MEMORY_MAP);
