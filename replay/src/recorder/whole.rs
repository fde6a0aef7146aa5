//! Programs and libraries that are kept as a whole.
//!
//! A program reads of its file what it runs. What a debugger wants of it, the section headers and the symbols, lies
//! behind that, and the file itself is soon another one where programs are made: so all of it is put into the log
//! when its beginning is read.

use std::collections::BTreeSet;
use std::sync::Arc;

use dejavm_sandbox::world::{BLOCK_SIZE, HostPath, Request, Response, World};

use super::RecorderOptions;

/// Bytes of a file that is kept so, at most.
const MOST_OF_FILE: u64 = 32 << 20;
/// Bytes of all of them, at most.
const MOST: u64 = 128 << 20;

/// Which files are kept as a whole.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    /// The grants that they lie in.
    grants: BTreeSet<u32>,
    /// Bytes of one, at most.
    most_of_file: u64,
    /// Bytes that may still be kept.
    left: u64,
}

impl Whole {
    pub fn new(options: &RecorderOptions) -> Whole {
        // It is not what fills a log that is to be short.
        let part = options.ring.or(options.max_log).map_or(u64::MAX, |bytes| bytes / 8);
        Whole { grants: options.whole.clone(), most_of_file: MOST_OF_FILE.min(part), left: MOST.min(part) }
    }

    /// The blocks behind the first one, if this is a file that is kept as a whole, and all of it can be had.
    pub fn rest(&mut self, path: &HostPath, first: &[u8], world: &mut dyn World) -> Vec<(u64, Response)> {
        if !first.starts_with(b"\x7fELF") || first.len() < BLOCK_SIZE || !self.grants.contains(&path.grant) {
            return Vec::new();
        }
        let (mut blocks, mut bytes) = (Vec::new(), first.len() as u64);
        for block in 1.. {
            if !world.has_block(path, block) {
                return Vec::new();
            }
            let Ok(Response::Block(Ok(content))) = world.ask(Request::ReadBlock { path, block }) else {
                return Vec::new();
            };
            let ends = content.len() < BLOCK_SIZE;
            bytes += content.len() as u64;
            if bytes > self.most_of_file.min(self.left) {
                return Vec::new();
            }
            if !content.is_empty() {
                blocks.push((block, Response::Block(Ok(Arc::clone(&content)))));
            }
            if ends {
                break;
            }
        }
        self.left -= bytes.min(self.left);
        blocks
    }
}

#[cfg(test)]
mod tests {
    use dejavm_sandbox::world::WorldError;

    use super::*;

    /// A file of so many bytes in each grant.
    struct Host(usize);

    impl World for Host {
        fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
            let Request::ReadBlock { block, .. } = request else { return Err(WorldError::EndOfLog) };
            let n = self.0.saturating_sub(block as usize * BLOCK_SIZE).min(BLOCK_SIZE);
            Ok(Response::Block(Ok(vec![7; n].into())))
        }
    }

    #[test]
    fn which_files_are_kept() {
        let path = |grant| HostPath { grant, path: b"program".to_vec() };
        let mut options = RecorderOptions::default();
        options.whole.insert(3);
        let mut elf = vec![0; BLOCK_SIZE];
        elf[..4].copy_from_slice(b"\x7fELF");
        let blocks = |options: &RecorderOptions, grant, first: &[u8], bytes| {
            let blocks = Whole::new(options).rest(&path(grant), first, &mut Host(bytes));
            blocks.iter().map(|(block, _)| *block).collect::<Vec<_>>()
        };
        assert_eq!(blocks(&options, 3, &elf, 2 * BLOCK_SIZE + 1), [1, 2]);
        assert_eq!(blocks(&options, 3, &elf, 2 * BLOCK_SIZE), [1]);
        assert!(blocks(&options, 3, &elf, BLOCK_SIZE).is_empty());
        assert!(blocks(&options, 2, &elf, 2 * BLOCK_SIZE).is_empty(), "it is the system's");
        assert!(blocks(&options, 3, &vec![0; BLOCK_SIZE], 2 * BLOCK_SIZE).is_empty(), "it is no program");
        assert_eq!(blocks(&options, 3, &elf, MOST_OF_FILE as usize).len(), 511);
        assert!(blocks(&options, 3, &elf, MOST_OF_FILE as usize + 1).is_empty());
        options.max_log = Some(1 << 20);
        assert!(blocks(&options, 3, &elf, 4 * BLOCK_SIZE).is_empty());
        assert_eq!(blocks(&options, 3, &elf, 2 * BLOCK_SIZE), [1]);
    }

    #[test]
    fn there_is_a_limit_to_all() {
        let mut options = RecorderOptions::default();
        options.whole.insert(0);
        let mut elf = vec![0; BLOCK_SIZE];
        elf[..4].copy_from_slice(b"\x7fELF");
        let mut whole = Whole::new(&options);
        let path = HostPath { grant: 0, path: b"program".to_vec() };
        let kept = (0..6).map(|_| whole.rest(&path, &elf, &mut Host(30 << 20)).len());
        assert_eq!(kept.collect::<Vec<_>>(), [479, 479, 479, 479, 0, 0]);
    }
}
