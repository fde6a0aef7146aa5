//! Packets of the remote serial protocol that gdbstub has only a part of, or not at all: conditions of breakpoints are
//! taken out of them on their way, and answers are changed on theirs.

use std::collections::{BTreeMap, BTreeSet};

/// What is added to the answer to `qSupported`.
const FEATURES: &[u8] = b";ConditionalBreakpoints+;QPassSignals+";

/// What names the signals that a debugger does not want to be told of (gdb's manual, "General Query Packets").
const PASS_SIGNALS: &[u8] = b"QPassSignals:";

/// The answer to `qAttached` of a program that is there for its debugger, which kills it when it goes, unless it is
/// told to let go of it (gdb's manual, "General Query Packets").
const STARTED: &[u8] = b"0";

/// What a packet asks for whose answer is not gdbstub's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// What there is.
    Features,
    /// Whether the program was there before its debugger.
    Attached,
    /// That the program is killed, to which gdbstub says nothing.
    Death,
    /// That some signals are not told of.
    Passing,
}

/// Bytes of a packet that is looked at. gdbstub says that it takes 4 KiB.
const PACKET_MAX: usize = 64 << 10;

/// Of breakpoints by their address: expressions in gdb's agent bytecode. One of them has to hold.
pub(super) type Conditions = BTreeMap<u64, Vec<Vec<u8>>>;

/// What comes from the debugger, packet by packet.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// A packet of which more is to come, with its `$`.
    packet: Vec<u8>,
    /// Digits of the checksum that are to come.
    digits: Option<u8>,
    /// Conditions of the breakpoints that are set.
    pub conditions: Conditions,
    /// Signals that the debugger is not to be told of, by gdb's numbers.
    pub passed: BTreeSet<u8>,
    /// What the last packet asks for.
    pub asked: Option<Asked>,
}

impl Incoming {
    /// Takes one byte. What is to be handed on then, if it is known.
    pub fn push(&mut self, byte: u8) -> Vec<u8> {
        if self.packet.is_empty() && byte != b'$' {
            return vec![byte];
        }
        self.packet.push(byte);
        self.digits = match self.digits {
            None if byte == b'#' => Some(2),
            digits => digits.map(|digits| digits - 1),
        };
        match self.digits {
            Some(0) => {
                self.digits = None;
                let packet = std::mem::take(&mut self.packet);
                self.look(&packet).unwrap_or(packet)
            }
            None if self.packet.len() >= PACKET_MAX => std::mem::take(&mut self.packet),
            _ => Vec::new(),
        }
    }

    /// Looks at a packet; what stands for it, if that is another.
    fn look(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let body = body(packet)?;
        self.asked = match body {
            _ if body.starts_with(b"qSupported") => Some(Asked::Features),
            _ if body.starts_with(b"qAttached") => Some(Asked::Attached),
            _ if body.starts_with(b"vKill;") => Some(Asked::Death),
            _ if body.starts_with(PASS_SIGNALS) => Some(Asked::Passing),
            _ => None,
        };
        if let Some(numbers) = body.strip_prefix(PASS_SIGNALS) {
            let number = |text: &[u8]| u8::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok();
            self.passed = numbers.split(|byte| *byte == b';').filter_map(number).collect();
        }
        let sets = match body.get(..3)? {
            b"Z0," => true,
            b"z0," => false,
            _ => return None,
        };
        let plain = body.split(|byte| *byte == b';').next()?;
        let address = plain[3..].split(|byte| *byte == b',').next()?;
        let address = u64::from_str_radix(std::str::from_utf8(address).ok()?, 16).ok()?;
        self.conditions.remove(&address);
        if sets && let Some(conditions) = conditions(&body[plain.len()..]) {
            self.conditions.insert(address, conditions);
        }
        Some(packet_of(plain))
    }
}

/// The expressions in `;XLEN,BYTESXLEN,BYTES...`. `None` where there are none, or one is no such.
fn conditions(mut text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    text = text.strip_prefix(b";").unwrap_or_default();
    while let Some(rest) = text.strip_prefix(b"X") {
        let comma = rest.iter().position(|byte| *byte == b',')?;
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..comma]).ok()?, 16).ok()?;
        let digits = rest[comma + 1..].get(..len.checked_mul(2)?)?;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        found.push(digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?);
        text = &rest[comma + 1 + digits.len()..];
    }
    (!found.is_empty()).then_some(found)
}

/// What a packet says, if its checksum is right.
fn body(packet: &[u8]) -> Option<&[u8]> {
    let (body, sum) = packet.strip_prefix(b"$")?.split_last_chunk::<3>()?;
    let sum = std::str::from_utf8(sum.strip_prefix(b"#")?).ok()?;
    (u8::from_str_radix(sum, 16).ok()? == checksum(body)).then_some(body)
}

fn checksum(body: &[u8]) -> u8 {
    body.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A packet that says this.
pub(super) fn packet_of(body: &[u8]) -> Vec<u8> {
    [b"$", body, format!("#{:02x}", checksum(body)).as_bytes()].concat()
}

impl Asked {
    /// The answer, which gdbstub gives so, of a program that was `started` for its debugger, or not.
    pub fn answer(self, answer: Vec<u8>, started: bool) -> Vec<u8> {
        match (self, body(&answer)) {
            (Asked::Features, Some(body)) => packet_of(&[body, FEATURES].concat()),
            (Asked::Attached, Some(_)) if started => packet_of(STARTED),
            (Asked::Death | Asked::Passing, _) => packet_of(b"OK"),
            _ => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(incoming: &mut Incoming, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().flat_map(|byte| incoming.push(*byte)).collect()
    }

    #[test]
    fn conditions_are_taken_out_of_what_sets_breakpoints() {
        let mut incoming = Incoming::default();
        let set = packet_of(b"Z0,401000,1;X3,220027X2,0127");
        assert_eq!(push(&mut incoming, &set), packet_of(b"Z0,401000,1"));
        let expressions = vec![vec![0x22, 0, 0x27], vec![1, 0x27]];
        assert_eq!(incoming.conditions, Conditions::from([(0x401000, expressions)]));
        // Without conditions, as it is taken out, and with what is none.
        for clears in [
            &b"Z0,401000,1"[..],
            b"z0,401000,1",
            b"Z0,401000,1;X3,22",
            b"Z0,401000,1;X1,zz",
            b"Z0,401000,1;cmds:0,X1,27",
        ] {
            push(&mut incoming, &set);
            let plain = clears.split(|byte| *byte == b';').next().unwrap();
            assert_eq!(push(&mut incoming, &packet_of(clears)), packet_of(plain));
            assert!(incoming.conditions.is_empty());
        }
    }

    #[test]
    fn what_is_no_concern_of_this_passes() {
        let mut incoming = Incoming::default();
        let said =
            [&b"+\x03"[..], &packet_of(b"m401000,8"), b"$Z0,1,1;X1,27#00-", &packet_of(b"Z2,1,8;X1,27")]
                .concat();
        assert_eq!(push(&mut incoming, &said), said);
        assert!(incoming.conditions.is_empty() && incoming.asked.is_none());
        push(&mut incoming, &packet_of(b"qSupported:swbreak+"));
        assert_eq!(incoming.asked, Some(Asked::Features));
        let answer = |asked: Asked, answer: &[u8], started| asked.answer(packet_of(answer), started);
        let features = answer(Asked::Features, b"swbreak+", false);
        assert_eq!(features, packet_of(b"swbreak+;ConditionalBreakpoints+;QPassSignals+"));
        push(&mut incoming, &packet_of(b"QPassSignals:e;14;x"));
        assert_eq!((incoming.asked, incoming.passed.clone()), (Some(Asked::Passing), [14, 20].into()));
        assert_eq!(answer(Asked::Passing, b"", false), packet_of(b"OK"));
        push(&mut incoming, &packet_of(b"qAttached:1"));
        assert_eq!(incoming.asked, Some(Asked::Attached));
        assert_eq!(answer(Asked::Attached, b"", true), packet_of(b"0"));
        assert_eq!(answer(Asked::Attached, b"", false), packet_of(b""));
        push(&mut incoming, &packet_of(b"vKill;1"));
        assert_eq!(incoming.asked, Some(Asked::Death));
        assert_eq!(answer(Asked::Death, b"", true), packet_of(b"OK"));
        // One that never ends is not kept.
        let mut endless = vec![b'$'; 2 * PACKET_MAX];
        endless[PACKET_MAX..].fill(b'x');
        assert_eq!(push(&mut incoming, &endless).len(), endless.len());
        assert!(incoming.packet.len() < PACKET_MAX);
    }
}
