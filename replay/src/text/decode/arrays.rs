//! Arrays in a guest's memory, the first elements of each.

use dejavm_sandbox::exit::GuestMemory;

use super::MOST_STRING_BYTES;
use super::reading::{bytes, string, u16_in, u32_in, u64_at};
use crate::text::names;

/// Most elements of an array that are shown.
pub(super) const MOST_ELEMENTS: u64 = 32;

/// The first elements of an array of `count`. `None` where the first cannot be read.
pub(super) fn array(count: u64, mut element: impl FnMut(u64) -> Option<String>) -> Option<String> {
    let mut parts = Vec::new();
    for n in 0..count.min(MOST_ELEMENTS) {
        match element(n) {
            Some(text) => parts.push(text),
            None if n == 0 => return None,
            None => break,
        }
    }
    if count > parts.len() as u64 {
        parts.push("...".into());
    }
    Some(format!("[{}]", parts.join(", ")))
}

/// The strings of an array of pointers up to a null one, of each the first bytes, as an `execve` is given them; 32
/// of them at most. `None` where they cannot be read.
pub fn strings_at(memory: &dyn GuestMemory, address: u64, most_bytes: usize) -> Option<Vec<Vec<u8>>> {
    let most_bytes = most_bytes.min(MOST_STRING_BYTES);
    let mut all = Vec::new();
    for n in 0..MOST_ELEMENTS {
        match u64_at(memory, address.checked_add(n * 8)?)? {
            0 => break,
            at => all.push(string(memory, at, most_bytes)?.0),
        }
    }
    Some(all)
}

/// How many variables an environment has.
pub(super) fn environment(memory: &dyn GuestMemory, address: u64) -> Option<String> {
    /// Past so many nobody counts.
    const MOST: u64 = 4096;
    let mut count = 0;
    while count < MOST && u64_at(memory, address.checked_add(count * 8)?)? != 0 {
        count += 1;
    }
    let plural = if count == 1 { "" } else { "s" };
    Some(format!("{address:#x} /* {count} var{plural} */"))
}

pub(super) fn poll_fds(memory: &dyn GuestMemory, address: u64, count: u64) -> Option<String> {
    array(count, |n| {
        let entry: [u8; 8] = bytes(memory, address.checked_add(n * 8)?)?;
        let (fd, events) = (u32_in(&entry, 0) as i32, names::poll_events(u16_in(&entry, 4)));
        Some(if fd < 0 { format!("{{fd={fd}}}") } else { format!("{{fd={fd}, events={events}}}") })
    })
}

/// Those of `poll`'s descriptors that something was said of.
pub(super) fn ready_fds(memory: &dyn GuestMemory, address: u64, count: u64) -> Option<String> {
    /// Past so many nobody looks.
    const MOST: u64 = 4096;
    let mut parts = Vec::new();
    for n in 0..count.min(MOST) {
        let entry: [u8; 8] = bytes(memory, address.checked_add(n * 8)?)?;
        let (fd, events) = (u32_in(&entry, 0) as i32, u16_in(&entry, 6));
        if events == 0 {
            continue;
        }
        if parts.len() as u64 == MOST_ELEMENTS {
            parts.push("...".into());
            break;
        }
        parts.push(format!("{{fd={fd}, revents={}}}", names::poll_events(events)));
    }
    Some(format!("[{}]", parts.join(", ")))
}

/// The descriptors of an `fd_set`.
pub(super) fn descriptors(memory: &dyn GuestMemory, address: u64, count: u64) -> Option<String> {
    /// `FD_SETSIZE`.
    const MOST: u64 = 1024;
    let count = (count as u32 as i32).max(0) as u64;
    let count = count.min(MOST);
    let mut set = [0; (MOST / 8) as usize];
    // Whole words of it are looked at.
    let len = count.div_ceil(64) as usize * 8;
    if memory.read(address, &mut set[..len]) < len {
        return None;
    }
    let fds = (0..count).filter(|fd| set[(fd / 8) as usize] >> (fd % 8) & 1 == 1);
    Some(format!("[{}]", fds.map(|fd| fd.to_string()).collect::<Vec<_>>().join(" ")))
}

/// How many entries of a directory there are in so many bytes.
pub(super) fn entries(memory: &dyn GuestMemory, address: u64, len: u64) -> Option<u64> {
    /// Offset of an entry's length (`struct linux_dirent64`, and `linux_dirent` alike).
    const LENGTH: u64 = 16;
    /// Past so many nobody counts.
    const MOST: u64 = 65_536;
    let (mut at, mut count) = (0, 0);
    while at < len && count < MOST {
        let entry: [u8; 2] = bytes(memory, address.checked_add(at)?.checked_add(LENGTH)?)?;
        let step = u64::from(u16::from_le_bytes(entry));
        if step == 0 {
            return None;
        }
        (at, count) = (at + step, count + 1);
    }
    Some(count)
}
