//! The CPU's tables at the entry: the GDT, page tables that map memory to itself, and the registers
//! that lead to them.

use kvm_bindings::{kvm_dtable, kvm_segment, kvm_sregs};

use super::Protocol;
use super::layout::{self, DIRECTORY_SPAN, GDT, IDT, PAGE_TABLES};
use crate::kernel::staged::{StagedError, StagedMemory};
use crate::ram::PAGE_SIZE;
use crate::x86::descriptors::{
    CODE_READ_ACCESSED, DATA_WRITE_ACCESSED, TSS_BYTES, descriptor, flat_segment, task_segment,
};
use crate::x86::flags::{cr0, cr4, efer};
use crate::x86::paging::{ACCESSED, DIRTY, LARGE, LARGE_PAGE, PRESENT, WRITABLE};

/// Selector of the task state segment.
const TSS: u16 = 0x08;
/// `__BOOT_CS` (`arch/x86/include/asm/segment.h`), which the boot protocols name.
const BOOT_CS: u16 = 0x10;
/// `__BOOT_DS`.
const BOOT_DS: u16 = 0x18;
/// The last byte of a TSS without I/O permissions: PVH asks for this limit, and base 0.
const TSS_LIMIT: u32 = TSS_BYTES as u32 - 1;

/// Bytes of the GDT: 4 descriptors.
const GDT_BYTES: usize = 32;
/// Bytes of the IDT. A gate needs 16 in 64-bit mode, so that any exception is a triple fault.
const IDT_BYTES: usize = 8;

const PAGE: u64 = PAGE_SIZE as u64;

/// Writes the tables that `protocol` needs.
///
/// # Errors
/// Memory that is too small for them.
pub fn write(memory: &mut StagedMemory, protocol: Protocol) -> Result<(), StagedError> {
    let mut gdt = [0; GDT_BYTES];
    let descriptors = [task(), code(protocol), data()];
    for (segment, bytes) in descriptors.iter().zip(gdt.chunks_exact_mut(8).skip(1)) {
        bytes.copy_from_slice(&descriptor(segment).to_le_bytes());
    }
    memory.write(GDT, &gdt)?;
    memory.write(IDT, &[0; IDT_BYTES])?;
    match protocol {
        Protocol::Linux64 => write_identity_map(memory),
        Protocol::Pvh => Ok(()),
    }
}

/// Writes page tables that map each address to itself: all of memory, and all of the first GiB.
fn write_identity_map(memory: &mut StagedMemory) -> Result<(), StagedError> {
    let directories = layout::directories(memory.len());
    let level3 = PAGE_TABLES + PAGE;
    // The accessed and dirty bits are set beforehand, so that no walk writes the tables.
    let table = PRESENT | WRITABLE | ACCESSED;
    memory.write(PAGE_TABLES, &(level3 | table).to_le_bytes())?;
    for number in 0..directories {
        let directory = level3 + (1 + number) * PAGE;
        memory.write(level3 + number * 8, &(directory | table).to_le_bytes())?;
        let first = number * DIRECTORY_SPAN;
        let entries = (first..first + DIRECTORY_SPAN).step_by(LARGE_PAGE as usize);
        let bytes: Vec<u8> =
            entries.flat_map(|address| (address | table | DIRTY | LARGE).to_le_bytes()).collect();
        memory.write(directory, &bytes)?;
    }
    Ok(())
}

/// Sets segments, descriptor tables, control registers and EFER for an entry by `protocol`.
///
/// Linux: `Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol". PVH: `docs/misc/pvh.pandoc` of
/// Xen.
pub fn set_system(sregs: &mut kvm_sregs, protocol: Protocol) {
    match protocol {
        Protocol::Linux64 => {
            sregs.cr0 = cr0::PE | cr0::ET | cr0::NE | cr0::WP | cr0::PG;
            sregs.cr3 = PAGE_TABLES;
            sregs.cr4 = cr4::PAE;
            sregs.efer = efer::LME | efer::LMA;
        }
        Protocol::Pvh => {
            sregs.cr0 = cr0::PE | cr0::ET;
            sregs.cr3 = 0;
            sregs.cr4 = 0;
            sregs.efer = 0;
        }
    }
    sregs.cr2 = 0;
    sregs.cs = code(protocol);
    let data = data();
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = task();
    sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
    sregs.gdt = kvm_dtable { base: GDT, limit: GDT_BYTES as u16 - 1, ..Default::default() };
    sregs.idt = kvm_dtable { base: IDT, limit: IDT_BYTES as u16 - 1, ..Default::default() };
}

fn code(protocol: Protocol) -> kvm_segment {
    let long = u8::from(protocol == Protocol::Linux64);
    kvm_segment { l: long, db: 1 - long, ..flat_segment(BOOT_CS, CODE_READ_ACCESSED) }
}

fn data() -> kvm_segment {
    kvm_segment { db: 1, ..flat_segment(BOOT_DS, DATA_WRITE_ACCESSED) }
}

/// The task state segment: KVM wants a busy one, though nothing ever switches a task or a stack by
/// it. In 64-bit mode its descriptor would take the next one's place, too; a guest that wants a TSS
/// has a GDT of its own.
fn task() -> kvm_segment {
    task_segment(TSS, 0, TSS_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(memory: &StagedMemory, gpa: u64) -> u64 {
        let mut bytes = [0; 8];
        memory.read(gpa, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    #[test]
    fn descriptors() {
        assert_eq!(descriptor(&code(Protocol::Linux64)), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(&code(Protocol::Pvh)), 0x00cf_9b00_0000_ffff);
        assert_eq!(descriptor(&data()), 0x00cf_9300_0000_ffff);
        assert_eq!(descriptor(&task()), 0x0000_8b00_0000_0067);
    }

    /// Walks the tables as the CPU does.
    fn translate(memory: &StagedMemory, address: u64) -> Option<u64> {
        let next = |table: u64, shift: u32| {
            let entry = word(memory, table + (address >> shift & 511) * 8);
            (entry & PRESENT != 0).then_some(entry)
        };
        let level4 = next(PAGE_TABLES, 39)?;
        let level3 = next(level4 & !0xfff, 30)?;
        let level2 = next(level3 & !0xfff, 21)?;
        assert_eq!(level2 & 0xfff, PRESENT | WRITABLE | ACCESSED | DIRTY | LARGE);
        Some((level2 & !0x1f_ffff) | (address & 0x1f_ffff))
    }

    #[test]
    fn memory_maps_to_itself() {
        for (size, mapped) in [(2u64 << 20, 1u64 << 30), ((1 << 30) + 4096, 2 << 30), (3 << 30, 3 << 30)] {
            let mut memory = StagedMemory::new(size).unwrap();
            write(&mut memory, Protocol::Linux64).unwrap();
            for address in [0, 0x20_1234, mapped / 2 + 5, mapped - 1] {
                assert_eq!(translate(&memory, address), Some(address), "{size:#x}");
            }
            for address in [mapped, 4 << 30, 1 << 39, 1 << 47] {
                assert_eq!(translate(&memory, address), None, "{size:#x} {address:#x}");
            }
        }
    }

    #[test]
    fn the_gdt_is_that_of_the_registers() {
        for protocol in [Protocol::Linux64, Protocol::Pvh] {
            let mut memory = StagedMemory::new(1 << 20).unwrap();
            write(&mut memory, protocol).unwrap();
            let mut sregs = kvm_sregs { cr0: 0x6000_0010, ..Default::default() };
            set_system(&mut sregs, protocol);
            for segment in [sregs.cs, sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss, sregs.tr] {
                assert_eq!(word(&memory, sregs.gdt.base + u64::from(segment.selector)), descriptor(&segment));
            }
            assert_eq!(word(&memory, sregs.gdt.base), 0);
            assert_eq!((sregs.cs.selector, sregs.ds.selector, sregs.tr.type_), (0x10, 0x18, 11));
        }
    }

    #[test]
    fn modes() {
        let mut sregs = kvm_sregs { cr0: 0x6000_0010, ..Default::default() };
        set_system(&mut sregs, Protocol::Linux64);
        assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x8001_0031, 0x9000, 0x20, 0x500));
        assert_eq!((sregs.cs.l, sregs.cs.db), (1, 0));
        set_system(&mut sregs, Protocol::Pvh);
        assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x11, 0, 0, 0));
        assert_eq!((sregs.cs.l, sregs.cs.db), (0, 1));
    }
}
