//! Options that subcommands share.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use dejavm::{ClockMode, Evict, Protocol, Rung};

use super::parse;

/// What a new program is given.
#[derive(Debug, Args)]
#[command(next_help_heading = "The guest")]
pub struct GuestOptions {
    /// Memory that it may use, with K, M or G behind the number [default: 1G; of a bare-metal guest
    /// 128M].
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub memory: Option<u64>,
    /// Bytes that it may write to files. They are kept in memory.
    #[arg(long, conflicts_with = "kernel", value_name = "SIZE", default_value = "1G", value_parser = parse::size)]
    pub disk: u64,
    /// The seed of its random bytes and its address-space layout.
    #[arg(long, conflicts_with = "kernel", value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Schedules its tasks so that its mistakes show, in a way that follows from this seed: long
    /// starvation, switches at every system call and between any two instructions. See `dejavm hunt`.
    #[arg(long, conflicts_with = "kernel", value_name = "SEED", num_args = 0..=1, default_missing_value = "0")]
    pub chaos: Option<u64>,
    /// Takes a task off the CPU after so many branches of its own, about, while others can run, and not only at
    /// system calls and their like: for programs whose tasks wait for one another in loops, or compute side by side.
    /// Slower while it counts [default: off; without a number, a million].
    #[arg(long, conflicts_with = "kernel", value_name = "BRANCHES", num_args = 0..=1, default_missing_value = "1000000")]
    pub time_slice: Option<NonZeroU64>,
    /// Its clock: virtual is a function of the run, host is the real one.
    #[arg(long, conflicts_with = "kernel", value_enum, default_value = "virtual")]
    pub clock: Clock,
    /// Where the virtual clock starts: RFC 3339, @SECONDS or now [default: 2026-01-01T00:00:00Z].
    #[arg(long, conflicts_with = "kernel", value_name = "TIME", value_parser = parse::instant)]
    pub start_time: Option<SystemTime>,
    /// Virtual time that one instruction takes while an interval timer is armed, such as 100us; the
    /// program is then single-stepped, for programs that spin until a signal [default: none: only
    /// exits and clock reads take time].
    #[arg(long, conflicts_with = "kernel", value_name = "TIME", value_parser = parse::timer_step)]
    pub timer_step: Option<Duration>,
    /// Sets a variable of its environment; without a value, to the one that it has here. Else it
    /// has PATH, HOME and LANG, and TERM when standard input is a terminal.
    #[arg(long, conflicts_with = "kernel", value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// Its working directory, a path in the guest [default: /work, which shows this directory].
    #[arg(long, conflicts_with = "kernel", value_name = "DIR")]
    pub workdir: Option<PathBuf>,
}

/// What a bare-metal guest is given besides.
#[derive(Debug, Args)]
#[command(next_help_heading = "A bare-metal guest")]
pub struct KernelOptions {
    /// Its initial RAM disk.
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Its command line [default: empty].
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub cmdline: OsString,
    /// Its input, which it reads from ports 0x5d0 and 0x5d1 [default: standard input].
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// How it is entered [default: pvh for an ELF image with a PVH note, else linux64].
    #[arg(long, value_enum)]
    pub protocol: Option<BootProtocol>,
    /// Loads the ELF image inside a bzImage, which else unpacks itself: that takes minutes where KVM
    /// emulates CPL 0 (`dejavm doctor`, kernel-speed).
    #[arg(long)]
    pub unpack: bool,
}

/// How a bare-metal guest is entered.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BootProtocol {
    /// By Linux's 64-bit boot protocol.
    Linux64,
    /// By PVH, in 32-bit protected mode.
    Pvh,
}

impl From<BootProtocol> for Protocol {
    fn from(protocol: BootProtocol) -> Protocol {
        match protocol {
            BootProtocol::Linux64 => Protocol::Linux64,
            BootProtocol::Pvh => Protocol::Pvh,
        }
    }
}

/// What it sees of the host.
#[derive(Debug, Args)]
#[command(next_help_heading = "What the guest sees of the host")]
pub struct ViewOptions {
    /// Shows a file or directory, read-only, at its own path or another. May be repeated. The current
    /// directory is shown unasked, also at /work, unless it holds your home directory.
    #[arg(long, value_name = "PATH[:GUESTPATH]")]
    pub ro: Vec<OsString>,
    /// Shows what is mounted in --ro and --root directories, in the current one and in /opt, too. Else
    /// a mount point in them is an empty directory.
    #[arg(long)]
    pub cross_mounts: bool,
    /// Shows this directory as the guest's root, and nothing else: not the system's programs and
    /// libraries, nor this directory at /work.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// What a snapshot's guest may use at most.
#[derive(Debug, Args)]
#[command(next_help_heading = "What the snapshot's guest may use")]
pub struct CeilingOptions {
    /// Refuses a snapshot whose guest may use more memory than this.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse::size)]
    pub memory: u64,
    /// Refuses a snapshot whose guest may write more to files than this.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse::size)]
    pub disk: u64,
}

/// Which host files a restored guest is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FilesOption {
    /// Those in the snapshot, else those that are as they were.
    Stored,
    /// Only those that are as they were.
    Unchanged,
    /// Those that the host has.
    Host,
}

/// How the guest is run.
#[derive(Debug, Args)]
#[command(next_help_heading = "The run")]
pub struct RunOptions {
    /// Ends the run after this time, with exit status 124: such as 500ms, 10s, 5m.
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub deadline: Option<Duration>,
    /// Brings all of memory in before the guest runs, instead of each page when it is wanted.
    #[arg(long)]
    pub eager: bool,
    /// Brings each page of the snapshot in alone, when it is touched: neither the working set that
    /// `warm` stored, nor more of a row that is touched in order.
    #[arg(long)]
    pub no_prefetch: bool,
    /// Says on standard error what happened in the run.
    #[arg(long, value_name = "FORMAT", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub stats: Option<StatsFormat>,
    /// Leaves this process as it is, with all that its user may do; else it confines itself before the
    /// guest runs, to the files that were granted and the system calls that it needs.
    #[arg(long)]
    pub no_confine: bool,
    /// For tests: finds absent pages only in this way (annotated, poison, decode or populate).
    #[arg(long, value_name = "RUNG", value_parser = parse::rung)]
    pub rung: Option<Rung>,
    /// For tests, fault injection: after every N exits, makes a random half of the pages absent.
    #[arg(long, value_name = "every=N,seed=S", value_parser = parse::evict)]
    pub evict: Option<Evict>,
}

/// How statistics are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatsFormat {
    /// For people.
    Text,
    /// One JSON object on one line.
    Json,
}

/// Which clock the guest sees.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Clock {
    /// A function of the run.
    Virtual,
    /// The host's.
    Host,
}

impl From<Clock> for ClockMode {
    fn from(clock: Clock) -> ClockMode {
        match clock {
            Clock::Virtual => ClockMode::Virtual,
            Clock::Host => ClockMode::Host,
        }
    }
}

/// The run's options, and this process's standard streams, on anything that is run.
macro_rules! apply {
    ($options:expr, $guest:expr) => {{
        let options: &$crate::cli::options::RunOptions = $options;
        let mut guest = $guest
            .stdin_from(::dejavm::Input::HostStdin)
            .stdout(::dejavm::Sink::stdout())
            .stderr(::dejavm::Sink::stderr())
            .eager(options.eager)
            .prefetch(!options.no_prefetch);
        if let Some(time) = options.deadline {
            guest = guest.deadline(time);
        }
        if let Some(rung) = options.rung {
            guest = guest.rung(rung);
        }
        if let Some(evict) = options.evict {
            guest = guest.evict(evict);
        }
        guest
    }};
}

pub(super) use apply;
