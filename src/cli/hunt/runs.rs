//! The runs of a hunt: as many at once as there are CPUs, each a process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use dejavm::StopHandle;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::one::{self, Failed, Verdict};
use super::{Args, run_dir};
use crate::cli::{Failure, Result};

/// How often the hunt looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of a run's standard error that are kept: the last ones.
const SAID: usize = 4 << 10;

/// The runs of a hunt.
pub struct Runs {
    /// This program, and the words that start it.
    program: PathBuf,
    before: Vec<OsString>,
    behind: Vec<OsString>,
    output: PathBuf,
    stdin: Option<PathBuf>,
    expect: u8,
    jobs: usize,
    /// Runs at most.
    most: u64,
    /// Runs that were started.
    next: u64,
    /// Those that go on: what they can be ended by.
    running: BTreeMap<u64, OwnedFd>,
}

/// A run that is over.
struct Over {
    number: u64,
    /// `None` when the process could not be waited for.
    code: Option<i32>,
    said: Vec<u8>,
}

impl Runs {
    /// Runs of what this process was started with.
    pub fn new(args: &Args) -> Result<Runs> {
        let program = std::env::current_exe()
            .map_err(|e| Failure::new(format_args!("cannot find the program that this is: {e}")))?;
        let mut words = std::env::args_os().skip(1);
        let mut before: Vec<OsString> = words.by_ref().take_while(|word| word != "hunt").collect();
        before.push("hunt".into());
        let cpus = || thread::available_parallelism().map_or(1, |n| n.get());
        Ok(Runs {
            program,
            before,
            behind: words.collect(),
            output: args.output.clone(),
            stdin: args.stdin.clone(),
            expect: args.expect,
            jobs: args.jobs.map_or_else(cpus, usize::from),
            most: args.runs,
            next: 0,
            running: BTreeMap::new(),
        })
    }

    /// The numbers of those that were started.
    pub fn started(&self) -> impl Iterator<Item = u64> + use<> {
        0..self.next
    }

    /// Makes runs until one fails; that with the lowest number, if there are several. `done` is told how
    /// many are over.
    pub fn hunt(&mut self, stop: &StopHandle, done: impl Fn(u64)) -> Result<Option<Failed>> {
        let (sender, over) = channel();
        let found = self.hunt_with(stop, &sender, &over, done);
        self.end(0);
        while !self.running.is_empty() {
            let Ok(Over { number, .. }) = over.recv() else { break };
            self.running.remove(&number);
        }
        found
    }

    fn hunt_with(
        &mut self,
        stop: &StopHandle,
        sender: &Sender<Over>,
        over: &Receiver<Over>,
        done: impl Fn(u64),
    ) -> Result<Option<Failed>> {
        let mut found: Option<Failed> = None;
        let mut count = 0;
        loop {
            while found.is_none() && self.running.len() < self.jobs && self.next < self.most {
                self.start(self.next, sender.clone())?;
            }
            if self.running.is_empty() {
                return Ok(found);
            }
            let Over { number, code, said } = match over.recv_timeout(LOOK) {
                Ok(over) => over,
                Err(RecvTimeoutError::Disconnected) => return Ok(found),
                Err(RecvTimeoutError::Timeout) if stop.is_stopped() => {
                    return Err(Failure::new("the hunt was stopped"));
                }
                Err(RecvTimeoutError::Timeout) => continue,
            };
            self.running.remove(&number);
            count += 1;
            done(count);
            if found.as_ref().is_some_and(|found| found.number < number) {
                // It was ended, or does not matter any more.
                continue;
            }
            let said = String::from_utf8_lossy(&said).into_owned();
            match one::verdict(&run_dir(&self.output, number), self.expect) {
                Some(Verdict::Fine) => drop(fs::remove_dir_all(run_dir(&self.output, number))),
                Some(verdict) => {
                    found = Some(Failed { number, verdict, said });
                    self.end(number);
                }
                None if stop.is_stopped() => return Err(Failure::new("the hunt was stopped")),
                None => {
                    let code = code.map_or_else(|| "a signal".into(), |code| format!("status {code}"));
                    let said = said.trim();
                    return Err(Failure::new(format_args!(
                        "run {} could not be made ({code}): {said}",
                        number + 1
                    )));
                }
            }
        }
    }

    /// Starts a run, and a thread that waits for its end.
    fn start(&mut self, number: u64, over: Sender<Over>) -> Result<()> {
        let failed = |e: &dyn std::fmt::Display| Failure::new(format_args!("cannot start a run: {e}"));
        let stdin = match &self.stdin {
            Some(path) => {
                let file = File::open(path)
                    .map_err(|e| Failure::new(format_args!("--stdin {}: {e}", path.display())))?;
                Stdio::from(file)
            }
            None => Stdio::null(),
        };
        let mut child = Command::new(&self.program)
            .args(&self.before)
            .arg(format!("--one={number}"))
            .args(&self.behind)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed(&e))?;
        self.next = self.next.max(number + 1);
        let handle = Pid::from_raw(child.id() as i32)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let thread = thread::Builder::new().name(format!("run-{number}"));
        match handle {
            Ok(handle) => drop(self.running.insert(number, handle)),
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(&e));
            }
        }
        let wait = move || {
            let said = read_end(&mut child);
            let code = child.wait().ok().and_then(|status| status.code());
            let _ = over.send(Over { number, code, said });
        };
        // If no thread can be made, the child ends with its pipe and this process.
        thread.spawn(wait).map_err(|e| failed(&e))?;
        Ok(())
    }

    /// Ends those that were started behind a run.
    fn end(&self, behind: u64) {
        for handle in self.running.range(behind..).map(|(_, handle)| handle) {
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

/// The end of what a run says on its standard error, when it is over.
fn read_end(child: &mut Child) -> Vec<u8> {
    let mut said = Vec::new();
    let Some(mut pipe) = child.stderr.take() else { return said };
    let mut buffer = [0; SAID];
    while let Ok(len @ 1..) = pipe.read(&mut buffer) {
        said.extend_from_slice(&buffer[..len]);
        let surplus = said.len().saturating_sub(SAID);
        said.drain(..surplus);
    }
    said
}
