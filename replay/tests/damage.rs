//! Logs with flipped bytes and cut logs: an error, or fewer records, or the same ones;
//! never others.

mod common;

use common::damaged::*;
use dejavm_replay::{Ending, Error, Recording};
use proptest::prelude::*;

fn flip_each_byte(good: &Good, sealed: bool) {
    use std::os::unix::fs::FileExt;
    let dir = put(good, &good.log);
    let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("log")).unwrap();
    for at in 0..good.log.len() {
        for bits in [1, 0xf0] {
            file.write_all_at(&[good.log[at] ^ bits], at as u64).unwrap();
            let seen = read(good, dir.path());
            // The trailer only says where the end block is.
            let trailer = sealed && at + 32 >= good.log.len();
            match seen {
                Seen::Whole => assert!(trailer, "byte {at}"),
                Seen::Refused | Seen::Broken(_) => assert!(!trailer, "byte {at}"),
                Seen::Short(_) => panic!("byte {at}: damage taken for an interruption"),
            }
            replay(good, dir.path());
        }
        file.write_all_at(&[good.log[at]], at as u64).unwrap();
    }
    assert_eq!(read(good, dir.path()), if sealed { Seen::Whole } else { Seen::Short(good.records.len()) });
}

#[test]
fn a_flipped_byte_in_a_sealed_log() {
    flip_each_byte(&good(true), true);
}

#[test]
fn a_flipped_byte_in_an_interrupted_log() {
    flip_each_byte(&good(false), false);
}

#[test]
fn a_sealed_log_cut_anywhere() {
    let good = good(true);
    let dir = put(&good, &good.log);
    for len in (0..good.log.len()).rev() {
        let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("log")).unwrap();
        file.set_len(len as u64).unwrap();
        // All that may be missing is the trailer, which holds nothing by itself.
        match read(&good, dir.path()) {
            Seen::Refused => {}
            Seen::Whole => assert!(good.log.len() - len <= 32, "{len} of {}", good.log.len()),
            other => panic!("{other:?} at {len}"),
        }
        if len > 32 && good.log.len() - len > 32 {
            let error = Recording::open(dir.path()).unwrap_err();
            assert!(matches!(error, Error::Truncated { exits: EXITS, .. }), "{error}");
        }
    }
}

/// What a kill leaves.
#[test]
fn an_interrupted_log_cut_anywhere() {
    let good = good(false);
    let dir = put(&good, &good.log);
    let mut last = usize::MAX;
    let mut steps = 0;
    for len in (0..good.log.len()).rev() {
        let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("log")).unwrap();
        file.set_len(len as u64).unwrap();
        match read(&good, dir.path()) {
            Seen::Refused => assert!(len < 32),
            Seen::Short(count) => {
                assert!(count <= last);
                steps += usize::from(count < last);
                last = count;
            }
            other => panic!("{other:?} at {len}"),
        }
        replay(&good, dir.path());
    }
    assert_eq!(last, 0);
    assert!(steps > 3, "the sample has too few blocks to be a test");
}

#[test]
fn bytes_behind_the_end() {
    let good = good(true);
    let mut log = good.log.clone();
    log.extend_from_slice(&good.log[32..]);
    let dir = put(&good, &log);
    assert_ne!(read(&good, dir.path()), Seen::Whole);
}

#[test]
fn blocks_in_another_order() {
    let good = good(false);
    // The first two blocks, by the lengths in their headers.
    let len = |at: usize| 72 + u32::from_le_bytes(good.log[at + 20..at + 24].try_into().unwrap()) as usize;
    let (one, two) = (32, 32 + len(32));
    let three = two + len(two);
    let mut log = good.log[..32].to_vec();
    log.extend_from_slice(&good.log[two..three]);
    log.extend_from_slice(&good.log[one..two]);
    log.extend_from_slice(&good.log[three..]);
    let dir = put(&good, &log);
    assert_eq!(read(&good, dir.path()), Seen::Broken(0));
    assert!(matches!(Recording::open(dir.path()).unwrap().ending(), Ending::Damaged { offset: 32, .. }));
}

#[test]
fn files_that_are_no_log() {
    let good = good(true);
    let refuse = |log: &[u8]| Recording::open(put(&good, log).path()).map(drop).unwrap_err();
    assert!(matches!(refuse(b"#!/bin/sh\necho this is some other kind of file\n"), Error::NotALog { .. }));
    assert!(matches!(refuse(b""), Error::Corrupt { .. }));
    assert!(matches!(refuse(&[0; 4096]), Error::NotALog { .. }));
    let dir = put(&good, b"");
    std::fs::remove_file(dir.path().join("log")).unwrap();
    assert!(matches!(Recording::open(dir.path()), Err(Error::Io { .. })));
    // Opening it would read for ever.
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("log")).unwrap();
    assert!(matches!(Recording::open(dir.path()), Err(Error::Io { .. })));
    std::fs::remove_file(dir.path().join("log")).unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    assert!(matches!(Recording::open(dir.path()), Err(Error::Io { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whole stretches of anything.
    #[test]
    fn overwritten_stretches(
        sealed: bool,
        at in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 1..300),
    ) {
        let good = good(sealed);
        let at = at.index(good.log.len());
        let mut log = good.log.clone();
        for (to, from) in log[at..].iter_mut().zip(&bytes) {
            *to = *from;
        }
        let dir = put(&good, &log);
        read(&good, dir.path());
        replay(&good, dir.path());
    }
}
