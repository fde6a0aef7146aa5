//! From what came out of `KVM_RUN` to the page that was wanted: the ladder.
//!
//! 1. `KVM_EXIT_MEMORY_FAULT` tells the guest-physical address, on kernels that fill it in.
//! 2. A poison marker's `SIGBUS` tells the host address.
//! 3. A bare `EFAULT` tells nothing: the instruction at RIP is decoded, and its own pages and its
//!    operands' pages are looked up in the guest's page tables.
//! 4. Where KVM's emulator made the access, an absent page looks like a device: an MMIO exit whose
//!    address lies in RAM; or the emulation fails.
//! 5. When nothing is found, everything that is absent is brought in, and that is said.
//!
//! Progress is guaranteed: a fault that comes back without a page having been brought in is
//! tolerated a few times (another vCPU may have been faster), then everything is brought in, then
//! it is an error.

mod decode;

use smallvec::SmallVec;

use crate::exit::{Rung, SourceKind};
use crate::host::thread::{BlockedSignals, Signal, let_rdtsc_run};
use crate::ram::{PAGE_SIZE, PageError, Ram};
use crate::vcpu::{Data, Exit, Vcpu};
use crate::x86::MAX_INSTRUCTION;

pub(crate) use decode::{MemoryUse, fetch, used, written};
pub use decode::{Place, operand_addresses};

/// How often one fault (an instruction and the page that it wants) may come back without a page
/// having come.
const PATIENCE: u32 = 3;
/// How many faults in a row may bring nothing, whatever they want. A vCPU that runs behind another
/// one may find each page brought in already; but nothing goes on for ever.
const IDLE_PATIENCE: u32 = 1 << 16;

/// `KVM_INTERNAL_ERROR_EMULATION` (`include/uapi/linux/kvm.h`).
pub(crate) const EMULATION_FAILED: u32 = 1;

/// Pages that a fault wants: few, so that no allocation is needed.
pub type Pages = SmallVec<[u64; 8]>;

/// What an exit turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// These pages are wanted.
    Wanted {
        /// Pages of RAM; those that are there already are among them.
        pages: Pages,
        /// How they were found.
        rung: Rung,
        /// What to do once they are there.
        then: Then,
    },
    /// Memory was absent, and nothing says where.
    Unknown,
    /// The thread was kicked: deadline, stop, or somebody else's signal.
    Kick,
    /// Not about memory.
    Other(Exit),
}

/// How the guest goes on after its page has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// By running the instruction again.
    Retry,
    /// With these bytes of RAM as the answer to an MMIO read.
    AnswerRead {
        /// Guest-physical address.
        gpa: u64,
        /// Bytes, 1 to 8.
        len: usize,
    },
    /// After the store, which KVM has retired, was made.
    ApplyWrite {
        /// Guest-physical address.
        gpa: u64,
        /// What was stored.
        data: Data,
    },
}

/// A fault that cannot be settled. The guest cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// The page could not be brought in.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The same fault again and again, with everything present.
    #[error(
        "KVM_RUN fails at RIP {rip:#x} although all memory is present (exit: {exit}); \
         run `dejavm doctor` and report its output"
    )]
    NoProgress {
        /// Where the guest is.
        rip: u64,
        /// The exit that keeps coming.
        exit: String,
    },
}

/// Where the guest's page tables map an address: the page of RAM. Shows the pages of RAM of the tables
/// that lead there, as far as they may be absent.
pub type Translate<'a> = &'a dyn Fn(u64, &mut dyn FnMut(u64)) -> Option<u64>;

/// The state that bounds the ladder: one for each vCPU.
#[derive(Debug, Default)]
pub struct Ladder {
    /// RIP and page of the last fault.
    last: (u64, u64),
    /// How often it came back since a page came.
    repeats: u32,
    /// Faults since a page came.
    idle: u32,
    /// Everything was brought in since a page came on demand.
    populated: bool,
    /// The rung that tests force: poison signals, say, are not looked at.
    forced: Option<Rung>,
}

/// What settling a fault brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// How the page was found.
    pub rung: Rung,
    /// Where it came from.
    pub source: SourceKind,
    /// The page that was wanted first.
    pub page: u64,
    /// How many pages came.
    pub brought: u64,
}

impl Ladder {
    /// A ladder that uses every rung, or only the given one and those below it.
    pub fn new(forced: Option<Rung>) -> Ladder {
        Ladder { forced, ..Ladder::default() }
    }

    /// Says what an exit means for memory. Brings nothing in.
    pub fn find(
        &self,
        exit: Exit,
        place: impl Into<Place>,
        signals: &BlockedSignals,
        ram: &Ram,
        translate: Translate<'_>,
    ) -> Finding {
        match exit {
            Exit::MemoryFault { gpa, .. } => match ram.page_at(gpa) {
                Some(page) => wanted(page, Rung::Annotated, Then::Retry),
                None => Finding::Other(exit),
            },
            Exit::Signal => match poisoned(signals, ram) {
                Some(page) => wanted(page, Rung::Poison, Then::Retry),
                None => Finding::Kick,
            },
            Exit::BareFault => {
                self.decode(&place.into(), ram, translate, Rung::Decode).unwrap_or(Finding::Unknown)
            }
            Exit::MmioRead { gpa, len } => match ram.page_at(gpa) {
                Some(page) => wanted(page, Rung::Mmio, Then::AnswerRead { gpa, len }),
                None => Finding::Other(exit),
            },
            Exit::MmioWrite { gpa, ref data } => match ram.page_at(gpa) {
                Some(page) => {
                    let data = data.clone();
                    wanted(page, Rung::Mmio, Then::ApplyWrite { gpa, data })
                }
                None => Finding::Other(exit),
            },
            Exit::InternalError { suberror: EMULATION_FAILED, .. } => {
                // It may also be for a page that decoding does not tell.
                let otherwise = if ram.lacks_any() { Finding::Unknown } else { Finding::Other(exit) };
                self.decode(&place.into(), ram, translate, Rung::Emulation).unwrap_or(otherwise)
            }
            other => Finding::Other(other),
        }
    }

    /// The absent pages among those that the instruction at RIP touches; none is `None`.
    pub(crate) fn decode(
        &self,
        place: &Place,
        ram: &Ram,
        translate: Translate<'_>,
        rung: Rung,
    ) -> Option<Finding> {
        if self.forced == Some(Rung::Populate) {
            return None;
        }
        let rip = place.linear_rip();
        // The instruction's own pages come first: without them there is nothing to decode.
        let own = [rip, rip.wrapping_add(MAX_INSTRUCTION as u64 - 1)];
        let Touched { mut absent, .. } = touched(own, ram, translate);
        if absent.is_empty() {
            let operands = operand_addresses(&decode::fetch(rip, ram, translate), place);
            let operands = touched(operands, ram, translate);
            // Where all are there, another vCPU was faster: the fault is tried again, within limits.
            // A failed emulation is no such case.
            let again = operands.absent.is_empty() && rung == Rung::Decode;
            absent = if again { operands.pages } else { operands.absent };
        }
        absent.dedup();
        (!absent.is_empty()).then_some(Finding::Wanted { pages: absent, rung, then: Then::Retry })
    }

    /// Brings in what was wanted.
    ///
    /// # Errors
    /// [`FaultError`].
    pub fn settle(
        &mut self,
        pages: &[u64],
        rung: Rung,
        then: &Then,
        vcpu: &mut Vcpu,
        ram: &Ram,
    ) -> Result<Settled, FaultError> {
        let mut settled =
            Settled { rung, source: SourceKind::Zero, page: pages.first().copied().unwrap_or(0), brought: 0 };
        for page in pages {
            let (brought, source) = ram.bring_in(*page)?;
            if brought > 0 {
                settled.brought += brought;
                settled.source = source;
            }
        }
        match then {
            Then::Retry => {
                self.progress((vcpu.regs().rip, settled.page), settled.brought, ram, "memory fault")?;
            }
            Then::AnswerRead { gpa, len } => {
                let mut bytes = [0u8; 8];
                let len = (*len).min(bytes.len());
                ram.read(*gpa, &mut bytes[..len])?;
                vcpu.answer_mmio(&bytes[..len]);
            }
            Then::ApplyWrite { gpa, data } => ram.write(*gpa, data)?,
        }
        Ok(settled)
    }

    /// Settles a fault about which nothing is known: brings in everything.
    ///
    /// # Errors
    /// [`FaultError::NoProgress`] when that was done before.
    pub fn populate(&mut self, rip: u64, ram: &Ram) -> Result<Settled, FaultError> {
        let brought = ram.populate()?;
        tracing::debug!(rip, brought, "a fault that nothing explains: brought in everything that was absent");
        if brought == 0 {
            self.progress((rip, 0), 0, ram, "EFAULT")?;
        }
        Ok(Settled { rung: Rung::Populate, source: SourceKind::Snapshot, page: 0, brought })
    }

    /// Counts faults that brought nothing.
    fn progress(&mut self, fault: (u64, u64), brought: u64, ram: &Ram, exit: &str) -> Result<(), FaultError> {
        if brought > 0 {
            (self.last, self.repeats, self.idle, self.populated) = (fault, 0, 0, false);
            return Ok(());
        }
        self.idle += 1;
        self.repeats = if fault == self.last { self.repeats + 1 } else { 0 };
        self.last = fault;
        if self.repeats <= PATIENCE && self.idle <= IDLE_PATIENCE {
            return Ok(());
        }
        let rip = fault.0;
        if !self.populated {
            (self.repeats, self.idle, self.populated) = (0, 0, true);
            let brought = ram.populate_all()?;
            let_rdtsc_run();
            tracing::debug!(rip, brought, "a fault that comes back: brought in everything that was absent");
            return Ok(());
        }
        Err(FaultError::NoProgress { rip, exit: exit.to_string() })
    }
}

/// Pages that addresses lie in.
struct Touched {
    pages: Pages,
    /// Those of them, and of the tables that lead there, that are absent.
    absent: Pages,
}

/// Each page is asked about once: another vCPU may bring it in at any time.
fn touched(addresses: impl IntoIterator<Item = u64>, ram: &Ram, translate: Translate<'_>) -> Touched {
    let mut found = Touched { pages: Pages::new(), absent: Pages::new() };
    for address in addresses {
        let page = translate(address, &mut |table| {
            if !ram.is_there(table) {
                found.absent.push(table);
            }
        });
        found.pages.extend(page);
        found.absent.extend(page.filter(|page| !ram.is_there(*page)));
    }
    found
}

fn wanted(page: u64, rung: Rung, then: Then) -> Finding {
    Finding::Wanted { pages: SmallVec::from_slice(&[page]), rung, then }
}

/// Takes the queued signals up to a poison signal of this memory, and says which page it is about.
/// The kernel gives `SIGBUS` first and queues but one of a kind, so that the usual fault costs one
/// call; a kick that stays queued makes the next `KVM_RUN` return at once. One that is taken along
/// is not lost either: whoever kicked has left a note elsewhere (a deadline that has passed, a stop
/// that is wanted), which is looked at after every exit.
fn poisoned(signals: &BlockedSignals, ram: &Ram) -> Option<u64> {
    while let Some(signal) = signals.take() {
        if let Signal::Poison(address) = signal
            && let Some(page) = ram.page_at_host(address)
        {
            return Some(page);
        }
    }
    None
}

/// Pages that an access of `len` bytes touches.
pub(crate) fn pages_of_access(address: u64, len: u64) -> impl Iterator<Item = u64> {
    let last = address.saturating_add(len.max(1) - 1);
    [address, last].into_iter().take(if address / PAGE_SIZE as u64 == last / PAGE_SIZE as u64 {
        1
    } else {
        2
    })
}
