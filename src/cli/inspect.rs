//! `dejavm inspect`

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use dejavm::replay::{Ending, Recording, is_pack};
use dejavm::sandbox::kernel::state::KernelState;
use dejavm::snapshot::PAGE_SIZE;
use dejavm::{Image, MachineState};
use serde_json::{Value, json};

use super::failure::{json_line, shown};
use super::stats::bytes;
use super::{Failure, Result};

/// Says what is in a snapshot or a recording.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dejavm inspect py.dvm
  dejavm inspect rec --verify
  dejavm inspect rec --json | jq .log.bytes_per_exit")]
pub struct Args {
    /// A snapshot file, or a recording: its directory or pack.
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// Reads and checks all of it.
    #[arg(long)]
    verify: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub fn main(args: Args) -> Result {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let metadata = std::fs::metadata(&args.path)
        .map_err(|e| Failure::new(format_args!("{}: {e}", args.path.display())))?;
    if metadata.is_dir() || is_pack(&args.path) {
        recording(&args, &mut out)?
    } else {
        snapshot(&args, &mut out)?
    }
    out.flush()?;
    Ok(0)
}

fn snapshot(args: &Args, out: &mut dyn Write) -> Result<()> {
    let image = Image::open(&args.path)?;
    let snapshot = image.snapshot();
    let info = if args.verify { snapshot.verify(|_, _| {})? } else { snapshot.info()? };
    let state = image.state();
    let command: Vec<String> =
        state.command().iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
    if args.json {
        let mut value = serde_json::to_value(&info).map_err(Failure::new)?;
        if let Value::Object(object) = &mut value {
            object.insert("image_ratio".into(), json!(info.image_ratio()));
            object.insert("compression_ratio".into(), json!(info.compression_ratio()));
            object.insert("command".into(), json!(command));
            object.insert("exits".into(), json!(state.exits()));
            object.insert("seed".into(), json!(state.seed()));
            object.insert("cpu".into(), json!(state.cpu()));
            object.insert("mounts".into(), json!(mounts(&image)));
            object.insert("verified".into(), json!(args.verify));
            if let Some(kernel) = state.kernel() {
                object.insert("kept".into(), kept_json(kernel));
            }
        }
        writeln!(out, "{}", json_line(&value))?;
        return Ok(());
    }
    let pages = &info.pages;
    writeln!(out, "snapshot     {}", info.id)?;
    if let Some(parent) = &info.parent_id {
        writeln!(out, "parent       {parent}, {} files in all", info.layers)?;
    }
    writeln!(
        out,
        "written by   {}, format {}, level {}",
        shown(&info.created_by),
        info.format_version,
        info.level
    )?;
    match state {
        MachineState::Program(program) => {
            let loaded = if program.pending.is_some() { ", not loaded yet" } else { "" };
            writeln!(out, "program      {}{loaded}", words(&state.command()))?;
        }
        MachineState::Kernel(_) => writeln!(out, "kernel       {}", words(&state.command()))?,
    }
    writeln!(out, "at           exit {}, seed {}", state.exits(), state.seed())?;
    writeln!(out, "cpu          {}", shown(&state.cpu()))?;
    match state {
        MachineState::Program(_) => writeln!(out, "sees         {}", shown(&mounts(&image).join(" ")))?,
        MachineState::Kernel(kernel) => writeln!(out, "kept         {}", kept(kernel))?,
    }
    writeln!(
        out,
        "file         {}: pages {}, index {}, state {}, dictionary {}",
        bytes(info.file_bytes),
        bytes(info.frames_bytes),
        bytes(info.index_bytes),
        bytes(info.state_bytes),
        bytes(info.dictionary_bytes)
    )?;
    writeln!(
        out,
        "image        {} in {} pages: {} compressed, {} raw, {} repeated, {} zero, {} the parent's",
        bytes(info.page_count * PAGE_SIZE as u64),
        info.page_count,
        pages.compressed,
        pages.raw,
        pages.repeated,
        pages.zero,
        pages.parent
    )?;
    writeln!(
        out,
        "ratio        {:.1} image to file, {:.2} stored pages to their bytes",
        info.image_ratio(),
        info.compression_ratio()
    )?;
    match &info.working_set {
        None => writeln!(out, "working set  none; `dejavm warm` stores one")?,
        Some(set) => writeln!(
            out,
            "working set  {} pages ({} zero) in {} clusters, {} of them wanted before the first answer, {}",
            set.pages,
            set.zero_pages,
            set.clusters,
            set.first_clusters,
            bytes(set.bytes)
        )?,
    }
    if args.verify {
        writeln!(out, "verified     everything")?;
    }
    Ok(())
}

/// The guest paths that show something of the host's.
fn mounts(image: &Image) -> Vec<String> {
    use dejavm::sandbox::program::fs::MountSource::{Directory, File};
    let mounts = image.state().program().map_or(&[][..], |program| program.fs.mounts()).iter();
    let shown = mounts.filter(|m| matches!(m.source, Directory { .. } | File { .. }));
    shown.map(|m| String::from_utf8_lossy(&m.path).into_owned()).collect()
}

/// The pages of a bare-metal guest that are there before it runs, by reason, and their share of its
/// memory.
fn kept(kernel: &KernelState) -> String {
    let pages = kernel.kept.len();
    let share = pages as f64 / kernel.pages().max(1) as f64 * 100.0;
    let by_reason = kernel.kept.by_reason();
    let reasons: Vec<String> = by_reason.iter().map(|(why, n)| format!("{n} {}", why.text())).collect();
    let reasons = if reasons.is_empty() { "none".into() } else { reasons.join(", ") };
    format!("{pages} pages present before it runs, {share:.2} % of memory: {reasons}")
}

fn kept_json(kernel: &KernelState) -> Value {
    let by_reason = kernel.kept.by_reason();
    let reasons = by_reason.iter().map(|(why, n)| (why.text().replace(' ', "_"), json!(n)));
    json!({
        "pages": kernel.kept.len(),
        "share": kernel.kept.len() as f64 / kernel.pages().max(1) as f64,
        "by_reason": Value::Object(reasons.collect()),
    })
}

fn words(args: &[Vec<u8>]) -> String {
    args.iter()
        .map(|arg| String::from_utf8_lossy(arg).escape_debug().to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

fn recording(args: &Args, out: &mut dyn Write) -> Result<()> {
    let recording = Recording::open(&args.path)?;
    if args.verify {
        verify(&recording)?;
    }
    let info = recording.info()?;
    let manifest = recording.manifest();
    let snapshot_bytes = recording.start().open().ok().map(|start| start.length());
    if args.json {
        let value = json!({
            "manifest": manifest,
            "log": info,
            "start_bytes": snapshot_bytes,
            "verified": args.verify,
        });
        writeln!(out, "{}", json_line(&value))?;
        return Ok(());
    }
    let command: Vec<String> = manifest.command.iter().map(|arg| arg.escape_debug().to_string()).collect();
    writeln!(out, "recording    format {}, written by {}", manifest.format, shown(&manifest.created_by))?;
    writeln!(out, "program      {}", command.join(" "))?;
    writeln!(
        out,
        "start        {} ({}), seed {}, clock {} from {} ns",
        shown(&manifest.snapshot.file),
        snapshot_bytes.map_or_else(|| "missing".into(), bytes),
        manifest.seed,
        shown(&manifest.clock),
        manifest.start
    )?;
    if let (1.., Some((first, last))) = (manifest.dropped, recording.exit_range()) {
        writeln!(
            out,
            "part         exits {first} to {last}, the {} before were dropped (--ring)",
            manifest.dropped
        )?;
    }
    writeln!(out, "cpu          {}", shown(&manifest.cpu))?;
    writeln!(out, "ending       {}", shown(&info.ending))?;
    let kinds: u64 = info.faults_by_rung.values().sum();
    writeln!(
        out,
        "exits        {}, {:.1} bytes an exit; {kinds} page faults",
        info.exits, info.bytes_per_exit
    )?;
    writeln!(
        out,
        "log          {} in {} blocks: contents {} of {} in {}",
        bytes(info.log_bytes),
        info.blocks,
        info.blobs,
        bytes(info.blob_bytes),
        bytes(info.blob_stored_bytes)
    )?;
    writeln!(out, "by kind      {}", list(&info.exits_by_kind))?;
    writeln!(out, "faults       {}", list(&info.faults_by_rung))?;
    writeln!(out, "answers      {}", list(&info.answers_by_kind))?;
    writeln!(out, "digest       {}", info.digest)?;
    if args.verify {
        writeln!(out, "verified     everything")?;
    }
    Ok(())
}

/// Reads and checks the log and the start snapshot.
fn verify(recording: &Recording) -> Result<()> {
    recording.verify()?;
    if let Ending::Damaged { .. } = recording.ending() {
        return Err(Failure::new(format_args!("{}: {}", recording.path().display(), recording.ending())));
    }
    let manifest = recording.manifest();
    let image = Image::of_start(recording)?;
    image.snapshot().verify(|_, _| {})?;
    let (expected, found) = (manifest.snapshot.id, image.snapshot().id());
    if expected != found {
        let path = image.snapshot().path().to_owned();
        return Err(dejavm::Error::WrongSnapshot { path, expected, found }.into());
    }
    let digest = recording.digest()?.to_string();
    match &manifest.digest {
        Some(promised) if *promised != digest => Err(Failure::new(format_args!(
            "{}: the manifest promises digest {promised}, the log has {digest}; restore it from a copy",
            recording.path().display()
        ))),
        _ => Ok(()),
    }
}

/// Counts, the largest first.
fn list<K: std::fmt::Display>(counts: &std::collections::BTreeMap<K, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by(|a, b| b.1.cmp(a.1));
    let items: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}
