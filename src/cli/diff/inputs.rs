//! What two recorded runs were given that differs: options, environment, files of the host, input.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};

use dejavm::replay::text::quote;
use dejavm::replay::{Answer, Asked, BlobId, Record, Recording};
use dejavm::sandbox::program::chaos::Chaos;
use dejavm::sandbox::program::fs::guest_path;
use dejavm::sandbox::program::state::ProgramState;
use dejavm::sandbox::world::{BLOCK_SIZE, FileKind, HostPath, Metadata, Response, STDIN_GRANT};
use dejavm::{Image, MachineState};

use crate::cli::Result;

/// Lines at most for environment variables, and for files.
const MOST_LINES: usize = 20;

/// Bytes of a value that are shown.
const SHOWN: usize = 80;

/// What differs, a line each: the name of what it is, then what either run had.
///
/// # Errors
/// Those of the recordings.
pub fn differences(recordings: [&Recording; 2]) -> Result<Vec<String>> {
    let given = [Given::of(recordings[0])?, Given::of(recordings[1])?];
    let mut lines = Vec::new();
    for (name, values) in settings(recordings, &given) {
        if values[0] != values[1] {
            lines.push(format!("{name}: {} | {}", values[0], values[1]));
        }
    }
    lines.extend(bounded(environment(&given)));
    lines.extend(bounded(files(recordings, &given)?));
    Ok(lines)
}

/// What a run was given.
struct Given {
    state: MachineState,
    /// What the host said first of each file.
    metadata: BTreeMap<HostPath, Option<Metadata>>,
    /// Blocks of files, by their contents.
    blocks: BTreeMap<HostPath, BTreeMap<u64, Answer>>,
    /// Bytes of standard input, and their digest.
    input: (u64, DefaultHasher),
}

impl Given {
    fn of(recording: &Recording) -> Result<Given> {
        let mut given = Given {
            state: Image::of_start(recording)?.state().clone(),
            metadata: BTreeMap::new(),
            blocks: BTreeMap::new(),
            input: (0, DefaultHasher::new()),
        };
        for record in recording.records() {
            match record? {
                Record::World(world) => match (world.asked, world.answer) {
                    (Asked::Metadata { path }, Answer::Inline(Response::Metadata(metadata))) => {
                        given.metadata.entry(path).or_insert(metadata.ok());
                    }
                    (Asked::Input { .. }, answer) => {
                        if let Response::Input(Ok(bytes)) = recording.response(&answer)? {
                            given.input.0 += bytes.len() as u64;
                            given.input.1.write(&bytes);
                        }
                    }
                    _ => {}
                },
                Record::Keyed(keyed) => {
                    given.blocks.entry(keyed.path).or_default().entry(keyed.block).or_insert(keyed.answer);
                }
                Record::Exit(_) | Record::Fault(_) => {}
            }
        }
        Ok(given)
    }

    /// A host file's path in the guest.
    fn path(&self, path: &HostPath) -> String {
        let mounts = self.state.program().map_or(&[][..], |state| state.fs.mounts());
        match guest_path(mounts, path) {
            Some(path) => String::from_utf8_lossy(&path).escape_debug().to_string(),
            None if path.grant == STDIN_GRANT => "standard input".into(),
            None => format!("{}:{}", path.grant, String::from_utf8_lossy(&path.path)),
        }
    }
}

/// What the runs were made with, by name.
fn settings(recordings: [&Recording; 2], given: &[Given; 2]) -> Vec<(&'static str, [String; 2])> {
    let manifests = recordings.map(Recording::manifest);
    let program = |what: fn(&ProgramState) -> String| {
        [0, 1].map(|side| given[side].state.program().map_or_else(|| "none".into(), what))
    };
    let input = given.each_ref().map(|given| {
        let (bytes, hasher) = &given.input;
        format!("{bytes} bytes, digest {:016x}", hasher.finish())
    });
    vec![
        ("command", manifests.map(|manifest| manifest.command.join(" ").escape_debug().to_string())),
        ("working directory", program(|state| String::from_utf8_lossy(&state.workdir).into_owned())),
        ("seed", manifests.map(|manifest| manifest.seed.to_string())),
        ("chaos", program(|state| state.sched.chaos().map_or_else(|| "none".into(), stream))),
        ("clock", manifests.map(|manifest| manifest.clock.clone())),
        ("time at the start", manifests.map(|manifest| format!("@{}", manifest.start / 1_000_000_000))),
        ("processor", manifests.map(|manifest| manifest.cpu.clone())),
        ("memory", given.each_ref().map(|given| given.state.claims().memory.to_string())),
        ("disk", given.each_ref().map(|given| given.state.claims().disk.to_string())),
        ("standard input", input),
    ]
}

/// A name for what chaos will do: its seed is not kept.
fn stream(chaos: &Chaos) -> String {
    let state = serde_json::to_vec(chaos).unwrap_or_default();
    format!("its state begins as {}", BlobId::of(&state))
}

/// Variables that differ.
fn environment(given: &[Given; 2]) -> Vec<String> {
    let variables = given.each_ref().map(|given| {
        let command = given.state.program().and_then(|state| state.pending.as_ref());
        let words = command.map_or(&[][..], |command| &command.env);
        let split = |word: &Vec<u8>| {
            let at = word.iter().position(|b| *b == b'=').unwrap_or(word.len());
            (word[..at].to_vec(), word.get(at + 1..).unwrap_or_default().to_vec())
        };
        words.iter().map(split).collect::<BTreeMap<Vec<u8>, Vec<u8>>>()
    });
    let names: BTreeSet<&Vec<u8>> = variables.iter().flat_map(BTreeMap::keys).collect();
    let value = |value: Option<&Vec<u8>>| value.map_or_else(|| "not set".into(), |value| shown(value));
    names
        .into_iter()
        .map(|name| (name, variables.each_ref().map(|variables| variables.get(name))))
        .filter(|(_, [left, right])| left != right)
        .map(|(name, values)| {
            let name = String::from_utf8_lossy(name).escape_debug().to_string();
            format!("environment, {name}: {} | {}", value(values[0]), value(values[1]))
        })
        .collect()
}

/// Files of the host that both runs asked for, and that differ.
fn files(recordings: [&Recording; 2], given: &[Given; 2]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let [left, right] = given;
    // By their paths in the guests, which need not have the same grants.
    let theirs: BTreeMap<String, &HostPath> =
        right.metadata.keys().chain(right.blocks.keys()).map(|path| (right.path(path), path)).collect();
    let ours: BTreeMap<String, &HostPath> =
        left.metadata.keys().chain(left.blocks.keys()).map(|path| (left.path(path), path)).collect();
    for (name, paths) in ours.iter().filter_map(|(name, path)| Some((name, [*path, theirs.get(name)?]))) {
        let metadata = [0, 1].map(|side| given[side].metadata.get(paths[side]));
        let what = match metadata {
            [Some(one), Some(other)] if is(one) != is(other) => Some([kind(one), kind(other)]),
            _ => None,
        };
        let what = match what {
            Some(what) => Some(what),
            None => contents(recordings, given, paths)?,
        };
        lines.extend(what.map(|[one, other]| format!("{name}: {one} | {other}")));
    }
    Ok(lines)
}

/// What counts of a file: times change often and mean little, and so does the size of a directory.
fn is(metadata: &Option<Metadata>) -> Option<(FileKind, u32, u64)> {
    metadata.as_ref().map(|m| (m.kind, m.mode, if m.kind == FileKind::Regular { m.size } else { 0 }))
}

fn kind(metadata: &Option<Metadata>) -> String {
    match metadata {
        None => "not there".into(),
        Some(Metadata { kind: FileKind::Regular, size, mode, .. }) => format!("{size} bytes, mode {mode:#o}"),
        Some(Metadata { kind, mode, .. }) => format!("{kind:?}, mode {mode:#o}"),
    }
}

/// The first byte at which a file that both have read differs.
fn contents(
    recordings: [&Recording; 2],
    given: &[Given; 2],
    paths: [&HostPath; 2],
) -> Result<Option<[String; 2]>> {
    let [Some(one), Some(other)] = [0, 1].map(|side| given[side].blocks.get(paths[side])) else {
        return Ok(None);
    };
    for (block, answer) in one {
        let Some(theirs) = other.get(block).filter(|theirs| *theirs != answer) else { continue };
        let block_of = |recording: &Recording, answer| -> Result<Vec<u8>> {
            Ok(match recording.response(answer)? {
                Response::Block(Ok(bytes)) => bytes.to_vec(),
                _ => Vec::new(),
            })
        };
        let bytes = [block_of(recordings[0], answer)?, block_of(recordings[1], theirs)?];
        let at = bytes[0].iter().zip(&bytes[1]).take_while(|(one, other)| one == other).count();
        if bytes[0] == bytes[1] {
            continue;
        }
        let offset = block.saturating_mul(BLOCK_SIZE as u64).saturating_add(at as u64);
        return Ok(Some(bytes.map(|bytes| format!("{} at byte {offset}", shown(&bytes[at..])))));
    }
    Ok(None)
}

/// The beginning of a value.
fn shown(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN) {
        Some(first) if bytes.len() > SHOWN => format!("{}...", quote(first)),
        _ => quote(bytes),
    }
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST_LINES);
    if more > 0 {
        lines.truncate(MOST_LINES);
        lines.push(format!("and {more} more"));
    }
    lines
}
