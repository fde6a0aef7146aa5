//! gzip, xz, zstd and tar, all in one process with one thread: by their options where they would
//! make more, and on archives that tar needs no other program for.
//!
//! `gzip -n` where standard input is a file: gzip keeps that file's time, and in the sandbox
//! standard input is always a pipe.

use super::job::{Compare, Job, job};

pub fn jobs() -> Vec<Job> {
    vec![
        job("gzip -c words.txt").sampled(),
        job("gzip -nc9 random.bin"),
        job("gzip -1 -n -c").from("prose.txt"),
        job("gzip -dc words.gz"),
        job("gzip -lv words.gz").by(Compare::Shape),
        job("gzip -t words.xz"),
        job("gzip -v words.txt"),
        job("gzip -d").reads("not gzip at all"),
        job("gzip -kv left.txt right.txt missing"),
        job("xz -T1 -c words.txt"),
        job("xz -T1 -9e -c prose.txt").sampled(),
        job("xz -T1 -dc words.xz"),
        job("xz -T1 -l words.xz"),
        job("xz -T1 --format=lzma -c").from("left.txt"),
        job("xz -T1 -v -k left.txt").by(Compare::Shape),
        job("xz -T1 -t words.gz"),
        job("zstd --single-thread --no-asyncio -q -c words.txt").sampled(),
        job("zstd --single-thread --no-asyncio -q -19 -c prose.txt"),
        job("zstd --single-thread --no-asyncio -q --ultra -22 --long -c").from("words.txt"),
        job("zstd --single-thread --no-asyncio -q -dc words.zst"),
        job("zstd --single-thread --no-asyncio -l words.zst"),
        job("zstd --single-thread --no-asyncio -q -t words.gz"),
        job(
            "zstd --single-thread --no-asyncio --train -q tree/bark/deep/core.txt left.txt -o tree/void/dict",
        )
        .by(Compare::Exact),
        job("zstd --single-thread --no-asyncio -q --rm left.txt"),
        job("tar -cf - --sort=name tree").sampled(),
        job("tar -cf - --format=pax --sort=name --pax-option=delete=atime,delete=ctime tree left.txt"),
        job("tar -cvf /dev/null tree").by(Compare::AnyOrder),
        job("tar -tvf tree.tar").env("TZ", "UTC"),
        job("tar -tf -").from("tree.tar"),
        job("tar -xvf tree.tar -C tree/void"),
        job("tar -xOf tree.tar tree/bark/rough.txt"),
        job("tar -df tree.tar"),
        job("tar -rvf tree.tar left.txt"),
        job("tar --delete -f tree.tar tree/root.txt"),
        job("tar -xf random.bin"),
        job("tar -xvf missing.tar"),
        job("tar -cf - missing"),
    ]
}
