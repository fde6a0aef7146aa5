//! The table of calls as a program for seccomp.
//!
//! The kernel takes time in proportion to a program's length to install it, so this one is short: the
//! calls that may be made whatever their arguments are looked up in words of bits, one for 32 calls, and
//! only the others are compared one by one. The kernel then keeps no list of calls that it need not run
//! the program for, as it would for comparisons alone: that costs some ten instructions for each call of
//! the process, and saves each start from installing 150 more.

use libc::c_long;
use seccompiler::{BpfProgram, Error, apply_filter_all_threads, sock_filter};

use super::calls::{ABSENT, ANY, GIVEN, IOCTLS, Is, OPEN_WRITES, OPENING, WRITING};

/// Installs the filter on all threads of the process. With `writes`, files may be made and changed,
/// as far as Landlock lets them be; `more` are calls to be allowed besides.
pub(super) fn install(writes: bool, more: &[c_long]) -> Result<(), Error> {
    apply_filter_all_threads(&program(writes, more))
}

// Instructions of classic BPF (`linux/filter.h`).
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_CONSTANT: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_IMM) as u16;
const TO_INDEX: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
const SHIFT_BY_INDEX: u16 = (libc::BPF_ALU | libc::BPF_RSH | libc::BPF_X) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const ABSENT_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

// Offsets in `struct seccomp_data`; arguments have 64 bits, the low ones first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `AUDIT_ARCH_X86_64` (`linux/audit.h`): `EM_X86_64`, 64 bits, little-endian.
const X86_64: u32 = 62 | 0x8000_0000 | 0x4000_0000;

/// Words for the calls that are allowed whatever their arguments are: up to number 479.
const WORDS: usize = 15;

// A comparison goes past at most 255 instructions: those of one call's answer, which has these, up to
// two in front of each change of the argument, and two returns.
const _: () = assert!(IOCTLS.len() <= 240 && GIVEN.len() <= 80);

fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Goes past that many instructions if the comparison holds, and past those if it does not.
fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn program(writes: bool, more: &[c_long]) -> BpfProgram {
    let mut program = BpfProgram::with_capacity(256);
    program.extend([step(LOAD, ARCHITECTURE), branch(IF_EQUAL, X86_64, 1, 0), step(RETURN, KILL)]);

    let opening = OPENING.iter().map(|(call, _)| call);
    let written = WRITING.iter().chain(opening).filter(|_| writes);
    whatever_the_arguments(ANY.iter().chain(written).chain(more), &mut program);

    for call in ABSENT {
        only_for(*call, &mut program, |program| program.push(step(RETURN, ABSENT_CALL)));
    }
    only_for(libc::SYS_ioctl, &mut program, |program| {
        if_argument(IOCTLS.iter().map(|(request, _)| (1, Is::Equal(*request))), program);
    });
    for given in GIVEN.chunk_by(|a, b| a.0 == b.0) {
        only_for(given[0].0, &mut program, |program| {
            if_argument(given.iter().map(|(_, argument, is)| (*argument, *is)), program);
        });
    }
    for (call, flags) in OPENING.iter().filter(|_| !writes) {
        only_for(*call, &mut program, |program| {
            if_argument([(*flags, Is::Masked(OPEN_WRITES, 0))].into_iter(), program);
        });
    }
    program.push(step(RETURN, KILL));
    program
}

/// Allows these calls, and goes on with the number loaded for any other.
fn whatever_the_arguments<'a>(calls: impl Iterator<Item = &'a c_long>, program: &mut BpfProgram) {
    let mut words = [0u32; WORDS];
    let mut beyond = Vec::new();
    // Whoever names a call that does not exist allows nothing.
    for call in calls.filter_map(|call| u32::try_from(*call).ok()) {
        match words.get_mut((call / u32::BITS) as usize) {
            Some(word) => *word |= 1 << (call % u32::BITS),
            None => beyond.push(call),
        }
    }
    // The call's bit in its word, then the word; a number beyond them has none.
    program.extend([step(LOAD, NUMBER), step(AND, u32::BITS - 1), step(TO_INDEX, 0), step(LOAD, NUMBER)]);
    let steps = 3 * WORDS as u32;
    for (word, bits) in (1..).zip(words) {
        program.push(branch(IF_NOT_BELOW, word * u32::BITS, 2, 0));
        program.extend([step(LOAD_CONSTANT, bits), step(JUMP, steps - 3 * word + 1)]);
    }
    program.push(step(LOAD_CONSTANT, 0));
    program.extend([step(SHIFT_BY_INDEX, 0), branch(IF_ANY, 1, 0, 1), step(RETURN, ALLOW)]);
    program.push(step(LOAD, NUMBER));
    for call in beyond {
        program.extend([branch(IF_EQUAL, call, 0, 1), step(RETURN, ALLOW)]);
    }
}

/// What becomes of one call, whose number is loaded: it ends with an answer.
fn only_for(call: c_long, program: &mut BpfProgram, answer: impl FnOnce(&mut BpfProgram)) {
    let at = program.len();
    program.push(branch(IF_EQUAL, call as u32, 0, 0));
    answer(program);
    program[at].jf = (program.len() - at - 1) as u8;
}

/// Allows the call if one of these holds, of an argument, and ends the process if none does.
fn if_argument(any: impl Iterator<Item = (u32, Is)>, program: &mut BpfProgram) {
    let (mut loaded, mut comparisons) = (None, Vec::new());
    for (argument, is) in any {
        // What the kernel looks at of these arguments has 32 bits.
        let (mask, value) = match is {
            Is::Equal(value) => (u32::MAX, value as u32),
            Is::Masked(mask, value) => (mask as u32, value as u32),
            Is::OwnProcess => (u32::MAX, std::process::id()),
        };
        if loaded != Some((argument, mask)) {
            program.push(step(LOAD, ARGUMENTS + 8 * argument));
            if mask != u32::MAX {
                program.push(step(AND, mask));
            }
            loaded = Some((argument, mask));
        }
        comparisons.push(program.len());
        program.push(step(IF_EQUAL, value));
    }
    program.push(step(RETURN, KILL));
    for at in comparisons {
        program[at].jt = (program.len() - at - 1) as u8;
    }
    program.push(step(RETURN, ALLOW));
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
        let (mut at, mut a, mut x) = (0, 0u32, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                LOAD => {
                    let bytes = &data[step.k as usize..][..4];
                    a = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
                }
                LOAD_CONSTANT => a = step.k,
                TO_INDEX => x = a,
                SHIFT_BY_INDEX => a >>= x,
                IF_ANY => at += jump(a & step.k != 0),
                AND => a &= step.k,
                JUMP => at += step.k as usize,
                IF_EQUAL => at += jump(a == step.k),
                IF_NOT_BELOW => at += jump(a >= step.k),
                RETURN => return step.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_says_what_the_table_says() {
        for writes in [false, true] {
            let more = [libc::SYS_socket, 999, -1];
            let program = program(writes, &more);
            // BPF_MAXINSNS is 4096; every instruction costs at the start.
            assert!(program.len() < 240, "{}", program.len());
            for call in 0..1200 {
                let opens = OPENING.iter().any(|(opening, _)| *opening == call);
                let has_arguments = GIVEN.iter().any(|(given, ..)| *given == call) || call == libc::SYS_ioctl;
                let expected = if ANY.contains(&call) || more.contains(&call) {
                    ALLOW
                } else if ABSENT.contains(&call) {
                    ABSENT_CALL
                } else if writes && (opens || WRITING.contains(&call)) {
                    ALLOW
                } else if opens || has_arguments {
                    continue;
                } else {
                    KILL
                };
                assert_eq!(run(&program, call, [0; 6]), expected, "call {call}");
            }
            for call in [1 << 30, (1 << 30) | libc::SYS_read, -1, 480, 512, libc::SYS_read + 480] {
                assert_eq!(run(&program, call, [0; 6]), KILL, "call {call:#x}");
            }
        }
    }

    #[test]
    fn another_architecture_is_refused() {
        let mut program = program(true, &[]);
        program[1].k = 0x4000_0003;
        assert_eq!(run(&program, libc::SYS_read, [0; 6]), KILL);
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
        // A call's conditions stand together, those of one argument and mask side by side.
        assert_eq!(GIVEN.chunk_by(|a, b| a.0 == b.0).count(), given.len());
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
