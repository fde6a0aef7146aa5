//! Control messages: what goes along with the data of a message (`net/core/scm.c`).

use crate::errno::Errno;
use crate::program::credentials::{Credentials, cap};
use crate::program::net::Ucred;

const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// Descriptors that one message passes at most (`SCM_MAX_FD`).
const FDS_MAX: usize = 253;
/// Bytes of `struct cmsghdr`.
const HEADER: usize = 16;
/// What control messages are aligned to.
const ALIGN: usize = 8;

/// What a program asks to go along with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Descriptors to pass.
    pub fds: Vec<i32>,
    /// Whom the message is to be of.
    pub creds: Option<Ucred>,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

impl Asked {
    /// Takes control messages apart (`__scm_send`).
    ///
    /// # Errors
    /// `EINVAL`
    pub fn of(control: &[u8]) -> Result<Asked, Errno> {
        let mut asked = Asked::default();
        let mut left = control;
        while let Some((len, _)) = left.split_first_chunk::<8>().filter(|_| left.len() >= HEADER) {
            let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
            if len < HEADER || len > left.len() {
                return Err(Errno::EINVAL);
            }
            let (level, kind, data) = (word(left, 8), word(left, 12), &left[HEADER..len]);
            if level == SOL_SOCKET {
                asked.add(kind, data)?;
            }
            left = left.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        }
        Ok(asked)
    }

    fn add(&mut self, kind: u32, data: &[u8]) -> Result<(), Errno> {
        match kind {
            SCM_RIGHTS => {
                self.fds.extend(data.as_chunks::<4>().0.iter().map(|fd| i32::from_le_bytes(*fd)));
                if self.fds.len() > FDS_MAX { Err(Errno::EINVAL) } else { Ok(()) }
            }
            SCM_CREDENTIALS if data.len() == 12 => {
                self.creds = Some(Ucred { pid: word(data, 0), uid: word(data, 4), gid: word(data, 8) });
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Whether a process may say that a message is of somebody (`scm_check_creds`).
pub(super) fn may_claim(creds: Ucred, pid: u32, who: &Credentials) -> bool {
    let one_of =
        |id: u32, ids: crate::program::credentials::Ids| [ids.real, ids.effective, ids.saved].contains(&id);
    (creds.pid == pid || who.can(cap::SYS_ADMIN))
        && (one_of(creds.uid, who.user) || who.can(cap::SETUID))
        && (one_of(creds.gid, who.group) || who.can(cap::SETGID))
}

/// The control messages that a program receives, in a buffer of its size.
#[derive(Clone, Debug)]
pub(super) struct Control {
    bytes: Vec<u8>,
    room: usize,
    /// Something did not fit (`MSG_CTRUNC`).
    pub cut: bool,
}

impl Control {
    /// For a buffer of so many bytes.
    pub fn new(room: u64) -> Control {
        Control { bytes: Vec::new(), room: usize::try_from(room).unwrap_or(usize::MAX), cut: false }
    }

    /// What is to be written to the buffer.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn left(&self) -> usize {
        self.room.saturating_sub(self.bytes.len())
    }

    /// Descriptors that there is room for.
    pub fn fds(&self) -> usize {
        self.left().saturating_sub(HEADER) / 4
    }

    /// Adds a message, or what there is room for of it (`put_cmsg`).
    fn put(&mut self, kind: u32, data: &[u8]) {
        let left = self.left();
        if left < HEADER {
            self.cut = true;
            return;
        }
        let len = (HEADER + data.len()).min(left);
        self.cut |= len < HEADER + data.len();
        self.bytes.extend((len as u64).to_le_bytes());
        self.bytes.extend(SOL_SOCKET.to_le_bytes());
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(&data[..len - HEADER]);
        let padding = (len.next_multiple_of(ALIGN) - len).min(left - len);
        self.bytes.extend(std::iter::repeat_n(0, padding));
    }

    /// Adds who sent the message.
    pub fn put_creds(&mut self, creds: Ucred) {
        self.put(SCM_CREDENTIALS, &creds.to_bytes());
    }

    /// Adds the numbers of those descriptors that were installed, out of `count` that came.
    pub fn put_fds(&mut self, fds: &[i32], count: usize) {
        if !fds.is_empty() {
            let bytes: Vec<u8> = fds.iter().flat_map(|fd| fd.to_le_bytes()).collect();
            self.put(SCM_RIGHTS, &bytes);
        }
        self.cut |= fds.len() < count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut control = Control::new(2000);
        control.put(kind, data);
        control.bytes
    }

    #[test]
    fn control_messages_are_taken_apart() {
        let fds = [5i32.to_le_bytes(), 7i32.to_le_bytes(), 9i32.to_le_bytes()].concat();
        let creds = Ucred { pid: 2, uid: 3, gid: 4 };
        let both = [message(SCM_RIGHTS, &fds), message(SCM_CREDENTIALS, &creds.to_bytes())].concat();
        assert_eq!(Asked::of(&both), Ok(Asked { fds: vec![5, 7, 9], creds: Some(creds) }));
        assert_eq!(Asked::of(&both[..both.len() - 5]), Err(Errno::EINVAL));
        assert_eq!(Asked::of(&[]), Ok(Asked::default()));
        // What is too short for a header is no message.
        assert_eq!(Asked::of(&[1; 15]), Ok(Asked::default()));
        assert_eq!(Asked::of(&[1; 16]), Err(Errno::EINVAL));
        assert_eq!(Asked::of(&[0xff; 16]), Err(Errno::EINVAL));
        assert_eq!(Asked::of(&message(9, &[])), Err(Errno::EINVAL));
        assert_eq!(Asked::of(&message(SCM_CREDENTIALS, &[0; 8])), Err(Errno::EINVAL));
        assert_eq!(Asked::of(&message(SCM_RIGHTS, &[0; 4 * 254])), Err(Errno::EINVAL));
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        let mut control = Control::new(24);
        assert_eq!(control.fds(), 2);
        control.put_fds(&[3, 4], 3);
        assert_eq!((control.bytes().len(), control.cut, control.fds()), (24, true, 0));
        control.put_creds(Ucred::UNKNOWN);
        assert_eq!(control.bytes().len(), 24);
        let mut control = Control::new(20);
        control.put_creds(Ucred { pid: 1, uid: 2, gid: 3 });
        assert_eq!((control.bytes().len(), control.cut, control.bytes()[0]), (20, true, 20));
        let mut control = Control::new(15);
        control.put_fds(&[], 1);
        assert_eq!((control.bytes().len(), control.cut, control.fds()), (0, true, 0));
    }
}
