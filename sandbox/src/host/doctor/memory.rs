//! What comes out of `KVM_RUN` when the guest touches an absent page.
//!
//! The guest's memory is [`Ram`] and its faults are settled by [`Ladder`], as those of any sandbox
//! are: what is reported is what will be used.

use std::fs;
use std::sync::Arc;

use iced_x86::code_asm::{byte_ptr, registers as reg};

use super::guest::{assemble, strange};
use super::{Finding, Host, Level};
use crate::exit::{Rung, SourceKind};
use crate::fault::{Finding as Fault, Ladder};
use crate::host::HostError;
use crate::host::basics::RAM_BASE;
use crate::host::tiny::{DONE_PORT, Event, LAZY, Ring, Tiny, address};
use crate::ram::{CHUNK_PAGES, Marking, PAGE_SIZE, PageError, PageSource, Ram};
use crate::vcpu::Exit;
use crate::vcpu::registers::{General, UserRegisters};
use crate::x86::paging::USER;

/// Pages of memory that are mapped for the guest.
const PAGES: u64 = 8;
/// The page that holds the program: in RAM, where the ladder can read and decode it.
const CODE_PAGE: u64 = PAGES - 1;

/// Pages full of `SYSCALL`: to be read, and to be run.
struct Syscalls;

impl PageSource for Syscalls {
    fn has_content(&self, _page: u64) -> Result<bool, PageError> {
        Ok(true)
    }

    fn fetch(&self, _first: u64, out: &mut [u8]) -> Result<SourceKind, PageError> {
        for code in out.chunks_exact_mut(2) {
            code.copy_from_slice(&[0x0f, 0x05]);
        }
        Ok(SourceKind::Snapshot)
    }
}

/// A guest with absent memory. The vCPU is gone before the memory that it maps.
pub struct LazyGuest {
    /// The guest.
    pub tiny: Tiny,
    /// Its memory.
    pub ram: Ram,
}

/// How an absent page is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Run,
}

/// What a touch of an absent page gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touch {
    /// An exit from which the ladder knows the page; the guest went on behind it.
    Known(Rung),
    /// An exit from which nothing is known.
    Bare,
    /// `KVM_RUN` does not return.
    Stuck,
}

impl LazyGuest {
    /// Makes one, with all of its memory absent.
    ///
    /// # Errors
    /// When the host lacks what `marking` needs.
    pub fn new(host: &Host, marking: Marking) -> Result<LazyGuest, HostError> {
        let tiny = host.tiny()?;
        let ram = Ram::new(tiny.vm.clone(), RAM_BASE, CHUNK_PAGES, marking, Arc::new(Syscalls))?;
        ram.attach(0..PAGES)?;
        for page in 0..PAGES {
            tiny.tables.map(LAZY + page, RAM_BASE + page * PAGE_SIZE as u64, USER);
        }
        Ok(LazyGuest { tiny, ram })
    }

    /// Touches an absent page once, settles what comes of it, and lets the guest go on.
    fn touch(&mut self, ring: Ring, access: Access, page: u64) -> Result<Touch, HostError> {
        let at = address(LAZY + page);
        let code = assemble(|a| {
            match access {
                Access::Read => a.mov(reg::al, byte_ptr(at))?,
                Access::Write => a.mov(byte_ptr(at), 1)?,
                Access::Run => {
                    a.mov(reg::rax, at)?;
                    return a.jmp(reg::rax);
                }
            }
            match ring {
                Ring::User => a.syscall(),
                Ring::Kernel => a.out(i32::from(DONE_PORT), reg::al),
            }
        });
        self.ram.write(RAM_BASE + CODE_PAGE * PAGE_SIZE as u64, &code)?;
        self.tiny.enter(ring, address(LAZY + CODE_PAGE), false)?;
        let exit = self.tiny.run_exit()?;
        let regs = UserRegisters { general: General::from(self.tiny.vcpu.regs()), ..Default::default() };
        let translate = |va: u64, _: &mut dyn FnMut(u64)| {
            let page = va.checked_sub(address(LAZY))? / PAGE_SIZE as u64;
            (page < PAGES).then_some(page)
        };
        let mut ladder = Ladder::new(None);
        let bare = exit == Exit::BareFault;
        match ladder.find(exit, &regs, &self.tiny.signals, &self.ram, &translate) {
            Fault::Wanted { pages, rung, then } if pages.contains(&page) => {
                let settled = ladder.settle(&pages, rung, &then, &mut self.tiny.vcpu, &self.ram);
                settled.map_err(|e| HostError::Guest(e.to_string()))?;
                match self.tiny.run()? {
                    Event::Syscall | Event::Done => Ok(Touch::Known(rung)),
                    other => Err(strange("a page that was brought in", &other)),
                }
            }
            Fault::Kick => Ok(Touch::Stuck),
            _ if bare => Ok(Touch::Bare),
            other => Err(HostError::Guest(format!("an absent page gave {other:?}"))),
        }
    }

    /// The three kinds of touch at one privilege level, each of its own page.
    fn touches(&mut self, ring: Ring, kinds: &[Access]) -> Result<Vec<(Access, Touch)>, HostError> {
        let mut out = Vec::new();
        for (page, access) in (0..).zip(kinds) {
            out.push((*access, self.touch(ring, *access, page)?));
        }
        Ok(out)
    }
}

fn describe_touch(touch: Touch) -> &'static str {
    match touch {
        Touch::Known(Rung::Annotated) => "KVM_EXIT_MEMORY_FAULT with the address",
        Touch::Known(Rung::Poison) => "SIGBUS with the page's address",
        Touch::Known(Rung::Mmio) => "an MMIO exit with the address",
        Touch::Known(Rung::Emulation) => "a failed emulation",
        Touch::Known(_) | Touch::Bare => "a bare EFAULT",
        Touch::Stuck => "KVM_RUN does not return",
    }
}

/// One text for all kinds of access where they agree, else one for each.
fn describe(touches: &[(Access, Touch)]) -> String {
    let texts: Vec<_> = touches.iter().map(|(access, touch)| (access, describe_touch(*touch))).collect();
    if texts.windows(2).all(|w| w[0].1 == w[1].1) {
        return texts.first().map_or_else(String::new, |(_, text)| (*text).to_string());
    }
    let each: Vec<_> = texts
        .iter()
        .map(|(access, text)| {
            let access = match access {
                Access::Read => "read",
                Access::Write => "write",
                Access::Run => "run",
            };
            format!("{access}: {text}")
        })
        .collect();
    each.join(", ")
}

const KINDS: [Access; 3] = [Access::Read, Access::Write, Access::Run];

/// What a program's touch of an absent page gives, by the two ways of marking it.
pub fn faults(host: &Host) -> Result<Finding, HostError> {
    let at = |marking: Marking, there: bool| -> Result<Option<Vec<(Access, Touch)>>, HostError> {
        there.then(|| LazyGuest::new(host, marking)?.touches(Ring::User, &KINDS)).transpose()
    };
    let poison = at(Marking::Poison, host.profile.poison)?;
    let missing = at(Marking::Missing, host.profile.missing)?;
    let text = |touches: &Option<Vec<(Access, Touch)>>| match touches {
        Some(touches) => describe(touches),
        None => "no such thing here".to_string(),
    };
    let found = format!("poisoned: {}; missing: {}", text(&poison), text(&missing));
    let known = |touches: &Option<Vec<(Access, Touch)>>, rungs: &[Rung]| {
        touches
            .as_ref()
            .is_some_and(|t| t.iter().all(|(_, t)| matches!(t, Touch::Known(r) if rungs.contains(r))))
    };
    let named = [Rung::Annotated, Rung::Poison];
    let (level, dejavm, means) = if known(&poison, &named) {
        let dejavm = "poisons absent pages; first rung: the address that the host tells";
        (Level::Ok, dejavm, "each page costs one exit")
    } else if known(&missing, &named) {
        (Level::Ok, "leaves absent pages missing; first rung: the exit's address", "each page costs one exit")
    } else if known(&missing, &[Rung::Annotated, Rung::Decode]) {
        let dejavm = "leaves absent pages missing; first rung: decodes the instruction at RIP";
        (
            Level::Slower,
            dejavm,
            "each page costs one exit and some decoding; pages of zeros are filled beforehand",
        )
    } else {
        (
            Level::Slower,
            "brings every page in before the start",
            "starts take as long as reading all of the memory",
        )
    };
    Ok(Finding::new(level, found, dejavm, means))
}

/// What a touch by code of CPL 0 gives, with the marking that sandboxes use here.
pub fn kernel_access(host: &Host) -> Result<Finding, HostError> {
    let marking = host.profile.marking();
    if marking == Marking::Eager {
        let nothing = "nothing is ever absent here";
        return Ok(Finding::new(Level::Ok, nothing, "brings every page in before the start", nothing));
    }
    let touches = LazyGuest::new(host, marking)?.touches(Ring::Kernel, &[Access::Read, Access::Write])?;
    let found = describe(&touches);
    let all = |rung: Rung| touches.iter().all(|(_, touch)| *touch == Touch::Known(rung));
    let none_is_lost = touches.iter().all(|(_, touch)| matches!(touch, Touch::Known(_)));
    Ok(if all(Rung::Mmio) {
        Finding::new(
            Level::Ok,
            format!("{found}: KVM emulates it"),
            "brings the page in, and answers the read or makes the store",
            "kernel guests may have absent memory too",
        )
    } else if none_is_lost {
        Finding::new(Level::Ok, found, "as for CPL 3", "kernel guests may have absent memory too")
    } else {
        Finding::new(
            Level::Limited,
            found,
            "brings everything in",
            "kernel guests start with all of their memory",
        )
    })
}

/// The setting of transparent huge pages, and whether lazy memory can be kept out of it.
pub fn huge_pages(host: &Host) -> Result<Finding, HostError> {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let chosen = setting.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    // Every slot of RAM is made with MADV_NOHUGEPAGE, or not at all.
    LazyGuest::new(host, host.profile.marking())?;
    Ok(Finding::new(
        Level::Ok,
        format!(
            "{}; memory that may be absent is kept out of them",
            chosen.unwrap_or("this kernel has none")
        ),
        "asks for small pages, since a huge one would map absent pages with the one that came",
        "nothing to do: the setting does not matter",
    ))
}
