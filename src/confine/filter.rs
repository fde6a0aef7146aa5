//! The table of calls as a program for seccomp.
//!
//! The kernel takes time in proportion to a program's length to install it, and then runs it once for
//! each call that there is, to find out which ones it need not run it for. So calls are searched for
//! by halving, in ranges: installing this takes a tenth of what a comparison for each call would.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{BpfProgram, Error, apply_filter_all_threads, sock_filter};

use super::calls::{ABSENT, ANY, GIVEN, IOCTLS, Is, OPEN_WRITES, OPENING, WRITING};

/// Installs the filter on all threads of the process. With `writes`, files may be made and changed,
/// as far as Landlock lets them be; `more` are calls to be allowed besides.
pub(super) fn install(writes: bool, more: &[c_long]) -> Result<(), Error> {
    apply_filter_all_threads(&program(writes, more))
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Absent,
    Kill,
    /// Allowed if one of these holds: an argument, a mask, and its value under that.
    If(Vec<(u32, u32, u32)>),
}

// Instructions of classic BPF (`linux/filter.h`).
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

// Offsets in `struct seccomp_data`; arguments have 64 bits, the low ones first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `AUDIT_ARCH_X86_64` (`linux/audit.h`): `EM_X86_64`, 64 bits, little-endian.
const X86_64: u32 = 62 | 0x8000_0000 | 0x4000_0000;

fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Goes on with the next instruction if the comparison holds, and skips that many if not.
fn check(code: u16, k: u32, skip: u8) -> sock_filter {
    sock_filter { code, jt: 0, jf: skip, k }
}

fn program(writes: bool, more: &[c_long]) -> BpfProgram {
    let mut program = vec![step(LOAD, ARCHITECTURE), check(IF_EQUAL, X86_64, 1), step(JUMP, 1)];
    program.push(step(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
    program.push(step(LOAD, NUMBER));
    search(&ranges(verdicts(writes, more)), &mut program);
    program
}

/// What becomes of each call of the table.
fn verdicts(writes: bool, more: &[c_long]) -> BTreeMap<u32, Verdict> {
    let mut conditions: BTreeMap<c_long, Vec<(u32, u32, u32)>> = BTreeMap::new();
    let ioctls = IOCTLS.iter().map(|(request, _)| (libc::SYS_ioctl, 1, Is::Equal(*request)));
    let reads = Is::Masked(OPEN_WRITES, 0);
    let opens = OPENING.iter().filter(|_| !writes).map(|(call, flags)| (*call, *flags, reads));
    for (call, argument, is) in GIVEN.iter().copied().chain(ioctls).chain(opens) {
        // What the kernel looks at of these arguments has 32 bits.
        let (mask, value) = match is {
            Is::Equal(value) => (u32::MAX, value as u32),
            Is::Masked(mask, value) => (mask as u32, value as u32),
            Is::OwnProcess => (u32::MAX, std::process::id()),
        };
        conditions.entry(call).or_default().push((argument, mask, value));
    }
    let conditions = conditions.into_iter().map(|(call, any)| (call, Verdict::If(any)));
    let absent = ABSENT.iter().map(|call| (*call, Verdict::Absent));
    let written = WRITING.iter().chain(OPENING.iter().map(|(call, _)| call)).filter(|_| writes);
    let allowed = ANY.iter().chain(written).chain(more).map(|call| (*call, Verdict::Allow));
    let all = conditions.chain(absent).chain(allowed);
    // Whoever names a call that does not exist allows nothing.
    all.filter_map(|(call, verdict)| Some((u32::try_from(call).ok()?, verdict))).collect()
}

/// The verdicts as ranges that cover all numbers: each begins at a number and ends where the next begins.
fn ranges(verdicts: BTreeMap<u32, Verdict>) -> Vec<(u32, Verdict)> {
    let mut ranges = vec![(0, Verdict::Kill)];
    let mut begin = |at: u32, verdict: Verdict| match ranges.last_mut() {
        Some((from, last)) if *from == at => *last = verdict,
        Some((_, last)) if *last == verdict => {}
        _ => ranges.push((at, verdict)),
    };
    let mut next = 0;
    for (call, verdict) in verdicts {
        if call > next {
            begin(next, Verdict::Kill);
        }
        begin(call, verdict);
        next = call + 1;
    }
    begin(next, Verdict::Kill);
    ranges
}

/// Finds the range of the number that was loaded, and does what it says.
fn search(ranges: &[(u32, Verdict)], program: &mut BpfProgram) {
    let [(_, verdict)] = ranges else {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let mut below = Vec::new();
        search(low, &mut below);
        match u8::try_from(below.len()) {
            Ok(skip) => program.push(sock_filter { code: IF_NOT_BELOW, jt: skip, jf: 0, k: high[0].0 }),
            Err(_) => {
                program.push(check(IF_NOT_BELOW, high[0].0, 1));
                program.push(step(JUMP, below.len() as u32));
            }
        }
        program.append(&mut below);
        search(high, program);
        return;
    };
    match verdict {
        Verdict::Allow => program.push(step(RETURN, libc::SECCOMP_RET_ALLOW)),
        Verdict::Kill => program.push(step(RETURN, libc::SECCOMP_RET_KILL_PROCESS)),
        Verdict::Absent => program.push(step(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)),
        Verdict::If(conditions) => {
            for same in conditions.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
                let (argument, mask, _) = same[0];
                program.push(step(LOAD, ARGUMENTS + 8 * argument));
                if mask != u32::MAX {
                    program.push(step(AND, mask));
                }
                for (left, (.., value)) in (0..same.len()).rev().zip(same) {
                    // To the answer behind the last comparison, which a mismatch goes past.
                    let last = u8::from(left == 0);
                    let left = u8::try_from(left).unwrap_or(u8::MAX);
                    program.push(sock_filter { code: IF_EQUAL, jt: left, jf: last, k: *value });
                }
                program.push(step(RETURN, libc::SECCOMP_RET_ALLOW));
            }
            program.push(step(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program gives for a call, as the kernel runs it.
    fn run(program: &BpfProgram, call: c_long, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend((call as u32).to_le_bytes());
        data.extend(X86_64.to_le_bytes());
        data.extend([0; 8]);
        args.iter().for_each(|arg| data.extend(arg.to_le_bytes()));
        let (mut at, mut a) = (0, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                LOAD => {
                    let bytes = &data[step.k as usize..][..4];
                    a = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
                }
                AND => a &= step.k,
                JUMP => at += step.k as usize,
                IF_EQUAL => at += jump(a == step.k),
                IF_NOT_BELOW => at += jump(a >= step.k),
                RETURN => return step.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

    #[test]
    fn the_program_says_what_the_table_says() {
        for writes in [false, true] {
            let program = program(writes, &[libc::SYS_socket]);
            // BPF_MAXINSNS is 4096; every instruction costs at the start.
            assert!(program.len() < 400, "{}", program.len());
            let verdicts = verdicts(writes, &[libc::SYS_socket]);
            for call in 0..600 {
                let expected = match verdicts.get(&(call as u32)) {
                    Some(Verdict::Allow) => ALLOW,
                    Some(Verdict::Absent) => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
                    Some(Verdict::If(_)) => continue,
                    Some(Verdict::Kill) | None => KILL,
                };
                assert_eq!(run(&program, call, [0; 6]), expected, "call {call}");
            }
            for call in [1 << 30, (1 << 30) | libc::SYS_read, -1] {
                assert_eq!(run(&program, call, [0; 6]), KILL, "call {call:#x}");
            }
        }
    }

    #[test]
    fn arguments_count() {
        let plain = program(false, &[]);
        let writing = program(true, &[]);
        let of = |program, call, args: &[(usize, u64)]| {
            let mut all = [0x5a5a_5a5a; 6];
            args.iter().for_each(|(n, value)| all[*n] = *value);
            run(program, call, all)
        };
        for (request, name) in IOCTLS {
            assert_eq!(of(&plain, libc::SYS_ioctl, &[(1, *request)]), ALLOW, "{name}");
        }
        // KVM_CREATE_VM, KVM_CREATE_VCPU, TIOCSTI, TIOCLINUX.
        for request in [0xae01, 0xae41, 0x5412, 0x541c] {
            assert_eq!(of(&plain, libc::SYS_ioctl, &[(1, request)]), KILL, "{request:#x}");
        }
        let own = u64::from(std::process::id());
        assert_eq!(of(&plain, libc::SYS_tgkill, &[(0, own)]), ALLOW);
        assert_eq!(of(&plain, libc::SYS_kill, &[(0, 1)]), KILL);
        assert_eq!(of(&plain, libc::SYS_kill, &[(0, u64::MAX)]), KILL);
        let (read, write, exec) = (libc::PROT_READ as u64, libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
        assert_eq!(of(&plain, libc::SYS_mmap, &[(2, read | write)]), ALLOW);
        assert_eq!(of(&plain, libc::SYS_mmap, &[(2, read | exec)]), KILL);
        assert_eq!(of(&plain, libc::SYS_mprotect, &[(2, exec)]), KILL);
        let thread = (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_FS) as u64;
        assert_eq!(of(&plain, libc::SYS_clone, &[(0, thread)]), ALLOW);
        assert_eq!(of(&plain, libc::SYS_clone, &[(0, libc::SIGCHLD as u64)]), KILL);
        assert_eq!(of(&plain, libc::SYS_prctl, &[(0, libc::PR_SET_TSC as u64)]), ALLOW);
        assert_eq!(of(&plain, libc::SYS_prctl, &[(0, libc::PR_SET_DUMPABLE as u64)]), KILL);
        let (rdonly, wronly) = (libc::O_RDONLY | libc::O_CLOEXEC, libc::O_WRONLY | libc::O_CREAT);
        assert_eq!(of(&plain, libc::SYS_openat, &[(2, rdonly as u64)]), ALLOW);
        assert_eq!(of(&plain, libc::SYS_openat, &[(2, libc::O_DIRECTORY as u64)]), ALLOW);
        for flags in [wronly, libc::O_RDWR, libc::O_TMPFILE | libc::O_RDWR, libc::O_TRUNC] {
            assert_eq!(of(&plain, libc::SYS_openat, &[(2, flags as u64)]), KILL, "{flags:#o}");
            assert_eq!(of(&plain, libc::SYS_open, &[(1, flags as u64)]), KILL, "{flags:#o}");
        }
        assert_eq!(of(&writing, libc::SYS_openat, &[(2, wronly as u64)]), ALLOW);
        assert_eq!(of(&writing, libc::SYS_renameat, &[]), ALLOW);
        assert_eq!(of(&plain, libc::SYS_renameat, &[]), KILL);
    }

    #[test]
    fn the_table_has_each_call_once() {
        let given: std::collections::BTreeSet<_> = GIVEN.iter().map(|(call, ..)| *call).collect();
        let lists = ANY.iter().chain(WRITING).chain(ABSENT).copied();
        let opening = OPENING.iter().map(|(call, _)| *call);
        let mut all: Vec<_> = lists.chain(opening).chain(given).chain([libc::SYS_ioctl]).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        let mut requests: Vec<_> = IOCTLS.iter().map(|(request, _)| *request).collect();
        requests.sort_unstable();
        requests.dedup();
        assert_eq!(requests.len(), IOCTLS.len());
    }

    #[test]
    fn what_leads_outside_is_refused() {
        let forbidden = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_sendmsg,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_userfaultfd,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_io_uring_setup,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_open_by_handle_at,
            libc::SYS_keyctl,
            libc::SYS_creat,
        ];
        let program = program(true, &[]);
        for call in forbidden {
            assert_eq!(run(&program, call, [0; 6]), KILL, "call {call}");
        }
    }
}
