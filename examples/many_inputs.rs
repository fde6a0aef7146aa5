//! Runs a program on many inputs, each from the moment at which it was about to read the first one: what an input changes
//! is put back before the next. An input that the program dies of is recorded, to be replayed and debugged.
//!
//! `seq 2000 | cargo run --release --example many_inputs -- DIRECTORY PROGRAM [ARGUMENTS...]`
//!
//! Each line of standard input is an input. Recordings are made in the directory.

use std::collections::BTreeMap;
use std::io::{BufRead, stdin};
use std::path::Path;
use std::time::{Duration, Instant};

use dejavm::{Host, Input, InputBuffer, Outcome, PauseAt, Program};

/// How long the program may take for an input.
const LIMIT: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(directory), Some(name)) = (words.next(), words.next()) else {
        return Err("usage: many_inputs DIRECTORY PROGRAM [ARGUMENTS...]".into());
    };
    let program = Program::new(name).args(words);
    let host = Host::probe()?;

    let input = InputBuffer::new();
    let mut sandbox = program.clone().stdin_from(Input::Buffer(input.clone())).start(&host)?;
    if sandbox.run_until(PauseAt::FirstRead)? != Outcome::Paused {
        return Err("the program reads nothing".into());
    }
    let mut ready = sandbox.reset_point()?;

    let began = Instant::now();
    let (mut ends, mut count, mut crashes) = (BTreeMap::new(), 0u32, 0);
    for line in stdin().lock().split(b'\n') {
        let line = line?;
        input.set(&line);
        sandbox.set_deadline(Some(LIMIT));
        let outcome = sandbox.run_until(PauseAt::Never)?;
        sandbox.reset_to(&mut ready)?;
        if let Outcome::Signalled(_) = outcome {
            let recording = Path::new(&directory).join(format!("crash-{crashes}"));
            program.clone().stdin(line).record(&recording).start(&host)?.run()?;
            println!("{outcome:?}: dejavm debug --end {}", recording.display());
            crashes += 1;
        }
        *ends.entry(format!("{outcome:?}")).or_insert(0) += 1;
        count += 1;
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    println!("{count} inputs, {rate:.0} a second; {} pages are put back each time", ready.hot_pages());
    for (end, times) in ends {
        println!("{times:>8}  {end}");
    }
    Ok(())
}
