//! The deadline, wherever the program is.

use std::time::Duration;

use crate::harness::hostile;

#[test]
fn a_loop_without_exits() {
    hostile("int main() { for (;;) ; }").run_until_deadline(Duration::from_millis(300), &[]).within(64 << 20);
}

#[test]
fn a_loop_of_system_calls() {
    hostile("int main() { for (;;) syscall(SYS_getppid); }")
        .run_until_deadline(Duration::from_millis(300), &[])
        .within(64 << 20);
}

/// The time that loading takes counts.
#[test]
fn it_runs_from_before_the_program_is_loaded() {
    let ended = hostile("int main() { return 0; }").run(&["--deadline", "1us"]);
    assert_eq!(ended.status, 124, "{ended:?}");
}

/// Calls that are asked about, or to do something to, each page of terabytes.
#[test]
fn questions_about_terabytes() {
    for call in [
        "mincore(p, 256ul << 30, v)",
        "madvise(p, n, MADV_POPULATE_WRITE)",
        "madvise(p, n, MADV_WILLNEED)",
        "madvise(p, n, MADV_DONTNEED)",
        "mlock(p, n) || munlock(p, n)",
        "msync(p, n, MS_SYNC)",
        "mprotect(p, n, turn++ & 1 ? 3 : 1)",
        "(p = mremap(p, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, (1ul << 44) + (turn++ & 1) * 2 * n)) == MAP_FAILED",
        "(mmap(0, n, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_POPULATE, -1, 0), munmap(p, n), \
         p = mmap(0, n, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) == MAP_FAILED",
    ] {
        hostile(&format!(
            "int main() {{
                unsigned long n = 4ul << 40; int turn = 0;
                char *v = mmap(0, 64 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                char *p = mmap(0, n, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                if (p == MAP_FAILED) return 1;
                for (long i = 0; i < 100; i++) p[i * n / 100] = 1;
                for (;;) if ({call} && errno == ENOSYS) return 2;
            }}"
        ))
        .run_until_deadline(Duration::from_millis(500), &["--memory", "128M"])
        .within(128 << 20);
    }
}

/// Code in which everything looks like an instruction that the monitor must find (`rdrand eax; jnc`).
#[test]
fn code_that_is_looked_through() {
    hostile(
        r#"int main() {
            static char code[5 << 12];
            for (int i = 0; i < sizeof code; i += 5) memcpy(code + i, "\x0f\xc7\xf0\x73", 5);
            int fd = open("/tmp/code", O_RDWR | O_CREAT, 0700);
            for (int i = 0; i < 200; i++) if (write(fd, code, sizeof code) != sizeof code) return 1;
            for (;;) {
                char *p = mmap(0, 200 * sizeof code, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
                if (p == MAP_FAILED) return 2;
                for (int i = 0; i < 200 * sizeof code; i += 4096) *(volatile char *)(p + i);
                munmap(p, 200 * sizeof code);
            }
        }"#,
    )
    .run_until_deadline(Duration::from_secs(3), &["--memory", "64M", "--disk", "16M"])
    .within(80 << 20);
}
