//! A sandbox at the moment at which its program is about to get an input.

use std::time::Duration;

use dejavm::{Called, Host, Input, InputBuffer, Outcome, PauseAt, Program, ResetPoint, Sandbox};

use crate::door::{InputFile, has_asan};
use crate::place::Known;
use crate::{Door, Error, FUZZ_FUNCTION, Target};

/// How long a program may take until it gets its input.
const START: Duration = Duration::from_secs(60);
/// Bytes of its standard error that are quoted when it does not.
const QUOTED: usize = 300;
/// Bytes of the longest input that a function is given.
const LONGEST: u64 = 1 << 20;

/// The sandbox, and the moment that it is put back to.
pub(crate) struct Paused {
    pub sandbox: Sandbox,
    point: ResetPoint,
    entrance: Entrance,
    /// Where a run is over, besides where the program ends.
    until: Option<Known>,
    /// What the program was started with: it may have it open.
    _file: Option<InputFile>,
}

/// Where an input goes in.
enum Entrance {
    Buffer(InputBuffer),
    /// This file's content.
    File(String),
    Call(Call),
}

/// A function that is called with an input.
struct Call {
    function: u64,
    memory: Memory,
}

/// Memory of the program that an input is put into.
enum Memory {
    /// This, for any.
    Kept(u64),
    /// As much as each needs, by `malloc`, which is here: what lies behind it is none of the input's, and a sanitizer
    /// knows.
    Allocated(u64),
}

impl Paused {
    /// Starts a program of which it is [known](Target::settled) how inputs come to it.
    pub fn start(target: &Target, host: &Host) -> Result<Paused, Error> {
        if let (Door::Function(_), Some(place)) = (&target.door, &target.until) {
            return Err(Error::FunctionReturns { place: place.clone() });
        }
        let input = InputBuffer::new();
        let mut program = target.program.clone().stdin_from(Input::Buffer(input.clone())).deadline(START);
        let mut file = None;
        // A function as it is when the program is run by itself: some drivers do nothing without a file.
        if target.door == Door::File || target.door == Door::Function(FUZZ_FUNCTION.into()) {
            program = file.insert(InputFile::new(&program, b"0")?).give(program);
        }
        let shown = program.clone();
        let mut sandbox = program.start(host)?;
        if let Some(place) = &target.at {
            let outcome = place.come_to(&mut sandbox)?;
            if outcome != Outcome::Paused {
                return Err(Error::NeverThere { place: place.clone(), outcome, said: said(shown, host) });
            }
        }
        let entrance = match (&target.door, &file) {
            (Door::Function(name), _) => Entrance::Call(Call::reached(&mut sandbox, name, shown, host)?),
            (Door::File, Some(InputFile { path, .. })) if target.at.is_some() => Entrance::File(path.clone()),
            (Door::File, Some(InputFile { path, .. })) => match sandbox.run_to_use_of(path)? {
                Outcome::Paused => Entrance::File(path.clone()),
                outcome => {
                    return Err(Error::OpensNothing { path: path.clone(), outcome, said: said(shown, host) });
                }
            },
            _ if target.at.is_some() => Entrance::Buffer(input),
            _ => match sandbox.run_until(PauseAt::FirstRead)? {
                Outcome::Paused => Entrance::Buffer(input),
                outcome => return Err(Error::ReadsNothing { outcome, said: said(shown, host) }),
            },
        };
        let until = target.until.as_ref().map(|place| place.known(&sandbox)).transpose()?;
        let point = sandbox.reset_point()?;
        sandbox.cover(target.modules.clone())?;
        Ok(Paused { sandbox, point, entrance, until, _file: file })
    }

    /// Runs an input to its end; a function that returns pauses there, and so does a program at the place where runs are over.
    pub fn run(&mut self, input: &[u8], timeout: Duration) -> Result<Outcome, dejavm::Error> {
        let Paused { sandbox, entrance, until, .. } = self;
        sandbox.set_deadline(Some(timeout));
        match entrance {
            Entrance::Buffer(buffer) => {
                buffer.set(input);
                run_on(sandbox, *until)
            }
            Entrance::File(path) => {
                sandbox.write_file(path.as_str(), input)?;
                run_on(sandbox, *until)
            }
            Entrance::Call(call) => call.make(sandbox, input),
        }
    }

    /// The function that is called.
    pub fn function(&self) -> Option<u64> {
        match &self.entrance {
            Entrance::Call(call) => Some(call.function),
            _ => None,
        }
    }

    /// Puts the sandbox back.
    pub fn put_back(&mut self, verify: bool) -> Result<(), dejavm::Error> {
        self.sandbox.reset_to(&mut self.point)?;
        if verify { self.sandbox.verify_reset(&self.point) } else { Ok(()) }
    }
}

impl Call {
    /// Runs a program just started to its first call of a function.
    fn reached(sandbox: &mut Sandbox, name: &str, shown: Program, host: &Host) -> Result<Call, Error> {
        let function = sandbox.symbol(name).ok_or_else(|| Error::NoSymbol { name: name.into() })?;
        let outcome = sandbox.run_to([function])?;
        if outcome != Outcome::Paused {
            return Err(Error::NeverCalled { name: name.into(), outcome, said: said(shown, host) });
        }
        // Libraries are loaded by now.
        let malloc = sandbox.symbol("malloc").ok_or_else(|| Error::NoSymbol { name: "malloc".into() })?;
        if has_asan(sandbox) {
            return Ok(Call { function, memory: Memory::Allocated(malloc) });
        }
        match sandbox.call(malloc, &[LONGEST])? {
            Called::Returned(address) if address != 0 => Ok(Call { function, memory: Memory::Kept(address) }),
            _ => Err(Error::NoMemory { bytes: LONGEST }),
        }
    }

    fn make(&self, sandbox: &mut Sandbox, input: &[u8]) -> Result<Outcome, dejavm::Error> {
        let input = &input[..input.len().min(LONGEST as usize)];
        let address = match self.memory {
            Memory::Kept(address) => address,
            Memory::Allocated(malloc) => match sandbox.call(malloc, &[input.len() as u64])? {
                Called::Returned(address) => address,
                Called::Ended(outcome) => return Ok(outcome),
            },
        };
        sandbox.write_memory(address, input)?;
        Ok(match sandbox.call(self.function, &[address, input.len() as u64])? {
            Called::Returned(_) => Outcome::Paused,
            Called::Ended(outcome) => outcome,
        })
    }
}

/// Runs a program to its end, or to this place.
fn run_on(sandbox: &mut Sandbox, until: Option<Known>) -> Result<Outcome, dejavm::Error> {
    match until {
        Some(place) => place.run_to(sandbox),
        None => sandbox.run_until(PauseAt::Never),
    }
}

/// The end of what a program writes to standard error that is run without input.
fn said(program: Program, host: &Host) -> String {
    let report = program.stdin(Vec::new()).capture_output().start(host).and_then(|mut sandbox| sandbox.run());
    let said = report.map(|report| report.stderr).unwrap_or_default();
    String::from_utf8_lossy(&said[said.len().saturating_sub(QUOTED)..]).into_owned()
}
