//! From a kernel's file to memory and registers before its first instruction.
//!
//! [`image`] says what the file is, [`elf`] and [`bzimage`] check all of it that the guest's memory
//! depends on, and only then anything is allocated and linux-loader run. [`layout`] has the addresses;
//! [`linux`], [`pvh`] and [`tables`] write what the guest finds there.

pub mod bzimage;
pub mod elf;
mod error;
pub mod image;
pub mod layout;
pub mod linux;
pub mod notes;
pub mod pvh;
pub mod tables;
#[cfg(test)]
pub(in crate::kernel) mod testing;
#[cfg(test)]
mod tests;
pub mod unpack;

use std::ops::Range;

use kvm_bindings::{kvm_regs, kvm_sregs};
use linux_loader::loader::bootparam::setup_header;
use serde::{Deserialize, Serialize};
use vm_memory::ByteValued;

use super::staged::StagedMemory;
use crate::ram::PAGE_SIZE;
use crate::x86::flags::rflags;
use bzimage::BzImage;
use elf::ElfImage;
pub use error::LoadError;
use image::Kind;
use layout::{BOOT_PARAMS, COMMAND_LINE, MapEntry, STACK_POINTER, START_INFO};

/// The most memory of a guest, bytes: what lies below the devices of a PC, in one piece.
pub const MAX_MEMORY: u64 = 3 << 30;
/// The least memory of a guest, bytes.
pub const MIN_MEMORY: u64 = 2 << 20;
/// The longest command line, bytes: with its NUL it has the `COMMAND_LINE_SIZE` of Linux
/// (`arch/x86/include/asm/setup.h`), which cuts off longer ones.
pub const MAX_COMMAND_LINE: usize = 2047;

/// Types of memory-map entries, the same in e820 (`arch/x86/include/asm/e820/types.h`) and PVH.
const MAP_USABLE: u32 = 1;
const MAP_RESERVED: u32 = 2;

/// How the guest is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// The Linux 64-bit boot protocol, also for any ELF64 image.
    Linux64,
    /// PVH: 32-bit protected mode without paging.
    Pvh,
}

/// What is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// The kernel: an ELF64 image or a bzImage.
    pub image: &'a [u8],
    /// The initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// The command line, without a NUL: at most [`MAX_COMMAND_LINE`] bytes.
    pub cmdline: &'a [u8],
    /// Memory, bytes: [`MIN_MEMORY`] to [`MAX_MEMORY`], in whole pages.
    pub memory: u64,
    /// How to enter it. `None` is PVH where an ELF image carries its note, else Linux64.
    pub protocol: Option<Protocol>,
    /// Load the ELF image inside a bzImage instead of the bzImage. ELF images are loaded either way.
    pub unpack: bool,
}

/// A guest before its first instruction.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// Its memory.
    pub memory: StagedMemory,
    /// How it is entered.
    pub protocol: Protocol,
    /// Its general registers.
    pub regs: kvm_regs,
    /// Guest-physical addresses that hold code: the executable segments of an ELF image, or the
    /// protected-mode kernel of a bzImage. Ascending.
    pub code: Vec<Range<u64>>,
    /// Guest-physical addresses of the initrd.
    pub initrd: Option<Range<u64>>,
    /// Whether the image unpacks itself: `code` is what does it then, with what it unpacks.
    pub unpacks_itself: bool,
}

impl Loaded {
    /// Fills in segments, descriptor tables, control registers and EFER of a vCPU fresh from KVM.
    pub fn set_system(&self, sregs: &mut kvm_sregs) {
        tables::set_system(sregs, self.protocol);
    }
}

/// What the guest is told beside the memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Guest-physical addresses of the initrd.
    pub initrd: Option<Range<u64>>,
    /// Bytes of the command line.
    pub command_line: u32,
}

/// A checked kernel, of either kind.
struct Kernel<'a> {
    file: File<'a>,
    protocol: Protocol,
    entry: u64,
    code: Vec<Range<u64>>,
    /// All addresses that are its own.
    taken: Vec<Range<u64>>,
    /// Below what the initrd must end.
    initrd_limit: u64,
    /// Bytes of the longest command line that it takes.
    max_command_line: usize,
}

enum File<'a> {
    Elf(ElfImage<'a>),
    BzImage(BzImage<'a>),
}

/// Loads a guest. The image is not trusted: every number in it is checked.
///
/// # Errors
/// What is wrong with the image, or with how it is to be loaded: see [`LoadError`].
pub fn load(boot: &Boot<'_>) -> Result<Loaded, LoadError> {
    if !(MIN_MEMORY..=MAX_MEMORY).contains(&boot.memory) || !boot.memory.is_multiple_of(PAGE_SIZE as u64) {
        return Err(LoadError::Memory { bytes: boot.memory });
    }
    match image::identify(boot.image)? {
        Kind::Elf => stage(boot, Kernel::elf(boot, boot.image)?),
        Kind::BzImage => {
            let image = BzImage::parse(boot.image)?;
            if boot.unpack {
                return stage(boot, Kernel::elf(boot, &unpack::unpack(&image)?)?);
            }
            stage(boot, Kernel::bzimage(boot, image)?)
        }
    }
}

impl Kernel<'_> {
    fn elf<'a>(boot: &Boot<'_>, image: &'a [u8]) -> Result<Kernel<'a>, LoadError> {
        let image = ElfImage::parse(image, boot.memory)?;
        let (protocol, entry) = image.entry(boot.protocol)?;
        Ok(Kernel {
            protocol,
            entry,
            code: image.code().collect(),
            taken: image.segments.iter().map(|segment| segment.memory.clone()).collect(),
            initrd_limit: boot.memory,
            max_command_line: MAX_COMMAND_LINE,
            file: File::Elf(image),
        })
    }

    fn bzimage<'a>(boot: &Boot<'_>, image: BzImage<'a>) -> Result<Kernel<'a>, LoadError> {
        if boot.protocol == Some(Protocol::Pvh) {
            return Err(LoadError::NoPvhEntry { image: "the bzImage" });
        }
        Ok(Kernel {
            protocol: Protocol::Linux64,
            entry: image.entry(),
            taken: vec![image.needs(boot.memory)?],
            code: vec![image.code()],
            initrd_limit: image.initrd_limit(boot.memory),
            max_command_line: MAX_COMMAND_LINE.min(image.header.cmdline_size as usize),
            file: File::BzImage(image),
        })
    }

    /// The setup header, with what linux-loader would change in it.
    fn header(&self) -> Option<setup_header> {
        match &self.file {
            File::Elf(_) => None,
            File::BzImage(image) => {
                // Below 4 GiB, as all memory is.
                let code32_start = image.code().start as u32;
                Some(setup_header { code32_start, ..image.header })
            }
        }
    }
}

/// Checks what is left, and only then makes the guest's memory and fills it.
fn stage(boot: &Boot<'_>, kernel: Kernel<'_>) -> Result<Loaded, LoadError> {
    let boot_area = layout::boot_area(kernel.protocol, boot.memory);
    for range in &kernel.taken {
        layout::check_clear(range, &boot_area)?;
    }
    let command_line = command_line(boot.cmdline, kernel.max_command_line)?;
    let initrd = boot.initrd.filter(|initrd| !initrd.is_empty());
    let initrd = match initrd {
        Some(bytes) => Some((place_initrd(bytes, &kernel)?, bytes)),
        None => None,
    };

    let mut memory = StagedMemory::new(boot.memory)?;
    match &kernel.file {
        File::Elf(image) => image.load(&mut memory)?,
        File::BzImage(image) => image.load(&mut memory)?,
    }
    if let Some((range, bytes)) = &initrd {
        memory.write(range.start, bytes)?;
    }
    memory.write(COMMAND_LINE, &command_line)?;
    let told = Told {
        initrd: initrd.map(|(range, _)| range),
        // A few thousand, by the check.
        command_line: boot.cmdline.len() as u32,
    };
    tables::write(&mut memory, kernel.protocol)?;
    let mut regs = kvm_regs { rip: kernel.entry, rflags: rflags::FIXED, ..Default::default() };
    match kernel.protocol {
        Protocol::Linux64 => {
            let parameters = linux::parameters(kernel.header(), &told, boot.memory);
            memory.write(BOOT_PARAMS, parameters.as_slice())?;
            (regs.rsi, regs.rsp) = (BOOT_PARAMS, STACK_POINTER);
        }
        Protocol::Pvh => {
            memory.write(START_INFO, &pvh::start_info(&told, boot.memory))?;
            regs.rbx = START_INFO;
        }
    }
    Ok(Loaded {
        memory,
        protocol: kernel.protocol,
        regs,
        code: kernel.code,
        initrd: told.initrd,
        unpacks_itself: matches!(kernel.file, File::BzImage(_)),
    })
}

/// The command line with its NUL.
fn command_line(line: &[u8], max: usize) -> Result<Vec<u8>, LoadError> {
    if let Some(at) = line.iter().position(|byte| *byte == 0) {
        return Err(LoadError::CommandLineNul { at });
    }
    if line.len() > max {
        return Err(LoadError::CommandLineLong { len: line.len(), max });
    }
    Ok([line, &[0]].concat())
}

fn place_initrd(initrd: &[u8], kernel: &Kernel<'_>) -> Result<Range<u64>, LoadError> {
    let (len, limit) = (initrd.len() as u64, kernel.initrd_limit);
    layout::place_high(len, limit, &kernel.taken).ok_or(LoadError::Initrd { len, limit })
}

fn map_type(entry: &MapEntry) -> u32 {
    if entry.usable { MAP_USABLE } else { MAP_RESERVED }
}
