//! GNU coreutils that speak of the process, the user and the machine.

use super::job::{Compare, Job, job};

pub fn jobs() -> Vec<Job> {
    vec![
        job("env").env("ZONE", "here").by(Compare::AnyOrder).sampled(),
        job("env -u HOME -S").arg("A=1 B=2").by(Compare::AnyOrder),
        job("printenv PATH LANG"),
        job("printenv MISSING"),
        job("date -u -d @0"),
        job("date -u -d").arg("2024-02-29 12:34:56.789 UTC + 1 year - 3 days").arg("+%F %T.%N %a %j %s"),
        job("date -d 2024-07-01T12:00Z --iso-8601=seconds").env("TZ", "Europe/Berlin"),
        job("date -d nonsense"),
        // The clock starts at a fixed instant, in every run on every host.
        job("date -u +%Y-%m").by(Compare::Says("2026-01\n")),
        // What the program sees of user and machine is fixed, too.
        job("id").by(Compare::Says("uid=0(root) gid=0(root) groups=0(root)\n")).sampled(),
        job("id -un").by(Compare::Says("root\n")),
        job("whoami").by(Compare::Says("root\n")),
        job("groups").by(Compare::Says("root\n")),
        job("uname -s -n -r -m").by(Compare::Says("Linux dejavm 6.1.0 x86_64\n")),
        job("arch"),
        job("nproc").by(Compare::Says("1\n")),
        job("hostname").by(Compare::Says("dejavm\n")),
        job("tty").by(Compare::Exact),
        job("sleep 0.01"),
        job("sleep 100000").by(Compare::Says("")),
        job("nice"),
        job("timeout --version"),
        job("stty -a"),
        job("logname").by(Compare::Says("")),
        job("users").by(Compare::Says("")),
        job("cat /proc/self/comm /proc/sys/kernel/ostype"),
        job("head -c 16 /dev/zero"),
        job("head -c 8 /dev/full"),
        job("cp left.txt /dev/full"),
        job("tee /dev/null /dev/stderr").reads("twice\n"),
        job("cat /dev/stdin").reads("in\n"),
        job("wc -c /dev/fd/0").from("words.txt"),
        job("ls /proc/self/fd/0 /proc/self/cwd/left.txt"),
    ]
}
