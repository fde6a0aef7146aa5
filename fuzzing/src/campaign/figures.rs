//! How far a campaign is, and AFL++'s files of it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::progress::Progress;

/// Edges that can be counted.
const MAP: f64 = 262_144.0;

/// How far a campaign is.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Since this process began, and what those before it took.
    pub elapsed: Duration,
    pub elapsed_before: Duration,
    /// Runs of this process, and of those before it.
    pub runs: u64,
    pub runs_before: u64,
    /// Runs a second, lately.
    pub rate: f64,
    pub inputs: usize,
    /// Those that were found by changing others.
    pub inputs_found: usize,
    /// Those that came from other cores.
    pub inputs_imported: usize,
    /// Inputs that were not changed yet, and those of them that are favored.
    pub pending: usize,
    pub pending_favored: usize,
    pub favored: usize,
    /// The input that is changed.
    pub current: u64,
    pub depth: usize,
    pub cycles: u64,
    /// Those since an input was found.
    pub cycles_without: u64,
    pub edges: usize,
    /// Edges that an input took otherwise when it was run again.
    pub varying: BTreeSet<usize>,
    pub crashes: u64,
    pub hangs: u64,
    /// Runs that came to their time limit.
    pub timeouts: u64,
    pub last_input: Option<Duration>,
    pub last_crash: Option<Duration>,
    pub last_hang: Option<Duration>,
    /// How often the program was started.
    pub starts: u64,
}

impl Figures {
    fn last_find(&self) -> Option<Duration> {
        self.last_input.max(self.last_crash).max(self.last_hang)
    }

    /// Edges that were taken as often each time that an input was run again, of a hundred.
    fn stability(&self) -> f64 {
        100.0 * (1.0 - self.varying.len() as f64 / self.edges.max(self.varying.len()).max(1) as f64)
    }

    /// Runs a second, of all of this process's.
    fn mean_rate(&self) -> f64 {
        self.runs as f64 / self.elapsed.as_secs_f64().max(1e-3)
    }

    /// What is said of it.
    pub fn progress(&self) -> Progress {
        Progress {
            seconds: rounded(self.elapsed.as_secs_f64()),
            runs: self.runs,
            runs_per_second: rounded(self.rate),
            inputs: self.inputs,
            edges: self.edges,
            crashes: self.crashes,
            hangs: self.hangs,
            last_find: self.last_find().map(|at| rounded(at.as_secs_f64())),
            cycles: self.cycles,
            starts: self.starts,
        }
    }

    /// A line of `plot_data`.
    pub fn plot(&self) -> String {
        format!(
            "{}, {}, {}, {}, {}, {}, {:.2}%, {}, {}, {}, {:.2}, {}, {}",
            (self.elapsed_before + self.elapsed).as_secs(),
            self.cycles,
            self.current,
            self.inputs,
            self.pending,
            self.pending_favored,
            self.density(),
            self.crashes,
            self.hangs,
            self.depth,
            self.rate,
            self.runs_before + self.runs,
            self.edges,
        )
    }

    /// `fuzzer_stats`.
    pub fn stats(&self, timeout: Duration, banner: &str, command_line: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = now.saturating_sub(self.elapsed);
        let at = |since: Option<Duration>| since.map_or(0, |since| (start + since).as_secs());
        let fields: [(&str, String); 32] = [
            ("start_time", start.as_secs().to_string()),
            ("last_update", now.as_secs().to_string()),
            ("run_time", (self.elapsed_before + self.elapsed).as_secs().to_string()),
            ("fuzzer_pid", std::process::id().to_string()),
            ("cycles_done", self.cycles.to_string()),
            ("cycles_wo_finds", self.cycles_without.to_string()),
            (
                "time_wo_finds",
                (self.elapsed.saturating_sub(self.last_find().unwrap_or_default())).as_secs().to_string(),
            ),
            ("execs_done", (self.runs_before + self.runs).to_string()),
            ("execs_per_sec", format!("{:.2}", self.mean_rate())),
            ("corpus_count", self.inputs.to_string()),
            ("corpus_favored", self.favored.to_string()),
            ("corpus_found", self.inputs_found.to_string()),
            ("corpus_imported", self.inputs_imported.to_string()),
            ("corpus_variable", "0".into()),
            ("max_depth", self.depth.to_string()),
            ("cur_item", self.current.to_string()),
            ("pending_favs", self.pending_favored.to_string()),
            ("pending_total", self.pending.to_string()),
            ("stability", format!("{:.2}%", self.stability())),
            ("bitmap_cvg", format!("{:.2}%", self.density())),
            ("saved_crashes", self.crashes.to_string()),
            ("saved_hangs", self.hangs.to_string()),
            ("total_tmout", self.timeouts.to_string()),
            ("last_find", at(self.last_input).to_string()),
            ("last_crash", at(self.last_crash).to_string()),
            ("last_hang", at(self.last_hang).to_string()),
            ("exec_timeout", timeout.as_millis().to_string()),
            ("edges_found", self.edges.to_string()),
            ("total_edges", (MAP as u64).to_string()),
            ("afl_banner", banner.into()),
            ("afl_version", concat!("dejavm-fuzz ", env!("CARGO_PKG_VERSION")).into()),
            ("command_line", command_line.into()),
        ];
        fields.iter().map(|(name, value)| format!("{name:<18}: {value}\n")).collect()
    }

    fn density(&self) -> f64 {
        self.edges as f64 * 100.0 / MAP
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// What a campaign in this `fuzzer_stats` took before: time and runs.
pub fn before(stats: &str) -> (Duration, u64) {
    let field = |wanted: &str| {
        let mut lines = stats.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(name, _)| name.trim() == wanted)
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0)
    };
    (Duration::from_secs(field("run_time")), field("execs_done"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stability_is_of_the_edges() {
        let figures =
            |edges, varying| Figures { edges, varying: (0..varying).collect(), ..Figures::default() };
        assert_eq!(
            [figures(0, 0), figures(200, 0), figures(200, 1)].map(|f| f.stability()),
            [100.0, 100.0, 99.5]
        );
        assert_eq!(figures(1, 3).stability(), 0.0);
    }

    #[test]
    fn what_was_written_is_read() {
        let figures = Figures {
            elapsed: Duration::from_secs(7),
            elapsed_before: Duration::from_secs(5),
            runs: 30,
            runs_before: 10,
            ..Figures::default()
        };
        let text = figures.stats(Duration::from_secs(1), "a", "dejavm-fuzz -- a");
        assert_eq!(before(&text), (Duration::from_secs(12), 40));
        assert_eq!(before(""), (Duration::ZERO, 0));
        assert_eq!(figures.plot().split(", ").count(), 13);
    }
}
