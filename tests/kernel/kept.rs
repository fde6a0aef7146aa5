//! What the search for page tables prevents: under shadow paging, a guest whose own tables are absent
//! sees page faults that no CPU would give it.

use std::path::Path;

use dejavm::{Host, Image, Kernel, Outcome, PauseAt, Report, Search, WriteOptions};

use crate::guests::{INPUT, image};

/// The example guest's exit status when it meets an exception that it does not expect.
const UNEXPECTED: u8 = 102;

fn kernel() -> Kernel {
    Kernel::new(image("guest")).cmdline("exit=3").memory(16 << 20).stdin(INPUT).capture_output()
}

/// A snapshot of the example guest at its point `ready`, where it has two address spaces.
fn snapshot(host: &Host, kernel: Kernel, file: &Path) -> Image {
    let mut guest = kernel.start(host).expect("a guest");
    assert_eq!(guest.run_until(PauseAt::Ready).expect("a run"), Outcome::Paused);
    guest.snapshot(file, &WriteOptions::default()).expect("a snapshot");
    Image::open(file).expect("an image")
}

fn restore(host: &Host, image: &Image, eager: bool) -> Report {
    let restore = image.restore().stdin(INPUT).capture_output().eager(eager);
    restore.deadline(std::time::Duration::from_secs(20)).start(host).and_then(|mut g| g.run()).expect("a run")
}

#[test]
fn without_the_search_the_guest_sees_page_faults_of_its_tables() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = Host::probe().expect("KVM");
    let searched = snapshot(&host, kernel(), &dir.path().join("searched.dvm"));
    let unsearched =
        snapshot(&host, kernel().search(Search::Off).eager(true), &dir.path().join("unsearched.dvm"));
    let kept = |image: &Image| image.state().kernel().map(|kernel| kernel.kept.len());
    assert!(kept(&searched) > Some(8), "two address spaces have more tables than that");
    assert_eq!(kept(&unsearched), Some(0));

    let right = restore(&host, &searched, true);
    assert_eq!(right.outcome, Outcome::Exited(3));
    let lazy = restore(&host, &searched, false);
    assert_eq!((lazy.outcome, &lazy.stdout), (right.outcome, &right.stdout));
    let resident = restore(&host, &unsearched, true);
    assert_eq!((resident.outcome, &resident.stdout), (right.outcome, &right.stdout));

    // As it would be right where the CPU walks the tables: those that KVM needs to take an exception are
    // there, those of the other address space and of most addresses are not.
    let partly =
        snapshot(&host, kernel().search(Search::Hardware).eager(true), &dir.path().join("partly.dvm"));

    let nothing = restore(&host, &unsearched, false);
    let wrong = restore(&host, &partly, false);
    if host.profile().bare_metal().expect("a test guest runs").shadow_paging {
        // With none of its tables there, how far it comes is by chance.
        assert_ne!((nothing.outcome, &nothing.stdout), (right.outcome, &right.stdout));
        // The guest's handler is told of a page fault where its tables have none.
        let text = String::from_utf8_lossy(&wrong.stdout).into_owned();
        assert_eq!(wrong.outcome, Outcome::Exited(UNEXPECTED), "{text}");
        assert!(text.contains("page fault at 0000"), "{text}");
    } else {
        // The CPU walks the tables: an absent one makes an exit like any other page.
        for (kept, seen) in [("nothing", nothing), ("what KVM reads", wrong)] {
            let text = String::from_utf8_lossy(&seen.stdout);
            assert_eq!(seen.outcome, right.outcome, "with {kept} kept: {text}");
            assert_eq!(seen.stdout, right.stdout, "with {kept} kept: {text}");
        }
    }
}
