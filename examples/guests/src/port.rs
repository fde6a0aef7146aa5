//! Ports, and the devices that are no more than a port. `sandbox/src/kernel/ports.rs` has the host's side.

use core::arch::asm;

/// First port of the serial port COM1.
pub const SERIAL: u16 = 0x3f8;
/// Debug port: bytes for standard error.
pub const DEBUG: u16 = 0xe9;
/// Exit port: the exit status.
pub const EXIT: u16 = 0xf4;
/// Pause port.
pub const READY: u16 = 0xf5;
/// Byte channel: the next byte of the input.
pub const CHANNEL: u16 = 0x5d0;
/// Byte channel: whether there is a byte.
pub const CHANNEL_STATE: u16 = 0x5d1;
/// Keyboard controller: commands.
pub const KEYBOARD_COMMAND: u16 = 0x64;
/// Command of the keyboard controller: reset the CPU.
pub const RESET_PULSE: u8 = 0xfe;

/// Reads a port.
pub fn input(port: u16) -> u8 {
    let byte;
    // SAFETY: no device here touches memory.
    unsafe { asm!("in al, dx", out("al") byte, in("dx") port, options(nomem, nostack, preserves_flags)) };
    byte
}

/// Writes a port.
pub fn output(port: u16, byte: u8) {
    // SAFETY: no device here touches memory. The monitor may read all of it, though, so it is not `nomem`.
    unsafe { asm!("out dx, al", in("al") byte, in("dx") port, options(nostack, preserves_flags)) };
}

/// Reads a port once for each byte, by one instruction.
pub fn input_bytes(port: u16, bytes: &mut [u8]) {
    // SAFETY: it writes the slice, and no more.
    unsafe {
        asm!("rep insb", in("dx") port, inout("rdi") bytes.as_mut_ptr() => _, inout("rcx") bytes.len() => _,
            options(nostack, preserves_flags));
    }
}

/// Writes a port once for each byte, by one instruction.
pub fn output_bytes(port: u16, bytes: &[u8]) {
    // SAFETY: it reads the slice, and no more.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _,
            options(nostack, readonly, preserves_flags));
    }
}

/// Text for standard error, where there is a debug port: it reads as its own number.
pub fn debug(text: &str) {
    if u16::from(input(DEBUG)) == DEBUG {
        output_bytes(DEBUG, text.as_bytes());
    }
}

/// The point `ready`: a snapshot may be taken here, and later runs begin here.
pub fn ready() {
    output(READY, 1);
}

/// The input's next byte; none at its end. Waits for it.
pub fn next_byte() -> Option<u8> {
    (input(CHANNEL_STATE) != 0).then(|| input(CHANNEL))
}

/// Ends the run.
pub fn exit(status: u8) -> ! {
    output(EXIT, status);
    halt()
}

/// Stops for ever: interrupts are off.
pub fn halt() -> ! {
    loop {
        // SAFETY: it does nothing.
        unsafe { asm!("hlt", options(nomem, nostack, preserves_flags)) };
    }
}
