//! When tasks ran and waited, as a picture with a bounded number of parts, however long the run is.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::html::{Text, seconds};

/// Tasks that are shown.
pub const SHOWN: usize = 40;

/// Parts that the time is divided into.
const PARTS: usize = 250;

/// Pixels: of a part, of the names of tasks, and of a lane.
const PART: usize = 4;
const NAMES: usize = 90;
const LANE: usize = 18;

/// What happened in a part of the time.
const RAN: u8 = 1;
const WAITED: u8 = 2;
const SIGNALLED: u8 = 4;

#[derive(Debug)]
struct Lane {
    parts: [u8; PARTS],
    /// When the call was made that has not been answered.
    made: Option<u64>,
}

/// A lane for each task.
#[derive(Debug)]
pub struct Lanes {
    start: u64,
    end: u64,
    lanes: BTreeMap<u32, Lane>,
}

impl Lanes {
    /// For a run from one time to another, nanoseconds.
    pub fn new(start: u64, end: u64) -> Lanes {
        Lanes { start, end: end.max(start.saturating_add(1)), lanes: BTreeMap::new() }
    }

    /// Nanoseconds of all of it.
    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    /// A task makes a call.
    pub fn made(&mut self, task: u32, at: u64) {
        if let Some(lane) = self.lane(task) {
            lane.made = Some(at);
        }
    }

    /// A task has come to an exit: it has run since `before`, or has waited for the answer of its call.
    pub fn exit(&mut self, task: u32, before: u64, now: u64) {
        let made = self.lane(task).and_then(|lane| lane.made.take()).filter(|made| *made < now);
        match made {
            Some(made) => {
                self.mark(task, made, now, WAITED);
                self.mark(task, now, now, RAN);
            }
            None => self.mark(task, before, now, RAN),
        }
    }

    /// A task gets a signal.
    pub fn signal(&mut self, task: u32, at: u64) {
        self.mark(task, at, at, SIGNALLED);
    }

    /// Calls that are not answered are waited for to the end.
    pub fn over(&mut self) {
        let waiting: Vec<_> =
            self.lanes.iter().filter_map(|(task, lane)| Some((*task, lane.made?))).collect();
        for (task, made) in waiting {
            self.mark(task, made, self.end, WAITED);
        }
    }

    fn mark(&mut self, task: u32, from: u64, to: u64, what: u8) {
        let (from, to) = (self.part(from), self.part(to));
        if let Some(lane) = self.lane(task) {
            lane.parts.iter_mut().take(to + 1).skip(from).for_each(|part| *part |= what);
        }
    }

    fn part(&self, at: u64) -> usize {
        let at = u128::from(at.clamp(self.start, self.end) - self.start);
        (at * (PARTS as u128 - 1) / u128::from(self.length().max(1))) as usize
    }

    /// A task's lane, if there is room for one.
    fn lane(&mut self, task: u32) -> Option<&mut Lane> {
        if self.lanes.len() >= SHOWN && !self.lanes.contains_key(&task) {
            return None;
        }
        Some(self.lanes.entry(task).or_insert(Lane { parts: [0; PARTS], made: None }))
    }

    /// Writes the picture. `name` gives a task's.
    pub fn write(&self, out: &mut dyn Write, name: &dyn Fn(u32) -> String) -> fmt::Result {
        let (width, height) = (NAMES + PARTS * PART, (self.lanes.len() + 1) * LANE);
        writeln!(out, r#"<svg viewBox="0 0 {width} {height}" role="img" aria-label="when tasks ran">"#)?;
        for tenth in 0..=5 {
            let (x, at) = (NAMES + PARTS * PART * tenth / 5, (self.end - self.start) / 5 * tenth as u64);
            let anchor = if tenth == 5 { "end" } else { "start" };
            writeln!(out, r#"<line x1="{x}" y1="0" x2="{x}" y2="{height}"/>"#)?;
            writeln!(
                out,
                r#"<text x="{x}" y="{}" text-anchor="{anchor}">{} s</text>"#,
                height - 4,
                seconds(at)
            )?;
        }
        for (at, (task, lane)) in self.lanes.iter().enumerate() {
            let y = at * LANE;
            let (text, name) = (y + LANE - 5, name(*task));
            writeln!(out, r#"<text x="0" y="{text}">{task} {}</text>"#, Text(&name))?;
            for (class, what, not) in [("waits", WAITED, RAN), ("runs", RAN, 0)] {
                for (from, len) in spans(&lane.parts, |part| part & what != 0 && part & not == 0) {
                    let (x, width) = (NAMES + from * PART, len * PART);
                    let (y, height) = (y + 3, LANE - 6);
                    writeln!(
                        out,
                        r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}"/>"#
                    )?;
                }
            }
            for (from, _) in spans(&lane.parts, |part| part & SIGNALLED != 0) {
                let (x, y) = (NAMES + from * PART + PART / 2, y + LANE / 2);
                writeln!(out, r#"<circle class="signal" cx="{x}" cy="{y}" r="4"/>"#)?;
            }
        }
        out.write_str("</svg>\n")
    }
}

/// Where parts begin that follow one another, and how many they are.
fn spans(parts: &[u8], is_in: impl Fn(u8) -> bool) -> Vec<(usize, usize)> {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        match spans.last_mut() {
            _ if !is_in(*part) => {}
            Some((from, len)) if *from + *len == at => *len += 1,
            _ => spans.push((at, 1)),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(lanes: &Lanes) -> String {
        let mut out = String::new();
        lanes.write(&mut out, &|_| "<name>".into()).expect("text");
        out
    }

    #[test]
    fn waiting_is_not_running() {
        let mut lanes = Lanes::new(1000, 1000 + PARTS as u64 - 1);
        lanes.exit(2, 1000, 1009);
        lanes.made(2, 1020);
        lanes.exit(2, 1015, 1029);
        lanes.signal(2, 1050);
        let picture = drawn(&lanes);
        let runs: Vec<_> = picture.lines().filter(|line| line.contains("\"runs\"")).collect();
        assert!(runs.len() == 2 && runs[0].contains(r#"x="90" y="3" width="40""#), "{picture}");
        assert!(picture.contains(r#"class="waits" x="170" y="3" width="36""#), "{picture}");
        assert!(picture.contains("&lt;name&gt;") && picture.matches("<circle").count() == 1, "{picture}");
    }

    #[test]
    fn a_long_run_has_no_more_parts() {
        let mut lanes = Lanes::new(0, u64::MAX);
        for n in 0..200_000u64 {
            let at = n * (u64::MAX / 200_000);
            lanes.exit(u32::try_from(n % 1000).expect("small"), at, at.saturating_add(1));
            lanes.signal(3, at);
        }
        assert!(drawn(&lanes).matches('<').count() < SHOWN * (2 * PARTS + 3) + 20);
        assert_eq!(lanes.lanes.len(), SHOWN);
    }

    /// A log may have any clock.
    #[test]
    fn no_time_is_a_time() {
        for at in [0, u64::MAX] {
            let mut lanes = Lanes::new(at, 0);
            lanes.exit(2, at, 0);
            lanes.exit(2, 0, u64::MAX);
            assert!(drawn(&lanes).contains("runs"));
        }
    }
}
