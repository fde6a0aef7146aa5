//! Tasks that run in a circle: a loop that waits for another task, or for a signal, and makes no exit.
//!
//! Between two exits nothing enters the machine, so a task whose registers and memory are what they were before
//! will do the same again, for ever. It loses the CPU then, as behind an exit of its own, and at one place of its
//! circle, whose choice depends on the circle alone. So where and when it loses it follows from the run; the
//! host's time says only when it is looked for, by single steps, and how long it may take. A loop that
//! counts, or reads the clock, is no circle: it ends by itself.
//!
//! A task that gets the CPU again is followed once around first, to see whether it is still in its circle. When
//! all that could run are, what comes by time comes at once.

use std::collections::BTreeMap;

use super::Machine;
use super::delivery::Resume;
use crate::exit::ExitKind;
use crate::fault::{Place, written};
use crate::host::thread::monotonic_ns;
use crate::machine::{RunEnd, RunError, RunOptions};
use crate::program::error::SysError;
use crate::program::kernel::Kernel;
use crate::program::mm::{MemError, USER_END, patch};
use crate::program::sched::LONGEST_CIRCLE;
use crate::program::wait::Idle;
use crate::vcpu::registers::{ExtendedState, General, UserRegisters};
use crate::x86::flags::rflags::{RESUME_FLAG, TRAP_FLAG};
use crate::x86::frame::Frame;

/// Steps of a first search. Most circles have less than a hundred.
const FIRST_STEPS: u64 = 256;
/// Steps of a search at most: half a second.
const MOST_STEPS: u64 = LONGEST_CIRCLE;
/// Words that a circle may write.
const MOST_WORDS: usize = 1 << 13;
/// Searches without a result may take one part in so many of the run's time.
const SHARE: u64 = 32;
/// Bytes that are compared as one.
const WORD: u64 = 8;

/// Where a task is: RIP and the general registers, but for the flags, which tell no two places apart.
type Spot = [u64; 17];

/// When circles are looked for: by the host's time, which decides nothing else.
#[derive(Debug)]
pub(super) struct Watch {
    /// Exits when it was looked last.
    exits: u64,
    /// Steps of the next search.
    steps: u64,
    /// Steps of the last one that found a circle.
    found: u64,
    /// When the machine was made, nanoseconds.
    since: u64,
    /// Time that searches without a result have taken.
    spent: u64,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch { exits: 0, steps: FIRST_STEPS, found: FIRST_STEPS, since: monotonic_ns(), spent: 0 }
    }

    /// Whether a task that makes no exit may be followed now: it has made none since the last look.
    fn is_due(&mut self, exits: u64) -> bool {
        if exits != self.exits {
            (self.exits, self.steps) = (exits, self.found);
            return false;
        }
        self.spent.saturating_mul(SHARE) <= monotonic_ns().saturating_sub(self.since)
    }
}

/// All of a task that its next steps follow from, but for what it writes.
#[derive(Debug, PartialEq, Eq)]
struct State {
    regs: UserRegisters,
    fp: ExtendedState,
    clock: [u8; 8],
}

/// A task that is followed.
#[derive(Debug)]
pub(super) struct Search {
    /// When it began, nanoseconds.
    began: u64,
    /// Steps so far, and at most.
    steps: u64,
    most: u64,
    /// Where the circle is to close, and when the next place for that is taken, by steps.
    anchor: State,
    next_anchor: u64,
    /// Where it was since then.
    spots: Vec<Spot>,
    /// What it has written since then, by address: the words that were there.
    words: BTreeMap<u64, u64>,
    /// A circle that it was in before, in steps: whether it still is.
    known: Option<u64>,
    /// The circle is found: where the task is to lose the CPU.
    goal: Option<Spot>,
    /// Steps of the circle.
    around: u64,
}

/// How it stands with a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    GoesOn,
    /// Nothing was found.
    Over,
    /// The task runs in a circle, and is where it loses the CPU.
    Closed,
}

impl Machine {
    /// The guest was left for nothing of its own: begins to follow the task if it is time.
    pub(super) fn look_for_circle(&mut self) -> Result<(), RunError> {
        let general = General::from(self.core.vcpu.regs());
        let awaited = self.kernel.sched.any_ready() || self.kernel.next_event() != u64::MAX;
        let in_program = general.rip < USER_END && general.rflags & TRAP_FLAG == 0;
        if !self.watch.is_due(self.core.exits)
            || self.stepper.on
            || self.needs_branches()
            || !awaited
            || !in_program
        {
            return Ok(());
        }
        // A breakpoint that is about to be told would be forgotten, with RIP behind it.
        if self.has_exception(general.rip)? {
            return Ok(());
        }
        self.refresh_bases()?;
        let general = without_traces(general);
        let search = Search::new(self.state_at(general)?, self.watch.steps, None);
        self.begin_search(search, general)?;
        if self.search.is_some() {
            self.core.vcpu.regs_mut().rflags |= TRAP_FLAG;
            self.step_from(&general)?;
        }
        Ok(())
    }

    /// The running task goes on with these registers: follows it around if it was in a circle.
    pub(super) fn look_at_circle(&mut self, general: General) -> Result<(), RunError> {
        let Some(steps) = self.kernel.sched.circle_of(self.kernel.tid()) else { return Ok(()) };
        if self.search.is_some() || general.rflags & TRAP_FLAG != 0 {
            return Ok(());
        }
        let general = without_traces(general);
        let search = Search::new(self.state_at(general)?, steps, Some(steps));
        self.begin_search(search, general)
    }

    fn begin_search(&mut self, mut search: Search, general: General) -> Result<(), RunError> {
        if self.follow(&mut search, general)? {
            self.search = Some(Box::new(search));
        } else {
            self.search_failed(&search);
        }
        Ok(())
    }

    /// A task has done something: no circle is known to be one still.
    pub(super) fn leave_circles(&mut self) {
        self.search = None;
        self.kernel.sched.leave_circle(self.kernel.tid());
    }

    /// The task that is followed, if one is, has done a step, to here. Whether it loses the CPU.
    pub(super) fn search_step(&mut self, frame: &Frame) -> Result<bool, RunError> {
        let Some(mut search) = self.search.take() else { return Ok(false) };
        let General { rip, rsp, rflags, .. } = general_of(frame);
        let general = General { rip, rsp, rflags, ..General::from(self.core.vcpu.regs()) };
        match self.stands(&mut search, general)? {
            Standing::GoesOn => self.search = Some(search),
            Standing::Over => self.search_failed(&search),
            Standing::Closed => {
                self.watch.found = search.most.max(FIRST_STEPS);
                self.kernel.sched.run_in_circle(self.kernel.tid(), search.around);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn stands(&mut self, search: &mut Search, general: General) -> Result<Standing, RunError> {
        search.steps += 1;
        let spot = spot(&general);
        if let Some(goal) = search.goal {
            return Ok(if spot == goal { Standing::Closed } else { search.unless_long() });
        }
        let back = search.known.is_none_or(|steps| search.steps == steps)
            && general == search.anchor.regs.general
            && self.is_back(search, general)?;
        if back {
            search.around = search.known.unwrap_or(search.spots.len() as u64);
            if search.known.is_some() {
                return Ok(Standing::Closed);
            }
            search.goal = search.place_to_leave();
            search.most = search.steps + search.around;
            return Ok(match search.goal {
                None => Standing::Over,
                Some(goal) if goal == spot => Standing::Closed,
                Some(_) => Standing::GoesOn,
            });
        }
        if search.steps >= search.most {
            return Ok(Standing::Over);
        }
        if search.known.is_none() {
            if search.steps == search.next_anchor {
                self.refresh_bases()?;
                search.set_anchor(self.state_at(general)?);
            }
            search.spots.push(spot);
        }
        Ok(if self.follow(search, general)? { Standing::GoesOn } else { Standing::Over })
    }

    /// Keeps what the next instruction writes over. `false` where that is not known.
    fn follow(&mut self, search: &mut Search, general: General) -> Result<bool, RunError> {
        let code = self.code(general.rip)?;
        // One that stands in another's place makes an exit if it is stepped.
        if code.first() == Some(&patch::BREAKPOINT) {
            return Ok(false);
        }
        let regs = UserRegisters { general, ..self.kernel.task.regs };
        let Some(written) = written(&code, &Place::from(&regs)) else { return Ok(false) };
        for (address, len) in written {
            let last = address.saturating_add(len.saturating_sub(1));
            for at in (address / WORD..=last / WORD).map(|word| word * WORD) {
                if search.words.contains_key(&at) {
                    continue;
                }
                let Some(word) = self.word(at)? else { return Ok(false) };
                search.words.insert(at, word);
            }
        }
        Ok(search.words.len() <= MOST_WORDS)
    }

    /// Whether all is as it was at the anchor, where the general registers are.
    fn is_back(&mut self, search: &Search, general: General) -> Result<bool, RunError> {
        for (at, before) in &search.words {
            if self.word(*at)? != Some(*before) {
                return Ok(false);
            }
        }
        self.refresh_bases()?;
        Ok(self.state_at(general)? == search.anchor)
    }

    fn word(&mut self, address: u64) -> Result<Option<u64>, RunError> {
        let Kernel { space, memory, .. } = &mut self.kernel;
        let mut bytes = [0u8; WORD as usize];
        match space.read(memory, address, &mut bytes) {
            Ok(()) => Ok(Some(u64::from_le_bytes(bytes))),
            Err(MemError::BadAddress(_)) => Ok(None),
            Err(MemError::Page(e)) => Err(e.into()),
        }
    }

    fn state_at(&mut self, general: General) -> Result<State, RunError> {
        let clock = self.word(self.kernel.space.state.image.clock_page)?.unwrap_or_default();
        let regs = UserRegisters { general, ..self.kernel.task.regs };
        let fp = self.extended_state()?.without_header();
        Ok(State { regs, fp, clock: clock.to_le_bytes() })
    }

    /// A search has come to nothing.
    fn search_failed(&mut self, search: &Search) {
        if search.known.is_some() {
            self.kernel.sched.leave_circle(self.kernel.tid());
            return;
        }
        self.watch.spent += monotonic_ns().saturating_sub(search.began);
        self.watch.steps = (search.most * 2).min(MOST_STEPS);
    }

    /// The running task is in a circle: it loses the CPU here.
    pub(super) fn lose_turn(
        &mut self,
        frame: &Frame,
        options: &mut RunOptions<'_>,
    ) -> Result<Option<RunEnd>, RunError> {
        self.core.stats.exits.preemptions += 1;
        let steps = self.kernel.sched.circle_of(self.kernel.tid()).unwrap_or_default();
        self.take_frame(frame);
        self.kernel.tick()?;
        self.kernel.fire_timers();
        self.kernel.wake_for_files();
        self.kernel.pass_horizon();
        // A signal that has come by now gets it out of there.
        if self.kernel.sched.only_circles()
            && !self.kernel.signals().any_deliverable()
            && let Idle::Stuck = self.let_time_pass()?
        {
            let (tid, place) = (self.kernel.tid(), self.place_in_words(frame.rip));
            self.waits_for = Some(format!("for task {tid} to leave its loop at {place}"));
            return Ok(Some(RunEnd::Stuck));
        }
        self.record(ExitKind::Circle { steps }, frame.rip, 0, options)?;
        self.kernel.sched.end_slice();
        self.go_on(options)
    }

    /// All tasks that could run are in circles: lets happen what comes next.
    fn let_time_pass(&mut self) -> Result<Idle, RunError> {
        let next = self.kernel.next_event();
        self.kernel.sched.look_again();
        if next == u64::MAX || self.kernel.awaits_outside() {
            let idle = self.kernel.idle();
            if idle.is_err() {
                self.resume(Resume::Full)?;
            }
            return Ok(idle?);
        }
        let Kernel { clock, memory, space, .. } = &mut self.kernel;
        let (before, left) = (clock.cpu(), next.saturating_sub(clock.monotonic()));
        clock.pass(memory, space, left).map_err(SysError::from)?;
        self.kernel.account(before);
        self.kernel.fire_timers();
        self.kernel.wake_for_files();
        self.kernel.wake_for_time();
        Ok(Idle::Woken)
    }
}

impl Search {
    fn new(anchor: State, most: u64, known: Option<u64>) -> Search {
        let spots = vec![spot(&anchor.regs.general)];
        Search {
            began: monotonic_ns(),
            steps: 0,
            most,
            anchor,
            next_anchor: 1,
            spots,
            words: BTreeMap::new(),
            known,
            goal: None,
            around: 0,
        }
    }

    /// Takes another place to come back to, twice as far on as the one before: a circle may begin
    /// behind any (R. P. Brent, "An improved Monte Carlo factorization algorithm", 1980).
    fn set_anchor(&mut self, anchor: State) {
        self.anchor = anchor;
        self.next_anchor *= 2;
        self.spots.clear();
        self.words.clear();
    }

    fn unless_long(&self) -> Standing {
        if self.steps >= self.most { Standing::Over } else { Standing::GoesOn }
    }

    /// The least of the spots that the circle comes to only once: the same wherever it was begun to follow it.
    fn place_to_leave(&self) -> Option<Spot> {
        let mut spots = self.spots.clone();
        spots.sort_unstable();
        spots.chunk_by(|a, b| a == b).find(|same| same.len() == 1).map(|same| same[0])
    }
}

fn spot(general: &General) -> Spot {
    let General { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, rip, .. } = *general;
    let General { r8, r9, r10, r11, r12, r13, r14, r15, .. } = *general;
    [rip, rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15]
}

fn general_of(frame: &Frame) -> General {
    let Frame { rip, rsp, rflags, .. } = *frame;
    without_traces(General { rip, rsp, rflags, ..General::default() })
}

/// Without the flags that only say how the program was run.
fn without_traces(general: General) -> General {
    General { rflags: general.rflags & !(TRAP_FLAG | RESUME_FLAG), ..general }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(rips: &[u64]) -> Search {
        let regs = UserRegisters { general: General::default(), fs_base: 0, gs_base: 0 };
        let anchor = State { regs, fp: ExtendedState::initial(), clock: [0; 8] };
        let spots = rips.iter().map(|rip| spot(&General { rip: *rip, ..General::default() })).collect();
        Search { spots, ..Search::new(anchor, 1, None) }
    }

    #[test]
    fn a_circle_is_left_at_one_place_wherever_it_was_begun() {
        let mut rips = [3u64, 1, 4, 1, 5, 9, 2, 6];
        for _ in 0..rips.len() {
            rips.rotate_left(1);
            assert_eq!(search(&rips).place_to_leave().map(|spot| spot[0]), Some(2));
        }
        assert_eq!(search(&[7, 8, 7, 8]).place_to_leave(), None);
        assert_eq!(search(&[]).place_to_leave(), None);
    }
}
