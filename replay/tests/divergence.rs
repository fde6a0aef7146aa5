//! What a replay says of a run that goes another way.

mod common;

use common::*;
use dejavm_replay::{Asked, Divergence, Event, MAX_FAULTS, MAX_MATCHED, Outputs, Recording, Replayer};
use dejavm_sandbox::exit::{Exit, ExitKind};
use dejavm_sandbox::world::{Stream, WorldError};

/// Records `recorded`, replays `replayed`, which must diverge.
fn diverge(recorded: &[Step], replayed: &[Step]) -> Divergence {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), recorded, small_blocks(), Some(ended()));
    let replayer = Replayer::new(Recording::open(dir.path()).unwrap()).unwrap();
    let mut world = replayer.world(Outputs::sink());
    let mut observer = replayer.observer();
    let (_, result) = drive(replayed, &mut *world, &mut *observer);
    let divergence = replayer.divergence().unwrap();
    assert!(
        matches!(&result, Err(WorldError::Diverged(text)) if *text == divergence.headline()),
        "{result:?}"
    );
    // It stays so, whatever comes.
    assert!(matches!(world.clock(), Err(WorldError::Diverged(_))));
    assert!(matches!(observer.exit(&exit(1, ExitKind::End { status: 0 })), Err(WorldError::Diverged(_))));
    assert!(!replayer.at_end());
    divergence
}

/// The sample with the exit of some number changed.
fn changed(number: u64, change: impl FnOnce(&mut Exit)) -> Vec<Step> {
    let mut steps = sample(60);
    let found = steps.iter_mut().find_map(|step| match step {
        Step::Exit(exit) if exit.number == number => Some(exit),
        _ => None,
    });
    change(found.unwrap());
    steps
}

#[test]
fn a_difference_in_each_field() {
    let fields = |change: fn(&mut Exit)| -> Vec<&'static str> {
        let divergence = diverge(&sample(60), &changed(33, change));
        assert_eq!(divergence.exit, 33);
        divergence.fields().iter().map(|f| f.field).collect()
    };
    assert_eq!(fields(|e| e.rip += 1), ["rip"]);
    assert_eq!(fields(|e| e.result += 1), ["result"]);
    assert_eq!(fields(|e| e.effects += 1), ["effects"]);
    assert_eq!(fields(|e| e.clock += 1), ["clock"]);
    assert_eq!(fields(|e| e.number += 1), ["number"]);
    assert_eq!(fields(|e| e.kind = ExitKind::End { status: 1 }), ["kind"]);
    let args = |e: &mut Exit| match &mut e.kind {
        ExitKind::Syscall { args, .. } => (args[0], args[5]) = (7, 8),
        _ => panic!("exit 33 is a system call"),
    };
    assert_eq!(fields(args), ["arg0", "arg5"]);
}

#[test]
fn the_report() {
    let mut recorded = vec![fault(1), syscall(1, 39), fault(7), fault(8), syscall(2, 0)];
    let mut replayed = vec![syscall(1, 39), fault(9), syscall(2, 0)];
    let Step::Exit(last) = &mut replayed[2] else { unreachable!() };
    last.result = 9;
    last.rip = 0x1234;
    let report = diverge(&recorded, &replayed).to_string();
    let expected = "\
the replay diverged at exit 2: read(2, 0x2, 3) = 2 was recorded, read(2, 0x2, 3) = 9 replayed (rip, result differ)
  last match: exit 1
    1  getpid() = 1
  first difference:
    recorded: 2  read(2, 0x2, 3) = 2
    replayed: 2  read(2, 0x2, 3) = 9
      rip: 0x400002 recorded, 0x1234 replayed
      result: 0x2 recorded, 0x9 replayed
  between them (page faults, not compared):
    recorded: 2
      page 0x7 from snapshot (annotated)
      page 0x8 from snapshot (annotated)
    replayed: 1
      page 0x9 from snapshot (annotated)
";
    assert_eq!(report, expected);

    // Long windows are cut to their last part.
    recorded.splice(2..2, (0..100).map(fault));
    replayed.splice(1..1, (0..200).map(fault));
    let divergence = diverge(&recorded, &replayed);
    assert_eq!(divergence.recorded_faults.count, 102);
    assert_eq!(divergence.seen_faults.count, 201);
    assert_eq!(divergence.recorded_faults.faults.len(), MAX_FAULTS);
    assert!(divergence.to_string().contains("(38 more before these)"));
}

#[test]
fn the_last_matches() {
    let divergence = diverge(&sample(60), &changed(33, |e| e.rip = 0));
    let numbers: Vec<u64> = divergence.matched.iter().map(|e| e.number).collect();
    assert_eq!(numbers, (25..33).collect::<Vec<_>>());
    assert_eq!(numbers.len(), MAX_MATCHED);
    let divergence = diverge(&sample(60), &changed(1, |e| e.rip = 0));
    assert!(divergence.matched.is_empty());
    assert!(divergence.to_string().contains("this is the first exit"));
}

#[test]
fn other_questions() {
    let out = |text: &str| Step::Output(Stream::Stdout, text.as_bytes().to_vec());
    let base = [syscall(1, 1), Step::Metadata(path("etc/hosts")), syscall(2, 1), out("one"), syscall(3, 1)];
    let with = |at: usize, step: Step| {
        let mut steps = base.to_vec();
        steps[at] = step;
        diverge(&base, &steps)
    };
    let other_path = with(1, Step::Metadata(path("etc/passwd")));
    assert_eq!(other_path.seen, Event::Ask(Asked::Metadata { path: path("etc/passwd") }));
    assert_eq!(
        other_path.headline(),
        "the replay diverged at exit 2: the question metadata(0:etc/hosts) was recorded, \
         the question metadata(0:etc/passwd) replayed"
    );
    let report = other_path.to_string();
    assert!(report.contains("recorded: asked the outside: metadata(0:etc/hosts)"), "{report}");
    assert!(report.contains("replayed: asked the outside: metadata(0:etc/passwd)"), "{report}");

    let other_kind = with(1, Step::Clock);
    assert_eq!(other_kind.seen, Event::Ask(Asked::Clock));
    assert!(other_kind.headline().ends_with("was recorded, the question clock() replayed"));

    let other_output = with(3, out("two"));
    assert_eq!(other_output.exit, 3);
    assert!(other_output.to_string().contains("output(stdout, 3 bytes, digest"));

    let exit_for_question = with(1, syscall(2, 1));
    assert!(matches!(
        (&exit_for_question.expected, &exit_for_question.seen),
        (Event::Ask(_), Event::Exit(_))
    ));
    assert!(exit_for_question.fields().is_empty());
    let question_for_exit = with(2, Step::Clock);
    assert!(matches!(
        (&question_for_exit.expected, &question_for_exit.seen),
        (Event::Exit(_), Event::Ask(_))
    ));
    assert_eq!(question_for_exit.exit, 2);
}

#[test]
fn blocks_that_were_not_read() {
    let base = [Step::Block(path("a"), 1), syscall(1, 0), syscall(2, 0)];
    let divergence = diverge(&base, &[Step::Block(path("a"), 2), syscall(1, 0)]);
    assert_eq!(divergence.expected, Event::NoSuchBlock);
    assert!(divergence.to_string().contains("read-block 0:a #2"));

    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &base, small_blocks(), Some(ended()));
    let replayer = Replayer::open(dir.path()).unwrap();
    assert!(replayer.has_block(&path("a"), 1));
    assert!(!replayer.has_block(&path("a"), 2) && !replayer.has_block(&path("b"), 1));
    // Their order and number are the host's business.
    let other = [syscall(1, 0), Step::Block(path("a"), 1), Step::Block(path("a"), 1), syscall(2, 0)];
    let (_, result) = drive(&other, &mut *replayer.world(Outputs::sink()), &mut *replayer.observer());
    result.unwrap();
}

#[test]
fn faults_are_not_compared() {
    let steps = sample(60);
    let without: Vec<Step> = steps.iter().filter(|s| !matches!(s, Step::Fault(_))).cloned().collect();
    let mut more = vec![fault(99); 10];
    more.extend(without.iter().cloned());
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &steps, small_blocks(), Some(ended()));
    for run in [&without, &more] {
        let replayer = Replayer::open(dir.path()).unwrap();
        drive(run, &mut *replayer.world(Outputs::sink()), &mut *replayer.observer()).1.unwrap();
        assert!(replayer.at_end());
    }
}

#[test]
fn a_run_that_goes_on_after_its_end() {
    let mut more = sample(20);
    more.push(syscall(21, 1));
    let divergence = diverge(&sample(20), &more);
    assert_eq!(divergence.expected, Event::End);
    assert_eq!(divergence.exit, 21);
    let mut more = sample(20);
    more.push(Step::Clock);
    assert!(diverge(&sample(20), &more).headline().contains("nothing more was recorded"));
    // A live world is for recordings that stop short of the end.
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &sample(20), small_blocks(), Some(ended()));
    let replayer = Replayer::open(dir.path()).unwrap().then_live(Box::new(FakeWorld::default()));
    let (_, result) = drive(&more, &mut *replayer.world(Outputs::sink()), &mut *replayer.observer());
    assert!(matches!(result, Err(WorldError::Diverged(_))));
}

#[test]
fn output_that_fails_does_not_change_the_run() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &sample(60), small_blocks(), Some(ended()));
    let replayer = Replayer::open(dir.path()).unwrap();
    let mut world = replayer.world(Outputs::new(Box::new(Full), Box::new(Full)));
    drive(&sample(60), &mut *world, &mut *replayer.observer()).1.unwrap();
}
