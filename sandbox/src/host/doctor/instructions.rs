//! Instructions that programs may run at CPL 3, with the CPUID table that sandboxes get.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, qword_ptr, registers as reg};

use super::guest::{assemble, strange};
use super::{Finding, Host, Level, NOTHING};
use crate::host::HostError;
use crate::host::tiny::{DATA, Event, Ring, START, Tiny, address};
use crate::vcpu::VcpuError;
use crate::x86::msr::TSC_AUX;
use crate::x86::vector::{INVALID_OPCODE, PROTECTION};
use crate::x86::xstate::{AVX, AVX512, SSE, X87};

/// No processor's number.
const AUX: u64 = 0x1234_5678;

/// What one instruction did.
enum Ran {
    /// It ran; the guest is as it was left.
    Well(Box<Tiny>),
    /// It raised this exception.
    Fault(u8),
}

/// Runs a few instructions at CPL 3.
fn run(
    host: &Host,
    build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<Ran, HostError> {
    run_prepared(host, |_| Ok(()), build)
}

/// The same in a guest that was prepared.
fn run_prepared(
    host: &Host,
    prepare: impl FnOnce(&Tiny) -> Result<(), VcpuError>,
    build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<Ran, HostError> {
    let code = assemble(|a| {
        build(a)?;
        a.syscall()
    });
    let mut guest = host.guest(Ring::User, &code)?;
    prepare(&guest)?;
    // For RDPID. Refused where the CPU has no such register.
    let _ = guest.vcpu.set_msrs(&[(TSC_AUX, AUX)]);
    match guest.run()? {
        Event::Syscall => Ok(Ran::Well(Box::new(guest))),
        Event::Exception { vector, frame } if (START..START + code.len() as u64).contains(&frame.rip) => {
            Ok(Ran::Fault(vector))
        }
        other => Err(strange("an instruction at CPL 3", &other)),
    }
}

/// An exception by its short name.
fn exception(vector: u8) -> String {
    match vector {
        INVALID_OPCODE => "#UD".to_string(),
        PROTECTION => "#GP".to_string(),
        other => format!("exception {other}"),
    }
}

/// An instruction that gives random numbers. It is replaced in code that comes from files.
fn random(ran: Ran) -> Finding {
    match ran {
        Ran::Well(_) => Finding::new(
            Level::Ok,
            "runs, although the CPUID table hides it",
            "replaces it in programs and libraries by an instruction that it answers",
            "programs get numbers from the run's seed; code that a program makes itself cannot be repeated",
        ),
        fault @ Ran::Fault(_) => hidden(fault, ""),
    }
}

/// An instruction whose result is not a function of the run, and that CPUID says is not there.
fn hidden(ran: Ran, gives: &str) -> Finding {
    match ran {
        Ran::Well(_) => Finding::new(
            Level::Limited,
            format!("runs, although the CPUID table hides it; gives {gives}"),
            "hides it; cannot stop it",
            "a program that uses it cannot be repeated; its replay ends with a divergence",
        ),
        Ran::Fault(vector) => Finding::new(
            Level::Ok,
            format!("{}: not there, as the CPUID table says", exception(vector)),
            "hides it",
            "programs use something else, which can be repeated",
        ),
    }
}

/// `RDRAND`.
pub fn rdrand(host: &Host) -> Result<Finding, HostError> {
    Ok(random(run(host, |a| a.rdrand(reg::rax))?))
}

/// `RDSEED`.
pub fn rdseed(host: &Host) -> Result<Finding, HostError> {
    Ok(random(run(host, |a| a.rdseed(reg::rax))?))
}

/// `RDPID`. Hidden or not, it does no harm where it reads the guest's own register.
pub fn rdpid(host: &Host) -> Result<Finding, HostError> {
    Ok(match run(host, |a| a.rdpid(reg::rax))? {
        Ran::Well(guest) if guest.vcpu.regs().rax == AUX => Finding::new(
            Level::Ok,
            "gives the guest's own TSC_AUX, although the CPUID table hides it",
            "leaves that at zero",
            NOTHING,
        ),
        ran => hidden(ran, "the number of the CPU that it runs on"),
    })
}

/// `RDPMC` of the first counter. `CR4.PCE`, which would let it run, is clear.
pub fn rdpmc(host: &Host) -> Result<Finding, HostError> {
    let ran = run(host, |a| {
        a.xor(reg::ecx, reg::ecx)?;
        a.rdpmc()
    })?;
    Ok(match ran {
        Ran::Well(_) => Finding::new(
            Level::Limited,
            "runs, although CR4.PCE is clear",
            "nothing that helps",
            "a program that uses it cannot be repeated; its replay ends with a divergence",
        ),
        Ran::Fault(vector) => {
            Finding::new(Level::Ok, exception(vector), "leaves CR4.PCE clear", "programs that use it end")
        }
    })
}

/// The selector whose limit is the CPU's number, in Linux's own GDT (`GDT_ENTRY_CPUNODE`,
/// `arch/x86/include/asm/segment.h`). The guest's GDT is shorter.
const CPU_NUMBER: u32 = 0x7b;

/// Instructions that read descriptor tables: the guest's, or those of the host's kernel?
pub fn descriptor_tables(host: &Host) -> Result<Finding, HostError> {
    let stored = run(host, |a| {
        a.mov(reg::rax, address(DATA[0]))?;
        a.sgdt(qword_ptr(reg::rax))
    })?;
    let (sgdt, mut of_host) = match stored {
        Ran::Well(guest) => {
            let mut bytes = [0u8; 10];
            guest.tables.read_data(DATA[0], &mut bytes);
            let (limit, base) = guest.tables.gdt();
            match bytes[..2] == limit.to_le_bytes() && bytes[2..] == base.to_le_bytes() {
                true => ("tells of the guest's".to_string(), false),
                false => ("does not tell of the guest's".to_string(), true),
            }
        }
        Ran::Fault(vector) => (format!("gives {}", exception(vector)), false),
    };
    let limit = run(host, |a| {
        a.mov(reg::eax, CPU_NUMBER)?;
        a.lsl(reg::ecx, reg::eax)?;
        a.setz(reg::dl)
    })?;
    let lsl = match limit {
        Ran::Well(guest) if guest.vcpu.regs().rdx & 0xff == 0 => "reads the guest's".to_string(),
        Ran::Well(_) => {
            of_host = true;
            "reads the host kernel's, which has the number of the CPU in it".to_string()
        }
        Ran::Fault(vector) => format!("gives {}", exception(vector)),
    };
    let (level, dejavm, means) = match of_host {
        true => (
            Level::Limited,
            "nothing that helps",
            "a program that uses it cannot be repeated; its replay ends with a divergence",
        ),
        false => (Level::Ok, "has the same tables in every run", NOTHING),
    };
    Ok(Finding::new(level, format!("SGDT {sgdt}; LSL {lsl}"), dejavm, means))
}

/// `XGETBV` of XCR0, where that has less than the CPU.
pub fn xgetbv(host: &Host) -> Result<Finding, HostError> {
    /// What every CPU may be set to.
    const LEAST: u64 = X87 | SSE;
    let prepare = |guest: &Tiny| guest.vcpu.set_xcr0(LEAST);
    let ran = run_prepared(host, prepare, |a| {
        a.xor(reg::ecx, reg::ecx)?;
        a.xgetbv()
    })?;
    Ok(match ran {
        Ran::Well(guest) => {
            let regs = guest.vcpu.regs();
            match regs.rdx << 32 | regs.rax & 0xffff_ffff {
                LEAST => Finding::new(Level::Ok, "gives XCR0 as it was set", "sets XCR0", NOTHING),
                value => Finding::new(
                    Level::Limited,
                    format!("gives {value:#x}, although XCR0 was set to {LEAST:#x}"),
                    "replaces it in code that comes from files; tells programs of an XSAVE area that is \
                     large enough",
                    "code that a program makes itself sees the CPU's",
                ),
            }
        }
        Ran::Fault(vector) => Finding::new(
            Level::Limited,
            exception(vector),
            "replaces it in code that comes from files",
            "programs that make such code themselves end",
        ),
    })
}

/// Vector instructions, as far as XCR0 has their state.
pub fn vectors(host: &Host) -> Result<Finding, HostError> {
    let xcr0 = host.profile.xcr0;
    let has = |components: u64| xcr0 & components == components;
    let mut broken = false;
    let mut text = |ran: Option<Ran>| match ran {
        Some(Ran::Well(_)) => "runs".to_string(),
        Some(Ran::Fault(vector)) => {
            broken = true;
            exception(vector)
        }
        None => "not there".to_string(),
    };
    let avx = text(has(AVX).then(|| run(host, |a| a.vpxor(reg::ymm0, reg::ymm0, reg::ymm0))).transpose()?);
    let avx512 =
        text(has(AVX512).then(|| run(host, |a| a.vpxorq(reg::zmm0, reg::zmm0, reg::zmm0))).transpose()?);
    let (level, means) = match broken {
        true => (Level::Limited, "programs that use them end"),
        false => (Level::Ok, "programs run at their full speed"),
    };
    Ok(Finding::new(
        level,
        format!("XCR0 {xcr0:#x}: AVX {avx}, AVX-512 {avx512}"),
        "gives programs what the CPU has, and keeps it in snapshots",
        means,
    ))
}

/// Segment bases set by the program itself.
pub fn fsgsbase(host: &Host) -> Result<Finding, HostError> {
    const BASE: u64 = 0x1234_5000;
    let ran = run(host, |a| {
        a.mov(reg::rax, BASE)?;
        a.wrfsbase(reg::rax)?;
        a.rdfsbase(reg::rbx)
    })?;
    let listed = if host.profile.fsgsbase { "" } else { ", although KVM does not list it" };
    const DEJAVM: &str = "says in AT_HWCAP2 whether KVM lists it, and asks KVM for the bases";
    Ok(match ran {
        Ran::Well(guest) if guest.vcpu.regs().rbx == BASE && guest.vcpu.sregs()?.fs.base == BASE => {
            Finding::new(Level::Ok, format!("works, and KVM tells the base{listed}"), DEJAVM, NOTHING)
        }
        Ran::Well(_) => Finding::new(
            Level::Limited,
            format!("works, but KVM does not tell the base{listed}"),
            DEJAVM,
            "a snapshot loses the bases of programs that set them themselves",
        ),
        Ran::Fault(vector) if !host.profile.fsgsbase => Finding::new(
            Level::Ok,
            format!("{}: not there", exception(vector)),
            DEJAVM,
            "programs ask arch_prctl instead",
        ),
        Ran::Fault(vector) => {
            let found = format!("{}, although KVM lists it", exception(vector));
            Finding::new(Level::Limited, found, DEJAVM, "programs that use it end")
        }
    })
}
