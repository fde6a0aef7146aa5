//! The program's code, as it is translated.

use iced_x86::{Decoder, DecoderError, DecoderOptions};

use super::instruction::replaced_bytes;
use crate::machine::RunError;
use crate::program::error::SysError;
use crate::program::kernel::Kernel;
use crate::program::mm::{Access, Backing, Vma};
use crate::ram::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;
/// The most bytes of an instruction.
const MAX_INSTRUCTION: usize = 15;

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
}

/// The code at an address. A page that is not in memory is brought in where it is `wanted`. `None` where it is not to be
/// translated.
///
/// # Errors
/// When a page cannot be brought in.
pub(super) fn block(kernel: &mut Kernel, at: u64, wanted: bool) -> Result<Option<Source>, RunError> {
    let Some(mut code) = page(kernel, at, wanted)? else { return Ok(None) };
    let mut pages = vec![at / PAGE];
    if code.len() < MAX_INSTRUCTION && replaced_bytes(&code).is_none() {
        let mut decoder = Decoder::with_ip(64, &code, at, DecoderOptions::NONE);
        let _ = decoder.decode();
        if decoder.last_error() == DecoderError::NoMoreBytes {
            let Some(more) = page(kernel, at.wrapping_add(code.len() as u64), wanted)? else {
                return Ok(None);
            };
            let rest = more.len().min(MAX_INSTRUCTION - code.len());
            code.extend_from_slice(&more[..rest]);
            pages.push(at / PAGE + 1);
        }
    }
    Ok(Some(Source { code, pages }))
}

/// What is at an address, to the end of its page.
fn page(kernel: &mut Kernel, at: u64, wanted: bool) -> Result<Option<Vec<u8>>, RunError> {
    let end = match kernel.space.find(at) {
        Some((_, vma)) if is_translated(vma) => vma.end,
        Some((_, vma)) if vma.protection.allows(Access::Exec) => return Ok(None),
        _ => return Ok(wanted.then(Vec::new)),
    };
    let is_there = kernel.space.walk(&kernel.memory, at).is_some_and(|page| kernel.memory.ram.is_there(page));
    if !wanted && !is_there {
        return Ok(None);
    }
    let mut code = vec![0; (PAGE - at % PAGE).min(end - at) as usize];
    match kernel.read(at, &mut code) {
        Ok(()) => Ok(Some(code)),
        // Behind the end of a file, say: the program is told when it comes there.
        Err(SysError::Errno(_)) => Ok(wanted.then(Vec::new)),
        Err(e) => Err(e.into()),
    }
}
