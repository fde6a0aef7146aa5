//! Linux kernels as they are installed: setup code, and a kernel that unpacks itself.
//!
//! All constants are those of `Documentation/arch/x86/boot.rst`. The setup code, which is for real
//! mode, is not loaded; its header says what is known of the kernel.

use std::io::Cursor;
use std::ops::Range;

use linux_loader::loader::bootparam::{LOADED_HIGH, XLF_KERNEL_64, setup_header};
use linux_loader::loader::{BzImage as Loader, KernelLoader};
use vm_memory::{ByteValued, GuestAddress};

use super::LoadError;
use crate::kernel::staged::StagedMemory;
use crate::ram::PAGE_SIZE;

/// Where the setup header starts in the file, as in `struct boot_params`.
const HEADER: usize = 0x1f1;
/// Where its fields of protocol 2.15, the last one, end.
const HEADER_END: usize = HEADER + size_of::<setup_header>();
/// What the offset of its end, in the second byte of `jump`, counts from.
const HEADER_END_BASE: usize = 0x202;
/// Where the fields of protocol 2.12 end: those behind `init_size` are of no use here.
const NEEDED_END: usize = 0x264;
/// `boot_flag` of a boot sector.
pub const BOOT_FLAG: u16 = 0xaa55;
/// Protocol 2.12, the first one whose header tells of the 64-bit entry.
const MIN_VERSION: u16 = 0x020c;
/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Setup sectors of kernels that say 0.
const DEFAULT_SECTORS: u64 = 4;
/// The 64-bit entry, from the start of the protected-mode kernel.
const ENTRY: u64 = 0x200;
/// Where kernels are loaded that do not say where: `LOAD_PHYSICAL_ADDR`, as it is by default.
const DEFAULT_ADDRESS: u64 = 0x100_0000;
/// What `syssize` counts in.
const PARAGRAPH: u64 = 16;

/// A checked bzImage.
#[derive(Clone, Debug)]
pub struct BzImage<'a> {
    /// The file to the end of the kernel. Signatures may follow there.
    image: &'a [u8],
    /// The setup header, with zeros for fields that the image does not have.
    pub header: setup_header,
    setup: u64,
}

impl BzImage<'_> {
    /// Checks the setup header of an image that has its magic, and that the kernel is all there.
    ///
    /// # Errors
    /// A variant of [`LoadError`] of its own for each thing that can be wrong.
    pub fn parse(image: &[u8]) -> Result<BzImage<'_>, LoadError> {
        let header = read_header(image)?;
        check_header(&header)?;
        let sectors = match u64::from(header.setup_sects) {
            0 => DEFAULT_SECTORS,
            sectors => sectors,
        };
        let (sectors, len) = (sectors + 1, image.len() as u64);
        let setup = sectors * SECTOR;
        if setup >= len {
            return Err(LoadError::SetupSectors { sectors, len });
        }
        let size = u64::from(header.syssize) * PARAGRAPH;
        if size > len - setup {
            return Err(LoadError::KernelCut { size, present: len - setup });
        }
        if size <= ENTRY {
            return Err(LoadError::KernelShort { size, entry: ENTRY });
        }
        let init_size = u64::from(header.init_size);
        if init_size < size {
            return Err(LoadError::InitSize { init_size, size });
        }
        let image = image.get(..(setup + size) as usize).unwrap_or(image);
        Ok(BzImage { image, header, setup })
    }

    /// The protected-mode kernel.
    pub fn kernel(&self) -> &[u8] {
        self.image.get(self.setup as usize..).unwrap_or_default()
    }

    /// Where the kernel is loaded: where it prefers to be, since there it need not move itself.
    fn address(&self) -> u64 {
        match self.header.pref_address {
            0 => DEFAULT_ADDRESS,
            address => address,
        }
    }

    /// Guest-physical addresses that the kernel needs before it reads its memory map.
    ///
    /// # Errors
    /// [`LoadError::KernelOutside`] where they are not all in `memory` bytes.
    pub fn needs(&self, memory: u64) -> Result<Range<u64>, LoadError> {
        let start = self.address();
        // A kernel that can be anywhere takes the next aligned address from where it was loaded.
        let aligned = match self.header.relocatable_kernel {
            0 => Some(start),
            _ => start.checked_next_multiple_of(u64::from(self.header.kernel_alignment)),
        };
        let end = aligned.and_then(|start| start.checked_add(u64::from(self.header.init_size)));
        match end {
            Some(end) if end <= memory => Ok(start..end),
            end => Err(LoadError::KernelOutside { start, end: end.unwrap_or(u64::MAX), memory }),
        }
    }

    /// Guest-physical addresses of the kernel's code, all that is loaded.
    pub fn code(&self) -> Range<u64> {
        let start = self.address();
        start..start.saturating_add(self.kernel().len() as u64)
    }

    /// Where the kernel is entered in 64-bit mode.
    pub fn entry(&self) -> u64 {
        self.address().saturating_add(ENTRY)
    }

    /// Below what an initrd must end, in `memory` bytes.
    pub fn initrd_limit(&self, memory: u64) -> u64 {
        memory.min(u64::from(self.header.initrd_addr_max) + 1)
    }

    /// Loads the kernel into `memory`.
    ///
    /// # Errors
    /// None that the checks leave over.
    pub fn load(&self, memory: &mut StagedMemory) -> Result<(), LoadError> {
        let code = self.code();
        memory.mark(code.start, code.end - code.start)?;
        Loader::load(memory.memory(), Some(GuestAddress(code.start)), &mut Cursor::new(self.image), None)?;
        Ok(())
    }
}

fn read_header(image: &[u8]) -> Result<setup_header, LoadError> {
    let short = |needed| LoadError::SetupShort { len: image.len(), needed };
    let mut bytes = [0; HEADER_END - HEADER];
    let mut copy = |end: usize| {
        let from = image.get(HEADER..end).ok_or_else(|| short(end))?;
        bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        setup_header::read_exact_from(&bytes[..]).map_err(|_| short(end))
    };
    let end = HEADER_END_BASE + usize::from(copy(NEEDED_END)?.jump >> 8);
    // Without the fields that the image does not have: there is code.
    let header = copy(end.clamp(NEEDED_END, HEADER_END))?;
    match end {
        ..NEEDED_END if header.version >= MIN_VERSION => {
            Err(LoadError::SetupHeaderEnd { end, needed: NEEDED_END })
        }
        _ => Ok(header),
    }
}

fn check_header(header: &setup_header) -> Result<(), LoadError> {
    // Copies: the fields are not aligned.
    let setup_header { boot_flag, version, loadflags, xloadflags, kernel_alignment, .. } = *header;
    if boot_flag != BOOT_FLAG {
        return Err(LoadError::BootFlag { flag: boot_flag });
    }
    if version < MIN_VERSION {
        return Err(LoadError::BootProtocol { version });
    }
    if loadflags & LOADED_HIGH == 0 {
        return Err(LoadError::LoadedLow { loadflags });
    }
    if xloadflags & XLF_KERNEL_64 == 0 {
        return Err(LoadError::Not64Bit { xloadflags });
    }
    if !kernel_alignment.is_power_of_two() || kernel_alignment < PAGE_SIZE as u32 {
        return Err(LoadError::Alignment { alignment: kernel_alignment });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::load::testing::{BzImageFile, code, with};

    const MEMORY: u64 = 16 << 20;

    fn error(at: usize, bytes: &[u8]) -> LoadError {
        BzImage::parse(&with(BzImageFile::small().build(), at, bytes)).unwrap_err()
    }

    #[test]
    fn a_good_image() {
        let bytes = BzImageFile::small().build();
        let image = BzImage::parse(&bytes).unwrap();
        assert_eq!(image.kernel(), code(0x4000));
        assert_eq!(image.code(), 0x20_0000..0x20_4000);
        assert_eq!(image.needs(MEMORY).unwrap(), 0x20_0000..0x30_0000);
        assert_eq!(image.entry(), 0x20_0200);
        assert_eq!(image.initrd_limit(MEMORY), MEMORY);
        let limited = with(bytes, 0x22c, &0x2f_ffffu32.to_le_bytes());
        assert_eq!(BzImage::parse(&limited).unwrap().initrd_limit(MEMORY), 0x30_0000);
    }

    #[test]
    fn a_signature_is_not_loaded() {
        let mut bytes = BzImageFile::small().build();
        bytes.extend([0xaa; 1500]);
        let mut memory = StagedMemory::new(MEMORY).unwrap();
        BzImage::parse(&bytes).unwrap().load(&mut memory).unwrap();
        let mut loaded = vec![0; 0x4004];
        memory.read(0x20_0000, &mut loaded).unwrap();
        assert_eq!(loaded, [code(0x4000), vec![0; 4]].concat());
    }

    #[test]
    fn where_it_is_loaded() {
        let file = BzImageFile { address: 0, ..BzImageFile::small() };
        assert_eq!(BzImage::parse(&file.build()).unwrap().code().start, 0x100_0000);
        // Not where it could run: it moves itself to the next 2 MiB.
        let file = BzImageFile { address: 0x30_0000, ..BzImageFile::small() }.build();
        assert_eq!(BzImage::parse(&file).unwrap().needs(MEMORY).unwrap(), 0x30_0000..0x50_0000);
        let fixed = with(file, 0x234, &[0]);
        assert_eq!(BzImage::parse(&fixed).unwrap().needs(MEMORY).unwrap(), 0x30_0000..0x40_0000);
    }

    #[test]
    fn setup_code_of_four_sectors_by_default() {
        let file = BzImageFile { setup_sects: 4, ..BzImageFile::small() };
        let bytes = with(file.build(), 0x1f1, &[0]);
        assert_eq!(BzImage::parse(&bytes).unwrap().kernel(), code(0x4000));
    }

    #[test]
    fn headers_that_are_cut_off() {
        let bytes = BzImageFile::small().build();
        for (len, needed) in [(0x206, 0x264), (0x263, 0x264), (0x264, 0x26c), (0x26b, 0x26c)] {
            assert!(matches!(
                BzImage::parse(&bytes[..len]),
                Err(LoadError::SetupShort { len: l, needed: n }) if l == len && n == needed
            ));
        }
        assert!(matches!(BzImage::parse(&bytes[..0x26c]), Err(LoadError::SetupSectors { .. })));
    }

    #[test]
    fn other_kinds_of_kernel() {
        assert!(matches!(error(0x1fe, &[0x55, 0x55]), LoadError::BootFlag { flag: 0x5555 }));
        for version in [0, 0x0200, 0x020bu16] {
            assert!(matches!(
                error(0x206, &version.to_le_bytes()),
                LoadError::BootProtocol { version: v } if v == version
            ));
        }
        assert!(error(0x206, &[11, 2]).to_string().contains("2.11"));
        assert!(matches!(error(0x211, &[0x80]), LoadError::LoadedLow { loadflags: 0x80 }));
        assert!(matches!(error(0x236, &[0x7e, 0]), LoadError::Not64Bit { xloadflags: 0x7e }));
    }

    #[test]
    fn a_header_that_ends_early() {
        assert!(matches!(error(0x201, &[0x61]), LoadError::SetupHeaderEnd { end: 0x263, needed: 0x264 }));
        // What is behind it is not taken for fields.
        let bytes = with(with(BzImageFile::small().build(), 0x201, &[0x62]), 0x264, &[0xff; 8]);
        let header = BzImage::parse(&bytes).unwrap().header;
        let (handover, info) = (header.handover_offset, header.kernel_info_offset);
        assert_eq!((handover, info), (0, 0));
        // Later versions may have a longer one.
        BzImage::parse(&with(BzImageFile::small().build(), 0x201, &[0xff])).unwrap();
    }

    #[test]
    fn setup_code_that_is_not_there() {
        let len = BzImageFile::small().build().len() as u64;
        assert!(matches!(
            error(0x1f1, &[200]),
            LoadError::SetupSectors { sectors: 201, len: l } if l == len
        ));
    }

    #[test]
    fn kernels_that_are_not_there() {
        for paragraphs in [0x401, u32::MAX] {
            assert!(matches!(
                error(0x1f4, &paragraphs.to_le_bytes()),
                LoadError::KernelCut { size, present: 0x4000 } if size == u64::from(paragraphs) * 16
            ));
        }
        for paragraphs in [0, 0x20u32] {
            assert!(matches!(
                error(0x1f4, &paragraphs.to_le_bytes()),
                LoadError::KernelShort { entry: 0x200, .. }
            ));
        }
        let bytes = BzImageFile::small().build();
        assert!(matches!(
            BzImage::parse(&bytes[..bytes.len() - 1]),
            Err(LoadError::KernelCut { size: 0x4000, present: 0x3fff })
        ));
    }

    #[test]
    fn impossible_needs() {
        for init_size in [0, 0x3fffu32] {
            assert!(matches!(
                error(0x260, &init_size.to_le_bytes()),
                LoadError::InitSize { init_size: i, size: 0x4000 } if i == u64::from(init_size)
            ));
        }
        for alignment in [0, 1, 0x800, 0x20_0001, u32::MAX] {
            assert!(matches!(
                error(0x230, &alignment.to_le_bytes()),
                LoadError::Alignment { alignment: a } if a == alignment
            ));
        }
    }

    #[test]
    fn needs_beyond_memory() {
        let needs = |file: BzImageFile| BzImage::parse(&file.build()).unwrap().needs(MEMORY);
        for address in [MEMORY, MEMORY - 0xf_ffff, u64::MAX, u64::MAX - 0x10_0000] {
            let file = BzImageFile { address, ..BzImageFile::small() };
            assert!(matches!(
                needs(file),
                Err(LoadError::KernelOutside { start, memory: MEMORY, .. }) if start == address
            ));
        }
        let file = BzImageFile { init_size: u32::MAX, ..BzImageFile::small() };
        assert!(matches!(needs(file), Err(LoadError::KernelOutside { end: 0x1_001f_ffff, .. })));
        let file = BzImageFile { init_size: 0xe0_0000, ..BzImageFile::small() };
        assert_eq!(needs(file).unwrap().end, MEMORY);
    }
}
