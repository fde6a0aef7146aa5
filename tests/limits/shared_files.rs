//! Shared mappings of the host's files: charged by what is used of them, whatever their length.

use std::fs::File;

use crate::harness::{Hostile, hostile};

const MIB: u64 = 1 << 20;

/// A program beside a sparse file of so many bytes.
fn beside(len: u64, source: &str) -> Hostile {
    let program = hostile(&format!(
        "#include <libgen.h>
        static long len;
        static int beside(char **v) {{
            struct stat stat;
            int fd = chdir(dirname(v[0])) ? -1 : open(\"long\", O_RDWR);
            fstat(fd, &stat);
            len = stat.st_size;
            return fd;
        }}
        {source}"
    ));
    let file = File::create(program.program().with_file_name("long")).expect("a file");
    file.set_len(len).expect("a sparse file");
    std::os::unix::fs::FileExt::write_all_at(&file, b"start", 0).expect("written");
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", len - 3).expect("written");
    program
}

const TOUCH: &str = "int main(int c, char **v) {
    int fd = beside(v);
    char *p = mmap(0, len, 3, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return 1;
    strcpy(p + len / 2, \"middle\");
    char word[8] = \"\";
    pread(fd, word, 7, len / 2);
    printf(\"%.5s %s %.3s\\n\", p, word, p + len - 3);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, len - 8192)) return 2;
    printf(\"%.5s %d %.3s\\n\", p, p[len / 2], p + len - 3);
    p[1] = 'T';
    if (munmap(p, len)) return 3;
    pread(fd, word, 5, 0);
    printf(\"%.5s\\n\", word);
    return 0;
}";

#[test]
fn a_long_file_is_charged_by_what_is_used() {
    for len in [300 * MIB, 6 << 30, 8 << 40] {
        let ended = beside(len, TOUCH).run(&["--memory", "32M", "--disk", "16M", "--deadline", "30s"]);
        let ended = ended.within(48 * MIB);
        let wanted = "start middle end\nstart 0 end\nsTart\n";
        assert_eq!((ended.status, &ended.stdout[..]), (0, wanted), "{len}: {ended:?}");
    }
}

/// What is touched is charged: a program that touches more than it may have dies of it.
#[test]
fn what_is_touched_is_charged() {
    let ended = beside(
        300 * MIB,
        "int main(int c, char **v) {
            int fd = beside(v);
            char *p = mmap(0, len, 3, MAP_SHARED, fd, 0);
            for (long at = 0; at < len; at += 4096) p[at] = 1;
            return 0;
        }",
    )
    .run(&["--memory", "32M", "--disk", "16M", "--deadline", "60s"])
    .within(48 * MIB);
    assert!(ended.status > 128 && ended.stderr.is_empty(), "{ended:?}");
}

/// A write to a file that is mapped privately, too, and holes all over a file have an end.
#[test]
fn a_write_moves_nothing_and_holes_are_charged() {
    let ended = beside(
        300 * MIB,
        "int main(int c, char **v) {
            int fd = beside(v);
            char *p = mmap(0, 4096, 1, MAP_PRIVATE, fd, 0);
            if (pwrite(fd, \"S\", 1, 0) != 1) return 1;
            printf(\"%.5s\\n\", p);
            long n = 0;
            while (n < len / 131072 && !fallocate(fd, 3, n * 131072, 65536)) n++;
            printf(\"%d\\n\", n == len / 131072);
            return 0;
        }",
    )
    .run(&["--memory", "32M", "--disk", "1M", "--deadline", "30s"])
    .within(33 * MIB);
    assert_eq!((ended.status, &ended.stdout[..]), (0, "Start\n1\n"), "{ended:?}");
}
