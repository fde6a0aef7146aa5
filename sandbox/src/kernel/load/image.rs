//! What kind of file an image is, by its first bytes.

use std::fmt;

use super::LoadError;

/// Offset of a boot sector's mark (`Documentation/arch/x86/boot.rst`: `boot_flag`).
const BOOT_FLAG: usize = 0x1fe;
/// Offset of the setup header's magic (`header` there).
const HEADER_MAGIC: usize = 0x202;

/// A kind of image that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ELF file, of whatever class and machine.
    Elf,
    /// A Linux kernel with its setup header.
    BzImage,
}

/// A compression that kernels are packed by (`lib/decompress.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Their names are what there is to say.
pub enum Compression {
    Gzip,
    Bzip2,
    Lzma,
    Xz,
    Lzo,
    Lz4,
    Zstd,
}

/// First bytes of compressed kernels (`lib/decompress.c`).
const COMPRESSIONS: [(&[u8], Compression); 8] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (&[0x1f, 0x9e], Compression::Gzip),
    (b"BZh", Compression::Bzip2),
    (&[0x5d, 0, 0], Compression::Lzma),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
    (&[0x89, b'L', b'Z', b'O'], Compression::Lzo),
    (&[0x02, 0x21, 0x4c, 0x18], Compression::Lz4),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
];

/// First bytes of other files that may be given by mistake.
const OTHERS: [(&[u8], &str); 9] = [
    (b"#!", "a script"),
    (b"MZ", "a DOS or EFI program without a Linux setup header"),
    (b"!<arch>\n", "an archive (.a, .deb)"),
    (b"070701", "a cpio archive, as initrds are"),
    (b"070702", "a cpio archive, as initrds are"),
    (b"PK\x03\x04", "a zip file"),
    (b"QFI\xfb", "a qcow2 disk"),
    (&[0x27, 0x05, 0x19, 0x56], "a U-Boot image"),
    (&[0x04, 0x22, 0x4d, 0x18], "a file compressed by LZ4"),
];

impl Compression {
    /// The compression of data that starts with `bytes`.
    pub fn of(bytes: &[u8]) -> Option<Compression> {
        COMPRESSIONS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, compression)| *compression)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Bzip2 => "bzip2",
            Compression::Lzma => "LZMA",
            Compression::Xz => "xz",
            Compression::Lzo => "LZO",
            Compression::Lz4 => "LZ4",
            Compression::Zstd => "zstd",
        })
    }
}

/// Says what an image is. Only its magic numbers are looked at.
///
/// # Errors
/// [`LoadError::Empty`] and [`LoadError::NotAKernel`], which names what was found.
pub fn identify(image: &[u8]) -> Result<Kind, LoadError> {
    if image.is_empty() {
        return Err(LoadError::Empty);
    }
    if image.starts_with(&object::elf::ELFMAG) {
        return Ok(Kind::Elf);
    }
    if image.get(HEADER_MAGIC..).is_some_and(|at| at.starts_with(b"HdrS")) {
        return Ok(Kind::BzImage);
    }
    Err(LoadError::NotAKernel { found: describe(image) })
}

fn describe(image: &[u8]) -> String {
    if let Some(compression) = Compression::of(image) {
        return format!("a file compressed by {compression}");
    }
    if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| image.starts_with(magic)) {
        return (*name).into();
    }
    if image.get(BOOT_FLAG..).is_some_and(|at| at.starts_with(&[0x55, 0xaa])) {
        return "a boot sector without a Linux setup header".into();
    }
    format!("of no known kind (it starts with {:02x?})", &image[..image.len().min(8)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(image: &[u8]) -> String {
        identify(image).unwrap_err().to_string()
    }

    #[test]
    fn kinds() {
        assert_eq!(identify(b"\x7fELF").unwrap(), Kind::Elf);
        let mut image = vec![0; 0x206];
        image[0x202..].copy_from_slice(b"HdrS");
        assert_eq!(identify(&image).unwrap(), Kind::BzImage);
        image.pop();
        assert!(identify(&image).is_err());
    }

    #[test]
    fn others_are_named() {
        assert!(matches!(identify(&[]), Err(LoadError::Empty)));
        for (magic, compression) in COMPRESSIONS {
            assert!(refusal(magic).contains(&compression.to_string()), "{compression}");
        }
        for (magic, name) in OTHERS {
            assert!(refusal(magic).contains(name), "{name}");
        }
        let mut sector = vec![0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        assert!(refusal(&sector).contains("boot sector"));
        assert!(refusal(b"Hello").contains("[48, 65, 6c, 6c, 6f]"));
    }
}
