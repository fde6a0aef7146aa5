//! Statistics of a run, on standard error.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use dejavm::Report;
use dejavm::replay::text::call_name;
use serde_json::{Map, Value, json};

use super::options::StatsFormat;

/// System calls that are named in the text.
const TOP: usize = 10;

/// Prints them.
pub fn print(report: &Report, format: StatsFormat) {
    let text = match format {
        StatsFormat::Text => text(report),
        StatsFormat::Json => format!("{}\n", json(report)),
    };
    let _ = io::stderr().write_all(text.as_bytes());
}

/// System calls by name, the most frequent first.
fn calls(report: &Report) -> Vec<(String, u64)> {
    let mut calls: Vec<_> =
        report.stats.syscalls.iter().map(|(number, n)| (call_name(*number).into_owned(), *n)).collect();
    calls.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    calls
}

fn lower(value: impl std::fmt::Debug) -> String {
    format!("{value:?}").to_ascii_lowercase()
}

fn list(items: impl IntoIterator<Item = (String, u64)>) -> String {
    let items: Vec<String> = items.into_iter().map(|(name, n)| format!("{name} {n}")).collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

fn text(report: &Report) -> String {
    let stats = &report.stats;
    let exits = &stats.exits;
    let time = |ns| format!("{:.3} ms", Duration::from_nanos(ns).as_secs_f64() * 1e3);
    let mut out = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(out, "dejavm: {name:<12} {what}");
    };
    let all = exits.syscalls
        + exits.instructions
        + exits.exceptions
        + exits.timers
        + exits.preemptions
        + exits.ports;
    line(
        "exits",
        format!(
            "{all}: {} system calls, {} instructions, {} exceptions, {} timers, {} preemptions, {} port accesses",
            exits.syscalls,
            exits.instructions,
            exits.exceptions,
            exits.timers,
            exits.preemptions,
            exits.ports
        ),
    );
    if stats.steps > 0 {
        line("steps", format!("{} instructions", stats.steps));
    }
    line("calls", list(calls(report).into_iter().take(TOP)));
    line("faults", list(stats.faults_by_rung.iter().map(|(rung, n)| (lower(rung), *n))));
    line("from", list(stats.faults_by_source.iter().map(|(source, n)| (lower(source), *n))));
    line("pages", format!("{} brought in ({})", stats.pages, bytes(stats.pages * PAGE)));
    if stats.evicted > 0 {
        line("evicted", format!("{} pages", stats.evicted));
    }
    line(
        "time",
        format!(
            "guest {}, monitor {}, of which page sources {}",
            time(stats.time.guest_ns),
            time(stats.time.monitor_ns),
            time(stats.time.fetch_ns)
        ),
    );
    let peak = peak_bytes().map_or_else(|| "unknown".into(), bytes);
    line(
        "memory",
        format!(
            "guest {} in {} slots, this process at its peak {peak}",
            bytes(stats.resident_bytes),
            stats.slots
        ),
    );
    if report.limits.any() {
        line("limits", format!("came to those of {}", report.limits.names().collect::<Vec<_>>().join(", ")));
    }
    if let Some(recording) = &report.recording {
        line("recording", format!("{} exits, log {}", recording.exits, bytes(recording.log_bytes)));
    }
    out
}

fn json(report: &Report) -> Value {
    let stats = &report.stats;
    let map = |items: Vec<(String, u64)>| -> Value {
        Value::Object(items.into_iter().map(|(name, n)| (name, n.into())).collect::<Map<_, _>>())
    };
    let unknown = report.unknown_calls.iter();
    let unknown = unknown.map(|(number, times)| (call_name(*number).into_owned(), *times));
    json!({
        "outcome": outcome(report),
        "exits": {
            "compared": report.exits,
            "syscalls": stats.exits.syscalls,
            "instructions": stats.exits.instructions,
            "exceptions": stats.exits.exceptions,
            "timers": stats.exits.timers,
            "preemptions": stats.exits.preemptions,
            "ports": stats.exits.ports,
        },
        "steps": stats.steps,
        "syscalls": map(calls(report)),
        "not_implemented": map(unknown.collect()),
        "no_device": map(report.unknown_ports.iter().map(|(port, n)| (format!("{port:#x}"), *n)).collect()),
        "no_memory": map(report.unknown_memory.iter().map(|(page, n)| (format!("{page:#x}"), *n)).collect()),
        "not_deterministic": report.not_deterministic.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "faults": {
            "total": stats.faults(),
            "by_rung": map(stats.faults_by_rung.iter().map(|(rung, n)| (lower(rung), *n)).collect()),
            "by_source": map(stats.faults_by_source.iter().map(|(source, n)| (lower(source), *n)).collect()),
        },
        "limits_hit": report.limits.names().collect::<Vec<_>>(),
        "pages": stats.pages,
        "page_bytes": stats.pages * PAGE,
        "evicted": stats.evicted,
        "slots": stats.slots,
        "time_ns": {
            "guest": stats.time.guest_ns,
            "monitor": stats.time.monitor_ns,
            "fetch": stats.time.fetch_ns,
        },
        "memory": { "guest_resident_bytes": stats.resident_bytes, "process_peak_bytes": peak_bytes() },
        "recording": report.recording.as_ref().map(|r| json!({
            "exits": r.exits,
            "digest": r.digest.to_string(),
            "log_bytes": r.log_bytes,
            "blobs": r.blobs,
            "blob_bytes": r.blob_bytes,
        })),
    })
}

/// How the run ended, for scripts.
fn outcome(report: &Report) -> Value {
    use dejavm::Outcome;
    match report.outcome {
        Outcome::Exited(status) => json!({ "exited": status }),
        Outcome::Signalled(signal) => json!({ "signalled": signal }),
        other => json!(lower(other)),
    }
}

const PAGE: u64 = dejavm::snapshot::PAGE_SIZE as u64;

/// The most memory that this process had.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{:.1} KiB", n as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", n as f64 / 1_073_741_824.0),
    }
}
