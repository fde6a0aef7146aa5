//! The texts of `/proc`, read piece by piece.

use crate::harness::hostile;

/// Reading a long text takes time in proportion to it, and what is kept meanwhile is charged until the
/// text ends or its file is closed.
#[test]
fn a_long_text_is_made_once() {
    let ended = hostile(
        "static char whole[40 << 20];
        static long free_memory() {
            char text[200] = \"\";
            int fd = open(\"/proc/meminfo\", O_RDONLY);
            read(fd, text, 199);
            close(fd);
            return atol(strstr(text, \"MemFree:\") + 8);
        }
        static unsigned long sum(unsigned long s, const char *p, long n) {
            while (n-- > 0) s = s * 31 + (unsigned char)*p++;
            return s;
        }
        int main() {
            // Takes its buffer.
            printf(\"\\n\");
            char *p = mmap(0, 40000L << 12, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            for (long i = 0; i < 40000; i += 2) mprotect(p + (i << 12), 4096, 1);
            for (int n = 0; n < 2; n++) {
                const char *name = n ? \"/proc/self/smaps\" : \"/proc/self/maps\";
                memset(whole, 1, sizeof whole);
                long before = free_memory(), total = 0, got, most = before;
                unsigned long pieces = 0;
                int fd = open(name, O_RDONLY);
                char piece[4096];
                while ((got = read(fd, piece, sizeof piece)) > 0) {
                    pieces = sum(pieces, piece, got);
                    total += got;
                    if (total == got) most = free_memory();
                }
                printf(\"%d %d \", total > 1000000, most < before - 900);
                // Closed in the middle.
                lseek(fd, 0, SEEK_SET);
                read(fd, piece, 4096);
                close(fd);
                printf(\"%d \", free_memory() == before);
                fd = open(name, O_RDONLY);
                long all = 0;
                while ((got = read(fd, whole + all, sizeof whole - all)) > 0) all += got;
                printf(\"%d\\n\", all == total && sum(0, whole, all) == pieces);
                // Another place than the next one shows what is there now.
                lseek(fd, 0, SEEK_SET);
                read(fd, piece, 4096);
                munmap(p, 4096);
                pread(fd, piece, 100, 8);
                close(fd);
                mmap(p, 4096, 1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            }
            return 0;
        }",
    )
    .run(&["--memory", "256M", "--deadline", "60s"])
    .within(256 << 20);
    assert_eq!((ended.status, &ended.stdout[..]), (0, "\n1 1 1 1\n1 1 1 1\n"), "{ended:?}");
}

/// Where nothing can be charged any more, a text can still be read.
#[test]
fn a_text_can_be_read_without_memory() {
    let ended = hostile(
        "int main() {
            int fd = open(\"/proc/self/smaps\", O_RDONLY);
            // Never two in a row that are alike: they would be one.
            int flags = MAP_PRIVATE | MAP_ANONYMOUS;
            for (int n = 0; mmap(0, 4096, n % 2 ? 3 : 7, flags | MAP_NORESERVE, -1, 0) != MAP_FAILED; n++)
                mmap(0, 4096, 1, flags, -1, 0);
            static char piece[100000];
            long total = 0, got;
            while ((got = read(fd, piece, sizeof piece)) > 0) total += got;
            printf(\"%d\\n\", total > 5000);
            return 0;
        }",
    )
    .run(&["--memory", "8M", "--deadline", "60s"]);
    assert_eq!((ended.status, &ended.stdout[..]), (0, "1\n"), "{ended:?}");
}

/// A process's memory is read through `/proc` also where it is a file's that nobody has touched: this once
/// waited for itself for ever.
#[test]
fn memory_of_files_is_read_through_proc() {
    let program = hostile(
        "#include <sys/sendfile.h>
        int main(int c, char **v) {
            int fd = open(v[0], O_RDONLY), memory = open(\"/proc/self/mem\", O_RDWR);
            char *p = mmap(0, 8192, 1, MAP_PRIVATE, fd, 0), *q = mmap(0, 8192, 3, MAP_PRIVATE, fd, 0);
            char *s = mmap(0, 8192, 1, MAP_SHARED, fd, 0);
            char word[5] = \"\";
            printf(\"%zd %s\\n\", pread(memory, word, 4, (long)p), word + 1);
            printf(\"%zd %s\\n\", pread(memory, word, 4, (long)s), word + 1);
            printf(\"%zd \", pwrite(memory, \"me\", 2, (long)q));
            printf(\"%.4s\\n\", q);
            off_t at = (long)(q + 4096);
            printf(\"%zd\\n\", sendfile(open(\"/dev/null\", O_WRONLY), memory, &at, 10));
            return 0;
        }",
    );
    let ended = program.run(&["--deadline", "20s"]);
    assert_eq!((ended.status, &ended.stdout), (0, &program.native().stdout), "{ended:?}");
}
