//! Crashes and hangs: each is run by itself and recorded, and kept if it is unlike those that are known.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use dejavm::{Death, Host, Outcome};
use dejavm_fuzz::{Recorded, Stack, Target};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::files::{self, FileError, failed};
use super::output::{self, Kept, Output, RECORDING, STACK};

/// How much longer a recorded run may take, with the start that it has besides.
const SLOWER: u32 = 10;
const START: Duration = Duration::from_secs(10);

/// Whoever keeps crashes and hangs.
pub struct Finder {
    target: Target,
    host: Host,
    /// Hashes of the stacks of known crashes.
    stacks: HashSet<String>,
    next_crash: u64,
    next_hang: u64,
}

/// A crash or hang that was kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// Its directory.
    pub path: String,
    /// What it died of; of a hang nothing.
    pub signal: Option<u32>,
    /// Where it was, in words.
    pub place: Option<String>,
    /// The stack's hash.
    pub stack: Option<String>,
    /// Whether there is a recording.
    pub recorded: bool,
}

impl Finder {
    /// One that knows of nothing.
    pub fn new(target: Target, host: Host) -> Finder {
        Finder { target, host, stacks: HashSet::new(), next_crash: 0, next_hang: 0 }
    }

    /// Knows what was kept before, and gives its input.
    pub fn know(&mut self, kept: Kept, path: &Path) -> Result<Vec<u8>, FileError> {
        let next = if kept == Kept::Hangs { &mut self.next_hang } else { &mut self.next_crash };
        *next = output::number(path).map_or(*next, |number| (number + 1).max(*next));
        self.stacks.extend(output::field(path, "stack").map(str::to_owned));
        // AFL++ has files here.
        let input = if path.is_dir() { path.join(output::INPUT) } else { path.to_owned() };
        files::read(&input)
    }

    /// Knows stacks: those of crashes that other cores keep.
    pub fn know_stacks(&mut self, hashes: impl IntoIterator<Item = String>) {
        self.stacks.extend(hashes);
    }

    /// Records a crash, and keeps it if no known one has its stack. `origin` is the end of its name; `share` is told the stack,
    /// and tells those of other cores.
    pub fn crash(
        &mut self,
        output: &Output,
        input: &[u8],
        death: Option<&Death>,
        signal: u32,
        origin: &str,
        share: impl FnOnce(&str) -> Result<Vec<String>, super::Error>,
    ) -> Result<Option<Found>, super::Error> {
        let dir = output.begin(input)?;
        let limit = self.target.timeout() * SLOWER + START;
        let recorded = self.record(input, &dir, limit)?;
        let stack = match &recorded {
            Ok(Recorded { outcome: Outcome::Signalled(_), .. }) => {
                Stack::of_end(&dir.join(RECORDING), &self.host).map_err(|e| e.to_string())
            }
            Ok(run) => Err(format!("run by itself, it ended as {:?}", run.outcome)),
            Err(why) => Err(format!("it could not be recorded: {why}")),
        };
        let hash = match &stack {
            Ok(stack) => format!("{:016x}", stack.hash(signal)),
            Err(_) => format!("at-{signal}-{:x}", death.map_or(0, |death| death.rip)),
        };
        if self.stacks.contains(&hash) {
            return Ok(None);
        }
        self.know_stacks(share(&hash)?);
        if !self.stacks.insert(hash.clone()) {
            return Ok(None);
        }
        let recorded_death = recorded.as_ref().ok().and_then(|run| run.death.as_ref());
        let text = describe(recorded_death.or(death), signal, &hash, &stack);
        files::write_new(&dir.join(STACK), text.as_bytes())?;
        let name = format!("id:{:06},sig:{signal:02},stack:{hash},{origin}", self.next_crash);
        let dir = output.keep(&dir, Kept::Crashes, &name)?;
        self.next_crash += 1;
        let place = stack.as_ref().ok().and_then(Stack::place).map(ToString::to_string);
        let (path, signal, stack) = (dir.display().to_string(), Some(signal), Some(hash));
        Ok(Some(Found { path, signal, place, stack, recorded: recorded.is_ok() }))
    }

    /// Records a hang, and keeps it if it hangs by itself as well: the machine may just have been busy.
    pub fn hang(&mut self, output: &Output, input: &[u8], origin: &str) -> Result<Option<Found>, FileError> {
        let dir = output.begin(input)?;
        let recorded = self.record(input, &dir, self.target.timeout() * 2 + Duration::from_secs(1))?;
        if recorded.as_ref().is_ok_and(|run| !matches!(run.outcome, Outcome::Deadline | Outcome::Stuck)) {
            return Ok(None);
        }
        if let Ok(Recorded { outcome, .. }) = &recorded {
            let stack = Stack::of_end(&dir.join(RECORDING), &self.host).map_err(|e| e.to_string());
            files::write_new(&dir.join(STACK), describe_hang(*outcome, &stack).as_bytes())?;
        }
        let dir = output.keep(&dir, Kept::Hangs, &format!("id:{:06},{origin}", self.next_hang))?;
        self.next_hang += 1;
        let (path, recorded) = (dir.display().to_string(), recorded.is_ok());
        Ok(Some(Found { path, signal: None, place: None, stack: None, recorded }))
    }

    /// Records a run. Only a full disk is an error here: a finding without a recording is better than none.
    fn record(
        &self,
        input: &[u8],
        dir: &Path,
        limit: Duration,
    ) -> Result<Result<Recorded, String>, FileError> {
        let recording = dir.join(RECORDING);
        let error = match self.target.record(input, &recording, limit, &self.host) {
            Ok(recorded) => return Ok(Ok(recorded)),
            Err(e) => e,
        };
        let text = error.to_string();
        if let Some(full) = files::FULL.into_iter().find(|errno| text.contains(&os_error(*errno))) {
            return Err(failed("write", &recording)(full.into()));
        }
        if recording.exists() {
            fs::remove_dir_all(&recording).map_err(failed("remove", &recording))?;
        }
        Ok(Err(text))
    }
}

/// How an error of the system's ends in words: that is all that comes of one in a recorder.
fn os_error(errno: Errno) -> String {
    format!("(os error {})", errno.raw_os_error())
}

/// What `stack.txt` says.
fn describe(death: Option<&Death>, signal: u32, hash: &str, stack: &Result<Stack, String>) -> String {
    let mut text = match death {
        Some(death) => format!("{death}\n"),
        None => format!("killed by {}\n", dejavm::sandbox::program::signal::name(signal)),
    };
    if stack.is_ok() {
        text += &format!("stack {hash}\n");
    }
    text + &frames(stack)
}

/// The same of a hang. What a program does behind its last exit is not recorded.
fn describe_hang(outcome: Outcome, stack: &Result<Stack, String>) -> String {
    let how = match outcome {
        Outcome::Stuck => "it waits for what never comes",
        _ => "the time limit was over; this is its last system call",
    };
    format!("{how}\n{}", frames(stack))
}

/// Who called whom, or why that is not known.
fn frames(stack: &Result<Stack, String>) -> String {
    match stack {
        Ok(stack) => format!("\n{stack}\ndejavm debug --end {RECORDING}\n"),
        Err(why) => format!("\nno stack: {why}\n"),
    }
}
