//! `stat`, `status` and `limits`: what a process is and has.

use std::fmt::Write;

use super::{Subject, cpu_ticks, resident_bytes};
use crate::program::process::Process;
use crate::ram::PAGE_SIZE;

/// What a limit is called, and its unit (`fs/proc/base.c`).
const LIMITS: [(&str, &str); 16] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

/// `/proc/self/limits`.
pub fn limits(process: &Process) -> String {
    let show = |limit: u64| if limit == u64::MAX { "unlimited".to_string() } else { limit.to_string() };
    let mut out = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for ((name, unit), (soft, hard)) in LIMITS.into_iter().zip(process.limits) {
        let _ = write!(out, "{name:<25} {:<20} {:<20} ", show(soft), show(hard));
        let _ = if unit.is_empty() { writeln!(out) } else { writeln!(out, "{unit:<10}") };
    }
    out
}

/// `/proc/self/stat`.
pub fn stat(subject: &Subject<'_>) -> String {
    /// `PF_RANDOMIZE`.
    const FLAGS: u32 = 0x0040_0000;
    /// Clock ticks after the machine's start at which the program was started.
    const START: u32 = 100;
    let Subject { tid, task, process, space, actions, account, clock, threads, .. } = *subject;
    let name = String::from_utf8_lossy(&task.name);
    let bytes = space.mapped_bytes(|_| true);
    let scheduling = task.settings.scheduling;
    let real_time = scheduling.priority > 0;
    let priority = if real_time { -1 - scheduling.priority as i32 } else { 20 + scheduling.nice };
    let (ignored, caught) = actions.handled_bits();
    let Process { parent, group, session, .. } = process;
    let ids = format!("{tid} ({name}) {} {parent} {group} {session}", subject.state);
    let mut out = format!("{ids} 0 -1 {FLAGS} 0 0 0 0 {} 0 0 0 ", cpu_ticks(clock));
    let _ = write!(out, "{priority} {} {threads} 0 {START} {bytes} ", scheduling.nice);
    let pages = resident_bytes(account) / PAGE_SIZE as u64;
    let _ = write!(out, "{pages} {} 0 0 {} 0 0 ", process.limits[RLIMIT_RSS].0, space.state.image.stack);
    let _ = writeln!(
        out,
        "{} {} {} {} 0 0 0 17 0 {} {} 0 0 0 0 0 {} 0 0 0 0 0",
        (task.signals.pending.bits() | process.pending.bits()) & WORD,
        task.signals.mask & WORD,
        ignored & WORD,
        caught & WORD,
        scheduling.priority,
        scheduling.policy,
        space.state.brk_start
    );
    out
}

/// `stat` tells the signals below 32 only.
const WORD: u64 = 0x7fff_ffff;
const RLIMIT_RSS: usize = 5;

/// `/proc/self/status`.
pub fn status(subject: &Subject<'_>) -> String {
    let Subject { tid, task, process, space, context, actions, account, threads, .. } = *subject;
    let Process { parent, group, session, .. } = process;
    let pid = task.process;
    let name = String::from_utf8_lossy(&task.name).replace('\\', "\\\\").replace('\n', "\\n");
    let c = &task.credentials;
    let ids = |ids: crate::program::credentials::Ids| {
        format!("{}\t{}\t{}\t{}", ids.real, ids.effective, ids.saved, ids.fs)
    };
    let groups: String = c.groups.iter().map(|group| format!("{group} ")).collect();
    let state = match subject.state {
        'T' => "T (stopped)",
        'S' => "S (sleeping)",
        _ => "R (running)",
    };
    let mut out = format!(
        "Name:\t{name}\nUmask:\t{:04o}\nState:\t{state}\nTgid:\t{pid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{parent}\n\
         TracerPid:\t0\nUid:\t{}\nGid:\t{}\nFDSize:\t64\nGroups:\t{groups}\nNStgid:\t{pid}\nNSpid:\t{tid}\n\
         NSpgid:\t{group}\nNSsid:\t{session}\n",
        context.umask,
        ids(c.user),
        ids(c.group),
    );
    let of = |counts: fn(&crate::program::mm::Vma) -> bool| {
        let all = space.state.vmas.iter().filter(|(_, vma)| counts(vma));
        all.map(|(start, vma)| vma.end - start).sum::<u64>() / 1024
    };
    let (size, resident) = (space.mapped_bytes(|_| true) / 1024, resident_bytes(account) / 1024);
    let stack = of(|vma| &*vma.name == b"[stack]");
    let data = of(|vma| vma.protection.write && vma.name.is_empty() || &*vma.name == b"[heap]");
    let code = of(|vma| vma.protection.exec);
    let memory = [
        ("VmPeak", size),
        ("VmSize", size),
        ("VmLck", 0),
        ("VmPin", 0),
        ("VmHWM", resident),
        ("VmRSS", resident),
        ("RssAnon", resident),
        ("RssFile", 0),
        ("RssShmem", 0),
        ("VmData", data),
        ("VmStk", stack),
        ("VmExe", code),
        ("VmLib", 0),
        ("VmPTE", 0),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    for (what, kib) in memory {
        let _ = writeln!(out, "{what}:\t{kib:8} kB");
    }
    let (ignored, caught) = actions.handled_bits();
    let _ = write!(
        out,
        "CoreDumping:\t0\nTHP_enabled:\t{}\nThreads:\t{threads}\nSigQ:\t{}/{}\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\n\
         SigBlk:\t{:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\nCapInh:\t{:016x}\nCapPrm:\t{:016x}\n\
         CapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\nNoNewPrivs:\t{}\nCpus_allowed:\t1\n\
         Cpus_allowed_list:\t0\nMems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\n\
         nonvoluntary_ctxt_switches:\t0\n",
        u32::from(!process.settings.no_huge_pages),
        task.signals.pending.count() + process.pending.count(),
        process.limits[11].0.min(i32::MAX as u64),
        task.signals.pending.bits(),
        process.pending.bits(),
        task.signals.mask,
        c.caps.inheritable,
        c.caps.permitted,
        c.caps.effective,
        c.caps.bounding,
        c.caps.ambient,
        u32::from(c.no_new_privs),
    );
    out
}

/// The text of a file of process 1, which started the program and waits for its end. `None`: it is
/// the same as every process's.
pub fn of_first_process(file: crate::program::fs::ProcFile) -> Option<Vec<u8>> {
    use crate::program::fs::ProcFile;
    const NAME: &str = "dejavm";
    Some(match file {
        ProcFile::Comm => format!("{NAME}\n").into_bytes(),
        ProcFile::Cmdline => format!("{NAME}\0").into_bytes(),
        ProcFile::Stat => {
            format!("1 ({NAME}) S 0 1 1 0 -1 4194560 {}\n", ["0"; 43].join(" ")).into_bytes()
        }
        ProcFile::Statm => b"0 0 0 0 0 0 0\n".to_vec(),
        ProcFile::Status => format!(
            "Name:\t{NAME}\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t1\nNgid:\t0\nPid:\t1\nPPid:\t0\n\
             TracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t\nNStgid:\t1\nNSpid:\t1\n\
             NSpgid:\t1\nNSsid:\t1\nThreads:\t1\n"
        )
        .into_bytes(),
        ProcFile::Cgroup | ProcFile::Mounts | ProcFile::MountInfo | ProcFile::OomScore
        | ProcFile::OomScoreAdj | ProcFile::CoredumpFilter | ProcFile::UidMap | ProcFile::GidMap
        | ProcFile::SetGroups | ProcFile::LoginUid | ProcFile::SessionId | ProcFile::Wchan => return None,
        _ => Vec::new(),
    })
}
