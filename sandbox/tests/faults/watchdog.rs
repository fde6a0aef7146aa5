//! `KVM_RUN` that does not come back.

use std::time::Duration;

use dejavm_sandbox::exit::Rung;
use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::machine::RunEnd;
use iced_x86::code_asm::*;

use crate::guest::{DATA, Guest, at, exit};
use crate::rows::DONE;
use crate::run::{DEADLINE, There, run};

/// The sandbox looks every 40 ms: twice in 100 ms. More is allowed here, since the host may be busy;
/// what matters is that nothing else ended the run.
const LIMIT: Duration = Duration::from_millis(400);

#[test]
fn a_spin_is_found() {
    const { assert!(LIMIT.as_millis() < DEADLINE.as_millis() / 2) };
    let host = HostProfile::probe().expect("a host that runs guests");
    let guest = || {
        Guest::kernel(|a| {
            a.sgdt(ptr(at(DATA)))?;
            exit(a, DONE)
        })
    };
    let outcome = run(&host, guest(), There::AllBut(&[DATA]), None);
    assert_eq!(outcome.status(), Some(DONE as u8));
    let rungs = outcome.all_rungs();
    if !rungs.contains(&Rung::Watchdog) {
        println!("SGDT to an absent page comes out of KVM_RUN here: {rungs:?}");
        return;
    }
    assert_eq!(rungs.len(), 1);
    assert!(outcome.guest_time < LIMIT, "{:?}", outcome.guest_time);
    assert_eq!(outcome.state, run(&host, guest(), There::All, None).state);
}

#[test]
fn a_guest_that_does_not_move_gets_everything() {
    let host = HostProfile::probe().expect("a host that runs guests");
    // It is always at the same instruction, which does not look as if it stayed there.
    let turns = Guest::user(|a| {
        let mut turn = a.create_label();
        a.xor(eax, eax)?;
        a.set_label(&mut turn)?;
        a.je(turn)
    });
    let outcome = run(&host, turns, There::AllBut(&[DATA]), None);
    assert!(matches!(outcome.end, Ok(RunEnd::Deadline)));
    assert!(outcome.all_rungs().contains(&Rung::Populate) && outcome.there.contains(&DATA));
    // A guest that stays by its own will is left alone.
    let stays = Guest::user(|a| {
        let mut here = a.create_label();
        a.set_label(&mut here)?;
        a.jmp(here)
    });
    let outcome = run(&host, stays, There::AllBut(&[DATA]), None);
    assert!(matches!(outcome.end, Ok(RunEnd::Deadline)));
    assert!(outcome.all_rungs().is_empty() && !outcome.there.contains(&DATA));
}
