//! Objects that are made without end, held by one another, and woken by the thousands: each comes to a limit
//! with Linux's error, is charged, and does not keep the deadline from ending the run.

use std::time::Duration;

use crate::harness::hostile_with;

const MIB: u64 = 1 << 20;

/// What the programs share.
const COMMON: &str = r#"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

static void as_many_as_may_be(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* Sends a descriptor. */
static int pass(int to, int fd) {
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {"", 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    *CMSG_FIRSTHDR(&m) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof fd);
    return sendmsg(to, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}
"#;

/// A program that ends by itself, in 64 MiB, with this status and output.
#[track_caller]
fn ends(source: &str, expected: &str) {
    let guest = hostile_with(&format!("{COMMON}{source}"), &["-pthread"]);
    let ended = guest.run(&["--memory", "64M", "--disk", "8M", "--deadline", "60s"]).within(72 * MIB);
    assert_eq!((ended.status, &ended.stdout[..]), (0, expected), "{ended:?}");
}

/// A program that only the deadline ends, in 64 MiB.
#[track_caller]
fn goes_on_for_ever(source: &str) {
    let guest = hostile_with(&format!("{COMMON}{source}"), &["-pthread"]);
    guest.run_until_deadline(Duration::from_secs(1), &["--memory", "64M", "--disk", "8M"]).within(72 * MIB);
}

/// All descriptors of some processes, of everything that can be made without a name.
#[test]
fn descriptors_of_all_kinds() {
    ends(
        r#"int main() {
            as_many_as_may_be();
            sigset_t set;
            sigfillset(&set);
            for (int child = 0; child < 3; child++) {
                if (fork()) continue;
                int pair[2], made = 0;
                for (;; made++) {
                    int kind = made % 7, fd =
                        kind == 0 ? eventfd(0, 0) : kind == 1 ? epoll_create1(0) : kind == 2 ? signalfd(-1, &set, 0) :
                        kind == 3 ? timerfd_create(CLOCK_MONOTONIC, 0) : kind == 4 ? memfd_create("m", 0) :
                        kind == 5 ? pipe(pair) : socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
                    if (fd < 0) break;
                }
                _exit(made < 10 || errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS);
            }
            int status, failed = 0;
            while (wait(&status) > 0) failed += status != 0;
            printf("%d\n", failed);
        }"#,
        "0\n",
    );
}

/// Pipes that are made as long as they may be, and filled.
#[test]
fn pipes_that_are_full() {
    ends(
        r#"int main() {
            as_many_as_may_be();
            static char text[1 << 20];
            long made = 0, pair[2];
            for (;; made++) {
                if (pipe2((int *)pair, O_NONBLOCK)) break;
                fcntl(((int *)pair)[1], F_SETPIPE_SZ, 1 << 20);
                write(((int *)pair)[1], text, sizeof text);
            }
            printf("%d\n", made > 30 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM));
        }"#,
        "1\n",
    );
}

/// A socket in its own queue, and in that of another whose end is in its own.
#[test]
fn sockets_that_hold_one_another() {
    goes_on_for_ever(
        r#"int main() {
            for (long turn = 0;; turn++) {
                int a[2], b[2], c[2], set = epoll_create1(0);
                if (set < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, a) || socketpair(AF_UNIX, SOCK_DGRAM, 0, b) ||
                    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, c)) return 1;
                struct epoll_event event = {EPOLLIN};
                epoll_ctl(set, EPOLL_CTL_ADD, a[0], &event);
                if (pass(a[0], a[0]) < 0 || pass(a[0], a[1]) < 0) return 2;
                if (pass(a[1], b[0]) < 0 || pass(b[0], c[1]) < 0 || pass(c[0], a[0]) < 0 || pass(b[1], set) < 0) return 3;
                for (int i = 0; i < 2; i++) close(a[i]), close(b[i]), close(c[i]);
                close(set);
            }
        }"#,
    );
}

/// Descriptors that lie in queues are counted, too.
#[test]
fn descriptors_on_their_way() {
    ends(
        r#"int main() {
            int pair[2], sent = 0;
            as_many_as_may_be();
            for (int made = 0; made < 200; made++) {
                if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)) return 1;
                int fd = memfd_create("m", 0);
                while (pass(pair[0], fd) == 1) sent++;
                close(fd);
                if (errno == EAGAIN) continue;
                break;
            }
            printf("%d\n", sent > 1000 && (errno == ETOOMANYREFS || errno == EAGAIN || errno == ENOMEM || errno == ENOBUFS));
        }"#,
        "1\n",
    );
}

/// Sets that watch sets: Linux has five of them in one another, and no circle.
#[test]
fn sets_within_sets() {
    ends(
        r#"int main() {
            struct epoll_event event = {EPOLLIN}, got[8];
            int first = eventfd(0, EFD_NONBLOCK), inner = first, depth = 0, set;
            for (;; depth++, inner = set) {
                set = epoll_create1(0);
                if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, inner, &event)) break;
            }
            printf("%d %s\n", depth < 10, strerrorname_np(errno));
            int a = epoll_create1(0), b = epoll_create1(0);
            epoll_ctl(a, EPOLL_CTL_ADD, b, &event);
            printf("%d %s\n", epoll_ctl(b, EPOLL_CTL_ADD, a, &event), strerrorname_np(errno));
            return 0;
        }"#,
        "1 ELOOP\n-1 ELOOP\n",
    );
}

/// Each of many sets watches each of many sets, which watch the same: a change reaches all.
#[test]
fn sets_by_the_thousands() {
    goes_on_for_ever(
        r#"int main() {
            as_many_as_may_be();
            struct epoll_event event = {EPOLLIN | EPOLLET}, got[8];
            int change = eventfd(0, EFD_NONBLOCK), first[300], second[300];
            uint64_t one = 1;
            for (int i = 0; i < 300; i++) {
                first[i] = epoll_create1(0);
                if (first[i] < 0) return 1;
                epoll_ctl(first[i], EPOLL_CTL_ADD, change, &event);
            }
            for (int i = 0; i < 300; i++) {
                second[i] = epoll_create1(0);
                if (second[i] < 0) return 2;
                for (int j = 0; j < 300; j++) epoll_ctl(second[i], EPOLL_CTL_ADD, first[j], &event);
            }
            for (;;) {
                write(change, &one, 8);
                epoll_wait(second[299], got, 8, 0);
                read(change, &one, 8);
                epoll_ctl(second[0], EPOLL_CTL_DEL, first[0], &event);
                epoll_ctl(second[0], EPOLL_CTL_ADD, first[0], &event);
            }
        }"#,
    );
}

/// Threads each with the longest list of futexes, in a circle, that all end at once.
#[test]
fn lists_of_futexes_that_many_threads_hold() {
    goes_on_for_ever(
        r#"static uint64_t list[4] = {(uint64_t)&list[3], 8, 0, (uint64_t)&list[3]};
        static void *holds(void *arg) {
            syscall(SYS_set_robust_list, list, 24);
            for (;;) pause();
        }
        int main() {
            for (;;) {
                if (fork() == 0) {
                    pthread_attr_t attr;
                    pthread_attr_init(&attr);
                    pthread_attr_setstacksize(&attr, 16384);
                    pthread_t thread;
                    for (int i = 0; i < 400 && !pthread_create(&thread, &attr, holds, NULL); i++) {}
                    usleep(1000);
                    _exit(0);
                }
                wait(NULL);
            }
        }"#,
    );
}

/// Threads that wait for a futex are sent from one to another, and are woken by the thousands.
#[test]
fn futexes_that_many_threads_wait_for() {
    goes_on_for_ever(
        r#"static int words[2];
        static void *waits(void *arg) {
            for (;;) syscall(SYS_futex, &words[0], FUTEX_WAIT, 0, NULL, NULL, 0);
        }
        int main() {
            pthread_attr_t attr;
            pthread_attr_init(&attr);
            pthread_attr_setstacksize(&attr, 16384);
            pthread_t thread;
            for (int i = 0; i < 500 && !pthread_create(&thread, &attr, waits, NULL); i++) {}
            for (long turn = 0;; turn++) {
                usleep(1);
                for (int i = 0; i < 20; i++)
                    syscall(SYS_futex, &words[i & 1], FUTEX_REQUEUE, 0, 1 << 30, &words[~i & 1], 0);
                syscall(SYS_futex, &words[0], FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
            }
        }"#,
    );
}

/// Locks of single bytes, each between two others, that processes wait for in a queue.
#[test]
fn locks_without_end() {
    goes_on_for_ever(
        r#"int main() {
            int fd = open("/tmp/locks", O_RDWR | O_CREAT, 0600);
            for (int child = 0; child < 50; child++) {
                if (fork()) continue;
                for (;;) {
                    struct flock lock = {F_WRLCK, SEEK_SET, 0, 1};
                    fcntl(fd, F_SETLKW, &lock);
                    lock.l_type = F_UNLCK;
                    fcntl(fd, F_SETLK, &lock);
                }
            }
            for (long at = 2;; at += 2) {
                struct flock lock = {F_WRLCK, SEEK_SET, at, 1};
                if (fcntl(fd, F_SETLK, &lock)) at = 0;
            }
        }"#,
    );
}

/// Processes that come and go, whose numbers are never used up, and threads that do.
#[test]
fn numbers_that_come_and_go() {
    goes_on_for_ever(
        r#"static int thread(void *arg) { return 0; }
        int main() {
            static char stack[65536];
            for (;;) {
                if (fork() == 0) _exit(0);
                if (vfork() == 0) _exit(0);
                clone(thread, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, 0);
                while (waitpid(-1, NULL, WNOHANG) > 0) {}
                sched_yield();
            }
        }"#,
    );
}

/// Signals between all threads of many processes, each of whose handlers sends more.
#[test]
fn signals_between_all() {
    goes_on_for_ever(
        r#"static void sends(int signal) {
            sigqueue(getpid(), SIGRTMIN + 1, (union sigval){0});
            kill(0, SIGUSR1);
        }
        static void *spins(void *arg) { for (;;) sched_yield(); }
        int main() {
            struct sigaction action = {.sa_handler = sends, .sa_flags = SA_NODEFER};
            for (int signal = SIGRTMIN; signal < SIGRTMAX; signal++) sigaction(signal, &action, NULL);
            sigaction(SIGUSR1, &(struct sigaction){.sa_handler = sends}, NULL);
            for (int child = 0; child < 20; child++) {
                if (fork()) continue;
                pthread_t thread;
                for (int i = 0; i < 3; i++) pthread_create(&thread, NULL, spins, NULL);
                for (;;) kill(0, SIGRTMIN + 1);
            }
            for (;;) kill(0, SIGUSR1);
        }"#,
    );
}

/// Nobody is traced, least of all by itself.
#[test]
fn tracing() {
    ends(
        r#"int main() {
            for (int request = -1; request < 0x4220; request++)
                for (int of = 0; of < 2; of++)
                    if (ptrace(request, of ? getpid() : getppid(), 0, 0) >= 0) printf("%x\n", request);
            printf("%s\n", strerrorname_np(errno));
        }"#,
        "ENOSYS\n",
    );
}
