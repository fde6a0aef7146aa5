//! The monitor's access to a program's memory, on the program's behalf: checked as the kernel
//! checks it.

use super::{Access, AddressSpace, Backing, Memory, PAGE, Vma};
use crate::errno::Errno;
use crate::host::stop::Pace;
use crate::machine::{ReadError, peek, read_memory};
use crate::ram::PageError;

/// Why an access did not work.
#[derive(Debug, thiserror::Error)]
pub enum MemError {
    /// The address is not mapped so: the program gets `EFAULT`.
    #[error("bad address {0:#x}")]
    BadAddress(u64),
    /// A page could not be brought in: the run ends.
    #[error(transparent)]
    Page(#[from] PageError),
}

impl MemError {
    /// The error number of a bad address; the other kind is given back.
    pub fn errno(self) -> Result<Errno, PageError> {
        match self {
            MemError::BadAddress(_) => Ok(Errno::EFAULT),
            MemError::Page(e) => Err(e),
        }
    }
}

impl AddressSpace {
    /// The guest-physical address of a program's address. With `forced`, whatever its protection
    /// says.
    fn reach(
        &mut self,
        memory: &mut Memory,
        address: u64,
        access: Access,
        forced: bool,
    ) -> Result<u64, MemError> {
        let bad = || MemError::BadAddress(address);
        if self.find(address).is_none() && (forced || !self.grow_to(memory, address)?) {
            return Err(bad());
        }
        let (start, vma) = self.find(address).ok_or_else(bad)?;
        if !forced && !vma.protection.allows(access) {
            return Err(bad());
        }
        if self.is_beyond(memory, start, vma, address) {
            return Err(bad());
        }
        if !self.back(memory, address)? {
            return Err(bad());
        }
        let (_, vma) = self.find(address).ok_or_else(bad)?;
        if access == Access::Write && !self.is_own(memory, vma, address) && !self.make_own(memory, address)? {
            return Err(bad());
        }
        let (start, vma) = self.find(address).ok_or_else(bad)?;
        let page = self.page_behind(memory, start, vma, address).ok_or_else(bad)?;
        Ok(memory.ram.base() + page * PAGE + address % PAGE)
    }

    /// Runs `act` over the pages of a range: guest-physical address and range of bytes.
    fn over(
        &mut self,
        memory: &mut Memory,
        address: u64,
        len: usize,
        access: Access,
        forced: bool,
        mut act: impl FnMut(&Memory, u64, std::ops::Range<usize>) -> Result<(), PageError>,
    ) -> Result<(), MemError> {
        let mut done = 0usize;
        while done < len {
            let at = address.checked_add(done as u64).ok_or(MemError::BadAddress(address))?;
            let n = ((PAGE - at % PAGE) as usize).min(len - done);
            let gpa = self.reach(memory, at, access, forced)?;
            act(memory, gpa, done..done + n)?;
            done += n;
        }
        Ok(())
    }

    /// Reads the program's memory.
    pub fn read(&mut self, memory: &mut Memory, address: u64, out: &mut [u8]) -> Result<(), MemError> {
        let len = out.len();
        self.over(memory, address, len, Access::Read, false, |memory, gpa, range| {
            memory.ram.read(gpa, &mut out[range])
        })
    }

    /// Writes the program's memory.
    pub fn write(&mut self, memory: &mut Memory, address: u64, data: &[u8]) -> Result<(), MemError> {
        self.over(memory, address, data.len(), Access::Write, false, |memory, gpa, range| {
            memory.ram.write(gpa, &data[range])
        })
    }

    /// Writes memory that the program itself may only read: what a loader places.
    pub fn place(&mut self, memory: &mut Memory, address: u64, data: &[u8]) -> Result<(), MemError> {
        self.note_change_of_code(address..address.saturating_add(data.len() as u64));
        self.over(memory, address, data.len(), Access::Write, true, |memory, gpa, range| {
            memory.ram.write(gpa, &data[range])
        })
    }

    /// Reads memory as a debugger does, whatever its protection; returns how many bytes there were
    /// before the first that is not mapped.
    ///
    /// # Errors
    /// When a page cannot be brought in.
    pub fn read_any(
        &mut self,
        memory: &mut Memory,
        address: u64,
        out: &mut [u8],
    ) -> Result<usize, PageError> {
        let (mut done, len) = (0, out.len());
        let read = self.over(memory, address, len, Access::Read, true, |memory, gpa, range| {
            done = range.end;
            memory.ram.read(gpa, &mut out[range])
        });
        read.or_else(|e| e.errno().map(|_| ()))?;
        Ok(done)
    }

    /// Brings in the pages of a range that [`AddressSpace::read_any`] and [`AddressSpace::write_any`] need,
    /// up to the first that is not mapped. Those of files must be there before the file system is locked
    /// for a call that reads or writes memory.
    ///
    /// # Errors
    /// When a page cannot be brought in, and when the run must be over.
    pub fn bring_in(&mut self, memory: &mut Memory, address: u64, len: usize) -> Result<(), PageError> {
        let stop = memory.stop.clone();
        let mut pace = Pace::new(&stop);
        let end = address.saturating_add(len as u64);
        let mut at = address;
        while at < end && self.read_any(memory, at, &mut [0])? > 0 {
            pace.bytes(PAGE as usize)?;
            at = (at / PAGE + 1) * PAGE;
        }
        Ok(())
    }

    /// Reads memory from outside, whatever its protection: no page is brought in and nothing is charged.
    ///
    /// # Errors
    /// [`ReadError`] names the first address that could not be read.
    pub fn peek(&self, memory: &Memory, address: u64, out: &mut [u8]) -> Result<(), ReadError> {
        read_memory(address, out, |at, content| self.peek_at_page(memory, at, content))
    }

    /// As [`AddressSpace::peek`]; returns how many bytes there were before the first that could not be read.
    pub fn look(&self, memory: &Memory, address: u64, out: &mut [u8]) -> usize {
        let mut done = 0;
        let mut content = [0; PAGE as usize];
        while done < out.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let offset = (at % PAGE) as usize;
            let n = (PAGE as usize - offset).min(out.len() - done);
            if self.peek_at_page(memory, at, &mut content).is_err() {
                break;
            }
            out[done..done + n].copy_from_slice(&content[offset..offset + n]);
            done += n;
        }
        done
    }

    /// Copies the page that an address lies in.
    fn peek_at_page(
        &self,
        memory: &Memory,
        at: u64,
        content: &mut [u8; PAGE as usize],
    ) -> Result<(), ReadError> {
        let (start, vma) = self.find(at).ok_or(ReadError::Unmapped(at))?;
        if self.is_beyond(memory, start, vma, at) {
            return Err(ReadError::Unmapped(at));
        }
        let within = at / PAGE * PAGE - start;
        let page = self.page_behind(memory, start, vma, at);
        // Where nobody has touched it.
        let below = match &vma.backing {
            _ if page.is_some() => None,
            Backing::File { content, offset, .. } => Some((*content, offset + within)),
            Backing::Shared { object, offset } | Backing::Private { object, offset } => {
                memory.below(*object, offset + within).map(|below| (below, offset + within))
            }
            Backing::Anonymous => None,
        };
        match below {
            Some((file, offset)) => memory
                .pages
                .peek_content(file, offset, content)
                .map_err(|source| ReadError::Page { address: at, source }),
            None => peek(&memory.ram, page, at, content),
        }
    }

    /// Writes memory as a debugger does: private pages whatever their protection, shared ones only
    /// where the program may. Returns how many bytes were written before the first that cannot be.
    ///
    /// # Errors
    /// When a page cannot be brought in.
    pub fn write_any(&mut self, memory: &mut Memory, address: u64, data: &[u8]) -> Result<usize, PageError> {
        let mut done = 0;
        while done < data.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let n = ((PAGE - at % PAGE) as usize).min(data.len() - done);
            let writable = |vma: &Vma| !vma.backing.is_shared() || vma.protection.write;
            if !self.find(at).is_some_and(|(_, vma)| writable(vma)) {
                break;
            }
            match self.place(memory, at, &data[done..done + n]) {
                Ok(()) => done += n,
                Err(e) => return e.errno().map(|_| done),
            }
        }
        Ok(done)
    }

    /// How many of `len` bytes from `address` may be accessed so; for calls that do part of the
    /// work before a bad address.
    pub fn accessible(&self, address: u64, len: usize, access: Access) -> usize {
        let end = address.saturating_add(len as u64);
        let mut at = address;
        while at < end {
            let grown = || self.growable(at).and_then(|(start, _)| self.find(start));
            match self.find(at).or_else(grown) {
                Some((_, vma)) if vma.protection.allows(access) => at = vma.end.min(end),
                _ => break,
            }
        }
        (at - address) as usize
    }

    /// Reads a string up to its NUL, of at most `max` bytes.
    ///
    /// # Errors
    /// `Ok(None)` when there is no NUL within `max` bytes.
    pub fn read_string(
        &mut self,
        memory: &mut Memory,
        address: u64,
        max: usize,
    ) -> Result<Option<Vec<u8>>, MemError> {
        let mut out = Vec::new();
        while out.len() < max {
            let at = address.checked_add(out.len() as u64).ok_or(MemError::BadAddress(address))?;
            let n = ((PAGE - at % PAGE) as usize).min(max - out.len());
            let mut piece = [0u8; PAGE as usize];
            self.read(memory, at, &mut piece[..n])?;
            if let Some(nul) = piece[..n].iter().position(|b| *b == 0) {
                out.extend_from_slice(&piece[..nul]);
                return Ok(Some(out));
            }
            out.extend_from_slice(&piece[..n]);
        }
        Ok(None)
    }
}
