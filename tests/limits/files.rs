//! Files: one call that would take for ever, and what the monitor must remember.

use std::time::Duration;

use crate::harness::{Hostile, hostile};

const SECOND: Duration = Duration::from_secs(1);

/// A directory of the host's with so many files, beside the program.
fn with_host_files(guest: &Hostile, count: u32) -> String {
    let dir = guest.program().with_file_name("many");
    std::fs::create_dir(&dir).expect("a directory");
    for n in 0..count {
        std::fs::write(dir.join(format!("a-file-with-a-longer-name-{n}")), "").expect("a file");
    }
    dir.display().to_string()
}

#[test]
fn one_read_into_many_buffers() {
    hostile(
        "int main() { struct iovec v[1024]; char *m = mmap(0, 64 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
           for (int i = 0; i < 1024; i++) v[i].iov_base = m, v[i].iov_len = 64 << 20;
           int fd = open(\"/dev/zero\", O_RDONLY); for (;;) if (readv(fd, v, 1024) != 0x7ffff000) return 1; }",
    )
    .run_until_deadline(SECOND, &["--memory", "128M"])
    .within(128 << 20);
}

#[test]
fn one_read_of_random_bytes() {
    hostile(
        "int main() { char *m = mmap(0, 64 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); struct iovec v[1024];
           for (int i = 0; i < 1024; i++) v[i].iov_base = m, v[i].iov_len = 64 << 20;
           int fd = open(\"/dev/urandom\", O_RDONLY); for (;;) if (readv(fd, v, 1024) < 0) return 1; }",
    )
    .run_until_deadline(SECOND, &["--memory", "128M"])
    .within(128 << 20);
}

#[test]
fn getrandom_of_much() {
    hostile(
        "int main() { size_t n = 200u << 20; char *m = mmap(0, n, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
           for (;;) if (syscall(SYS_getrandom, m, n, 0) != n) return 1; }",
    )
    .run_until_deadline(SECOND, &["--memory", "256M"])
    .within(256 << 20);
}

#[test]
fn one_write_over_and_over() {
    hostile(
        "int main() { struct iovec v[1024]; char *m = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
           for (int i = 0; i < 1024; i++) v[i].iov_base = m, v[i].iov_len = 60 << 10;
           int fd = open(\"/tmp/f\", O_RDWR | O_CREAT, 0600);
           for (;;) if (pwritev(fd, v, 1024, 0) <= 0) return 1; }",
    )
    .run_until_deadline(SECOND, &["--memory", "64M", "--disk", "64M"])
    .within(128 << 20);
}

#[test]
fn paths_through_many_links() {
    hostile(
        "int main() { char p[4096] = {0}, l[8], n[8192]; chdir(\"/tmp\"); mkdir(\"d\", 0700);
           while (strlen(p) < 3900) strcat(p, \"d/../\");
           for (int i = 0; i < 39; i++) { sprintf(l, \"l%d\", i); n[0] = 0;
             if (i) sprintf(n, \"l%d/\", i - 1); strcat(n, p); if (symlink(n, l)) return 1; }
           struct stat s; for (;;) if (stat(\"l38\", &s)) return 2; }",
    )
    .run_until_deadline(SECOND, &["--memory", "64M"])
    .within(64 << 20);
}

#[test]
fn directories_of_many_names() {
    let guest = hostile(
        "int main(int c, char **v) { char dir[256]; strcpy(dir, v[0]); strcpy(strrchr(dir, '/'), \"/many\");
           char *b = malloc(1 << 20); for (;;) { int fd = open(dir, O_RDONLY);
             while (syscall(SYS_getdents64, fd, b, 1 << 20) > 0); close(fd); } }",
    );
    with_host_files(&guest, 50_000);
    guest.run_until_deadline(SECOND, &["--memory", "64M", "--disk", "64M"]).within(128 << 20);
}

#[test]
fn host_files_walked_over() {
    let guest = hostile(
        "int main(int c, char **v) { char dir[256], name[512]; strcpy(dir, v[0]);
           strcpy(strrchr(dir, '/'), \"/many\"); struct stat s;
           for (int i = 0; i < 25000; i++) { sprintf(name, \"%s/a-file-with-a-longer-name-%d\", dir, i);
             if (stat(name, &s)) return errno == ENOMEM ? 42 : 1; } return 2; }",
    );
    with_host_files(&guest, 25_000);
    let ended = guest.run(&["--memory", "64M", "--disk", "8M"]);
    assert_eq!(ended.status, 42, "{ended:?}");
    ended.within(72 << 20);
    // A quota that is large enough pays for it.
    let ended = guest.run(&["--memory", "64M", "--disk", "128M"]);
    assert_eq!(ended.status, 2, "{ended:?}");
    ended.within(192 << 20);
}

#[test]
fn host_files_removed() {
    let guest = hostile(
        "int main(int c, char **v) { char dir[256], name[512]; strcpy(dir, v[0]);
           strcpy(strrchr(dir, '/'), \"/many\"); struct stat s;
           for (int i = 0; i < 8000; i++) { sprintf(name, \"%s/a-file-with-a-longer-name-%d\", dir, i);
             if (unlink(name)) return 1; if (!stat(name, &s) || errno != ENOENT) return 2; } return 0; }",
    );
    with_host_files(&guest, 8_000);
    let ended = guest.run(&["--memory", "64M", "--disk", "8M"]);
    assert_eq!(ended.status, 0, "{ended:?}");
    ended.within(72 << 20);
}

#[test]
fn names_that_the_host_lacks() {
    let guest = hostile(
        "int main() { char name[512]; struct stat s;
           for (int i = 0; i < 10000; i++) { sprintf(name, \"/usr/%0200d\", i); stat(name, &s); } return 0; }",
    );
    let ended = guest.run(&["--memory", "64M", "--disk", "1M"]);
    assert_eq!(ended.status, 0, "{ended:?}");
    ended.within(65 << 20);
}

#[test]
fn pipes() {
    let ended = hostile(
        "int main() { struct rlimit r = {4096, 4096}; setrlimit(RLIMIT_NOFILE, &r); char b[65536]; int n = 0, p[2];
           for (; n < 4096 && !pipe2(p, O_NONBLOCK); n++) if (write(p[1], b, 65536) != 65536) return 1;
           return errno == ENFILE && n >= 32 && n < 512 ? 42 : 2; }",
    )
    .run(&["--memory", "64M", "--disk", "16M"]);
    assert_eq!(ended.status, 42, "{ended:?}");
    ended.within(80 << 20);
}

#[test]
fn empty_files() {
    let ended = hostile(
        "int main() { chdir(\"/tmp\"); char n[32]; int i = 0;
           for (;; i++) { sprintf(n, \"%d\", i); if (mknod(n, S_IFREG | 0600, 0)) break; }
           return errno == ENOSPC && i > 1000 ? 42 : 1; }",
    )
    .run(&["--memory", "64M", "--disk", "8M"]);
    assert_eq!(ended.status, 42, "{ended:?}");
    ended.within(72 << 20);
}

#[test]
fn attributes() {
    let ended = hostile(
        "int main() { chdir(\"/tmp\"); char n[256]; int i = 0; mknod(\"f\", S_IFREG | 0600, 0);
           for (;; i++) { sprintf(n, \"user.%d\", i);
             if (syscall(SYS_setxattr, \"f\", n, n, i % 2 ? 0 : 100, 0)) break; }
           if (errno != ENOSPC || i < 1000) return 1;
           char *b = malloc(70000); if (syscall(SYS_listxattr, \"f\", b, 65536) != -1 || errno != E2BIG) return 2;
           if (syscall(SYS_removexattr, \"f\", \"user.0\")) return 3;
           return syscall(SYS_setxattr, \"f\", \"user.0\", n, 1, 0) ? 4 : 42; }",
    )
    .run(&["--memory", "64M", "--disk", "3M"]);
    assert_eq!(ended.status, 42, "{ended:?}");
    ended.within(67 << 20);
}

#[test]
fn locks() {
    let ended = hostile(
        "int main() { chdir(\"/tmp\"); int fd = open(\"f\", O_RDWR | O_CREAT, 0600); long i = 0;
           for (; i < 20000; i++) { struct flock l = {.l_type = F_WRLCK, .l_start = i * 2, .l_len = 1};
             if (fcntl(fd, F_SETLK, &l)) break; }
           return errno == ENOLCK && i > 1000 ? 42 : 1; }",
    )
    .run(&["--memory", "64M"]);
    assert_eq!(ended.status, 42, "{ended:?}");
    ended.within(64 << 20);
}

#[test]
fn system_calls_that_do_not_exist() {
    let ended = hostile(
        "int main() { for (long i = 0; i < 20000; i++) if (syscall(1000000 + i * 7) != -1 || errno != ENOSYS) return 1;
           return 42; }",
    )
    .run(&["--memory", "64M"]);
    assert_eq!(ended.status, 42, "{ended:?}");
    ended.within(64 << 20);
}

/// A lock that nobody will ever give back.
#[test]
fn a_lock_that_waits_for_ever() {
    let ended = hostile(
        "int main() { chdir(\"/tmp\"); int a = open(\"f\", O_RDWR | O_CREAT, 0600), b = open(\"f\", O_RDWR);
           syscall(SYS_flock, a, 2); syscall(SYS_flock, b, 2); return 0; }",
    )
    .run(&["--memory", "64M", "--deadline", "10s"]);
    assert_eq!(ended.status, 123, "it waits for ever: {ended:?}");
}
