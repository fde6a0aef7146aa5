//! The code of the handler of breakpoints.
//!
//! It has the program's registers, and a stack on which the CPU has pushed a frame.

use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, al, byte_ptr, dword_ptr, eax, ebx, ecx, edx, qword_ptr, r8, r8d, rax, rbx, rcx, rdx, rsp,
};

use super::{
    CLOCK, FACTS, HANDLER, HANDLER_CODE, HANDLER_ENTRY, LEAF, LEAF_BYTES, LEAVES, PAUSE_EXITS, RANGE, RANGES,
    XCR0,
};
use crate::entry::BREAKPOINT_PORT;
use crate::program::clock::PAUSE_STEP;
use crate::program::mm::patch::{CPUID, PAUSE, RDTSC, XGETBV, XGETBV_END};
use crate::program::vdso::{LIMIT_NS, MODE, MONOTONIC_NS, STEP_NS};
use crate::ram::PAGE_SIZE;
use crate::x86::flags::rflags::TRAP_FLAG;

fn handler() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    // The exit, at a known place.
    let mut exit = a.create_label();
    a.set_label(&mut exit)?;
    a.out(i32::from(BREAKPOINT_PORT), al)?;
    a.iretq()?;
    let padding = vec![0xcc; (HANDLER_ENTRY - HANDLER) as usize - 4];
    a.db(&padding)?;

    let [mut no_match, mut leave_rdx, mut leave_rax, mut leave_leaf] = [(); 4].map(|()| a.create_label());
    let [mut next_range, mut next_leaf, mut pause, mut paused, mut rdtsc, mut xgetbv] =
        [(); 6].map(|()| a.create_label());
    // RIP is behind the first byte. Where the second lies in the next page, it need not be there.
    a.push(rax)?;
    a.mov(rax, qword_ptr(rsp + 8))?;
    a.test(eax, PAGE_SIZE as u32 - 1)?;
    a.je(leave_rax)?;
    a.push(rdx)?;
    // The trap behind a step would be lost.
    a.test(dword_ptr(rsp + 32), TRAP_FLAG as u32)?;
    a.jne(leave_rdx)?;
    a.push(rcx)?;
    a.mov(rdx, FACTS)?;
    a.mov(rcx, qword_ptr(rdx + RANGES))?;
    a.shl(rcx, 4)?;
    a.set_label(&mut next_range)?;
    a.sub(rcx, 16)?;
    a.jb(no_match)?;
    a.cmp(rax, qword_ptr(rdx + rcx + RANGE))?;
    a.jb(next_range)?;
    a.cmp(rax, qword_ptr(rdx + rcx + (RANGE + 8)))?;
    a.jae(next_range)?;
    a.cmp(byte_ptr(rax), u32::from(PAUSE))?;
    a.je(pause)?;
    a.cmp(byte_ptr(rax), u32::from(RDTSC))?;
    a.je(rdtsc)?;
    a.cmp(byte_ptr(rax), u32::from(XGETBV))?;
    a.je(xgetbv)?;
    a.cmp(byte_ptr(rax), u32::from(CPUID))?;
    a.jne(no_match)?;

    // On the stack: RCX, RDX, RAX, the frame.
    a.mov(eax, dword_ptr(rsp + 16))?;
    a.mov(ecx, dword_ptr(rsp))?;
    a.push(rbx)?;
    a.push(r8)?;
    a.mov(rbx, qword_ptr(rdx + LEAVES))?;
    a.set_label(&mut next_leaf)?;
    a.sub(rbx, LEAF_BYTES as i32)?;
    a.jb(leave_leaf)?;
    a.cmp(eax, dword_ptr(rdx + rbx + LEAF))?;
    a.jne(next_leaf)?;
    a.mov(r8d, ecx)?;
    a.and(r8d, dword_ptr(rdx + rbx + (LEAF + 8)))?;
    a.cmp(r8d, dword_ptr(rdx + rbx + (LEAF + 4)))?;
    a.jne(next_leaf)?;
    a.add(rdx, rbx)?;
    a.pop(r8)?;
    // RBX, RCX, RDX and RAX are given new values.
    a.add(rsp, 32)?;
    a.mov(eax, dword_ptr(rdx + (LEAF + 12)))?;
    a.mov(ebx, dword_ptr(rdx + (LEAF + 16)))?;
    a.mov(ecx, dword_ptr(rdx + (LEAF + 20)))?;
    a.mov(edx, dword_ptr(rdx + (LEAF + 24)))?;
    a.inc(qword_ptr(rsp))?;
    a.iretq()?;

    a.set_label(&mut leave_leaf)?;
    a.pop(r8)?;
    a.pop(rbx)?;
    a.set_label(&mut no_match)?;
    a.pop(rcx)?;
    a.set_label(&mut leave_rdx)?;
    a.pop(rdx)?;
    a.set_label(&mut leave_rax)?;
    a.pop(rax)?;
    a.jmp(exit)?;

    a.set_label(&mut pause)?;
    a.cmp(dword_ptr(rdx + PAUSE_EXITS), 0)?;
    a.jne(no_match)?;
    a.mov(rdx, qword_ptr(rdx + CLOCK))?;
    a.test(rdx, rdx)?;
    a.je(paused)?;
    a.mov(eax, PAUSE_STEP as u32)?;
    a.lock().xadd(qword_ptr(rdx + MONOTONIC_NS), rax)?;
    a.cmp(rax, qword_ptr(rdx + LIMIT_NS))?;
    a.jae(no_match)?;
    a.set_label(&mut paused)?;
    a.pop(rcx)?;
    a.pop(rdx)?;
    a.pop(rax)?;
    a.inc(qword_ptr(rsp))?;
    a.iretq()?;

    // As a function of the vDSO reads the clock.
    a.set_label(&mut rdtsc)?;
    a.mov(rdx, qword_ptr(rdx + CLOCK))?;
    a.test(rdx, rdx)?;
    a.je(no_match)?;
    a.cmp(qword_ptr(rdx + MODE), 0)?;
    a.jne(no_match)?;
    a.mov(rcx, qword_ptr(rdx + STEP_NS))?;
    a.mov(rax, rcx)?;
    a.lock().xadd(qword_ptr(rdx + MONOTONIC_NS), rax)?;
    a.add(rax, rcx)?;
    a.cmp(rax, qword_ptr(rdx + LIMIT_NS))?;
    a.jae(no_match)?;
    a.mov(rdx, rax)?;
    a.shr(rdx, 32)?;
    a.mov(eax, eax)?;
    a.pop(rcx)?;
    // RDX and RAX are given new values.
    a.add(rsp, 16)?;
    a.inc(qword_ptr(rsp))?;
    a.iretq()?;

    // Its third byte may lie in the next page, too. There is one register, number 0.
    a.set_label(&mut xgetbv)?;
    a.inc(rax)?;
    a.test(eax, PAGE_SIZE as u32 - 1)?;
    a.je(no_match)?;
    a.cmp(byte_ptr(rax), u32::from(XGETBV_END))?;
    a.jne(no_match)?;
    a.cmp(dword_ptr(rsp), 0)?;
    a.jne(no_match)?;
    a.mov(eax, dword_ptr(rdx + XCR0))?;
    a.mov(edx, dword_ptr(rdx + (XCR0 + 4)))?;
    a.pop(rcx)?;
    a.add(rsp, 16)?;
    a.add(qword_ptr(rsp), 2)?;
    a.iretq()?;
    a.assemble(HANDLER)
}

#[test]
fn the_handler_is_what_its_code_makes() {
    assert!(
        handler().unwrap() == HANDLER_CODE,
        "write it anew: cargo test -p dejavm-sandbox --lib write_the_handler -- --ignored"
    );
    assert!(HANDLER_CODE.len() < PAGE_SIZE - (HANDLER - super::SYSCALL_STUB) as usize);
}

#[test]
#[ignore = "writes src/program/entry/handler.bin"]
fn write_the_handler() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/program/entry/handler.bin");
    std::fs::write(path, handler().unwrap()).unwrap();
}
