//! The devices of a bare-metal guest: what reads and writes of its ports do.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};

use super::i8254::Timer;
use super::ports;
use crate::machine::End;
use crate::ram::PAGE_SIZE;
use crate::world::{Stream, World, WorldError};

/// Bytes of input that are asked for at once.
const INPUT_CHUNK: usize = 4096;

/// The most pages beyond memory that are told apart; accesses of others are counted together.
const MAX_UNKNOWN_PAGES: usize = 256;
/// Stands for the others.
const OTHER_PAGES: u64 = u64::MAX;

/// Bits of the reset control register, port [`ports::RESET_CONTROL`], of which any resets the CPU.
const RESET_CPU: u8 = 1 << 2;

/// No interrupt line.
struct NoLine;

impl Trigger for NoLine {
    type E = std::convert::Infallible;

    fn trigger(&self) -> Result<(), Self::E> {
        Ok(())
    }
}

/// The serial port's registers, named as in the data sheet of the 16550.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SerialRegisters {
    divisor: [u8; 2],
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    /// What came back in loopback mode and was not read.
    received: Vec<u8>,
}

impl From<SerialState> for SerialRegisters {
    fn from(s: SerialState) -> SerialRegisters {
        SerialRegisters {
            divisor: [s.baud_divisor_low, s.baud_divisor_high],
            interrupt_enable: s.interrupt_enable,
            interrupt_identification: s.interrupt_identification,
            line_control: s.line_control,
            line_status: s.line_status,
            modem_control: s.modem_control,
            modem_status: s.modem_status,
            scratch: s.scratch,
            received: s.in_buffer,
        }
    }
}

impl From<&SerialRegisters> for SerialState {
    fn from(s: &SerialRegisters) -> SerialState {
        SerialState {
            baud_divisor_low: s.divisor[0],
            baud_divisor_high: s.divisor[1],
            interrupt_enable: s.interrupt_enable,
            interrupt_identification: s.interrupt_identification,
            line_control: s.line_control,
            line_status: s.line_status,
            modem_control: s.modem_control,
            modem_status: s.modem_status,
            scratch: s.scratch,
            in_buffer: s.received.clone(),
        }
    }
}

/// What a snapshot keeps of the devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicesState {
    serial: SerialRegisters,
    timer: Timer,
    /// Input that came and was not read yet.
    input: Vec<u8>,
}

impl Default for DevicesState {
    fn default() -> DevicesState {
        DevicesState { serial: SerialState::default().into(), timer: Timer::default(), input: Vec::new() }
    }
}

impl DevicesState {
    /// Whether the devices can be in this state: for one that comes out of a file.
    pub fn is_valid(&self) -> bool {
        // `serial` checks the registers, and the timer can be in any state.
        let DevicesState { serial: _, timer: _, input } = self;
        serial(self).is_some() && input.len() <= INPUT_CHUNK
    }
}

fn serial(state: &DevicesState) -> Option<Serial<NoLine, NoEvents, Vec<u8>>> {
    Serial::from_state(&(&state.serial).into(), NoLine, NoEvents, Vec::new()).ok()
}

/// What a write did besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The guest ended.
    pub end: Option<End>,
    /// It wrote to [`ports::READY`].
    pub ready: bool,
}

/// The devices.
pub struct Devices {
    serial: Serial<NoLine, NoEvents, Vec<u8>>,
    timer: Timer,
    input: VecDeque<u8>,
    input_ended: bool,
    /// What the last write sent to the serial port.
    sent: Vec<u8>,
    /// Output that the outside has not taken yet.
    unsent: Option<(Stream, Vec<u8>)>,
    /// Accesses of ports that no device has, by port.
    pub unknown: BTreeMap<u16, u64>,
    /// Accesses of addresses that are no memory, by page address; of more than some pages, together
    /// under the largest number.
    pub unknown_memory: BTreeMap<u64, u64>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").field("input", &self.input.len()).finish_non_exhaustive()
    }
}

impl Devices {
    /// Devices in a state; as after a reset where the state cannot be, which is checked before.
    pub fn new(state: &DevicesState) -> Devices {
        Devices {
            serial: serial(state).unwrap_or_else(|| Serial::new(NoLine, Vec::new())),
            timer: state.timer.clone(),
            input: state.input.iter().copied().collect(),
            input_ended: false,
            sent: Vec::new(),
            unsent: None,
            unknown: BTreeMap::new(),
            unknown_memory: BTreeMap::new(),
        }
    }

    /// Puts them into an earlier state. What is counted goes on.
    pub fn return_to(&mut self, then: &DevicesState) {
        let unknown = std::mem::take(&mut self.unknown);
        let unknown_memory = std::mem::take(&mut self.unknown_memory);
        *self = Devices { unknown, unknown_memory, ..Devices::new(then) };
    }

    /// Their state.
    pub fn state(&self) -> DevicesState {
        DevicesState {
            serial: self.serial.state().into(),
            timer: self.timer.clone(),
            input: self.input.iter().copied().collect(),
        }
    }

    /// What the last write sent to the serial port.
    pub fn sent(&self) -> &[u8] {
        &self.sent
    }

    /// Whether reading a port takes input.
    pub fn reads_input(port: u16) -> bool {
        matches!(port, ports::CHANNEL | ports::CHANNEL_STATE)
    }

    /// Answers a read of `size` bytes a time, `out.len()` in all: more than one time for a string
    /// instruction. An access of several bytes goes to as many ports, but for the byte channel, from
    /// which it takes as many bytes.
    ///
    /// # Errors
    /// [`WorldError`]; nothing was taken then, and the read can be tried again.
    pub fn read(
        &mut self,
        port: u16,
        size: usize,
        out: &mut [u8],
        world: &mut (dyn World + '_),
    ) -> Result<(), WorldError> {
        match port {
            ports::CHANNEL => {
                self.fill(out.len(), world)?;
                out.fill_with(|| self.input.pop_front().unwrap_or(0));
            }
            ports::CHANNEL_STATE => {
                self.fill(1, world)?;
                out.fill(u8::from(!self.input.is_empty()));
            }
            _ => {
                for (i, byte) in out.iter_mut().enumerate() {
                    *byte = self.read_byte(port.wrapping_add((i % size.max(1)) as u16));
                }
            }
        }
        Ok(())
    }

    /// Counts an access of an address where no memory is: reads give ones, writes do nothing.
    pub fn beyond_memory(&mut self, gpa: u64) {
        let page = gpa & !(PAGE_SIZE as u64 - 1);
        let known = self.unknown_memory.contains_key(&page) || self.unknown_memory.len() < MAX_UNKNOWN_PAGES;
        *self.unknown_memory.entry(if known { page } else { OTHER_PAGES }).or_default() += 1;
    }

    fn read_byte(&mut self, port: u16) -> u8 {
        match port {
            ports::SERIAL..=ports::SERIAL_LAST => self.serial.read((port - ports::SERIAL) as u8),
            ports::TIMER..=ports::TIMER_LAST => self.timer.read(port),
            ports::DEBUG => ports::DEBUG as u8,
            _ => {
                *self.unknown.entry(port).or_default() += 1;
                0xff
            }
        }
    }

    /// Waits until there is so much input, or no more will come.
    fn fill(&mut self, wanted: usize, world: &mut (dyn World + '_)) -> Result<(), WorldError> {
        while self.input.len() < wanted && !self.input_ended {
            match world.input(INPUT_CHUNK, true)? {
                Ok(bytes) if !bytes.is_empty() => self.input.extend(bytes),
                // There is nobody to tell of an error.
                Ok(_) | Err(_) => self.input_ended = true,
            }
        }
        Ok(())
    }

    /// Makes a write of `size` bytes a time. What goes out is sent by [`Devices::send`].
    pub fn write(&mut self, port: u16, size: usize, data: &[u8]) -> Done {
        let mut done = Done::default();
        self.sent.clear();
        if port == ports::DEBUG {
            self.unsent = Some((Stream::Stderr, data.to_vec()));
            return done;
        }
        for (i, byte) in data.iter().enumerate() {
            let port = port.wrapping_add((i % size.max(1)) as u16);
            match port {
                ports::SERIAL..=ports::SERIAL_LAST => {
                    // It fails when its receive buffer is full in loopback mode: the byte is lost, as on
                    // the device.
                    let _ = self.serial.write((port - ports::SERIAL) as u8, *byte);
                }
                ports::TIMER..=ports::TIMER_LAST => self.timer.write(port, *byte),
                ports::EXIT => done.end = done.end.or(Some(End::Exited(*byte))),
                ports::READY => done.ready = true,
                ports::KEYBOARD_COMMAND if *byte == ports::RESET_PULSE => {
                    done.end = done.end.or(Some(End::Reset));
                }
                // Four bytes at the port before it are an address of PCI, of which this is not a part.
                ports::RESET_CONTROL if i % size.max(1) == 0 && byte & RESET_CPU != 0 => {
                    done.end = done.end.or(Some(End::Reset));
                }
                _ => *self.unknown.entry(port).or_default() += 1,
            }
        }
        std::mem::swap(&mut self.sent, self.serial.writer_mut());
        if !self.sent.is_empty() {
            self.unsent = Some((Stream::Stdout, self.sent.clone()));
        }
        done
    }

    /// Sends what the last write put out. What the outside does not take is lost: the guest has no way
    /// to learn of it.
    ///
    /// # Errors
    /// [`WorldError`], when the outside ends the run; what is left can be sent later.
    pub fn send(&mut self, world: &mut (dyn World + '_)) -> Result<(), WorldError> {
        while let Some((stream, data)) = &mut self.unsent {
            match world.output(*stream, data)? {
                Ok(taken) if taken > 0 && taken < data.len() => drop(data.drain(..taken)),
                Ok(taken) if taken >= data.len() => self.unsent = None,
                lost => {
                    tracing::debug!(?stream, ?lost, bytes = data.len(), "output was not taken");
                    self.unsent = None;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Request, Response};

    /// Gives input in pieces, and keeps output.
    #[derive(Default)]
    struct Script {
        input: VecDeque<Vec<u8>>,
        out: Vec<(Stream, u8)>,
    }

    impl World for Script {
        fn ask(&mut self, request: Request<'_>) -> Result<Response, WorldError> {
            match request {
                Request::Input { .. } => Ok(Response::Input(Ok(self.input.pop_front().unwrap_or_default()))),
                Request::Output { stream, data } => {
                    // One byte at a time: short writes are gone on with.
                    self.out.push((stream, data[0]));
                    Ok(Response::Output(Ok(1)))
                }
                other => Err(WorldError::Mismatch { asked: other.name(), got: "nothing" }),
            }
        }
    }

    fn devices() -> (Devices, Script) {
        (Devices::new(&DevicesState::default()), Script::default())
    }

    fn read(devices: &mut Devices, world: &mut Script, port: u16, size: usize, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        devices.read(port, size, &mut out, world).expect("an answer");
        out
    }

    #[test]
    fn serial_and_debug_ports_send() {
        let (mut d, mut w) = devices();
        d.write(ports::SERIAL, 1, b"hi");
        d.send(&mut w).expect("output");
        assert_eq!(d.sent(), b"hi");
        d.write(ports::DEBUG, 1, b"e");
        d.send(&mut w).expect("output");
        let out = [(Stream::Stdout, b'h'), (Stream::Stdout, b'i'), (Stream::Stderr, b'e')];
        assert_eq!(w.out, out);
        // The transmitter is always empty (line status register, bits 5 and 6).
        assert_eq!(read(&mut d, &mut w, ports::SERIAL + 5, 1, 1)[0] & 0x60, 0x60);
        assert_eq!(read(&mut d, &mut w, ports::DEBUG, 1, 1), [0xe9]);
    }

    #[test]
    fn the_channel_gives_input_and_its_end() {
        let (mut d, mut w) = devices();
        w.input = [b"ab".to_vec(), b"cde".to_vec()].into();
        assert_eq!(read(&mut d, &mut w, ports::CHANNEL_STATE, 1, 1), [1]);
        assert_eq!(read(&mut d, &mut w, ports::CHANNEL, 1, 4), b"abcd");
        assert_eq!(read(&mut d, &mut w, ports::CHANNEL, 4, 4), b"e\0\0\0");
        assert_eq!(read(&mut d, &mut w, ports::CHANNEL_STATE, 1, 1), [0]);
    }

    #[test]
    fn ends() {
        let (mut d, _) = devices();
        let mut end = |port, byte: u8| d.write(port, 1, &[byte]).end;
        assert_eq!(end(ports::EXIT, 7), Some(End::Exited(7)));
        assert_eq!(end(ports::KEYBOARD_COMMAND, 0xfe), Some(End::Reset));
        assert_eq!(end(ports::KEYBOARD_COMMAND, 0xaa), None);
        assert_eq!(end(ports::RESET_CONTROL, 6), Some(End::Reset));
        assert!(d.write(ports::READY, 1, &[0]).ready);
        // The address of a device of PCI, by which a kernel looks whether there is one.
        assert_eq!(d.write(ports::RESET_CONTROL - 1, 4, &[0, 6, 0, 0x80]).end, None);
    }

    #[test]
    fn ports_of_nobody_are_counted() {
        let (mut d, mut w) = devices();
        assert_eq!(read(&mut d, &mut w, 0x70, 2, 2), [0xff, 0xff]);
        d.write(0x71, 1, &[0]);
        assert_eq!(d.unknown, BTreeMap::from([(0x70, 1), (0x71, 2)]));
    }

    #[test]
    fn a_state_goes_on_where_it_was() {
        let (mut d, mut w) = devices();
        w.input = [b"xyz".to_vec()].into();
        d.write(ports::SERIAL + 7, 1, &[0x5a]);
        // Counter 1, one byte, from 9 down.
        d.write(ports::TIMER_LAST, 1, &[0x54]);
        d.write(ports::TIMER + 1, 1, &[9]);
        assert_eq!(read(&mut d, &mut w, ports::TIMER + 1, 1, 1), [8]);
        read(&mut d, &mut w, ports::CHANNEL, 1, 1);
        let state = d.state();
        assert!(state.is_valid());
        let mut again = Devices::new(&state);
        assert_eq!(read(&mut again, &mut w, ports::SERIAL + 7, 1, 1), [0x5a]);
        assert_eq!(read(&mut again, &mut w, ports::TIMER + 1, 1, 1), [7]);
        assert_eq!(read(&mut again, &mut w, ports::CHANNEL, 1, 3), b"yz\0");
    }

    /// Takes a byte, and then ends the run.
    struct Slow(usize);

    impl World for Slow {
        fn ask(&mut self, _: Request<'_>) -> Result<Response, WorldError> {
            self.0 += 1;
            if self.0.is_multiple_of(2) { Err(WorldError::Interrupted) } else { Ok(Response::Output(Ok(1))) }
        }
    }

    #[test]
    fn output_that_was_interrupted_goes_on() {
        let (mut d, _) = devices();
        let mut world = Slow(0);
        d.write(ports::SERIAL, 1, b"abc");
        assert!(d.send(&mut world).is_err());
        assert_eq!(d.unsent, Some((Stream::Stdout, b"bc".to_vec())));
        assert!(d.send(&mut world).is_err());
        d.send(&mut world).expect("the last byte");
        assert_eq!((d.unsent, d.sent), (None, b"abc".to_vec()));
    }

    #[test]
    fn a_guest_cannot_make_the_counts_grow() {
        let (mut d, _) = devices();
        for page in 0..10_000u64 {
            d.beyond_memory(page << 30);
        }
        assert!(d.unknown_memory.len() <= MAX_UNKNOWN_PAGES + 1);
        assert_eq!(d.unknown_memory.values().sum::<u64>(), 10_000);
    }
}
