//! Pages that KVM wants and says nothing of.
//!
//! Where KVM emulates code of CPL 0, it also reads descriptor tables, the task state and operands by
//! itself, and writes the frames of exceptions. When such a page is absent, it tries for ever, or it
//! finds that the exception cannot be delivered, which becomes a double fault (that the guest gets) or
//! a triple fault. What is known beforehand is [kept](super::kept); the rest is made good here, as far
//! as it can be. `docs/faults.md` has a row for each of these accesses.

use iced_x86::{Decoder, DecoderOptions};

use super::kept::{self, Cpu, STACK_BELOW, stack_top};
use super::machine::{Machine, place, translate};
use super::paging::{Paging, RamView};
use crate::exit::Rung;
use crate::fault::{Finding, fetch};
use crate::machine::{Guest, RunError, RunOptions};
use crate::ram::PAGE_SIZE;
use crate::vcpu::registers::General;
use crate::x86::flags::rflags;
use crate::x86::vector::{BREAKPOINT, DEBUG};

/// Kicks in a row that find the guest in one place, and nothing to bring in, until all is brought in. A
/// guest that was kicked while KVM emulated an instruction goes on by itself: one kick, or two, say
/// nothing.
const VAIN_KICKS: u32 = 4;

/// `int3`.
const INT3: u8 = 0xcc;

impl Machine {
    /// The guest made no exit for a while: brings in what KVM may be reading, if it is absent. When
    /// that is nothing, again and again while the guest stays where it is, it brings in everything.
    pub(super) fn kicked(&mut self, options: &mut RunOptions<'_>) -> Result<(), RunError> {
        // The guest may have given itself other tables since.
        self.set_double_fault_trap()?;
        let now = (*self.core.vcpu.regs(), self.core.exits);
        let there_before = self.kicked_at.replace(now) == Some(now);
        // Where the CPU delivers exceptions, a guest that gets on lacks nothing.
        let brought = match there_before || self.core.host.syscall_stays_user {
            true => self.bring_in_silent(Rung::Watchdog, options)?,
            false => 0,
        };
        self.kicked_in_vain = if there_before && brought == 0 { self.kicked_in_vain + 1 } else { 0 };
        if self.kicked_in_vain < VAIN_KICKS || !self.ram.lacks_any() || self.is_at_endless_loop()? {
            return Ok(());
        }
        self.kicked_in_vain = 0;
        tracing::debug!(rip = now.0.rip, "KVM_RUN does not come back, and nobody knows why");
        self.bring_in_all(options)
    }

    /// Takes away the page of #DF's own stack, where KVM delivers exceptions by itself: see
    /// [`kept::double_fault_page`]. Not while it is in use.
    pub(super) fn set_double_fault_trap(&mut self) -> Result<(), RunError> {
        if !self.core.host.syscall_stays_user {
            return Ok(());
        }
        let sregs = self.core.vcpu.sregs()?;
        let memory = RamView(&self.ram);
        let cpu = Cpu { regs: self.core.vcpu.regs(), sregs: &sregs, msrs: &[] };
        let page = kept::double_fault_page(&cpu, &memory).filter(|page| *page < self.ram.pages());
        if let Some(page) = page.filter(|page| !kept::read_by_kvm(&cpu, &memory).contains_key(page)) {
            self.ram.set_trap(page)?;
        }
        self.trap_is_set = true;
        Ok(())
    }

    /// Memory was absent, and the instruction's own pages and its operands' are there. Where the CPU walks
    /// page tables and delivers exceptions itself, it may have been one that it uses for that; where it
    /// was none of those, all is brought in.
    pub(super) fn unexplained(&mut self, options: &mut RunOptions<'_>) -> Result<(), RunError> {
        if self.bring_in_silent(Rung::Decode, options)? > 0 {
            return Ok(());
        }
        self.bring_in_all(options)
    }

    /// Brings in everything that is absent, and counts it.
    fn bring_in_all(&mut self, options: &mut RunOptions<'_>) -> Result<(), RunError> {
        let rip = self.core.vcpu.regs().rip;
        let settled = self.core.ladder.populate(rip, &self.ram)?;
        self.core.count_fault(settled.page, settled.rung, settled.source, settled.brought, options);
        Ok(())
    }

    /// Whether the guest is at a jump to itself, at which it stays by its own will.
    fn is_at_endless_loop(&self) -> Result<bool, RunError> {
        let (place, code) = self.code_at_rip(&self.core.vcpu.sregs()?);
        let instruction =
            Decoder::with_ip(place.bits, &code, place.general.rip, DecoderOptions::NONE).decode();
        Ok(instruction.is_jmp_short_or_near() && instruction.near_branch_target() == instruction.ip())
    }

    /// The guest came to a triple fault: whether that was for want of pages. They are there then, and
    /// the guest goes on by the exception.
    ///
    /// KVM leaves the registers as they were before it tried, so that the instruction at RIP can be run
    /// again and raises the exception anew. But where the exception was a trap it is delivered anew.
    ///
    /// SVM's KVM resets the vCPU at a triple fault (`shutdown_interception`, svm.c), so that nothing is
    /// left to go on by. There the CPU delivers exceptions, and an absent page makes an exit of its own.
    pub(super) fn deliver_again(&mut self, options: &mut RunOptions<'_>) -> Result<bool, RunError> {
        if self.core.vcpu.was_reset()? || self.bring_in_silent(Rung::Delivery, options)? == 0 {
            return Ok(false);
        }
        self.trap_is_set = false;
        let vector = self.core.vcpu.undelivered_exception()?;
        // Of an exception that is a trap, RIP is behind the instruction, and running it again would not
        // raise it again.
        let trap = match vector {
            BREAKPOINT => self.is_behind_int3()?,
            DEBUG => self.core.vcpu.regs().rflags & rflags::TRAP_FLAG != 0,
            _ => false,
        };
        match trap {
            true => self.core.vcpu.inject_exception(vector)?,
            false => self.core.vcpu.clear_exception()?,
        }
        Ok(true)
    }

    fn is_behind_int3(&self) -> Result<bool, RunError> {
        let sregs = self.core.vcpu.sregs()?;
        let before = place(self.core.vcpu.regs().into(), &sregs).linear_rip().wrapping_sub(1);
        Ok(fetch(before, &self.ram, &translate(&self.ram, &sregs)).first() == Some(&INT3))
    }

    /// Brings in all absent pages that KVM or the CPU may be using by itself at this moment, those of the
    /// instruction at RIP. Returns how many came.
    fn bring_in_silent(&mut self, rung: Rung, options: &mut RunOptions<'_>) -> Result<u64, RunError> {
        let sregs = self.core.vcpu.sregs()?;
        let regs = *self.core.vcpu.regs();
        let memory = RamView(&self.ram);
        let place = place(General::from(&regs), &sregs);
        let cpu = Cpu { regs: &regs, sregs: &sregs, msrs: &[] };
        let mut wanted: Vec<u64> = kept::read_by_kvm(&cpu, &memory).into_keys().collect();
        // Not by the watchdog: its being absent is what tells of exceptions that cannot be delivered.
        if rung != Rung::Watchdog {
            wanted.extend(kept::double_fault_page(&cpu, &memory));
        }
        let operands = self.core.ladder.decode(&place, &self.ram, &translate(&self.ram, &sregs), rung);
        if let Some(Finding::Wanted { pages, .. }) = operands {
            wanted.extend(pages);
        }
        let mut came = 0;
        for page in wanted {
            came += self.bring_in_for(page, rung, options)?;
        }
        if came > 0 {
            tracing::debug!(rip = regs.rip, came, ?rung, "brought in pages that KVM uses by itself");
        }
        Ok(came)
    }

    /// Where pages came that the stack pointer is in: brings in what lies below. When the guest has
    /// gone to another stack, the frame of an exception may be the next that is written there.
    pub(super) fn bring_in_stack(
        &mut self,
        pages: &[u64],
        options: &mut RunOptions<'_>,
    ) -> Result<(), RunError> {
        let sregs = self.core.vcpu.sregs()?;
        let cpu = Cpu { regs: self.core.vcpu.regs(), sregs: &sregs, msrs: &[] };
        let top = stack_top(&cpu, &Paging::of(&sregs));
        let page = |linear| translate(&self.ram, &sregs)(linear, &mut |_| {});
        let below = match page(top) {
            Some(at) if pages.contains(&at) => page(top.wrapping_sub(STACK_BELOW)),
            _ => None,
        };
        if let Some(below) = below {
            self.bring_in_for(below, Rung::Kept, options)?;
        }
        Ok(())
    }

    /// Brings in a page of memory, if it is absent, and counts it. Returns how many came.
    fn bring_in_for(&mut self, page: u64, rung: Rung, options: &mut RunOptions<'_>) -> Result<u64, RunError> {
        if page >= self.ram.pages() || self.ram.is_there(page) {
            return Ok(0);
        }
        let (brought, source) = self.ram.bring_in(page)?;
        if brought > 0 {
            self.core.count_fault(page, rung, source, brought, options);
        }
        Ok(brought)
    }
}

const _: () = assert!(STACK_BELOW == PAGE_SIZE as u64, "one page below is brought in");
