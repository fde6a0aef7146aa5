//! The directory of a campaign, as AFL++ lays it out: `OUT/default/queue`, `crashes`, `hangs`, `fuzzer_stats` and
//! `plot_data`, and the same in `OUT/core-2` for the second core. What is there is taken up again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::files::{self, FileError, failed, make_dir, put_in_place, write_new, write_whole};

/// What is being written.
const ASIDE: &str = ".new";
/// Names of the columns of `plot_data`.
const PLOT: &str = "# relative_time, cycles_done, cur_item, corpus_count, pending_total, pending_favs, map_size, \
                    saved_crashes, saved_hangs, max_depth, execs_per_sec, total_execs, edges_found\n";
/// The input, in the directory of a crash or hang.
pub const INPUT: &str = "input";
/// The recording, in the same.
pub const RECORDING: &str = "recording";
/// Who called whom, in the same.
pub const STACK: &str = "stack.txt";

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Some file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process fuzzes there.
    #[error("{} is in use by another dejavm-fuzz: give another directory by -o", .0.display())]
    InUse(PathBuf),
}

/// The directory of a campaign.
#[derive(Debug)]
pub struct Output {
    root: PathBuf,
    aside: PathBuf,
    /// Held as long as this process lives.
    _lock: File,
}

/// The three places in which inputs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Queue,
    Crashes,
    Hangs,
}

impl Kept {
    /// The directory's name.
    pub fn name(self) -> &'static str {
        match self {
            Kept::Queue => "queue",
            Kept::Crashes => "crashes",
            Kept::Hangs => "hangs",
        }
    }
}

impl Output {
    /// Makes what is missing of that of a core; the first one's number is zero. What a killed process was about to write is
    /// removed.
    pub fn open(out: &Path, core: usize) -> Result<Output, OutputError> {
        let root = out.join(instance(core));
        let aside = root.join(ASIDE);
        make_dir(&root)?;
        let lock = File::open(&root).map_err(failed("open", &root))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(OutputError::InUse(root));
        }
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(failed("remove", &aside))?;
        }
        for dir in [aside.clone(), root.join("queue"), root.join("crashes"), root.join("hangs")] {
            make_dir(&dir)?;
        }
        Ok(Output { root, aside, _lock: lock })
    }

    /// What is kept in one of the places, in the order of its names, which begin with numbers.
    pub fn list(&self, kept: Kept) -> Result<Vec<PathBuf>, FileError> {
        files::list(&self.root.join(kept.name()))
    }

    /// Puts an input into the queue.
    pub fn add_to_queue(&self, name: &str, input: &[u8]) -> Result<(), FileError> {
        write_whole(&self.aside, &self.root.join(Kept::Queue.name()).join(name), input)
    }

    /// Begins a directory for an input that crashes or hangs; [`Output::keep`] puts it in its place.
    pub fn begin(&self, input: &[u8]) -> Result<PathBuf, FileError> {
        let dir = self.aside.join("found");
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(failed("remove", &dir))?;
        }
        make_dir(&dir)?;
        write_new(&dir.join(INPUT), input)?;
        Ok(dir)
    }

    /// Puts a directory in its place, and says where that is.
    pub fn keep(&self, dir: &Path, kept: Kept, name: &str) -> Result<PathBuf, FileError> {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))?;
        let to = self.root.join(kept.name()).join(name);
        put_in_place(dir, &to)?;
        Ok(to)
    }

    /// Keeps the input that a run failed with, and says where.
    pub fn keep_failed(&self, input: &[u8]) -> Result<PathBuf, FileError> {
        let path = self.root.join("failed-input");
        write_whole(&self.aside, &path, input)?;
        Ok(path)
    }

    /// What `fuzzer_stats` says; nothing where there is none.
    pub fn stats(&self) -> String {
        fs::read_to_string(self.root.join("fuzzer_stats")).unwrap_or_default()
    }

    /// Replaces `fuzzer_stats`.
    pub fn write_stats(&self, text: &str) -> Result<(), FileError> {
        write_whole(&self.aside, &self.root.join("fuzzer_stats"), text.as_bytes())
    }

    /// Adds a line to `plot_data`.
    pub fn plot(&self, line: &str) -> Result<(), FileError> {
        let path = self.root.join("plot_data");
        let append = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            let head = if file.metadata()?.len() == 0 { PLOT } else { "" };
            file.write_all(format!("{head}{line}\n").as_bytes())
        };
        append().map_err(failed("write", &path))
    }
}

/// The name of a core's directory.
fn instance(core: usize) -> String {
    match core {
        0 => "default".into(),
        _ => format!("core-{}", core + 1),
    }
}

/// The number in a name that begins `id:`.
pub fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("id:")?.split([',', '.']).next()?.parse().ok()
}

/// What a name has behind a word and a colon.
pub fn field<'a>(path: &'a Path, word: &str) -> Option<&'a str> {
    let fields = path.file_name()?.to_str()?.split(',');
    fields.filter_map(|field| field.split_once(':')).find(|(name, _)| *name == word).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_fields() {
        let path = Path::new("/out/crashes/id:000012,sig:11,src:000003,stack:00ff");
        assert_eq!(
            (number(path), field(path, "sig"), field(path, "stack")),
            (Some(12), Some("11"), Some("00ff"))
        );
        assert_eq!((number(Path::new("README.txt")), field(path, "op")), (None, None));
    }

    #[test]
    fn a_directory_is_taken_up_again_and_is_used_once_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let output = Output::open(dir.path(), 0).expect("a new one");
        output.add_to_queue("id:000000,orig:x", b"x").expect("an input");
        let begun = output.begin(b"y").expect("a crash");
        assert!(matches!(Output::open(dir.path(), 0), Err(OutputError::InUse(_))));
        drop(output);
        let output = Output::open(dir.path(), 0).expect("the same");
        assert!(!begun.exists());
        assert_eq!(output.list(Kept::Queue).expect("a list").len(), 1);
        output.plot("1, 2").expect("a line");
        output.plot("3, 4").expect("a line");
        let plot = fs::read_to_string(dir.path().join("default/plot_data")).expect("a file");
        assert_eq!(plot.lines().skip(1).collect::<Vec<_>>(), ["1, 2", "3, 4"]);
    }
}
