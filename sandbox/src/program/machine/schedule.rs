//! Which task the vCPU runs.

use super::Machine;
use super::call::Made;
use super::delivery::Resume;
use crate::machine::{RunEnd, RunError, RunOptions};
use crate::program::task::Task;
use crate::program::wait::Idle;

impl Machine {
    /// Goes on with the running task, or with another one when its time slice is over or it has ended.
    pub(super) fn go(
        &mut self,
        resume: Resume,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        if self.kernel.task.dead {
            return self.schedule(options);
        }
        if self.kernel.sched.is_stopped(self.kernel.tid()) {
            return self.schedule(options);
        }
        if self.kernel.sched.slice_is_over() {
            let tid = self.kernel.tid();
            self.kernel.sched.make_ready(tid);
            return self.schedule(options);
        }
        self.resume(resume)?;
        Ok(None)
    }

    /// Runs the next task that can run. When none can, time passes, or the outside is waited for.
    pub(super) fn schedule(&mut self, options: &mut RunOptions<'_>) -> Result<Option<RunEnd>, RunError> {
        let mut looks_again = false;
        loop {
            if self.kernel.task.dead {
                self.kernel.bury()?;
            }
            let Some(tid) = self.kernel.sched.take_next() else {
                match self.kernel.idle()? {
                    Idle::Woken => continue,
                    // Whoever waits still does when asked again, or a wake-up was lost.
                    Idle::Stuck if cfg!(debug_assertions) && !looks_again => {
                        looks_again = true;
                        self.kernel.ask_again();
                        continue;
                    }
                    Idle::Stuck => {
                        self.waits_for = Some(self.kernel.what_all_wait_for());
                        return Ok(Some(RunEnd::Stuck));
                    }
                }
            };
            self.load(tid)?;
            let made = match self.kernel.take_turn() {
                Some(call) => {
                    let made = self.make_call(call, options)?;
                    let got =
                        matches!(made, Made::Answered(_)) && self.kernel.task.regs.general.rax as i64 > 0;
                    debug_assert!(!(looks_again && got), "a wake-up was lost: {call:?} of task {tid}");
                    made
                }
                None => self.go_on_as(options)?,
            };
            match made {
                Made::Answered(_) if self.kernel.sched.is_stopped(self.kernel.tid()) => {}
                Made::Answered(_) => {
                    self.resume(Resume::Full)?;
                    return Ok(None);
                }
                Made::Left => {}
                Made::End(end) => return Ok(Some(end)),
            }
        }
    }

    /// Delivers what signals came for a task while others ran.
    fn go_on_as(&mut self, options: &mut RunOptions<'_>) -> Result<Made, RunError> {
        if self.shows_signal() {
            self.resume(Resume::Full)?;
            return Ok(Made::End(RunEnd::Paused));
        }
        let resume = self.deliver(Resume::Full, options)?;
        if let Some(end) = self.ended(options)? {
            return Ok(Made::End(end));
        }
        Ok(if self.kernel.task.dead { Made::Left } else { Made::Answered(resume) })
    }

    /// Puts a task onto the vCPU, all but the registers that [`Machine::resume`] puts there.
    fn load(&mut self, tid: u32) -> Result<(), RunError> {
        if self.on_vcpu == tid && self.kernel.task.has(tid) {
            self.kernel.switch(tid)?;
            return Ok(());
        }
        let Machine { core, kernel, loaded_bases, told, on_vcpu, .. } = self;
        if let Some(before) = kernel.task.of_mut(*on_vcpu) {
            // Bases that a call has set are not there yet.
            if core.host.fsgsbase && (before.regs.fs_base, before.regs.gs_base) == *loaded_bases {
                let sregs = core.vcpu.sregs()?;
                (before.regs.fs_base, before.regs.gs_base) = (sregs.fs.base, sregs.gs.base);
            }
            before.fp = Some(Box::new(core.vcpu.extended_state()?));
        }
        let before = kernel.space.id();
        kernel.switch(tid)?;
        if kernel.space.id() != before {
            told.forget_space();
        }
        if let Some(fp) = kernel.task.fp.take() {
            // Many have the same as the task before, and a call costs more than to look.
            let same = |task: &mut Task| task.fp.as_ref().is_some_and(|has| *has == fp);
            if !kernel.task.of_mut(*on_vcpu).is_some_and(same) {
                core.vcpu.set_extended_state(&fp)?;
            }
        }
        *on_vcpu = tid;
        // No base is what the vCPU has.
        *loaded_bases = (u64::MAX, u64::MAX);
        Ok(())
    }
}
