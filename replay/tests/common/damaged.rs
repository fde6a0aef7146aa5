//! A recording, what is in it, and what is left of it after damage.

use std::path::Path;

use dejavm_replay::{Ending, Error, KeyedRecord, Outputs, Record, Recording, Replayer, WorldRecord};
use dejavm_sandbox::world::{Response, WorldError};

use super::*;

/// Enough for each kind of block and record.
pub const EXITS: u64 = 17;

/// What is in an undamaged recording.
pub struct Good {
    pub dir: tempfile::TempDir,
    pub steps: Vec<Step>,
    pub log: Vec<u8>,
    pub records: Vec<Record>,
    pub answers: Vec<Response>,
}

pub fn good(sealed: bool) -> Good {
    let dir = tempfile::tempdir().unwrap();
    let steps = sample(EXITS);
    let mut options = small_blocks();
    options.block_bytes = 600;
    record(dir.path(), &steps, options, sealed.then(ended));
    let recording = Recording::open(dir.path()).unwrap();
    let records = records(&recording);
    let answers = answers(&recording, &records).unwrap();
    let log = std::fs::read(dir.path().join("log")).unwrap();
    Good { dir, steps, log, records, answers }
}

/// All answers that some records speak of.
pub fn answers(recording: &Recording, records: &[Record]) -> Result<Vec<Response>, Error> {
    let answer = |record: &Record| match record {
        Record::World(WorldRecord { answer, .. }) | Record::Keyed(KeyedRecord { answer, .. }) => {
            Some(recording.response(answer))
        }
        _ => None,
    };
    records.iter().filter_map(answer).collect()
}

/// How much of a damaged recording could be read.
#[derive(Debug, PartialEq)]
pub enum Seen {
    Refused,
    /// So many records, then an error.
    Broken(usize),
    /// So many records, then the end of an interrupted log.
    Short(usize),
    /// Everything.
    Whole,
}

/// Reads what there is and compares it to what there was.
pub fn read(good: &Good, dir: &Path) -> Seen {
    let Ok(recording) = Recording::open(dir) else {
        return Seen::Refused;
    };
    let mut read = Vec::new();
    let mut error = false;
    for record in recording.records() {
        match record {
            Ok(record) => read.push(record),
            Err(_) => error = true,
        }
    }
    assert!(good.records.starts_with(&read), "other records than were written");
    if let Ok(answers) = answers(&recording, &read) {
        assert!(good.answers.starts_with(&answers), "other answers than were given");
    } else {
        error = true;
    }
    for exit in [1, 8, EXITS] {
        for sought in recording.records_from(exit).map_while(Result::ok) {
            assert!(good.records.contains(&sought));
        }
    }
    let _ = (recording.verify(), recording.info(), recording.digest());
    match recording.ending() {
        _ if error => Seen::Broken(read.len()),
        Ending::Interrupted { .. } => Seen::Short(read.len()),
        _ if read.len() == good.records.len() => Seen::Whole,
        other => panic!("{} of {} records and no word of it: {other}", read.len(), good.records.len()),
    }
}

/// Replays what there is: a damaged log must not look like a run that went another way.
pub fn replay(good: &Good, dir: &Path) {
    let Ok(replayer) = Replayer::open(dir) else {
        return;
    };
    let mut world = replayer.world(Outputs::sink());
    let (_, result) = drive(&good.steps, &mut *world, &mut *replayer.observer());
    assert!(matches!(result, Ok(()) | Err(WorldError::EndOfLog | WorldError::Recorder(_))), "{result:?}");
}

pub fn put(good: &Good, log: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(good.dir.path().join("manifest.json"), dir.path().join("manifest.json")).unwrap();
    std::fs::write(dir.path().join("log"), log).unwrap();
    dir
}
