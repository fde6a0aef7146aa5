"""What the kernel's selftests are about, and why some do not pass in the sandbox: for scripts/kernel-selftests.

Whether a call is claimed complete is read from docs/linux.md. A difference that has no row here is not
explained, and counts against the sandbox; so does one whose row names no call, or one that is claimed complete."""

import fnmatch
import re

# Calls that programs are about: the claim for all of them is the weakest. Of none: how the processor enters and
# leaves the kernel, or files of /proc.
ABOUT = {
    "x86/test_mremap_vdso": "mremap",
    "x86/iopl": "iopl",
    "x86/ioperm": "ioperm",
    "x86/test_vsyscall": "gettimeofday clock_gettime time getcpu sched_setaffinity",
    "x86/fsgsbase*": "arch_prctl modify_ldt ptrace",
    "x86/sigaltstack": "sigaltstack",
    "x86/sysret_rip": "rt_sigreturn mremap",
    "x86/syscall_numbering": "ptrace",
    "x86/corrupt_xstate_header": "rt_sigreturn",
    "futex/functional/futex_waitv": "futex_waitv",
    "futex/functional/*": "futex",
    "clone3/*": "clone3",
    "core/close_range_test": "close_range",
    "exec/non-regular": "execve mknod socket",
    "exec/recursion-depth": "execve mount",
    "exec/*": "execve",
    "ipc/msgque": "msgget msgsnd msgrcv msgctl",
    "kcmp/kcmp_test": "kcmp",
    "membarrier/*": "membarrier",
    "memfd/memfd_test": "memfd_create",
    "mincore/*": "mincore",
    "mqueue/*": "mq_open",
    "openat2/*": "openat2",
    "pidfd/pidfd_getfd_test": "pidfd_getfd",
    "pidfd/pidfd_wait": "waitid",
    "pidfd/pidfd_open_test": "pidfd_open",
    "pidfd/pidfd_fdinfo_test": "clone3",
    "pidfd/pidfd_poll_test": "pidfd_open poll",
    "pidfd/pidfd_test": "pidfd_send_signal clone epoll_wait",
    "prctl/*": "prctl",
    "rseq/*": "rseq",
    "proc/proc-loadavg-001": "unshare",
    "proc/proc-pid-vm": "unshare mount",
    "proc/proc-subset-pid": "fsopen fsconfig fsmount",
    "proc/proc-multiple-procfs": "unshare mount fsopen",
    "proc/proc-fsconfig-hidepid": "fsopen fsconfig",
    "proc/setns-*": "setns unshare",
    "sigaltstack/*": "sigaltstack",
    "splice/*": "splice",
    "timers/posix_timers": "setitimer timer_create timer_settime",
    "timers/set-timer-lat": "timer_create timer_settime",
    "timers/nanosleep": "clock_nanosleep",
    "timers/nsleep-lat": "clock_nanosleep",
    "timers/inconsistency-check": "clock_gettime",
    "timers/mqueue-lat": "mq_open mq_timedreceive",
    "timers/threadtest": "gettimeofday",
    "tmpfs/*": "unshare mount linkat",
    "vDSO/vdso_test_abi": "clock_gettime clock_getres gettimeofday time",
    "vDSO/vdso_test_clock_getres": "clock_getres",
    "vDSO/vdso_test_correctness": "clock_gettime gettimeofday getcpu",
    "vDSO/vdso_test_getcpu": "getcpu",
    "vDSO/vdso_test_gettimeofday": "gettimeofday",
    "vm/mremap*": "mremap",
    "vm/mlock2-tests": "mlock2 mlockall",
    "vm/madv_populate": "madvise",
    "vm/map_*": "mmap",
    "vm/thuge-gen": "mmap shmget",
}

# Program, the cases that differ (a regular expression), the call that is why (or none), and the reason.
REASONS = [
    ("x86/sysret_ss_attrs", "", "", "code of 32 bits (a far jump to the segment of a 32-bit program): there is none"),
    ("x86/syscall_nt", "", "", "a KVM that is built on page tables of its own (`kvm_pvm`) drops the flag NT"
     " whenever it enters the guest"),
    ("x86/test_vsyscall", "", "sched_setaffinity", "there is one CPU"),
    ("vDSO/vdso_test_correctness", "", "sched_setaffinity", "there is one CPU"),
    ("x86/fsgsbase_restore", "", "ptrace", "it traces a child"),
    ("x86/fsgsbase", "", "", "of FS and GS a task keeps the bases, and not the selectors, when another one runs"),
    ("x86/sigaltstack", "", "", "a signal frame has less than `MINSIGSTKSZ`, as the guest sees no AVX-512: the case"
     " is left out"),
    ("x86/sysret_rip", "", "mremap", "code at the last addresses"),
    ("x86/syscall_numbering", "", "ptrace", "most cases are run under it"),
    ("clone3/*", "", "clone3", "namespaces are `EPERM`"),
    ("exec/non-regular", "BLK|CHR", "mknod", "devices"),
    ("exec/non-regular", "sock|exit", "socket", "an Internet socket"),
    ("exec/recursion-depth", "", "mount", "mounts are `EPERM`"),
    ("ipc/msgque", "", "", "`/proc/sys` is read-only, as in a container: the test chooses a queue's number there"),
    ("mincore/*", "", "mincore", "every page is said to be resident: which are depends on the host"),
    ("mqueue/*", "", "", "`/proc/sys` is read-only, as in a container: the test sets limits there"),
    ("pidfd/pidfd_fdinfo_test", "", "clone3", "namespaces are `EPERM`"),
    ("proc/fd-003-kthread", "", "", "there are no threads of a kernel"),
    ("proc/proc-loadavg-001", "", "unshare", "namespaces are `EPERM`"),
    ("proc/proc-pid-vm", "", "unshare", "namespaces and mounts are `EPERM`"),
    ("proc/proc-subset-pid", "", "fsopen", "mounts are refused"),
    ("proc/proc-multiple-procfs", "", "unshare", "namespaces and mounts are `EPERM`"),
    ("proc/proc-fsconfig-hidepid", "", "fsopen", "mounts are refused"),
    ("proc/setns-*", "", "unshare", "namespaces are `EPERM`"),
    ("rseq/basic_percpu_ops_test", "", "rseq", "critical sections are not aborted"),
    ("tmpfs/*", "", "unshare", "namespaces and mounts are `EPERM`"),
    ("vm/mlock2-tests", "", "mlock2", "what `smaps` says is resident is what is charged, not what was touched"),
    ("vm/madv_populate", "", "", "`/proc/self/pagemap` is absent: what is in memory depends on the host"),
]

ROW = re.compile(r"^\| `(\w+)` \|")


def claims(page):
    """What docs/linux.md says of each call: complete, partial or absent."""
    said, part = {}, None
    with open(page) as lines:
        for line in lines:
            if line.startswith("## "):
                part = line[3:].strip().lower()
            row = ROW.match(line)
            if row and part:
                said[row[1]] = part
    return said


def calls_of(program):
    """The calls that a program is about."""
    exact = ABOUT.get(program)
    found = [calls for pattern, calls in ABOUT.items() if fnmatch.fnmatch(program, pattern)]
    return (exact or (found[0] if found else "")).split()


def claim_of(calls, said):
    """What is claimed of calls: the weakest of what is claimed of each. None of no calls."""
    states = {said[call] for call in calls}
    return next((state for state in ("absent", "partial", "complete") if state in states), None)


def reason_for(program, case):
    """The call that a difference is about, and why it is there. None if that is not known."""
    for pattern, cases, call, text in REASONS:
        if fnmatch.fnmatch(program, pattern) and re.search(cases, case):
            return call, text
    return None


class Explained:
    """Counts what differs, by whether the documentation says so."""

    def __init__(self, said):
        self.said = said
        self.claimed = [0, 0]
        self.excused, self.known, self.unknown = 0, 0, 0

    def count(self, program, passing, differ):
        """Counts a program's cases; returns what its row says of it: what it is about, and why it differs."""
        calls = calls_of(program)
        claim = claim_of(calls, self.said)
        if claim == "complete":
            self.claimed[0] += passing - len(differ)
            self.claimed[1] += passing
        texts = {}
        for case in differ:
            reason = reason_for(program, case)
            texts.setdefault(self.explain(reason), []).append(case)
        about = ", ".join(f"`{call}`" for call in calls)
        return f"{about} ({claim})" if claim else "–", "; ".join(map(told, texts.items())) or "–"

    def explain(self, reason):
        """Counts a difference, and gives its reason in words."""
        if reason is None:
            self.unknown += 1
            return None
        call, text = reason
        excused = call and self.said[call] != "complete"
        self.excused += bool(excused)
        self.known += not excused
        return f"{text} (`{call}`: {self.said[call]})" if call else f"{text} (no call)"

    def report(self):
        """Prints the sums."""
        same, all_of_them = self.claimed
        share = 100 * same / max(all_of_them, 1)
        print(f"Of programs about calls that docs/linux.md claims complete: {same} of {all_of_them} ({share:.1f} %).")
        print(f"What differs: {self.excused} for a call that is claimed partial or absent, {self.known} for"
              f" something that is no call, or claimed complete, {self.unknown} not explained.")


def told(reason_and_cases):
    """A reason, or what differs without one."""
    reason, cases = reason_and_cases
    return reason or "**not explained**: " + ", ".join(cases)
