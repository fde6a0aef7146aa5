//! A directory out of a pack.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::{Member, PIECE, Pack, os};
use crate::error::Error;
use crate::home::Home;
use crate::manifest::MANIFEST_FILE;
use crate::reader::Recording;

impl Recording {
    /// Writes the files of a pack into a directory, which must be there and empty: a recording, once that has
    /// come to its end. `progress` is called now and then with the bytes done and the total.
    ///
    /// # Errors
    /// [`Error::NotAPack`]; [`Error::Pack`] for a member that is not what was packed; [`Error::Io`].
    pub fn unpack(&self, dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
        let Home::Pack(pack) = self.home() else {
            return Err(Error::NotAPack { path: self.path().to_owned() });
        };
        let total = pack.members.iter().map(|member| member.length).sum();
        let mut done = 0;
        // The manifest comes last: what has none is no recording yet.
        let mut members: Vec<&Member> = pack.members.iter().collect();
        members.sort_by_key(|member| member.name == MANIFEST_FILE.as_bytes());
        for member in members {
            pack.extract(member, dir, &mut |bytes| {
                done += bytes;
                progress(done, total);
            })?;
        }
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::io("sync", dir, e))
    }
}

impl Pack {
    fn extract(&self, member: &Member, dir: &Path, done: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let to = dir.join(os(&member.name));
        let from = self.place(&member.name);
        let read = |e: io::Error| Error::io("read", from.path(), e);
        let write = |e: io::Error| Error::io("write", &to, e);
        let mut bytes = from.open().map_err(read)?.reader();
        // As those of a recording that was made here.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to);
        let mut file = file.map_err(|e| Error::io("make", &to, e))?;
        let mut hash = Xxh3::new();
        let mut piece = vec![0; PIECE];
        loop {
            let length = bytes.read(&mut piece).map_err(read)?;
            if length == 0 {
                break;
            }
            hash.update(&piece[..length]);
            file.write_all(&piece[..length]).map_err(write)?;
            done(length as u64);
        }
        if hash.digest() != member.checksum {
            let _ = std::fs::remove_file(&to);
            return Err(self.not_what_was_packed(member));
        }
        file.sync_all().map_err(write)
    }
}
