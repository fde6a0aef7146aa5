//! What is wrong with an image, or with how it is to be loaded.

use linux_loader::loader::Error as LoaderError;

use super::Protocol;
use super::image::Compression;
use crate::kernel::staged::StagedError;

/// Why a guest cannot be loaded. Addresses are guest-physical; sizes are bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Memory that no guest can have.
    #[error(
        "a guest's memory of {bytes:#x} bytes: use a multiple of 4 KiB from {:#x} (2 MiB) to {:#x} (3 GiB)",
        super::MIN_MEMORY,
        super::MAX_MEMORY
    )]
    Memory {
        /// The size.
        bytes: u64,
    },
    /// A command line that would end in its middle.
    #[error("the command line has a NUL at byte {at}: remove it")]
    CommandLineNul {
        /// Its offset.
        at: usize,
    },
    /// A command line that the guest would cut off.
    #[error("the command line has {len} bytes, and this guest takes {max}: shorten it")]
    CommandLineLong {
        /// Its length.
        len: usize,
        /// The most that the guest takes.
        max: usize,
    },
    /// No place for the initrd.
    #[error(
        "no room for an initrd of {len:#x} bytes below {limit:#x}, beside the kernel: give the guest more \
         memory"
    )]
    Initrd {
        /// Its length.
        len: u64,
        /// Below what it must end.
        limit: u64,
    },

    /// An image without a byte.
    #[error("the image is empty")]
    Empty,
    /// An image that is something else.
    #[error("the image is {found}: give an ELF64 x86-64 image or a bzImage")]
    NotAKernel {
        /// What it looks like.
        found: String,
    },
    /// PVH was asked for, and the image has no such entry.
    #[error(
        "{image} has no PVH entry (an ELF note \"Xen\" of type 18): leave the protocol open, or use Linux's"
    )]
    NoPvhEntry {
        /// What it is.
        image: &'static str,
    },

    /// An ELF file that ends in its header.
    #[error("the ELF header is cut off: the file has {len} bytes of 64")]
    ElfShort {
        /// The file's length.
        len: usize,
    },
    /// Not 64-bit.
    #[error("the image is {}: give an ELF64 x86-64 image", class_name(*.class))]
    ElfClass {
        /// `EI_CLASS`.
        class: u8,
    },
    /// Not little-endian.
    #[error("the image is {}: give one for x86-64", byte_order_name(*.data))]
    ElfByteOrder {
        /// `EI_DATA`.
        data: u8,
    },
    /// For another machine.
    #[error("the ELF file is for machine {machine}, not for x86-64 (62)")]
    ElfMachine {
        /// `e_machine`.
        machine: u16,
    },
    /// Not executable.
    #[error("the ELF file has type {kind}, which is not executable: link it (types 2 and 3 can be loaded)")]
    ElfType {
        /// `e_type`.
        kind: u16,
    },
    /// Headers of a size that ELF64 does not have.
    #[error("the ELF file's {what} is {size}, not {expected}")]
    ElfHeaderSize {
        /// The field.
        what: &'static str,
        /// Its value.
        size: u16,
        /// What ELF64 has there.
        expected: u16,
    },
    /// Too many program headers.
    #[error("the ELF file has {count} program headers: at most {max} can be loaded")]
    ProgramHeaderCount {
        /// `e_phnum`.
        count: u16,
        /// The most.
        max: u16,
    },
    /// Program headers that are not in the file, or in its header.
    #[error(
        "the ELF file's {count} program headers at offset {offset:#x} are outside the file of {len:#x} \
         bytes, or in its header"
    )]
    ProgramHeaders {
        /// `e_phoff`.
        offset: u64,
        /// `e_phnum`.
        count: u16,
        /// The file's length.
        len: u64,
    },
    /// Nothing to load.
    #[error("the ELF file has no segment to load")]
    NoSegments,
    /// A segment's bytes are not in the file.
    #[error(
        "the ELF file's segment {index} has {size:#x} bytes at offset {offset:#x}, and the file {len:#x}"
    )]
    SegmentFile {
        /// Number of its program header.
        index: usize,
        /// `p_offset`.
        offset: u64,
        /// `p_filesz`.
        size: u64,
        /// The file's length.
        len: u64,
    },
    /// A segment with more bytes in the file than in memory.
    #[error(
        "the ELF file's segment {index} has {file_size:#x} bytes in the file, but {memory_size:#x} in memory"
    )]
    SegmentSize {
        /// Number of its program header.
        index: usize,
        /// `p_filesz`.
        file_size: u64,
        /// `p_memsz`.
        memory_size: u64,
    },
    /// A segment that does not lie in memory.
    #[error(
        "the ELF file's segment {index} of {size:#x} bytes at {address:#x} is outside the guest's memory of \
         {memory:#x}: give more memory, or link it lower"
    )]
    SegmentOutside {
        /// Number of its program header.
        index: usize,
        /// `p_paddr`.
        address: u64,
        /// `p_memsz`.
        size: u64,
        /// Bytes of memory.
        memory: u64,
    },
    /// Two segments in one place.
    #[error("the ELF file's segments {first} (up to {end:#x}) and {second} (from {start:#x}) overlap")]
    SegmentsOverlap {
        /// Number of the lower one's program header.
        first: usize,
        /// Where it ends.
        end: u64,
        /// Number of the other one's.
        second: usize,
        /// Where that starts.
        start: u64,
    },
    /// An entry point that is no code.
    #[error(
        "the {protocol:?} entry at {entry:#x} is in no executable segment: it must be a physical address in \
         one"
    )]
    Entry {
        /// The protocol whose entry it is.
        protocol: Protocol,
        /// The entry point.
        entry: u64,
    },
    /// A note segment larger than any that is known.
    #[error("the ELF file's note segment {index} has {size:#x} bytes: at most {max:#x} are read")]
    NotesSize {
        /// Number of its program header.
        index: usize,
        /// `p_filesz`.
        size: u64,
        /// The most.
        max: u64,
    },
    /// A note that reaches out of its segment.
    #[error(
        "the ELF file's note segment {index} has a note at offset {at:#x} that its {size:#x} bytes cut off"
    )]
    NoteCut {
        /// Number of its program header.
        index: usize,
        /// The note's offset in the segment.
        at: usize,
        /// The segment's size.
        size: usize,
    },
    /// A PVH note that holds no address.
    #[error("the ELF file's PVH note has {size} bytes: an address has 4 or 8")]
    PvhNote {
        /// `n_descsz`.
        size: usize,
    },
    /// What is loaded would lie where the monitor puts something.
    #[error(
        "the image's bytes {start:#x} to {end:#x} lie on {what} ({boot_start:#x} to {boot_end:#x}): link it \
         elsewhere, best from 1 MiB up"
    )]
    BootArea {
        /// Where the part of the image starts.
        start: u64,
        /// Where it ends.
        end: u64,
        /// What is there.
        what: &'static str,
        /// Where that starts.
        boot_start: u64,
        /// Where it ends.
        boot_end: u64,
    },

    /// A bzImage that ends in its setup header.
    #[error("the bzImage is cut off in its setup header: it has {len:#x} bytes of {needed:#x}")]
    SetupShort {
        /// The file's length.
        len: usize,
        /// Where the header ends.
        needed: usize,
    },
    /// The mark of a boot sector is missing.
    #[error("the bzImage's boot flag is {flag:#06x}, not 0xaa55")]
    BootFlag {
        /// `boot_flag`.
        flag: u16,
    },
    /// Too old to have a 64-bit entry.
    #[error(
        "the bzImage has boot protocol {}.{}: at least 2.12 (Linux 3.8) is needed",
        .version >> 8, .version & 0xff
    )]
    BootProtocol {
        /// `version`.
        version: u16,
    },
    /// A setup header without the fields of its version.
    #[error(
        "the bzImage's setup header ends at {end:#x}, before its fields of boot protocol 2.12 do at \
         {needed:#x}"
    )]
    SetupHeaderEnd {
        /// Where it says that it ends.
        end: usize,
        /// Where the needed fields end.
        needed: usize,
    },
    /// A zImage.
    #[error("the kernel is a zImage for low memory (loadflags {loadflags:#x}): only bzImages can be loaded")]
    LoadedLow {
        /// `loadflags`.
        loadflags: u8,
    },
    /// A 32-bit kernel.
    #[error("the bzImage has no 64-bit entry (xloadflags {xloadflags:#x}): give an x86-64 kernel")]
    Not64Bit {
        /// `xloadflags`.
        xloadflags: u16,
    },
    /// Setup sectors that are not in the file.
    #[error("the bzImage's setup code of {sectors} sectors fills its {len:#x} bytes: the file is cut off")]
    SetupSectors {
        /// Sectors of 512 bytes, with the boot sector.
        sectors: u64,
        /// The file's length.
        len: u64,
    },
    /// A protected-mode kernel that is not in the file.
    #[error("the bzImage's kernel of {size:#x} bytes (syssize) is cut off: {present:#x} are in the file")]
    KernelCut {
        /// What `syssize` says.
        size: u64,
        /// What is in the file.
        present: u64,
    },
    /// A protected-mode kernel that ends before its entry.
    #[error("the bzImage's kernel of {size:#x} bytes (syssize) ends before its entry at {entry:#x}")]
    KernelShort {
        /// What `syssize` says.
        size: u64,
        /// Offset of the entry.
        entry: u64,
    },
    /// A kernel that says it needs less memory than it has bytes.
    #[error(
        "the bzImage says that it needs {init_size:#x} bytes of memory (init_size), but has {size:#x} itself"
    )]
    InitSize {
        /// `init_size`.
        init_size: u64,
        /// What `syssize` says.
        size: u64,
    },
    /// An alignment that is none.
    #[error("the bzImage's kernel_alignment is {alignment:#x}, which is no power of two from 4 KiB up")]
    Alignment {
        /// `kernel_alignment`.
        alignment: u32,
    },
    /// A kernel that does not fit into memory.
    #[error(
        "the bzImage needs memory from {start:#x} to {end:#x}, and the guest has {memory:#x}: give it more"
    )]
    KernelOutside {
        /// Where it is loaded.
        start: u64,
        /// Where the memory ends that it needs at first.
        end: u64,
        /// Bytes of memory.
        memory: u64,
    },

    /// A bzImage that does not say where its payload is.
    #[error("the bzImage does not say where its compressed kernel is: load it as it is, without unpacking")]
    NoPayload,
    /// A payload that is not in the kernel.
    #[error(
        "the bzImage's payload of {len:#x} bytes at offset {offset:#x} is outside its kernel of {size:#x}"
    )]
    Payload {
        /// `payload_offset`.
        offset: u64,
        /// `payload_length`.
        len: u64,
        /// Bytes of the protected-mode kernel.
        size: u64,
    },
    /// A compression that is not unpacked here.
    #[error(
        "the bzImage's kernel is compressed by {compression}, and only LZ4 and zstd are unpacked here: \
         unpack it by scripts/extract-vmlinux of the kernel sources, or load it as it is"
    )]
    Compression {
        /// How it is compressed.
        compression: Compression,
    },
    /// No compression that is known.
    #[error("the bzImage's payload starts with {first:02x?}, which is no known compression")]
    CompressionUnknown {
        /// Its first bytes.
        first: Vec<u8>,
    },
    /// A damaged payload.
    #[error("the bzImage's {compression} payload is damaged: {reason}")]
    PayloadDamaged {
        /// How it is compressed.
        compression: Compression,
        /// What the decompressor said, and where if that is known.
        reason: String,
    },
    /// A payload that becomes too large.
    #[error("the bzImage's payload unpacks to more than {max:#x} bytes")]
    UnpackedLarge {
        /// The most.
        max: usize,
    },
    /// A payload of another length than it says.
    #[error("the bzImage's payload says that it unpacks to {claimed:#x} bytes, and gives {size:#x}")]
    UnpackedSize {
        /// What its last bytes say.
        claimed: u64,
        /// What came out.
        size: u64,
    },
    /// Something other than a kernel inside.
    #[error("what the bzImage unpacks to is no ELF file (it starts with {first:02x?}): load it as it is")]
    UnpackedNotElf {
        /// Its first bytes.
        first: Vec<u8>,
    },

    /// The host, or an access that the checks should not have let through.
    #[error(transparent)]
    Staged(#[from] StagedError),
    /// linux-loader refuses what the checks let through.
    #[error("loading the image: {0}")]
    Loader(#[from] LoaderError),
}

fn class_name(class: u8) -> String {
    match class {
        1 => "an ELF32 file".into(),
        class => format!("an ELF file of unknown class {class}"),
    }
}

fn byte_order_name(data: u8) -> String {
    match data {
        2 => "a big-endian ELF file".into(),
        data => format!("an ELF file of unknown byte order {data}"),
    }
}
