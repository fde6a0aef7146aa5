//! Interpreters, databases and cryptography.

use super::job::{Compare, Job, job};

/// A query with joins, an index, a window function and a common table expression.
const JOIN: &str = "SELECT c.city, i.name, sum(s.amount * i.price) AS total, rank() OVER (PARTITION BY c.city ORDER BY \
     sum(s.amount * i.price) DESC, i.name) AS place FROM sale s JOIN customer c ON c.id = s.customer JOIN item i ON \
     i.id = s.item WHERE s.day BETWEEN '2024-02-01' AND '2024-05-31' GROUP BY 1, 2 ORDER BY 1, 4 LIMIT 60";

/// Writes to a database that lies on the host: the sandbox's changes stay in the sandbox.
const WRITE: &str = "BEGIN; UPDATE sale SET amount = amount + 1 WHERE id % 3 = 0; INSERT INTO item VALUES (1000, \
     'new', 1.5); DELETE FROM customer WHERE city = 'A'; COMMIT; SELECT sum(amount), (SELECT count(*) FROM customer), \
     changes(), total_changes() FROM sale; PRAGMA integrity_check;";

const WAL: &str = "PRAGMA journal_mode = WAL; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); WITH RECURSIVE n(i) AS \
     (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO t SELECT i, hex(i * 7919) FROM n; CREATE \
     INDEX tb ON t (b); PRAGMA wal_checkpoint; SELECT count(*), min(b), max(b) FROM t; PRAGMA page_count; VACUUM; \
     PRAGMA integrity_check;";

const TRACEBACK: &str = "import sys\nprint('out')\nsys.stdout.flush()\nraise ValueError('é')";

const MEMORY: &str = "try:\n    b = bytearray(1 << 31)\nexcept MemoryError:\n    print('MemoryError')\nl = [bytes(1 << \
     20) for _ in range(20)]\nprint(len(l))";

const SIGNALS: &str = "import signal, os, time\ndef h(n, f): print('signal', n)\nsignal.signal(signal.SIGUSR1, \
     h)\nos.kill(os.getpid(), signal.SIGUSR1)\nsignal.signal(signal.SIGALRM, h)\nsignal.setitimer(signal.ITIMER_REAL, \
     0.01)\nsignal.pause()\nsignal.alarm(1)\ntime.sleep(30)\nos.kill(os.getpid(), signal.SIGKILL)";

const FILES: &str = "import os, mmap, tempfile, glob, shutil, pathlib\nd = tempfile.mkdtemp(prefix='x')\np = \
     pathlib.Path(d, 'f')\np.write_bytes(b'0123456789' * 1000)\nwith open(p, 'r+b') as f:\n    m = \
     mmap.mmap(f.fileno(), 0)\n    m[5:8] = b'abc'\n    print(m.find(b'abc'), len(m))\n    m.flush()\n    \
     m.close()\nprint(p.read_bytes()[:12], p.stat().st_size)\nshutil.copytree('tree', d + '/t', \
     symlinks=True)\nprint(sorted(os.path.relpath(x, d) for x in glob.glob(d + '/**', \
     recursive=True)))\nshutil.rmtree(d)\nr, w = os.pipe()\nos.write(w, b'pipe')\nprint(os.read(r, 10), \
     os.path.exists(d), os.getcwd() == os.path.realpath('.'), len(os.urandom(8)), os.cpu_count() > \
     0)\nprint(sorted(os.listdir('.'))[:4], os.access('words.txt', os.R_OK), os.fspath(p.parent) == d)";

const TIME: &str = "import time, datetime\na = time.time(); b = time.monotonic(); time.sleep(5)\nprint(time.time() - a >= \
     5, time.monotonic() - b >= 5, time.perf_counter() >= 0, time.process_time() >= 0)\nfor _ in range(3000): \
     time.time()\nprint(datetime.datetime.now() >= datetime.datetime(2020, 1, 1), time.strftime('%Z'))";

/// Random numbers of every source, and what hash randomisation does, in a fixed number of bytes.
pub const RANDOM: &str = "import random, os, uuid, secrets\nprint('%.9f' % random.random(), os.urandom(8).hex(), \
     uuid.uuid4(), secrets.token_hex(4), list({*'abcdefghij'}), '%020d' % hash('x'), sep='\\n')";

pub fn jobs() -> Vec<Job> {
    let mut all = interpreters();
    all.extend(python());
    all.extend(sqlite());
    all.extend(openssl());
    all
}

fn interpreters() -> Vec<Job> {
    vec![
        job("lua5.4 queens.lua").sampled(),
        job("lua5.4 -e").arg("print(#arg, ...)").on("- a b").reads("print('from stdin', io.read('n'))\n"),
        job("lua5.4 -").reads("error('boom')\n"),
        job("lua5.4 -e").arg("local t = {} for i = 1, 200000 do t[i] = i * i % 1013 end table.sort(t) print(t[1], t[#t], #t, collectgarbage('count') > 0)"),
        job("lua5.4 -e").arg("print(arg[0])").arg("missing.lua"),
        job("perl index.pl").sampled(),
        job("perl -ne").arg("$n{length $_}++; END { print \"$_ $n{$_}\\n\" for sort { $a <=> $b } keys %n }").arg("words.txt"),
        job("perl -MDigest::SHA=sha256_hex -MMIME::Base64 -MList::Util=sum,shuffle -MPOSIX=floor,strftime -e").arg(
            "print sha256_hex('x'), encode_base64('dejavm'), sum(1..100), floor(-1.5), strftime('%F', gmtime 0), \"\\n\"",
        ),
        // The order of a hash follows from a seed, which the environment gives.
        job("perl -e").arg("my %h = map { $_ => 1 } 'a' .. 'z'; print join(' ', keys %h), \"\\n\"").env("PERL_HASH_SEED", "1").env("PERL_PERTURB_KEYS", "0"),
        // Here the order comes from the system's randomness: nothing that is printed depends on it.
        job("perl -e").arg("my %h = map { $_ => 1 } 'a' .. 'z'; print scalar(keys %h), \"\\n\"; srand(3); print int(rand 1000), \"\\n\"").sampled(),
        job("perl -i.orig -pe").arg("s/a/A/g; print STDERR $. if eof").arg("left.txt"),
        job("perl -MData::Dumper -MJSON::PP -e").arg(
            "$Data::Dumper::Sortkeys = 1; my $d = decode_json(do { local (@ARGV, $/) = 'data.json'; <> }); print Dumper($d->[3]), JSON::PP->new->canonical->encode($d->[4]), \"\\n\"",
        ),
        job("perl -e").arg("my @a = map { $_ * 7919 % 10007 } 1 .. 50000; @a = sort { $a <=> $b } @a; print \"$a[0] $a[-1]\\n\"; kill 'TERM', $$"),
        job("perl -e").arg("$SIG{ALRM} = sub { print \"alarm\\n\"; exit 3 }; alarm 2; select undef, undef, undef, 10; print \"late\\n\""),
    ]
}

fn python() -> Vec<Job> {
    vec![
        job("/usr/bin/python3 bank.py").sampled(),
        job("/usr/bin/python3 library.py").sampled(),
        job("/usr/bin/python3 -c").arg(TRACEBACK),
        job("/usr/bin/python3 -c")
            .arg("import sys; sys.exit(sys.stdin.read().count('a') % 256)")
            .from("words.txt"),
        job("/usr/bin/python3 -c").arg("for line in open(0): print(line.strip()[::-1])").reads("one\ntwo\n"),
        job("/usr/bin/python3 -").reads("import sys\nprint(sys.argv, input())\nthis is a syntax error\n"),
        job("/usr/bin/python3 -I -S -c").arg("print(sorted({'b', 'a'}), hash(1.5), sum(range(10**6)))"),
        job("/usr/bin/python3 -c")
            .arg("print({'a', 'b', 'c', 'd'}, hash('text'))")
            .env("PYTHONHASHSEED", "3"),
        job("/usr/bin/python3 -c").arg(MEMORY).memory(256),
        job("/usr/bin/python3 -c").arg(SIGNALS),
        job("/usr/bin/python3 -c").arg(FILES).sampled(),
        job("/usr/bin/python3 -c").arg(TIME),
        job("/usr/bin/python3 -c").arg(RANDOM).by(Compare::Length).sampled(),
        job("/usr/bin/python3 -m json.tool data.json"),
        job("/usr/bin/python3 -m zipfile -c tree/void/z.zip left.txt tree"),
        job("/usr/bin/python3 -m tarfile -l tree.tar"),
        job("/usr/bin/python3 -m base64 -e left.txt"),
        job("/usr/bin/python3 -X importtime -c pass").by(Compare::Shape),
        job("/usr/bin/python3 -m this"),
        job("/usr/bin/python3 -c")
            .arg("import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return f(n + 1)\nf(0)"),
        job("/usr/bin/python3 -c").arg("import ctypes; ctypes.string_at(0)"),
        job("/usr/bin/python3 -c").arg("import os; os.abort()"),
        job("/usr/bin/python3 -c")
            .arg("import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(16)")
            .by(Compare::Addresses),
        job("/usr/bin/python3 -c")
            .arg("import os; os.write(1, b'x' * 300000); os.close(1); os.close(0); print('lost')"),
        job("/usr/bin/python3 missing.py"),
    ]
}

fn sqlite() -> Vec<Job> {
    vec![
        job("sqlite3 shop.db").arg(JOIN).sampled(),
        job("sqlite3 -header -csv shop.db").arg("SELECT * FROM sale ORDER BY day, id LIMIT 200"),
        job("sqlite3 shop.db").arg(WRITE).sampled(),
        job("sqlite3 -readonly shop.db").arg(WRITE),
        job("sqlite3 tree/void/wal.db").arg(WAL).sampled(),
        job("sqlite3 new.db").from("shop.sql"),
        job("sqlite3 -json shop.db").reads("SELECT * FROM item LIMIT 3;\n.tables\n.schema sale\n.dump item\n"),
        job("sqlite3 -bail shop.db").arg("SELECT * FROM nowhere"),
        job("sqlite3 :memory:").reads(".mode box\n.import --csv table.csv t\nSELECT name, sum(quantity) s FROM t GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10;\n"),
        job("sqlite3 shop.db").arg("EXPLAIN QUERY PLAN SELECT * FROM sale WHERE customer = 5; SELECT * FROM sale WHERE customer = 5"),
        job("sqlite3 words.txt").arg("SELECT 1 FROM sqlite_master"),
    ]
}

fn openssl() -> Vec<Job> {
    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const IV: &str = "0f0e0d0c0b0a09080706050403020100";
    let mut all: Vec<Job> = [
        "md5",
        "sha1",
        "sha224",
        "sha256",
        "sha384",
        "sha512",
        "sha512-256",
        "sha3-256",
        "shake128",
        "blake2b512",
        "blake2s256",
        "sm3",
        "ripemd160",
    ]
    .into_iter()
    .map(|name| job("openssl dgst").arg(Box::leak(format!("-{name}").into_boxed_str())).arg("random.bin"))
    .collect();
    all[3].sampled = true;
    all.extend(
        ["aes-256-cbc", "aes-256-ctr", "camellia-256-cbc", "aria-256-cfb", "chacha20"].into_iter().map(
            |name| {
                job("openssl enc -e -K")
                    .arg(KEY)
                    .arg("-iv")
                    .arg(IV)
                    .arg("-in")
                    .arg("words.txt")
                    .arg(Box::leak(format!("-{name}").into_boxed_str()))
            },
        ),
    );
    all.extend([
        job("openssl dgst -hmac key -sha256 words.txt left.txt"),
        job("openssl enc -aes-128-cbc -pbkdf2 -S 0011223344556677 -k secret -a").from("left.txt"),
        job("openssl enc -d -aes-256-cbc -K 00 -iv 00").from("random.bin").by(Compare::Addresses),
        job("openssl base64 -in random.bin"),
        job("openssl prime 1000000007 1000000011"),
        job("openssl list -digest-commands"),
        job("openssl version"),
        job("openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt pass:p -kdfopt salt:s -kdfopt iter:1000 PBKDF2"),
        job("openssl rand -hex 16").by(Compare::Length),
        // Counts in a loop without system calls until its alarm goes off.
        job("openssl speed -mr -seconds 1 -bytes 16 ghash").stepped("100us").by(Compare::Shape).sampled(),
        job("openssl genpkey -algorithm ed25519").by(Compare::Length).sampled(),
    ]);
    all
}
