//! Who runs next, and who waits for what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::chaos::{Chaos, Turn};
use super::wait::{Key, Wait};
use crate::random::Random;

/// Who runs next: a function of the seed and the exits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scheduler {
    /// Tasks that can run, besides the running one, in this order.
    ready: VecDeque<u32>,
    /// Tasks that are stopped, and whether they would be ready.
    stopped: BTreeMap<u32, bool>,
    /// Who waits for what, in the order in which they began.
    waiting: BTreeMap<Key, VecDeque<u32>>,
    /// Exits after which another task runs.
    left: u32,
    /// The last exit is yet to be counted: the run paused behind it.
    uncounted: bool,
    /// Instructions after which another one runs, too; 0 for none.
    steps: u64,
    /// Instructions until these are no longer counted.
    patience: u64,
    /// Only those of the program's own file count.
    own: bool,
    /// Branches in a time slice, about; none where that does not end it.
    slice: Option<NonZeroU64>,
    /// Branches that the running task has left of it.
    branches: u64,
    /// Something is to happen by time while the running task runs.
    #[serde(skip)]
    awaits_time: bool,
    /// No wait is over before this moment, and no interval timer of real time expires; [`u64::MAX`] if none ever
    /// does by itself.
    due: u64,
    /// Tasks that ran in a circle when they had the CPU last.
    circles: BTreeMap<u32, Circle>,
    random: Random,
    /// Tries to break programs.
    chaos: Option<Chaos>,
}

/// A loop of a task that nothing in it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Circle {
    /// Instructions.
    steps: u64,
    /// No task has done anything since the task was seen to be in it.
    sure: bool,
}

/// The stream of the seed that time slices are drawn from.
const SCHEDULE_STREAM: u64 = 3;
/// Instructions that are stepped in a turn, at most.
const PATIENCE: u64 = 1 << 13;
/// Instructions of a circle, at most: what is kept to find one is in proportion.
pub const LONGEST_CIRCLE: u64 = 1 << 14;
/// Exits in a time slice, at most.
const SLICE: u64 = 64;

impl Scheduler {
    /// With one task, which runs.
    pub fn new(seed: u64) -> Scheduler {
        Scheduler {
            ready: VecDeque::new(),
            stopped: BTreeMap::new(),
            waiting: BTreeMap::new(),
            left: 0,
            uncounted: false,
            steps: 0,
            patience: 0,
            own: false,
            slice: None,
            branches: 0,
            awaits_time: false,
            due: u64::MAX,
            circles: BTreeMap::new(),
            random: Random::new(seed, SCHEDULE_STREAM),
            chaos: None,
        }
    }

    /// Tries to break the program from now on, in a way that follows from this seed; with none, no more.
    pub fn set_chaos(&mut self, seed: Option<u64>) {
        self.chaos = seed.map(Chaos::new);
        self.steps = 0;
    }

    /// Ends time slices behind so many branches, about, as they are counted by `program::translate`.
    pub fn set_slice(&mut self, branches: Option<NonZeroU64>) {
        self.slice = branches;
        self.branches = branches.map_or(0, NonZeroU64::get);
    }

    /// Branches in a time slice, about.
    pub fn slice(&self) -> Option<NonZeroU64> {
        self.slice
    }

    /// What it does to break the program, if it does.
    pub fn chaos(&self) -> Option<&Chaos> {
        self.chaos.as_ref()
    }

    /// Starts its random stream anew.
    pub fn reseed(&mut self, seed: u64) {
        self.random = Random::new(seed, SCHEDULE_STREAM);
    }

    /// A task can run, behind all others that can.
    pub fn make_ready(&mut self, tid: u32) {
        if let Some(ready) = self.stopped.get_mut(&tid) {
            *ready = true;
        } else if !self.ready.contains(&tid) {
            self.ready.push_back(tid);
        }
    }

    /// A task can run, before all others.
    pub fn make_next(&mut self, tid: u32) {
        if let Some(ready) = self.stopped.get_mut(&tid) {
            *ready = true;
        } else {
            self.ready.push_front(tid);
        }
    }

    /// A task does not run until it is let go on; `runs` if it does now.
    pub fn stop(&mut self, tid: u32, runs: bool) {
        let ready = runs || self.ready.contains(&tid);
        self.ready.retain(|other| *other != tid);
        self.stopped.entry(tid).or_insert(ready);
    }

    /// A task that was stopped goes on.
    pub fn let_go_on(&mut self, tid: u32) {
        if self.stopped.remove(&tid) == Some(true) {
            self.make_ready(tid);
        }
    }

    /// Whether a task is stopped.
    pub fn is_stopped(&self, tid: u32) -> bool {
        self.stopped.contains_key(&tid)
    }

    /// Whether any task waits for something.
    pub fn is_awaited(&self, key: Key) -> bool {
        self.waiting.contains_key(&key)
    }

    /// Whether another task could run now.
    pub fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The task that runs next, with a new time slice.
    pub fn take_next(&mut self) -> Option<u32> {
        if self.ready.is_empty() {
            return None;
        }
        let waits = |tid: &u32| self.circles.get(tid).is_some_and(|circle| circle.sure);
        let mut able: Vec<u32> = self.ready.iter().copied().filter(|tid| !waits(tid)).collect();
        if able.is_empty() {
            able.extend(&self.ready);
        }
        let turn = match &mut self.chaos {
            Some(chaos) => chaos.choose(able.iter().copied()),
            None => Turn { place: 0, exits: 1 + self.random.below(SLICE) as u32, steps: 0, own: false },
        };
        let next = *able.get(turn.place)?;
        (self.left, self.steps, self.own) = (turn.exits, turn.steps, turn.own);
        self.patience = PATIENCE;
        if let Some(slice) = self.slice {
            self.branches = self.branches_in(slice);
        }
        self.ready.retain(|tid| *tid != next);
        Some(next)
    }

    /// Branches in the next time slice: one half to three halves of what is asked for; anything up to that where
    /// programs are to break.
    fn branches_in(&mut self, slice: NonZeroU64) -> u64 {
        let slice = slice.get();
        match &mut self.chaos {
            Some(chaos) => chaos.branches(slice),
            None => (1 + slice / 2).saturating_add(self.random.below(slice)),
        }
    }

    /// Whether the running task's branches are counted.
    pub fn counts_branches(&self) -> bool {
        self.slice.is_some() && (self.any_ready() || self.awaits_time)
    }

    /// Says whether something is to happen by time while the running task runs, which passes as its slices end.
    pub fn await_time(&mut self, awaits: bool) {
        self.awaits_time = awaits;
    }

    /// Branches that the running task has left of its time slice.
    pub fn branches_left(&self) -> u64 {
        self.branches
    }

    /// The running task has made so many branches.
    pub fn count_branches(&mut self, branches: u64) {
        self.branches = self.branches.saturating_sub(branches);
    }

    /// The last branch that was counted was none.
    pub fn take_back_branch(&mut self) {
        self.branches = self.branches.saturating_add(1);
    }

    /// The running task's time slice is over by its branches.
    pub fn slice_out(&mut self, tid: u32) {
        self.end_slice();
        // Where no other task can run, it has the next one, too.
        self.branches = self.slice.map_or(0, NonZeroU64::get);
        self.chaos.iter_mut().for_each(|chaos| chaos.stepped_out(tid));
    }

    /// Whether the running task's instructions are counted.
    pub fn counts_steps(&self) -> bool {
        self.steps > 0 && self.any_ready()
    }

    /// Counts an instruction of the running task, which may be one of the program's own file. Whether its
    /// turn is over by that.
    pub fn step(&mut self, tid: u32, is_own: impl FnOnce() -> bool) -> bool {
        if !self.counts_steps() {
            return false;
        }
        self.patience = self.patience.saturating_sub(1);
        if self.patience == 0 {
            self.steps = 0;
            return false;
        }
        if self.own && !is_own() {
            return false;
        }
        self.steps -= 1;
        if self.steps > 0 {
            return false;
        }
        self.slice_out(tid);
        true
    }

    /// A task runs in a circle of so many instructions. Unless it did so already when it was seen last, it may
    /// have done something for others before it came to it.
    pub fn run_in_circle(&mut self, tid: u32, steps: u64) {
        if !self.circles.contains_key(&tid) {
            self.look_again();
        }
        self.circles.insert(tid, Circle { steps, sure: true });
    }

    /// The circle that a task was in when it was seen last, in instructions.
    pub fn circle_of(&self, tid: u32) -> Option<u64> {
        self.circles.get(&tid).map(|circle| circle.steps)
    }

    /// A task is in no circle any more.
    pub fn leave_circle(&mut self, tid: u32) {
        self.circles.remove(&tid);
        self.look_again();
    }

    /// A task has done something: any that runs in a circle may leave it now.
    pub fn look_again(&mut self) {
        self.circles.values_mut().for_each(|circle| circle.sure = false);
    }

    /// Whether all that could run, the running one among them, are in circles and stay there.
    pub fn only_circles(&self) -> bool {
        self.ready.iter().all(|tid| self.circles.get(tid).is_some_and(|circle| circle.sure))
    }

    /// The running task gives up the rest of its time slice.
    pub fn end_slice(&mut self) {
        self.left = 1;
    }

    /// The running task has woken another one by a futex: often that one runs now, as on a CPU of Linux. Locks may
    /// be held at every other exit, and would never be found free by who runs only behind these.
    pub fn give_way(&mut self) {
        if self.chaos.is_none() && self.random.below(2) == 0 {
            self.end_slice();
        }
    }

    /// Counts an exit of the running task. Whether its time slice is over, and another one could run.
    pub fn slice_is_over(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0 && self.any_ready()
    }

    /// The run pauses behind an exit that is counted when it goes on.
    pub fn count_later(&mut self) {
        self.uncounted = true;
    }

    /// Whether the run pauses behind an exit that is yet to be counted.
    pub fn is_uncounted(&self) -> bool {
        self.uncounted
    }

    /// Whether an exit is to be counted now, since the run paused behind it.
    pub fn take_uncounted(&mut self) -> bool {
        std::mem::take(&mut self.uncounted)
    }

    /// Exits that the running task has left of its time slice, at least one.
    pub fn left(&self) -> u32 {
        self.left.max(1)
    }

    /// A moment before which no wait is over by itself, and no interval timer expires.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// An interval timer expires at this moment.
    pub fn note_due(&mut self, at: Option<u64>) {
        self.due = self.due.min(at.unwrap_or(u64::MAX));
    }

    /// Sets that moment: those that wait have been looked through.
    pub fn set_due(&mut self, due: u64) {
        self.due = due;
    }

    /// A task waits.
    pub(super) fn park(&mut self, tid: u32, wait: &Wait) {
        self.due = self.due.min(wait.until.unwrap_or(u64::MAX));
        for key in &wait.on {
            let queue = self.waiting.entry(*key).or_default();
            if !queue.contains(&tid) {
                queue.push_back(tid);
            }
        }
    }

    /// A task waits no more.
    pub(super) fn unpark(&mut self, tid: u32, wait: &Wait) {
        for key in &wait.on {
            if let Some(queue) = self.waiting.get_mut(key) {
                queue.retain(|waiting| *waiting != tid);
                if queue.is_empty() {
                    self.waiting.remove(key);
                }
            }
        }
    }

    /// Those that wait for something, in the order in which they began: also those that can run, and whose
    /// turn has not come.
    pub fn waiting_for(&self, key: Key) -> Vec<u32> {
        self.waiting.get(&key).map(|queue| queue.iter().copied().collect()).unwrap_or_default()
    }

    /// A task is no more.
    pub fn forget(&mut self, tid: u32, wait: Option<&Wait>) {
        self.stopped.remove(&tid);
        self.circles.remove(&tid);
        self.ready.retain(|ready| *ready != tid);
        wait.into_iter().for_each(|wait| self.unpark(tid, wait));
    }

    /// Whether it is one for these tasks, of which those that wait are given with what for: for a state out
    /// of a file.
    pub fn is_sound(&self, running: u32, tasks: &BTreeMap<u32, Option<&Wait>>) -> bool {
        let mut seen = BTreeSet::new();
        let mut seen_once = |tid: &u32| {
            // The current task may be among them only if it waits for its turn to make a call again.
            let runs = *tid == running && tasks.get(tid).is_some_and(Option::is_none);
            tasks.contains_key(tid) && !runs && seen.insert(*tid)
        };
        let ready = self.ready.iter().all(&mut seen_once);
        let waits = |key: &Key, tid: &u32| {
            tasks.get(tid).is_some_and(|wait| wait.is_some_and(|wait| wait.on.contains(key)))
        };
        let queued = self
            .waiting
            .iter()
            .all(|(key, queue)| !queue.is_empty() && queue.iter().all(|tid| waits(key, tid)));
        let stopped = self.stopped.keys().all(|tid| tasks.contains_key(tid) && !self.ready.contains(tid));
        let is_circle =
            |(tid, circle): (&u32, &Circle)| tasks.contains_key(tid) && circle.steps <= LONGEST_CIRCLE;
        let circles = self.circles.iter().all(is_circle);
        ready && queued && stopped && circles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is in a circle waits until another one has done something.
    #[test]
    fn a_task_in_a_circle_comes_behind_all_that_can_do_something() {
        let mut sched = Scheduler::new(1);
        sched.run_in_circle(1, 5);
        assert!(sched.only_circles());
        [1, 2].into_iter().for_each(|tid| sched.make_ready(tid));
        assert!(!sched.only_circles());
        assert_eq!(sched.take_next(), Some(2));
        // The second comes to its circle: what it did before may be what the first waits for.
        sched.run_in_circle(2, 7);
        assert!(!sched.only_circles());
        sched.make_ready(2);
        assert_eq!(sched.take_next(), Some(1));
        sched.run_in_circle(1, 5);
        assert!(sched.only_circles());
        assert_eq!((sched.circle_of(1), sched.circle_of(2), sched.circle_of(3)), (Some(5), Some(7), None));
        sched.leave_circle(1);
        assert!(!sched.only_circles() && sched.circle_of(1).is_none());
    }

    /// A length may come out of a file.
    #[test]
    fn slices_of_any_length() {
        for chaos in [None, Some(7)] {
            for most in [1, 2, 1000, u64::MAX / 2, u64::MAX] {
                let mut sched = Scheduler::new(1);
                sched.set_chaos(chaos);
                sched.set_slice(NonZeroU64::new(most));
                for _ in 0..100 {
                    [1, 2].into_iter().for_each(|tid| sched.make_ready(tid));
                    assert!(sched.take_next().is_some());
                    let longest = if chaos.is_some() { most } else { most.saturating_add(most / 2 + 1) };
                    assert!((1..=longest).contains(&sched.branches_left()), "{most}");
                }
            }
        }
    }

    /// Locks that are held at all other exits are found free by who was woken.
    #[test]
    fn who_wakes_another_often_gives_way_at_once() {
        let mut sched = Scheduler::new(1);
        let gave_way = (0..1000).filter(|_| {
            sched.make_ready(1);
            sched.make_ready(2);
            assert!(sched.take_next().is_some());
            sched.left = 60;
            sched.give_way();
            sched.slice_is_over()
        });
        assert!((400..600).contains(&gave_way.count()));
        sched.set_chaos(Some(1));
        sched.left = 60;
        sched.give_way();
        assert_eq!(sched.left, 60, "chaos has turns of its own");
    }

    #[test]
    fn circles_of_a_file_are_of_its_tasks_and_short() {
        let sched = |tid, steps| {
            let mut sched = Scheduler::new(1);
            sched.run_in_circle(tid, steps);
            sched
        };
        let tasks = BTreeMap::from([(1, None)]);
        assert!(sched(1, LONGEST_CIRCLE).is_sound(1, &tasks));
        assert!(!sched(1, LONGEST_CIRCLE + 1).is_sound(1, &tasks));
        assert!(!sched(2, 5).is_sound(1, &tasks));
    }
}
