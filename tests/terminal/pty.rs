//! A terminal with dejavm in it, and somebody who types and reads.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::common;

/// How long anything may take. Nothing here takes a tenth of it on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(5);

/// A terminal with a process in it.
pub struct Pty {
    master: File,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much of it was looked at.
    seen: usize,
    /// The local modes at the start.
    before: LocalModes,
}

impl Pty {
    /// `dejavm` with these arguments, in a directory, as the leader of the terminal's session.
    pub fn dejavm<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Pty {
        common::require_kvm();
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname").into_string().expect("a path");
        let slave = File::options().read(true).write(true).open(&name).expect("the other side");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a size");
        let before = tcgetattr(&master).expect("modes").local_modes;
        let side = || slave.try_clone().expect("a descriptor");
        let child = Command::new("setsid")
            .args(["--ctty", common::DEJAVM])
            .args(args)
            .current_dir(dir)
            .env("TERM", "xterm")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("setsid of util-linux");
        drop(slave);
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (master.try_clone().expect("a descriptor"), shown.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with an error, when nobody has the other side any more.
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                to.lock().expect("no panic").extend_from_slice(&bytes[..n]);
            }
        });
        Pty { master, child, shown, seen: 0, before }
    }

    /// Types.
    pub fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    /// All that was shown.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no panic")).into_owned()
    }

    /// Waits until this is shown, behind what was waited for before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let shown = self.shown.clone();
        let mut end = self.seen;
        self.wait(&format!("{text:?} is shown"), |pty| {
            let shown = shown.lock().expect("no panic");
            let at = shown[pty.seen..].windows(text.len()).position(|bytes| bytes == text.as_bytes());
            at.map(|at| end = pty.seen + at + text.len()).is_some()
        });
        self.seen = end;
    }

    /// Sends keys, and again until this is shown: what they do may come a moment too early for a program
    /// that looks for signals only while it waits.
    #[track_caller]
    pub fn insist(&mut self, keys: &str, text: &str) {
        const AGAIN: Duration = Duration::from_millis(500);
        let mut sent: Option<Instant> = None;
        let from = self.seen;
        self.wait(&format!("{text:?} is shown after {keys:?}"), |pty| {
            let there = {
                let shown = pty.shown.lock().expect("no panic");
                shown[from..].windows(text.len()).any(|bytes| bytes == text.as_bytes())
            };
            if !there && sent.is_none_or(|sent| sent.elapsed() > AGAIN) {
                sent = Some(Instant::now());
                pty.send(keys);
            }
            there
        });
        self.seen = self.shown.lock().expect("no panic").len();
    }

    /// Waits until the terminal echoes, or does not.
    #[track_caller]
    pub fn expect_echo(&mut self, echo: bool) {
        self.expect_mode(LocalModes::ECHO, echo);
    }

    /// Waits until the terminal keeps lines together, or does not.
    #[track_caller]
    pub fn expect_lines(&mut self, lines: bool) {
        self.expect_mode(LocalModes::ICANON, lines);
    }

    #[track_caller]
    fn expect_mode(&mut self, mode: LocalModes, on: bool) {
        self.wait(&format!("{mode:?} is {on}"), |pty| {
            tcgetattr(&pty.master).expect("modes").local_modes.contains(mode) == on
        });
    }

    /// Waits until dejavm is in a state of `ps`: `T` when it is stopped.
    #[track_caller]
    pub fn expect_state(&mut self, state: char) {
        self.wait(&format!("its state is {state}"), |pty| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pty.child.id())).expect("a process");
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(state))
        });
    }

    /// Makes the window another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("a size");
    }

    /// Sends dejavm a signal, as `kill` does.
    pub fn kill(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill");
        assert!(done.success());
    }

    /// Waits for the end: the status, or 128 and the signal. The terminal must be as it was.
    #[track_caller]
    pub fn end(self) -> (i32, String) {
        self.end_by("")
    }

    /// Sends keys, again and again, until the end.
    #[track_caller]
    pub fn end_by(mut self, keys: &str) -> (i32, String) {
        const AGAIN: Duration = Duration::from_millis(500);
        let mut ended = None;
        let mut sent: Option<Instant> = None;
        self.wait("it ends", |pty| {
            if !keys.is_empty() && sent.is_none_or(|sent| sent.elapsed() > AGAIN) {
                sent = Some(Instant::now());
                pty.send(keys);
            }
            ended = pty.child.try_wait().expect("wait");
            ended.is_some()
        });
        let modes = tcgetattr(&self.master).expect("modes").local_modes;
        assert_eq!(modes, self.before, "the terminal's modes come back; shown: {}", self.shown());
        let ended = ended.expect("it has ended");
        let status = ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap_or(0));
        (status, self.shown())
    }

    #[track_caller]
    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Pty) -> bool) {
        let began = Instant::now();
        while !done(self) {
            if began.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("not within {PATIENCE:?}: {what}; shown: {}", self.shown().escape_debug());
            }
            thread::sleep(MOMENT);
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
