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
