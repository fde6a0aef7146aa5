//! What takes how long. Ratios of times are told as classes; absolute ones are for people alone.

use std::time::{Duration, Instant};

use iced_x86::code_asm::registers as reg;

use super::guest::{assemble, strange};
use super::{Finding, Host, Level};
use crate::entry::SYSCALL_PORT;
use crate::host::HostError;
use crate::host::thread::KickTimer;
use crate::host::tiny::{DONE_PORT, Event, Ring, START};
use crate::vcpu::Exit;

/// Rounds of the loop that is timed at both privilege levels. Native, they are lost in the cost of
/// the exit behind them.
const ROUNDS: u32 = 2000;
/// The best of so many.
const TRIES: usize = 3;
/// How much slower code of CPL 0 may be that still counts as native.
const NATIVE_RATIO: f64 = 5.0;

fn loop_time(host: &Host, ring: Ring) -> Result<Duration, HostError> {
    let code = assemble(|a| {
        let mut again = a.create_label();
        a.mov(reg::ecx, ROUNDS)?;
        a.set_label(&mut again)?;
        a.dec(reg::ecx)?;
        a.jnz(again)?;
        match ring {
            Ring::Kernel => a.out(i32::from(DONE_PORT), reg::al),
            Ring::User => a.syscall(),
        }
    });
    let mut guest = host.guest(ring, &code)?;
    let mut best = Duration::MAX;
    // The first run is to make the pages known to KVM.
    for _ in 0..=TRIES {
        guest.enter(ring, START, false)?;
        let start = Instant::now();
        match guest.run()? {
            Event::Done | Event::Syscall => best = best.min(start.elapsed()),
            other => return Err(strange("a loop", &other)),
        }
    }
    Ok(best)
}

/// Code of CPL 0 against code of CPL 3.
pub fn kernel_code(host: &Host) -> Result<Finding, HostError> {
    let ratio = loop_time(host, Ring::Kernel)?.as_secs_f64() / loop_time(host, Ring::User)?.as_secs_f64();
    Ok(if ratio < NATIVE_RATIO {
        Finding::new(
            Level::Ok,
            "native",
            "runs no more than stubs there, for programs",
            "kernel guests run at full speed",
        )
    } else {
        Finding::new(
            Level::Slower,
            "emulated, one instruction at a time: more than ten times slower than at CPL 3",
            "runs no more than stubs there, for programs",
            "programs run at full speed; kernel guests crawl, and end at instructions that KVM cannot emulate",
        )
    })
}

/// How long the guest that never exits may run.
const SHORT: Duration = Duration::from_millis(5);

/// A timer's signal ends a run.
pub fn deadline(host: &Host) -> Result<Finding, HostError> {
    // jmp to itself
    let mut guest = host.guest(Ring::User, &[0xeb, 0xfe])?;
    let timer = KickTimer::start(SHORT, SHORT).map_err(|e| HostError::Guest(format!("no timer: {e}")))?;
    let exit = guest.vcpu.run(&guest.signals);
    guest.vcpu.settle();
    drop(timer);
    match exit {
        Exit::Signal => Ok(Finding::new(
            Level::Ok,
            "a timer's signal stops it",
            "keeps deadlines by such a timer",
            "a runaway program ends when it should",
        )),
        other => Err(HostError::Guest(format!("a loop without end gave {other:?}"))),
    }
}

/// System calls that are timed.
const CALLS: usize = 400;
/// What an exit may cost, and still be as cheap as KVM without another hypervisor below it.
const CHEAP_EXIT: Duration = Duration::from_micros(10);
/// Bounds the whole of the timed loop.
const LIMIT: Duration = Duration::from_secs(5);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// From one system call's exit to the next one's, with nothing done in between.
pub fn exit_cost(host: &Host) -> Result<Finding, HostError> {
    let code = assemble(|a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.syscall()?;
        a.jmp(again)
    });
    let mut guest = host.guest(Ring::User, &code)?;
    let _timer = KickTimer::start(LIMIT, LIMIT).map_err(|e| HostError::Guest(format!("no timer: {e}")))?;
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let start = Instant::now();
        match guest.vcpu.run(&guest.signals) {
            Exit::Out { port: SYSCALL_PORT, .. } => times.push(start.elapsed()),
            other => return Err(HostError::Guest(format!("system calls gave {other:?}"))),
        }
        if host.profile.syscall_stays_user {
            let (rip, rflags) = (guest.vcpu.regs().rcx, guest.vcpu.regs().r11);
            let regs = guest.vcpu.regs_mut();
            (regs.rip, regs.rflags) = (rip, rflags);
        }
    }
    let median = median(times);
    let found = format!("{:.1} us for an exit and the way back", median.as_secs_f64() * 1e6);
    const DEJAVM: &str = "passes registers in memory that it shares with KVM";
    Ok(if median < CHEAP_EXIT {
        Finding::new(Level::Ok, found, DEJAVM, "programs with many system calls run well")
    } else {
        Finding::new(
            Level::Slower,
            found,
            DEJAVM,
            "programs with many system calls, or many absent pages, take longer than on a bare host",
        )
    })
}

/// Machines that are made.
const MACHINES: usize = 5;

/// Making a machine with a vCPU and a memory slot, and dropping it.
pub fn vm_cost(host: &Host) -> Result<Finding, HostError> {
    let mut made = Vec::new();
    let mut dropped = Vec::new();
    for _ in 0..MACHINES {
        let start = Instant::now();
        let guest = host.tiny()?;
        made.push(start.elapsed());
        let start = Instant::now();
        drop(guest);
        dropped.push(start.elapsed());
    }
    let ms = |times| median(times).as_secs_f64() * 1e3;
    Ok(Finding::new(
        Level::Ok,
        format!("{:.2} ms to make one, {:.2} ms to drop it", ms(made), ms(dropped)),
        "makes one for each sandbox, with few memory slots",
        "a start takes at least this; on a busy host the kernel waits for its other CPUs, some ms each time",
    ))
}
