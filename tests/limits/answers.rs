//! Linux's answers to small questions.

use crate::harness::hostile;

#[test]
fn waiting_for_nobody_and_looking_at_clocks_and_links() {
    let program = hostile(
        "#include <sys/timex.h>
        #include <sys/wait.h>
        static void say(const char *what, long result) { printf(\"%s %ld %d\\n\", what, result, result < 0 ? errno : 0); }
        int main() {
            int status;
            say(\"wait4\", syscall(SYS_wait4, -1, &status, 0x40000000 | 3, 0));
            say(\"wait4 EXITED\", syscall(SYS_wait4, -1, &status, WEXITED, 0));
            say(\"wait4 bit\", syscall(SYS_wait4, -1, &status, 0x100, 0));
            say(\"wait4 min\", syscall(SYS_wait4, (int)0x80000000, &status, 0, 0));
            siginfo_t info;
            for (int which = 0; which < 6; which++) {
                for (int id = -1; id < 2; id++) say(\"waitid\", syscall(SYS_waitid, which, id, &info, WEXITED, 0));
            }
            say(\"waitid nothing\", syscall(SYS_waitid, P_ALL, 0, &info, WNOHANG, 0));
            say(\"waitid bit\", syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | 0x100, 0));
            int how[] = {O_RDONLY, O_WRONLY, O_RDWR, O_PATH};
            for (int i = 0; i < 4; i++) {
                char name[40];
                struct stat stat;
                int fd = open(\"/dev/null\", how[i]);
                sprintf(name, \"/proc/self/fd/%d\", fd);
                lstat(name, &stat);
                int link = open(name, O_PATH | O_NOFOLLOW);
                struct stat same;
                fstat(link, &same);
                printf(\"%o %o\\n\", stat.st_mode, same.st_mode);
            }
            if (setresuid(1000, 1000, 1000)) return 1;
            struct timex x = {0};
            say(\"adjtimex\", adjtimex(&x) >= 0);
            say(\"clock_adjtime\", clock_adjtime(CLOCK_REALTIME, &x) >= 0);
            x.modes = 0xa001;
            say(\"what is left\", adjtimex(&x) >= 0);
            x.modes = 0x8001;
            say(\"adjtime\", adjtimex(&x));
            x.modes = 0x8000;
            say(\"neither\", adjtimex(&x));
            x.modes = ADJ_TICK;
            say(\"tick\", adjtimex(&x));
            return 0;
        }",
    );
    let ended = program.run(&["--deadline", "20s"]);
    assert_eq!((ended.status, &ended.stdout), (0, &program.native().stdout), "{ended:?}");
}

#[test]
fn the_first_process_and_what_is_cached() {
    let ended = hostile(
        "#include <linux/capability.h>
        #include <linux/openat2.h>
        static void say(long result) { printf(\"%ld %d\\n\", result, result < 0 ? errno : 0); }
        int main() {
            struct __user_cap_header_struct header = {0x20080522, 1};
            struct __user_cap_data_struct data[2] = {0};
            say(syscall(SYS_capget, &header, data));
            printf(\"%x\\n\", data[0].effective);
            struct rlimit limit;
            say(prlimit(1, RLIMIT_NOFILE, 0, &limit));
            printf(\"%ld\\n\", (long)limit.rlim_cur);
            say(prlimit(1, RLIMIT_NOFILE, &limit, 0));
            say(prlimit(77, RLIMIT_NOFILE, 0, &limit));
            struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_CACHED};
            say(syscall(SYS_openat2, AT_FDCWD, \"/\", &how, sizeof how));
            if (setresuid(1000, 1000, 1000)) return 1;
            say(prlimit(1, RLIMIT_NOFILE, 0, &limit));
            return 0;
        }",
    )
    .run(&["--deadline", "20s"]);
    let wanted = "0 0\nffffffff\n0 0\n1024\n-1 1\n-1 3\n-1 11\n-1 1\n";
    assert_eq!((ended.status, &ended.stdout[..]), (0, wanted), "{ended:?}");
}
