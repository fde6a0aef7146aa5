//! What is no fault is an error with all there is to say.

use std::sync::Arc;

use dejavm_sandbox::fault::{Finding, Ladder, Place};
use dejavm_sandbox::host::thread::BlockedSignals;
use dejavm_sandbox::host::{HostProfile, open_kvm};
use dejavm_sandbox::machine::{End, RunEnd, RunError};
use dejavm_sandbox::ram::{Marking, Ram, Zeros};
use dejavm_sandbox::vcpu::Exit;
use iced_x86::code_asm::*;

use crate::guest::{DATA, FAR, FAR_PT, Guest, PRESENT, SCRATCH, WRITABLE, at, exit};
use crate::rows::DONE;
use crate::run::{There, run};

/// An instruction that KVM's emulator lacks; where CPL 0 runs by itself, it runs.
fn lacking() -> Guest {
    Guest::kernel(|a| {
        a.mov(ecx, 7)?;
        a.cmpxchg16b(xmmword_ptr(at(DATA)))?;
        exit(a, DONE)
    })
}

#[test]
fn a_failed_emulation_tells_registers_and_bytes() {
    let host = HostProfile::probe().expect("a host that runs guests");
    // With a stack of its own for #DF, one page is always absent, and must not be waited for.
    let guests = [lacking, || lacking().double_fault_on_ist()];
    let ways = [There::All, There::AllBut(&[DATA]), There::Searched];
    for (guest, there) in guests.iter().flat_map(|guest| ways.map(|there| (guest, there))) {
        match run(&host, guest(), there, None).end {
            Err(RunError::Crash(crash)) => {
                assert!(matches!(crash.exit, Exit::InternalError { suberror: 1, .. }));
                assert_eq!((crash.registers.rcx, crash.cpl), (7, 0));
                assert_eq!(crash.code[..4], [0x48, 0x0f, 0xc7, 0x0c]);
                assert!(crash.instruction.as_ref().is_some_and(|text| text.starts_with("cmpxchg16b")));
                let text = crash.to_string();
                assert!(text.contains("cmpxchg16b") && text.contains("48 0f c7 0c"), "{text}");
            }
            Ok(RunEnd::Ended(End::Exited(status))) => assert_eq!(u32::from(status), DONE),
            other => panic!("{there:?}: {other:?}"),
        }
    }
}

#[test]
fn a_triple_fault_of_the_guests_own_stays_one() {
    let host = HostProfile::probe().expect("a host that runs guests");
    let guest = || {
        let mut guest = Guest::kernel(|a| {
            a.lidt(ptr(at(SCRATCH)))?;
            a.ud2()
        });
        guest.write(at(SCRATCH), &[0; 10]);
        guest
    };
    for there in [There::All, There::AllBut(&[DATA, SCRATCH]), There::Searched] {
        let end = run(&host, guest(), there, None).end;
        assert!(matches!(end, Ok(RunEnd::Ended(End::TripleFault))), "{there:?}: {end:?}");
    }
}

#[test]
fn every_other_exit_is_an_error() {
    let vm = Arc::new(open_kvm().expect("KVM").create_vm().expect("a machine"));
    let ram = Ram::new(vm, 0, 512, Marking::Eager, Arc::new(Zeros)).expect("memory");
    ram.attach(0..512).expect("memory");
    let signals = BlockedSignals::new();
    let find = |exit: Exit| {
        let place = Place { bits: 64, ..Place::default() };
        Ladder::new(None).find(exit, place, &signals, &ram, &|_, _| None)
    };
    for exit in [
        Exit::Failed { errno: libc::ENOMEM },
        Exit::FailEntry { reason: 0x8000_0021 },
        Exit::InternalError { suberror: 1, data: vec![3] },
        Exit::InternalError { suberror: 4, data: Vec::new() },
        Exit::Shutdown,
        Exit::Debug,
        Exit::Other("Hypercall".into()),
        Exit::MemoryFault { gpa: 1 << 40, size: 4096 },
    ] {
        assert_eq!(find(exit.clone()), Finding::Other(exit));
    }
    assert_eq!(find(Exit::BareFault), Finding::Unknown);
    assert_eq!(find(Exit::Signal), Finding::Kick);
}

#[test]
fn there_is_no_lapic() {
    /// Where a local APIC's registers are after a reset.
    const LAPIC: u64 = 0xfee0_0000;
    let host = HostProfile::probe().expect("a host that runs guests");
    let mut guest = Guest::kernel(|a| {
        a.mov(rbx, FAR)?;
        a.mov(ecx, dword_ptr(rbx + 0x20))?;
        exit(a, DONE)
    });
    guest.words(at(FAR_PT), &[LAPIC | PRESENT | WRITABLE]);
    let outcome = run(&host, guest, There::All, None);
    assert_eq!(outcome.status(), Some(DONE as u8));
    assert_eq!(outcome.beyond_memory.get(&LAPIC), Some(&1), "no such exit: somebody answers in the kernel");
}
