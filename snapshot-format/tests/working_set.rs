//! Recording a working set in a file.

mod common;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use common::*;
use dejavm_snapshot::{
    CLUSTER_PAGES, DictionaryMode, Error, PAGE_SIZE, PageReader, Snapshot, WriteOptions, add_working_set,
};
use proptest::prelude::*;

/// The contents of these pages of an image.
fn contents(image: &[u8], pages: &[u64]) -> Vec<u8> {
    pages.iter().flat_map(|page| &image[*page as usize * PAGE_SIZE..][..PAGE_SIZE]).copied().collect()
}

#[test]
fn what_is_wanted_first_comes_first() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    let image = mixed_image();
    let id = write_plain(&path, &image).id;
    let info = add_working_set(&path, &[7, 1, 0, 7], &[2, 3, 5, 0]).unwrap();
    assert_eq!(info.pages, 6);
    assert_eq!(info.zero_pages, 2);
    assert_eq!((info.clusters, info.first_clusters), (2, 1));

    let snapshot = Snapshot::open(&path).unwrap();
    assert_eq!(snapshot.id(), id);
    assert_eq!(snapshot.state().unwrap(), STATE);
    assert!(read_all(&snapshot).unwrap() == image);
    let set = snapshot.working_set().unwrap().unwrap();
    assert_eq!(set.pages(), [1, 0, 7, 5, 2, 3]);
    assert_eq!(set.zero_pages(), [1, 5]);
    assert_eq!(set.cluster_count(), 2);
    assert_eq!(set.first_clusters(), 1);
    assert_eq!(set.cluster_pages(0), Some(&[0, 7][..]));
    assert_eq!(set.cluster_pages(1), Some(&[2, 3][..]));
    assert_eq!(set.cluster_pages(2), None);
    assert_eq!([7, 1, 2].map(|page| set.cluster_of(page)), [Some(0), None, Some(1)]);

    let mut reader = PageReader::new(Arc::clone(&snapshot)).unwrap();
    let mut out = vec![9; 10];
    let pages = reader.working_set_cluster(0, &mut out).unwrap();
    assert_eq!(pages, [0, 7]);
    assert!(out == contents(&image, &pages));
    assert!(matches!(
        reader.working_set_cluster(2, &mut out),
        Err(Error::ClusterOutOfRange { cluster: 2, count: 2 })
    ));
    assert!(out.is_empty());

    let verified = snapshot.verify(|_, _| {}).unwrap();
    assert_eq!(verified.working_set, Some(info));
}

#[test]
fn a_working_set_is_replaced_and_removed() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    write_plain(&path, &mixed_image());
    let without = fs::read(&path).unwrap();
    assert!(Snapshot::open(&path).unwrap().working_set().unwrap().is_none());

    add_working_set(&path, &[], &[0, 1, 2]).unwrap();
    let old = Snapshot::open(&path).unwrap();
    add_working_set(&path, &[], &[4]).unwrap();
    let new = Snapshot::open(&path).unwrap();
    assert_eq!(new.working_set().unwrap().unwrap().pages(), [4]);
    assert_eq!(old.working_set().unwrap().unwrap().pages(), [1, 0, 2]);

    add_working_set(&path, &[], &[]).unwrap();
    assert!(fs::read(&path).unwrap() == without);
    assert_eq!(files_in(directory.path()), [path]);
}

#[test]
fn clusters_follow_the_order_and_are_sorted_within() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    let image = large_image();
    let options = WriteOptions { dictionary: DictionaryMode::Always, ..WriteOptions::default() };
    write_with(&path, &options, &image);
    let order: Vec<u64> = (0..300).map(|number| number * 7 % 2000).rev().collect();
    add_working_set(&path, &[], &order).unwrap();
    let snapshot = Snapshot::open(&path).unwrap();
    let set = snapshot.working_set().unwrap().unwrap();
    assert_eq!(set.cluster_count(), order.len().div_ceil(CLUSTER_PAGES));
    let mut reader = PageReader::new(Arc::clone(&snapshot)).unwrap();
    let mut out = Vec::new();
    let mut found = Vec::new();
    for cluster in 0..set.cluster_count() {
        let pages = reader.working_set_cluster(cluster, &mut out).unwrap();
        assert!(out == contents(&image, &pages));
        assert_eq!(set.cluster_pages(cluster), Some(pages.as_slice()));
        assert!(pages.is_sorted());
        found.push(pages);
    }
    let mut expected: Vec<Vec<u64>> = order.chunks(CLUSTER_PAGES).map(<[u64]>::to_vec).collect();
    expected.iter_mut().for_each(|pages| pages.sort_unstable());
    assert_eq!(found, expected);
}

#[test]
fn clusters_hold_the_parents_pages_too() {
    let directory = directory();
    let base = directory.path().join("base.djv");
    let layer = directory.path().join("layer.djv");
    write_plain(&base, &mixed_image());
    let mut image = mixed_image();
    image[4 * PAGE_SIZE..][..PAGE_SIZE].copy_from_slice(&text_page(80));
    write_layer(&layer, &base, &image);
    add_working_set(&layer, &[], &[4, 0, 2]).unwrap();
    let snapshot = Snapshot::open(&layer).unwrap();
    let mut out = Vec::new();
    let pages = PageReader::new(Arc::clone(&snapshot)).unwrap().working_set_cluster(0, &mut out).unwrap();
    assert!(out == contents(&image, &pages));
    snapshot.verify(|_, _| {}).unwrap();
    // The parent has no working set of its own.
    assert!(snapshot.parent().unwrap().working_set().unwrap().is_none());
}

#[test]
fn bad_requests_leave_the_file_alone() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    write_plain(&path, &mixed_image());
    let before = fs::read(&path).unwrap();
    assert!(matches!(add_working_set(&path, &[], &[0, 8]), Err(Error::PageOutOfRange { page: 8, .. })));
    assert!(matches!(add_working_set(directory.path().join("none.djv"), &[], &[0]), Err(Error::Io { .. })));
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(files_in(directory.path()), [path]);
}

#[test]
fn permissions_and_links_are_kept() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    let link = directory.path().join("link.djv");
    write_plain(&path, &mixed_image());
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    symlink("image.djv", &link).unwrap();
    add_working_set(&link, &[], &[0]).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let snapshot = Snapshot::open(&path).unwrap();
    assert!(snapshot.working_set().unwrap().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_order_round_trips(order in proptest::collection::vec(0..8_u64, 0..30), cut in 0..30_usize) {
        let directory = directory();
        let path = directory.path().join("image.djv");
        let image = mixed_image();
        write_plain(&path, &image);
        let (first, rest) = order.split_at(cut.min(order.len()));
        add_working_set(&path, first, rest).unwrap();
        let everything = read_everything(&path).unwrap();
        let wanted_first = everything.order.iter().filter(|page| first.contains(page)).count();
        prop_assert!(everything.order[..wanted_first].iter().all(|page| first.contains(page)));
        let expected: BTreeSet<u64> = order.iter().copied().collect();
        prop_assert_eq!(everything.order.len(), expected.len());
        prop_assert_eq!(everything.order.into_iter().collect::<BTreeSet<u64>>(), expected);
        for (pages, found) in everything.clusters {
            prop_assert!(found == contents(&image, &pages));
        }
        Snapshot::open(&path).unwrap().verify(|_, _| {}).unwrap();
    }
}
