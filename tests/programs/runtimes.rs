//! Version control, builds, compilers and language runtimes: what lives on processes, threads, signals and
//! timers.

use std::process::Command;
use std::sync::OnceLock;

use super::job::{Job, job};

/// Behind the modification times of the system's files. By the virtual clock's own start, headers of a
/// host that was updated since come from the future, and a build would begin anew each time.
const LATER: &str = "2038-01-01T00:00:00Z";

/// Memory that a runtime reserves at its start, megabytes.
const LARGE: u32 = 4096;

/// Rust's installation, which lies in somebody's home directory, as a job's grant and environment want it.
pub fn rust() -> (&'static str, &'static str) {
    static RUST: OnceLock<(String, String)> = OnceLock::new();
    let (root, compiler) = RUST.get_or_init(|| {
        let asked =
            Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc, which built this");
        let root = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
        let compiler = format!("{root}/bin/rustc");
        (root, compiler)
    });
    (root, compiler)
}

/// Those whose programs the sample needs.
pub fn jobs() -> Vec<Job> {
    vec![
        job("bash git.sh").needs("git").starts(LATER),
        job("bash copies.sh").needs("rsync").starts(LATER),
        job("bash packers.sh").needs("pigz"),
        job("bash wal.sh"),
        job("python3 pools.py fork spawn"),
        job("python3 tasks.py"),
        job("ruby threads.rb").needs("ruby"),
        job("tclsh events.tcl").sampled(),
    ]
}

/// Those of large programs, which `scripts/install-test-programs --all` installs, and of what they compile.
pub fn large_jobs() -> Vec<Job> {
    let (root, compiler) = rust();
    vec![
        job("bash cmake.sh").needs("cmake").needs("ninja").starts(LATER),
        job("bash wheel.sh").needs("pip3").starts(LATER),
        job("php report.php words.txt"),
        job("node workers.js").guest_memory(2048),
        job("java -Xmx128m -cp . Threads").guest_memory(2048),
        job("./channels").guest_memory(LARGE),
        job("bash go.sh").needs("go").guest_memory(LARGE),
        job("./threads-rs"),
        job("bash rustc.sh").env("RUSTC", compiler).shows(root),
        job("./threads-hs").guest_memory(LARGE),
        job("./threads-hs-threaded").guest_memory(LARGE),
        job("escript ring.erl words.txt").guest_memory(2048),
        job("sbcl --script threads.lisp").guest_memory(LARGE),
    ]
}
