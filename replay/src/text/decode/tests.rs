use super::*;
use crate::text::CallLine;

/// Memory from address 0x1000 on.
struct Page(Vec<u8>);

const BASE: u64 = 0x1000;

impl GuestMemory for Page {
    fn read(&self, address: u64, out: &mut [u8]) -> usize {
        let at = address.checked_sub(BASE).and_then(|at| usize::try_from(at).ok());
        let from = at.and_then(|at| self.0.get(at..)).unwrap_or(&[]);
        let n = from.len().min(out.len());
        out[..n].copy_from_slice(&from[..n]);
        n
    }
}

impl Page {
    fn new() -> Page {
        Page(vec![0; 4096])
    }

    fn put(mut self, at: u64, bytes: &[u8]) -> Page {
        self.0[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn words(self, at: u64, words: &[u64]) -> Page {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(at, &bytes)
    }
}

fn exit(number: u64, args: [u64; 6], result: u64) -> Exit {
    let kind = ExitKind::Syscall { number, args };
    Exit { number: 1, task: 2, kind, rip: 0, result, effects: 0, clock: 0 }
}

/// The line of a call that finds this memory, and leaves it behind.
fn line(number: u64, args: [u64; 6], result: u64, memory: &Page) -> String {
    let mut decoder = Decoder::new(STRING_BYTES);
    decoder.made(&MadeCall { task: 2, number, args, ..MadeCall::default() }, memory);
    let exit = exit(number, args, result);
    let decoded = decoder.answered(&exit, memory);
    CallLine::of(&exit, &decoded).expect("a call").to_string()
}

/// Numbers of calls.
fn nr(name: &str) -> u64 {
    let mut rows = dejavm_sandbox::program::syscall::table::all().iter();
    rows.find(|row| row.name() == name).expect("a call").number()
}

#[test]
fn paths_and_bytes() {
    let long = [b'x'; 40];
    let memory = Page::new().put(0, b"/etc/passwd\0").put(64, b"hello\n").put(128, &long);
    let cwd = u64::from(-100i32 as u32);
    assert_eq!(
        line(nr("openat"), [cwd, BASE, 0o2000000, 0, 0, 0], -2i64 as u64, &memory),
        r#"openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)"#
    );
    assert_eq!(line(nr("write"), [1, BASE + 64, 6, 0, 0, 0], 6, &memory), r#"write(1, "hello\n", 6) = 6"#);
    assert_eq!(
        line(nr("read"), [3, BASE + 128, 4096, 0, 0, 0], 40, &memory),
        format!("read(3, \"{}\"..., 4096) = 40", "x".repeat(32))
    );
    // Nothing was filled in.
    assert_eq!(
        line(nr("read"), [3, BASE, 64, 0, 0, 0], -9i64 as u64, &memory),
        "read(3, 0x1000, 64) = -1 EBADF (Bad file descriptor)"
    );
    assert_eq!(
        line(nr("open"), [0x10, 0, 0, 0, 0, 0], -14i64 as u64, &memory),
        "open(0x10, O_RDONLY) = -1 EFAULT (Bad address)"
    );
    assert_eq!(
        line(nr("getcwd"), [BASE, 100, 0, 0, 0, 0], 12, &memory),
        r#"getcwd("/etc/passwd", 100) = 12"#
    );
}

#[test]
fn programs_are_executed() {
    let memory = Page::new()
        .put(0, b"/bin/ls\0ls\0-l\0")
        .words(64, &[BASE + 8, BASE + 11, 0])
        .words(128, &[BASE, BASE, BASE, 0]);
    assert_eq!(
        line(nr("execve"), [BASE, BASE + 64, BASE + 128, 0, 0, 0], 0, &memory),
        r#"execve("/bin/ls", ["ls", "-l"], 0x1080 /* 3 vars */) = 0"#
    );
    let endless = Page(BASE.to_le_bytes().repeat(512));
    let shown = line(nr("execve"), [BASE, BASE, 0, 0, 0, 0], -7i64 as u64, &endless);
    assert!(shown.contains(", ...], NULL) = -1 E2BIG") && shown.len() < 1000, "{shown}");
}

#[test]
fn a_thread_that_executes_has_another_number_by_then() {
    let memory = Page::new().put(0, b"/bin/ls\0").words(64, &[0]);
    let mut decoder = Decoder::new(STRING_BYTES);
    let args = [BASE, BASE + 64, 0, 0, 0, 0];
    decoder.made(&MadeCall { task: 9, number: nr("execve"), args, ..MadeCall::default() }, &memory);
    // The new program's memory is another.
    let decoded = decoder.answered(&exit(nr("execve"), args, 0), &Page::new());
    assert_eq!(decoded.arguments()[0].as_deref(), Some("\"/bin/ls\""));
    assert_eq!(decoder.unanswered().count(), 0);
}

#[test]
fn what_a_call_reads_is_as_it_was_when_it_was_made() {
    let mut decoder = Decoder::new(STRING_BYTES);
    let args = [1, BASE, 3, 0, 0, 0];
    decoder.made(
        &MadeCall { task: 2, number: nr("write"), args, ..MadeCall::default() },
        &Page::new().put(0, b"old"),
    );
    decoder.made(
        &MadeCall { task: 3, number: nr("read"), args: [0, BASE, 9, 0, 0, 0], ..MadeCall::default() },
        &Page::new(),
    );
    let exit = exit(nr("write"), args, 3);
    let decoded = decoder.answered(&exit, &Page::new().put(0, b"new"));
    assert_eq!(CallLine::of(&exit, &decoded).expect("a call").to_string(), r#"write(1, "old", 3) = 3"#);
    let waits: Vec<_> = decoder.unanswered().map(|(call, text)| (call.task, text)).collect();
    assert_eq!(waits, [(3, "read(0, 0x1000, 9 <unfinished ...>".into())]);
}

#[test]
fn structures_of_files() {
    let stat = Page::new().put(24, &0o100644u32.to_le_bytes()).words(48, &[1234]).put(200, b"f\0");
    assert_eq!(
        line(nr("stat"), [BASE + 200, BASE, 0, 0, 0, 0], 0, &stat),
        r#"stat("f", {st_mode=S_IFREG|0644, st_size=1234, ...}) = 0"#
    );
    let terminal = Page::new().put(24, &0o20620u32.to_le_bytes()).words(40, &[0x8800]);
    assert_eq!(
        line(nr("fstat"), [1, BASE, 0, 0, 0, 0], 0, &terminal),
        "fstat(1, {st_mode=S_IFCHR|0620, st_rdev=makedev(0x88, 0x0), ...}) = 0"
    );
    let iov = Page::new().put(0, b"onetwo").words(64, &[BASE, 3, BASE + 3, 3]);
    assert_eq!(
        line(nr("writev"), [1, BASE + 64, 2, 0, 0, 0], 6, &iov),
        r#"writev(1, [{iov_base="one", iov_len=3}, {iov_base="two", iov_len=3}], 2) = 6"#
    );
    assert_eq!(
        line(nr("readv"), [0, BASE + 64, 2, 0, 0, 0], 4, &iov),
        r#"readv(0, [{iov_base="one", iov_len=3}, {iov_base="t", iov_len=3}], 2) = 4"#
    );
    let pipe = Page::new().put(0, &[3, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(line(nr("pipe2"), [BASE, 0o2000000, 0, 0, 0, 0], 0, &pipe), "pipe2([3, 4], O_CLOEXEC) = 0");
    let none = Page::new();
    assert_eq!(
        line(nr("fcntl"), [1, 3, 0, 0, 0, 0], 0o2002, &none),
        "fcntl(1, F_GETFL) = 1026 (flags O_RDWR|O_APPEND)"
    );
    assert_eq!(line(nr("fcntl"), [1, 2, 1, 0, 0, 0], 0, &none), "fcntl(1, F_SETFD, FD_CLOEXEC) = 0");
    let entries = Page::new().put(16, &[24, 0]).put(40, &[32, 0]);
    assert_eq!(
        line(nr("getdents64"), [3, BASE, 4096, 0, 0, 0], 56, &entries),
        "getdents64(3, 0x1000 /* 2 entries */, 4096) = 56"
    );
}

#[test]
fn structures_of_signals_and_processes() {
    let action = Page::new().words(0, &[0x4000, 0x1400_0000, 0x5000, 2]).words(64, &[0, 0, 0, 0]);
    assert_eq!(
        line(nr("rt_sigaction"), [2, BASE, BASE + 64, 8, 0, 0], 0, &action),
        "rt_sigaction(SIGINT, {sa_handler=0x4000, sa_mask=[INT], sa_flags=SA_RESTORER|SA_RESTART, \
         sa_restorer=0x5000}, {sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}, 8) = 0"
    );
    let sets = Page::new().words(0, &[!(3 << 31), 0x4001]);
    assert_eq!(
        line(nr("rt_sigprocmask"), [2, BASE, BASE + 8, 8, 0, 0], 0, &sets),
        "rt_sigprocmask(SIG_SETMASK, ~[RTMIN RT_1], [HUP TERM], 8) = 0"
    );
    let all = u64::from(u32::MAX);
    for (status, text) in [
        (0x300, "WIFEXITED(s) && WEXITSTATUS(s) == 3"),
        (11, "WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV"),
        (0x86, "WIFSIGNALED(s) && WTERMSIG(s) == SIGABRT && WCOREDUMP(s)"),
        (0x137f, "WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP"),
        (0xffff, "WIFCONTINUED(s)"),
    ] {
        let memory = Page::new().words(0, &[status]);
        let expected = format!("wait4(-1, [{{{text}}}], WNOHANG, NULL) = 7");
        assert_eq!(line(nr("wait4"), [all, BASE, 1, 0, 0, 0], 7, &memory), expected);
    }
    assert_eq!(
        line(nr("wait4"), [all, BASE, 1, 0, 0, 0], 0, &Page::new()),
        "wait4(-1, 0x1000, WNOHANG, NULL) = 0"
    );
    let clone = Page::new().words(0, &[0x10100, 0, 0x1800, 0, 17, 0, 0x8000, 0]);
    assert_eq!(
        line(nr("clone3"), [BASE, 88, 0, 0, 0, 0], 3, &clone),
        "clone3({flags=CLONE_VM|CLONE_THREAD, child_tid=0x1800, exit_signal=SIGCHLD, stack=NULL, \
         stack_size=0x8000}, 88) = 3"
    );
    let limits = Page::new().words(0, &[8 << 20, u64::MAX]);
    assert_eq!(
        line(nr("prlimit64"), [0, 3, 0, BASE, 0, 0], 0, &limits),
        "prlimit64(0, RLIMIT_STACK, NULL, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}) = 0"
    );
}

#[test]
fn structures_of_waiting_and_sockets() {
    let poll = Page::new().put(0, &[3, 0, 0, 0, 1, 0, 1, 0]).put(8, &[4, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(
        line(nr("poll"), [BASE, 2, 1000, 0, 0, 0], 1, &poll),
        "poll([{fd=3, events=POLLIN}, {fd=4, events=POLLOUT}], 2, 1000) = 1 ([{fd=3, revents=POLLIN}])"
    );
    let poll = Page::new().put(0, &[3, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(
        line(nr("poll"), [BASE, 1, 10, 0, 0, 0], 0, &poll),
        "poll([{fd=3, events=POLLIN}], 1, 10) = 0 (Timeout)"
    );
    let select = Page::new().put(0, &[0b1001]).words(64, &[1, 500]);
    assert_eq!(
        line(nr("select"), [4, BASE, 0, 0, BASE + 64, 0], 2, &select),
        "select(4, [0 3], NULL, NULL, {tv_sec=1, tv_usec=500}) = 2 (in [0 3])"
    );
    let time = Page::new().words(0, &[1, 5]);
    assert_eq!(
        line(nr("futex"), [0x5000, 0x80, 2, BASE, 7, 7], -110i64 as u64, &time),
        "futex(0x5000, FUTEX_WAIT_PRIVATE, 2, {tv_sec=1, tv_nsec=5}) = -1 ETIMEDOUT (Connection timed out)"
    );
    assert_eq!(line(nr("futex"), [0x5000, 1, 1, 7, 7, 7], 1, &time), "futex(0x5000, FUTEX_WAKE, 1) = 1");
    let sleep = Page::new().words(0, &[1, 5]);
    assert_eq!(
        line(nr("clock_nanosleep"), [0, 0, BASE, 0, 0, 0], 0, &sleep),
        "clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=1, tv_nsec=5}, NULL) = 0"
    );
    let unix = Page::new().put(0, b"\x01\0/tmp/s\0").put(32, b"\x01\0\0hidden");
    assert_eq!(
        line(nr("bind"), [3, BASE, 110, 0, 0, 0], 0, &unix),
        r#"bind(3, {sa_family=AF_UNIX, sun_path="/tmp/s"}, 110) = 0"#
    );
    assert_eq!(
        line(nr("connect"), [3, BASE + 32, 9, 0, 0, 0], 0, &unix),
        r#"connect(3, {sa_family=AF_UNIX, sun_path=@"hidden"}, 9) = 0"#
    );
    let inet = Page::new().put(0, &[2, 0, 0, 80, 127, 0, 0, 1]).put(64, &[16, 0, 0, 0]);
    assert_eq!(
        line(nr("accept"), [3, BASE, BASE + 64, 0, 0, 0], 4, &inet),
        r#"accept(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, [16]) = 4"#
    );
    let message =
        Page::new().put(0, b"hello").words(64, &[BASE, 5]).words(128, &[0, 0, BASE + 64, 1, 0, 0, 0]);
    assert_eq!(
        line(nr("sendmsg"), [3, BASE + 128, 0x4000, 0, 0, 0], 5, &message),
        r#"sendmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="hello", iov_len=5}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, MSG_NOSIGNAL) = 5"#
    );
    let event = Page::new().put(0, &[1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        line(nr("epoll_wait"), [3, BASE, 8, u64::MAX, 0, 0], 1, &event),
        "epoll_wait(3, [{events=EPOLLIN, data={u32=5, u64=5}}], 8, -1) = 1"
    );
}

/// Whatever a guest hands over, there is a short line, and no control character.
#[test]
fn nonsense_is_bounded() {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let memory = Page((0..4096).map(|_| next() as u8).collect());
    let pointers = Page((0..512).flat_map(|_| (BASE + next() % 4096).to_le_bytes()).collect());
    for row in dejavm_sandbox::program::syscall::table::all() {
        for memory in [&memory, &pointers] {
            for _ in 0..20 {
                let args = [(); 6].map(|()| match next() % 4 {
                    0 => next() << 31 | next(),
                    1 => u64::MAX - next() % 4096,
                    2 => next() % 64,
                    _ => BASE + next() % 4096,
                });
                for result in [0, 1, next(), u64::MAX >> 1] {
                    let line = line(row.number(), args, result, memory);
                    assert!(line.len() < 40_000, "{} bytes: {}", line.len(), row.name());
                    assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
                }
            }
        }
    }
}
