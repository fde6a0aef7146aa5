//! Resource limits that a program sets itself: they are kept as Linux keeps them.

use super::harness::hostile;

/// Runs a guest natively and in the sandbox: the same status and the same words.
#[track_caller]
fn same(source: &str, status: i32) {
    let guest = hostile(source);
    let (native, run) = (guest.native(), guest.run(&["--deadline", "30s", "--workdir", "/tmp"]));
    assert_eq!(native.status, status, "{native:?}");
    assert_eq!((run.status, &run.stdout), (native.status, &native.stdout), "{run:?}");
}

#[test]
fn file_size() {
    same(
        r#"
#define SAY(call) do { long r = call; printf("%s: %ld %s\n", #call, r, r < 0 ? strerrorname_np(errno) : ""); } while (0)
static volatile int seen;
static void handler(int signal) { seen++; }
int main() {
	struct rlimit limit = {1000, 1000};
	setrlimit(RLIMIT_FSIZE, &limit);
	signal(SIGXFSZ, handler);
	char buffer[3000] = "x";
	char path[] = "/tmp/limitXXXXXX";
	int fd = mkstemp(path);
	unlink(path);
	SAY(write(fd, buffer, 999));
	SAY(write(fd, buffer, 3000));
	SAY(write(fd, buffer, 1));
	SAY(pwrite(fd, buffer, 1, 5000));
	SAY(pwrite(fd, buffer, 10, 5));
	SAY(ftruncate(fd, 1001));
	SAY(ftruncate(fd, 500));
	SAY(ftruncate(fd, 1000));
	printf("%d signals\n", seen);
	signal(SIGXFSZ, SIG_IGN);
	SAY(pwrite(fd, buffer, 1, 1000));
	limit.rlim_cur = 1001;
	SAY(setrlimit(RLIMIT_FSIZE, &limit));
	int ends[2];
	pipe(ends);
	SAY(write(ends[1], buffer, 3000));
	signal(SIGXFSZ, SIG_DFL);
	fflush(stdout);
	write(fd, buffer, 3000);
	write(fd, buffer, 3000);
}"#,
        128 + 25,
    );
}

#[test]
fn the_shell_s_file_size() {
    let line = ["-c", "ulimit -f 1; printf %05000d 1 >/tmp/f"];
    let mut command = crate::common::dejavm(["run", "-q", "--", "/bin/bash"]);
    let run = crate::common::finish(command.args(line), crate::common::Input::Pipe(b""));
    assert_eq!(run.status, 128 + 25, "{run:?}");
}

#[test]
fn address_space_and_data() {
    same(
        r#"
static void *map(size_t bytes, int protection, int flags) {
	return mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}
#define SAY(call) do { void *p = (void *)(call); printf("%s: %s\n", #call, p == MAP_FAILED ? strerrorname_np(errno) : "ok"); } while (0)
int main() {
	void *small = map(1 << 20, PROT_READ | PROT_WRITE, 0);
	struct rlimit limit = {64 << 20, RLIM_INFINITY};
	setrlimit(RLIMIT_AS, &limit);
	SAY(map(128 << 20, PROT_READ | PROT_WRITE, 0));
	SAY(map(128 << 20, PROT_NONE, MAP_NORESERVE));
	SAY(map(16 << 20, PROT_NONE, 0));
	SAY(mremap(small, 1 << 20, 128 << 20, MREMAP_MAYMOVE));
	SAY(mremap(small, 1 << 20, 2 << 20, MREMAP_MAYMOVE));
	SAY(sbrk(128 << 20));
	printf("malloc %d\n", malloc(256 << 20) != NULL);
	limit.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_AS, &limit);
	limit.rlim_cur = 32 << 20;
	setrlimit(RLIMIT_DATA, &limit);
	SAY(map(128 << 20, PROT_READ | PROT_WRITE, 0));
	SAY(map(128 << 20, PROT_READ, 0));
	SAY(sbrk(64 << 20));
	// One mapping after the other becomes data, up to the limit.
	char *three = map(48 << 20, PROT_READ, 0);
	mprotect(three, 16 << 20, PROT_NONE);
	mprotect(three + (32 << 20), 16 << 20, PROT_NONE);
	SAY(mprotect(three, 48 << 20, PROT_READ | PROT_WRITE) ? MAP_FAILED : 0);
	three[0] = 1;
	SAY(mprotect(three + (16 << 20), 1 << 20, PROT_READ) ? MAP_FAILED : 0);
	SAY(mprotect(three + (32 << 20), 16 << 20, PROT_READ | PROT_WRITE) ? MAP_FAILED : 0);
	SAY(mprotect(three, 16 << 20, PROT_READ | PROT_WRITE | PROT_EXEC) ? MAP_FAILED : 0);
	void *shared = mmap(NULL, 64 << 20, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	SAY(mprotect(shared, 64 << 20, PROT_READ | PROT_WRITE) ? MAP_FAILED : 0);
}"#,
        0,
    );
}

#[test]
fn descriptors() {
    same(
        r#"
#define SAY(call) do { errno = 0; long r = call; printf("%s: %ld %s\n", #call, r, r < 0 ? strerrorname_np(errno) : ""); } while (0)
int main() {
	struct rlimit limit = {10, 10};
	setrlimit(RLIMIT_NOFILE, &limit);
	int n = 0;
	while (open("/dev/null", O_RDONLY) >= 0)
		n++;
	printf("%s %d\n", strerrorname_np(errno), n + 3 <= 10);
	SAY(dup2(0, 10));
	SAY(fcntl(0, F_DUPFD, 10));
	int ends[2];
	close(9);
	SAY(pipe(ends));
	limit.rlim_cur = 11;
	SAY(setrlimit(RLIMIT_NOFILE, &limit));
	printf("%d\n", prlimit(getpid(), RLIMIT_NOFILE, NULL, &limit));
	printf("%ld %ld\n", limit.rlim_cur, limit.rlim_max);
	SAY(prlimit(9999999, RLIMIT_NOFILE, NULL, &limit));
	SAY(getrlimit(16, &limit));
}"#,
        0,
    );
}

/// What is set is given back, or refused as Linux refuses it.
#[test]
fn priorities() {
    same(
        r#"
#include <sched.h>
#include <sys/prctl.h>
#define SAY(call) do { errno = 0; long r = call; printf("%s: %ld %s\n", #call, r, r < 0 ? strerrorname_np(errno) : ""); } while (0)
int main() {
	struct sched_param p = {0};
	cpu_set_t none, all;
	CPU_ZERO(&none);
	CPU_ZERO(&all);
	CPU_SET(0, &all);
	SAY(setpriority(PRIO_PROCESS, 0, 7));
	SAY(getpriority(PRIO_PROCESS, 0));
	SAY(nice(30));
	SAY(syscall(SYS_ioprio_set, 1, 0, 5 << 13));
	SAY(setpriority(3, 0, 7));
	SAY(getpriority(PRIO_PROCESS, 9999999));
	SAY(sched_getscheduler(0));
	SAY(sched_setscheduler(0, SCHED_BATCH, &p));
	SAY(sched_getscheduler(0));
	SAY(sched_setscheduler(0, 42, &p));
	SAY(sched_setscheduler(0, SCHED_FIFO, &p));
	SAY(sched_setscheduler(-1, SCHED_OTHER, &p));
	SAY(sched_getparam(9999999, &p));
	SAY(sched_get_priority_max(SCHED_RR));
	SAY(sched_get_priority_min(SCHED_RR));
	SAY(sched_get_priority_max(SCHED_OTHER));
	SAY(sched_get_priority_max(99));
	SAY(sched_setaffinity(0, sizeof none, &none));
	SAY(sched_setaffinity(0, sizeof all, &all));
	SAY(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6));
	SAY(syscall(SYS_ioprio_get, 1, 0));
	SAY(syscall(SYS_ioprio_set, 1, 0, 9 << 13));
	SAY(syscall(SYS_ioprio_get, 7, 0));
	SAY(prctl(PR_SET_TIMERSLACK, 1234));
	SAY(prctl(PR_GET_TIMERSLACK));
	SAY(prctl(PR_SET_TIMERSLACK, 0));
	SAY(prctl(PR_GET_TIMERSLACK));
	SAY(prctl(PR_SET_CHILD_SUBREAPER, 1));
	int word = 0;
	SAY(prctl(PR_GET_CHILD_SUBREAPER, &word));
	printf("%d\n", word);
	SAY(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	SAY(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	SAY(prctl(PR_SET_THP_DISABLE, 1, 1, 0, 0));
	SAY(prctl(PR_SET_DUMPABLE, 0));
	SAY(prctl(PR_GET_DUMPABLE));
	SAY(prctl(12345));
	SAY(syscall(SYS_personality, 0x0040000));
	SAY(syscall(SYS_personality, 0xffffffff));
	SAY(getpgid(0) == getpgrp());
	SAY(getsid(9999999));
	SAY(setpgid(0, -1));
	SAY(setpgid(9999999, 0));
}"#,
        0,
    );
}

/// Seconds of CPU time, which reads of the clock take.
#[test]
fn cpu_time() {
    let source = |limit: &str, rest: &str| {
        format!(
            "static volatile int seen;\nstatic void handler(int signal) {{ seen++; }}\nint main() {{\n\
             struct rlimit limit = {limit};\nsetrlimit(RLIMIT_CPU, &limit);\n{rest}\n\
             for (;;) {{ struct timespec t; for (int i = 0; i < 100000; i++) clock_gettime(CLOCK_MONOTONIC, &t);\n\
             syscall(SYS_getppid); if (seen == 2) {{ puts(\"twice\"); return 0; }} }}\n}}"
        )
    };
    let run = |source: String| hostile(&source).run(&["--deadline", "60s"]);
    assert_eq!(run(source("{1, 5}", "")).status, 128 + 24);
    let handled = run(source("{1, 9}", "signal(SIGXCPU, handler);"));
    assert_eq!((handled.status, handled.stdout.as_str()), (0, "twice\n"), "{handled:?}");
    let killed = run(source("{1, 2}", "signal(SIGXCPU, SIG_IGN);"));
    assert_eq!(killed.status, 128 + 9, "{killed:?}");
}
