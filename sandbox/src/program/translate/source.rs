//! The program's code, as it is translated.

use std::sync::Arc;

use iced_x86::{Decoder, DecoderError, DecoderOptions};

use super::block::MAX_INSTRUCTIONS;
use super::instruction::replaced_bytes;
use crate::machine::RunError;
use crate::program::error::SysError;
use crate::program::kernel::Kernel;
use crate::program::mm::{Access, Backing, Vma};
use crate::ram::PAGE_SIZE;
use crate::x86::MAX_INSTRUCTION;

const PAGE: u64 = PAGE_SIZE as u64;

/// The most bytes of a block.
const MAX_BLOCK: usize = MAX_INSTRUCTION * MAX_INSTRUCTIONS;

/// Whether what a mapping has is translated: what can change is not.
pub(crate) fn is_translated(vma: &Vma) -> bool {
    let changes = vma.protection.write || !matches!(vma.backing, Backing::Anonymous | Backing::File { .. });
    vma.protection.exec && !changes
}

/// The code of a block.
#[derive(Debug)]
pub(super) struct Source {
    /// What is there, to the end of its page; or the first instruction, where that does not end there. Nothing where
    /// the program would be told that it may not run it.
    pub code: Vec<u8>,
    /// The numbers of the pages that it is from.
    pub pages: Vec<u64>,
    /// It is a file's, in which instructions may be replaced.
    pub is_file: bool,
    /// The name of its mapping of a file, and what is to be added to an address to have its offset there.
    pub file: Option<(Arc<[u8]>, u64)>,
}

/// Reads the code of blocks, which mostly lie in one page, while nothing changes it.
#[derive(Debug, Default)]
pub(super) struct Sources {
    last: Option<Page>,
}

/// The page that was read last.
#[derive(Debug)]
struct Page {
    number: u64,
    /// Where in it what was read begins.
    from: usize,
    code: Vec<u8>,
    is_file: bool,
    file: Option<(Arc<[u8]>, u64)>,
}

impl Sources {
    /// The code at an address. A page that is not in memory is brought in where it is `wanted`. `None` where it is not to
    /// be translated.
    ///
    /// # Errors
    /// When a page cannot be brought in.
    pub fn block(&mut self, kernel: &mut Kernel, at: u64, wanted: bool) -> Result<Option<Source>, RunError> {
        let Some(code) = self.page(kernel, at, wanted)? else { return Ok(None) };
        let mut code = code[..code.len().min(MAX_BLOCK)].to_vec();
        let mut pages = vec![at / PAGE];
        let (is_file, file) =
            self.last.as_ref().map_or((false, None), |page| (page.is_file, page.file.clone()));
        if code.len() < MAX_INSTRUCTION && replaced_bytes(&code).is_none() {
            let mut decoder = Decoder::with_ip(64, &code, at, DecoderOptions::NONE);
            let _ = decoder.decode();
            if decoder.last_error() == DecoderError::NoMoreBytes {
                let behind = at.wrapping_add(code.len() as u64);
                let Some(more) = self.page(kernel, behind, wanted)? else { return Ok(None) };
                let rest = more.len().min(MAX_INSTRUCTION - code.len());
                code.extend_from_slice(&more[..rest]);
                pages.push(at / PAGE + 1);
            }
        }
        Ok(Some(Source { code, pages, is_file, file }))
    }

    /// What is at an address, to the end of its page.
    fn page(&mut self, kernel: &mut Kernel, at: u64, wanted: bool) -> Result<Option<&[u8]>, RunError> {
        let (number, offset) = (at / PAGE, (at % PAGE) as usize);
        if self.last.as_ref().is_none_or(|page| page.number != number) {
            let (start, end, is_file, file) = match kernel.space.find(at) {
                Some((start, vma)) if is_translated(vma) => {
                    let offset = vma.backing.offset();
                    let file = offset.map(|offset| (Arc::clone(&vma.name), offset.wrapping_sub(start)));
                    let code = start.max(number * PAGE)..vma.end.min((number + 1) * PAGE);
                    (code.start, code.end, vma.is_code(), file)
                }
                Some((_, vma)) if vma.protection.allows(Access::Exec) => return Ok(None),
                _ => return Ok(wanted.then_some(&[])),
            };
            let page = kernel.space.walk(&kernel.memory, at);
            if !wanted && !page.is_some_and(|page| kernel.memory.ram.is_there(page)) {
                return Ok(None);
            }
            let mut code = vec![0; (end - start) as usize];
            match kernel.read(start, &mut code) {
                Ok(()) => {
                    self.last = Some(Page { number, from: (start % PAGE) as usize, code, is_file, file });
                }
                // Behind the end of a file, say: the program is told when it comes there.
                Err(SysError::Errno(_)) => return Ok(wanted.then_some(&[])),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(self.last.as_ref().and_then(|page| page.code.get(offset.checked_sub(page.from)?..)))
    }
}
