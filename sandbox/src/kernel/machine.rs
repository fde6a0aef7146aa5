//! A bare-metal guest's machine: what its exits mean.

use std::time::Duration;

use kvm_bindings::{kvm_regs, kvm_sregs};
use xxhash_rust::xxh3::xxh3_64;

use super::devices::{Devices, Done};
use super::kept::{self, Cpu, Kept};
use super::paging::{Paging, RamView};
use crate::exit::{self, ExitKind, Rung, SourceKind};
use crate::fault::{EMULATION_FAILED, Finding, Place, Then, fetch};
use crate::host::thread::BlockedSignals;
use crate::machine::{
    Core, End, Guest, PauseAt, ReadError, RunEnd, RunError, RunOptions, Search, peek, read_memory,
};
use crate::ram::{PageError, Ram};
use crate::vcpu::registers::General;
use crate::vcpu::{CpuState, Data, Exit};
use crate::world::World;
use crate::x86::vector::INVALID_OPCODE;

/// How often a guest that makes no exit is looked at, in case KVM spins on a page that it reads by
/// itself: twice, before it has taken 100 ms.
const WATCHDOG: Duration = Duration::from_millis(40);

/// Bytes of an access that are the exit's result; of more, a digest is kept.
const RESULT_BYTES: usize = 8;

/// An exit that is yet to be answered.
#[derive(Debug)]
pub(super) enum Pending {
    /// A read that waits for input: the guest is in front of its instruction.
    In { port: u16, size: u8, len: usize },
    /// A write whose output was not taken: it is made, but for that.
    Out { kind: ExitKind, data: Data, done: Done },
}

/// A bare-metal guest's machine.
pub struct Machine {
    /// Before the memory, as [`Core`] says.
    pub core: Core,
    /// Its memory, from address 0 up.
    pub ram: Ram,
    /// Its devices.
    pub devices: Devices,
    pub(super) world: Box<dyn World>,
    /// What does not change in a run: the state that it started from, with its vCPU and devices out of
    /// date.
    pub(super) start: super::state::KernelState,
    /// What is searched for pages to be kept.
    pub(super) search: Search,
    /// See [`BareMetal`](crate::host::BareMetal).
    pub(super) out_retires: bool,
    /// How it ended.
    pub end: Option<End>,
    /// What the run was ended in, while the outside was waited for.
    pub(super) pending: Option<Pending>,
    /// The last bytes that it sent to its serial port, while a text is waited for.
    pub(super) tail: Vec<u8>,
    pub(super) first_read_done: bool,
    /// Nothing has been done since that would take the trap of [`Machine::set_double_fault_trap`] away.
    pub(super) trap_is_set: bool,
    /// Where the guest was when it was looked at last: its registers, and how many exits it had made.
    pub(super) kicked_at: Option<(kvm_regs, u64)>,
    /// How often in a row it was there, with nothing absent that KVM is known to want.
    pub(super) kicked_in_vain: u32,
    /// Exits that were settled as faults, for whoever wants to see what KVM gives.
    pub raw: Option<Vec<Exit>>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("exits", &self.core.exits).finish_non_exhaustive()
    }
}

/// Where the guest is, by its registers.
pub(super) fn place(general: General, sregs: &kvm_sregs) -> Place {
    /// EFER.LMA.
    const LONG_MODE: u64 = 1 << 10;
    let long = sregs.efer & LONG_MODE != 0 && sregs.cs.l != 0;
    let base = |segment: &kvm_bindings::kvm_segment| if long { 0 } else { segment.base };
    Place {
        general,
        bases: [
            base(&sregs.es),
            base(&sregs.cs),
            base(&sregs.ss),
            base(&sregs.ds),
            sregs.fs.base,
            sregs.gs.base,
        ],
        bits: match (long, sregs.cs.db) {
            (true, _) => 64,
            (false, 0) => 16,
            (false, _) => 32,
        },
    }
}

/// From linear addresses to pages of RAM, by the guest's tables as they are; it shows those, too.
pub(super) fn translate(ram: &Ram, sregs: &kvm_sregs) -> impl Fn(u64, &mut dyn FnMut(u64)) -> Option<u64> {
    let paging = Paging::of(sregs);
    move |linear, tables| {
        // RAM of bare-metal guests starts at 0.
        let mut table = |page: u64| {
            if page < ram.pages() {
                tables(page);
            }
        };
        ram.page_at(paging.walk(&RamView(ram), linear, &mut table)?)
    }
}

impl Machine {
    /// Reads memory by the guest's page tables as they are, whatever their protection. Nothing changes for
    /// the guest, and no page is brought in.
    pub(crate) fn read_memory(&self, address: u64, out: &mut [u8]) -> Result<(), ReadError> {
        // Without its system registers no address means anything.
        let sregs = self.core.vcpu.sregs().map_err(|_| ReadError::Unmapped(address))?;
        let page_of = translate(&self.ram, &sregs);
        read_memory(address, out, |at, content| {
            let page = page_of(at, &mut |_| {}).ok_or(ReadError::Unmapped(at))?;
            peek(&self.ram, Some(page), at, content)
        })
    }

    pub(super) fn assemble(
        core: Core,
        ram: Ram,
        world: Box<dyn World>,
        start: super::state::KernelState,
        search: Search,
        out_retires: bool,
    ) -> Machine {
        let devices = Devices::new(&start.devices);
        Machine {
            core,
            ram,
            devices,
            world,
            start,
            search,
            out_retires,
            end: None,
            pending: None,
            tail: Vec::new(),
            first_read_done: false,
            trap_is_set: false,
            kicked_at: None,
            kicked_in_vain: 0,
            raw: None,
        }
    }

    /// The state that the machine was made from.
    pub fn start_state(&self) -> &super::state::KernelState {
        &self.start
    }

    /// The vCPU's state between two instructions.
    ///
    /// # Errors
    /// [`RunError`]: to get there, pages may have to come in.
    pub fn cpu_state(&mut self) -> Result<CpuState, RunError> {
        match self.pending {
            // It begins anew.
            Some(Pending::In { .. }) => {}
            Some(Pending::Out { .. }) => {
                return Err(RunError::Machine(
                    "the guest's output waits to be taken: run it on first".into(),
                ));
            }
            None => self.complete(&BlockedSignals::new())?,
        }
        Ok(self.core.vcpu.state()?)
    }

    /// Finishes what KVM has begun.
    pub(super) fn complete(&mut self, signals: &BlockedSignals) -> Result<(), RunError> {
        let mut options = RunOptions::default();
        loop {
            let exit = self.core.vcpu.complete(signals);
            match self.find(exit, signals)? {
                Finding::Kick => return Ok(()),
                finding => self.settle(finding, &mut options)?,
            }
        }
    }

    /// The pages that KVM reads by itself as things are now, and that must not be absent.
    ///
    /// # Errors
    /// As [`Machine::cpu_state`].
    pub fn kept(&mut self) -> Result<Kept, RunError> {
        let state = self.cpu_state()?;
        Ok(self.kept_in(&state)?)
    }

    pub(super) fn kept_in(&self, state: &CpuState) -> Result<Kept, PageError> {
        let pages = self.ram.pages();
        let may_hold = self.ram.held(0..pages)?;
        let cpu = Cpu { regs: &state.regs, sregs: &state.sregs, msrs: &state.msrs };
        Ok(kept::find(&cpu, &RamView(&self.ram), pages, &may_hold, self.search))
    }

    /// Says what an exit means for memory.
    fn find(&self, exit: Exit, signals: &BlockedSignals) -> Result<Finding, RunError> {
        let Core { vcpu, ladder, .. } = &self.core;
        let decodes =
            matches!(exit, Exit::BareFault | Exit::InternalError { suberror: EMULATION_FAILED, .. });
        if !decodes {
            return Ok(ladder.find(exit, Place::default(), signals, &self.ram, &|_, _| None));
        }
        let sregs = vcpu.sregs()?;
        let translate = translate(&self.ram, &sregs);
        Ok(ladder.find(exit, place(vcpu.regs().into(), &sregs), signals, &self.ram, &translate))
    }

    /// Brings in what a fault wants, and answers an access of what is no memory. Anything else is an
    /// error.
    fn settle(&mut self, finding: Finding, options: &mut RunOptions<'_>) -> Result<(), RunError> {
        match finding {
            Finding::Wanted { pages, rung, then } => self.fault(&pages, rung, &then, options),
            Finding::Unknown => self.unexplained(options),
            Finding::Kick => Ok(()),
            Finding::Other(Exit::MmioRead { gpa, len }) => {
                self.devices.beyond_memory(gpa);
                self.core.vcpu.answer_mmio(&[0xff; 8][..len.min(8)]);
                Ok(())
            }
            Finding::Other(Exit::MmioWrite { gpa, .. }) => {
                self.devices.beyond_memory(gpa);
                Ok(())
            }
            Finding::Other(exit) => Err(self.crash("an exit that has no meaning", exit)),
        }
    }

    fn fault(
        &mut self,
        pages: &[u64],
        rung: Rung,
        then: &Then,
        options: &mut RunOptions<'_>,
    ) -> Result<(), RunError> {
        let Core { ladder, vcpu, .. } = &mut self.core;
        let settled = ladder.settle(pages, rung, then, vcpu, &self.ram)?;
        self.core.count_fault(settled.page, rung, settled.source, settled.brought, options);
        // Code of CPL 0 is emulated here: KVM also writes the frames of its exceptions.
        if matches!(rung, Rung::Mmio | Rung::Emulation) {
            self.bring_in_stack(pages, options)?;
        }
        Ok(())
    }

    /// Whether the guest is at an instruction that is invalid by definition, by which kernels report their
    /// own faults, or at none: neither is for KVM's emulator to do.
    fn is_at_invalid_opcode(&self) -> Result<bool, RunError> {
        use iced_x86::{Decoder, DecoderError, DecoderOptions, Mnemonic};
        let sregs = self.core.vcpu.sregs()?;
        let (place, code) = self.code_at_rip(&sregs);
        let mut decoder = Decoder::new(place.bits, &code, DecoderOptions::NONE);
        let instruction = decoder.decode();
        Ok(matches!(instruction.mnemonic(), Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2)
            || decoder.last_error() == DecoderError::InvalidInstruction)
    }

    /// Brings in what KVM reads by itself, before the guest runs.
    pub(super) fn bring_in_kept(&mut self) -> Result<(), PageError> {
        let mut came = 0;
        for (page, _) in self.start.kept.iter() {
            came += self.ram.bring_in(page)?.0;
        }
        if came > 0 {
            self.core.stats.count_fault(Rung::Kept, SourceKind::Snapshot, came);
        }
        Ok(())
    }

    fn port_in(
        &mut self,
        port: u16,
        size: u8,
        len: usize,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        if options.pause == PauseAt::FirstRead && !self.first_read_done && Devices::reads_input(port) {
            self.first_read_done = true;
            self.pending = Some(Pending::In { port, size, len });
            return Ok(Some(RunEnd::Paused));
        }
        let mut data = vec![0; len];
        if let Err(e) = self.devices.read(port, size.into(), &mut data, &mut *self.world) {
            self.pending = Some(Pending::In { port, size, len });
            return Err(e.into());
        }
        self.core.vcpu.answer_in(&data);
        self.record(ExitKind::In { port, len: len as u32 }, &data, options)?;
        Ok(self.reached(options).then_some(RunEnd::Paused))
    }

    fn port_out(
        &mut self,
        port: u16,
        size: u8,
        data: &[u8],
        options: &mut RunOptions<'_>,
        signals: &BlockedSignals,
    ) -> Result<Option<RunEnd>, RunError> {
        if !self.out_retires {
            // So that what is recorded is the same everywhere: behind the instruction.
            self.complete(signals)?;
        }
        let done = self.devices.write(port, size.into(), data);
        let kind = ExitKind::Out { port, len: data.len() as u32 };
        self.finish_out(kind, Data::from_slice(data), done, options)
    }

    /// Sends what a write put out, and goes on behind it.
    fn finish_out(
        &mut self,
        kind: ExitKind,
        data: Data,
        done: Done,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        if let Err(e) = self.devices.send(&mut *self.world) {
            self.pending = Some(Pending::Out { kind, data, done });
            return Err(e.into());
        }
        self.record(kind, &data, options)?;
        if let Some(end) = done.end {
            return self.ended(end, options);
        }
        let sent = match &options.pause {
            PauseAt::Serial(text) => self.has_sent(text),
            PauseAt::FirstOutput => !self.devices.sent().is_empty(),
            PauseAt::Ready => done.ready,
            _ => false,
        };
        Ok((sent || self.reached(options)).then_some(RunEnd::Paused))
    }

    /// Whether what was sent to the serial port has come to this text with the last write.
    fn has_sent(&mut self, text: &[u8]) -> bool {
        self.tail.extend_from_slice(self.devices.sent());
        let found = !text.is_empty() && memchr::memmem::find(&self.tail, text).is_some();
        // A part of the text may stand at the end.
        let keep = if found { 0 } else { text.len().saturating_sub(1) };
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        found
    }

    /// Whether the run is to pause behind the exit that was answered last.
    fn reached(&self, options: &RunOptions<'_>) -> bool {
        matches!(options.pause, PauseAt::Exit(number) if self.core.exits >= number)
    }

    fn record(&mut self, kind: ExitKind, data: &[u8], options: &mut RunOptions<'_>) -> Result<(), RunError> {
        self.core.stats.exits.ports += 1;
        let mut first = [0; RESULT_BYTES];
        let n = data.len().min(RESULT_BYTES);
        first[..n].copy_from_slice(&data[..n]);
        let effects = if data.len() > RESULT_BYTES { xxh3_64(data) } else { 0 };
        let rip = self.core.vcpu.regs().rip;
        let result = u64::from_le_bytes(first);
        let mut exit = exit::Exit { number: 0, task: 0, kind, rip, result, effects, clock: 0 };
        self.core.record(&mut exit, options)?;
        match self.trap_is_set {
            true => Ok(()),
            false => self.set_double_fault_trap(),
        }
    }

    fn ended(&mut self, end: End, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        self.end = Some(end);
        let rip = match end {
            // SVM's KVM has reset the vCPU: a recording is to hold on any host.
            End::TripleFault => 0,
            _ => self.core.vcpu.regs().rip,
        };
        let kind = ExitKind::End { status: end.status() };
        let mut exit = exit::Exit { number: 0, task: 0, kind, rip, result: 0, effects: 0, clock: 0 };
        self.core.record(&mut exit, options)?;
        Ok(Some(RunEnd::Ended(end)))
    }
}

impl Guest for Machine {
    fn core(&self) -> &Core {
        &self.core
    }

    fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    fn begin(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        if let Some(end) = self.end {
            return Ok(Some(RunEnd::Ended(end)));
        }
        match self.pending.take() {
            Some(Pending::In { port, size, len }) => self.port_in(port, size, len, options),
            Some(Pending::Out { kind, data, done }) => self.finish_out(kind, data, done, options),
            None => Ok(None),
        }
    }

    fn answer(
        &mut self,
        exit: Exit,
        options: &mut RunOptions<'_>,
        signals: &BlockedSignals,
    ) -> Result<Option<RunEnd>, RunError> {
        match exit {
            Exit::Out { port, size, ref data } => return self.port_out(port, size, data, options, signals),
            Exit::In { port, size, len } => return self.port_in(port, size, len, options),
            Exit::Halt => return self.ended(End::Halted, options),
            Exit::Shutdown if self.deliver_again(options)? => return Ok(None),
            Exit::Shutdown => return self.ended(End::TripleFault, options),
            Exit::InternalError { suberror: EMULATION_FAILED, .. } if self.is_at_invalid_opcode()? => {
                self.core.vcpu.inject_exception(INVALID_OPCODE)?;
                return Ok(None);
            }
            _ => {}
        }
        let raw = self.raw.is_some().then(|| exit.clone());
        match self.find(exit, signals)? {
            Finding::Kick => self.kicked(options)?,
            finding => {
                if let (Some(raw), Some(exit)) = (&mut self.raw, raw) {
                    raw.push(exit);
                }
                self.settle(finding, options)?;
            }
        }
        Ok(None)
    }

    fn code_at_rip(&self, sregs: &kvm_sregs) -> (Place, Vec<u8>) {
        let place = place(self.core.vcpu.regs().into(), sregs);
        let code = fetch(place.linear_rip(), &self.ram, &translate(&self.ram, sregs));
        (place, code.to_vec())
    }

    fn watchdog(&self) -> Option<Duration> {
        Some(WATCHDOG)
    }

    /// All but what KVM reads by itself.
    fn evict(&mut self, choose: &mut dyn FnMut(u64) -> bool) -> Result<u64, RunError> {
        let kept = self.kept()?;
        Ok(self.ram.evict(|page| !kept.contains(page) && choose(page))?)
    }
}
