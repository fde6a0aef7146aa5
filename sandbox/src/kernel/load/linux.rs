//! What a kernel is told by Linux's boot protocol: `struct boot_params`, the "zero page"
//! (`Documentation/arch/x86/zero-page.rst`, `boot.rst`).

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};

use super::bzimage::BOOT_FLAG;
use super::layout::{self, COMMAND_LINE};
use super::{Told, map_type};

/// `header`: "HdrS".
const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
/// `type_of_loader` of those without a number.
const UNDEFINED_LOADER: u8 = 0xff;
/// `kernel_alignment` for kernels without a setup header: `CONFIG_PHYSICAL_ALIGN`, at most.
const ALIGNMENT: u32 = 0x100_0000;

/// The parameters for a guest with `memory` bytes. `header` is its own setup header, if it has one.
pub fn parameters(header: Option<setup_header>, told: &Told, memory: u64) -> boot_params {
    let header = header.unwrap_or(setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        kernel_alignment: ALIGNMENT,
        // Nothing says what it can take: some guests take this for the length.
        cmdline_size: told.command_line,
        ..Default::default()
    });
    let mut parameters = boot_params { hdr: header, ..Default::default() };
    // All addresses are below 4 GiB, as all memory is.
    let header = &mut parameters.hdr;
    header.type_of_loader = UNDEFINED_LOADER;
    header.cmd_line_ptr = COMMAND_LINE as u32;
    header.setup_data = 0;
    let (start, size) =
        told.initrd.as_ref().map_or((0, 0), |initrd| (initrd.start, initrd.end - initrd.start));
    header.ramdisk_image = start as u32;
    header.ramdisk_size = size as u32;
    let map = layout::memory_map(memory);
    parameters.e820_entries = map.len() as u8;
    for (index, entry) in map.into_iter().enumerate() {
        parameters.e820_table[index] =
            boot_e820_entry { addr: entry.address, size: entry.size, r#type: map_type(&entry) };
    }
    parameters
}
