//! Questions, answers and faults in words.

use dejavm_sandbox::errno::Errno;
use dejavm_sandbox::exit::{Fault, SourceKind};
use dejavm_sandbox::world::{
    HostPath, Response, Source, Stream, TerminalAnswer, TerminalModes, TerminalRequest, Wake,
};

use crate::reader::rung_name;
use crate::record::{Answer, Asked, AskedChange};

/// A fault, such as `page 0x7f from the snapshot (annotated)`.
pub fn format_fault(fault: &Fault) -> String {
    format!("page {:#x} from {} ({})", fault.page, source_name(fault.source), rung_name(fault.rung))
}

pub(super) fn source_name(source: SourceKind) -> &'static str {
    match source {
        SourceKind::Zero => "zero",
        SourceKind::Snapshot => "snapshot",
        SourceKind::File => "file",
        SourceKind::Aside => "aside",
    }
}

/// A question, such as `output(stdout, 12 bytes)`.
pub fn format_asked(asked: &Asked) -> String {
    match asked {
        Asked::Clock => "clock()".into(),
        Asked::Input { max, wait } => {
            format!("input(at most {max} bytes{})", if *wait { ", wait" } else { "" })
        }
        Asked::Output { stream, len, digest } => {
            format!("output({}, {len} bytes, digest {digest:016x})", stream_name(*stream))
        }
        Asked::Metadata { path: p } | Asked::ReadLink { path: p } | Asked::ReadDir { path: p } => {
            format!("{}({})", asked.name(), path(p))
        }
        Asked::Wait { input, ns } => {
            let input = input.map(|source| format!("for {}", source_of(source)));
            let time = ns.map(|ns| format!("at most {ns} ns"));
            format!("wait({})", input.into_iter().chain(time).collect::<Vec<_>>().join(", "))
        }
        Asked::Signal { fatal: false } => "signal()".into(),
        Asked::Signal { fatal: true } => "signal(that ends it)".into(),
        Asked::Terminal(request) => format!("terminal({})", terminal_request(request)),
        Asked::OutputFile { stream, change } => {
            format!("output-file({}, {})", stream_name(*stream), output_change(change))
        }
    }
}

pub(super) fn output_change(change: &AskedChange) -> String {
    match change {
        AskedChange::Write { offset, len, digest } => {
            format!("{len} bytes at {offset}, digest {digest:016x}")
        }
        AskedChange::Append { len, digest } => format!("{len} bytes at the end, digest {digest:016x}"),
        AskedChange::Resize { len } => format!("to {len} bytes"),
        AskedChange::Sync => "sync".into(),
    }
}

pub(super) fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// An answer, such as `12 bytes` or `ENOENT`.
pub fn format_answer(answer: &Answer) -> String {
    match answer {
        Answer::Blob { len, id, .. } => format!("{len} bytes (content {id})"),
        Answer::Inline(response) => match response {
            Response::Clock(clock) => {
                format!("realtime {} ns, monotonic {} ns", clock.realtime, clock.monotonic)
            }
            Response::Output(Ok(taken)) | Response::OutputFile(Ok(taken)) => format!("{taken} bytes"),
            Response::Input(Ok(bytes)) => format!("{} bytes", bytes.len()),
            Response::Block(Ok(bytes)) => format!("{} bytes", bytes.len()),
            Response::Link(Ok(target)) => format!("{:?}", String::from_utf8_lossy(target)),
            Response::Metadata(Ok(m)) => {
                format!("{:?}, mode {:#o}, {} bytes", m.kind, m.mode, m.size)
            }
            Response::Dir(Ok(entries)) => format!("{} names", entries.len()),
            Response::Input(Err(e)) | Response::Link(Err(e)) | Response::Block(Err(e)) => errno(*e),
            Response::Output(Err(e)) | Response::OutputFile(Err(e)) => errno(*e),
            Response::Metadata(Err(e)) => errno(*e),
            Response::Dir(Err(e)) => errno(*e),
            Response::Wait(woken) => format!("{} after {} ns", wake(woken.by), woken.ns),
            Response::Signal(Some(signal)) => super::names::signal(u64::from(*signal)),
            Response::Signal(None) => "none".into(),
            Response::Terminal(Ok(answer)) => terminal_answer(answer),
            Response::Terminal(Err(e)) => errno(*e),
        },
    }
}

pub(super) fn source_of(source: Source) -> &'static str {
    match source {
        Source::Stdin => "stdin",
        Source::Terminal => "terminal",
    }
}

pub(super) fn wake(by: Wake) -> &'static str {
    match by {
        Wake::Input => "input",
        Wake::Time => "time",
        Wake::Signal => "signal",
        Wake::Never => "never",
    }
}

pub(super) fn terminal_request(request: &TerminalRequest) -> String {
    match request {
        TerminalRequest::Modes => "modes".into(),
        TerminalRequest::SetModes(modes) => format!("set modes {}", terminal_modes(modes)),
        TerminalRequest::Size => "size".into(),
        TerminalRequest::SetSize([rows, columns, ..]) => format!("set size {rows}x{columns}"),
        TerminalRequest::Flush(queue) => format!("flush {queue}"),
        TerminalRequest::Drain => "drain".into(),
        TerminalRequest::Available => "available".into(),
        TerminalRequest::Read(max) => format!("read at most {max} bytes"),
    }
}

fn terminal_modes(modes: &TerminalModes) -> String {
    let [input, output, control, local] = modes.flags;
    format!("i={input:#x} o={output:#x} c={control:#x} l={local:#x}")
}

fn terminal_answer(answer: &TerminalAnswer) -> String {
    match answer {
        TerminalAnswer::Done => "done".into(),
        TerminalAnswer::Modes(modes) => terminal_modes(modes),
        TerminalAnswer::Size([rows, columns, ..]) => format!("{rows}x{columns}"),
        TerminalAnswer::Available(n) => format!("{n} bytes"),
        TerminalAnswer::Read(bytes) => format!("{} bytes", bytes.len()),
    }
}

fn errno(errno: Errno) -> String {
    format!("{errno:?}")
}

/// A host path as `grant:path`; control characters are escaped, since a guest may have chosen it.
pub(crate) fn path(path: &HostPath) -> String {
    let text = String::from_utf8_lossy(&path.path);
    format!("{}:{}", path.grant, text.escape_debug())
}
