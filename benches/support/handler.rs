//! What is compared with: guest memory registered with a userfaultfd for missing pages, and
//! threads that read its events, and install the pages that are waited for. As it is usually done
//! for lazily restored virtual machines; nothing of it is in the product.
//!
//! It is given every advantage: the reader's buffers are made beforehand, one call fetches up to
//! sixteen events, a lone reader sleeps in `read` itself, and several are woken one at a time.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::ram::{Marking, PAGE_SIZE, Ram, Zeros};
use dejavm_snapshot::{PageReader, Snapshot};
use kvm_bindings::kvm_userspace_memory_region;

use super::Result;
use super::guest::{Done, Guest, RAM_BASE, Touch};
use super::place::pin;

// Linux `include/uapi/linux/userfaultfd.h`.
const UFFD_API: u64 = 0xaa;
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_COPY: libc::c_ulong = 0xc028_aa03;
const REGISTER_MISSING: u64 = 1;
const EVENT_PAGEFAULT: u8 = 0x12;
/// Bytes of `struct uffd_msg`, and where a page fault's address stands in it.
const MESSAGE: usize = 32;
const MESSAGE_ADDRESS: usize = 16;
/// Events fetched by one call.
const BATCH: usize = 16;

/// KVM's number for the one memory slot: beyond those of the product's system area.
const SLOT: u32 = 600;

/// Where the guest's code lies, guest-physical: beyond any memory that is handled here.
const CODE_BASE: u64 = 1 << 38;

/// Who reads the events, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One thread, wherever the scheduler puts it.
    Scheduler,
    /// One thread, on the CPU of the first vCPU; vCPUs are spread over the CPUs.
    Pinned,
    /// One thread a vCPU on one descriptor, wherever the scheduler puts them.
    Readers,
    /// One thread and one descriptor a vCPU, both on the same CPU.
    PinnedReaders,
}

impl Placement {
    fn pins(self) -> bool {
        matches!(self, Placement::Pinned | Placement::PinnedReaders)
    }
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Anonymous memory, unmapped when dropped.
struct Mapping {
    address: u64,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Mapping> {
        // SAFETY: a new anonymous mapping, at an address that the kernel chooses.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range was just mapped.
        check(unsafe { libc::madvise(at, len, libc::MADV_NOHUGEPAGE) })?;
        Ok(Mapping { address: at as u64, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, unmapped once, and no reference into it was ever made.
        unsafe { libc::munmap(self.address as *mut libc::c_void, self.len) };
    }
}

/// A userfaultfd for faults of the kernel too, since those of a guest are KVM's: it takes privilege.
struct Events {
    file: File,
}

impl Events {
    fn open(nonblocking: bool) -> io::Result<Events> {
        let flags = libc::O_CLOEXEC | if nonblocking { libc::O_NONBLOCK } else { 0 };
        // SAFETY: takes flags alone.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else's.
        let file = unsafe { File::from_raw_fd(fd as i32) };
        let mut api = [UFFD_API, 0, 0];
        // SAFETY: `api` is as large as `struct uffdio_api`.
        check(unsafe { libc::ioctl(file.as_raw_fd(), UFFDIO_API, &mut api) })?;
        Ok(Events { file })
    }

    fn register(&self, start: u64, len: u64) -> io::Result<()> {
        let mut arg = [start, len, REGISTER_MISSING, 0];
        // SAFETY: `arg` is as large as `struct uffdio_register`.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), UFFDIO_REGISTER, &mut arg) })
    }

    /// Installs a page and wakes who waits for it; one that is there already is left alone.
    fn install(&self, start: u64, page: &[u8; PAGE_SIZE]) -> io::Result<()> {
        let mut arg = [start, page.as_ptr() as u64, PAGE_SIZE as u64, 0, 0];
        // SAFETY: `arg` is as large as `struct uffdio_copy`, and its source is `page`.
        match check(unsafe { libc::ioctl(self.file.as_raw_fd(), UFFDIO_COPY, &mut arg) }) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            result => result,
        }
    }

    /// Sleeps until there are events, of all that sleep here the only one to be woken.
    fn sleeper(&self) -> io::Result<OwnedFd> {
        // SAFETY: takes flags alone.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        check(fd)?;
        // SAFETY: the descriptor is new, and nobody else's.
        let sleeper = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32, u64: 0 };
        // SAFETY: both descriptors are open and `event` is valid for the call.
        check(unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_ADD, self.file.as_raw_fd(), &mut event) })?;
        Ok(sleeper)
    }
}

/// What a reader thread has.
struct Reader<'a> {
    events: &'a Events,
    /// Present when several readers share the descriptor.
    sleeper: Option<OwnedFd>,
    pages: PageReader,
    ram: u64,
    /// The end of the RAM; a fault of a page behind it ends the reader.
    end: u64,
}

impl Reader<'_> {
    fn run(mut self) -> Result<()> {
        let mut messages = [0u8; MESSAGE * BATCH];
        let mut page = [0u8; PAGE_SIZE];
        // Readers that share a descriptor leave the other events to each other.
        let batch = if self.sleeper.is_some() { MESSAGE } else { messages.len() };
        loop {
            if let Some(sleeper) = &self.sleeper {
                let mut event = libc::epoll_event { events: 0, u64: 0 };
                // SAFETY: there is room for one event.
                check(unsafe { libc::epoll_wait(sleeper.as_raw_fd(), &mut event, 1, -1) })?;
            }
            let read = match (&self.events.file).read(&mut messages[..batch]) {
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Err(e) => return Err(e.into()),
            };
            for message in messages[..read].as_chunks::<MESSAGE>().0 {
                if message[0] != EVENT_PAGEFAULT {
                    return Err(format!("an event of kind {:#x}", message[0]).into());
                }
                let word = &message[MESSAGE_ADDRESS..MESSAGE_ADDRESS + 8];
                let address = u64::from_le_bytes(word.try_into()?) & !(PAGE_SIZE as u64 - 1);
                if address >= self.end {
                    self.events.install(address, &page)?;
                    return Ok(());
                }
                self.pages.read((address - self.ram) / PAGE_SIZE as u64, &mut page)?;
                self.events.install(address, &page)?;
            }
        }
    }
}

/// Whether this process may handle a guest's faults at all.
pub fn is_allowed() -> bool {
    Events::open(false).is_ok()
}

/// Runs the guest over memory that is filled by reader threads.
pub fn run(
    profile: &Arc<HostProfile>,
    snapshot: &Arc<Snapshot>,
    touch: Touch,
    lists: &[Vec<u64>],
    placement: Placement,
) -> Result<(std::time::Duration, Vec<Done>)> {
    let guest = Guest::new(profile, touch, lists, |vm| {
        // The product's memory has no part in this but for the page that holds the code.
        Ok(Ram::new(vm.clone(), CODE_BASE, 1, Marking::Eager, Arc::new(Zeros))?)
    })?;
    let bytes = snapshot.page_count() * PAGE_SIZE as u64;
    let readers =
        if matches!(placement, Placement::Readers | Placement::PinnedReaders) { lists.len() } else { 1 };
    let mapping = Mapping::new(bytes as usize + readers * PAGE_SIZE)?;
    let stop = |reader: usize| mapping.address + bytes + (reader * PAGE_SIZE) as u64;

    let shared = placement == Placement::Readers && readers > 1;
    let descriptors = if placement == Placement::PinnedReaders { readers } else { 1 };
    let events: Vec<Events> = (0..descriptors).map(|_| Events::open(shared)).collect::<io::Result<_>>()?;
    for (i, list) in lists.iter().enumerate() {
        let first = list.iter().min().ok_or("an empty list")? * PAGE_SIZE as u64;
        events[i % descriptors].register(mapping.address + first, list.len() as u64 * PAGE_SIZE as u64)?;
    }
    for reader in 0..readers {
        events[reader % descriptors].register(stop(reader), PAGE_SIZE as u64)?;
    }

    let region = kvm_userspace_memory_region {
        slot: SLOT,
        flags: 0,
        guest_phys_addr: RAM_BASE,
        memory_size: bytes,
        userspace_addr: mapping.address,
    };
    // SAFETY: the mapping outlives the machine's vCPUs, which `Guest::run` drops.
    unsafe { guest.vm.set_user_memory_region(region) }?;

    let result = std::thread::scope(|scope| -> Result<_> {
        let mut threads = Vec::new();
        for i in 0..readers {
            let events = &events[i % descriptors];
            let reader = Reader {
                events,
                sleeper: if shared { Some(events.sleeper()?) } else { None },
                pages: PageReader::new(snapshot.clone())?,
                ram: mapping.address,
                end: stop(0),
            };
            let pinned = placement.pins().then_some(i);
            threads.push(scope.spawn(move || {
                if let Some(vcpu) = pinned {
                    pin(vcpu);
                }
                if let Err(e) = reader.run() {
                    // The vCPUs would wait for ever.
                    eprintln!("a handler thread failed: {e}");
                    std::process::exit(1);
                }
            }));
        }
        let result = guest.run(|vcpu| {
            if placement.pins() {
                pin(vcpu);
            }
        });
        // Each reader takes one fault of a stop page, whichever it is that it gets.
        for (i, _) in threads.iter().enumerate() {
            // SAFETY: the page is mapped; the read waits until a reader has installed it.
            unsafe { (stop(i) as *const u8).read_volatile() };
        }
        result
    });
    drop(guest);
    result
}
