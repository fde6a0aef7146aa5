//! The number of mappings.

use crate::harness::hostile;

const MIB: u64 = 1 << 20;

/// Mappings cost memory: a small sandbox has few, whatever way they are made.
#[test]
fn mappings_are_charged() {
    let ended = hostile(
        "int main() {
            long n = 100000;
            char *p = mmap(0, n << 12, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            long i = 0;
            while (i < n && !mprotect(p + (i << 12), 4096, 3)) i += 2;
            int error = errno;
            if (munmap(p, n << 12)) return 1;
            printf(\"%d %d\\n\", i > 1000 && i < n, error);
            return 0;
        }",
    )
    .run(&["--memory", "16M"])
    .within(16 * MIB);
    assert_eq!((ended.status, &ended.stdout[..]), (0, "1 12\n"), "{ended:?}");
}

/// As many as Linux allows, also by cutting one up.
#[test]
fn no_more_than_linux_allows() {
    let ended = hostile(
        "int main() {
            long n = 200000;
            char *p = mmap(0, n << 12, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            long i = 0;
            while (i < n && !mprotect(p + (i << 12), 4096, 3)) i += 2;
            printf(\"%d %d\\n\", i > 65000 && i < 65600, errno);
            if (!munmap(p + 4096 * (i + 1000), 4096)) return 1;
            return munmap(p, n << 12) ? 2 : 0;
        }",
    )
    .run(&["--memory", "1G"])
    .within(1024 * MIB);
    assert_eq!((ended.status, &ended.stdout[..]), (0, "1 12\n"), "{ended:?}");
}

/// The names of mappings are paths, and `/proc/self/maps` says one for each.
#[test]
fn long_names_are_charged() {
    let ended = hostile(
        "int main() {
            char name[241] = {0};
            chdir(\"/tmp\");
            memset(name, 'd', 240);
            for (int i = 0; i < 15; i++) if (mkdir(name, 0700) || chdir(name)) return 1;
            int fd = open(\"f\", O_RDWR | O_CREAT, 0600);
            ftruncate(fd, 1 << 30);
            char *spare = mmap(0, 4 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            long n = 0;
            while (mmap(0, 4096, 1 + (n & 1), MAP_PRIVATE, fd, n % 65536 * 8192) != MAP_FAILED) n++;
            int error = errno;
            munmap(spare, 4 << 20);
            char c = 0;
            int maps = open(\"/proc/self/maps\", O_RDONLY), smaps = open(\"/proc/self/smaps\", O_RDONLY);
            printf(\"%d %d %d %d\\n\", n > 1000 && n < 65536, error, pread(maps, &c, 1, n * 3000), pread(smaps, &c, 1, n * 3000));
            return 0;
        }",
    )
    .run(&["--memory", "64M", "--deadline", "60s"])
    .within(64 * MIB);
    assert_eq!((ended.status, &ended.stdout[..]), (0, "1 12 1 1\n"), "{ended:?}");
}

/// A file changes beneath a mapping that is far longer than it, in two processes: the work is that of the
/// pages that there are. This once looked at each page that could be, whatever the deadline.
#[test]
fn a_file_changes_beneath_a_very_long_mapping() {
    let ended = hostile(
        "int main() {
            int fd = open(\"/tmp/f\", O_RDWR | O_CREAT, 0600);
            write(fd, \"abcd\", 4);
            char *p = mmap(0, 1l << 43, 3, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
            char first = p[0];
            if (fork() == 0) {
                pwrite(fd, \"x\", 1, 0);
                return 0;
            }
            wait(0);
            printf(\"%c %c\\n\", first, p[0]);
            return 0;
        }",
    )
    .run(&["--memory", "64M", "--deadline", "60s"])
    .within(64 * MIB);
    assert_eq!((ended.status, &ended.stdout[..]), (0, "a x\n"), "{ended:?}");
}
