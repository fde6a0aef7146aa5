//! Writing a snapshot file so that at no time a part of one is seen under its
//! final name.

use std::fs::Permissions;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::header::{Extent, HEADER_LEN, Header, align, encode_footer};
use crate::layer::Layer;
use crate::new_file::NewFile;

/// Bytes gathered before they go to the file.
const BUFFER_LEN: usize = 1 << 20;

/// A snapshot file being written.
pub(crate) struct Output {
    target: PathBuf,
    file: BufWriter<NewFile>,
    position: u64,
    section_start: u64,
    section_hash: Xxh3,
}

impl Output {
    /// Starts a file that is to be `target`.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        let file = NewFile::create(target).map_err(Error::io("create a temporary file beside", target))?;
        let mut output = Self {
            target: target.to_path_buf(),
            file: BufWriter::with_capacity(BUFFER_LEN, file),
            position: 0,
            section_start: 0,
            section_hash: Xxh3::new(),
        };
        // The header's place; its content is known last.
        output.write(&[0; HEADER_LEN])?;
        output.start_section()?;
        Ok(output)
    }

    /// Adds bytes to the current section.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.target))?;
        self.section_hash.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Bytes written to the current section so far.
    pub(crate) fn section_length(&self) -> u64 {
        self.position - self.section_start
    }

    /// Ends the current section and starts the next.
    pub(crate) fn end_section(&mut self) -> Result<Extent> {
        let extent = Extent {
            offset: self.section_start,
            length: self.section_length(),
            checksum: self.section_hash.digest(),
        };
        self.start_section()?;
        Ok(extent)
    }

    /// A whole section at once.
    pub(crate) fn section(&mut self, bytes: &[u8]) -> Result<Extent> {
        self.write(bytes)?;
        self.end_section()
    }

    /// Adds the sections of an open file that end at `end`, with the padding
    /// between them. They must come first, so that they keep their places.
    pub(crate) fn copy_sections(&mut self, source: &Layer, end: u64) -> Result<()> {
        let mut buffer = vec![0; BUFFER_LEN];
        while self.position < end {
            let length = (end - self.position).min(BUFFER_LEN as u64) as usize;
            let piece = &mut buffer[..length];
            source.file().read(self.position, piece)?;
            self.write(piece)?;
        }
        self.start_section()
    }

    /// Writes header and footer, makes all of it durable if so wanted, and
    /// gives the file its final name. Returns its length in bytes.
    pub(crate) fn finish(
        mut self,
        header: &Header,
        permissions: Option<Permissions>,
        durable: bool,
    ) -> Result<u64> {
        let failed = |action| Error::io(action, &self.target);
        let header = header.encode();
        let footer_length = crate::header::FOOTER_LEN as u64;
        let length = self.position + footer_length;
        self.file
            .write_all(&encode_footer(&header, length))
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .and_then(|_| self.file.write_all(&header))
            .map_err(failed("write"))?;
        let file = self.file.into_inner().map_err(|error| failed("write")(error.into_error()))?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions).map_err(failed("set the permissions of"))?;
        }
        file.finish(durable).map_err(failed("name and sync"))?;
        Ok(length)
    }

    /// Pads the file to where a section may start, and starts one there.
    fn start_section(&mut self) -> Result<()> {
        // Cannot overflow: no file is that long.
        let padding = align(self.position).unwrap_or(self.position) - self.position;
        self.write(&[0; crate::header::ALIGNMENT as usize][..padding as usize])?;
        self.section_start = self.position;
        self.section_hash = Xxh3::new();
        Ok(())
    }
}
