//! `/proc/<pid>/map_files`: a link for each mapping of a file, by its addresses (`fs/proc/base.c`).

use std::ops::Range;

use super::node::ProcNode;
use crate::program::fs::env::Env;

/// Bits of the number of a page in the lower half of addresses.
const PAGE_BITS: u32 = 35;
const PAGE_SHIFT: u32 = 12;

/// The addresses that a name says, as the kernel takes them: two numbers in hexadecimal, without zeros before them.
fn addresses(name: &[u8]) -> Option<Range<u64>> {
    let (start, end) = std::str::from_utf8(name).ok()?.split_once('-')?;
    let number = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_hexdigit()) && (text == "0" || !text.starts_with('0'));
        plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
    };
    Some(number(start)?..number(end)?)
}

/// What a mapping's link is called.
pub(super) fn name(range: &Range<u64>) -> String {
    format!("{:x}-{:x}", range.start, range.end)
}

/// The link of a mapping of a process.
fn node(pid: u32, start: u64) -> Option<ProcNode> {
    let page = start >> PAGE_SHIFT;
    (page >> PAGE_BITS == 0).then_some(ProcNode::Mapped { pid, page })
}

/// Looks a mapping up by its name.
pub(super) fn find(env: &Env<'_>, pid: u32, wanted: &[u8]) -> Option<ProcNode> {
    let wanted = addresses(wanted)?;
    let (range, _) = env.caller.mapped_file(pid, wanted.start)?;
    (range == wanted).then(|| node(pid, wanted.start)).flatten()
}

/// All mappings of files.
pub(super) fn list(env: &Env<'_>, pid: u32) -> Vec<(ProcNode, String)> {
    let ranges = env.caller.mapped_files(pid);
    ranges.iter().filter_map(|range| Some((node(pid, range.start)?, name(range)))).collect()
}

/// The path of what is mapped at a page.
pub(super) fn target(env: &Env<'_>, pid: u32, page: u64) -> Option<Vec<u8>> {
    env.caller.mapped_file(pid, page << PAGE_SHIFT).map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_numbers() {
        assert_eq!(addresses(b"7f00-8000"), Some(0x7f00..0x8000));
        assert_eq!(addresses(b"0-1000"), Some(0..0x1000));
        for wrong in [" 7f00-8000", "7f00 -8000", "7f00- 8000", "7f00-8000 ", "07f00-8000", "7f00-08000"] {
            assert_eq!(addresses(wrong.as_bytes()), None, "{wrong}");
        }
        for wrong in ["", "-", "1-", "-1", "10000000000000001-2", "+1-2", "1-+2", "0x1-0x2"] {
            assert_eq!(addresses(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_number_of_an_inode_has_the_whole_address() {
        let last = 0x7fff_ffff_f000;
        for start in [0, 0x1000, 0x1234_5678_9000, last] {
            let node = node(7, start).expect("an address of the lower half");
            assert_eq!(ProcNode::of(node.id()), Some(node));
        }
        assert_eq!(node(7, 1 << 47), None);
    }
}
