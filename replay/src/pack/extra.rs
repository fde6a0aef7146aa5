//! What of the host's files goes into a pack besides.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dejavm_sandbox::guest::{MachineState, state_of};
use dejavm_sandbox::program::fs::guest_path;
use dejavm_sandbox::program::mm::Backing;
use dejavm_sandbox::program::mm::tables::{index_of, region_of};
use dejavm_sandbox::world::{BLOCK_SIZE, HostPath, Response};
use dejavm_snapshot::{PAGE_SIZE, PageReader, Snapshot, Span};

use super::PackOptions;
use crate::beside::{self, BuildId, Kind};
use crate::elsewhere::candidates;
use crate::error::Error;
use crate::reader::Recording;
use crate::record::{Answer, Asked, Record};

/// Programs and libraries that are looked at, at most.
const MOST: usize = 256;

/// Longest file that is put into a pack, bytes.
const LONGEST: u64 = 512 << 20;

/// A program or a library that the recorded program read, or has loaded.
struct Elf {
    id: BuildId,
    /// Where it may be on the host.
    paths: Vec<PathBuf>,
    /// Bytes, if the log says so.
    size: Option<u64>,
    blocks: BTreeMap<u64, Answer>,
}

impl Recording {
    /// The files that go into a pack besides, by their names in it; those that are not there yet are made in
    /// `scratch`.
    pub(super) fn extras(&self, options: &PackOptions, scratch: &Path) -> Result<Vec<(String, Span)>, Error> {
        let mut extras = Vec::new();
        let mut names = BTreeSet::new();
        for elf in self.programs()? {
            for kind in [Kind::File, Kind::Debug] {
                let name = kind.name(&elf.id);
                if !names.insert(name.clone()) {
                    continue;
                }
                if let Ok(there) = self.home().place(&name).open() {
                    extras.push((name, there));
                    continue;
                }
                if !options.debug_files {
                    continue;
                }
                let content = match kind {
                    Kind::File => self.whole(&elf)?,
                    Kind::Debug => options
                        .debug_dirs
                        .iter()
                        .find_map(|dir| read(&elf.id.debug_path(dir)).filter(|content| is(content, &elf.id))),
                };
                let Some(content) = content else { continue };
                let path = scratch.join(&name);
                beside::write(&path, &content, options.level.clamp(1, 22))?;
                extras.push((name, Span::open(&path).map_err(|e| Error::io("read", &path, e))?));
            }
        }
        Ok(extras)
    }

    /// The programs and libraries that were read, as far as their beginning is in the log, and those that were loaded
    /// before it begins.
    fn programs(&self) -> Result<Vec<Elf>, Error> {
        let mut read: BTreeMap<HostPathKey, BTreeMap<u64, Answer>> = BTreeMap::new();
        let mut sizes: HashMap<HostPath, u64> = HashMap::new();
        for record in self.records() {
            match record? {
                Record::Keyed(keyed) => {
                    let key = (keyed.path.grant, keyed.path.path);
                    read.entry(key).or_default().entry(keyed.block).or_insert(keyed.answer);
                }
                Record::World(world) => {
                    if let (Asked::Metadata { path }, Answer::Inline(Response::Metadata(Ok(metadata)))) =
                        (world.asked, world.answer)
                    {
                        sizes.insert(path, metadata.size);
                    }
                }
                Record::Exit(_) | Record::Fault(_) => {}
            }
        }
        let snapshot = self.open_snapshot()?;
        // One of another kind has no files to be found.
        let Ok(state) = state_of(&snapshot) else { return Ok(Vec::new()) };
        let mut programs = Vec::new();
        for ((grant, path), blocks) in read {
            let Some(first) = blocks.get(&0) else { continue };
            let Response::Block(Ok(bytes)) = self.response(first)? else { continue };
            let Some(id) = BuildId::of(Cursor::new(&bytes[..])) else { continue };
            let path = HostPath { grant, path };
            let size = sizes.get(&path).copied();
            let mounts = state.program().map_or(&[][..], |state| state.fs.mounts());
            let name = guest_path(mounts, &path).unwrap_or(path.path);
            programs.push(Elf { id, paths: candidates(mounts, &name), size, blocks });
            if programs.len() == MOST {
                break;
            }
        }
        programs.extend(loaded(snapshot, &state)?);
        Ok(programs)
    }

    /// All of a file, where the log has not, and the host has the very file still: with the same ID and length, and
    /// the same bytes where they are in the log.
    fn whole(&self, elf: &Elf) -> Result<Option<Vec<u8>>, Error> {
        let all = elf.size.is_some_and(|size| elf.blocks.len() as u64 >= size.div_ceil(BLOCK_SIZE as u64));
        if all {
            return Ok(None);
        }
        let mut contents = elf.paths.iter().filter_map(|path| read(path));
        let Some(content) = contents.find(|content| is(content, &elf.id)) else { return Ok(None) };
        if elf.size.is_some_and(|size| size != content.len() as u64) {
            return Ok(None);
        }
        for (number, answer) in &elf.blocks {
            let Response::Block(Ok(recorded)) = self.response(answer)? else { continue };
            let at = number.checked_mul(BLOCK_SIZE as u64).and_then(|at| usize::try_from(at).ok());
            let found = at.and_then(|at| content.get(at..at.checked_add(recorded.len())?));
            if found != Some(&recorded[..]) {
                return Ok(None);
            }
        }
        Ok(Some(content))
    }
}

/// The programs and libraries that are loaded where a recording begins, as far as its snapshot has their beginnings.
fn loaded(snapshot: Arc<Snapshot>, state: &MachineState) -> Result<Vec<Elf>, Error> {
    let Some(program) = state.program() else { return Ok(Vec::new()) };
    let mut reader = PageReader::new(snapshot)?;
    let mut found = BTreeMap::new();
    for (_, space) in program.space.iter() {
        for (start, vma) in &space.vmas {
            let Backing::File { content, offset: 0, len, .. } = vma.backing else { continue };
            let Some(region) = space.regions.get(&region_of(*start)) else { continue };
            // What may be written to need not be the file's any more.
            if vma.protection.write || found.contains_key(&content) || found.len() == MOST {
                continue;
            }
            let mut page = [0; PAGE_SIZE];
            // One that is damaged, or is none of the snapshot's, has no ID.
            let read = reader.read(region.page(index_of(*start)), &mut page);
            let Some(id) = read.ok().and_then(|()| BuildId::of(Cursor::new(&page[..]))) else { continue };
            let paths = candidates(program.fs.mounts(), &vma.name);
            found.insert(content, Elf { id, paths, size: Some(len), blocks: BTreeMap::new() });
        }
    }
    Ok(found.into_values().collect())
}

/// A host path that can be put in order.
type HostPathKey = (u32, Vec<u8>);

fn read(path: &Path) -> Option<Vec<u8>> {
    let bytes = Span::open(path).ok().filter(|bytes| bytes.length() <= LONGEST)?;
    let mut content = vec![0; usize::try_from(bytes.length()).ok()?];
    bytes.read_exact_at(&mut content, 0).ok()?;
    Some(content)
}

fn is(content: &[u8], id: &BuildId) -> bool {
    BuildId::of(Cursor::new(content)).as_ref() == Some(id)
}
