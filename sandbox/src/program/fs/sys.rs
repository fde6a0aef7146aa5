//! `/sys`: the few files that programs read to learn of CPUs and pages.

use super::Fs;
use super::inode::{Place, Text};
use super::proc::{add_dir, add_text};

const FILES: [(&str, &str); 8] = [
    ("devices/system/cpu/online", "0\n"),
    ("devices/system/cpu/possible", "0\n"),
    ("devices/system/cpu/present", "0\n"),
    ("devices/system/cpu/kernel_max", "0\n"),
    ("devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("devices/system/node/online", "0\n"),
    ("kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
    ("kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n"),
];

/// Directories that are there and empty.
const DIRS: [&[&str]; 3] =
    [&["devices", "system", "cpu", "cpu0"], &["kernel", "mm", "hugepages"], &["fs", "cgroup"]];

pub(super) fn build(fs: &mut Fs) {
    let root = fs.add_built_in_dir(fs.root, "sys", Place::Sys, 0o555, true);
    for (path, text) in FILES {
        add_text(fs, root, Place::Sys, path, Text::Fixed(text.as_bytes().to_vec()));
    }
    for parts in DIRS {
        let mut dir = root;
        for part in parts {
            dir = add_dir(fs, dir, Place::Sys, part);
        }
    }
}
