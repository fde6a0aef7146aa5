//! Random instructions at CPL 3: a signal, an end or the deadline, as the same bytes have natively, and the
//! replay does the same.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dejavm::{Evict, Host, Program, Replay};
use iced_x86::{Decoder, DecoderOptions, Mnemonic};

use crate::harness::{Draw, Fuzzer, build, kind_of, stay_on_one_cpu};

/// Pieces of code in a case.
const PIECES: usize = 64;
/// Pieces that end by nothing are ended by then, and those behind them with them.
const DEADLINE: Duration = Duration::from_secs(2);
const MEMORY: u64 = 16 << 20;
/// Bytes of code in a piece.
const CODE: usize = 64;
/// Bytes of a result: see the guest.
const RESULT: usize = 24;
/// Where the guest has its code and its data.
const CODE_AT: u64 = 0x1000_0000;
const DATA_AT: u64 = 0x2000_0000;
/// `RFLAGS.TF`.
const TRACE: u64 = 0x100;

/// Instructions that are worth more tries than chance gives them: ports, interrupts, system calls, what is
/// privileged, segments, far transfers, state that the monitor keeps.
const SPECIAL: &[&[u8]] = &[
    &[0xe4, 0x10],
    &[0xe5, 0x10],
    &[0xe6, 0x10],
    &[0xe7, 0x10],
    &[0xec],
    &[0xed],
    &[0xee],
    &[0xef],
    &[0x6c],
    &[0x6d],
    &[0x6e],
    &[0x6f],
    &[0xf3, 0x6c],
    &[0xf3, 0x6e],
    &[0xf3, 0x6f],
    &[0x66, 0x6f],
    &[0xcc],
    &[0xcd],
    &[0xcd, 0x80],
    &[0xcd, 0x01],
    &[0xcd, 0x02],
    &[0xcd, 0x03],
    &[0xcd, 0x04],
    &[0xcd, 0x0e],
    &[0xcd, 0x20],
    &[0xce],
    &[0xcf],
    &[0x48, 0xcf],
    &[0xf1],
    &[0xf4],
    &[0xfa],
    &[0xfb],
    &[0x9c],
    &[0x9d],
    &[0x0f, 0x01],
    &[0x0f, 0x01, 0xd0],
    &[0x0f, 0x01, 0xd1],
    &[0x0f, 0x01, 0xd9],
    &[0x0f, 0x01, 0xc1],
    &[0x0f, 0x01, 0xc2],
    &[0x0f, 0x01, 0xc8],
    &[0x0f, 0x01, 0xca],
    &[0x0f, 0x01, 0xcb],
    &[0x0f, 0x01, 0xee],
    &[0x0f, 0x01, 0xef],
    &[0x0f, 0x01, 0xf8],
    &[0x0f, 0x01, 0xf9],
    &[0x0f, 0x00],
    &[0x0f, 0x20],
    &[0x0f, 0x21],
    &[0x0f, 0x22],
    &[0x0f, 0x23],
    &[0x0f, 0x30],
    &[0x0f, 0x31],
    &[0x0f, 0x32],
    &[0x0f, 0x33],
    &[0x0f, 0x06],
    &[0x0f, 0x07],
    &[0x48, 0x0f, 0x07],
    &[0x0f, 0x08],
    &[0x0f, 0x09],
    &[0x0f, 0x35],
    &[0x48, 0x0f, 0x35],
    &[0x0f, 0x05],
    &[0x0f, 0x34],
    &[0x8e],
    &[0x8c],
    &[0xca],
    &[0xcb],
    &[0x48, 0xcb],
    &[0xff],
    &[0x48, 0xff],
    &[0x0f, 0xae],
    &[0x48, 0x0f, 0xae],
    &[0x0f, 0xc7],
    &[0x48, 0x0f, 0xc7],
    &[0x0f, 0xa0],
    &[0x0f, 0xa1],
    &[0x0f, 0xa8],
    &[0x0f, 0xa9],
    &[0x0f, 0xb2],
    &[0x0f, 0xb4],
    &[0x0f, 0xb5],
    &[0x0f, 0x02],
    &[0x0f, 0x03],
    &[0xf0],
    &[0xc8],
    &[0xc9],
    &[0x0f, 0x0d],
    &[0x0f, 0x18],
    &[0xd9],
    &[0xdd],
    &[0xdb],
    &[0x9b],
    &[0xc5],
    &[0xc4],
    &[0x62],
    &[0x8f],
    &[0xf3, 0x0f, 0xae],
    &[0xf3, 0x48, 0x0f, 0xae],
    &[0x0f, 0xff],
    &[0x0f, 0x0b],
    &[0x0f, 0xb9],
    &[0xe2],
    &[0xe3],
    &[0xa4],
    &[0xf3, 0xa4],
    &[0xaa],
    &[0xf3, 0xab],
    &[0x0f, 0xa2],
    &[0xf3, 0x90],
    &[0xc6, 0xf8],
    &[0xc7, 0xf8],
    &[0xf3, 0x0f, 0x1e, 0xfa],
    &[0xf3, 0x48, 0x0f, 0x1e, 0xc8],
    &[0x17],
    &[0x06],
    &[0x9a],
    &[0xea],
    &[0xd6],
    &[0x37],
    &[0x27],
    &[0x82],
    &[0x0f, 0x37],
    &[0x0f, 0x24],
    &[0x0f, 0x3f],
];

/// One instruction that a decoder takes for one, mostly: prefixes, an opcode of any map, operands.
fn instruction(draw: &mut Draw) -> Vec<u8> {
    loop {
        let mut bytes = Vec::new();
        for prefix in [0x66, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67] {
            if draw.once_in(12) {
                bytes.push(prefix);
            }
        }
        match draw.below(10) {
            // VEX of two and three bytes, and EVEX.
            0 => bytes.extend([0xc5, draw.next() as u8]),
            1 => bytes.extend([0xc4, draw.next() as u8 & 0xe3, draw.next() as u8]),
            2 => bytes.extend([0x62, draw.next() as u8 & 0xf7, draw.next() as u8 | 4, draw.next() as u8]),
            3..6 => bytes.push(0x0f),
            6 => bytes.extend([0x0f, *draw.one_of(&[0x38, 0x3a])]),
            7 => bytes.extend([0x40 | draw.below(16) as u8, 0x0f]),
            8 => bytes.push(0x40 | draw.below(16) as u8),
            _ => {}
        }
        bytes.push(draw.next() as u8);
        bytes.push(match draw.below(3) {
            0 => draw.next() as u8,
            1 => draw.next() as u8 | 0xc0,
            // A register and eight bits.
            _ => draw.next() as u8 & 0x3f | 0x40,
        });
        bytes.extend(draw.next().to_le_bytes());
        bytes.extend(draw.next().to_le_bytes());
        let mut decoder = Decoder::new(64, &bytes, DecoderOptions::NONE);
        let decoded = decoder.decode();
        if !decoded.is_invalid() {
            bytes.truncate(decoded.len());
            return bytes;
        }
        if draw.once_in(40) {
            bytes.truncate(1 + draw.below(8));
            return bytes;
        }
    }
}

/// Whether one of the instructions in these bytes, begun anywhere, cannot be kept to the seed in anonymous
/// memory (see `docs/determinism.md`).
fn is_unsupported(code: &[u8]) -> bool {
    (0..code.len()).any(|at| {
        let decoded = Decoder::new(64, &code[at..], DecoderOptions::NONE).decode();
        let draws = [Mnemonic::Rdrand, Mnemonic::Rdseed, Mnemonic::Rdpid];
        let tables = [Mnemonic::Sgdt, Mnemonic::Sldt, Mnemonic::Lsl];
        let nests = decoded.mnemonic() == Mnemonic::Enter && decoded.immediate8_2nd() != 0;
        draws.contains(&decoded.mnemonic()) || tables.contains(&decoded.mnemonic()) || nests
    }) || code.windows(3).any(|three| {
        // Invalid, and yet emulated by some KVMs, as what they are without the prefix: it depends on the
        // pages that are there.
        matches!(three, [0xf2 | 0xf3, 0x0f, 0xae] | [0x40..0x50, 0x0f, 0xae])
    })
}

/// Whether bytes may ask the kernel for something.
fn has_call(code: &[u8]) -> bool {
    code.windows(2).any(|two| matches!(two, [0x0f, 0x05 | 0x34] | [0xcd, 0x80]))
}

fn code(draw: &mut Draw) -> Vec<u8> {
    let mut code = Vec::new();
    for _ in 0..1 + draw.below(8) {
        match draw.below(6) {
            0 => code.extend((0..1 + draw.below(6)).map(|_| draw.next() as u8)),
            1 => {
                code.extend(*draw.one_of(SPECIAL));
                code.extend((0..draw.below(3)).map(|_| draw.next() as u8));
            }
            _ => code.extend(instruction(draw)),
        }
    }
    code.resize(CODE, 0xcc);
    code
}

/// One piece as the guest reads it.
fn piece(draw: &mut Draw, calls: bool) -> Vec<u8> {
    let code = loop {
        let code = code(draw);
        if !is_unsupported(&code) && (calls || !has_call(&code)) {
            break code;
        }
    };
    // Some end in the middle of an instruction at the page's end.
    let offset = if draw.once_in(8) { 4096 - 1 - draw.below(24) as u64 } else { draw.below(64) as u64 };
    let mut words = vec![offset];
    for number in 0..16 {
        // RSP points to the data, mostly.
        words.push(match draw.below(if number == 4 { 40 } else { 10 }) {
            0 => draw.next(),
            1 => draw.number(0),
            2 => CODE_AT + draw.below(64) as u64,
            3 => *draw.one_of(&[0x10, 0x60, 0x64, 0x70, 0x3f8, 0xe9, 0xf4, 0x23, 0x2b, 0x33]),
            4 => draw.below(16) as u64,
            _ => DATA_AT + 0x4000 + draw.below(0x400) as u64 * 8,
        });
    }
    // Status flags, sometimes DF, AC, NT, ID; mostly one step at a time, so that loops come to an end.
    let mut flags = draw.next() & 0x8d5 | 0x202;
    for bit in [0x400, 0x4_0000, 0x4000, 0x20_0000] {
        if draw.once_in(16) {
            flags |= bit;
        }
    }
    if !draw.once_in(4) {
        flags |= TRACE;
    }
    words.push(flags);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(code);
    bytes
}

/// What came of a piece: the signal, its code, and where in the code it was.
type Came = (u32, u32, i64);

fn came(results: &[u8]) -> Vec<Came> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let one = |r: &[u8]| (word(&r[..4]), word(&r[4..8]), i64::from_le_bytes(r[8..16].try_into().expect("8")));
    results.chunks_exact(RESULT).map(one).collect()
}

fn native(program: &Path, input: &[u8]) -> Vec<Came> {
    let mut child = Command::new(program)
        .arg("native")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the guest starts");
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads all");
    came(&child.wait_with_output().expect("it ends").stdout)
}

/// How many pieces were compared, and those that came to another end.
#[derive(Default)]
struct Compared {
    pieces: usize,
    other_signal: usize,
    other_place: usize,
    shown: usize,
}

impl Compared {
    fn add(&mut self, seed: u64, input: &[u8], native: &[Came], seen: &[Came]) {
        let size = 18 * 8 + CODE;
        for (number, (native, seen)) in native.iter().zip(seen).enumerate() {
            self.pieces += 1;
            if native == seen {
                continue;
            }
            let other_signal = native.0 != seen.0;
            if other_signal {
                self.other_signal += 1
            } else {
                self.other_place += 1
            };
            self.shown += 1;
            if self.shown > 60 {
                continue;
            }
            let piece = &input[number * size..][..size];
            let code = &piece[18 * 8..];
            let at = u64::from_le_bytes(piece[..8].try_into().expect("8"));
            let place = usize::try_from(native.2.min(seen.2)).ok().and_then(|p| p.checked_sub(at as usize));
            let bytes = place.and_then(|p| code.get(p..)).unwrap_or(code);
            let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
            println!(
                "seed {seed} piece {number}: native {native:?}, seen {seen:?}: {} {:02x?}",
                decoder.decode(),
                &bytes[..bytes.len().min(12)]
            );
        }
    }
}

#[test]
fn instructions() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = [
        "-static",
        "-nostdlib",
        "-ffreestanding",
        "-fno-stack-protector",
        "-fcf-protection=none",
        "-mgeneral-regs-only",
        "-no-pie",
        "-fno-pie",
    ];
    let program = build(dir.path(), "guests/fuzz_code.c", &flags);
    let host = Host::probe().expect("KVM");
    stay_on_one_cpu();
    let mut compared = Compared::default();
    let mut pieces = 0;
    let fuzzer = Fuzzer { name: "instructions", cases: 4, time: DEADLINE * 2, grants: MEMORY + (8 << 20) };
    fuzzer.run(|seed| {
        let mut draw = Draw::new(seed);
        let calls = draw.once_in(4);
        let input: Vec<u8> = (0..PIECES).flat_map(|_| piece(&mut draw, calls)).collect();
        let recording = dir.path().join(format!("recording-{seed}"));
        let start = Program::new(&program)
            .show(dir.path(), dir.path())
            .memory(MEMORY)
            .disk(8 << 20)
            .stdin(input.clone())
            .capture_output()
            .capture_limit(1 << 20)
            .deadline(DEADLINE)
            .record(&recording)
            .start(&host);
        let run = start.and_then(|mut sandbox| sandbox.run()).map_err(|e| format!("run: {e}"))?;
        let evict = Evict { every: 5, seed };
        let replay = Replay::open(&recording).and_then(|r| r.evict(evict).capture_output().start(&host));
        let again = replay.and_then(|mut sandbox| sandbox.run()).map_err(|e| format!("replay: {e}"))?;
        if (again.outcome, &again.stdout, again.exits) != (run.outcome, &run.stdout, run.exits) {
            return Err(format!("{:?}, and replayed {:?}", run.outcome, again.outcome));
        }
        std::fs::remove_dir_all(&recording).map_err(|e| e.to_string())?;
        let seen = came(&run.stdout);
        pieces += seen.len();
        if !calls {
            compared.add(seed, &input, &native(&program, &input), &seen);
        }
        Ok(kind_of(run.outcome))
    });
    let Compared { pieces: compared, other_signal, other_place, .. } = compared;
    println!(
        "{pieces} pieces; of {compared} that ran natively, {other_signal} ended by another signal there, \
              {other_place} at another place"
    );
    assert!(compared > 64 && (other_signal + other_place) * 20 < compared, "as natively, mostly");
}
