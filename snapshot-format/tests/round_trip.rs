//! What is written is what is read.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use common::*;
use dejavm_snapshot::{
    Content, ContentId, ContentsError, DictionaryMode, Encoding, Error, Hole, MAX_PAGES, MAX_STATE_BYTES,
    PAGE_SIZE, PageContents, PageEntry, PageReader, Snapshot, WriteOptions, write,
};
use proptest::prelude::*;

/// A page of one of the kinds that matter.
fn any_page() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just(zero_page()),
        2 => (0..4_u64).prop_map(text_page),
        2 => (0..4_u64).prop_map(random_page),
        1 => any::<u64>().prop_map(text_page),
        1 => any::<u64>().prop_map(random_page),
        // Almost zero.
        1 => (0..PAGE_SIZE, any::<u8>()).prop_map(|(at, byte)| {
            let mut page = zero_page();
            page[at] = byte;
            page
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_image_round_trips(
        pages in proptest::collection::vec(any_page(), 0..40),
        state in proptest::collection::vec(any::<u8>(), 0..300),
        level in 1..=9_i32,
        threads in 1..=3_usize,
    ) {
        let directory = directory();
        let path = directory.path().join("image.djv");
        let image = pages.concat();
        let options = WriteOptions { level, threads, ..WriteOptions::default() };
        let summary = write(
            &path, &options, &state, &mut image.as_slice(), &mut |_, _| {},
        ).unwrap();

        let snapshot = Snapshot::open(&path).unwrap();
        prop_assert_eq!(snapshot.id(), summary.id);
        prop_assert_eq!(snapshot.page_count(), pages.len() as u64);
        prop_assert_eq!(snapshot.state().unwrap(), state);
        prop_assert!(read_all(&snapshot).unwrap() == image);
        for (number, page) in (0..).zip(&pages) {
            prop_assert_eq!(snapshot.is_zero(number).unwrap(), page == &zero_page());
        }
        let info = snapshot.verify(|_, _| {}).unwrap();
        prop_assert_eq!(info.pages, summary.pages);
        prop_assert_eq!(info.pages.total(), pages.len() as u64);
        prop_assert_eq!(info.file_bytes, fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn any_layer_round_trips(
        pages in proptest::collection::vec((any_page(), any_page(), 0..4_u8), 1..30),
    ) {
        let directory = directory();
        let base_path = directory.path().join("base.djv");
        let layer_path = directory.path().join("layer.djv");
        let base: Vec<u8> = pages.iter().flat_map(|(page, ..)| page.clone()).collect();
        write_plain(&base_path, &base);

        // Most pages stay: some are given as unchanged, some as they are.
        let mut image = Vec::new();
        let mut source = Vec::new();
        for (number, (old, new, choice)) in (0..).zip(&pages) {
            let (content, page) = match choice {
                0 => (Content::Unchanged, old),
                1 => (Content::Data, old),
                _ => (Content::Data, new),
            };
            image.extend_from_slice(page);
            if *choice != 3 || old != new {
                source.push((number, content, page.clone()));
            }
        }
        let mut source = Sparse::new(pages.len() as u64, Hole::Unchanged, source);
        let options = WriteOptions {
            parent: Some(Snapshot::open(&base_path).unwrap()),
            ..plain()
        };
        let summary = write(&layer_path, &options, STATE, &mut source, &mut |_, _| {}).unwrap();

        let layer = Snapshot::open(&layer_path).unwrap();
        prop_assert_eq!(layer.layer_count(), 2);
        prop_assert!(read_all(&layer).unwrap() == image);
        let info = layer.verify(|_, _| {}).unwrap();
        prop_assert_eq!(info.pages, summary.pages);
        // The id depends on what is in the layer, not on how it was given.
        let again = write_layer(&directory.path().join("again.djv"), &base_path, &image);
        prop_assert_eq!(again.id, summary.id);
        prop_assert_eq!(again.pages, summary.pages);
    }
}

#[test]
fn pages_are_stored_as_their_kind_demands() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    let summary = write_plain(&path, &mixed_image());
    assert_eq!(summary.pages.zero, 2);
    assert_eq!(summary.pages.compressed, 3);
    assert_eq!(summary.pages.raw, 1);
    assert_eq!(summary.pages.repeated, 2);
    assert_eq!(summary.pages.parent, 0);

    let snapshot = Snapshot::open(&path).unwrap();
    assert_eq!(snapshot.entry(1).unwrap(), PageEntry::Zero);
    let encoding = |page| match snapshot.entry(page).unwrap() {
        PageEntry::Stored { encoding, .. } => encoding,
        entry => panic!("{entry:?}"),
    };
    assert_eq!(encoding(0), Encoding::Zstd);
    assert_eq!(encoding(2), Encoding::Raw);
    assert_eq!(snapshot.entry(0).unwrap(), snapshot.entry(3).unwrap());
}

#[test]
fn an_empty_image_round_trips() {
    let directory = directory();
    let path = directory.path().join("empty.djv");
    let summary = write(&path, &plain(), &[], &mut [].as_slice() as &mut &[u8], &mut |_, _| {}).unwrap();
    let snapshot = Snapshot::open(&path).unwrap();
    assert_eq!(snapshot.page_count(), 0);
    assert!(snapshot.state().unwrap().is_empty());
    assert_eq!(snapshot.verify(|_, _| {}).unwrap().id, summary.id);
    assert!(matches!(snapshot.entry(0), Err(Error::PageOutOfRange { page: 0, page_count: 0 })));
}

#[test]
fn pages_out_of_range_are_refused() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    write_plain(&path, &mixed_image());
    let snapshot = Snapshot::open(&path).unwrap();
    let mut reader = PageReader::new(Arc::clone(&snapshot)).unwrap();
    for page in [8, 9, u64::MAX / 32, u64::MAX] {
        assert!(matches!(snapshot.entry(page), Err(Error::PageOutOfRange { .. })));
        assert!(matches!(reader.read(page, &mut [0; PAGE_SIZE]), Err(Error::PageOutOfRange { .. })));
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    let directory = directory();
    // More than one round of pages.
    let image: Vec<u8> = (0..2500)
        .flat_map(|number| match number % 5 {
            0 => zero_page(),
            1 => random_page(number),
            2 => text_page(number / 50),
            _ => text_page(number),
        })
        .collect();
    for dictionary in [DictionaryMode::Never, DictionaryMode::Always] {
        let bytes: Vec<_> = [1, 2, 4]
            .into_iter()
            .map(|threads| {
                let path = directory.path().join("image.djv");
                let options = WriteOptions { threads, dictionary, ..WriteOptions::default() };
                write_with(&path, &options, &image);
                fs::read(path).unwrap()
            })
            .collect();
        assert!(bytes[0] == bytes[1] && bytes[0] == bytes[2]);
    }
}

#[test]
fn the_id_is_of_the_content_alone() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    let image = large_image();
    let id = |level, dictionary, state: &[u8], mut image: &[u8]| -> ContentId {
        let options = WriteOptions { level, dictionary, ..WriteOptions::default() };
        write(&path, &options, state, &mut image, &mut |_, _| {}).unwrap().id
    };
    let one = id(1, DictionaryMode::Never, STATE, &image);
    assert_eq!(one, id(5, DictionaryMode::Always, STATE, &image));
    assert_ne!(one, id(1, DictionaryMode::Never, b"other", &image));
    assert_ne!(one, id(1, DictionaryMode::Never, STATE, &image[PAGE_SIZE..]));
    let mut other = image.clone();
    other[12_345] ^= 1;
    assert_ne!(one, id(1, DictionaryMode::Never, STATE, &other));
}

#[test]
fn a_dictionary_is_used_when_it_pays() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    let write = |dictionary, image: &[u8]| {
        let options = WriteOptions { dictionary, ..WriteOptions::default() };
        let summary = write_with(&path, &options, image);
        let snapshot = Snapshot::open(&path).unwrap();
        assert!(read_all(&snapshot).unwrap() == image);
        assert_eq!(snapshot.verify(|_, _| {}).unwrap().dictionary_bytes, summary.dictionary_bytes);
        summary
    };
    let large = large_image();
    let never = write(DictionaryMode::Never, &large);
    let always = write(DictionaryMode::Always, &large);
    let auto = write(DictionaryMode::Auto, &large);
    assert_eq!(never.dictionary_bytes, 0);
    assert_ne!(always.dictionary_bytes, 0);
    assert_eq!(auto.dictionary_bytes != 0, always.file_bytes < never.file_bytes);
    assert_eq!(auto.file_bytes, always.file_bytes.min(never.file_bytes), "the smaller of both");

    // Random pages have nothing in common.
    let random: Vec<u8> = (0..300).flat_map(random_page).collect();
    assert_eq!(write(DictionaryMode::Auto, &random).dictionary_bytes, 0);
    // Too few pages to train on.
    let few = &large[..80 * PAGE_SIZE];
    assert_eq!(write(DictionaryMode::Auto, few).dictionary_bytes, 0);
    assert_eq!(write(DictionaryMode::Always, few).dictionary_bytes, 0);
}

#[test]
fn holes_are_passed_over() {
    const PAGES: u64 = 1 << 18;
    let directory = directory();
    let path = directory.path().join("sparse.djv");
    let numbers = [0, 1, 77_777, PAGES - 1];
    let pages = numbers.map(|number| (number, Content::Data, text_page(number)));
    let mut source = Sparse::new(PAGES, Hole::Zero, pages.to_vec());
    let summary = write(&path, &plain(), STATE, &mut source, &mut |_, _| {}).unwrap();
    assert_eq!(source.asked, numbers);
    assert_eq!(summary.pages.zero, PAGES - 4);
    assert_eq!(summary.pages.compressed, 4);

    let snapshot = Snapshot::open(&path).unwrap();
    let mut reader = PageReader::new(Arc::clone(&snapshot)).unwrap();
    let mut page = [0; PAGE_SIZE];
    for number in numbers {
        reader.read(number, &mut page).unwrap();
        assert_eq!(page, text_page(number).as_slice());
    }
    assert!(snapshot.is_zero(77_776).unwrap());
    reader.read(77_776, &mut page).unwrap();
    assert_eq!(page, [0; PAGE_SIZE]);
    assert_eq!(snapshot.info().unwrap().pages, summary.pages);
}

#[test]
fn progress_rises_to_the_total() {
    let directory = directory();
    let image: Vec<u8> = (0..5000).flat_map(|n| text_page(n % 7)).collect();
    let mut seen = Vec::new();
    write(directory.path().join("image.djv"), &plain(), STATE, &mut image.as_slice(), &mut |done, total| {
        seen.push((done, total))
    })
    .unwrap();
    assert!(seen.is_sorted());
    assert_eq!(seen.first(), Some(&(0, 5000)));
    assert_eq!(seen.last(), Some(&(5000, 5000)));
}

#[test]
fn unusable_input_is_refused_and_leaves_no_file() {
    /// A source that fails, or lies.
    struct Bad {
        page_count: u64,
        next: Option<u64>,
    }
    impl PageContents for Bad {
        fn page_count(&self) -> u64 {
            self.page_count
        }
        fn page(&mut self, _: u64, _: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
            Err("the guest is gone".into())
        }
        fn next_data(&mut self, from: u64) -> Option<u64> {
            Some(self.next.unwrap_or(from))
        }
    }

    let directory = directory();
    let path = directory.path().join("image.djv");
    let fails = |options: &WriteOptions, state: &[u8], source: &mut dyn PageContents| {
        write(&path, options, state, source, &mut |_, _| {}).unwrap_err()
    };
    let bad = |page_count, next| Bad { page_count, next };
    assert!(matches!(fails(&plain(), STATE, &mut bad(5, None)), Error::Contents { page: 0, .. }));
    assert!(matches!(fails(&plain(), STATE, &mut bad(5, Some(3))), Error::Contents { page: 3, .. }));
    assert!(matches!(fails(&WriteOptions::default(), STATE, &mut bad(5, Some(0))), Error::Contents { .. }));
    assert!(matches!(fails(&plain(), STATE, &mut bad(MAX_PAGES + 1, None)), Error::TooLarge { .. }));
    assert!(matches!(
        fails(&plain(), &vec![0; MAX_STATE_BYTES as usize + 1], &mut bad(0, None)),
        Error::TooLarge { .. }
    ));
    let mut backwards = Sparse::new(
        9,
        Hole::Zero,
        vec![(3, Content::Data, text_page(1)), (5, Content::Unchanged, Vec::new())],
    );
    assert!(matches!(fails(&plain(), STATE, &mut backwards), Error::UnchangedWithoutParent { page: 5 }));
    for level in [0, -1, 23, i32::MAX] {
        let options = WriteOptions { level, ..plain() };
        assert!(matches!(fails(&options, STATE, &mut bad(0, None)), Error::OptionOutOfRange { .. }));
    }
    assert!(files_in(directory.path()).is_empty());
}

#[test]
fn a_source_that_goes_backwards_is_refused() {
    struct Backwards;
    impl PageContents for Backwards {
        fn page_count(&self) -> u64 {
            10
        }
        fn page(&mut self, _: u64, out: &mut [u8; PAGE_SIZE]) -> Result<Content, ContentsError> {
            out.fill(1);
            Ok(Content::Data)
        }
        fn next_data(&mut self, from: u64) -> Option<u64> {
            Some(from.min(4))
        }
    }
    let directory = directory();
    for dictionary in [DictionaryMode::Never, DictionaryMode::Auto] {
        let options = WriteOptions { dictionary, ..plain() };
        let result =
            write(directory.path().join("image.djv"), &options, STATE, &mut Backwards, &mut |_, _| {});
        assert!(matches!(result, Err(Error::Contents { page: 5, .. })));
    }
}

#[test]
fn a_file_is_replaced_whole_and_open_snapshots_keep_the_old_one() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    let old = mixed_image();
    write_plain(&path, &old);
    let snapshot = Snapshot::open(&path).unwrap();

    let new = text_page(99);
    write_plain(&path, &new);
    assert!(read_all(&snapshot).unwrap() == old);
    assert!(read_all(&Snapshot::open(&path).unwrap()).unwrap() == new);
    assert_eq!(files_in(directory.path()), std::slice::from_ref(&path));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "memory may hold secrets");
}

#[test]
fn a_missing_directory_is_reported() {
    let directory = directory();
    let result = write(
        directory.path().join("none/image.djv"),
        &plain(),
        STATE,
        &mut mixed_image().as_slice(),
        &mut |_, _| {},
    );
    assert!(matches!(result, Err(Error::Io { .. })));
}

#[test]
fn many_threads_read_one_snapshot() {
    let directory = directory();
    let path = directory.path().join("image.djv");
    let image = large_image();
    let options = WriteOptions { dictionary: DictionaryMode::Always, ..WriteOptions::default() };
    write_with(&path, &options, &image);
    let snapshot = Snapshot::open(&path).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(read_all(&snapshot).unwrap() == image));
        }
    });
}
