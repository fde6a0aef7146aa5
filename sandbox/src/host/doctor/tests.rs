//! The report on the host that runs the tests.

use std::collections::HashSet;

use super::*;

/// Rows whose text has a time in it.
const TIMED: [&str; 2] = ["exit-cost", "vm-cost"];

/// The report, of a host that must be able to run guests.
fn usable_report() -> Report {
    if let Err(e) = open_kvm() {
        panic!("this test needs /dev/kvm: {e}");
    }
    report()
}

#[test]
fn every_row_is_found_out() {
    let report = usable_report();
    assert!(report.usable, "{report}");
    assert_eq!(report.rows.len(), PROBES.len());
    for row in &report.rows {
        assert!(!row.is_unknown(), "{}: {}", row.id, row.found);
        for text in [&row.found, &row.dejavm, &row.means] {
            assert!(!text.is_empty(), "{}", row.id);
        }
    }
    println!("{report}");
}

#[test]
fn report_fits_a_terminal() {
    let text = usable_report().to_string();
    for line in text.lines().rev().skip(1) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn findings_do_not_change() {
    let (first, second) = (usable_report(), usable_report());
    for (a, b) in first.rows.iter().zip(&second.rows).filter(|(a, _)| !TIMED.contains(&a.id)) {
        assert_eq!(a, b);
    }
}

#[test]
fn report_agrees_with_the_profile() {
    let report = usable_report();
    let profile = HostProfile::probe().expect("the report says that guests run");
    let level = |id| report.row(id).expect("all rows are there").level;
    assert_eq!(level("cpuid") == Level::Ok, profile.cpuid_traps);
    assert_eq!(level("rdtsc") == Level::Ok, profile.tsc_by_cr4 || profile.tsc_by_thread);
    if profile.poison {
        assert_eq!(level("memory-faults"), Level::Ok);
    }
}

#[test]
fn ids_are_names_for_programs() {
    let ids: HashSet<_> = PROBES.iter().map(|probe| probe.id).collect();
    assert_eq!(ids.len(), PROBES.len());
    for id in ids {
        assert!(id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{id}");
    }
}

#[test]
fn a_host_without_guests_has_all_rows() {
    let host = Err(HostError::NoKvm);
    let rows: Vec<_> = PROBES.iter().map(|probe| row(probe, &host)).collect();
    let by_guests = PROBES.iter().filter(|probe| matches!(probe.find, Find::Guest(_))).count();
    assert_eq!(rows.iter().filter(|row| row.is_unknown()).count(), by_guests);
}
