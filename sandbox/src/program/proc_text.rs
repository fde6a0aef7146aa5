//! The texts under `/proc` that follow from the program's state.

mod status;

use super::clock::Clock;
use super::fs::ProcFile;
use super::kernel::FsContext;
use super::mm::{Account, AddressSpace, Backing, Vma};
use super::process::{FIRST_PID, Process};
use super::settings::SystemNames;
use super::signal::Actions;
use super::task::Task;
use crate::ram::PAGE_SIZE;
use crate::x86::processor::Level;

/// Whom a text is about.
pub struct Subject<'a> {
    /// The task's number.
    pub tid: u32,
    /// Who asks.
    pub reader: u32,
    /// The task.
    pub task: &'a Task,
    /// Whether it runs (`R`), waits (`S`) or is stopped (`T`).
    pub state: char,
    /// Its process.
    pub process: &'a Process,
    /// How many tasks that has.
    pub threads: usize,
    /// Its address space.
    pub space: &'a AddressSpace,
    /// Where its paths start.
    pub context: &'a FsContext,
    /// What it does about signals.
    pub actions: &'a Actions,
    /// The sandbox's memory.
    pub account: &'a Account,
    /// The clock.
    pub clock: &'a Clock,
    /// What the machine is called.
    pub names: &'a SystemNames,
    /// The processor.
    pub cpu: Level,
}

impl Subject<'_> {
    /// The call that the task waits in, or makes: its number and arguments, and where it was made
    /// (`proc_pid_syscall`).
    fn current_call(&self) -> String {
        let regs = &self.task.regs.general;
        let (number, args) = match &self.task.parked {
            Some(parked) => (parked.call.number, parked.call.args),
            None => (regs.rax, [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]),
        };
        if self.state == 'R' && self.tid != self.reader {
            return "running\n".to_owned();
        }
        let args: String = args.iter().map(|arg| format!("0x{arg:x} ")).collect();
        format!("{} {args}0x{:x} 0x{:x}\n", number as i32, regs.rsp, regs.rip)
    }
}

/// The text of a file; `None` where the file system's built-in text will do.
pub fn text(pid: u32, file: ProcFile, subject: &Subject<'_>) -> Option<Vec<u8>> {
    if pid == FIRST_PID {
        return status::of_first_process(file);
    }
    let Subject { task, process, space, account, clock, names, .. } = *subject;
    let image = &space.state.image;
    let joined = |list: &[Vec<u8>]| list.iter().flat_map(|s| [&s[..], b"\0"].concat()).collect::<Vec<u8>>();
    Some(match file {
        ProcFile::Maps => maps(space),
        ProcFile::Smaps => smaps(space, false),
        ProcFile::SmapsRollup => smaps(space, true),
        ProcFile::Limits => status::limits(process).into_bytes(),
        ProcFile::OomScoreAdj => format!("{}\n", process.settings.oom_score).into_bytes(),
        ProcFile::CoredumpFilter => format!("{:08x}\n", process.settings.core_filter).into_bytes(),
        ProcFile::TimerSlack => format!("{}\n", task.settings.scheduling.slack).into_bytes(),
        ProcFile::Personality => format!("{:08x}\n", task.settings.personality).into_bytes(),
        ProcFile::Hostname => [&names.host_name[..], b"\n"].concat(),
        ProcFile::DomainName => [&names.domain_name[..], b"\n"].concat(),
        ProcFile::CpuInfo => subject.cpu.text().into_bytes(),
        ProcFile::Cmdline => joined(&image.args),
        ProcFile::Environ => joined(&image.env),
        ProcFile::Comm => [&task.name[..], b"\n"].concat(),
        ProcFile::Auxv => {
            image.auxv.iter().flat_map(|(k, v)| [k.to_le_bytes(), v.to_le_bytes()].concat()).collect()
        }
        ProcFile::Syscall => subject.current_call().into_bytes(),
        ProcFile::Stat => status::stat(subject).into_bytes(),
        ProcFile::Statm => {
            let page = PAGE_SIZE as u64;
            let (size, resident) = (space.mapped_bytes(|_| true) / page, resident_bytes(account) / page);
            format!("{size} {resident} 0 0 0 {resident} 0\n").into_bytes()
        }
        ProcFile::Status => status::status(subject).into_bytes(),
        ProcFile::MemInfo => mem_info(account).into_bytes(),
        ProcFile::SystemStat => {
            let ticks = cpu_ticks(clock);
            let born = clock.realtime().saturating_sub(clock.monotonic()) / 1_000_000_000;
            format!(
                "cpu  {ticks} 0 0 0 0 0 0 0 0 0\ncpu0 {ticks} 0 0 0 0 0 0 0 0 0\nintr 0\nctxt 0\nbtime {born}\n\
                 processes 2\nprocs_running 1\nprocs_blocked 0\n"
            )
            .into_bytes()
        }
        ProcFile::Uptime => {
            let seconds = clock.monotonic() / 1_000_000_000;
            let hundredths = clock.monotonic() / 10_000_000 % 100;
            format!("{seconds}.{hundredths:02} 0.00\n").into_bytes()
        }
        _ => return None,
    })
}

/// Clock ticks of CPU time: the whole of it is the program's.
fn cpu_ticks(clock: &Clock) -> u64 {
    clock.cpu() / 10_000_000
}

/// What is charged to the program, since what is resident depends on the host.
fn resident_bytes(account: &Account) -> u64 {
    account.charged()
}

fn maps(space: &AddressSpace) -> Vec<u8> {
    let mut out = Vec::new();
    for (start, vma) in &space.state.vmas {
        let p = vma.protection;
        let flag = |on, c| if on { c } else { '-' };
        let shared = vma.backing.is_shared();
        let (offset, file) = match &vma.backing {
            Backing::Anonymous => (0, false),
            Backing::File { offset, .. }
            | Backing::Shared { offset, .. }
            | Backing::Private { offset, .. } => (*offset, true),
        };
        let mut line = format!(
            "{start:08x}-{:08x} {}{}{}{} {offset:08x} 00:{:02x} {} ",
            vma.end,
            flag(p.read, 'r'),
            flag(p.write, 'w'),
            flag(p.exec, 'x'),
            if shared { 's' } else { 'p' },
            u8::from(file),
            u8::from(file),
        );
        if !vma.name.is_empty() {
            // Linux pads to this column.
            while line.len() < 73 {
                line.push(' ');
            }
        }
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(&vma.name);
        out.push(b'\n');
    }
    let page = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 ";
    out.extend_from_slice(format!("{page:<73}[vsyscall]\n").as_bytes());
    out
}

/// `smaps`, or its sum. What is resident is what is charged, since what really is depends on the host.
fn smaps(space: &AddressSpace, sum: bool) -> Vec<u8> {
    let lines = maps(space);
    let mut out = Vec::new();
    let mut total = [0u64; 4];
    for (line, (start, vma)) in lines.split_inclusive(|b| *b == b'\n').zip(&space.state.vmas) {
        let size = (vma.end - start) / 1024;
        let resident = if vma.protection.any() && !vma.no_reserve { size } else { 0 };
        let file = !matches!(vma.backing, Backing::Anonymous);
        let anonymous = if file { 0 } else { resident };
        let sizes = [size, resident, anonymous, if vma.locked { resident } else { 0 }];
        total = std::array::from_fn(|i| total[i] + sizes[i]);
        if !sum {
            out.extend_from_slice(line);
            out.extend(region(sizes, true).into_bytes());
            out.extend(flags_of(vma).into_bytes());
        }
    }
    if sum {
        let ends = (space.state.vmas.first_key_value(), space.state.vmas.last_key_value());
        let (from, to) = ends.0.zip(ends.1).map_or((0, 0), |((start, _), (_, last))| (*start, last.end));
        let head = format!("{from:08x}-{to:08x} ---p 00000000 00:00 0 ");
        out.extend(format!("{head:<73}[rollup]\n").into_bytes());
        out.extend(region(total, false).into_bytes());
    }
    out
}

fn region([size, resident, anonymous, locked]: [u64; 4], one: bool) -> String {
    let mut rows = Vec::new();
    if one {
        rows.extend([("Size", size), ("KernelPageSize", 4), ("MMUPageSize", 4)]);
    }
    rows.extend([
        ("Rss", resident),
        ("Pss", resident),
        ("Pss_Dirty", anonymous),
        ("Shared_Clean", 0),
        ("Shared_Dirty", 0),
        ("Private_Clean", resident - anonymous),
        ("Private_Dirty", anonymous),
        ("Referenced", resident),
        ("Anonymous", anonymous),
        ("KSM", 0),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", locked),
    ]);
    rows.iter().map(|(name, kib)| format!("{:<16}{kib:8} kB\n", format!("{name}:"))).collect()
}

fn flags_of(vma: &Vma) -> String {
    let p = vma.protection;
    let shared = vma.backing.is_shared();
    let flags = [(p.read, "rd "), (p.write, "wr "), (p.exec, "ex "), (shared, "sh ")];
    let own: String = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect();
    let more = [(vma.grows_down, "gd "), (vma.locked, "lo "), (vma.no_reserve, "nr ")];
    let more: String = more.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect();
    format!("THPeligible:           0\nVmFlags: {own}mr mw me {more}\n")
}

fn mem_info(account: &Account) -> String {
    let total = account.limit() / 1024;
    let free = account.free() / 1024;
    format!(
        "MemTotal:       {total:8} kB\nMemFree:        {free:8} kB\nMemAvailable:   {free:8} kB\n\
         Buffers:               0 kB\nCached:                0 kB\nSwapCached:            0 kB\n\
         SwapTotal:             0 kB\nSwapFree:              0 kB\n"
    )
}
