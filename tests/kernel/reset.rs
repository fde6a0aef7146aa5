//! A bare-metal guest is put back to one moment again and again.

use std::time::Duration;

use dejavm::{Error, Evict, Host, Input, InputBuffer, Kernel, Modules, Outcome, PauseAt, Rung, Sandbox};

use crate::guests::{INPUT, image};

/// How it ends, and what it says until then, at its serial port and its byte channel.
type Run = (Outcome, Vec<u8>, Vec<u8>, u64);

fn run(sandbox: &mut Sandbox, input: &InputBuffer, bytes: &[u8]) -> Run {
    input.set(bytes);
    sandbox.report(Outcome::Paused);
    let report = sandbox.run().expect("a run");
    (report.outcome, report.stdout, report.stderr, report.exits)
}

/// A guest that is ready.
fn ready(host: &Host, kernel: &Kernel) -> (Sandbox, InputBuffer) {
    let input = InputBuffer::new();
    let kernel = kernel.clone().stdin_from(Input::Buffer(input.clone())).capture_output();
    let mut sandbox = kernel.start(host).expect("a guest");
    assert_eq!(sandbox.run_until(PauseAt::Ready).expect("a run"), Outcome::Paused);
    (sandbox, input)
}

fn check(kernel: &Kernel, what: &str, inputs: &[&[u8]]) {
    let host = Host::probe().expect("KVM");
    let alone: Vec<Run> = inputs
        .iter()
        .map(|bytes| {
            let (mut sandbox, input) = ready(&host, kernel);
            run(&mut sandbox, &input, bytes)
        })
        .collect();
    let (mut sandbox, input) = ready(&host, kernel);
    let mut point = sandbox.reset_point().expect("a moment");
    for round in 0..2 {
        for (bytes, expected) in inputs.iter().zip(&alone) {
            let what = format!("{what}, {:?}, round {round}", String::from_utf8_lossy(bytes));
            assert_eq!(run(&mut sandbox, &input, bytes), *expected, "{what}");
            sandbox.reset_to(&mut point).expect("a reset");
            sandbox.verify_reset(&point).unwrap_or_else(|e| panic!("{what}: {e}"));
        }
    }
    assert!(point.hot_pages() > 0);
}

fn kernel(cmdline: &str) -> Kernel {
    Kernel::new(image("guest")).memory(16 << 20).cmdline(cmdline)
}

#[test]
fn it_goes_on_from_there_each_time() {
    check(&kernel("exit=3"), "exit=3", &[INPUT, b"", b"a line\n", b"=5\nabcde\n", b"one\ntwo\n=3\nxyz"]);
    for cmdline in ["end=halt", "end=shutdown", "end=reset"] {
        check(&kernel(cmdline), cmdline, &[b"a line\n"]);
    }
}

#[test]
fn however_its_pages_come() {
    for rung in [Rung::Poison, Rung::Decode, Rung::Populate] {
        check(&kernel("exit=3").rung(rung), &format!("{rung:?}"), &[INPUT, b""]);
    }
    check(&kernel("exit=3").evict(Evict { every: 37, seed: 1 }), "evicted", &[INPUT, b""]);
}

#[test]
fn wherever_it_was_ended() {
    let host = Host::probe().expect("KVM");
    let (mut sandbox, input) = ready(&host, &kernel("end=loop"));
    let mut point = sandbox.reset_point().expect("a moment");
    for n in 0..20 {
        input.set(INPUT);
        sandbox.set_deadline(Some(Duration::from_micros(200 + 400 * n)));
        assert_eq!(sandbox.run_until(PauseAt::Never).expect("a run"), Outcome::Deadline);
        sandbox.set_deadline(None);
        sandbox.reset_to(&mut point).expect("a reset");
        sandbox.verify_reset(&point).unwrap_or_else(|e| panic!("{n}: {e}"));
    }
}

#[test]
fn its_control_flow_is_not_counted() {
    let mut sandbox = kernel("exit=3").start(&Host::probe().expect("KVM")).expect("a guest");
    assert!(matches!(sandbox.cover(Modules::All), Err(Error::NoCoverage)));
}
