//! Address spaces that come and go, and what they hold of files.

use super::error::SysError;
use super::fs::{FsError, FsResult, InodeId};
use super::kernel::Kernel;
use super::mm::{AddressSpace, Held, SpaceState, is_anonymous_object};
use crate::errno::Errno;
use crate::ram::PageError;

impl Kernel {
    /// Makes an empty address space, in which the entry stubs are mapped.
    ///
    /// # Errors
    /// When there is no memory for its page tables.
    pub fn new_space(&mut self) -> Result<AddressSpace, PageError> {
        let mut space = AddressSpace::new(&mut self.memory, SpaceState::default())?;
        self.entry.map(&mut self.memory, &mut space)?;
        Ok(space)
    }

    /// Gives the running task an empty address space of its own.
    ///
    /// # Errors
    /// When there is no memory for its page tables, or the host refuses.
    pub fn leave_space(&mut self) -> Result<(), SysError> {
        let empty = self.new_space()?;
        let before = std::mem::replace(&mut self.task.space, self.space.add(empty));
        self.space.switch(self.task.space);
        self.release_space(before, self.pid())
    }

    /// A copy of the running task's address space, for a task that is being made: gives its number.
    ///
    /// # Errors
    /// `ENOMEM`; and what ends the run.
    pub fn fork_space(&mut self) -> Result<u32, SysError> {
        let mut copy = self.new_space()?;
        if !self.space.fork(&mut self.memory, &mut copy)? {
            copy.retire(&mut self.memory)?;
            return Err(Errno::ENOMEM.into());
        }
        let mut fs = self.outside.fs();
        copy.state.contents.iter().for_each(|content| fs.hold_frozen(*content));
        let held = copy.state.files.values().chain(&copy.state.image.executable);
        held.for_each(|inode| fs.hold(*inode));
        drop(fs);
        self.note_forked();
        // Replaced instructions are answered on the clock page at once: it must not be lent then.
        self.clock.advance(&mut self.memory, &mut self.space, 0)?;
        Ok(self.space.add(copy))
    }

    /// One task less, of this process, has an address space, which is not the current one: when it was the
    /// last, all that is in it goes.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn release_space(&mut self, id: u32, pid: u32) -> Result<(), SysError> {
        let Some(mut space) = self.space.release(id) else { return Ok(()) };
        let contents = std::mem::take(&mut space.state.contents);
        let files = std::mem::take(&mut space.state.files);
        let executable = space.state.image.executable.take();
        space.clear(&mut self.memory)?;
        contents.into_iter().for_each(|content| self.outside.fs().release_frozen(content));
        for (object, inode) in files {
            self.unmap_object(object, Some(inode), pid)?;
        }
        for held in space.take_lost() {
            if let Held::Object(object) = held {
                self.unmap_object(object, None, pid)?;
            }
        }
        if let Some(inode) = executable {
            self.with_files(|fs, _, env, _| fs.release(env, inode))?;
        }
        space.retire(&mut self.memory)?;
        Ok(())
    }

    /// Gives back file contents and shared objects that nothing in the running task's address space maps
    /// any more.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn release_unmapped(&mut self) -> Result<(), SysError> {
        for held in self.space.take_lost() {
            match held {
                Held::Content(content) => {
                    if self.space.state.contents.remove(&content) {
                        self.outside.fs().release_frozen(content);
                    }
                }
                Held::Object(object) => {
                    let inode = self.space.state.files.remove(&object);
                    self.unmap_object(object, inode, self.pid())?;
                }
            }
        }
        Ok(())
    }

    /// An address space of a process has no mapping of an object any more; `inode` is the file that it held
    /// for that.
    fn unmap_object(&mut self, object: u64, inode: Option<InodeId>, pid: u32) -> Result<(), SysError> {
        if !self.memory.state.objects.contains_key(&object) {
            return Ok(());
        }
        let mapped = self.space.iter().any(|(_, space)| space.maps_object(object));
        match inode {
            // The file goes on without a mapping; if there is no room outside guest memory, it
            // stays where it is.
            Some(inode) => self.with_files(|fs, _, env, _| -> FsResult<()> {
                if !mapped {
                    unshare(fs.make_unshared(env, inode))?;
                }
                fs.release(env, inode)
            })?,
            None if is_anonymous_object(object) && self.note_unmapped(object, mapped, pid) => {
                self.memory.drop_object(object)?;
            }
            None => {}
        }
        Ok(())
    }
}

fn unshare(result: FsResult<()>) -> FsResult<()> {
    match result {
        Err(FsError::Errno(_)) => Ok(()),
        other => other,
    }
}
