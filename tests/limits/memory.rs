//! Guest memory: charged by what is used, given back at once, and the work in proportion to what exists.

use crate::harness::{hostile, hostile_with};

const MIB: u64 = 1 << 20;

/// Reserved address space is no work, however much of it there is.
#[test]
fn reservations_cost_nothing() {
    let ended = hostile(
        "int main() {
            char *p = mmap(0, 4ul << 40, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED) return 1;
            p[3ul << 40] = 1;
            char *q = mremap(p, 4ul << 40, 5ul << 40, MREMAP_MAYMOVE);
            if (q == MAP_FAILED || q[3ul << 40] != 1) return 2;
            if (madvise(q, 4ul << 40, MADV_DONTNEED) || q[3ul << 40] != 0) return 3;
            int fd = open(\"/tmp/sparse\", O_RDWR | O_CREAT, 0600);
            ftruncate(fd, 8ul << 40);
            p = mmap(0, 8ul << 40, 1, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
            if (p == MAP_FAILED || p[5ul << 40] != 0 || munmap(p, 8ul << 40)) return 4;
            return mprotect(q, 2ul << 40, 1) || munmap(q, 5ul << 40) ? 5 : 0;
        }",
    )
    .run(&["--memory", "64M", "--deadline", "60s"])
    .within(64 * MIB);
    assert_eq!(ended.status, 0, "{ended:?}");
}

/// AddressSanitizer reserves 20 TiB for what it keeps.
#[test]
fn address_sanitizer() {
    let guest = hostile_with(
        "int main(int c, char **v) { char *p = malloc(10); puts(\"ready\"); fflush(stdout); return p[c * 10]; }",
        &["-fsanitize=address"],
    );
    // It looks for leaks from a process of its own.
    let ended = guest.run(&["--memory", "256M", "--deadline", "60s", "--env", "ASAN_OPTIONS=detect_leaks=0"]);
    assert_eq!((ended.status, &ended.stdout[..]), (1, "ready\n"), "{ended:?}");
    assert!(ended.stderr.contains("heap-buffer-overflow"), "{ended:?}");
    ended.within(256 * MIB);
}

#[test]
fn what_is_unmapped_is_given_back() {
    let ended = hostile(
        "int main() {
            for (int i = 0; i < 300; i++) {
                char *p = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                if (p == MAP_FAILED) return 1;
                for (int at = 0; at < 1 << 20; at += 65536) p[at] = 1;
                munmap(p, 1 << 20);
            }
            return 0;
        }",
    )
    .run(&["--memory", "32M"])
    .within(32 * MIB);
    assert_eq!(ended.status, 0, "{ended:?}");
}

/// Taking access away does not give memory back.
#[test]
fn memory_without_access_stays_charged() {
    let ended = hostile(
        "int main() {
            for (int i = 0; ; i++) {
                char *p = mmap(0, 4 << 20, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (p == MAP_FAILED || mprotect(p, 4 << 20, 3)) { printf(\"%d %d\\n\", i, errno); return 0; }
                memset(p, 1, 4 << 20);
                mprotect(p, 4 << 20, 0);
            }
        }",
    )
    .run(&["--memory", "64M"])
    .within(64 * MIB);
    assert_eq!((ended.status, &ended.stdout[..]), (0, "15 12\n"), "{ended:?}");
}

#[test]
fn a_shared_mapping_that_does_not_fit_keeps_nothing() {
    let ended = hostile(
        "int main() {
            if (mmap(0, 1ul << 40, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) return 1;
            if (errno != ENOMEM) return 2;
            char *p = malloc(16 << 20);
            if (!p) return 3;
            memset(p, 1, 16 << 20);
            return 0;
        }",
    )
    .run(&["--memory", "32M"])
    .within(32 * MIB);
    assert_eq!(ended.status, 0, "{ended:?}");
}

#[test]
fn shared_files_are_charged_by_what_is_used() {
    let ended = hostile(
        "int main() {
            int fd = open(\"/tmp/sparse\", O_RDWR | O_CREAT, 0600);
            ftruncate(fd, 6ul << 30);
            char *p = mmap(0, 65536, 3, MAP_SHARED, fd, 3ul << 30);
            if (p == MAP_FAILED) return 1;
            memset(p, 7, 65536);
            char *q = mmap(0, 100000000000ul, 3, MAP_SHARED, fd, 0);
            if (q == MAP_FAILED || q[3ul << 30] != 7) return 2;
            munmap(p, 65536);
            munmap(q, 100000000000ul);
            char c;
            return pread(fd, &c, 1, (3ul << 30) + 65535) == 1 && c == 7 ? 0 : 3;
        }",
    )
    .run(&["--memory", "32M", "--deadline", "60s"])
    .within(32 * MIB);
    assert_eq!(ended.status, 0, "{ended:?}");
}

#[test]
fn shared_files_written_through_mappings() {
    let ended = hostile(
        "int main() {
            for (int i = 0; ; i++) {
                char name[32];
                sprintf(name, \"/tmp/%d\", i);
                int fd = open(name, O_RDWR | O_CREAT, 0600);
                if (fd < 0 || ftruncate(fd, 4 << 20)) return 0;
                char *p = mmap(0, 4 << 20, 3, MAP_SHARED, fd, 0);
                if (p == MAP_FAILED) return 0;
                memset(p, 1, 4 << 20);
                close(fd);
            }
        }",
    )
    .run(&["--memory", "64M", "--disk", "16M"])
    .within((64 + 16) * MIB);
    assert!(matches!(ended.status, 0 | 137), "ENOMEM or the OOM killer: {ended:?}");
}

/// Page tables are built anew when there are too many.
#[test]
fn one_page_in_each_of_many_regions() {
    let ended = hostile(
        "int main() {
            long n = 3000;
            char *p = mmap(0, n << 21, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED) return 1;
            for (long i = 0; i < n; i++) p[i << 21] = i;
            for (long i = 0; i < n; i++) if (p[i << 21] != (char)i) return 2;
            return 0;
        }",
    )
    .run(&["--memory", "512M"])
    .within(512 * MIB);
    assert_eq!(ended.status, 0, "{ended:?}");
}

#[test]
fn more_pages_than_there_is_memory() {
    let ended = hostile(
        "int main() {
            long n = 100000;
            char *p = mmap(0, n << 21, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED) return 1;
            for (long i = 0; i < n; i++) p[i << 21] = i;
            return 2;
        }",
    )
    .run(&["--memory", "64M"])
    .within(64 * MIB);
    assert_eq!(ended.status, 137, "as Linux's OOM killer: {ended:?}");
}

/// What one touch in a large mapping takes is one page, until there is reason to think otherwise.
#[test]
fn large_mappings_touched_here_and_there() {
    let ended = hostile(
        "int main() {
            char *p = mmap(0, 512 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (p == MAP_FAILED) return 1;
            for (long i = 0; i < 256; i++) p[i << 21] = i;
            return 0;
        }",
    )
    .run(&["--memory", "1G"])
    .within(16 * MIB);
    assert_eq!(ended.status, 0, "{ended:?}");
}

/// Holes take no memory to make, however large they are, and give back what was there.
#[test]
fn holes_in_mapped_files() {
    let ended = hostile(
        "int main() {
            int fd = memfd_create(\"f\", 0);
            if (ftruncate(fd, 4ul << 40)) return 1;
            char *p = mmap(0, 4ul << 40, 3, MAP_SHARED, fd, 0);
            char *q = mmap(0, 4ul << 40, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED || q == MAP_FAILED) return 2;
            for (long i = 0; i < 20; i++) {
                char *a = p + (i << 30), *b = q + (i << 30);
                memset(a, 1, 8 << 20);
                if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i << 30, 8 << 20)) return 3;
                memset(a, 1, 8 << 20);
                if (madvise(a, 1 << 30, MADV_REMOVE) || a[0] || a[(8 << 20) - 1]) return 4;
                memset(b, 1, 8 << 20);
                if (madvise(b, 8 << 20, MADV_REMOVE) || b[0] || b[(8 << 20) - 1]) return 5;
            }
            p[5ul << 30] = 1;
            if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4ul << 40)) return 6;
            return madvise(p, 4ul << 40, MADV_REMOVE) || p[5ul << 30] ? 7 : 0;
        }",
    )
    .run(&["--memory", "32M", "--deadline", "60s"])
    .within(32 * MIB);
    assert_eq!(ended.status, 0, "{ended:?}");
}
