//! The functions of the vDSO.
//!
//! They follow the System V ABI for x86-64 (section 3.2): arguments in RDI and RSI, the result in
//! RAX; RCX, RDX, R8 and R11 are theirs to change. None uses the stack.
//! Prototypes and corner cases are those of Linux `lib/vdso/gettimeofday.c` and
//! `arch/x86/entry/vdso/`.

use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, dword_ptr, eax, ecx, edi, edx, qword_ptr, r8, rax, rcx, rdi, rdx, rsi,
};
use iced_x86::{Code, IcedError, Instruction, MemoryOperand, Register};
use linux_raw_sys::general::{
    __NR_clock_getres, __NR_clock_gettime, __NR_getcpu, __NR_gettimeofday, __NR_rt_sigreturn, __NR_time,
};

use super::{
    CLOCK_PAGE_BYTES, COARSE_RESOLUTION_NS, LIMIT_NS, MODE, MONOTONIC_NS, REALTIME_OFFSET_NS, STEP_NS,
};

/// Functions start at multiples of this (Intel optimization reference manual, section "Code
/// Alignment").
pub const ALIGN: usize = 16;
/// `int3`: what lies between functions.
const PADDING: u8 = 0xcc;

/// The bits of the clocks (`include/uapi/linux/time.h`) that count from 1970: `REALTIME`,
/// `REALTIME_COARSE`, `TAI`. Like a Linux whose TAI offset nobody has set, TAI is real time.
const REALTIME_CLOCKS: u32 = 1 | 1 << 5 | 1 << 11;
/// `MONOTONIC`, `MONOTONIC_RAW`, `MONOTONIC_COARSE`, `BOOTTIME`.
const MONOTONIC_CLOCKS: u32 = 1 << 1 | 1 << 4 | 1 << 6 | 1 << 7;
/// Clocks that are read here; the others, which count CPU time, set alarms or belong to a device,
/// are left to the system call.
const CLOCKS: u32 = REALTIME_CLOCKS | MONOTONIC_CLOCKS;
/// `REALTIME_COARSE`, `MONOTONIC_COARSE`.
const COARSE_CLOCKS: u32 = 1 << 5 | 1 << 6;
/// The greatest clock number that has a bit above.
const LAST_CLOCK: i32 = 11;

const NS_PER_SECOND: u32 = 1_000_000_000;
const NS_PER_MICROSECOND: u32 = 1000;
const MICROSECONDS_PER_SECOND: u32 = 1_000_000;

/// Where a function's code is.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// The symbol that libraries look up.
    pub name: &'static str,
    /// The weak symbol beside it, without the prefix, if there is one.
    pub alias: Option<&'static str>,
    /// Offset in the image.
    pub offset: u64,
    /// Bytes of code, without the padding behind.
    pub size: u64,
}

/// The code.
#[derive(Debug)]
pub struct Text {
    /// The machine code of all functions.
    pub bytes: Vec<u8>,
    /// The functions that libraries look for, ascending; they lie without a gap but padding.
    pub functions: Vec<Function>,
    /// The signal trampoline, behind them.
    pub sigreturn: Function,
}

type Emit = fn(&mut CodeAssembler) -> Result<(), IcedError>;

const FUNCTIONS: [(&str, &str, Emit); 5] = [
    ("__vdso_clock_gettime", "clock_gettime", clock_gettime),
    ("__vdso_gettimeofday", "gettimeofday", gettimeofday),
    ("__vdso_time", "time", time),
    ("__vdso_clock_getres", "clock_getres", clock_getres),
    ("__vdso_getcpu", "getcpu", getcpu),
];

/// Assembles the functions for an image in which they start at `offset`.
pub fn text(offset: u64) -> Text {
    let mut bytes = Vec::new();
    let mut function = |name, alias, emit: Emit| {
        let at = offset + bytes.len() as u64;
        let code = assemble(at, emit).expect("constant code");
        bytes.extend_from_slice(&code);
        // One byte at least: unwinders look at the byte before a return address, which must not
        // belong to another function where the trampoline's start is the return address.
        bytes.resize((bytes.len() + 1).next_multiple_of(ALIGN), PADDING);
        Function { name, alias, offset: at, size: code.len() as u64 }
    };
    let functions = FUNCTIONS.map(|(name, alias, emit)| function(name, Some(alias), emit)).to_vec();
    let sigreturn = function("__dejavm_sigreturn", None, sigreturn);
    Text { bytes, functions, sigreturn }
}

/// Assembles one function at an offset in the image, as if the clock page were at address 0.
fn assemble(offset: u64, emit: Emit) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    emit(&mut a)?;
    a.assemble(CLOCK_PAGE_BYTES + offset)
}

/// `r8 = the clock page`; goes to `system_call` if the mode asks for it.
fn enter(a: &mut CodeAssembler, system_call: CodeLabel) -> Result<(), IcedError> {
    // Relative to RIP, so that the image works wherever it is mapped.
    let clock_page = MemoryOperand::with_base_displ(Register::RIP, 0);
    a.add_instruction(Instruction::with2(Code::Lea_r64_m, Register::R8, clock_page)?)?;
    a.cmp(qword_ptr(r8 + MODE), 0)?;
    a.jne(system_call)
}

/// `rax = monotonic time`, advancing it; changes RCX. Goes to `system_call` if it has come to its limit.
fn read_clock(a: &mut CodeAssembler, system_call: CodeLabel) -> Result<(), IcedError> {
    // The step is read once: the monitor may change it where it switches tasks.
    a.mov(rcx, qword_ptr(r8 + STEP_NS))?;
    a.mov(rax, rcx)?;
    a.lock().xadd(qword_ptr(r8 + MONOTONIC_NS), rax)?;
    a.add(rax, rcx)?;
    a.cmp(rax, qword_ptr(r8 + LIMIT_NS))?;
    a.jae(system_call)
}

/// `rax, rdx = rax / divisor, rax % divisor`; changes RCX.
fn divide(a: &mut CodeAssembler, divisor: u32) -> Result<(), IcedError> {
    a.xor(edx, edx)?;
    a.mov(ecx, divisor)?;
    a.div(rcx)
}

fn return_zero(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.xor(eax, eax)?;
    a.ret()
}

/// The function's other end: the system call of the same arguments.
fn system_call(a: &mut CodeAssembler, mut label: CodeLabel, number: u32) -> Result<(), IcedError> {
    a.set_label(&mut label)?;
    a.mov(eax, number)?;
    a.syscall()?;
    a.ret()
}

/// Goes to `otherwise` unless the clock in EDI is one of [`CLOCKS`]. The upper half of RDI is
/// undefined: `clockid_t` is an `int`.
fn check_clock(a: &mut CodeAssembler, otherwise: CodeLabel) -> Result<(), IcedError> {
    // Unsigned, so that the negative numbers of dynamic clocks go too.
    a.cmp(edi, LAST_CLOCK)?;
    a.ja(otherwise)?;
    a.mov(eax, CLOCKS)?;
    a.bt(eax, edi)?;
    a.jnc(otherwise)
}

/// `int clock_gettime(clockid_t id, struct timespec *time)`
fn clock_gettime(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let fallback = a.create_label();
    let mut split = a.create_label();
    enter(a, fallback)?;
    check_clock(a, fallback)?;
    read_clock(a, fallback)?;
    a.mov(edx, REALTIME_CLOCKS)?;
    a.bt(edx, edi)?;
    a.jnc(split)?;
    a.add(rax, qword_ptr(r8 + REALTIME_OFFSET_NS))?;
    a.set_label(&mut split)?;
    divide(a, NS_PER_SECOND)?;
    a.mov(qword_ptr(rsi), rax)?;
    a.mov(qword_ptr(rsi + 8), rdx)?;
    return_zero(a)?;
    system_call(a, fallback, __NR_clock_gettime)
}

/// `int gettimeofday(struct timeval *time, struct timezone *zone)`: either may be null.
fn gettimeofday(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let fallback = a.create_label();
    let mut zone = a.create_label();
    let mut done = a.create_label();
    enter(a, fallback)?;
    a.test(rdi, rdi)?;
    a.je(zone)?;
    read_clock(a, fallback)?;
    a.add(rax, qword_ptr(r8 + REALTIME_OFFSET_NS))?;
    divide(a, NS_PER_MICROSECOND)?;
    divide(a, MICROSECONDS_PER_SECOND)?;
    a.mov(qword_ptr(rdi), rax)?;
    a.mov(qword_ptr(rdi + 8), rdx)?;
    a.set_label(&mut zone)?;
    a.test(rsi, rsi)?;
    a.je(done)?;
    // Both `int`s of the time zone at once.
    a.mov(qword_ptr(rsi), 0)?;
    a.set_label(&mut done)?;
    return_zero(a)?;
    system_call(a, fallback, __NR_gettimeofday)
}

/// `time_t time(time_t *time)`: the argument may be null.
fn time(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let fallback = a.create_label();
    let mut done = a.create_label();
    enter(a, fallback)?;
    read_clock(a, fallback)?;
    a.add(rax, qword_ptr(r8 + REALTIME_OFFSET_NS))?;
    divide(a, NS_PER_SECOND)?;
    a.test(rdi, rdi)?;
    a.je(done)?;
    a.mov(qword_ptr(rdi), rax)?;
    a.set_label(&mut done)?;
    a.ret()?;
    system_call(a, fallback, __NR_time)
}

/// `int clock_getres(clockid_t id, struct timespec *resolution)`: the second may be null.
fn clock_getres(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let fallback = a.create_label();
    let mut done = a.create_label();
    enter(a, fallback)?;
    check_clock(a, fallback)?;
    a.test(rsi, rsi)?;
    a.je(done)?;
    a.mov(eax, COARSE_RESOLUTION_NS)?;
    a.mov(ecx, 1)?;
    a.mov(edx, COARSE_CLOCKS)?;
    a.bt(edx, edi)?;
    // Clears the upper half of RAX either way (Intel SDM volume 1, section 3.4.1.1).
    a.cmovnc(eax, ecx)?;
    a.mov(qword_ptr(rsi), 0)?;
    a.mov(qword_ptr(rsi + 8), rax)?;
    a.set_label(&mut done)?;
    return_zero(a)?;
    system_call(a, fallback, __NR_clock_getres)
}

/// `int getcpu(unsigned *cpu, unsigned *node, void *unused)`: there is one CPU and one node, each
/// number 0, and any argument may be null.
fn getcpu(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let fallback = a.create_label();
    let mut node = a.create_label();
    let mut done = a.create_label();
    enter(a, fallback)?;
    a.test(rdi, rdi)?;
    a.je(node)?;
    a.mov(dword_ptr(rdi), 0)?;
    a.set_label(&mut node)?;
    a.test(rsi, rsi)?;
    a.je(done)?;
    a.mov(dword_ptr(rsi), 0)?;
    a.set_label(&mut done)?;
    return_zero(a)?;
    system_call(a, fallback, __NR_getcpu)
}

/// Does not return. `mov rax, 15` in its seven-byte form: debuggers and unwinders know a signal
/// frame by these very bytes (libgcc `config/i386/linux-unwind.h`, gdb `amd64-linux-tdep.c`).
fn sigreturn(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.add_instruction(Instruction::with2(Code::Mov_rm64_imm32, Register::RAX, __NR_rt_sigreturn as i32)?)?;
    a.syscall()
}
