//! Small images, built byte by byte.

/// A program header and its bytes.
#[derive(Clone, Debug)]
pub struct Program {
    /// `p_type`.
    pub kind: u32,
    /// `p_flags`.
    pub flags: u32,
    /// `p_paddr`.
    pub address: u64,
    /// `p_memsz`.
    pub memory: u64,
    /// `p_align`.
    pub align: u64,
    /// What is at `p_offset`: `p_filesz` bytes.
    pub bytes: Vec<u8>,
}

/// Offset of the program headers in images of [`elf`].
pub const PROGRAM_HEADERS: usize = 64;
/// Bytes of one.
pub const PROGRAM_HEADER: usize = 56;

/// Code of `len` bytes, none of them 0.
pub fn code(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251 + 1) as u8).collect()
}

/// A loadable segment: `bytes`, and zeros up to `memory` bytes.
pub fn segment(flags: u32, address: u64, memory: u64, bytes: Vec<u8>) -> Program {
    Program { kind: 1, flags, address, memory, align: 0x1000, bytes }
}

/// A note segment.
pub fn note_segment(bytes: Vec<u8>) -> Program {
    Program { kind: 4, flags: 4, address: 0, memory: bytes.len() as u64, align: 4, bytes }
}

/// A note with 4-byte alignment.
pub fn note(name: &[u8], kind: u32, descriptor: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [name.len() as u32, descriptor.len() as u32, kind] {
        bytes.extend(word.to_le_bytes());
    }
    for field in [name, descriptor] {
        bytes.extend(field);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// The note of a PVH entry.
pub fn pvh_note(entry: u32) -> Vec<u8> {
    note(b"Xen\0", 18, &entry.to_le_bytes())
}

/// An ELF64 x86-64 image of `ET_EXEC`.
pub fn elf(entry: u64, programs: &[Program]) -> Vec<u8> {
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    for half in [2u16, 62] {
        image.extend(half.to_le_bytes());
    }
    image.extend(1u32.to_le_bytes());
    for word in [entry, PROGRAM_HEADERS as u64, 0] {
        image.extend(word.to_le_bytes());
    }
    image.extend(0u32.to_le_bytes());
    for half in [64, PROGRAM_HEADER as u16, programs.len() as u16, 64, 0, 0] {
        image.extend(half.to_le_bytes());
    }
    assert_eq!(image.len(), PROGRAM_HEADERS);
    let mut offset = PROGRAM_HEADERS + programs.len() * PROGRAM_HEADER;
    for program in programs {
        image.extend(program.kind.to_le_bytes());
        image.extend(program.flags.to_le_bytes());
        let size = program.bytes.len() as u64;
        let virtual_address = program.address | 0xffff_ffff_8000_0000;
        for word in [offset as u64, virtual_address, program.address, size, program.memory, program.align] {
            image.extend(word.to_le_bytes());
        }
        offset += program.bytes.len();
    }
    programs.iter().for_each(|program| image.extend(&program.bytes));
    image
}

/// A kernel with code and data at 1 MiB, like many.
pub fn small_elf() -> Vec<u8> {
    elf(0x10_0010, &small_programs())
}

/// Its segments.
pub fn small_programs() -> Vec<Program> {
    vec![segment(5, 0x10_0000, 0x1800, code(0x1800)), segment(6, 0x10_2000, 0x3000, code(0x1234))]
}

/// Its segments, and the note of a PVH entry.
pub fn small_pvh_elf() -> Vec<u8> {
    let mut programs = small_programs();
    programs.push(note_segment([note(b"GNU\0", 3, &[7; 20]), pvh_note(0x10_0020)].concat()));
    elf(0x10_0010, &programs)
}

/// A bzImage to be changed.
#[derive(Clone, Debug)]
pub struct BzImageFile {
    /// `setup_sects`.
    pub setup_sects: u8,
    /// The protected-mode kernel.
    pub kernel: Vec<u8>,
    /// `pref_address`.
    pub address: u64,
    /// `init_size`.
    pub init_size: u32,
    /// `payload_offset`.
    pub payload_offset: u32,
    /// `payload_length`.
    pub payload_length: u32,
}

impl BzImageFile {
    /// One of the boot protocol 2.15 that wants 1 MiB at 2 MiB, with a kernel of 16 KiB that has no
    /// payload.
    pub fn small() -> BzImageFile {
        BzImageFile {
            setup_sects: 3,
            kernel: code(0x4000),
            address: 0x20_0000,
            init_size: 0x10_0000,
            payload_offset: 0,
            payload_length: 0,
        }
    }

    /// The same with `payload` at offset 0x300 of the kernel.
    pub fn packed(payload: &[u8]) -> BzImageFile {
        let mut kernel = code(0x300);
        kernel.extend(payload);
        kernel.resize(kernel.len().next_multiple_of(16), 0);
        BzImageFile {
            init_size: (kernel.len() as u32).max(0x10_0000),
            kernel,
            payload_offset: 0x300,
            payload_length: payload.len() as u32,
            ..BzImageFile::small()
        }
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let mut image = vec![0; (usize::from(self.setup_sects) + 1) * 512];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x1f1, &[self.setup_sects]);
        put(0x1f4, &(self.kernel.len() as u32 / 16).to_le_bytes());
        put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
        put(0x202, b"HdrS\x0f\x02");
        put(0x211, &[1]);
        put(0x214, &0x10_0000u32.to_le_bytes());
        put(0x22c, &0x7fff_ffffu32.to_le_bytes());
        put(0x230, &0x20_0000u32.to_le_bytes());
        put(0x234, &[1, 21, 1, 0]);
        put(0x238, &2047u32.to_le_bytes());
        put(0x248, &self.payload_offset.to_le_bytes());
        put(0x24c, &self.payload_length.to_le_bytes());
        put(0x258, &self.address.to_le_bytes());
        put(0x260, &self.init_size.to_le_bytes());
        // The code behind the header.
        put(0x26c, &[0xcc; 16]);
        image.extend(&self.kernel);
        image
    }
}

/// LZ4's legacy format, as the kernel's build makes it: with the unpacked size behind.
pub fn lz4_legacy(data: &[u8]) -> Vec<u8> {
    let mut packed = 0x184c_2102u32.to_le_bytes().to_vec();
    for block in data.chunks(8 << 20) {
        let block = lz4_flex::block::compress(block);
        packed.extend((block.len() as u32).to_le_bytes());
        packed.extend(block);
    }
    packed.extend((data.len() as u32).to_le_bytes());
    packed
}

/// A zstd frame, with the unpacked size behind.
pub fn zstd(data: &[u8]) -> Vec<u8> {
    let mut packed = zstd::bulk::compress(data, 3).unwrap();
    packed.extend((data.len() as u32).to_le_bytes());
    packed
}

/// `image` with `bytes` at `at`.
pub fn with(mut image: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    image[at..at + bytes.len()].copy_from_slice(bytes);
    image
}
