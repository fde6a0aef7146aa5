//! Records as JSON.
//!
//! Machine words (arguments, RIP, results, digests) are hexadecimal strings, since many JSON
//! readers keep 53 bits of a number only; counts and nanoseconds are numbers.

use dejavm_sandbox::exit::{Exit, ExitKind, Trapped};
use dejavm_sandbox::world::{HostPath, Response, TerminalAnswer};
use serde_json::{Map, Value, json};

use super::{call, errno_of, words};
use crate::reader::rung_name;
use crate::record::{Answer, Asked, Record};

/// A record as a JSON object, with its kind in `type`: `exit`, `fault`, `world` or `keyed`.
pub fn json_record(record: &Record) -> Value {
    match record {
        Record::Exit(exit) => json_exit(exit),
        Record::Fault(fault) => json!({
            "type": "fault",
            "page": hex(fault.page),
            "rung": rung_name(fault.rung),
            "source": words::source_name(fault.source),
        }),
        Record::World(world) => {
            let mut object = asked(&world.asked);
            object.insert("type".into(), "world".into());
            object.insert("answer".into(), answer(&world.answer));
            Value::Object(object)
        }
        Record::Keyed(keyed) => json!({
            "type": "keyed",
            "ask": "read-block",
            "path": path(&keyed.path),
            "block": keyed.block,
            "answer": answer(&keyed.answer),
        }),
    }
}

/// An exit as a JSON object of type `exit`.
pub fn json_exit(exit: &Exit) -> Value {
    let mut object = json!({
        "type": "exit",
        "number": exit.number,
        "task": exit.task,
        "rip": hex(exit.rip),
        "result": hex(exit.result),
        "effects": hex(exit.effects),
        "clock": exit.clock,
    });
    let what = match &exit.kind {
        ExitKind::Syscall { number, args } => {
            let (name, kinds) = call(*number);
            let mut what = json!({
                "kind": "syscall",
                "call": name,
                "nr": number,
                "args": args.iter().zip(kinds).map(|(&a, _)| hex(a)).collect::<Vec<_>>(),
            });
            if let Some(errno) = errno_of(exit.result) {
                what["errno"] = json!(errno.name().map_or_else(|| errno.number().to_string(), str::to_owned));
            }
            what
        }
        ExitKind::Instruction(Trapped::Rdtsc) => json!({ "kind": "rdtsc" }),
        ExitKind::Instruction(Trapped::Rdtscp) => json!({ "kind": "rdtscp" }),
        ExitKind::Instruction(Trapped::Rdrand) => json!({ "kind": "rdrand" }),
        ExitKind::Instruction(Trapped::Rdseed) => json!({ "kind": "rdseed" }),
        ExitKind::Instruction(Trapped::Pause) => json!({ "kind": "pause" }),
        ExitKind::Instruction(Trapped::Rdpid) => json!({ "kind": "rdpid" }),
        ExitKind::Instruction(Trapped::Xgetbv) => json!({ "kind": "xgetbv" }),
        ExitKind::Instruction(Trapped::Cpuid { leaf, subleaf }) => {
            json!({ "kind": "cpuid", "leaf": hex(u64::from(*leaf)), "subleaf": hex(u64::from(*subleaf)) })
        }
        ExitKind::Exception { vector, code, address } => {
            json!({ "kind": "exception", "vector": vector, "code": hex(*code), "address": hex(*address) })
        }
        ExitKind::End { status } => json!({ "kind": "end", "status": status }),
        ExitKind::In { port, len } => json!({ "kind": "in", "port": hex(u64::from(*port)), "len": len }),
        ExitKind::Out { port, len } => json!({ "kind": "out", "port": hex(u64::from(*port)), "len": len }),
        ExitKind::Timer { steps } => json!({ "kind": "timer", "steps": steps }),
        ExitKind::Preempted { steps } => json!({ "kind": "preempted", "steps": steps }),
        ExitKind::Sliced { branches } => json!({ "kind": "sliced", "branches": branches }),
        ExitKind::Circle { steps } => json!({ "kind": "circle", "steps": steps }),
    };
    if let (Some(object), Value::Object(what)) = (object.as_object_mut(), what) {
        object.extend(what);
    }
    object
}

fn asked(asked: &Asked) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("ask".into(), asked.name().into());
    let mut put = |name: &str, value: Value| drop(object.insert(name.into(), value));
    match asked {
        Asked::Clock => {}
        Asked::Input { max, wait } => {
            put("max", json!(max));
            put("wait", json!(wait));
        }
        Asked::Output { stream, len, digest } => {
            put("stream", json!(words::stream_name(*stream)));
            put("len", json!(len));
            put("digest", json!(hex(*digest)));
        }
        Asked::Metadata { path: p } | Asked::ReadLink { path: p } | Asked::ReadDir { path: p } => {
            put("path", json!(path(p)));
        }
        Asked::Wait { input, ns } => {
            put("input", json!(input.map(words::source_of)));
            put("ns", json!(ns));
        }
        Asked::Signal { fatal } => put("fatal", json!(fatal)),
        Asked::Terminal(request) => put("what", json!(words::terminal_request(request))),
        Asked::OutputFile { stream, change } => {
            put("stream", json!(words::stream_name(*stream)));
            put("what", json!(words::output_change(change)));
        }
    }
    object
}

fn bytes_of(bytes: &[u8]) -> Value {
    json!({ "len": bytes.len(), "hex": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() })
}

fn answer(answer: &Answer) -> Value {
    match answer {
        Answer::Blob { id, len, .. } => json!({ "len": len, "content": id.to_string() }),
        Answer::Inline(response) => match response {
            Response::Clock(clock) => {
                json!({ "realtime": clock.realtime, "monotonic": clock.monotonic })
            }
            Response::Output(Ok(taken)) | Response::OutputFile(Ok(taken)) => json!({ "len": taken }),
            Response::Input(Ok(bytes)) => bytes_of(bytes),
            Response::Block(Ok(bytes)) => bytes_of(bytes),
            Response::Link(Ok(target)) => json!({ "target": String::from_utf8_lossy(target) }),
            Response::Metadata(Ok(m)) => json!({
                "kind": format!("{:?}", m.kind).to_lowercase(),
                "mode": format!("{:#o}", m.mode),
                "uid": m.uid,
                "gid": m.gid,
                "size": m.size,
                "nlink": m.nlink,
                "mtime": m.mtime,
            }),
            Response::Dir(Ok(entries)) => {
                json!({ "names": entries.iter().map(|e| String::from_utf8_lossy(&e.name)).collect::<Vec<_>>() })
            }
            Response::Wait(woken) => json!({ "by": words::wake(woken.by), "ns": woken.ns }),
            Response::Signal(signal) => json!({ "signal": signal }),
            Response::Terminal(Ok(TerminalAnswer::Read(bytes))) => bytes_of(bytes),
            Response::Terminal(Ok(_)) => json!({ "terminal": words_errno(response) }),
            _ => json!({ "errno": words_errno(response) }),
        },
    }
}

fn words_errno(response: &Response) -> String {
    words::format_answer(&Answer::Inline(response.clone()))
}

fn path(path: &HostPath) -> Value {
    json!({ "grant": path.grant, "path": String::from_utf8_lossy(&path.path) })
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_one_flat_object() {
        let exit = Exit {
            number: 3,
            task: 2,
            kind: ExitKind::Syscall { number: 3, args: [7, 1, 1, 1, 1, 1] },
            rip: 0x40_1000,
            result: (-9i64) as u64,
            effects: 0,
            clock: 17,
        };
        let expected = json!({
            "type": "exit", "number": 3, "task": 2, "kind": "syscall", "call": "close", "nr": 3, "args": ["0x7"],
            "errno": "EBADF", "rip": "0x401000", "result": "0xfffffffffffffff7", "effects": "0x0", "clock": 17,
        });
        assert_eq!(json_exit(&exit), expected);
    }

    #[test]
    fn every_record_has_a_type() {
        let path = HostPath { grant: 1, path: b"etc/x\n".to_vec() };
        let inline = |response| Answer::Inline(response);
        let records = [
            Record::World(crate::WorldRecord {
                asked: Asked::Metadata { path: path.clone() },
                answer: inline(Response::Metadata(Err(dejavm_sandbox::errno::Errno::ENOENT))),
            }),
            Record::Keyed(crate::KeyedRecord {
                path,
                block: 2,
                answer: inline(Response::Block(Ok([1, 255].into()))),
            }),
        ];
        let json: Vec<Value> = records.iter().map(json_record).collect();
        assert_eq!(json[0]["type"], "world");
        assert_eq!(json[0]["ask"], "metadata");
        assert_eq!(json[0]["answer"]["errno"], "ENOENT");
        assert_eq!(json[1]["type"], "keyed");
        assert_eq!(json[1]["answer"]["hex"], "01ff");
        assert_eq!(json[1]["path"]["path"], "etc/x\n");
        assert!(!super::super::format_record(&records[0]).contains('\n'), "control characters are escaped");
    }
}
