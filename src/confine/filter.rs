//! The table of calls as a seccomp filter.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads, sock_filter,
};

use super::calls::{ABSENT, ANY, GIVEN, IOCTLS, Is, OPEN_WRITES, OPENING, WRITING};

/// Installs the filter on all threads of the process. With `writes`, files may be made and changed,
/// as far as Landlock lets them be; `more` are calls to be allowed besides.
pub(super) fn install(writes: bool, more: &[c_long]) -> Result<(), Error> {
    let mut program = absent();
    program.extend(allowed(writes, more)?);
    apply_filter_all_threads(&program)
}

/// Answers the calls that are to look absent. All jumps of a program are relative, so that it can
/// stand before another one, and it needs no look at the architecture: it only refuses.
fn absent() -> BpfProgram {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jf, k| sock_filter { code, jt: 0, jf, k };
    let not_there = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut program = vec![step(LOAD_NUMBER, 0, 0)];
    for call in ABSENT {
        program.extend([step(IF_EQUAL, 1, *call as u32), step(RETURN, 0, not_there)]);
    }
    program
}

/// Allows what is in the table, and ends the process for everything else.
fn allowed(writes: bool, more: &[c_long]) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (call, argument, is) in GIVEN {
        rules.entry(*call).or_default().push(rule(*argument, *is)?);
    }
    for (request, _) in IOCTLS {
        rules.entry(libc::SYS_ioctl).or_default().push(rule(1, Is::Equal(*request))?);
    }
    for (call, flags) in OPENING {
        let reads = rule(*flags, Is::Masked(OPEN_WRITES, 0))?;
        rules.insert(*call, if writes { Vec::new() } else { vec![reads] });
    }
    let writing = WRITING.iter().filter(|_| writes);
    // No rule is no condition.
    rules.extend(ANY.iter().chain(writing).chain(more).map(|call| (*call, Vec::new())));
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?
        .try_into()
}

fn rule(argument: u32, is: Is) -> Result<SeccompRule, BackendError> {
    let (compare, value) = match is {
        Is::Equal(value) => (SeccompCmpOp::Eq, value),
        Is::Masked(mask, value) => (SeccompCmpOp::MaskedEq(mask), value),
        Is::OwnProcess => (SeccompCmpOp::Eq, u64::from(std::process::id())),
    };
    let condition = SeccompCondition::new(
        u8::try_from(argument).unwrap_or(u8::MAX),
        SeccompCmpArgLen::Dword,
        compare,
        value,
    )?;
    SeccompRule::new(vec![condition])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_call_once() {
        let given: std::collections::BTreeSet<_> = GIVEN.iter().map(|(call, ..)| *call).collect();
        let all: Vec<_> = ANY
            .iter()
            .chain(WRITING)
            .chain(ABSENT)
            .copied()
            .chain(OPENING.iter().map(|(call, _)| *call))
            .chain(given)
            .chain([libc::SYS_ioctl])
            .collect();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len());
        let mut requests: Vec<_> = IOCTLS.iter().map(|(request, _)| *request).collect();
        requests.sort_unstable();
        requests.dedup();
        assert_eq!(requests.len(), IOCTLS.len());
    }

    #[test]
    fn what_leads_outside_is_not_in_the_table() {
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
        for call in forbidden {
            assert!(!ANY.contains(&call) && !WRITING.contains(&call), "{call}");
            assert!(!GIVEN.iter().any(|(given, ..)| *given == call), "{call}");
        }
        for request in [0xae01, 0xae41, 0x5412, 0x541c] {
            assert!(!IOCTLS.iter().any(|(allowed, _)| *allowed == request), "{request:#x}");
        }
    }

    #[test]
    fn a_filter_is_of_a_length_that_the_kernel_takes() {
        for writes in [false, true] {
            let program = allowed(writes, &[libc::SYS_socket]).expect("a filter");
            // BPF_MAXINSNS.
            assert!(program.len() + absent().len() <= 4096, "{}", program.len());
        }
    }
}
