//! Timers and sleeps of any length: their cost does not depend on how often a timer expires.

use std::time::Duration;

use crate::harness::{Ended, hostile};

/// A run ends well, and soon: nothing is counted one by one.
#[track_caller]
fn soon(source: &str) -> Ended {
    let ended = hostile(source).run(&["--deadline", "20s"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
    ended
}

#[test]
fn a_timer_that_expires_more_often_than_anything_can_count() {
    let ended = soon(
        r#"
        static volatile int n;
        static void count(int s) { n++; }
        static void sleep_long(const char *what) {
            struct itimerval often = {{0, 1}, {0, 1}}, now;
            struct timespec long_time = {1000000000, 0}, left = {-1, -1};
            setitimer(ITIMER_REAL, &often, 0);
            errno = n = 0;
            int result = nanosleep(&long_time, &left);
            getitimer(ITIMER_REAL, &now);
            printf("%s: %d %d, handled %d, left %d, armed %d\n", what, result, errno, n > 0, left.tv_sec > 999999990,
                   !n && now.it_value.tv_usec > 0);
        }
        int main() {
            signal(SIGALRM, SIG_IGN);
            sleep_long("ignored");
            struct pollfd none = {-1};
            printf("%d\n", poll(&none, 1, 2000000000));
            sigset_t set, old;
            sigemptyset(&set);
            sigaddset(&set, SIGALRM);
            sigprocmask(SIG_BLOCK, &set, &old);
            sleep_long("ignored and blocked");
            signal(SIGALRM, count);
            sleep_long("blocked");
            signal(SIGALRM, SIG_IGN);
            sigprocmask(SIG_SETMASK, &old, 0);
            signal(SIGALRM, count);
            sleep_long("handled");
            struct itimerval none_left = {0};
            setitimer(ITIMER_REAL, &none_left, 0);
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){0x7fffffffffffffff, 999999999}, 0);
            printf("the end\n");
        }"#,
    );
    assert_eq!(
        ended.stdout,
        "ignored: 0 0, handled 0, left 0, armed 0\n0\n\
         ignored and blocked: 0 0, handled 0, left 0, armed 0\n\
         blocked: 0 0, handled 0, left 0, armed 0\n\
         handled: -1 4, handled 1, left 1, armed 0\nthe end\n"
    );
}

#[test]
fn cpu_timers_do_not_expire_in_a_sleep() {
    let ended = soon(
        r#"
        static volatile int n;
        static void count(int s) { n++; }
        int main() {
            struct itimerval often = {{0, 1}, {0, 1}};
            signal(SIGVTALRM, count);
            signal(SIGPROF, count);
            struct itimerval once = {{0}, {5, 0}};
            setitimer(ITIMER_VIRTUAL, &once, 0);
            setitimer(ITIMER_PROF, &once, 0);
            for (int i = 0; i < 10; i++) sleep(1000000);
            printf("%d\n", n);
            once.it_value.tv_sec = 0;
            once.it_value.tv_usec = 1000;
            setitimer(ITIMER_VIRTUAL, &once, 0);
            for (int i = 0; n == 0 && i < 10000; i++) getppid();
            printf("%d\n", n);
        }"#,
    );
    assert_eq!(ended.stdout, "0\n1\n");
}

/// A wait that only an ignored signal could end goes on for ever, as on Linux.
#[test]
fn a_wait_for_an_ignored_signal() {
    for wait in ["pause()", "sigsuspend(&none)", "ppoll(0, 0, 0, &none)", "pselect(0, 0, 0, 0, 0, &none)"] {
        let ended = hostile(&format!(
            "int main() {{
                struct itimerval often = {{{{0, 1}}, {{0, 1}}}};
                sigset_t none;
                sigemptyset(&none);
                signal(SIGALRM, SIG_IGN);
                setitimer(ITIMER_REAL, &often, 0);
                {wait};
                return 0;
            }}"
        ))
        .run(&["--deadline", "20s"]);
        assert!(ended.took < Duration::from_secs(20), "{wait}: {ended:?}");
        assert_eq!(ended.status, 123, "{wait}: it is told that nothing can wake it: {ended:?}");
    }
}

/// Sleeping takes no CPU time.
#[test]
fn cpu_time() {
    let source = r#"
        #include <sys/times.h>
        static long ms(struct timeval t) { return t.tv_sec * 1000 + t.tv_usec / 1000; }
        static long cpu(int id) { struct timespec t; clock_gettime(id, &t); return t.tv_sec * 1000 + t.tv_nsec / 1000000; }
        int main() {
            struct timespec second = {1, 0};
            nanosleep(&second, 0);
            struct rusage self, thread, children;
            struct tms t;
            clockid_t own;
            getrusage(RUSAGE_SELF, &self);
            getrusage(RUSAGE_THREAD, &thread);
            getrusage(RUSAGE_CHILDREN, &children);
            errno = 0;
            int bad = getrusage(7, &self);
            int bad_errno = errno;
            times(&t);
            clock_getcpuclockid(0, &own);
            printf("%d %d %d %d %d %d %d %d\n", ms(self.ru_utime) < 500, ms(thread.ru_utime) < 500,
                   ms(children.ru_utime) == 0, bad == -1 && bad_errno == EINVAL, t.tms_utime + t.tms_stime < 50,
                   clock() < CLOCKS_PER_SEC / 2, cpu(CLOCK_PROCESS_CPUTIME_ID) < 500, cpu(CLOCK_THREAD_CPUTIME_ID) < 500);
            printf("%d %d\n", cpu(own) < 500, cpu(CLOCK_MONOTONIC) > 1000);
            long before = cpu(own);
            for (int i = 0; i < 100000000 && cpu(own) < before + 50; i++) getppid();
            printf("%d\n", cpu(own) >= before + 50);
        }"#;
    let ended = soon(source);
    assert_eq!(ended.stdout, "1 1 1 1 1 1 1 1\n1 1\n1\n");
    assert_eq!(hostile(source).native().stdout, ended.stdout);
}

/// What can be done with which clock.
#[test]
fn clocks() {
    let program = hostile(
        r#"
        static const char *e(long result) { return result == -1 ? strerrorname_np(errno) : "ok"; }
        int main() {
            struct timespec t, tiny = {0, 1}, bad = {0, 2000000000}, zero = {0, 0};
            for (int id = -10; id < 14; id++) {
                printf("%d: get %s", id, e(syscall(SYS_clock_gettime, id, &t)));
                printf(" res %s", e(syscall(SYS_clock_getres, id, &t)));
                printf(" set %s", e(syscall(SYS_clock_settime, id, &bad)));
                if (id < -8 || id == -5 || id > -2 && id != 2) printf(" sleep %s", e(syscall(SYS_clock_nanosleep, id, 0, &tiny, 0)));
                printf(" bad %s", e(syscall(SYS_clock_nanosleep, id, 0, &bad, 0)));
                printf(" fault %s", e(syscall(SYS_clock_nanosleep, id, 0, 8, 0)));
                printf(" past %s\n", e(syscall(SYS_clock_nanosleep, id, TIMER_ABSTIME, &zero, 0)));
            }
            for (int which = -1; which < 4; which++) {
                struct itimerval v = {{0, 0}, {100, 0}}, w, wrong[] = {{{0, 0}, {0, 1000000}}, {{0, -1}, {1, 0}}, {{-1, 0}, {1, 0}}, {{0, 0}, {-1, 0}}};
                printf("%d: set %s", which, e(setitimer(which, &v, &w)));
                for (int i = 0; i < 4; i++) printf(" %s", e(setitimer(which, &wrong[i], &w)));
                printf(" get %s", e(getitimer(which, &w)));
                printf(" null %s\n", e(setitimer(which, 0, &w)));
            }
            alarm(100);
            printf("%d\n", alarm(0));
        }"#,
    );
    let (seen, native) = (program.run(&["--deadline", "20s"]).stdout, program.native().stdout);
    // CLOCK_REALTIME_ALARM and CLOCK_BOOTTIME_ALARM are there where a host's clock can wake it; the
    // sandbox has none that could.
    let clock_that_wakes = |native: &str, seen: &str| {
        [8, 9].iter().any(|id| {
            native.starts_with(&format!("{id}: get ok")) && seen.starts_with(&format!("{id}: get EINVAL"))
        })
    };
    let pairs = native.lines().zip(seen.lines());
    let different: Vec<_> =
        pairs.filter(|(native, seen)| native != seen && !clock_that_wakes(native, seen)).collect();
    assert!(different.is_empty(), "native and sandboxed: {different:#?}");
    assert_eq!(native.lines().count(), seen.lines().count());
}

/// The host's clock is waited for, the virtual one is not.
#[test]
fn the_clock_of_the_host_sleeps() {
    let sleep = |time: &str| format!("int main() {{ struct timespec t = {time}; return nanosleep(&t, 0); }}");
    let host = hostile(&sleep("{0, 400000000}")).run(&["--clock", "host"]);
    assert!(host.status == 0 && host.took >= Duration::from_millis(400), "{host:?}");
    let virtual_time = hostile(&sleep("{100000, 0}")).run(&["--deadline", "60s"]);
    assert_eq!(virtual_time.status, 0, "{virtual_time:?}");
}
