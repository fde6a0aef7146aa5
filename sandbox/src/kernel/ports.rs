//! The ports of a bare-metal guest's devices. All else reads as ones and ignores what is written.

/// First port of the 16550 serial port, COM1 of a PC: 8 registers. What it sends is the guest's
/// standard output. It has no interrupt line, and receives nothing.
pub const SERIAL: u16 = 0x3f8;
/// Last port of the serial port.
pub const SERIAL_LAST: u16 = SERIAL + 7;

/// First port of the [interval timer](super::i8254).
pub const TIMER: u16 = 0x40;
/// Its last port, the control word's.
pub const TIMER_LAST: u16 = TIMER + 3;

/// The debug port of Bochs and QEMU: a byte written goes to the guest's standard error; a read gives
/// the port's own number, by which guests find it.
pub const DEBUG: u16 = 0xe9;

/// The exit port, where QEMU's `isa-debug-exit` is often put: the low byte written becomes the
/// guest's exit status.
pub const EXIT: u16 = 0xf4;

/// The pause port: any write is the point `ready`, where a snapshot can be taken.
pub const READY: u16 = 0xf5;

/// The byte channel: a read takes the next byte of the guest's input, and waits for it. At the end
/// of the input it gives zeros. String instructions take many bytes with one exit.
pub const CHANNEL: u16 = 0x5d0;

/// The byte channel's state: a read gives 1 when [`CHANNEL`] has a byte, and 0 at the end of the
/// input. It waits until either is certain, so that it depends on nothing but the input.
pub const CHANNEL_STATE: u16 = 0x5d1;

/// The keyboard controller's command port: the command [`RESET_PULSE`] resets a PC.
pub const KEYBOARD_COMMAND: u16 = 0x64;
/// Pulses the CPU's reset line (IBM PC AT Technical Reference, 8042 commands 0xf0 to 0xff).
pub const RESET_PULSE: u8 = 0xfe;

/// The reset control register of PC chipsets: a write with bit 2 set resets the CPU.
pub const RESET_CONTROL: u16 = 0xcf9;

/// A port's device, for people.
pub fn name(port: u16) -> Option<&'static str> {
    Some(match port {
        SERIAL..=SERIAL_LAST => "serial",
        TIMER..=TIMER_LAST => "timer",
        DEBUG => "debug",
        EXIT => "exit",
        READY => "ready",
        CHANNEL => "channel",
        CHANNEL_STATE => "channel-state",
        _ => return None,
    })
}
