//! The texts of `/proc/sysvipc`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Ipc, Named};
use crate::program::current::Shared;
use crate::program::fs::ProcFile;
use crate::program::mm::AddressSpace;

const SHM: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      \
                   atime      dtime      ctime                   rss                  swap\n";
const SEM: &str = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
const MSG: &str = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      \
                   stime      rtime      ctime\n";

/// The text of a file of `/proc/sysvipc`; `None` for others.
pub fn text(file: ProcFile, ipc: &Ipc, spaces: &Shared<AddressSpace>) -> Option<Vec<u8>> {
    let text = match file {
        ProcFile::SharedMemory => shm(ipc, spaces),
        ProcFile::Semaphores => sem(ipc),
        ProcFile::MessageQueues => msg(ipc),
        _ => return None,
    };
    Some(text.into_bytes())
}

fn owners(thing: &impl Named) -> String {
    let perm = thing.perm();
    format!("{:5} {:5} {:5} {:5}", perm.uid, perm.gid, perm.creator, perm.creator_group)
}

fn shm(ipc: &Ipc, spaces: &Shared<AddressSpace>) -> String {
    let mut attached: BTreeMap<u64, u64> = BTreeMap::new();
    let vmas = spaces.iter().flat_map(|(_, space)| space.state.vmas.values());
    for (object, _) in vmas.filter_map(|vma| vma.backing.object()) {
        *attached.entry(object).or_default() += 1;
    }
    let mut out = SHM.to_string();
    for (id, s) in ipc.shm.segments.iter() {
        // To a string nothing fails.
        let _ = writeln!(
            out,
            "{:10} {id:10}  {:4o} {:21} {:5} {:5}  {:5} {} {:10} {:10} {:10} {:21} {:21}",
            s.perm.key,
            s.perm.mode,
            s.size,
            s.creator,
            s.last,
            attached.get(&s.object).unwrap_or(&0),
            owners(s),
            s.atime,
            s.dtime,
            s.ctime,
            // What is resident depends on the host.
            s.size,
            0,
        );
    }
    out
}

fn sem(ipc: &Ipc) -> String {
    let mut out = SEM.to_string();
    for (id, set) in ipc.sem.sets.iter() {
        let perm = set.perm();
        let (count, owners) = (set.semaphores.len(), owners(set));
        let _ = writeln!(
            out,
            "{:10} {id:10}  {:4o} {count:10} {owners} {:10} {:10}",
            perm.key, perm.mode, set.otime, set.ctime
        );
    }
    out
}

fn msg(ipc: &Ipc) -> String {
    let mut out = MSG.to_string();
    for (id, queue) in ipc.msg.queues.iter() {
        let perm = queue.perm();
        let _ = writeln!(
            out,
            "{:10} {id:10}  {:4o}  {:10} {:10} {:5} {:5} {} {:10} {:10} {:10}",
            perm.key,
            perm.mode,
            queue.bytes(),
            queue.count(),
            queue.sender,
            queue.receiver,
            owners(queue),
            queue.stime,
            queue.rtime,
            queue.ctime,
        );
    }
    out
}
