//! Packets of the remote serial protocol that gdbstub has only a part of: conditions of breakpoints are taken out
//! of them on their way, and that they are known is added to what it says that it can.

use std::collections::BTreeMap;

/// What is added to the answer to `qSupported`.
const FEATURES: &[u8] = b";ConditionalBreakpoints+";

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
    /// The last packet asks what there is.
    pub asks_features: bool,
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
        self.asks_features = body.starts_with(b"qSupported");
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

/// The answer to `qSupported`, with what is there besides.
pub(super) fn with_features(answer: &[u8]) -> Vec<u8> {
    body(answer).map_or_else(|| answer.to_vec(), |body| packet_of(&[body, FEATURES].concat()))
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
        assert!(incoming.conditions.is_empty() && !incoming.asks_features);
        push(&mut incoming, &packet_of(b"qSupported:swbreak+"));
        assert!(incoming.asks_features);
        assert_eq!(with_features(&packet_of(b"swbreak+")), packet_of(b"swbreak+;ConditionalBreakpoints+"));
        // One that never ends is not kept.
        let mut endless = vec![b'$'; 2 * PACKET_MAX];
        endless[PACKET_MAX..].fill(b'x');
        assert_eq!(push(&mut incoming, &endless).len(), endless.len());
        assert!(incoming.packet.len() < PACKET_MAX);
    }
}
