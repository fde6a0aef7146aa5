//! Runs a second of AFL++, libFuzzer and `dejavm fuzz`, on the same functions, from the same inputs, on one core.
//!
//! `scripts/fuzz-targets && cargo bench -p dejavm-fuzz --bench fuzz -- [--seconds N] [--core N] [LIBRARY]...`
//!
//! `DEJAVM_FUZZ=FILE` has another `dejavm-fuzz` measured than the one that was built with this. `DEJAVM_FUZZ_KEEP=DIR`
//! keeps the fuzzers' directories and what they said.

// There are no goals here, and no medians.
#[allow(dead_code)]
#[path = "../../benches/support/report.rs"]
mod report;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use serde_json::json;

/// Errors here are for whoever runs the benchmark.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Those that `scripts/fuzz-targets` builds.
const LIBRARIES: [&str; 4] = ["cjson", "libpng", "expat", "sqlite3"];
/// The most bytes of an input, for all fuzzers: what a run takes depends on it.
const MAX_LEN: &str = "4096";
/// The exit status of libFuzzer and `dejavm fuzz` where there are crashes.
const CRASHES: i32 = 77;

/// Which fuzzer runs which of a library's programs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    AflForkserver,
    AflPersistent,
    LibFuzzer,
    Function,
    FunctionOfLibFuzzer,
    StandardInput,
}

impl Way {
    const ALL: [Way; 6] = [
        Way::AflForkserver,
        Way::AflPersistent,
        Way::LibFuzzer,
        Way::Function,
        Way::FunctionOfLibFuzzer,
        Way::StandardInput,
    ];

    /// For the table's head.
    fn title(self) -> &'static str {
        match self {
            Way::AflForkserver => "AFL++ forkserver",
            Way::AflPersistent => "AFL++ persistent",
            Way::LibFuzzer => "libFuzzer",
            Way::Function => "`dejavm fuzz`",
            Way::FunctionOfLibFuzzer => "`dejavm fuzz`, libFuzzer's build",
            Way::StandardInput => "`dejavm fuzz --stdin`",
        }
    }

    /// For scripts and names of directories.
    fn name(self) -> &'static str {
        match self {
            Way::AflForkserver => "afl-forkserver",
            Way::AflPersistent => "afl-persistent",
            Way::LibFuzzer => "libfuzzer",
            Way::Function => "dejavm-function",
            Way::FunctionOfLibFuzzer => "dejavm-function-libfuzzer",
            Way::StandardInput => "dejavm-stdin",
        }
    }

    /// Which of the library's programs it runs.
    fn program(self) -> &'static str {
        match self {
            Way::AflForkserver => "afl-forkserver",
            Way::AflPersistent => "afl-persistent",
            Way::LibFuzzer | Way::FunctionOfLibFuzzer => "libfuzzer",
            Way::Function | Way::StandardInput => "plain",
        }
    }

    /// The fuzzer's words, which is started in a directory of its own where the program is, too.
    fn words(self, seeds: &Path, seconds: u64) -> Vec<OsString> {
        let seconds = seconds.to_string();
        let program = format!("./{}", self.program());
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |more: &[&str]| words.extend(more.iter().map(OsString::from));
        match self {
            Way::AflForkserver | Way::AflPersistent => {
                add(&["afl-fuzz", "-V", &seconds, "-G", MAX_LEN, "-s", "1", "-o", "out", "-i"]);
                words.extend([seeds.into(), "--".into(), program.into()]);
            }
            Way::LibFuzzer => {
                fn option(name: &str, value: &str) -> OsString {
                    format!("-{name}={value}").into()
                }
                words.extend([
                    program.into(),
                    option("max_total_time", &seconds),
                    option("max_len", MAX_LEN),
                    option("seed", "1"),
                    option("print_final_stats", "1"),
                    // It would start a symbolizer for the names of functions.
                    option("print_funcs", "0"),
                    "corpus".into(),
                    seeds.into(),
                ]);
            }
            Way::Function | Way::FunctionOfLibFuzzer | Way::StandardInput => {
                let tool = std::env::var_os("DEJAVM_FUZZ");
                words.push(tool.unwrap_or_else(|| env!("CARGO_BIN_EXE_dejavm-fuzz").into()));
                let mut add = |more: &[&str]| words.extend(more.iter().map(OsString::from));
                add(&["--max-total-time", &seconds, "--max-len", MAX_LEN, "--seed", "1", "-o", "out"]);
                if self == Way::StandardInput {
                    add(&["--stdin"]);
                }
                words.extend(["-i".into(), seeds.into(), "--".into(), program.into()]);
            }
        }
        words
    }
}

/// What came of a fuzzer.
struct Measured {
    /// None: it did not say.
    runs_per_second: Option<f64>,
    /// What is to be known with it.
    remarks: Vec<String>,
}

/// Runs a fuzzer on a core, and reads what it says of itself.
fn measure(way: Way, library: &str, options: &Options, work: &Path) -> Result<Measured> {
    fs::create_dir_all(work.join("corpus"))?;
    // `dejavm fuzz` shows the program the directory that it is started in.
    fs::copy(targets().join(library).join(way.program()), work.join(way.program()))?;
    let log = work.join("log");
    let status = Command::new("taskset")
        .args(["-c", &options.core.to_string()])
        .args(way.words(&seeds().join(library), options.seconds))
        .current_dir(work)
        // AFL++ looks at how the machine is set: at how crashes are kept, and how fast its CPU is said to be.
        .envs(["AFL_NO_UI", "AFL_NO_AFFINITY", "AFL_SKIP_CPUFREQ"].map(|name| (name, "1")))
        .env("AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES", "1")
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?)
        .status()
        .map_err(|e| format!("taskset: {e}"))?;
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let (text, rate) = match way {
        Way::LibFuzzer => (said.clone(), "stat::average_exec_per_sec"),
        _ => (fs::read_to_string(work.join("out/default/fuzzer_stats")).unwrap_or_default(), "execs_per_sec"),
    };
    let mut remarks = Vec::new();
    for (figure, what) in [("saved_crashes", "crashes"), ("saved_hangs", "hangs")] {
        if let Some(found) = field(&text, figure).filter(|found| *found > 0.0) {
            remarks.push(format!("{found} {what}"));
        }
    }
    let keeps_on = way != Way::LibFuzzer && status.code() == Some(CRASHES);
    if !status.success() && !keeps_on {
        let last: Vec<&str> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        remarks.push(format!(
            "ended early, {status}: {}",
            last.into_iter().rev().collect::<Vec<_>>().join(" / ")
        ));
    }
    Ok(Measured { runs_per_second: field(&text, rate).filter(|rate| *rate > 0.0), remarks })
}

/// The number behind a name and a colon.
fn field(text: &str, wanted: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.trim().strip_prefix(wanted)?.trim_start().strip_prefix(':'));
    rest?.trim().parse().ok()
}

/// Where `scripts/fuzz-targets` puts what it builds.
fn targets() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("it is in a workspace").join("target/fuzz-targets")
}

/// Directories of first inputs.
fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/fuzz/seeds")
}

/// The CPU, KVM's module, and how much else the machine does.
fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model =
        cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let kvm = ["kvm_pvm", "kvm_intel", "kvm_amd"];
    let kvm = kvm.into_iter().find(|module| Path::new("/sys/module").join(module).exists());
    let load = read("/proc/loadavg");
    format!(
        "{}, {}; load average before: {}",
        model.map_or("a CPU without a name", |(_, model)| model),
        kvm.unwrap_or("KVM of an unknown kind"),
        load.split(' ').next().unwrap_or_default(),
    )
}

/// Runs a second, with as many digits as mean anything.
fn shown(rate: Option<f64>) -> String {
    rate.map_or("–".into(), |rate| format!("{rate:.0}"))
}

/// One of `ways` by another, if both were measured.
fn ratio(row: &[Measured], way: Way, by: Way) -> Option<f64> {
    let of = |way| Way::ALL.iter().position(|one| *one == way).and_then(|at| row[at].runs_per_second);
    Some(of(way)? / of(by)?)
}

/// Compares the speed of fuzzers.
#[derive(Parser)]
struct Options {
    /// How long each fuzzer runs for each library.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The core that they run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// What `cargo bench` gives.
    #[arg(long, hide = true)]
    bench: bool,
    /// [default: all]
    #[arg(value_parser = LIBRARIES)]
    libraries: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let mut options = Options::parse();
    if options.libraries.is_empty() {
        options.libraries = LIBRARIES.map(String::from).to_vec();
    }
    for library in &options.libraries {
        for way in Way::ALL {
            let program = targets().join(library).join(way.program());
            if !program.exists() {
                return Err(format!("no {}: scripts/fuzz-targets builds it", program.display()).into());
            }
        }
    }
    let temporary = tempfile::tempdir()?;
    let kept = std::env::var_os("DEJAVM_FUZZ_KEEP").map(PathBuf::from);
    let work = kept.as_deref().unwrap_or(temporary.path());
    println!(
        "Runs a second, {} s each, one after the other on core {}, of at most {MAX_LEN} bytes. {}.",
        options.seconds,
        options.core,
        machine(),
    );
    println!(
        "`dejavm fuzz` goes through one exit for each input: it cannot run several inputs for an exit yet.\n"
    );
    print!("| |");
    for way in Way::ALL {
        print!(" {} |", way.title());
    }
    println!(" by the forkserver | by persistent mode |\n|---|{}", "---|".repeat(Way::ALL.len() + 2));

    let (mut remarks, mut results) = (Vec::new(), Vec::new());
    let mut all_measured = true;
    for library in &options.libraries {
        let version = fs::read_to_string(targets().join(library).join("version")).unwrap_or_default();
        let mut row = Vec::new();
        for way in Way::ALL {
            let measured = measure(way, library, &options, &work.join(library).join(way.name()))?;
            all_measured &= measured.runs_per_second.is_some();
            let titled = |remark| format!("{library}, {}: {remark}", way.title());
            remarks.extend(measured.remarks.iter().map(titled));
            results.push(json!({
                "library": library, "version": version.trim(), "way": way.name(), "seconds": options.seconds,
                "runs_per_second": measured.runs_per_second, "remarks": measured.remarks,
            }));
            row.push(measured);
        }
        print!("| {library} {} |", version.trim());
        for measured in &row {
            print!(" {} |", shown(measured.runs_per_second));
        }
        for by in [Way::AflForkserver, Way::AflPersistent] {
            print!(" {} |", ratio(&row, Way::Function, by).map_or("–".into(), |ratio| format!("{ratio:.2}")));
        }
        println!();
    }
    println!();
    for remark in &remarks {
        println!("* {remark}");
    }
    println!("{}", report::save("fuzz", &json!({"machine": machine(), "results": results}))?.display());
    Ok(if all_measured { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
