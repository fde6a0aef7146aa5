//! The 16550 serial port: standard output. (National Semiconductor PC16550D data sheet, table II.)

use crate::port::{SERIAL, input, output, output_bytes};

/// Divisor latch, low and high byte, while [`DIVISOR_ACCESS`] is set.
const DIVISOR_LOW: u16 = SERIAL;
const DIVISOR_HIGH: u16 = SERIAL + 1;
const INTERRUPT_ENABLE: u16 = SERIAL + 1;
const FIFO_CONTROL: u16 = SERIAL + 2;
const LINE_CONTROL: u16 = SERIAL + 3;
const MODEM_CONTROL: u16 = SERIAL + 4;
const LINE_STATUS: u16 = SERIAL + 5;

/// Line control: the divisor latch instead of data and interrupts.
const DIVISOR_ACCESS: u8 = 0x80;
/// Line control: eight bits, no parity, one stop bit.
const EIGHT_BITS: u8 = 0x03;
/// FIFO control: enabled, both emptied.
const FIFO_ON: u8 = 0x07;
/// Modem control: data terminal ready, request to send.
const TERMINAL_READY: u8 = 0x03;
/// Line status: the transmitter's FIFO is empty.
const TRANSMITTER_EMPTY: u8 = 0x20;

/// Bytes that the FIFO takes when it is empty.
const FIFO_BYTES: usize = 16;
/// 115,200 baud divided by the rate.
const DIVISOR: u8 = 1;

/// 115,200 baud, eight bits, with FIFO, without interrupts.
pub fn init() {
    output(INTERRUPT_ENABLE, 0);
    output(LINE_CONTROL, DIVISOR_ACCESS);
    output(DIVISOR_LOW, DIVISOR);
    output(DIVISOR_HIGH, 0);
    output(LINE_CONTROL, EIGHT_BITS);
    output(FIFO_CONTROL, FIFO_ON);
    output(MODEM_CONTROL, TERMINAL_READY);
}

/// Sends bytes, a FIFO's worth at a time.
pub fn send(bytes: &[u8]) {
    for part in bytes.chunks(FIFO_BYTES) {
        while input(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {}
        output_bytes(SERIAL, part);
    }
}
