//! The interval timer of a PC (Intel 8254 data sheet), as far as it can be read: three counters without
//! interrupt lines.
//!
//! Its clock is a function of the guest alone: each access of its ports is a tick of 838 ns, which is about
//! what one takes on a PC's bus. Counters count in binary, as those of KVM and QEMU do. Counter 2 stands still: port
//! 0x61, which opens its gate, is not there. (By that one kernels find out how fast the time stamp counter is, which
//! they are not to go by.)

use serde::{Deserialize, Serialize};

use super::ports::TIMER;

/// Bits 6 and 7 of a control word that is the read-back command; else the number of a counter.
const READ_BACK: u8 = 3;
/// Bits of the read-back command which ask *not* to latch.
const NO_COUNT: u8 = 1 << 5;
const NO_STATUS: u8 = 1 << 4;
/// The counter whose gate is closed.
const GATED: usize = 2;

/// Bits of a status.
const OUTPUT: u8 = 1 << 7;
const NULL_COUNT: u8 = 1 << 6;

/// Which bytes of a count are read and written (bits 4 and 5 of a control word).
const LATCH: u8 = 0;
const LOW: u8 = 1;
const HIGH: u8 = 2;

/// One counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    /// Bits 0 to 5 of its control word.
    control: u8,
    /// What it counts from; 0 is 65,536.
    from: u16,
    /// The tick at which it was set.
    set_at: u64,
    /// It has a control word, and waits for its count.
    waits: bool,
    /// Of a count in two bytes, the low byte, which was written.
    low: Option<u8>,
    /// A status that was latched, and not read.
    status: Option<u8>,
    /// A count that was latched, and not read.
    latched: Option<u16>,
    /// The next read of a count in two bytes gives the high byte.
    high_next: bool,
}

impl Counter {
    /// As a PC's firmware leaves them: a square wave of 18.2 Hz.
    const FIRMWARE: Counter = Counter {
        control: 3 << 4 | 3 << 1,
        from: 0,
        set_at: 0,
        waits: false,
        low: None,
        status: None,
        latched: None,
        high_next: false,
    };

    fn mode(&self) -> u8 {
        match self.control >> 1 & 7 {
            // Modes 2 and 3 have two names each.
            mode @ 6..=7 => mode - 4,
            mode => mode,
        }
    }

    fn bytes(&self) -> u8 {
        self.control >> 4 & 3
    }

    fn period(&self) -> u64 {
        if self.from == 0 { 1 << 16 } else { self.from.into() }
    }

    fn count(&self, now: u64) -> u16 {
        let (period, passed) = (self.period(), now.wrapping_sub(self.set_at));
        let count = match self.mode() {
            2 => period - passed % period,
            // It counts by two, through its period twice.
            3 => period - passed.wrapping_mul(2) % period,
            _ => period.wrapping_sub(passed),
        };
        count as u16
    }

    fn status(&self, now: u64) -> u8 {
        let (period, passed) = (self.period(), now.wrapping_sub(self.set_at));
        let high = match self.mode() {
            0 => !self.waits && passed >= period,
            3 => passed % period < period.div_ceil(2),
            _ => true,
        };
        self.control | if high { OUTPUT } else { 0 } | if self.waits { NULL_COUNT } else { 0 }
    }

    fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let [low, high] = self.latched.unwrap_or_else(|| self.count(now)).to_le_bytes();
        let (byte, last) = match self.bytes() {
            LOW => (low, true),
            HIGH => (high, true),
            _ if self.high_next => (high, true),
            _ => (low, false),
        };
        self.high_next = !last;
        if last {
            self.latched = None;
        }
        byte
    }

    fn write(&mut self, byte: u8, now: u64) {
        let from = match (self.bytes(), self.low.take()) {
            (LOW, _) => byte.into(),
            (HIGH, _) => u16::from(byte) << 8,
            (_, Some(low)) => u16::from_le_bytes([low, byte]),
            (_, None) => {
                self.low = Some(byte);
                return;
            }
        };
        (self.from, self.set_at, self.waits) = (from, now, false);
    }

    fn latch(&mut self, now: u64) {
        // What was latched before stays until it is read.
        self.latched.get_or_insert(self.count(now));
    }

    fn control(&mut self, word: u8, now: u64) {
        if word >> 4 & 3 == LATCH {
            self.latch(now);
        } else {
            *self = Counter { control: word & 0x3f, waits: true, ..Counter::FIRMWARE };
        }
    }
}

/// The timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    counters: [Counter; 3],
    ticks: u64,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { counters: [Counter::FIRMWARE; 3], ticks: 0 }
    }
}

impl Timer {
    /// Reads one of its ports; the control word's gives ones.
    pub fn read(&mut self, port: u16) -> u8 {
        self.ticks = self.ticks.wrapping_add(1);
        let number = usize::from(port.wrapping_sub(TIMER));
        let now = self.now(number);
        self.counters.get_mut(number).map_or(0xff, |counter| counter.read(now))
    }

    /// Writes to one of its ports.
    pub fn write(&mut self, port: u16, byte: u8) {
        self.ticks = self.ticks.wrapping_add(1);
        let number = usize::from(port.wrapping_sub(TIMER));
        let now = self.now(number);
        if let Some(counter) = self.counters.get_mut(number) {
            return counter.write(byte, now);
        }
        match byte >> 6 {
            READ_BACK => {
                for number in 0..self.counters.len() {
                    if byte & 2 << number == 0 {
                        continue;
                    }
                    let now = self.now(number);
                    let counter = &mut self.counters[number];
                    if byte & NO_COUNT == 0 {
                        counter.latch(now);
                    }
                    if byte & NO_STATUS == 0 {
                        let status = counter.status(now);
                        counter.status.get_or_insert(status);
                    }
                }
            }
            number => {
                let now = self.now(number.into());
                self.counters[usize::from(number)].control(byte, now);
            }
        }
    }

    /// The tick at which a counter is.
    fn now(&self, number: usize) -> u64 {
        if number == GATED { 0 } else { self.ticks }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ports::TIMER_LAST as CONTROL;
    use super::*;

    /// Sets a counter, by a control word and a count.
    fn set(timer: &mut Timer, number: u8, mode: u8, count: u16) {
        timer.write(CONTROL, number << 6 | 3 << 4 | mode << 1);
        for byte in count.to_le_bytes() {
            timer.write(TIMER + u16::from(number), byte);
        }
    }

    /// A counter's status and count, latched at one time.
    fn read_back(timer: &mut Timer, number: u8) -> (u8, u16) {
        timer.write(CONTROL, READ_BACK << 6 | 2 << number);
        let mut byte = || timer.read(TIMER + u16::from(number));
        (byte(), u16::from_le_bytes([byte(), byte()]))
    }

    #[test]
    fn a_read_back_gives_the_count_of_its_time() {
        let mut timer = Timer::default();
        // A square wave, ready; one tick has passed.
        assert_eq!(read_back(&mut timer, 0), (OUTPUT | 0x36, 0xfffe));
        // Four accesses later, by two each.
        assert_eq!(read_back(&mut timer, 0), (OUTPUT | 0x36, 0xfff6));
    }

    #[test]
    fn a_latched_count_stands_until_it_is_read() {
        let mut timer = Timer::default();
        set(&mut timer, 1, 2, 1000);
        timer.write(CONTROL, 1 << 6);
        timer.write(CONTROL, 1 << 6);
        let mut byte = || timer.read(TIMER + 1);
        assert_eq!(u16::from_le_bytes([byte(), byte()]), 999);
        assert_ne!(u16::from_le_bytes([byte(), byte()]), 999);
    }

    #[test]
    fn a_counter_without_its_count_is_not_ready_and_one_that_is_through_says_so() {
        let mut timer = Timer::default();
        timer.write(CONTROL, 3 << 4);
        assert_eq!(read_back(&mut timer, 0).0, NULL_COUNT | 0x30);
        set(&mut timer, 0, 0, 6);
        assert_eq!(read_back(&mut timer, 0), (0x30, 5));
        // It goes on below 0.
        assert_eq!(read_back(&mut timer, 0), (0x30, 1));
        assert_eq!(read_back(&mut timer, 0), (OUTPUT | 0x30, 0xfffd));
    }

    #[test]
    fn single_bytes() {
        let mut timer = Timer::default();
        timer.write(CONTROL, 1 << 6 | LOW << 4 | 2 << 1);
        timer.write(TIMER + 1, 9);
        assert_eq!([0; 3].map(|_| timer.read(TIMER + 1)), [8, 7, 6]);
        timer.write(CONTROL, 1 << 6 | HIGH << 4 | 2 << 1);
        timer.write(TIMER + 1, 0x12);
        assert_eq!(timer.read(TIMER + 1), 0x11);
    }

    #[test]
    fn the_counter_behind_a_gate_stands_still() {
        let mut timer = Timer::default();
        set(&mut timer, 2, 0, 0xffff);
        assert_eq!([0; 600].map(|_| timer.read(TIMER + 2)), [0xff; 600]);
    }

    #[test]
    fn every_mode_and_count_can_be_read_at_any_time() {
        for mode in 0..8 {
            for count in [0, 1, 2, u16::MAX] {
                let mut timer = Timer { ticks: u64::MAX - 4, ..Timer::default() };
                set(&mut timer, 0, mode, count);
                for _ in 0..4 {
                    read_back(&mut timer, 0);
                }
            }
        }
    }
}
