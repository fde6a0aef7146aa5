//! Any run, cut into blocks anyhow, is read and replayed.

mod common;

use common::*;
use dejavm_replay::{Outputs, Record, Recording, Replayer, RunDigest};
use dejavm_sandbox::world::{Stream, WorldError};
use proptest::prelude::*;

fn any_step() -> impl Strategy<Value = Step> {
    let name = proptest::sample::select(vec!["", "a", "usr/lib", "etc/hosts"]);
    let host = name.prop_map(path);
    prop_oneof![
        Just(Step::Clock),
        (0usize..1000).prop_map(Step::Input),
        proptest::collection::vec(any::<u8>(), 0..50).prop_map(|d| Step::Output(Stream::Stdout, d)),
        host.clone().prop_map(Step::Metadata),
        host.clone().prop_map(Step::ReadLink),
        host.clone().prop_map(Step::ReadDir),
        (host, 0u64..50).prop_map(|(p, b)| Step::Block(p, b)),
        (0u64..1 << 40).prop_map(fault),
        // Numbered later.
        (any::<u64>(), any::<[u64; 6]>()).prop_map(|(number, args)| {
            Step::Exit(exit(0, dejavm_sandbox::exit::ExitKind::Syscall { number, args }))
        }),
        (any::<bool>(), any::<u16>(), any::<u32>()).prop_map(|(out, port, len)| {
            use dejavm_sandbox::exit::ExitKind::{In, Out};
            Step::Exit(exit(0, if out { Out { port, len } } else { In { port, len } }))
        }),
        any::<u64>().prop_map(|clock| {
            let kind = dejavm_sandbox::exit::ExitKind::Instruction(dejavm_sandbox::exit::Trapped::Rdtscp);
            Step::Exit(dejavm_sandbox::exit::Exit { clock, ..exit(0, kind) })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_run_is_read_and_replayed(
        mut steps in proptest::collection::vec(any_step(), 0..400),
        first in 1u64..1 << 50,
        seek in 0u64..200,
        flush_ms in 0u64..3,
        level in -5i32..30,
        sealed: bool,
    ) {
        let mut number = first;
        for step in &mut steps {
            if let Step::Exit(exit) = step {
                exit.number = number;
                number += 1;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let mut options = small_blocks();
        options.flush_after = std::time::Duration::from_millis(flush_ms);
        options.level = level;
        record(dir.path(), &steps, options, sealed.then(ended));
        let recording = Recording::open(dir.path()).unwrap();
        recording.verify().unwrap();
        let all = records(&recording);
        prop_assert_eq!(log_outline(&all), outline(&steps));

        let exit = first + seek;
        let at = all.iter().position(|r| matches!(r, Record::Exit(e) if e.number + 1 == exit));
        let sought: Vec<Record> = recording.records_from(exit).collect::<Result<_, _>>().unwrap();
        match at {
            Some(at) => prop_assert_eq!(&sought[..], &all[at + 1..]),
            None if exit <= first => prop_assert_eq!(&sought, &all),
            // Past the end, or no exits at all.
            None => prop_assert!(sought.is_empty() || recording.exit_count() == 0),
        }

        let expected = drive(&steps, &mut FakeWorld::default(), &mut *RunDigest::watch().1).0;
        let replayer = Replayer::new(recording).unwrap();
        let (answers, result) =
            drive(&steps, &mut *replayer.world(Outputs::sink()), &mut *replayer.observer());
        if sealed {
            prop_assert!(result.is_ok(), "{:?}", result);
            prop_assert_eq!(answers, expected);
        } else {
            prop_assert!(matches!(result, Ok(()) | Err(WorldError::EndOfLog)), "{:?}", result);
            prop_assert_eq!(&answers[..], &expected[..answers.len()]);
        }
    }
}
