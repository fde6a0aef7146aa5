//! Exceptions: page faults, and what becomes a signal.

use super::Machine;
use super::delivery::Resume;
use super::legacy;
use crate::entry::USER_DS;
use crate::exit::{ExitKind, Rung, SourceKind};
use crate::machine::{Guest, RunEnd, RunError, RunOptions};
use crate::program::entry::HANDLER;
use crate::program::exception::{self, code};
use crate::program::kernel::Kernel;
use crate::program::mm::{self, Access, FaultAnswer, Vma, patch};
use crate::program::patch::Sites;
use crate::program::signal::{self, Info};
use crate::program::translate;
use crate::vcpu::Exit;
use crate::vcpu::registers::General;
use crate::x86::flags::page_fault;
use crate::x86::flags::rflags::TRAP_FLAG;
use crate::x86::frame::Frame;
use crate::x86::vector;

/// How often a fault may find the tables right without getting anywhere.
const STALE_PATIENCE: u32 = 3;

/// The opcode of `int1`.
const INT1: u8 = 0xf1;

/// An exception of the program, as its stub, or the handler of breakpoints, has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trap {
    pub vector: u8,
    /// The error code; 0 where the vector has none.
    pub error: u64,
    /// Where the stub's stack is.
    pub rsp: u64,
    /// Where the program was.
    pub frame: Frame,
}

impl Machine {
    pub(super) fn exception(
        &mut self,
        vector: u8,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let rsp = self.core.vcpu.regs().rsp;
        let Some((error, frame)) = self.kernel.entry.frame(&self.kernel.memory, vector, rsp) else {
            let exit = Exit::Other(format!("vector {vector}, RSP {rsp:#x}"));
            return Err(self.crash("an exception off the exception stack", exit));
        };
        if frame.cs & 3 != 3 {
            let exit = Exit::Other(format!("vector {vector}, error {error:#x}, RIP {:#x}", frame.rip));
            return Err(self.crash("an exception in the entry stubs", exit));
        }
        let trap = Trap { vector, error, rsp, frame };
        let end = if Sites::has(frame.rip) {
            self.exception_in_sites(&trap, options)?
        } else if translate::is_inside(frame.rip) {
            self.exception_in_copies(&trap, options)?
        } else {
            self.exception_with(&trap, options)?
        };
        if end.is_none() {
            self.goes_on_in_copies(vector)?;
        }
        Ok(end)
    }

    /// A breakpoint that its handler does not answer.
    pub(super) fn breakpoint(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        let rsp = self.core.vcpu.regs().rsp;
        match self.kernel.entry.handler_frame(&self.kernel.memory, rsp) {
            Some(frame) => {
                // RIP is behind its first byte.
                let rip = self.program_rip(frame.rip.wrapping_sub(1)).wrapping_add(1);
                let frame = Frame { rip, ..frame };
                let trap = Trap { vector: vector::BREAKPOINT, error: 0, rsp, frame };
                let end = self.exception_with(&trap, options)?;
                if end.is_none() {
                    self.goes_on_in_copies(vector::BREAKPOINT)?;
                }
                Ok(end)
            }
            None => self.jumped_to_stub(HANDLER, self.program_registers(), options),
        }
    }

    pub(super) fn exception_with(
        &mut self,
        trap: &Trap,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let Trap { vector, error, frame, .. } = trap;
        let (vector, error) = (*vector, *error);
        if vector == vector::PAGE_FAULT {
            return self.page_fault(trap, options);
        }
        if vector == vector::DEBUG && self.stood_still(frame, options)? {
            return Ok(None);
        }
        let frame = &if vector == vector::DEBUG { self.behind_int1(frame)? } else { *frame };
        if vector == vector::DEBUG && self.stepper.on {
            return self.step(Some(trap.rsp), frame, options);
        }
        if let Some(at) = self.debug_trap_at(vector, frame)?
            && let Some(end) = self.debug_trap(&Frame { rip: at, ..*frame })?
        {
            return Ok(end);
        }
        if vector == vector::INVALID_OPCODE && self.lacked_pages(frame, options)? {
            return Ok(None);
        }
        if vector == vector::INVALID_OPCODE && self.code(frame.rip)?.first() == Some(&patch::BREAKPOINT) {
            // Some KVMs emulate, and when they do depends on the host; no CPU finds `int3` invalid.
            let behind = Frame { rip: frame.rip.wrapping_add(1), ..*frame };
            let trap = Trap { vector: vector::BREAKPOINT, error: 0, frame: behind, ..*trap };
            return self.exception_with(&trap, options);
        }
        if let Some(answered) = self.answered_at(vector, frame.rip)? {
            if let Some(next) = self.answer_as_handler(answered, vector, frame)? {
                if self.stepper.on {
                    return self.step(None, &next, options);
                }
                self.take_frame(&next);
                self.resume(Resume::Full)?;
                return Ok(None);
            }
            return self.answer_instruction(answered, &Trap { frame: *frame, ..*trap }, options);
        }
        if matches!(vector, vector::PROTECTION | vector::INVALID_OPCODE)
            && legacy::is_int80(&self.code(frame.rip)?)
        {
            return self.int80(frame, options);
        }
        self.take_frame(frame);
        let (vector, error) = match vector {
            vector::INVALID_OPCODE => self.behind_invalid(frame)?,
            vector => (vector, error),
        };
        self.record_exception(vector, error, frame.rip, options)?;
        let info = match vector {
            vector::FLOATING_POINT | vector::SIMD => {
                let state = self.extended_state()?;
                exception::floating_point_signal(vector, frame.rip, &state)
            }
            vector::DEBUG => Some(self.debug_signal(frame)?),
            _ => Some(exception::signal(vector, error, frame.rip)),
        };
        match info {
            Some(info) => self.raise(info, options),
            None => self.go_on(options),
        }
    }

    /// The frame of a debug exception, behind the instruction: on some hosts that of `int1` is at it.
    fn behind_int1(&mut self, frame: &Frame) -> Result<Frame, RunError> {
        let is_int1 = |code: &[u8]| code.first() == Some(&INT1);
        if !is_int1(&self.code(frame.rip)?) {
            return Ok(*frame);
        }
        let stands = match self.stepper.on {
            true => self.stepper.at.0 == frame.rip,
            // Of two in a row it is not known.
            false => frame.rflags & TRAP_FLAG == 0 && !is_int1(&self.code(frame.rip.wrapping_sub(1))?),
        };
        Ok(Frame { rip: frame.rip.wrapping_add(stands.into()), ..*frame })
    }

    /// A debug exception is for a step, or for `int1`.
    pub(super) fn debug_signal(&mut self, frame: &Frame) -> Result<Info, RunError> {
        let mut info = exception::signal(vector::DEBUG, 0, frame.rip);
        let stepped = self.program_flags(frame.rflags) & TRAP_FLAG != 0;
        if !stepped && self.code(frame.rip.wrapping_sub(1))?.first() == Some(&INT1) {
            info.code = code::TRAP_BRKPT;
        }
        Ok(info)
    }

    /// A page fault: a region whose table is still empty, a translation that KVM kept too long, or the
    /// program's own doing.
    pub(super) fn page_fault(
        &mut self,
        trap: &Trap,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let Trap { error, rsp, frame, .. } = trap;
        let (error, rsp) = (*error, *rsp);
        let address = self.core.vcpu.sregs()?.cr2;
        let access = if error & page_fault::FETCH != 0 {
            Access::Exec
        } else if error & page_fault::WRITE != 0 {
            Access::Write
        } else {
            Access::Read
        };
        if access == Access::Exec && legacy::is_vsyscall(frame.rip) {
            return self.vsyscall(frame, options);
        }
        // A debugger that calls a function has it return to its stack, where nothing may run.
        let runs = |(_, vma): (u64, &Vma)| vma.protection.exec;
        if access == Access::Exec
            && !self.kernel.space.find(address).is_some_and(runs)
            && let Some(end) = self.debug_trap(frame)?
        {
            return Ok(end);
        }
        if let Some(end) = self.watch_trap(address, access, frame)? {
            return Ok(end);
        }
        let Kernel { space, memory, .. } = &mut self.kernel;
        match space.fault(memory, address, access)? {
            FaultAnswer::Attached => {
                self.give_stack_segment(rsp, frame);
                let page = self.kernel.space.walk(&self.kernel.memory, address);
                self.region_attached(page, options)
            }
            FaultAnswer::Stale if self.stale_again(address) <= STALE_PATIENCE => {
                self.give_stack_segment(rsp, frame);
                if let Some(page) = self.kernel.space.walk(&self.kernel.memory, address) {
                    self.kernel.memory.ram.invalidate(page..page + 1)?;
                }
                Ok(None)
            }
            FaultAnswer::Stale => {
                let exit = Exit::Other(format!("page fault at {address:#x}, error {error:#x}"));
                Err(self.crash("a page fault that the page tables do not explain", exit))
            }
            answer => {
                self.take_frame(frame);
                self.bad_access(answer, access, address, options)
            }
        }
    }

    /// The program, whose registers are taken, gets a signal for an access.
    pub(super) fn bad_access(
        &mut self,
        answer: FaultAnswer,
        access: Access,
        address: u64,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        let error = self.page_fault_code(answer, access, address);
        let info = match answer {
            FaultAnswer::NotMapped => exception::page_fault_signal(false, code::SEGV_MAPERR, error, address),
            FaultAnswer::BeyondFile => exception::page_fault_signal(true, code::BUS_ADRERR, error, address),
            FaultAnswer::OutOfMemory => {
                self.core.vcpu.settle();
                tracing::warn!("guest memory is used up");
                Info { signal: signal::number::SIGKILL, ..Default::default() }
            }
            _ => exception::page_fault_signal(false, code::SEGV_ACCERR, error, address),
        };
        self.record_exception(vector::PAGE_FAULT, error, address, options)?;
        self.raise(info, options)
    }

    /// The handler of breakpoints runs with an empty SS, as the CPU gives it one with a stack of its own, and
    /// `iretq` to CPL 3 does not take that (Intel SDM volume 3, section 6.14.4, and volume 2, `IRET`): it goes on
    /// with the program's.
    fn give_stack_segment(&self, rsp: u64, frame: &Frame) {
        if frame.ss & !3 == 0 {
            let frame = Frame { ss: u64::from(USER_DS), ..*frame };
            self.kernel.entry.set_frame(&self.kernel.memory, vector::PAGE_FAULT, rsp, &frame);
        }
    }

    pub(super) fn record_exception(
        &mut self,
        vector: u8,
        code: u64,
        address: u64,
        options: &mut RunOptions<'_>,
    ) -> Result<(), RunError> {
        self.core.stats.exits.exceptions += 1;
        let rip = self.kernel.task.regs.general.rip;
        self.kernel.tick()?;
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
        if !self.kernel.memory.ram.is_there(page) {
            (brought, source) = self.kernel.memory.ram.bring_in(page)?;
        }
        self.core.count_fault(page, Rung::Region, source, brought, options);
        Ok(None)
    }

    /// The error code that the program sees: whether a page was present when it was touched depends on
    /// the host, so that one counts as present that may be accessed in another way.
    fn page_fault_code(&self, answer: FaultAnswer, access: Access, address: u64) -> u64 {
        let present = match answer {
            FaultAnswer::NotAllowed => self.kernel.space.find(address).is_some_and(|(_, vma)| {
                let p = vma.protection;
                p.read || p.write || p.exec
            }),
            FaultAnswer::NotMapped => address >= mm::USER_END,
            _ => false,
        };
        let access = match access {
            Access::Read => 0,
            Access::Write => page_fault::WRITE,
            Access::Exec => page_fault::FETCH,
        };
        access | page_fault::USER | if present { page_fault::PRESENT } else { 0 }
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
        self.kernel.task.regs.general = self.general_at(frame);
    }

    /// The program's registers, while the vCPU is in a stub, with this exception frame.
    pub(super) fn general_at(&self, frame: &Frame) -> General {
        General {
            rip: frame.rip,
            rsp: frame.rsp,
            rflags: signal::kept_flags(self.program_flags(frame.rflags)),
            ..General::from(self.core.vcpu.regs())
        }
    }
}
