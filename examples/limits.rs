//! Runs untrusted code with limits: memory, time, and what it may see; and stops it from another
//! thread.
//!
//! `cargo run --example limits`

use std::thread;
use std::time::Duration;

use dejavm::{Host, Outcome, Program};

fn main() -> Result<(), dejavm::Error> {
    let host = Host::probe()?;
    let python = |code: &str| {
        Program::new("python3")
            .args(["-c", code])
            .memory(256 << 20)
            .deadline(Duration::from_secs(5))
            .capture_output()
    };

    let done = python("print(6*7)").start(&host)?.run()?;
    assert_eq!(done.stdout, b"42\n");
    println!("answer: {}", String::from_utf8_lossy(&done.stdout).trim());

    // More memory than it may have.
    let done = python("x = bytearray(1 << 30)").start(&host)?.run()?;
    let error = String::from_utf8_lossy(&done.stderr);
    println!("too much memory: {:?}, {}", done.outcome, error.lines().last().unwrap_or_default());
    assert_ne!(done.outcome, Outcome::Exited(0));

    // More time than it may have.
    let done = python("while True: pass").deadline(Duration::from_millis(300)).start(&host)?.run()?;
    println!("too much time: {:?}", done.outcome);
    assert_eq!(done.outcome, Outcome::Deadline);

    // What it was not shown is not there.
    let done = python("open('/etc/shadow')").start(&host)?.run()?;
    let error = String::from_utf8_lossy(&done.stderr);
    println!("a secret file: {}", error.lines().last().unwrap_or_default());
    assert_eq!(done.outcome, Outcome::Exited(1));

    // Stopped by somebody else.
    let mut sandbox = python("while True: pass").start(&host)?;
    let stop = sandbox.stop_handle();
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        stop.stop();
    });
    let done = sandbox.run()?;
    let _ = stopper.join();
    println!("stopped: {:?} after {} exits", done.outcome, done.exits);
    assert_eq!(done.outcome, Outcome::Stopped);
    Ok(())
}
