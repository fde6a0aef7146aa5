//! Snapshots over snapshots.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use dejavm_snapshot::{
    Content, Error, Hole, MAX_LAYERS, PAGE_SIZE, PageEntry, Snapshot, WriteOptions, write,
};

/// An image like [`mixed_image`] with some pages replaced.
fn changed(pages: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut image = mixed_image();
    for (number, page) in pages {
        image[number * PAGE_SIZE..][..PAGE_SIZE].copy_from_slice(page);
    }
    image
}

/// The layer that stores a page.
fn layer_of(snapshot: &Snapshot, page: u64) -> Option<usize> {
    match snapshot.entry(page).unwrap() {
        PageEntry::Stored { layer, .. } => Some(layer),
        _ => None,
    }
}

#[test]
fn a_layer_holds_only_what_changed() {
    let directory = directory();
    let base = directory.path().join("base.djv");
    let first = directory.path().join("first.djv");
    let second = directory.path().join("second.djv");
    let base_id = write_plain(&base, &mixed_image()).id;
    let first_image = changed(&[(0, text_page(50)), (4, zero_page()), (1, text_page(51))]);
    let first_summary = write_layer(&first, &base, &first_image);
    assert_eq!(first_summary.pages.parent, 4);
    assert_eq!(first_summary.pages.zero, 2);
    assert_eq!(first_summary.pages.stored(), 2);
    let second_image = changed(&[(0, text_page(50)), (1, zero_page()), (7, text_page(52))]);
    write_layer(&second, &first, &second_image);

    let snapshot = Snapshot::open(&second).unwrap();
    assert_eq!(snapshot.layer_count(), 3);
    assert_eq!(snapshot.parent_id(), Some(first_summary.id));
    let parent = snapshot.parent().unwrap();
    assert_eq!(parent.id(), first_summary.id);
    assert_eq!(parent.parent().unwrap().id(), base_id);
    assert!(parent.parent().unwrap().parent().is_none());

    assert!(read_all(&snapshot).unwrap() == second_image);
    assert!(read_all(&parent).unwrap() == first_image);
    assert_eq!(layer_of(&snapshot, 7), Some(0));
    assert_eq!(layer_of(&snapshot, 0), Some(1));
    assert_eq!(layer_of(&snapshot, 2), Some(2));
    assert_eq!(layer_of(&snapshot, 1), None);

    let mut last = (0, 0);
    let info = snapshot.verify(|done, total| last = (done, total)).unwrap();
    assert_eq!(info.layers, 3);
    assert_eq!(last, (24, 24));
}

#[test]
fn unchanged_holes_are_the_parents_pages() {
    let directory = directory();
    let base = directory.path().join("base.djv");
    let layer = directory.path().join("layer.djv");
    write_plain(&base, &mixed_image());
    let pages = vec![
        (3, Content::Data, text_page(60)),
        (4, Content::Unchanged, Vec::new()),
        (7, Content::Zero, Vec::new()),
    ];
    let mut source = Sparse::new(8, Hole::Unchanged, pages);
    let options = WriteOptions { parent: Some(Snapshot::open(&base).unwrap()), ..plain() };
    let summary = write(&layer, &options, STATE, &mut source, &mut |_, _| {}).unwrap();
    // Pages that are zero in the parent are zero here, not the parent's.
    assert_eq!(summary.pages.zero, 3);
    assert_eq!(summary.pages.parent, 4);
    assert_eq!(summary.pages.stored(), 1);
    let image = changed(&[(3, text_page(60)), (7, zero_page())]);
    assert!(read_all(&Snapshot::open(&layer).unwrap()).unwrap() == image);
}

#[test]
fn a_missing_parent_is_named() {
    let directory = directory();
    let base = directory.path().join("base.djv");
    let layer = directory.path().join("layer.djv");
    let base_id = write_plain(&base, &mixed_image()).id;
    write_layer(&layer, &base, &changed(&[(0, text_page(70))]));
    let moved = directory.path().join("moved.djv");
    fs::rename(&base, &moved).unwrap();
    match Snapshot::open(&layer) {
        Err(Error::MissingParent { id, looked_for, .. }) => {
            assert_eq!(id, base_id);
            assert_eq!(looked_for, base);
        }
        other => panic!("{other:?}"),
    }

    let snapshot = Snapshot::open_with(&layer, |query| {
        assert_eq!(query.child, layer);
        assert_eq!(query.id, base_id);
        assert_eq!(query.file_name, "base.djv");
        moved.clone()
    })
    .unwrap();
    assert!(read_all(&snapshot).unwrap() == changed(&[(0, text_page(70))]));
}

#[test]
fn a_layer_can_be_opened_by_a_link() {
    let directory = directory();
    let store = directory.path().join("store");
    fs::create_dir(&store).unwrap();
    let link = directory.path().join("latest.djv");
    write_plain(&store.join("base.djv"), &mixed_image());
    let image = changed(&[(0, text_page(70))]);
    write_layer(&store.join("layer.djv"), &store.join("base.djv"), &image);
    std::os::unix::fs::symlink("store/layer.djv", &link).unwrap();
    assert!(read_all(&Snapshot::open(&link).unwrap()).unwrap() == image);
}

#[test]
fn another_parent_is_refused() {
    let directory = directory();
    let base = directory.path().join("base.djv");
    let layer = directory.path().join("layer.djv");
    let expected_id = write_plain(&base, &mixed_image()).id;
    write_layer(&layer, &base, &changed(&[(0, text_page(70))]));
    let found_id = write_plain(&base, &changed(&[(2, text_page(71))])).id;
    match Snapshot::open(&layer) {
        Err(Error::ParentMismatch { expected, found, .. }) => {
            assert_eq!(expected, expected_id);
            assert_eq!(found, found_id);
        }
        other => panic!("{other:?}"),
    }
    let bytes = fs::read(&base).unwrap();
    fs::write(&base, &bytes[..40]).unwrap();
    assert!(matches!(Snapshot::open(&layer), Err(Error::Truncated { .. })));
    fs::write(&base, "text").unwrap();
    assert!(matches!(Snapshot::open(&layer), Err(Error::NotASnapshot { .. })));
}

#[test]
fn recompressing_the_parent_keeps_the_layer_valid() {
    let directory = directory();
    let base = directory.path().join("base.djv");
    let layer = directory.path().join("layer.djv");
    write_plain(&base, &mixed_image());
    let image = changed(&[(0, text_page(70))]);
    write_layer(&layer, &base, &image);
    let options = WriteOptions { level: 9, ..plain() };
    write_with(&base, &options, &mixed_image());
    assert!(read_all(&Snapshot::open(&layer).unwrap()).unwrap() == image);
}

#[test]
fn chains_have_a_limit() {
    let directory = directory();
    let path = |number: usize| directory.path().join(format!("{number}.djv"));
    write_plain(&path(0), &mixed_image());
    for number in 1..MAX_LAYERS {
        let image = changed(&[(0, text_page(100 + number as u64))]);
        write_layer(&path(number), &path(number - 1), &image);
    }
    let last = Snapshot::open(path(MAX_LAYERS - 1)).unwrap();
    assert_eq!(last.layer_count(), MAX_LAYERS);
    last.verify(|_, _| {}).unwrap();
    let options = WriteOptions { parent: Some(last), ..plain() };
    let result = write(path(MAX_LAYERS), &options, STATE, &mut mixed_image().as_slice(), &mut |_, _| {});
    assert!(matches!(result, Err(Error::TooManyLayers { .. })));
}

#[test]
fn a_file_that_is_its_own_parent_is_refused() {
    let directory = directory();
    let base = directory.path().join("base.djv");
    let layer = directory.path().join("layer.djv");
    write_plain(&base, &mixed_image());
    write_layer(&layer, &base, &changed(&[(0, text_page(1000))]));
    let snapshot = Snapshot::open_with(&layer, |_| layer.clone());
    assert!(matches!(snapshot, Err(Error::ParentMismatch { .. })));
}

#[test]
fn parents_that_opening_would_not_find_are_refused() {
    let directory = directory();
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let base = directory.path().join("base.djv");
    write_plain(&base, &mixed_image());
    let write_to = |path: &Path, image: &[u8]| {
        let options = WriteOptions { parent: Some(Snapshot::open(&base).unwrap()), ..plain() };
        write(path, &options, STATE, &mut &image[..], &mut |_, _| {})
    };
    let image = mixed_image();
    for (path, image) in [(elsewhere.join("layer.djv"), image.as_slice()), (base.clone(), image.as_slice())] {
        assert!(matches!(write_to(&path, image), Err(Error::UnusableParent { .. })));
    }
    write_to(&elsewhere.join("../layer.djv"), &image).unwrap();
    Snapshot::open(directory.path().join("layer.djv")).unwrap();
}

#[test]
fn a_layer_may_be_longer_or_shorter_than_its_parent() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let image = mixed_image();
    let pages = image.len() / PAGE_SIZE;
    write_plain(&path("base.djv"), &image);
    let longer = [image.clone(), text_page(77), random_page(78)].concat();
    let summary = write_layer(&path("longer.djv"), &path("base.djv"), &longer);
    assert_eq!(summary.pages.compressed + summary.pages.raw, 2, "{summary:?}");
    let shorter = &image[..image.len() / 2 / PAGE_SIZE * PAGE_SIZE];
    let summary = write_layer(&path("shorter.djv"), &path("longer.djv"), shorter);
    assert_eq!((summary.pages.compressed, summary.pages.raw), (0, 0), "{summary:?}");
    // What the layer between does not have is nobody's.
    let summary = write_layer(&path("again.djv"), &path("shorter.djv"), &longer);
    assert!(summary.pages.compressed + summary.pages.raw > 2, "{summary:?}");
    for (name, right) in [("longer.djv", &longer[..]), ("shorter.djv", shorter), ("again.djv", &longer)] {
        let snapshot = Snapshot::open(path(name)).unwrap();
        assert_eq!(read_all(&snapshot).unwrap(), right, "{name}");
        snapshot.verify(|_, _| ()).unwrap();
        let page = snapshot.page_count();
        assert!(matches!(snapshot.entry(page), Err(Error::PageOutOfRange { .. })));
    }
    assert_eq!(Snapshot::open(path("longer.djv")).unwrap().page_count(), pages as u64 + 2);
}
