//! Starts a Python once, up to where it reads its input, and answers many inputs from there, on
//! several threads.
//!
//! `cargo run --release --example restore_many`

use std::thread;
use std::time::{Duration, Instant};

use dejavm::{Host, Image, Outcome, PauseAt, Program, WriteOptions};

/// What every answer begins with: imports that take their time.
const CODE: &str = "import sys, json, re, decimal\nprint(json.dumps(eval(sys.stdin.read())))";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = Host::probe()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("python.dvm");

    let began = Instant::now();
    let mut first = Program::new("python3").args(["-c", CODE]).start(&host)?;
    assert_eq!(first.run_until(PauseAt::FirstRead)?, Outcome::Paused);
    let started = began.elapsed();
    let summary = first.snapshot(&path, &WriteOptions::default())?;
    println!("a start takes {started:?}; its snapshot has {} KiB", summary.file_bytes >> 10);

    // Which pages an answer needs: later ones get them all at once.
    Image::open(&path)?.restore().stdin("1+1").warm(&host)?;

    let image = Image::open(&path)?;
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (host, image) = (host.clone(), image.clone());
            thread::spawn(move || -> Result<Duration, dejavm::Error> {
                let began = Instant::now();
                for n in 0..10 {
                    let n = thread * 10 + n;
                    let done = image
                        .restore()
                        .stdin(format!("[{n}, {n} ** 2]"))
                        .deadline(Duration::from_secs(10))
                        .capture_output()
                        .start(&host)?
                        .run()?;
                    assert_eq!(done.stdout, format!("[{n}, {}]\n", n * n).into_bytes());
                }
                Ok(began.elapsed() / 10)
            })
        })
        .collect();
    for thread in threads {
        let each = thread.join().map_err(|_| "a thread panicked")??;
        println!("an answer took {each:?}");
    }
    Ok(())
}
