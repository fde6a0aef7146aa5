//! What lies in the queues of sockets, and their names.

use serde::{Deserialize, Serialize};

use super::PASSED_BYTES;
use crate::errno::Errno;
use crate::program::files::DescId;
use crate::program::fs::InodeId;

/// `AF_UNIX`, as an address starts with it.
const FAMILY: [u8; 2] = 1u16.to_le_bytes();
/// Bytes of a name at most (`sun_path`); with its end, that of a file has one more.
const NAME_BYTES: usize = 108;

/// The name of a socket: what an address has behind its family. One of a file ends with a NUL, an abstract
/// one begins with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Name(Vec<u8>);

/// What an address names instead of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameError {
    /// The family alone: any free name.
    Any,
    /// `AF_UNSPEC`: no address.
    None,
    /// It is no address.
    Invalid,
}

impl Name {
    /// Takes an address (`unix_validate_addr`).
    ///
    /// # Errors
    /// What it is instead.
    pub fn of_address(address: &[u8]) -> Result<Name, NameError> {
        let (family, name) = match address.split_first_chunk::<2>() {
            Some((family, name)) if name.len() <= NAME_BYTES => (*family, name),
            Some((&[0, 0], _)) => return Err(NameError::None),
            _ => return Err(NameError::Invalid),
        };
        match name {
            _ if family == [0, 0] => Err(NameError::None),
            _ if family != FAMILY => Err(NameError::Invalid),
            [] => Err(NameError::Any),
            [0, ..] => Ok(Name(name.to_vec())),
            _ => {
                let path = name.split(|byte| *byte == 0).next().unwrap_or_default();
                Ok(Name([path, &[0]].concat()))
            }
        }
    }

    /// An abstract name that the kernel chooses (`unix_autobind`).
    pub fn automatic(number: u32) -> Name {
        Name(format!("\0{:05x}", number & 0xf_ffff).into_bytes())
    }

    /// The path of the file that it names; `None` for an abstract name.
    pub fn path(&self) -> Option<&[u8]> {
        match self.0.split_last() {
            Some((0, path)) if !path.is_empty() && path[0] != 0 => Some(path),
            _ => None,
        }
    }

    /// The address of a socket with this name, or without one.
    pub fn address(name: Option<&Name>) -> Vec<u8> {
        [&FAMILY[..], name.map_or(&[], |name| &name.0)].concat()
    }

    /// What `/proc/net/unix` calls it.
    pub fn text(&self) -> Vec<u8> {
        let name = self.path().unwrap_or(&self.0);
        name.iter().map(|byte| if *byte == 0 { b'@' } else { *byte }).collect()
    }

    /// Whether it can be one: for a state out of a file.
    pub fn is_sound(&self) -> bool {
        match self.0.first() {
            None => false,
            Some(0) => self.0.len() <= NAME_BYTES,
            Some(_) => {
                self.0.len() <= NAME_BYTES + 1
                    && self.0.iter().position(|b| *b == 0) == Some(self.0.len() - 1)
            }
        }
    }
}

impl From<NameError> for Errno {
    fn from(_: NameError) -> Errno {
        Errno::EINVAL
    }
}

/// Who sent something (`struct ucred`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ucred {
    /// Its process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl Ucred {
    /// Of a message that says nothing of its sender: no process, and the ids of nobody.
    pub const UNKNOWN: Ucred = Ucred { pid: 0, uid: 65534, gid: 65534 };
    /// Of a socket without a peer.
    pub const NONE: Ucred = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };

    /// As a program reads it.
    pub fn to_bytes(self) -> [u8; 12] {
        let words = [self.pid, self.uid, self.gid].map(u32::to_le_bytes);
        std::array::from_fn(|i| words[i / 4][i % 4])
    }
}

/// A message, or a part of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    /// The socket whose buffer it counts in. It may be gone.
    pub from: InodeId,
    /// The sender's name.
    pub name: Option<Name>,
    pub data: Vec<u8>,
    /// Bytes of it that were received, of a stream.
    pub read: usize,
    /// Who sent it, if anybody is to know.
    pub creds: Option<Ucred>,
    /// Descriptions that travel in it.
    pub passed: Vec<DescId>,
    /// Bytes of `data` that lie in pages, not behind the buffer's head.
    pub paged: u32,
}

impl Message {
    /// Bytes that it takes of its sender's buffer (`skb->truesize`).
    pub fn size(&self) -> u64 {
        let paged = u64::from(self.paged).min(self.data.len() as u64);
        true_size(self.data.len() as u64 - paged, paged)
    }

    /// Bytes that it takes of the quota.
    pub fn cost(&self) -> u64 {
        self.size() + self.passed.len() as u64 * PASSED_BYTES
    }

    /// What of it was not received yet.
    pub fn unread(&self) -> &[u8] {
        self.data.get(self.read..).unwrap_or_default()
    }

    /// Whether it can be one: for a state out of a file.
    pub fn is_sound(&self) -> bool {
        self.paged as usize <= self.data.len()
            && (self.read == 0 || self.read < self.data.len())
            && self.name.as_ref().is_none_or(Name::is_sound)
    }
}

/// What a message takes of its sender's buffer: its head, from the kernel's allocator with what is shared
/// between copies behind it, and whole pages.
fn true_size(head: u64, paged: u64) -> u64 {
    /// `struct sk_buff`.
    const HEAD: u64 = 256;
    /// `struct skb_shared_info`.
    const SHARED: u64 = 320;
    /// What data is aligned to (`SMP_CACHE_BYTES`).
    const LINE: u64 = 64;
    const PAGE: u64 = 4096;
    HEAD + (head.next_multiple_of(LINE) + SHARED).next_power_of_two() + paged.next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &[u8]) -> Vec<u8> {
        [&FAMILY[..], name].concat()
    }

    #[test]
    fn addresses_are_names() {
        let of = |bytes: &[u8]| Name::of_address(&address(bytes));
        let file = of(b"/run/a\0rest").unwrap();
        assert_eq!((file.path(), file.is_sound()), (Some(&b"/run/a"[..]), true));
        assert_eq!(Name::address(Some(&file)), address(b"/run/a\0"));
        assert_eq!(of(b"/run/a").unwrap(), file);
        let hidden = of(b"\0a\0b").unwrap();
        assert_eq!((hidden.path(), hidden.is_sound(), hidden.text()), (None, true, b"@a@b".to_vec()));
        assert_eq!(of(b"").unwrap_err(), NameError::Any);
        assert_eq!(Name::of_address(&[1]).unwrap_err(), NameError::Invalid);
        assert_eq!(Name::of_address(&[2, 0, 1]).unwrap_err(), NameError::Invalid);
        assert_eq!(Name::of_address(&[0, 0]).unwrap_err(), NameError::None);
        assert_eq!(of(&[b'a'; 109]).unwrap_err(), NameError::Invalid);
        let longest = of(&[b'a'; 108]).unwrap();
        assert_eq!((longest.is_sound(), Name::address(Some(&longest)).len()), (true, 111));
        // A path of a NUL alone is an abstract name.
        assert_eq!(of(b"\0").unwrap().path(), None);
        assert_eq!(Name::address(None), FAMILY);
    }

    #[test]
    fn small_messages_take_more_than_their_bytes() {
        assert_eq!(true_size(1, 0), 768);
        assert_eq!(true_size(192, 0), 768);
        assert_eq!(true_size(193, 0), 1280);
        assert_eq!(true_size(0, 4096), 768 + 4096);
    }
}
