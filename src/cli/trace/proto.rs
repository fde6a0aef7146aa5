//! Messages of Perfetto's trace format, as protobuf writes them.
//!
//! Field numbers are those of `protos/perfetto/trace/` in Perfetto's source: `trace.proto`, `trace_packet.proto`,
//! and, below `track_event/`, `track_descriptor.proto`, `process_descriptor.proto`, `thread_descriptor.proto`,
//! `counter_descriptor.proto`, `track_event.proto` and `debug_annotation.proto`.

/// Fields of `Trace`.
pub mod trace {
    pub const PACKET: u32 = 1;
}

/// Fields of `TracePacket`.
pub mod packet {
    pub const TIMESTAMP: u32 = 8;
    pub const TRUSTED_PACKET_SEQUENCE_ID: u32 = 10;
    pub const TRACK_EVENT: u32 = 11;
    pub const SEQUENCE_FLAGS: u32 = 13;
    pub const TRACK_DESCRIPTOR: u32 = 60;
    /// `SEQ_INCREMENTAL_STATE_CLEARED`: nothing came before.
    pub const CLEARED: u64 = 1;
}

/// Fields of `TrackDescriptor`.
pub mod track {
    pub const UUID: u32 = 1;
    pub const NAME: u32 = 2;
    pub const PROCESS: u32 = 3;
    pub const THREAD: u32 = 4;
    pub const PARENT_UUID: u32 = 5;
    pub const COUNTER: u32 = 8;
}

/// Fields of `ProcessDescriptor`.
pub mod process {
    pub const PID: u32 = 1;
    pub const CMDLINE: u32 = 2;
    pub const PROCESS_NAME: u32 = 6;
}

/// Fields of `ThreadDescriptor`.
pub mod thread {
    pub const PID: u32 = 1;
    pub const TID: u32 = 2;
    pub const THREAD_NAME: u32 = 5;
}

/// Fields of `CounterDescriptor`.
pub mod counter {
    pub const UNIT: u32 = 3;
    /// `UNIT_COUNT`
    pub const COUNT: u64 = 2;
    /// `UNIT_SIZE_BYTES`
    pub const BYTES: u64 = 3;
}

/// Fields of `TrackEvent`.
pub mod event {
    pub const DEBUG_ANNOTATIONS: u32 = 4;
    pub const TYPE: u32 = 9;
    pub const TRACK_UUID: u32 = 11;
    pub const CATEGORIES: u32 = 22;
    pub const NAME: u32 = 23;
    pub const COUNTER_VALUE: u32 = 30;
    /// `TYPE_SLICE_BEGIN`
    pub const SLICE_BEGIN: u64 = 1;
    /// `TYPE_SLICE_END`
    pub const SLICE_END: u64 = 2;
    /// `TYPE_INSTANT`
    pub const INSTANT: u64 = 3;
    /// `TYPE_COUNTER`
    pub const COUNTER: u64 = 4;
}

/// Fields of `DebugAnnotation`.
pub mod annotation {
    pub const UINT_VALUE: u32 = 3;
    pub const STRING_VALUE: u32 = 6;
    pub const POINTER_VALUE: u32 = 7;
    pub const NAME: u32 = 10;
}

/// How a field is written (protobuf.dev/programming-guides/encoding).
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

/// A message that is put together field by field.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// With a number, an enumerator or a flag.
    pub fn number(mut self, field: u32, value: u64) -> Message {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
        self
    }

    /// With a text.
    pub fn text(self, field: u32, text: &str) -> Message {
        self.bytes(field, text.as_bytes())
    }

    /// With a message within it.
    pub fn message(self, field: u32, message: &Message) -> Message {
        self.bytes(field, &message.0)
    }

    /// As it goes to a file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Message {
        self.varint(u64::from(field) << 3 | LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Seven bits a byte, the lowest first.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of protobuf's own description of its encoding.
    #[test]
    fn as_protobuf_has_it() {
        let number = Message::default().number(1, 150);
        assert_eq!(number.as_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing");
        assert_eq!(text.as_bytes(), b"\x12\x07testing");
        assert_eq!(Message::default().message(3, &number).as_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let most = Message::default().number(60, u64::MAX);
        assert_eq!(most.as_bytes()[..3], [0xe0, 0x03, 0xff]);
        assert_eq!(most.as_bytes().len(), 2 + 10);
    }
}
