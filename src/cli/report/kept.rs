//! What a program wrote, up to a limit.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dejavm::Sink;

/// Bytes of a stream that are shown.
const SHOWN: usize = 64 << 10;

/// The beginning of a stream, and its length.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<(Vec<u8>, u64)>>);

impl Kept {
    /// Where the program writes to.
    pub fn sink(&self) -> Sink {
        Sink::writer(self.clone())
    }

    /// The beginning as text, and the bytes that are missing behind it.
    pub fn text(&self) -> (String, u64) {
        let kept = self.lock();
        (String::from_utf8_lossy(&kept.0).into_owned(), kept.1.saturating_sub(kept.0.len() as u64))
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.lock();
        let room = SHOWN - kept.0.len();
        kept.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        kept.1 = kept.1.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_is_kept() {
        let mut kept = Kept::default();
        kept.write_all(b"text").expect("written");
        assert_eq!(kept.text(), ("text".into(), 0));
        kept.write_all(&vec![b'.'; SHOWN]).expect("written");
        kept.write_all(b"more").expect("written");
        let (text, missing) = kept.text();
        assert_eq!((text.len(), missing), (SHOWN, 8));
    }
}
