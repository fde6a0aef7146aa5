//! Where memory changes.

use std::ops::Range;

use dejavm::replay::{Moment, Position, Stop, Stops, Timeline};
use serde_json::{Map, Value};

use crate::cli::Result;
use crate::cli::hits::Hit;

/// Bytes of what changed that are shown.
const SHOWN: usize = 16;

/// Finds the changes of memory of a process, by default of the one that the recording starts with, from where the
/// timeline is to the end, or until `found` says that it is enough. What an instruction changes is found before it.
pub fn watch(
    timeline: &mut Timeline,
    process: Option<u32>,
    range: &Range<u64>,
    found: &mut dyn FnMut(Hit) -> bool,
) -> Result<()> {
    let mut stops = Stops { writes: vec![range.clone()], ..Stops::default() };
    stops.process = process.unwrap_or(stops.process);
    // Of a process that does not run there, it is not known yet.
    let runs = |timeline: &Timeline| timeline.machine().program().map(|program| program.kernel.pid());
    let mut before = (runs(timeline) == Some(stops.process)).then(|| content(timeline, range));
    while let Stop::Written(_) = timeline.run(&stops)? {
        let position = timeline.position()?;
        let moment = match position.steps {
            // By the exit itself, which the first step behind it shows.
            0 | 1 if position.branches == 0 => Moment::Before(position.exit),
            0 => {
                timeline.reverse_step()?;
                let before = timeline.position()?;
                timeline.seek(position)?;
                before.into()
            }
            steps => Position { steps: steps - 1, ..position }.into(),
        };
        let after = content(timeline, range);
        let old = match before.replace(after.clone()) {
            Some(old) => old,
            None => {
                timeline.seek(moment)?;
                let old = content(timeline, range);
                timeline.seek(position)?;
                old
            }
        };
        let by = match moment {
            Moment::Before(exit) => format!("by exit {exit}"),
            Moment::At(_) => "by an instruction".into(),
        };
        let (old, new) = (shown(&old), shown(&after));
        let mut more = Map::new();
        more.insert("address".into(), format!("{:#x}", range.start).into());
        more.insert("old".into(), Value::from(old.as_str()));
        more.insert("new".into(), Value::from(new.as_str()));
        let task = timeline.machine().program().map_or(0, |program| program.kernel.tid());
        let text = format!("{:#x}: {old} -> {new} {by}", range.start);
        if !found(Hit { moment, task, kind: "write", text, more }) {
            break;
        }
    }
    Ok(())
}

/// What is there; zeros where nothing is.
fn content(timeline: &Timeline, range: &Range<u64>) -> Vec<u8> {
    let mut content = vec![0; (range.end - range.start) as usize];
    timeline.look_at_memory(range.start, &mut content);
    content
}

/// A number, if it has the size of one; else the first bytes, in hexadecimal.
fn shown(bytes: &[u8]) -> String {
    if matches!(bytes.len(), 1 | 2 | 4 | 8) {
        let number = bytes.iter().rev().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        return format!("{number:#x}");
    }
    let mut text: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bytes() {
        assert_eq!(shown(&[0xe8, 3, 0, 0]), "0x3e8");
        assert_eq!(shown(&[0xff; 8]), "0xffffffffffffffff");
        assert_eq!(shown(&[1, 2, 3]), "010203");
        assert_eq!(shown(&[0; 17]), "0".repeat(32) + "...");
    }
}
