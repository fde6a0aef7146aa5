//! A guest that can be run.

mod debug;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dejavm_replay::{Replayer, RunEnd as RecordedEnd, Summary};
use dejavm_sandbox::exit::Observer;
use dejavm_sandbox::guest::Machine;
use dejavm_sandbox::host::stop::StopHandle;
use dejavm_sandbox::machine::{PauseAt, RunEnd, RunError, RunOptions, StartError};
use dejavm_sandbox::program::fs::guest_path;
use dejavm_sandbox::stats::Stats;
use dejavm_sandbox::vcpu::registers::UserRegisters;
use dejavm_sandbox::world::WorldError;
use dejavm_snapshot::WriteOptions;

use crate::common::{Common, Wiring};
use crate::error::Diverged;
use crate::recording::{Recording, outcome_at_end};
use crate::report::{LimitsHit, NotDeterministic};
use crate::tee::{both, unshare};
use crate::{Confinement, Error, Outcome, Report};

/// A guest that can be run: a new program, a restored one, or a replayed one.
///
/// It may be moved to any thread, and runs on the thread that calls [`run`](Sandbox::run). After an
/// error it says that it cannot be used any more.
pub struct Sandbox {
    machine: Machine,
    observer: Option<Box<dyn Observer>>,
    recording: Option<Recording>,
    sealed: Option<Summary>,
    replayer: Option<Replayer>,
    wiring: Wiring,
    limit: Option<Duration>,
    /// Snapshots hold the content of the host's files.
    keep_files: bool,
    /// Whether it came to a deadline.
    timed_out: bool,
    /// Why it cannot be used any more.
    broken: Option<String>,
}

impl Sandbox {
    /// From what came of making the machine.
    pub(crate) fn assemble(
        machine: Result<Machine, StartError>,
        tap: Option<Box<dyn Observer>>,
        recording: Option<Recording>,
        replayer: Option<Replayer>,
        mut wiring: Wiring,
        common: Common,
    ) -> Result<Sandbox, Error> {
        let machine = match machine {
            Ok(machine) => machine,
            Err(error) => {
                if let Some(recording) = recording {
                    recording.remove();
                }
                return Err(match (replayer.as_ref().and_then(Replayer::divergence), error) {
                    (Some(divergence), _) => Diverged::error(divergence, UserRegisters::default()),
                    (None, StartError::Run(RunError::World(WorldError::Interrupted))) => {
                        let stopped = wiring.stop.is_stopped();
                        Error::Loading(if stopped { Outcome::Stopped } else { Outcome::Deadline })
                    }
                    (None, error) => error.into(),
                });
            }
        };
        let limit = wiring.loaded();
        let mut recording = recording;
        if let (Some(recording), Some(every)) = (&mut recording, common.checkpoints) {
            recording.keep_checkpoints(every);
        }
        Ok(Sandbox {
            machine,
            observer: both(tap, common.observer.map(unshare)),
            recording,
            sealed: None,
            replayer,
            wiring,
            limit,
            keep_files: false,
            timed_out: false,
            broken: None,
        })
    }

    /// Runs the guest until it ends, or is ended by its deadline or its [stop
    /// handle](Sandbox::stop_handle). Seals the recording, if there is one.
    ///
    /// # Errors
    /// [`Error::Run`], [`Error::Diverged`], [`Error::Recording`]; [`Error::Unusable`] from then on.
    pub fn run(&mut self) -> Result<Report, Error> {
        let outcome = self.run_until(PauseAt::Never)?;
        self.seal(outcome)?;
        Ok(self.report(outcome))
    }

    /// Runs the guest until it comes to a point, or ends, or is ended before. A recording goes on
    /// after a pause.
    ///
    /// # Errors
    /// As [`Sandbox::run`].
    pub fn run_until(&mut self, point: PauseAt) -> Result<Outcome, Error> {
        let outcome = self.run_to_point(point)?;
        self.timed_out |= outcome == Outcome::Deadline;
        Ok(outcome)
    }

    fn run_to_point(&mut self, point: PauseAt) -> Result<Outcome, Error> {
        self.check()?;
        // Threads of the sandbox's own are started only now, so that they are confined as the process is.
        if let Some(recording) = &mut self.recording {
            recording.begin()?;
        }
        if let Some(replayer) = &self.replayer {
            replayer.read_ahead()?;
        }
        if let Some(limit) = self.limit.take() {
            self.set_deadline(Some(limit));
        }
        if let Some(outcome) = self.log_is_over() {
            return self.over(outcome);
        }
        // Spans begin and end outside the run: whoever listens may read the clock.
        let span = tracing::info_span!("run", exits = tracing::field::Empty, pages = tracing::field::Empty);
        let result = span.in_scope(|| self.run_with_checkpoints(point));
        let core = self.machine.core();
        span.record("exits", core.exits).record("pages", core.stats.pages);
        drop(span);
        match result {
            Ok(end) => {
                let outcome = Outcome::from(end);
                if !outcome.goes_on() {
                    self.seal(outcome)?;
                }
                Ok(outcome)
            }
            Err(RunError::World(WorldError::EndOfLog)) if self.replayer.is_some() => {
                let end = self.replayer.as_ref().and_then(|r| r.recording().end());
                let outcome = outcome_at_end(end);
                self.over(outcome)
            }
            Err(RunError::World(WorldError::LogFull { .. })) if self.recording.is_some() => {
                self.seal(Outcome::LogFull)?;
                Ok(Outcome::LogFull)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Runs the machine, and keeps checkpoints of a recorded run meanwhile.
    fn run_with_checkpoints(&mut self, point: PauseAt) -> Result<RunEnd, RunError> {
        loop {
            if let Some(recording) = &mut self.recording {
                recording.checkpoint(&mut self.machine)?;
            }
            let looks = self.recording.as_ref().and_then(Recording::looks_every);
            let pause = match (&point, looks) {
                (PauseAt::Never, Some(exits)) => PauseAt::Exit(self.machine.core().exits + exits),
                _ => point.clone(),
            };
            let observer = self.observer.as_deref_mut().map(|o| o as &mut dyn Observer);
            match (self.machine.run(RunOptions { pause, observer })?, &point, &self.recording) {
                (RunEnd::Paused, PauseAt::Never, Some(_)) => {}
                (end, ..) => return Ok(end),
            }
        }
    }

    /// What has come of the run so far: captured output since the last report, and counts.
    pub fn report(&mut self, outcome: Outcome) -> Report {
        let (stdout, stderr) = match &self.wiring.captured {
            Some((stdout, stderr)) => (stdout.take(), stderr.take()),
            None => Default::default(),
        };
        Report {
            outcome,
            stdout,
            stderr,
            exits: self.exits_until(outcome),
            waits_for: self.machine.program().and_then(|program| program.waits_for.clone()),
            output_error: self.wiring.output_error.as_ref().and_then(|error| error.get()),
            death: self.machine.program().and_then(|program| program.death.clone()),
            spins: self.machine.program().and_then(|program| program.spins.clone()),
            spinning: self.machine.program().is_some_and(|program| program.spinning),
            unknown_calls: self.machine.program().map(|p| p.kernel.unknown.clone()).unwrap_or_default(),
            unknown_memory: self
                .machine
                .kernel()
                .map(|k| k.devices.unknown_memory.clone())
                .unwrap_or_default(),
            unknown_ports: self.machine.kernel().map(|k| k.devices.unknown.clone()).unwrap_or_default(),
            not_deterministic: self
                .machine
                .kernel()
                .map(|kernel| NotDeterministic::of(kernel.start_state()))
                .unwrap_or_default(),
            limits: self.limits_hit(),
            stats: self.stats(),
            recording: self.sealed.clone(),
        }
    }

    /// Which of its limits the guest came to so far.
    pub fn limits_hit(&self) -> LimitsHit {
        let kernel = self.machine.program().map(|program| &program.kernel);
        LimitsHit {
            memory: kernel.is_some_and(|kernel| kernel.memory.state.account.has_refused()),
            disk: kernel.is_some_and(|kernel| kernel.outside.look(|fs, ()| fs.has_refused(), ())),
            output: self.wiring.captured.iter().any(|(out, err)| out.has_refused() || err.has_refused()),
            deadline: self.timed_out,
        }
    }

    /// Reads the guest's memory by its virtual addresses, whatever their protection: of a program, or by
    /// the page tables of a bare-metal guest as they are. Nothing changes for the guest, and no page
    /// is brought in. It can be done between runs, and after the last one.
    ///
    /// # Errors
    /// [`Error::Memory`], which names the first address that could not be read; the bytes before it
    /// are in `out`.
    pub fn read_memory(&mut self, address: u64, out: &mut [u8]) -> Result<(), Error> {
        Ok(self.machine.read_memory(address, out)?)
    }

    /// The machine counts the exit that it was at when the log ended, which the log may lack.
    fn exits_until(&self, outcome: Outcome) -> u64 {
        let replayed = self.replayer.as_ref().map(|replayer| replayer.position());
        match replayed {
            Some(position) if outcome == Outcome::LogEnds && position > 0 => position,
            _ => self.machine.core().exits,
        }
    }

    /// Gives the guest this much time from now on, or, with `None`, as much as it takes.
    pub fn set_deadline(&mut self, time: Option<Duration>) {
        self.limit = None;
        // Past what an `Instant` can hold there is no deadline.
        self.wiring.stop.set_deadline(time.and_then(|time| Instant::now().checked_add(time)));
    }

    /// A handle that stops the run from another thread, or sends the program a signal.
    pub fn stop_handle(&self) -> StopHandle {
        self.wiring.stop.clone()
    }

    /// What the process of this sandbox needs to be able to do from now on: to be given more, if the
    /// process does more, and applied before the guest is run.
    pub fn confinement(&self) -> Confinement {
        let confinement = self.wiring.grants.iter().fold(Confinement::new(), Confinement::grant);
        match &self.recording {
            Some(recording) => confinement.write(recording.dir()),
            None => confinement,
        }
    }

    /// Counts and times so far.
    pub fn stats(&self) -> Stats {
        let mut stats = self.machine.core().stats.clone();
        let ram = self.machine.ram();
        let counters = ram.counters();
        stats.slots = counters.slots.load(Ordering::Relaxed);
        stats.time.fetch_ns = counters.fetch_ns.load(Ordering::Relaxed);
        stats.resident_bytes = ram.resident_bytes().unwrap_or(0);
        stats
    }

    /// Compared exits since the guest's start.
    pub fn exits(&self) -> u64 {
        self.machine.core().exits
    }

    /// Writes a snapshot of the guest as it is now. With [`WriteOptions::parent`], the snapshot that
    /// it was restored from, only pages that differ are stored.
    ///
    /// # Errors
    /// [`Error::Save`]; the sandbox can be run on. [`Error::Unusable`].
    pub fn snapshot(
        &mut self,
        path: impl AsRef<Path>,
        options: &WriteOptions,
    ) -> Result<dejavm_snapshot::Summary, Error> {
        self.snapshot_with(path, options, &mut |_, _| {})
    }

    /// As [`Sandbox::snapshot`]; `progress` is called now and then with the pages done and the
    /// total.
    ///
    /// # Errors
    /// As [`Sandbox::snapshot`].
    pub fn snapshot_with(
        &mut self,
        path: impl AsRef<Path>,
        options: &WriteOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<dejavm_snapshot::Summary, Error> {
        self.check()?;
        let path = path.as_ref();
        let _span = tracing::info_span!("snapshot", path = %path.display()).entered();
        Ok(self.machine.save(path, options, self.keep_files, progress)?)
    }

    /// Whether snapshots from now on hold the content of the host's files that the guest has looked at, so
    /// that they are restored where the host lacks them or has others. What the guest has not looked at by
    /// then is asked of the host that it is restored on. A snapshot of what was restored from such a
    /// snapshot holds at least what that held.
    pub fn keep_host_files(&mut self, keep: bool) {
        self.keep_files = keep;
    }

    /// Keeps from now on the order in which pages are brought in.
    pub fn watch_pages(&mut self) {
        self.machine.ram().record_order();
    }

    /// The pages that were brought in since [`Sandbox::watch_pages`], in order: a working set, to be
    /// stored by [`dejavm_snapshot::add_working_set`]. [`Restore::warm`](crate::Restore::warm) does
    /// all of this.
    pub fn take_pages(&mut self) -> Vec<u64> {
        self.machine.ram().take_order()
    }

    /// Number of the last exit of a replay that was as recorded; `None` when this is no replay.
    pub fn replayed(&self) -> Option<u64> {
        self.replayer.as_ref().map(Replayer::position)
    }

    /// The host's files whose contents a [redaction](crate::Replay::redact) has taken out so far, by their absolute
    /// paths in the guest.
    pub fn redacted(&self) -> Vec<Vec<u8>> {
        let files = self.replayer.as_ref().map(Replayer::redacted).unwrap_or_default();
        let Some(program) = self.machine.program() else { return Vec::new() };
        let path_of = |file| program.kernel.outside.look(|fs, file| guest_path(fs.mounts(), file), file);
        files.iter().filter_map(path_of).collect()
    }

    /// The machine, for what this type has no words for.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Whether it is recorded or replayed, or was.
    pub(crate) fn is_logged(&self) -> bool {
        self.recording.is_some() || self.sealed.is_some() || self.replayer.is_some()
    }

    /// A deadline that it came to is over, with what it did until then.
    pub(crate) fn forget_deadline(&mut self) {
        self.timed_out = false;
    }

    /// Whether its guest has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let program = self.machine.program().and_then(|program| program.kernel.end);
        program.or(self.machine.kernel().and_then(|kernel| kernel.end)).is_some()
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.broken {
            Some(why) => Err(Error::Unusable { why: why.clone() }),
            None => Ok(()),
        }
    }

    /// How a replay comes back whose log has nothing left to run. A guest that makes no exit any
    /// more would never meet its end.
    fn log_is_over(&self) -> Option<Outcome> {
        let replayer = self.replayer.as_ref()?;
        let end = replayer.recording().end();
        let stops = !matches!(end, Some(RecordedEnd::Ended { .. })) && !self.wiring.live;
        (stops && replayer.at_end()).then(|| outcome_at_end(end))
    }

    /// The recording has nothing more, so there is no outside to go on with. One that is made of a replay ends as
    /// that does.
    fn over(&mut self, outcome: Outcome) -> Result<Outcome, Error> {
        self.seal(outcome)?;
        self.broken = Some("its recording ended".into());
        Ok(outcome)
    }

    /// Seals the recording: what would come after it is not in it, so there is nothing after it.
    fn seal(&mut self, outcome: Outcome) -> Result<(), Error> {
        let Some(recording) = self.recording.take() else { return Ok(()) };
        if outcome.code().is_none() {
            self.broken = Some("its recording is sealed".into());
        }
        match recording.finish(outcome) {
            Ok(summary) => self.sealed = Some(summary),
            Err(e) => {
                self.broken = Some(e.to_string());
                return Err(e);
            }
        }
        Ok(())
    }

    pub(crate) fn fail(&mut self, error: RunError) -> Error {
        let text = error.to_string();
        if let Some(recording) = self.recording.take()
            && let Err(e) = recording.fail(&text)
        {
            // The run's own error says more.
            tracing::warn!(error = %e, "the recording is not sealed");
        }
        self.broken = Some(text);
        let divergence = self.replayer.as_ref().and_then(Replayer::divergence);
        match (error, divergence) {
            (RunError::World(WorldError::Diverged(_)), Some(divergence)) => {
                Diverged::error(divergence, self.machine.registers())
            }
            (error, _) => error.into(),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(recording) = self.recording.take()
            && let Err(e) = recording.finish(Outcome::Stopped)
        {
            tracing::warn!(error = %e, "the recording is not sealed");
        }
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("machine", &self.machine)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandboxes_go_to_other_threads() {
        fn assert_send<T: Send>() {}
        fn assert_clone<T: Send + Clone>() {}
        assert_clone::<crate::Program>();
        assert_clone::<crate::Kernel>();
        assert_clone::<crate::Restore>();
        assert_clone::<crate::Replay>();
        assert_send::<Sandbox>();
        assert_send::<crate::Error>();
        fn assert_shared<T: Send + Sync + Clone>() {}
        assert_shared::<crate::Image>();
        assert_shared::<crate::Host>();
        assert_shared::<StopHandle>();
    }
}
