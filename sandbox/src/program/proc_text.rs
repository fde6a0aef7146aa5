//! The texts under `/proc/self` that follow from the program's state.

use std::fmt::Write;

use super::clock::Clock;
use super::fs::ProcFile;
use super::mm::{Account, AddressSpace, Backing};
use super::process::{PID, Task};
use super::signal::Signals;
use crate::ram::PAGE_SIZE;

/// The text of a file; `None` where the file system's built-in text will do.
pub fn text(
    file: ProcFile,
    space: &AddressSpace,
    account: &Account,
    task: &Task,
    signals: &Signals,
    clock: &Clock,
) -> Option<Vec<u8>> {
    let joined = |list: &[Vec<u8>]| list.iter().flat_map(|s| [&s[..], b"\0"].concat()).collect::<Vec<u8>>();
    Some(match file {
        ProcFile::Maps | ProcFile::Smaps => maps(space),
        ProcFile::Cmdline => joined(&task.args),
        ProcFile::Environ => joined(&task.env),
        ProcFile::Comm => [&task.name[..], b"\n"].concat(),
        ProcFile::Auxv => {
            task.auxv.iter().flat_map(|(k, v)| [k.to_le_bytes(), v.to_le_bytes()].concat()).collect()
        }
        ProcFile::Stat => stat(space, task, signals).into_bytes(),
        ProcFile::Statm => {
            let pages = mapped_bytes(space) / PAGE_SIZE as u64;
            format!("{pages} {pages} 0 0 0 {pages} 0\n").into_bytes()
        }
        ProcFile::Status => status(space, task, signals).into_bytes(),
        ProcFile::MemInfo => mem_info(account).into_bytes(),
        ProcFile::Uptime => {
            let seconds = clock.monotonic() / 1_000_000_000;
            let hundredths = clock.monotonic() / 10_000_000 % 100;
            format!("{seconds}.{hundredths:02} 0.00\n").into_bytes()
        }
        _ => return None,
    })
}

fn mapped_bytes(space: &AddressSpace) -> u64 {
    space.state.vmas.iter().map(|(start, vma)| vma.end - start).sum()
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
    out
}

fn stat(space: &AddressSpace, task: &Task, signals: &Signals) -> String {
    let name = String::from_utf8_lossy(&task.name);
    let bytes = mapped_bytes(space);
    let mut out =
        format!("{PID} ({name}) R 1 {PID} {PID} 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 100 {bytes} ");
    let pages = bytes / PAGE_SIZE as u64;
    let _ = write!(out, "{pages} 18446744073709551615 0 0 {} 0 0 ", task.stack);
    let _ = writeln!(
        out,
        "{} {} 0 0 0 0 0 17 0 0 0 0 0 0 0 0 {} 0 0 0 0 0",
        signals.pending_bits(),
        signals.mask,
        space.state.brk_start
    );
    out
}

fn status(space: &AddressSpace, task: &Task, signals: &Signals) -> String {
    let name = String::from_utf8_lossy(&task.name);
    let kib = mapped_bytes(space) / 1024;
    format!(
        "Name:\t{name}\nUmask:\t{:04o}\nState:\tR (running)\nTgid:\t{PID}\nNgid:\t0\nPid:\t{PID}\nPPid:\t1\n\
         TracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t0 \nVmPeak:\t{kib:8} kB\n\
         VmSize:\t{kib:8} kB\nVmRSS:\t{kib:8} kB\nThreads:\t1\nSigPnd:\t{:016x}\nSigBlk:\t{:016x}\n\
         Cpus_allowed:\t1\nCpus_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n",
        task.umask,
        signals.pending_bits(),
        signals.mask
    )
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
