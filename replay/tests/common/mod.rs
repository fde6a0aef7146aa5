//! Runs without a virtual machine: a script of steps, and an outside made up from the questions.
#![allow(dead_code)]

pub mod damaged;

use std::path::Path;
use std::time::Duration;

use dejavm_replay::{Manifest, Record, Recorder, RecorderOptions, Recording, RunEnd, Summary};
use dejavm_sandbox::errno::Errno;
use dejavm_sandbox::exit::{Exit, ExitKind, Fault, Observer, Rung, SourceKind, Trapped};
use dejavm_sandbox::world::{
    DirEntry, FileKind, HostClock, HostPath, Metadata, OutputChange, Request, Response, Source, Stream,
    TerminalAnswer, TerminalRequest, Wake, Woken, World, WorldError,
};

use dejavm_snapshot::ContentId;

/// One thing that a run does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Clock,
    Wait(Option<u64>),
    Signal(bool),
    Terminal(TerminalRequest),
    Input(usize),
    Output(Stream, Vec<u8>),
    /// At an offset of a file.
    WriteAt(u64, Vec<u8>),
    Resize(u64),
    Metadata(HostPath),
    ReadLink(HostPath),
    ReadDir(HostPath),
    Block(HostPath, u64),
    Exit(Exit),
    Fault(Fault),
}

impl Step {
    /// The question, for those that are one.
    pub fn request(&self) -> Option<Request<'_>> {
        Some(match self {
            Step::Clock => Request::Clock,
            Step::Wait(ns) => Request::Wait { input: Some(Source::Stdin), ns: *ns },
            Step::Signal(fatal) => Request::Signal { fatal: fatal.then_some(7) },
            Step::Terminal(request) => Request::Terminal(*request),
            Step::Input(max) => Request::Input { max: *max, wait: true },
            Step::Output(stream, data) => Request::Output { stream: *stream, data },
            Step::WriteAt(offset, data) => Request::OutputFile {
                stream: Stream::Stdout,
                change: OutputChange::Write { offset: *offset, data },
            },
            Step::Resize(len) => {
                Request::OutputFile { stream: Stream::Stdout, change: OutputChange::Resize { len: *len } }
            }
            Step::Metadata(path) => Request::Metadata { path },
            Step::ReadLink(path) => Request::ReadLink { path },
            Step::ReadDir(path) => Request::ReadDir { path },
            Step::Block(path, block) => Request::ReadBlock { path, block: *block },
            Step::Exit(_) | Step::Fault(_) => return None,
        })
    }
}

/// An outside whose answers depend on the question and, for ordered ones, on how many came before.
#[derive(Debug, Default)]
pub struct FakeWorld {
    asked: u64,
}

impl FakeWorld {
    /// One that has been asked `asked` ordered questions.
    pub fn after(asked: u64) -> FakeWorld {
        FakeWorld { asked }
    }
}

/// Bytes that do not compress to nothing and depend on `seed`.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(step).collect()
}

impl World for FakeWorld {
    fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
        if let Request::ReadBlock { path, block } = request {
            let seed = path.path.iter().fold(block, |a, b| a.wrapping_mul(31) + u64::from(*b));
            return Ok(Response::Block(match seed % 5 {
                0 => Err(Errno::EIO),
                1 => Ok(noise(seed, 17).into()),
                // The same content for many keys.
                2 => Ok(noise(1, 5000).into()),
                _ => Ok(noise(seed, 300 + (seed % 700) as usize).into()),
            }));
        }
        self.asked += 1;
        let n = self.asked;
        Ok(match request {
            Request::Clock => Response::Clock(HostClock { realtime: 1_000_000 * n, monotonic: n }),
            Request::Input { max, .. } => Response::Input(match n % 4 {
                0 => Err(Errno::EAGAIN),
                _ => Ok(noise(n % 3, max)),
            }),
            Request::Output { data, .. } => Response::Output(match n % 5 {
                0 => Err(Errno::EPIPE),
                1 => Ok(data.len() / 2),
                _ => Ok(data.len()),
            }),
            Request::OutputFile { change, .. } => Response::OutputFile(match n % 3 {
                0 => Err(Errno::ENOSPC),
                _ => Ok(change.data().len() / 2),
            }),
            Request::Metadata { path } => Response::Metadata(if path.path.is_empty() {
                Err(Errno::ENOENT)
            } else {
                Ok(Metadata {
                    kind: FileKind::Regular,
                    mode: 0o644,
                    uid: 1,
                    gid: 2,
                    nlink: 1,
                    size: n,
                    mtime: -5,
                })
            }),
            Request::ReadLink { path } => Response::Link(Ok(noise(n, path.path.len() * 40))),
            Request::ReadDir { .. } => Response::Dir(Ok((0..n % 40)
                .map(|i| DirEntry { name: i.to_string().into_bytes(), kind: FileKind::Directory })
                .collect())),
            Request::Wait { ns, .. } => Response::Wait(Woken { by: Wake::Time, ns: ns.unwrap_or(n) }),
            // One in three comes.
            Request::Signal { .. } => Response::Signal(n.is_multiple_of(3).then_some(1 + n as u32 % 64)),
            Request::Terminal(TerminalRequest::Size) => {
                Response::Terminal(Ok(TerminalAnswer::Size([24, n as u16, 0, 0])))
            }
            Request::Terminal(_) => Response::Terminal(Err(Errno::ENOTTY)),
            Request::ReadBlock { .. } => Response::Block(Err(Errno::EIO)),
        })
    }
}

/// Does the steps and gives the answers back, up to the first error.
pub fn drive(
    steps: &[Step],
    world: &mut dyn World,
    observer: &mut dyn Observer,
) -> (Vec<Response>, Result<(), WorldError>) {
    let mut answers = Vec::new();
    for step in steps {
        let result = match step {
            Step::Exit(exit) => observer.exit(exit),
            Step::Fault(fault) => {
                observer.fault(fault);
                Ok(())
            }
            other => other
                .request()
                .map_or(Ok(()), |request| world.ask(request).map(|answer| answers.push(answer))),
        };
        if result.is_err() {
            return (answers, result);
        }
    }
    (answers, Ok(()))
}

pub fn exit(number: u64, kind: ExitKind) -> Exit {
    Exit {
        number,
        task: 2,
        kind,
        rip: 0x40_0000 + number % 7,
        result: number % 11,
        effects: if number.is_multiple_of(3) { number.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { 0 },
        clock: 1_700_000_000_000_000_000 + number * 1000,
    }
}

pub fn syscall(number: u64, call: u64) -> Step {
    Step::Exit(exit(number, ExitKind::Syscall { number: call, args: [number, 2, 3, 4, 5, u64::MAX] }))
}

pub fn path(name: &str) -> HostPath {
    HostPath { grant: 0, path: name.as_bytes().to_vec() }
}

pub fn fault(page: u64) -> Step {
    Step::Fault(Fault { page, rung: Rung::Annotated, source: SourceKind::Snapshot })
}

/// A run of some exits with everything in between, ending with the guest's end.
pub fn sample(exits: u64) -> Vec<Step> {
    let mut steps = vec![fault(1), Step::Block(path("bin/prog"), 0)];
    for n in 1..exits {
        match n % 8 {
            1 => steps.extend([Step::Metadata(path("etc/hosts")), fault(n)]),
            2 => steps.extend([Step::Input(40 + (n as usize % 3) * 300), fault(n), fault(n + 1)]),
            3 => steps.push(Step::Block(path("bin/prog"), n)),
            4 => steps.push(Step::Output(Stream::Stdout, format!("line {n}\n").into_bytes())),
            5 => steps.extend([Step::ReadLink(path("lib")), Step::ReadDir(path("usr"))]),
            6 => steps.extend([Step::Clock, Step::Output(Stream::Stderr, noise(n, 700))]),
            _ => {}
        }
        steps.push(match n % 5 {
            0 => Step::Exit(exit(n, ExitKind::Instruction(Trapped::Rdtsc))),
            1 => Step::Exit(exit(n, ExitKind::Instruction(Trapped::Cpuid { leaf: 7, subleaf: 1 }))),
            2 => Step::Exit(exit(n, ExitKind::Exception { vector: 14, code: 6, address: n })),
            3 if n % 2 == 0 => Step::Exit(exit(n, ExitKind::Timer { steps: n * 1000 })),
            _ => syscall(n, n % 300),
        });
    }
    steps.push(Step::Exit(exit(exits, ExitKind::End { status: 3 << 8 })));
    steps
}

/// Small blocks, so that a short run has several.
pub fn small_blocks() -> RecorderOptions {
    let mut options = RecorderOptions::default();
    options.block_bytes = 4096;
    options.flush_after = Duration::from_secs(100);
    options
}

pub fn manifest() -> Manifest {
    let mut manifest = Manifest::new(ContentId::from_bytes([0xab; 32]));
    manifest.command = vec!["prog".into(), "arg".into()];
    manifest.seed = 42;
    manifest
}

pub fn ended() -> RunEnd {
    RunEnd::Ended { status: 3 << 8 }
}

/// Records the steps; sealed when there is an `end`.
pub fn record(dir: &Path, steps: &[Step], options: RecorderOptions, end: Option<RunEnd>) -> Option<Summary> {
    let recorder = Recorder::create_with(dir, manifest(), options).unwrap();
    let mut world = recorder.world(Box::new(FakeWorld::default()));
    let mut observer = recorder.observer();
    drive(steps, &mut *world, &mut *observer).1.unwrap();
    end.map(|end| recorder.finish(end).unwrap())
}

pub fn records(recording: &Recording) -> Vec<Record> {
    recording.records().collect::<Result<_, _>>().unwrap()
}

/// The exits, ordered questions and faults of some steps, as a log has them, without the answers.
pub fn outline(steps: &[Step]) -> Vec<String> {
    let line = |step: &Step| match step {
        Step::Exit(exit) => Some(format!("{exit:?}")),
        Step::Fault(fault) => Some(format!("{fault:?}")),
        Step::Block(..) => None,
        other => other.request().and_then(|r| dejavm_replay::Asked::of(&r)).map(|a| format!("{a:?}")),
    };
    steps.iter().filter_map(line).collect()
}

/// The same of a log.
pub fn log_outline(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| match record {
        Record::Exit(exit) => Some(format!("{exit:?}")),
        Record::Fault(fault) => Some(format!("{fault:?}")),
        Record::World(world) => Some(format!("{:?}", world.asked)),
        Record::Keyed(_) => None,
    };
    records.iter().filter_map(line).collect()
}
