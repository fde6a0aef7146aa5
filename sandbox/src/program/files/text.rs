//! Reading the texts of `/proc`, which are made when they are read.
//!
//! One that is read piece by piece is made once: the description keeps it, and the next piece comes from
//! what is kept if it is the one that follows. That is charged to the sandbox; what does not fit is made
//! again for each piece.

use serde::{Deserialize, Serialize};

use super::{FdTable, Transfer};
use crate::program::fs::{Env, Fs, FsResult};

/// Shorter texts are not worth keeping.
const SHORT: usize = 4096;

/// A text that is being read. It is part of a snapshot, since the process may have changed meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptText {
    text: Vec<u8>,
    /// Where the next piece starts.
    next: u64,
}

impl KeptText {
    /// Bytes that are charged for it.
    pub fn cost(&self) -> u64 {
        self.text.len() as u64
    }

    /// Whether this can be: for a state out of a file.
    pub fn is_sound(&self) -> bool {
        let KeptText { text, next } = self;
        *next <= text.len() as u64
    }
}

impl FdTable {
    /// Reads the next piece of a text; `None` for what has none.
    pub(super) fn read_text(
        &mut self,
        fs: &mut Fs,
        env: &mut Env<'_>,
        transfer: &Transfer,
        buf: &mut [u8],
    ) -> FsResult<Option<usize>> {
        let (inode, offset) = (transfer.inode(), transfer.offset());
        let description = self.get_mut(transfer.fd())?;
        let mut kept = description.text.take();
        if let Some(kept) = kept.as_mut().filter(|kept| offset > 0 && kept.next == offset) {
            let n = copy_from(&kept.text, offset, buf);
            kept.next += n as u64;
        } else if let Some(kept) = kept.take() {
            env.caller.refund(kept.cost());
        }
        if let Some(kept) = kept {
            let n = (kept.next - offset) as usize;
            match n {
                // The end.
                0 if !buf.is_empty() => env.caller.refund(kept.cost()),
                _ => description.text = Some(kept),
            }
            return Ok(Some(n));
        }
        let Some(text) = fs.text_at(env, inode) else { return Ok(None) };
        let n = copy_from(&text, offset, buf);
        let kept = KeptText { text, next: offset.saturating_add(n as u64) };
        let more = n > 0 && kept.next < kept.cost();
        if more && kept.text.len() > SHORT && env.caller.offer(kept.cost()) {
            self.get_mut(transfer.fd())?.text = Some(kept);
        }
        Ok(Some(n))
    }

    /// Bytes that are charged for texts that are being read, and for what sets watch.
    pub fn charged_cost(&self) -> u64 {
        self.arena.texts().map(KeptText::cost).fold(self.watched.cost(), u64::saturating_add)
    }
}

/// Copies what a text has from `offset` on; gives how many bytes that was.
fn copy_from(text: &[u8], offset: u64, buf: &mut [u8]) -> usize {
    let rest = text.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
    let n = rest.len().min(buf.len());
    buf[..n].copy_from_slice(&rest[..n]);
    n
}
