//! `rename`.

use super::Fs;
use super::env::{Env, look};
use super::error::{FsResult, fail};
use super::inode::{Entry, InodeId, Place};
use super::life::name_cost;
use super::permission::W_OK;
use super::proc::ProcNode;
use super::resolve::{At, Last, Parent};
use crate::errno::Errno;

/// Where a directory lies to another one.
enum Relation {
    Apart,
    /// It holds the other one, at whatever depth.
    Above,
}

impl Fs {
    /// Lets two names change places (`RENAME_EXCHANGE`).
    ///
    /// # Errors
    /// As `renameat2(2)`.
    pub fn exchange(
        &mut self,
        env: &mut Env<'_>,
        (old_at, old_path): (At<'_>, &[u8]),
        (new_at, new_path): (At<'_>, &[u8]),
    ) -> FsResult<()> {
        let old = self.parent(env, old_at, old_path)?;
        let new = self.parent(env, new_at, new_path)?;
        if self.place_of(old.dir)? != self.place_of(new.dir)? {
            return fail(Errno::EXDEV);
        }
        let (Last::Name(old_name), Last::Name(new_name)) = (&old.last, &new.last) else {
            return fail(Errno::EBUSY);
        };
        let mut found = Vec::with_capacity(2);
        for (at, parent, name) in [(old_at, &old, old_name), (new_at, &new, new_name)] {
            let Some(id) = self.child(env, at, parent.dir, name)? else {
                return fail(Errno::ENOENT);
            };
            found.push(id);
        }
        let (first, second) = (found[0], found[1]);
        for (id, parent) in [(second, &new), (first, &old)] {
            if parent.slash && !self.is_dir(id) {
                return fail(Errno::ENOTDIR);
            }
        }
        for (id, dir) in [(first, new.dir), (second, old.dir)] {
            if self.is_dir(id) && matches!(self.relation(env, id, dir)?, Relation::Above) {
                return fail(Errno::EINVAL);
            }
        }
        if first == second {
            return Ok(());
        }
        for (dir, id) in [(old.dir, first), (new.dir, second)] {
            self.expect_changeable(dir)?;
            self.expect_may_remove(env, dir, id)?;
            self.expect_removable(dir, id)?;
            if self.is_dir(id) && old.dir != new.dir {
                // Its `..` changes.
                self.expect_permission(env, id, W_OK)?;
            }
        }
        let back = self.given_back(old.dir, old_name)? + self.given_back(new.dir, new_name)?;
        self.chunks.expect(name_cost(old_name) + name_cost(new_name), back)?;
        self.take_name(env, old.dir, old_name)?;
        self.take_name(env, new.dir, new_name)?;
        self.add_name(env, new.dir, new_name, first)?;
        self.add_name(env, old.dir, old_name, second)
    }

    /// What the quota gets back when a name goes.
    fn given_back(&self, dir: InodeId, name: &[u8]) -> FsResult<u64> {
        match self.dir(dir)?.entries.get(name) {
            Some(Entry::Node { charged: true, .. }) => Ok(name_cost(name)),
            _ => Ok(0),
        }
    }

    /// Renames. With `keep` (`RENAME_NOREPLACE`) an existing target is an error.
    ///
    /// # Errors
    /// As `renameat2(2)`.
    pub fn rename(
        &mut self,
        env: &mut Env<'_>,
        (old_at, old_path): (At<'_>, &[u8]),
        (new_at, new_path): (At<'_>, &[u8]),
        keep: bool,
    ) -> FsResult<()> {
        let old = self.parent(env, old_at, old_path)?;
        let new = self.parent(env, new_at, new_path)?;
        if self.place_of(old.dir)? != self.place_of(new.dir)? {
            return fail(Errno::EXDEV);
        }
        let Last::Name(old_name) = &old.last else {
            return fail(Errno::EBUSY);
        };
        let Last::Name(new_name) = &new.last else {
            return fail(if keep { Errno::EEXIST } else { Errno::EBUSY });
        };
        let Some(source) = self.child(env, old_at, old.dir, old_name)? else {
            return fail(Errno::ENOENT);
        };
        let target = self.child(env, new_at, new.dir, new_name)?;
        if keep && target.is_some() {
            return fail(Errno::EEXIST);
        }
        let source_is_dir = self.is_dir(source);
        if !source_is_dir && (old.slash || new.slash) {
            return fail(Errno::ENOTDIR);
        }
        if source_is_dir && matches!(self.relation(env, source, new.dir)?, Relation::Above) {
            return fail(Errno::EINVAL);
        }
        if let Some(target) = target
            && self.is_dir(target)
            && matches!(self.relation(env, target, old.dir)?, Relation::Above)
        {
            return fail(Errno::ENOTEMPTY);
        }
        if target == Some(source) {
            return Ok(());
        }
        self.expect_may_remove(env, old.dir, source)?;
        match target {
            Some(target) => self.expect_may_remove(env, new.dir, target)?,
            None => self.expect_writable_dir(env, new.dir)?,
        }
        if source_is_dir && old.dir != new.dir {
            // Its `..` changes.
            self.expect_permission(env, source, W_OK)?;
        }
        self.expect_changeable(old.dir)?;
        self.expect_changeable(new.dir)?;
        self.expect_removable(old.dir, source)?;
        if let Some(target) = target {
            self.expect_replaceable(env, source_is_dir, &new, target)?;
        }

        // What can fail for want of room is found out before anything is changed.
        self.expect_room(&old, old_name, &new, new_name)?;
        let replaced = match target {
            Some(_) => Some(self.take_name(env, new.dir, new_name)?),
            None => None,
        };
        self.take_name(env, old.dir, old_name)?;
        self.add_name(env, new.dir, new_name, source)?;
        if let Some(replaced) = replaced {
            self.drop_if_unused(env, replaced)?;
        }
        Ok(())
    }

    fn expect_room(&mut self, old: &Parent, old_name: &[u8], new: &Parent, new_name: &[u8]) -> FsResult<()> {
        let back = self.given_back(old.dir, old_name)? + self.given_back(new.dir, new_name)?;
        Ok(self.chunks.expect(name_cost(new_name), back)?)
    }

    fn expect_replaceable(
        &mut self,
        env: &mut Env<'_>,
        source_is_dir: bool,
        new: &Parent,
        target: InodeId,
    ) -> FsResult<()> {
        match (source_is_dir, self.is_dir(target)) {
            (true, false) => return fail(Errno::ENOTDIR),
            (false, true) => return fail(Errno::EISDIR),
            _ => {}
        }
        self.expect_removable(new.dir, target)?;
        if source_is_dir { self.expect_empty(env, target) } else { Ok(()) }
    }

    fn place_of(&self, dir: InodeId) -> FsResult<Place> {
        match ProcNode::of(dir) {
            Some(_) => Ok(Place::Proc),
            None => Ok(self.inode(dir)?.place),
        }
    }

    /// Where directory `a` lies to directory `b`.
    fn relation(&self, env: &Env<'_>, a: InodeId, b: InodeId) -> FsResult<Relation> {
        /// Directories on the way up after which the deadline is looked at.
        const LOOK: u64 = 4096;
        let mut at = b;
        for depth in 1u64.. {
            if depth.is_multiple_of(LOOK) {
                look(env.caller)?;
            }
            if at == a {
                return Ok(Relation::Above);
            }
            if at == self.root || ProcNode::of(at).is_some() {
                return Ok(Relation::Apart);
            }
            // A removed directory's parent may be gone.
            match self.inodes.get(&at) {
                Some(inode) if inode.parent != at => at = inode.parent,
                _ => return Ok(Relation::Apart),
            }
        }
        Ok(Relation::Apart)
    }
}
