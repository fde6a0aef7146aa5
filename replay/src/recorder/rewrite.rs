//! A log written anew, in larger blocks and compressed harder.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use super::writer::{LogWriter, Stopped};
use crate::error::Error;
use crate::reader::{Ending, Recording};
use crate::record::{Answer, Record};

/// Most bytes of a block of records, uncompressed, where the log's own blocks are not longer. A replay holds
/// a few such blocks, and a search for an exit decodes one.
const BLOCK: usize = 512 << 10;

/// Most bytes of contents between two blocks of records, where the records of one do not speak of more: a
/// replay reads them ahead, with the blocks that it holds.
const CONTENTS: usize = 2 << 20;

/// Writes the log of a recording to the end of `file`, at this level of zstd's, with the contents that its
/// records speak of and no others. A log that was interrupted is one that was interrupted. `path` is for
/// messages; `progress` is called with the bytes read and their total.
///
/// # Errors
/// What is wrong with the log, and what keeps the file from being written.
pub(crate) fn rewrite(
    recording: &Recording,
    file: &File,
    path: &Path,
    level: i32,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let io = |e| Error::io("write", path, e);
    let stopped = |stopped| match stopped {
        Stopped::Io(e) => io(e),
        Stopped::Full(_) => io(std::io::ErrorKind::FileTooLarge.into()),
    };
    let mut writer =
        LogWriter::new(Box::new(file.try_clone().map_err(io)?), path, level, None).map_err(io)?;
    writer.write_header().map_err(io)?;
    let mut records = recording.records();
    let mut checked = HashSet::new();
    let mut batch = Vec::new();
    let (mut batch_bytes, mut content_bytes) = (0, 0);
    while let Some(chunk) = records.chunk() {
        let chunk = chunk?;
        if batch_bytes + records.block_bytes() > BLOCK || content_bytes > CONTENTS {
            writer.write_records(std::mem::take(&mut batch)).map_err(stopped)?;
            (batch_bytes, content_bytes) = (0, 0);
        }
        batch_bytes += records.block_bytes();
        for record in &chunk {
            let answer = match record {
                Record::World(world) => &world.answer,
                Record::Keyed(keyed) => &keyed.answer,
                Record::Exit(_) | Record::Fault(_) => continue,
            };
            recording.check_answer(answer, &mut checked)?;
            if let Answer::Blob { id, .. } = answer
                && !writer.has_content(*id)
            {
                let content = recording.blob(*id)?;
                content_bytes += content.len();
                writer.write_content(*id, &content).map_err(stopped)?;
            }
        }
        batch.extend(chunk);
        let (done, total) = records.progress();
        progress(done, total);
    }
    writer.write_records(batch).map_err(stopped)?;
    if let Ending::Sealed { end, .. } = recording.ending() {
        writer.seal(end.clone()).map_err(stopped)?;
    }
    Ok(())
}
