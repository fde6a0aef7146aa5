//! What is said of a campaign while it runs. A process on another core says it as JSON, and is understood.

use serde::{Deserialize, Serialize};

use super::found::Found;

/// How far a campaign is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Since the process began.
    pub seconds: f64,
    pub runs: u64,
    /// Lately.
    pub runs_per_second: f64,
    pub inputs: usize,
    pub edges: usize,
    pub crashes: u64,
    pub hangs: u64,
    /// When the last input, crash or hang was found, in seconds since the process began.
    pub last_find: Option<f64>,
    /// How often the queue was gone through.
    pub cycles: u64,
    /// How often the program was started.
    pub starts: u64,
}

impl Progress {
    /// That of cores that work on the same: they pass each other their inputs, so that the one that has most of them, or
    /// of edges, has nearly all.
    pub fn together<'a>(cores: impl IntoIterator<Item = &'a Progress>) -> Progress {
        cores.into_iter().fold(Progress::default(), |sum, core| Progress {
            seconds: sum.seconds.max(core.seconds),
            runs: sum.runs + core.runs,
            runs_per_second: sum.runs_per_second + core.runs_per_second,
            inputs: sum.inputs.max(core.inputs),
            edges: sum.edges.max(core.edges),
            crashes: sum.crashes + core.crashes,
            hangs: sum.hangs + core.hangs,
            last_find: core.last_find.into_iter().chain(sum.last_find).reduce(f64::max),
            cycles: sum.cycles.max(core.cycles),
            starts: sum.starts + core.starts,
        })
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let last = match self.last_find {
            Some(at) => format!("{:.0} s ago", (self.seconds - at).max(0.0).floor()),
            None => "none".into(),
        };
        format!(
            "{:.0} s: {} runs, {:.0}/s, {} inputs, {} edges, {} crashes, {} hangs, last find {last}",
            self.seconds.floor(),
            self.runs,
            self.runs_per_second,
            self.inputs,
            self.edges,
            self.crashes,
            self.hangs,
        )
    }
}

/// What is said.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    Status(Progress),
    Crash(Find),
    Hang(Find),
    Note {
        text: String,
    },
    End {
        #[serde(flatten)]
        progress: Progress,
        why: String,
    },
    /// A process ends without having come to its end.
    Failure {
        text: String,
        status: u8,
    },
}

/// A crash or hang that was kept, and how far the campaign was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Find {
    #[serde(flatten)]
    pub progress: Progress,
    #[serde(flatten)]
    pub found: Found,
}

impl Event {
    /// How far the campaign was.
    pub fn progress(&mut self) -> Option<&mut Progress> {
        match self {
            Event::Status(progress) | Event::End { progress, .. } => Some(progress),
            Event::Crash(find) | Event::Hang(find) => Some(&mut find.progress),
            Event::Note { .. } | Event::Failure { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_understood_as_it_was_said() {
        let progress = Progress { seconds: 2.5, runs: 7, last_find: Some(0.25), ..Progress::default() };
        let found = Found {
            path: "out/default/crashes/id:000000".into(),
            signal: Some(11),
            place: Some("f+0x1 in /bin/a".into()),
            stack: Some("00ff".into()),
            recorded: true,
        };
        let said = Event::Crash(Find { progress: progress.clone(), found });
        let text = serde_json::to_string(&said).expect("JSON");
        assert!(text.contains(r#""event":"crash""#) && text.contains(r#""signal":11"#), "{text}");
        let mut understood: Event = serde_json::from_str(&text).expect("an event");
        assert_eq!(understood.progress().cloned(), Some(progress));
        assert_eq!(serde_json::to_string(&understood).expect("JSON"), text);
    }

    #[test]
    fn cores_add_up() {
        let core = |runs, edges, last_find| Progress { runs, edges, last_find, ..Progress::default() };
        let all = Progress::together(&[core(3, 10, None), core(4, 9, Some(1.0)), core(0, 0, Some(0.5))]);
        assert_eq!((all.runs, all.edges, all.last_find), (7, 10, Some(1.0)));
        assert_eq!(
            Progress::together([]).line(),
            "0 s: 0 runs, 0/s, 0 inputs, 0 edges, 0 crashes, 0 hangs, last find none"
        );
    }
}
