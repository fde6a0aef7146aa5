//! Who a process is, and what it may do: user and group ids, capabilities, and the rules by which they
//! change (`kernel/sys.c`, `security/commoncap.c`).
//!
//! There is one user namespace, in which the first program is root with all capabilities.

use serde::{Deserialize, Serialize};

use super::fs::Stat;
use crate::errno::Errno;

/// An id that is not to be changed: -1.
pub const UNCHANGED: u32 = u32::MAX;
/// Supplementary groups at most (`NGROUPS_MAX`).
pub const GROUPS_MAX: usize = 65_536;
/// The highest capability (`CAP_CHECKPOINT_RESTORE`).
pub const LAST_CAPABILITY: u32 = 40;
/// All capabilities.
const ALL: u64 = (1 << (LAST_CAPABILITY + 1)) - 1;

/// Capabilities by number (`include/uapi/linux/capability.h`), as far as they are asked for.
#[allow(missing_docs)]
pub mod cap {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const IPC_LOCK: u32 = 14;
    pub const IPC_OWNER: u32 = 15;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_NICE: u32 = 23;
    pub const SYS_RESOURCE: u32 = 24;
    pub const MKNOD: u32 = 27;
    pub const CHECKPOINT_RESTORE: u32 = 40;
}

/// What `setfsuid` gives and takes (`CAP_FS_SET`): the file capabilities, `CAP_LINUX_IMMUTABLE`,
/// `CAP_MKNOD` and `CAP_MAC_OVERRIDE`.
const FILE_CAPABILITIES: u64 = 0x1f | 1 << 9 | 1 << 27 | 1 << 32;

/// Bits of `securebits` (`include/uapi/linux/securebits.h`).
#[allow(missing_docs)]
pub mod secure {
    pub const NOROOT: u32 = 1 << 0;
    pub const NO_SETUID_FIXUP: u32 = 1 << 2;
    pub const KEEP_CAPS: u32 = 1 << 4;
    pub const KEEP_CAPS_LOCKED: u32 = 1 << 5;
    pub const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    /// All that there are, each with its lock above it.
    pub const ALL: u32 = 0xff;
    pub const LOCKS: u32 = 0xaa;
}

/// The four ids of a user, or of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Real.
    pub real: u32,
    /// Effective.
    pub effective: u32,
    /// Saved.
    pub saved: u32,
    /// For access to files.
    pub fs: u32,
}

impl Ids {
    const ROOT: Ids = Ids { real: 0, effective: 0, saved: 0, fs: 0 };

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// `setuid`; whether the caller may take any id is `privileged`.
    fn set(&mut self, id: u32, privileged: bool) -> Result<(), Errno> {
        if id == UNCHANGED {
            return Err(Errno::EINVAL);
        }
        if privileged {
            (self.real, self.saved) = (id, id);
        } else if id != self.real && id != self.saved {
            return Err(Errno::EPERM);
        }
        (self.effective, self.fs) = (id, id);
        Ok(())
    }

    /// `setreuid`.
    fn set_pair(&mut self, real: u32, effective: u32, privileged: bool) -> Result<(), Errno> {
        let old = *self;
        if real != UNCHANGED {
            if ![old.real, old.effective].contains(&real) && !privileged {
                return Err(Errno::EPERM);
            }
            self.real = real;
        }
        if effective != UNCHANGED {
            if !old.has(effective) && !privileged {
                *self = old;
                return Err(Errno::EPERM);
            }
            self.effective = effective;
        }
        if real != UNCHANGED || effective != UNCHANGED && effective != old.real {
            self.saved = self.effective;
        }
        self.fs = self.effective;
        Ok(())
    }

    /// `setresuid`.
    fn set_all(&mut self, ids: [u32; 3], privileged: bool) -> Result<(), Errno> {
        let old = *self;
        if !privileged && ids.into_iter().any(|id| id != UNCHANGED && !old.has(id)) {
            return Err(Errno::EPERM);
        }
        let or = |id: u32, old: u32| if id == UNCHANGED { old } else { id };
        self.real = or(ids[0], old.real);
        self.effective = or(ids[1], old.effective);
        self.saved = or(ids[2], old.saved);
        self.fs = self.effective;
        Ok(())
    }

    /// `setfsuid`: it has no error, and gives the id of before.
    fn set_fs(&mut self, id: u32, privileged: bool) -> u32 {
        let before = self.fs;
        if id != UNCHANGED && (self.has(id) || self.fs == id || privileged) {
            self.fs = id;
        }
        before
    }
}

/// Sets of capabilities: bit `n` for capability `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What it may make effective.
    pub permitted: u64,
    /// What counts.
    pub effective: u64,
    /// What a program that it executes may inherit.
    pub inheritable: u64,
    /// What it can ever gain by executing a program.
    pub bounding: u64,
    /// What a program without privileges keeps when it is executed.
    pub ambient: u64,
}

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// User ids.
    pub user: Ids,
    /// Group ids.
    pub group: Ids,
    /// Supplementary groups, ascending.
    pub groups: Vec<u32>,
    /// Capabilities.
    pub caps: Capabilities,
    /// [`secure`].
    pub securebits: u32,
    /// `PR_SET_NO_NEW_PRIVS`: executing a program gains nothing.
    pub no_new_privs: bool,
}

/// Root, with all capabilities: the first program.
pub static ROOT: Credentials = Credentials {
    user: Ids::ROOT,
    group: Ids::ROOT,
    groups: Vec::new(),
    caps: Capabilities { permitted: ALL, effective: ALL, inheritable: 0, bounding: ALL, ambient: 0 },
    securebits: 0,
    no_new_privs: false,
};

impl Credentials {
    /// Whether a capability is effective.
    pub fn can(&self, capability: u32) -> bool {
        self.caps.effective & 1 << capability != 0
    }

    /// Whether the process is in a group, for access to files.
    pub fn in_group(&self, group: u32) -> bool {
        self.group.fs == group || self.groups.binary_search(&group).is_ok()
    }

    /// The same with the real ids in place of those for files: what `access` looks at.
    pub fn real(&self) -> Credentials {
        let mut real = self.clone();
        (real.user.fs, real.group.fs) = (real.user.real, real.group.real);
        if real.securebits & secure::NO_SETUID_FIXUP == 0 {
            real.caps.effective = if real.user.real == 0 { real.caps.permitted } else { 0 };
        }
        real
    }

    /// Changes the user ids.
    fn change_user(&mut self, change: impl FnOnce(&mut Ids, bool) -> Result<(), Errno>) -> Result<(), Errno> {
        let old = self.user;
        let privileged = self.can(cap::SETUID);
        change(&mut self.user, privileged)?;
        self.fix_capabilities(old);
        Ok(())
    }

    /// Root's privileges go and come with its ids (`cap_emulate_setxuid`).
    fn fix_capabilities(&mut self, old: Ids) {
        if self.securebits & secure::NO_SETUID_FIXUP != 0 {
            return;
        }
        if old.has(0) && !self.user.has(0) {
            if self.securebits & secure::KEEP_CAPS == 0 {
                (self.caps.permitted, self.caps.effective) = (0, 0);
            }
            self.caps.ambient = 0;
        }
        match (old.effective == 0, self.user.effective == 0) {
            (true, false) => self.caps.effective = 0,
            (false, true) => self.caps.effective = self.caps.permitted,
            _ => {}
        }
    }

    /// `setuid`.
    ///
    /// # Errors
    /// As `setuid(2)`.
    pub fn set_user(&mut self, id: u32) -> Result<(), Errno> {
        self.change_user(|ids, privileged| ids.set(id, privileged))
    }

    /// `setreuid`.
    ///
    /// # Errors
    /// As `setreuid(2)`.
    pub fn set_user_pair(&mut self, real: u32, effective: u32) -> Result<(), Errno> {
        self.change_user(|ids, privileged| ids.set_pair(real, effective, privileged))
    }

    /// `setresuid`.
    ///
    /// # Errors
    /// As `setresuid(2)`.
    pub fn set_users(&mut self, ids: [u32; 3]) -> Result<(), Errno> {
        self.change_user(|old, privileged| old.set_all(ids, privileged))
    }

    /// `setfsuid`: the id of before.
    pub fn set_fs_user(&mut self, id: u32) -> u32 {
        let privileged = self.can(cap::SETUID);
        let before = self.user.set_fs(id, privileged);
        if self.securebits & secure::NO_SETUID_FIXUP == 0 {
            match (before == 0, self.user.fs == 0) {
                (true, false) => self.caps.effective &= !FILE_CAPABILITIES,
                (false, true) => self.caps.effective |= self.caps.permitted & FILE_CAPABILITIES,
                _ => {}
            }
        }
        before
    }

    /// `setgid`.
    ///
    /// # Errors
    /// As `setgid(2)`.
    pub fn set_group(&mut self, id: u32) -> Result<(), Errno> {
        let privileged = self.can(cap::SETGID);
        self.group.set(id, privileged)
    }

    /// `setregid`.
    ///
    /// # Errors
    /// As `setregid(2)`.
    pub fn set_group_pair(&mut self, real: u32, effective: u32) -> Result<(), Errno> {
        let privileged = self.can(cap::SETGID);
        self.group.set_pair(real, effective, privileged)
    }

    /// `setresgid`.
    ///
    /// # Errors
    /// As `setresgid(2)`.
    pub fn set_groups_ids(&mut self, ids: [u32; 3]) -> Result<(), Errno> {
        let privileged = self.can(cap::SETGID);
        self.group.set_all(ids, privileged)
    }

    /// `setfsgid`: the id of before.
    pub fn set_fs_group(&mut self, id: u32) -> u32 {
        let privileged = self.can(cap::SETGID);
        self.group.set_fs(id, privileged)
    }

    /// `setgroups`.
    pub fn set_supplementary(&mut self, mut groups: Vec<u32>) {
        groups.sort_unstable();
        self.groups = groups;
    }

    /// `capset`.
    ///
    /// # Errors
    /// `EPERM` for what the process does not have.
    pub fn set_capabilities(
        &mut self,
        effective: u64,
        permitted: u64,
        inheritable: u64,
    ) -> Result<(), Errno> {
        let (effective, permitted, inheritable) = (effective & ALL, permitted & ALL, inheritable & ALL);
        let old = self.caps;
        let within = |set: u64, of: u64| set & !of == 0;
        let may = (self.can(cap::SETPCAP) || within(inheritable, old.inheritable | old.permitted))
            && within(inheritable, old.inheritable | old.bounding)
            && within(permitted, old.permitted)
            && within(effective, permitted);
        if !may {
            return Err(Errno::EPERM);
        }
        let ambient = old.ambient & permitted & inheritable;
        self.caps = Capabilities { permitted, effective, inheritable, ambient, ..old };
        Ok(())
    }

    /// Sets `securebits`.
    ///
    /// # Errors
    /// `EPERM` for locked bits, unknown ones, and without `CAP_SETPCAP`.
    pub fn set_securebits(&mut self, bits: u64) -> Result<(), Errno> {
        let old = self.securebits;
        let bits = u32::try_from(bits).map_err(|_| Errno::EPERM)?;
        let locked = (old & secure::LOCKS) >> 1;
        let changes_locked = locked & (old ^ bits) != 0;
        let unlocks = old & secure::LOCKS & !bits != 0;
        if bits & !secure::ALL != 0 || changes_locked || unlocks || !self.can(cap::SETPCAP) {
            return Err(Errno::EPERM);
        }
        self.securebits = bits;
        Ok(())
    }

    /// What executing a file makes of them; whether the program is to be wary of whoever started it
    /// (`AT_SECURE`). Files have no capabilities of their own here.
    pub fn execute(&mut self, file: &Stat) -> bool {
        const SET_USER: u32 = 0o4000;
        /// Set-group-ID; without the group's execute bit it means something else.
        const SET_GROUP: u32 = 0o2010;
        let old = self.clone();
        if !self.no_new_privs {
            if file.mode & SET_USER != 0 {
                self.user.effective = file.uid;
            }
            if file.mode & SET_GROUP == SET_GROUP {
                self.group.effective = file.gid;
            }
        }
        let mut permitted = 0;
        let mut gains = false;
        if self.securebits & secure::NOROOT == 0 && (self.user.effective == 0 || self.user.real == 0) {
            permitted = old.caps.bounding | old.caps.inheritable;
            gains = self.user.effective == 0;
        }
        let changed = self.user.effective != old.user.real || self.group.effective != old.group.real;
        if self.no_new_privs {
            permitted &= old.caps.permitted;
        }
        (self.user.saved, self.user.fs) = (self.user.effective, self.user.effective);
        (self.group.saved, self.group.fs) = (self.group.effective, self.group.effective);
        if changed {
            self.caps.ambient = 0;
        }
        let grew = permitted & !self.caps.ambient != 0;
        self.caps.permitted = permitted | self.caps.ambient;
        self.caps.effective = if gains { self.caps.permitted } else { self.caps.ambient };
        self.securebits &= !secure::KEEP_CAPS;
        changed || self.user.real != 0 && (gains || grew)
    }

    /// Whether a change from `old` makes the process undumpable (`commit_creds`).
    pub fn gains_on(&self, old: &Credentials) -> bool {
        let ids = |c: &Credentials| [c.user.effective, c.user.fs, c.group.effective, c.group.fs];
        ids(self) != ids(old) || self.caps.permitted & !old.caps.permitted != 0
    }

    /// Whether a decoded state can be one.
    pub fn is_sound(&self) -> bool {
        let Capabilities { permitted, effective, inheritable, bounding, ambient } = self.caps;
        let sets = permitted | effective | inheritable | bounding | ambient;
        sets & !ALL == 0
            && effective & !permitted == 0
            && self.securebits & !secure::ALL == 0
            && self.groups.len() <= GROUPS_MAX
            && self.groups.is_sorted()
    }
}

/// Somebody who is not root.
#[cfg(test)]
pub fn user(uid: u32, gid: u32) -> Credentials {
    let mut who = ROOT.clone();
    who.set_group(gid).expect("root may");
    who.set_user(uid).expect("root may");
    who
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::fs::S_IFREG;

    fn file(mode: u32, uid: u32) -> Stat {
        Stat {
            mode: S_IFREG | mode,
            uid,
            dev: 0,
            ino: 0,
            nlink: 1,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            atime: 0,
            mtime: 0,
            ctime: 0,
            btime: 0,
        }
    }

    #[test]
    fn root_that_drops_its_ids_cannot_come_back() {
        let mut c = ROOT.clone();
        c.set_user(1000).unwrap();
        assert_eq!(c.user, Ids { real: 1000, effective: 1000, saved: 1000, fs: 1000 });
        assert_eq!((c.caps.permitted, c.caps.effective), (0, 0));
        assert_eq!(c.set_user(0), Err(Errno::EPERM));
        assert!(c.is_sound());
    }

    #[test]
    fn root_that_lends_its_effective_id_can() {
        let mut c = ROOT.clone();
        c.set_users([UNCHANGED, 1000, UNCHANGED]).unwrap();
        assert_eq!((c.caps.permitted, c.caps.effective), (ALL, 0));
        c.set_user(0).unwrap();
        assert_eq!((c.user.effective, c.caps.effective), (0, ALL));
    }

    #[test]
    fn capabilities_are_kept_where_that_was_asked_for() {
        let mut c = ROOT.clone();
        c.securebits |= secure::KEEP_CAPS;
        c.set_user(1000).unwrap();
        assert_eq!((c.caps.permitted, c.caps.effective), (ALL, 0));
        c.set_capabilities(1 << cap::SETUID, 1 << cap::SETUID, 0).unwrap();
        c.set_user(5).unwrap();
        assert_eq!(c.set_capabilities(ALL, ALL, 0), Err(Errno::EPERM));
    }

    #[test]
    fn the_id_for_files_takes_its_capabilities_along() {
        let mut c = ROOT.clone();
        assert_eq!(c.set_fs_user(7), 0);
        assert!(!c.can(cap::DAC_OVERRIDE) && c.can(cap::SETUID));
        assert_eq!(c.set_fs_user(0), 7);
        assert!(c.can(cap::DAC_OVERRIDE));
    }

    #[test]
    fn programs_with_the_set_id_bit() {
        let mut c = ROOT.clone();
        c.set_user(1000).unwrap();
        let mut gained = c.clone();
        assert!(gained.execute(&file(0o4755, 0)));
        assert_eq!((gained.user.real, gained.user.effective, gained.user.saved), (1000, 0, 0));
        assert_eq!(gained.caps.effective, ALL);
        c.no_new_privs = true;
        assert!(!c.execute(&file(0o4755, 0)));
        assert_eq!((c.user.effective, c.caps.effective), (1000, 0));
    }

    #[test]
    fn root_that_executes_stays_root() {
        let mut c = ROOT.clone();
        assert!(!c.execute(&file(0o755, 0)));
        assert_eq!(c, ROOT);
    }
}
