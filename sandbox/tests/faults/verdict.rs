//! What a row comes to on this host.

use std::collections::BTreeSet;
use std::sync::Arc;

use dejavm_sandbox::exit::Rung;
use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::kernel::kept::Why;
use dejavm_sandbox::machine::{End, RunEnd};
use dejavm_sandbox::vcpu::Exit;

use crate::guest::IN_HANDLER;
use crate::rows::Row;
use crate::run::{Final, Outcome, There, run};

/// A row's cells that come from trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells {
    /// What came out of `KVM_RUN`.
    pub out: String,
    /// Which rungs resolved it.
    pub rungs: String,
    /// The final state.
    pub state: String,
}

/// What is seen with one way of marking absent pages.
struct Seen {
    out: String,
    rungs: String,
    /// How the final state differs from the resident run's, if it does.
    differs: Option<String>,
}

/// Tries a row. An error is a row that is neither made good nor prevented.
pub fn try_row(host: &Arc<HostProfile>, row: &Row) -> Result<Cells, String> {
    let wrong = |what: String| Err(format!("{}: {what}", row.id));
    let resident = run(host, (row.guest)(), There::All, None);
    if resident.status() != Some(row.status)
        && let Some(lacking) = row.lacking
    {
        let nothing = || String::from("–");
        return Ok(Cells { out: nothing(), rungs: nothing(), state: lacking.into() });
    }
    if resident.status() != Some(row.status) {
        return wrong(format!("with all memory present it came to {:?}", resident.end));
    }
    let mut seen = Vec::new();
    for (there, rung) in markings(host) {
        let outcome = run(host, (row.guest)(), There::AllBut(row.absent), rung);
        if row.prevented.is_some() && row.absent.iter().any(|page| outcome.there.contains(page)) {
            return wrong("the page was touched, although that is prevented".into());
        }
        seen.push((there, look(&resident, &outcome)));
    }
    // As any guest is started: whatever KVM reads by itself is kept, all else is absent.
    let searched = run(host, (row.guest)(), There::Searched, None);
    if let Some(how) = difference(&resident, &searched) {
        return wrong(format!("it differs in {how}, although what the search finds is kept"));
    }
    let kept: BTreeSet<Why> =
        searched.kept.iter().filter(|(page, _)| row.absent.contains(page)).map(|(_, why)| why).collect();
    let differs: BTreeSet<&String> = seen.iter().filter_map(|(_, seen)| seen.differs.as_ref()).collect();
    let state = match (differs.first(), row.prevented) {
        (Some(how), Some(_)) => return wrong(format!("it differs in {how}")),
        (Some(_), None) if kept.is_empty() => {
            return wrong(format!("it differs in {differs:?}, and nothing is kept"));
        }
        (Some(how), None) => {
            let why: Vec<&str> = kept.iter().map(|why| why.text()).collect();
            format!("differs in {how}. Prevented: the page is kept present ({})", why.join(", "))
        }
        (None, Some(how)) => format!("equal. Prevented: {how}"),
        (None, None) => "equal".into(),
    };
    let each = |cell: fn(&Seen) -> &String| {
        let first = cell(&seen[0].1);
        match seen.iter().all(|(_, seen)| cell(seen) == first) {
            true => first.clone(),
            false => {
                let cells: Vec<_> =
                    seen.iter().map(|(name, seen)| format!("{name}: {}", cell(seen))).collect();
                cells.join("; ")
            }
        }
    };
    Ok(Cells { out: each(|seen| &seen.out), rungs: each(|seen| &seen.rungs), state })
}

/// The ways of marking absent pages that this host has, with names.
fn markings(host: &HostProfile) -> Vec<(&'static str, Option<Rung>)> {
    let ways = [("poisoned", Rung::Poison, host.poison), ("missing", Rung::Decode, host.missing)];
    let there: Vec<_> =
        ways.into_iter().filter(|(_, _, there)| *there).map(|(name, rung, _)| (name, Some(rung))).collect();
    assert!(!there.is_empty(), "this host has no way of marking absent pages: there is nothing to try");
    there
}

fn look(resident: &Outcome, outcome: &Outcome) -> Seen {
    let rungs = outcome.all_rungs();
    let mut out: Vec<String> = Vec::new();
    let mut add = |what: &str| {
        if !out.iter().any(|known| known == what) {
            out.push(what.into());
        }
    };
    outcome.raw.iter().for_each(|exit| add(exit_name(exit)));
    if rungs.contains(&Rung::Watchdog) {
        add("nothing: it does not return");
    }
    if rungs.contains(&Rung::Delivery) {
        add("`KVM_EXIT_SHUTDOWN`");
    }
    let differs = difference(resident, outcome);
    match (outcome.status(), &outcome.end) {
        (Some(status), _) if Some(status) != resident.status() => {
            add(&format!("nothing: {} in the guest", exception_name(status.wrapping_sub(IN_HANDLER))));
        }
        (None, Ok(RunEnd::Ended(End::TripleFault))) => add("`KVM_EXIT_SHUTDOWN`"),
        (None, Ok(RunEnd::Ended(End::Halted))) => add("nothing: the guest halts"),
        (None, Ok(RunEnd::Deadline)) => add("nothing: it does not return"),
        (None, other) => add(&format!("{other:?}")),
        _ => {}
    }
    if out.is_empty() {
        out.push("nothing: the page is not used".into());
    }
    let names: Vec<&str> = rungs.iter().map(|rung| rung_name(*rung)).collect();
    let rungs = if names.is_empty() { "–".into() } else { names.join(", ") };
    Seen { out: out.join(", "), rungs, differs }
}

/// In what a run's final state differs from the resident run's.
fn difference(resident: &Outcome, outcome: &Outcome) -> Option<String> {
    let (Some(a), Some(b)) = (&resident.state, &outcome.state) else {
        return Some(format!("its end, {:?}", outcome.end).replace("Ok(", "(").replace(['(', ')'], " "));
    };
    if a == b {
        return None;
    }
    if outcome.status() != resident.status() {
        return Some("its end".into());
    }
    if a.exits != b.exits {
        return Some("its port accesses".into());
    }
    let mut parts = Vec::new();
    if a.memory != b.memory {
        parts.push("memory");
    }
    let without_cr2 = |state: &Final| {
        let mut cpu = state.cpu.clone();
        cpu.sregs.cr2 = 0;
        cpu
    };
    if without_cr2(a) != without_cr2(b) {
        parts.push("registers");
    } else if a.cpu != b.cpu {
        parts.push("CR2");
    }
    Some(parts.join(" and "))
}

fn exit_name(exit: &Exit) -> &'static str {
    match exit {
        Exit::MemoryFault { .. } => "`KVM_EXIT_MEMORY_FAULT`",
        Exit::Signal => "`SIGBUS`",
        Exit::BareFault => "bare `EFAULT`",
        Exit::MmioRead { .. } => "MMIO read",
        Exit::MmioWrite { .. } => "MMIO write",
        Exit::InternalError { .. } => "failed emulation",
        other => panic!("an exit that is no fault: {other:?}"),
    }
}

fn rung_name(rung: Rung) -> &'static str {
    match rung {
        Rung::Annotated => "annotated",
        Rung::Poison => "poison",
        Rung::Decode => "decode",
        Rung::Mmio => "MMIO",
        Rung::Emulation => "emulation",
        Rung::Kept => "kept",
        Rung::Watchdog => "watchdog",
        Rung::Delivery => "delivery",
        other => panic!("no row is to need {other:?}"),
    }
}

fn exception_name(vector: u8) -> String {
    let name = match vector {
        0 => "#DE",
        6 => "#UD",
        8 => "#DF",
        13 => "#GP",
        14 => "#PF",
        other => return format!("vector {other}"),
    };
    format!("`{name}`")
}
