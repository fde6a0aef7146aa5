//! Packets of a trace: tracks, and what happens on them.

use std::io::{self, Write};

use super::proto::{Message, annotation, counter, event, packet, process, thread, trace, track};

/// All packets come from one writer, which has this number.
const SEQUENCE: u64 = 1;

/// A track: what happens on it is in order, and slices lie in one another.
#[derive(Debug)]
pub struct Track {
    uuid: u64,
    /// Nanoseconds; nothing comes before it any more.
    last: u64,
    /// Slices that are open.
    open: u32,
}

/// What is said of an event.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Address(u64),
}

/// What a counter counts.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Count,
    Bytes,
}

/// Something that happens on a track.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub category: &'a str,
    pub name: &'a str,
    pub notes: &'a [(&'a str, Value<'a>)],
}

/// Writes packets.
#[derive(Debug)]
pub struct Packets<W> {
    out: W,
    tracks: u64,
    begun: bool,
}

impl<W: Write> Packets<W> {
    /// Onto this.
    pub fn new(out: W) -> Packets<W> {
        Packets { out, tracks: 0, begun: false }
    }

    /// What they go to.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// A track that has yet to be described.
    pub fn track(&mut self) -> Track {
        self.tracks += 1;
        Track { uuid: self.tracks, last: 0, open: 0 }
    }

    /// Says, or says anew, that a track is a process.
    pub fn process(&mut self, track: &Track, pid: u32, command: &[String]) -> io::Result<()> {
        let mut is = Message::default().number(process::PID, pid.into());
        for argument in command {
            is = is.text(process::CMDLINE, argument);
        }
        if let Some(program) = command.first() {
            is = is.text(process::PROCESS_NAME, program);
        }
        self.describe(track, Message::default().message(track::PROCESS, &is))
    }

    /// Says, or says anew, that a track is a thread of a process.
    pub fn thread(&mut self, track: &Track, pid: u32, tid: u32, name: Option<&str>) -> io::Result<()> {
        let mut is = Message::default().number(thread::PID, pid.into()).number(thread::TID, tid.into());
        if let Some(name) = name {
            is = is.text(thread::THREAD_NAME, name);
        }
        self.describe(track, Message::default().message(track::THREAD, &is))
    }

    /// Says that a track belongs to another one.
    pub fn below(&mut self, track: &Track, parent: &Track, name: &str) -> io::Result<()> {
        let is = Message::default().number(track::PARENT_UUID, parent.uuid).text(track::NAME, name);
        self.describe(track, is)
    }

    /// Says that a track is a counter that belongs to another track.
    pub fn counter(&mut self, track: &Track, parent: &Track, name: &str, unit: Unit) -> io::Result<()> {
        let unit = match unit {
            Unit::Count => counter::COUNT,
            Unit::Bytes => counter::BYTES,
        };
        let counts = Message::default().number(counter::UNIT, unit);
        let is = Message::default().number(track::PARENT_UUID, parent.uuid).text(track::NAME, name);
        self.describe(track, is.message(track::COUNTER, &counts))
    }

    /// A slice begins.
    pub fn begin(&mut self, track: &mut Track, at: u64, what: Event<'_>) -> io::Result<()> {
        track.open += 1;
        self.event(track, at, event::SLICE_BEGIN, described(what))
    }

    /// The innermost slice that is open ends, if there is one.
    pub fn end(&mut self, track: &mut Track, at: u64) -> io::Result<()> {
        let Some(open) = track.open.checked_sub(1) else { return Ok(()) };
        track.open = open;
        self.event(track, at, event::SLICE_END, Message::default())
    }

    /// Something happens.
    pub fn instant(&mut self, track: &mut Track, at: u64, what: Event<'_>) -> io::Result<()> {
        self.event(track, at, event::INSTANT, described(what))
    }

    /// A counter has this value from now on.
    pub fn count(&mut self, track: &mut Track, at: u64, value: u64) -> io::Result<()> {
        let value = value.min(i64::MAX as u64);
        self.event(track, at, event::COUNTER, Message::default().number(event::COUNTER_VALUE, value))
    }

    fn event(&mut self, track: &mut Track, at: u64, kind: u64, what: Message) -> io::Result<()> {
        track.last = track.last.max(at);
        let what = what.number(event::TYPE, kind).number(event::TRACK_UUID, track.uuid);
        let timed = Message::default().number(packet::TIMESTAMP, track.last);
        self.packet(timed.message(packet::TRACK_EVENT, &what))
    }

    fn describe(&mut self, track: &Track, what: Message) -> io::Result<()> {
        let what = what.number(track::UUID, track.uuid);
        self.packet(Message::default().message(packet::TRACK_DESCRIPTOR, &what))
    }

    fn packet(&mut self, what: Message) -> io::Result<()> {
        let mut what = what.number(packet::TRUSTED_PACKET_SEQUENCE_ID, SEQUENCE);
        if !self.begun {
            self.begun = true;
            what = what.number(packet::SEQUENCE_FLAGS, packet::CLEARED);
        }
        self.out.write_all(Message::default().message(trace::PACKET, &what).as_bytes())
    }
}

fn described(what: Event<'_>) -> Message {
    let named = Message::default().text(event::CATEGORIES, what.category).text(event::NAME, what.name);
    what.notes.iter().fold(named, |event, (name, value)| {
        let note = Message::default().text(annotation::NAME, name);
        let note = match *value {
            Value::Text(text) => note.text(annotation::STRING_VALUE, text),
            Value::Number(number) => note.number(annotation::UINT_VALUE, number),
            Value::Address(address) => note.number(annotation::POINTER_VALUE, address),
        };
        event.message(event::DEBUG_ANNOTATIONS, &note)
    })
}
