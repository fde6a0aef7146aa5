//! The linear memory that the CPU itself uses: descriptor tables, task state, stacks.

use kvm_bindings::kvm_segment;

use super::{Cpu, Why};
use crate::kernel::paging::{Mode, Paging, Physical};
use crate::ram::PAGE_SIZE;
use crate::x86::descriptors::{self, GATE_BYTES, GATE_PRESENT, TSS_IST1, TSS_SP0, TSS_WIDE};
use crate::x86::vector::DOUBLE_FAULT;

/// The most that a GDT or LDT spans, bytes: a selector has 13 bits of index to entries of 8 bytes
/// (SDM volume 3, section 3.5.1).
const DESCRIPTOR_BYTES: u64 = 1 << 16;
/// The most that is used of an IDT, bytes: 256 gates of 16 bytes (SDM volume 3, section 6.14.1).
const IDT_BYTES: u64 = 256 * GATE_BYTES;
/// The most that is used of a TSS, bytes: its fixed part (SDM volume 3, section 8.2.1), and three pages for the
/// bitmap of interrupt redirection, of 32, and the I/O permission bitmap, of 8193, with some space
/// between.
const TSS_BYTES: u64 = descriptors::TSS_BYTES + 3 * PAGE_SIZE as u64;
/// What is kept below a stack pointer, bytes: more than the frame of any exception (64 with its
/// alignment and error code; SDM volume 3, section 6.14.2), so that a handler has room for more.
pub(in crate::kernel) const STACK_BELOW: u64 = PAGE_SIZE as u64;
/// What is kept above RSP, bytes: what IRET pops, 36 to 40.
const STACK_ABOVE: u64 = 64;

/// A range of linear addresses. It may wrap around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) why: Why,
    /// Of a stack that the TSS names.
    pub(super) of_task: bool,
    start: u64,
    /// Bytes; at least 1.
    len: u64,
}

impl Area {
    /// An address in each page.
    pub(super) fn pages(self) -> impl Iterator<Item = u64> {
        let offset = self.start % PAGE_SIZE as u64;
        let pages = (offset + self.len).div_ceil(PAGE_SIZE as u64);
        (0..pages).map(move |n| (self.start - offset).wrapping_add(n * PAGE_SIZE as u64))
    }
}

/// Whether the CPU is in 64-bit mode, which knows no segment bases (SDM volume 3, section 3.2.4).
fn is_64_bit(cpu: &Cpu<'_>, paging: &Paging) -> bool {
    is_long(paging) && cpu.sregs.cs.l != 0
}

/// Whether long mode is active: 64-bit mode or compatibility mode.
fn is_long(paging: &Paging) -> bool {
    matches!(paging.mode(), Mode::Level4 | Mode::Level5)
}

/// The linear address of the instruction at RIP.
pub(super) fn instruction(cpu: &Cpu<'_>, paging: &Paging) -> u64 {
    if is_64_bit(cpu, paging) { cpu.regs.rip } else { cpu.sregs.cs.base.wrapping_add(cpu.regs.rip) }
}

/// The linear address that the stack pointer means.
pub(in crate::kernel) fn stack_top(cpu: &Cpu<'_>, paging: &Paging) -> u64 {
    let rsp = cpu.regs.rsp;
    let ss = &cpu.sregs.ss;
    match (is_64_bit(cpu, paging), ss.db != 0) {
        (true, _) => rsp,
        (false, true) => ss.base.wrapping_add(rsp & 0xffff_ffff),
        (false, false) => ss.base.wrapping_add(rsp & 0xffff),
    }
}

/// All that the CPU uses by itself.
pub(super) fn areas(cpu: &Cpu<'_>, paging: &Paging, memory: &dyn Physical) -> Vec<Area> {
    let sregs = cpu.sregs;
    let mut areas = Vec::new();
    let mut add = |why, start: u64, len: u64| areas.push(Area { why, of_task: false, start, len });
    add(Why::DescriptorTable, sregs.gdt.base, u64::from(sregs.gdt.limit) + 1);
    add(Why::DescriptorTable, sregs.idt.base, (u64::from(sregs.idt.limit) + 1).min(IDT_BYTES));
    if is_usable(&sregs.ldt) {
        add(Why::DescriptorTable, sregs.ldt.base, (u64::from(sregs.ldt.limit) + 1).min(DESCRIPTOR_BYTES));
    }
    if is_usable(&sregs.tr) {
        add(Why::TaskState, sregs.tr.base, (u64::from(sregs.tr.limit) + 1).min(TSS_BYTES));
    }
    add(Why::Stack, stack_top(cpu, paging).wrapping_sub(STACK_BELOW), STACK_BELOW + STACK_ABOVE);
    for top in task_stacks(&sregs.tr, paging, memory) {
        let start = top.wrapping_sub(STACK_BELOW);
        areas.push(Area { why: Why::Stack, of_task: true, start, len: STACK_BELOW });
    }
    areas
}

/// The linear address of the first word that is pushed when #DF is delivered, if it has a stack of its
/// own (SDM volume 3, sections 6.14.1 and 6.14.5).
pub(super) fn double_fault_stack(cpu: &Cpu<'_>, paging: &Paging, memory: &dyn Physical) -> Option<u64> {
    let Cpu { sregs, .. } = cpu;
    let at = u64::from(DOUBLE_FAULT) * GATE_BYTES;
    if !is_long(paging) || u64::from(sregs.idt.limit) < at + GATE_BYTES - 1 || !is_usable(&sregs.tr) {
        return None;
    }
    let mut gate = [0u8; GATE_BYTES as usize];
    read(sregs.idt.base.wrapping_add(at), &mut gate, paging, memory)?;
    let number = u64::from(gate[4] & 7);
    if number == 0 || gate[5] & GATE_PRESENT == 0 {
        return None;
    }
    let mut top = [0u8; 8];
    read(sregs.tr.base.wrapping_add(TSS_IST1 + (number - 1) * 8), &mut top, paging, memory)?;
    // The CPU aligns the stack to 16 bytes before it pushes.
    let top = u64::from_le_bytes(top) & !15;
    (top != 0).then(|| top.wrapping_sub(8))
}

fn is_usable(segment: &kvm_segment) -> bool {
    segment.present != 0 && segment.unusable == 0
}

/// The stack pointers in a TSS that are set. Those of a 32-bit TSS are taken for linear addresses,
/// as they are with flat stack segments. A 16-bit TSS is passed over: it belongs to systems of the
/// 80286.
fn task_stacks(tr: &kvm_segment, paging: &Paging, memory: &dyn Physical) -> Vec<u64> {
    if !is_usable(tr) || tr.type_ & TSS_WIDE == 0 {
        return Vec::new();
    }
    let (bytes, interrupt_stacks) = if is_long(paging) { (8, 7) } else { (4, 0) };
    let privilege = (0..3).map(|n| TSS_SP0 + n * 8);
    let interrupt = (0..interrupt_stacks).map(|n| TSS_IST1 + n * 8);
    let tops = privilege.chain(interrupt).filter_map(|offset| {
        let mut raw = [0u8; 8];
        read(tr.base.wrapping_add(offset), &mut raw[..bytes], paging, memory)?;
        Some(u64::from_le_bytes(raw))
    });
    tops.filter(|top| *top != 0).collect()
}

/// Reads linear memory, which may be cut by one border of pages.
fn read(linear: u64, out: &mut [u8], paging: &Paging, memory: &dyn Physical) -> Option<()> {
    let left = PAGE_SIZE - linear as usize % PAGE_SIZE;
    let (head, tail) = out.split_at_mut(left.min(out.len()));
    for (linear, part) in [(linear, &mut *head), (linear.wrapping_add(left as u64), tail)] {
        if !part.is_empty() && !memory.read(paging.translate(memory, linear)?, part) {
            return None;
        }
    }
    Some(())
}
