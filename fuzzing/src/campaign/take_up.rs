//! What a campaign begins with: what one before it has left, and the first inputs.

use std::path::{Path, PathBuf};

use libafl::executors::ExitKind;
use libafl::inputs::BytesInput;

use super::files::{self, FileError};
use super::output::{self, Kept};
use super::{Campaign, Error};

/// What is begun with when nothing is given.
const SEED: &[u8] = b"0\n";
/// Characters of a name that become part of another one.
const NAME: usize = 48;

impl Campaign {
    /// Takes up what a campaign before this one has left: crashes and hangs are known, and the queue is this one's.
    pub(super) fn take_up(&mut self) -> Result<(), Error> {
        for kept in [Kept::Crashes, Kept::Hangs] {
            for path in self.output.list(kept)?.iter().filter(|path| output::number(path).is_some()) {
                self.know(kept, path)?;
            }
        }
        for path in self.output.list(Kept::Queue)? {
            let Some(number) = output::number(&path) else { continue };
            let input = BytesInput::from(&files::read(&path)?[..]);
            let added = match self.run_input(&input)? {
                ExitKind::Ok => self.engine.add(&input)?,
                _ => None,
            };
            self.next_name = self.next_name.max(number + 1);
            if let Some(id) = added {
                self.remember(id, number, 1, true);
                self.share_input(&input)?;
            }
            self.tick()?;
        }
        if self.engine.inputs() > 0 {
            let text =
                format!("goes on with {} inputs and {} crashes", self.engine.inputs(), self.figures.crashes);
            self.voice.note(text);
        }
        Ok(())
    }

    /// Runs the input of a crash or hang that was kept, so that what is like it is not looked into again.
    fn know(&mut self, kept: Kept, path: &Path) -> Result<(), Error> {
        let input = BytesInput::from(&self.finder.know(kept, path)?[..]);
        match kept {
            Kept::Hangs => self.figures.hangs += 1,
            _ => self.figures.crashes += 1,
        }
        match self.run_input(&input)? {
            ExitKind::Crash => {
                let death = self.engine.ran().and_then(|ran| ran.death.clone());
                self.crashes.is_new(&self.engine.classes(), death.as_ref());
            }
            ExitKind::Timeout => {
                self.hangs.is_new(&self.engine.classes(), None);
            }
            _ => {}
        }
        Ok(())
    }

    /// Runs the first inputs: all of them come into the queue of a new campaign, and what is new about them into that of
    /// one that goes on.
    pub(super) fn take_seeds(&mut self) -> Result<(), Error> {
        let goes_on = self.engine.inputs() > 0;
        let seeds = match &self.plan.seeds {
            Some(path) => read_inputs(path)?,
            None if goes_on => Vec::new(),
            None => vec![(PathBuf::from("none"), SEED.to_vec())],
        };
        for (path, mut bytes) in seeds {
            bytes.truncate(self.plan.max_len);
            let input = BytesInput::from(&bytes[..]);
            let origin = format!("{}orig:{}", self.moment(), name_in_name(&path));
            if goes_on {
                self.attempt(&input, &origin, 1)?;
                continue;
            }
            match self.run_input(&input)? {
                ExitKind::Ok => {
                    if let Some(id) = self.engine.add(&input)? {
                        let is_first_core = self.plan.core == 0;
                        self.keep(id, &input, &origin, 1, is_first_core)?;
                        if is_first_core {
                            self.share_input(&input)?;
                        }
                    }
                }
                kind => self.look_into(kind, &input, &origin)?,
            }
            self.tick()?;
        }
        Ok(())
    }
}

/// The files of a directory, sorted by name, or a file, with their bytes.
pub fn read_inputs(path: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, FileError> {
    let paths = if path.is_dir() { files::list(path)? } else { vec![path.to_owned()] };
    let inputs = paths.into_iter().filter(|path| !path.is_dir());
    inputs.map(|path| files::read(&path).map(|bytes| (path, bytes))).collect()
}

/// A file's name, as a part of another one: there commas part fields.
fn name_in_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.chars().filter(|c| !c.is_control()).map(|c| if c == ',' { '_' } else { c });
    name.take(NAME).collect()
}
