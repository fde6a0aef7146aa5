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

/// A block of a file, if it can be had; none is behind the end.
fn block(path: &HostPath, block: u64, world: &mut dyn World) -> Option<Arc<[u8]>> {
    match world.ask(Request::ReadBlock { path, block }) {
        Ok(Response::Block(Ok(content))) => Some(content),
        _ => None,
    }
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
        // One that is too long is not read to find that out: a guest can look at the beginnings of many.
        let most = self.most_of_file.min(self.left) / BLOCK_SIZE as u64;
        if most == 0
            || world.has_block(path, most)
                && !block(path, most, world).is_some_and(|content| content.is_empty())
        {
            return Vec::new();
        }
        let (mut blocks, mut bytes) = (Vec::new(), first.len() as u64);
        for number in 1..=most {
            let Some(content) = world.has_block(path, number).then(|| block(path, number, world)).flatten()
            else {
                return Vec::new();
            };
            let ends = content.len() < BLOCK_SIZE;
            bytes += content.len() as u64;
            blocks.push((number, Response::Block(Ok(content))));
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

    /// A file of so many bytes in each grant, and how many of its blocks were asked for.
    struct Host(usize, usize);

    impl World for Host {
        fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
            let Request::ReadBlock { block, .. } = request else { return Err(WorldError::EndOfLog) };
            self.1 += 1;
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
            let blocks = Whole::new(options).rest(&path(grant), first, &mut Host(bytes, 0));
            blocks.iter().map(|(block, _)| *block).collect::<Vec<_>>()
        };
        assert_eq!(blocks(&options, 3, &elf, 2 * BLOCK_SIZE + 1), [1, 2]);
        // With the empty one by which a replay of the recording knows that this is all.
        assert_eq!(blocks(&options, 3, &elf, 2 * BLOCK_SIZE), [1, 2]);
        assert_eq!(blocks(&options, 3, &elf, BLOCK_SIZE), [1]);
        assert!(blocks(&options, 2, &elf, 2 * BLOCK_SIZE).is_empty(), "it is the system's");
        assert!(blocks(&options, 3, &vec![0; BLOCK_SIZE], 2 * BLOCK_SIZE).is_empty(), "it is no program");
        assert_eq!(blocks(&options, 3, &elf, MOST_OF_FILE as usize).len(), 512);
        assert!(blocks(&options, 3, &elf, MOST_OF_FILE as usize + 1).is_empty());
        options.max_log = Some(1 << 20);
        assert!(blocks(&options, 3, &elf, 4 * BLOCK_SIZE).is_empty());
        assert_eq!(blocks(&options, 3, &elf, 2 * BLOCK_SIZE), [1, 2]);
    }

    #[test]
    fn there_is_a_limit_to_all() {
        let mut options = RecorderOptions::default();
        options.whole.insert(0);
        let mut elf = vec![0; BLOCK_SIZE];
        elf[..4].copy_from_slice(b"\x7fELF");
        let mut whole = Whole::new(&options);
        let path = HostPath { grant: 0, path: b"program".to_vec() };
        let kept = (0..6).map(|_| whole.rest(&path, &elf, &mut Host(30 << 20, 0)).len());
        assert_eq!(kept.collect::<Vec<_>>(), [480, 480, 480, 480, 0, 0]);
        // A guest that looks at the beginnings of many has little more read than it reads itself.
        let mut whole = Whole::new(&options);
        let mut host = Host(1 << 30, 0);
        assert!((0..100).all(|_| whole.rest(&path, &elf, &mut host).is_empty()));
        assert_eq!(host.1, 100);
    }
}
