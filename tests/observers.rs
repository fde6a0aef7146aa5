//! Observers that read the guest's memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dejavm::{
    Evict, Exit, ExitKind, GuestMemory, Host, MadeCall, Observer, Outcome, Program, Replay, WorldError,
};

/// Reads what is written when the call is made, and where results lie when it was answered.
#[derive(Clone, Default)]
struct Looking {
    written: Arc<Mutex<Vec<u8>>>,
    /// Calls made, calls answered, and other exits.
    counts: Arc<[AtomicU64; 3]>,
}

impl Observer for Looking {
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError> {
        let other = !matches!(exit.kind, ExitKind::Syscall { .. });
        self.counts[2].fetch_add(u64::from(other), Ordering::Relaxed);
        Ok(())
    }

    fn reads_memory(&self) -> bool {
        true
    }

    fn made(&mut self, call: &MadeCall, memory: &dyn GuestMemory) {
        self.counts[0].fetch_add(1, Ordering::Relaxed);
        assert_eq!(memory.read(0, &mut [0]), 0, "nothing is mapped there");
        assert_eq!(memory.read(u64::MAX, &mut [0; 2]), 0);
        // `write`, of any descriptor.
        if call.number == 1 {
            let mut bytes = vec![0; call.args[2].min(64) as usize];
            assert_eq!(memory.read(call.args[1], &mut bytes), bytes.len());
            self.written.lock().unwrap().extend(bytes);
        }
    }

    fn answered(&mut self, exit: &Exit, memory: &dyn GuestMemory) -> Result<(), WorldError> {
        self.counts[1].fetch_add(1, Ordering::Relaxed);
        let mut code = [0; 2];
        // Where it goes on, there is code, but for a task that has ended.
        memory.read(exit.rip, &mut code);
        Ok(())
    }
}

#[test]
fn an_observer_reads_memory_and_changes_nothing() {
    let host = Host::probe().expect("KVM");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let code = "echo one; sleep 1 & (echo two); wait; cat /etc/passwd | wc -l >/dev/null";
    let record = |name: &str, looking: Option<&Looking>| {
        let program = Program::new("sh")
            .args(["-c", code])
            .deadline(Duration::from_secs(30))
            .capture_output()
            .record(dir.path().join(name));
        let program = match looking {
            Some(looking) => program.observe(looking.clone()),
            None => program,
        };
        let done = program.start(&host).and_then(|mut s| s.run()).expect("a run");
        (done.stdout, done.recording.expect("a recording").digest)
    };
    let looking = Looking::default();
    let seen = record("seen", Some(&looking));
    assert_eq!(seen, record("unseen", None), "the same run, exit by exit");
    let [made, answered, _] = [0, 1, 2].map(|at| looking.counts[at].load(Ordering::Relaxed));
    assert_eq!(made, answered, "each call once, however long it waited");
    let written = String::from_utf8_lossy(&looking.written.lock().unwrap()).into_owned();
    assert!(written.starts_with("one\ntwo\nroot:"), "{written}");
    // In a replay, too, and with pages taken away.
    let again = Looking::default();
    let evict = Evict { every: 5, seed: 1 };
    let replay = Replay::open(dir.path().join("unseen")).expect("a recording").evict(evict);
    let done = replay.observe(again.clone()).start(&host).and_then(|mut s| s.run()).expect("a replay");
    assert_eq!(done.outcome, Outcome::Exited(0));
    assert_eq!(*again.written.lock().unwrap(), *looking.written.lock().unwrap());
}
