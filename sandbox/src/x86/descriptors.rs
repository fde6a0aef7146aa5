//! Segment descriptors, gates and the task state segment (Intel SDM volume 3, chapters 3, 7 and 8).

use kvm_bindings::kvm_segment;

/// Type of a data segment that is writable and was accessed (table 3-1).
pub const DATA_WRITE_ACCESSED: u8 = 3;
/// Type of a code segment that is readable and was accessed (table 3-1).
pub const CODE_READ_ACCESSED: u8 = 11;
/// Type of a busy TSS of 32 or 64 bits (table 3-2).
pub const BUSY_TSS: u8 = 11;
/// A 64-bit TSS of a task that does not run.
pub const AVAILABLE_TSS: u8 = 9;
/// Bit of a system segment's type: a TSS of more than 16 bits (table 3-2).
pub const TSS_WIDE: u8 = 1 << 3;

/// Bytes of a gate in 64-bit mode (figure 7-8).
pub const GATE_BYTES: u64 = 16;
/// Bit of a gate's sixth byte: it is present.
pub const GATE_PRESENT: u8 = 1 << 7;
/// Type of an interrupt gate.
const INTERRUPT_GATE: u8 = 0xe;
/// Type of a trap gate: it leaves RFLAGS.IF as it is.
const TRAP_GATE: u8 = 0xf;

/// Bytes of a TSS without its I/O permissions, of 32 bits (figure 8-2) or 64 (figure 8-11).
pub const TSS_BYTES: u64 = 104;
/// Offset of RSP0 in a TSS of 64 bits, and of ESP0 in one of 32 bits; two more stack pointers follow,
/// 8 bytes apart in both.
pub const TSS_SP0: u64 = 4;
/// Offset of IST1 in a TSS of 64 bits; six more follow.
pub const TSS_IST1: u64 = 36;
/// Offset of the I/O map base.
pub const TSS_IO_BASE: u64 = 0x66;
/// Bytes of an I/O permission bitmap for all 65,536 ports, with the byte of ones that must follow it
/// (volume 1, section 19.5.2).
pub const IO_MAP_BYTES: u64 = 8192 + 1;

/// A segment of all 4 GiB, at privilege level 0.
pub fn flat_segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment { selector, type_, limit: u32::MAX, g: 1, s: 1, present: 1, ..Default::default() }
}

/// A busy task state segment, with the offset of its last byte.
pub fn task_segment(selector: u16, base: u64, limit: u32) -> kvm_segment {
    kvm_segment { base, selector, type_: BUSY_TSS, limit, present: 1, ..Default::default() }
}

/// The descriptor of a segment (figure 3-8). In 64-bit mode that of a TSS is twice as long
/// (figure 8-4): the upper half of the base follows it.
pub fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 { segment.limit >> 12 } else { segment.limit });
    let bit = |value: u8, shift: u32| u64::from(value) << shift;
    limit & 0xffff
        | (segment.base & 0xff_ffff) << 16
        | bit(segment.type_, 40)
        | bit(segment.s, 44)
        | bit(segment.dpl, 45)
        | bit(segment.present, 47)
        | (limit >> 16 & 0xf) << 48
        | bit(segment.l, 53)
        | bit(segment.db, 54)
        | bit(segment.g, 55)
        | (segment.base >> 24 & 0xff) << 56
}

/// The interrupt gate of a handler (figure 7-8) in the code segment `selector`, open to `dpl`.
pub fn gate(handler: u64, selector: u16, dpl: u8) -> [u64; 2] {
    let low = (handler & 0xffff)
        | u64::from(selector) << 16
        | u64::from(GATE_PRESENT | dpl << 5 | INTERRUPT_GATE) << 40
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

/// The trap gate of a handler in the code segment `selector`, on the stack of this number in the TSS; open to
/// programs.
pub fn trap_gate(handler: u64, selector: u16, stack: u8) -> [u64; 2] {
    let [low, high] = gate(handler, selector, 3);
    [low | u64::from(TRAP_GATE ^ INTERRUPT_GATE) << 40 | u64::from(stack) << 32, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates() {
        assert_eq!(gate(0x1234_5678_9abc_def0, 8, 0), [0x9abc_8e00_0008_def0, 0x1234_5678]);
        assert_eq!(gate(0x1000, 0x10, 3), [0x0000_ee00_0010_1000, 0]);
        assert_eq!(trap_gate(0x1000, 0x33, 1), [0x0000_ef01_0033_1000, 0]);
    }

    #[test]
    fn descriptors_of_task_segments() {
        assert_eq!(descriptor(&task_segment(8, 0, 0x67)), 0x0000_8b00_0000_0067);
        assert_eq!(descriptor(&task_segment(8, 0x1_1234_5678, 0x2_0068)), 0x1202_8b34_5678_0068);
    }
}
