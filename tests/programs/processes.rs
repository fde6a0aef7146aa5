//! Programs of several processes and threads.

use super::job::{Compare, Job, job};

const FORKS: &str = "$| = 1; my @pids; for my $n (1 .. 5) { my $pid = fork; if (!$pid) { exit $n } push @pids, $pid } \
     for (@pids) { waitpid $_, 0; print $? >> 8, ' ' } print \"\\n\"; print `echo from a child`; open my $in, '-|', \
     'seq 3' or die; print <$in>; close $in; print system('exit 3') >> 8, \"\\n\"; kill 'TERM', $$";

/// A server and its clients, on one computer without a network.
const PIPES: &str = "import os, select\nchildren = []\nfor n in range(4):\n    r, w = os.pipe()\n    if os.fork() == \
     0:\n        os.close(r)\n        for k in range(3): os.write(w, b'%d' % n)\n        os._exit(n)\n    \
     os.close(w)\n    children.append(r)\ngot = {r: b'' for r in children}\nwhile children:\n    for r in \
     select.select(children, [], [])[0]:\n        part = os.read(r, 100)\n        if part: got[r] += part\n        \
     else: children.remove(r)\nprint(sorted(got.values()))\nprint(sorted(os.waitstatus_to_exitcode(os.wait()[1]) for \
     _ in range(4)))";

/// A compiler of C in a few processes, and what it made.
const COMPILE: &str = "cd $(mktemp -d) && printf '#include <stdio.h>\\nint main(void) { puts(\"compiled\"); return 3; }\\n' > a.c && \
     gcc -O1 -o a a.c && ./a; echo $?";

/// The same by make, several jobs at once.
const MAKE: &str = "d=$(mktemp -d) && cp Makefile words.txt $d && cd $d && echo 'int sum(int, int); int words(const char *);' > all.h && \
     printf '#include \"all.h\"\\nint sum(int a, int b) { return a + b; }\\n' > sum.c && \
     printf '#include <stdio.h>\\n#include \"all.h\"\\nint words(const char *p) { FILE *f = fopen(p, \"r\"); int n = 0, c; \
     while ((c = getc(f)) != EOF) n += c == 10; return n; }\\n' > words.c && echo 'int list[4] = {1, 2, 3, 4};' > list.c \
     && printf '#include <stdio.h>\\n#include \"all.h\"\\nint main(int c, char **v) { printf(\"%%d %%d\\\\n\", sum(2, 3), \
     words(v[1])); return 0; }\\n' > main.c && make -s -j4 && ls *.o";

pub fn jobs() -> Vec<Job> {
    vec![
        job("bash processes.sh").sampled(),
        job("dash -c")
            .arg("echo a | cat; (exit 3); echo $?; sleep 1 & wait; for i in 1 2 3; do echo $i; done | wc -l"),
        job("python3 threads.py").sampled(),
        job("python3 -c").arg(PIPES),
        job("perl -e").arg(FORKS),
        job("sh -c").arg(COMPILE),
        job("sh -c").arg(MAKE).sampled(),
        job("xz -T4 -k -c --block-size=65536").arg("words.txt"),
        job("sort --parallel=4 -S 1M").arg("words.txt"),
        job("timeout 1 sleep 10"),
        job("env -i").arg("A=1").arg("/usr/bin/env"),
        job("nice -n 5 nice"),
        job("flock /tmp/lock sh -c").arg("echo locked; flock -n /tmp/lock true; echo $?"),
        job("find tree -name").arg("*.txt").on("-exec wc -c {} ;").by(Compare::AnyOrder),
        job("xargs -P 4 -n 1 -I{} sh -c").arg("exit 0").reads("1\n2\n3\n4\n5\n"),
    ]
}
