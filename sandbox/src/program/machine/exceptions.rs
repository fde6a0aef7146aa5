//! Exceptions: page faults, instructions that the monitor answers, and what becomes a signal.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction};
use smallvec::{SmallVec, smallvec};

use super::delivery::Resume;
use super::{Machine, RunEnd, RunError, RunOptions};
use crate::exit::{ExitKind, Rung, SourceKind, Trapped};
use crate::program::entry::Frame;
use crate::program::exception::{self, code, page_fault, vector};
use crate::program::mm::{Access, FaultAnswer};
use crate::program::process::{Process, SysError};
use crate::program::signal::{self, Info};
use crate::ram::PAGE_SIZE;
use crate::vcpu::Exit;
use crate::vcpu::registers::General;

/// How often a fault may find the tables right without getting anywhere.
const STALE_PATIENCE: u32 = 3;
/// The most bytes of an instruction.
pub(super) const MAX_INSTRUCTION: usize = 15;

impl Machine {
    pub(super) fn exception(
        &mut self,
        vector: u8,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let rsp = self.vcpu.regs().rsp;
        let Some((error, frame)) = self.entry.frame(&self.process.memory, vector, rsp) else {
            let exit = Exit::Other(format!("vector {vector}, RSP {rsp:#x}"));
            return Err(self.unexpected("an exception off the exception stack", &exit));
        };
        if frame.cs & 3 != 3 {
            let exit = Exit::Other(format!("vector {vector}, error {error:#x}, RIP {:#x}", frame.rip));
            return Err(self.unexpected("an exception in the entry stubs", &exit));
        }
        if vector == vector::PAGE_FAULT {
            return self.page_fault(error, &frame, options);
        }
        if vector == vector::DEBUG && self.stepper.on {
            return self.step(rsp, &frame, options);
        }
        self.vcpu.settle();
        if vector == vector::PROTECTION
            && let Some((trapped, len)) = self.trapped_at(frame.rip)?
        {
            let next = Frame { rip: frame.rip + len, ..frame };
            self.entry.set_frame(&self.process.memory, vector, rsp, &next);
            self.look_ahead(next.rip)?;
            return self.read_timestamp(trapped, frame.rip, &next, options);
        }
        self.take_frame(&frame);
        // `INT n` without a gate is a general protection fault; where KVM emulates it, it comes as an
        // invalid opcode.
        let vector =
            if vector == vector::INVALID_OPCODE && self.instruction(frame.rip)?.code() == Code::Int_imm8 {
                vector::PROTECTION
            } else {
                vector
            };
        self.record_exception(vector, error, frame.rip, options)?;
        self.raise(exception::signal(vector, error, frame.rip), options)
    }

    /// A page fault: a region whose table is still empty, a translation that KVM kept too long, or the
    /// program's own doing.
    fn page_fault(
        &mut self,
        error: u64,
        frame: &Frame,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let address = self.vcpu.sregs()?.cr2;
        let access = if error & page_fault::FETCH != 0 {
            Access::Exec
        } else if error & page_fault::WRITE != 0 {
            Access::Write
        } else {
            Access::Read
        };
        let Process { space, memory, .. } = &mut self.process;
        match space.fault(memory, address, access)? {
            FaultAnswer::Attached => {
                let page = self.process.space.walk(&self.process.memory, address);
                self.region_attached(page, options)
            }
            FaultAnswer::Stale if self.stale_again(address) <= STALE_PATIENCE => {
                if let Some(page) = self.process.space.walk(&self.process.memory, address) {
                    self.process.memory.ram.invalidate(page..page + 1)?;
                }
                Ok(None)
            }
            FaultAnswer::Stale => {
                let exit = Exit::Other(format!("page fault at {address:#x}, error {error:#x}"));
                Err(self.unexpected("a page fault that the page tables do not explain", &exit))
            }
            answer => {
                self.vcpu.settle();
                self.take_frame(frame);
                let info = match answer {
                    FaultAnswer::NotMapped => {
                        exception::page_fault_signal(false, code::SEGV_MAPERR, error, address)
                    }
                    FaultAnswer::BeyondFile => {
                        exception::page_fault_signal(true, code::BUS_ADRERR, error, address)
                    }
                    FaultAnswer::OutOfMemory => {
                        tracing::warn!("guest memory is used up");
                        Info { signal: signal::number::SIGKILL, ..Default::default() }
                    }
                    _ => exception::page_fault_signal(false, code::SEGV_ACCERR, error, address),
                };
                self.record_exception(vector::PAGE_FAULT, error, address, options)?;
                self.raise(info, options)
            }
        }
    }

    /// RDTSC and RDTSCP read the program's clock.
    fn read_timestamp(
        &mut self,
        trapped: Trapped,
        rip: u64,
        next: &Frame,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.stats.exits.instructions += 1;
        let Process { clock, memory, space, .. } = &mut self.process;
        clock.tick(memory, space).map_err(SysError::from)?;
        let tsc = self.process.clock.monotonic();
        let regs = self.vcpu.regs_mut();
        regs.rax = tsc & 0xffff_ffff;
        regs.rdx = tsc >> 32;
        if trapped == Trapped::Rdtscp {
            // TSC_AUX: CPU 0 of node 0.
            regs.rcx = 0;
        }
        self.record(ExitKind::Instruction(trapped), rip, tsc, options)?;
        if self.reached(options) {
            // The vCPU is still in a stub; whoever goes on from here knows the program only.
            self.take_frame(next);
            self.resume(Resume::Full)?;
            return Ok(Some(RunEnd::Paused));
        }
        Ok(None)
    }

    pub(super) fn record_exception(
        &mut self,
        vector: u8,
        code: u64,
        address: u64,
        options: &mut RunOptions<'_>,
    ) -> Result<(), RunError> {
        self.stats.exits.exceptions += 1;
        let rip = self.process.regs.general.rip;
        let Process { clock, memory, space, .. } = &mut self.process;
        clock.tick(memory, space).map_err(SysError::from)?;
        // Whether a page was present when it was touched depends on the host.
        let code = if vector == vector::PAGE_FAULT { code & !1 } else { code };
        self.record(ExitKind::Exception { vector, code, address }, rip, 0, options)
    }

    fn region_attached(
        &mut self,
        page: Option<u64>,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        // The page that was touched may have to be brought in next: do it now, and save an exit.
        let Some(page) = page else { return Ok(None) };
        let mut source = SourceKind::Zero;
        let mut brought = 0;
        if !self.process.memory.ram.is_there(page) {
            if !self.process.memory.pages.is_plain(page) {
                self.vcpu.settle();
            }
            (brought, source) = self.process.memory.ram.bring_in(page)?;
        }
        self.count_fault(page, Rung::Region, source, brought, options);
        Ok(None)
    }

    fn stale_again(&mut self, address: u64) -> u32 {
        if self.stale.0 == address {
            self.stale.1 += 1;
        } else {
            self.stale = (address, 1);
        }
        self.stale.1
    }

    /// Takes the program's registers out of the vCPU, which is in a stub, and the exception frame.
    pub(super) fn take_frame(&mut self, frame: &Frame) {
        self.process.regs.general = General {
            rip: frame.rip,
            rsp: frame.rsp,
            rflags: signal::sanitize_flags(self.program_flags(frame.rflags)),
            ..General::from(self.vcpu.regs())
        };
    }

    /// The instruction at an address; an invalid one where there is none.
    pub(super) fn instruction(&mut self, rip: u64) -> Result<Instruction, RunError> {
        let bytes = self.code(rip)?;
        Ok(Decoder::with_ip(64, &bytes, rip, DecoderOptions::NONE).decode())
    }

    /// The bytes at an address, as many as may be those of one instruction.
    pub(super) fn code(&mut self, rip: u64) -> Result<SmallVec<[u8; MAX_INSTRUCTION]>, RunError> {
        let mut bytes = smallvec![0u8; MAX_INSTRUCTION];
        let all = self.process.space.accessible(rip, MAX_INSTRUCTION, Access::Exec);
        let in_page = all.min(PAGE_SIZE - (rip % PAGE_SIZE as u64) as usize);
        // A mapping may be longer than what is mapped: a file may end with the first page.
        for len in [all, in_page] {
            match self.process.read(rip, &mut bytes[..len]) {
                Ok(()) => {
                    bytes.truncate(len);
                    return Ok(bytes);
                }
                Err(SysError::Errno(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(SmallVec::new())
    }

    /// The instruction at RIP, if it is one that the monitor answers.
    fn trapped_at(&mut self, rip: u64) -> Result<Option<(Trapped, u64)>, RunError> {
        let instruction = self.instruction(rip)?;
        let trapped = match instruction.code() {
            Code::Rdtsc => Trapped::Rdtsc,
            Code::Rdtscp => Trapped::Rdtscp,
            _ => return Ok(None),
        };
        Ok(Some((trapped, instruction.len() as u64)))
    }
}
