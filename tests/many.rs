//! Hundreds of sandboxes in one process.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use dejavm::{Host, PauseAt, Program, Sandbox};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const THREADS: usize = 4;
const SANDBOXES: usize = 200;
/// Exits after which each pauses, until all of them have come that far.
const HALFWAY: u64 = 60;

fn start(host: &Host, number: usize) -> Sandbox {
    Program::new("/usr/bin/perl")
        .args([
            "-e",
            "$| = 1; print \"a$ARGV[0]\\n\"; my $s = 0; $s += $_ * $ARGV[0] for 1..1000; print \"$s\\n\"",
        ])
        .arg(number.to_string())
        .seed(number as u64)
        .memory(64 << 20)
        .deadline(Duration::from_secs(300))
        .capture_output()
        .start(host)
        .expect("the sandbox starts")
}

/// All of them live at once, each in the middle of its run, on 4 threads; each ends with its own
/// output.
#[test]
fn two_hundred_at_once() {
    // They have more files open than a process may by default.
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: most, maximum: most };
    setrlimit(Resource::Nofile, limit).expect("up to its hard limit a process may");
    let host = Host::probe().expect("this test needs /dev/kvm");
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (host, barrier) = (host.clone(), barrier.clone());
            std::thread::spawn(move || {
                let numbers: Vec<usize> = (thread..SANDBOXES).step_by(THREADS).collect();
                let mut sandboxes: Vec<Sandbox> = numbers.iter().map(|n| start(&host, *n)).collect();
                for sandbox in &mut sandboxes {
                    sandbox.run_until(PauseAt::Exit(HALFWAY)).expect("it runs half-way");
                }
                barrier.wait();
                for (number, sandbox) in numbers.iter().zip(&mut sandboxes) {
                    let report = sandbox.run().expect("it runs to its end");
                    let expected = format!("a{number}\n{}\n", number * 500_500);
                    assert_eq!(String::from_utf8_lossy(&report.stdout), expected);
                    assert_eq!(report.outcome.code(), Some(0));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("the thread's sandboxes were all right");
    }
}

/// A sandbox is stopped from another thread, in a loop without exits.
#[test]
fn stopped_from_another_thread() {
    let host = Host::probe().expect("this test needs /dev/kvm");
    let mut sandbox = Program::new("/usr/bin/perl")
        .args(["-e", "1 while 1"])
        .deadline(Duration::from_secs(300))
        .capture_output()
        .start(&host)
        .expect("the sandbox starts");
    let stop = sandbox.stop_handle();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        stop.stop();
    });
    let report = sandbox.run().expect("it is stopped, which is no error");
    stopper.join().expect("the stopper ends");
    assert_eq!(report.outcome, dejavm::Outcome::Stopped);
}
