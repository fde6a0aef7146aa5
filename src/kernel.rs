//! Starting a bare-metal guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dejavm_sandbox::guest::{Machine, MachineState};
use dejavm_sandbox::kernel::load::{self, Boot, Protocol};
use dejavm_sandbox::kernel::start::search_on;
use dejavm_sandbox::kernel::state::KernelState;
use dejavm_sandbox::machine::Memory;
use dejavm_sandbox::ram::{CHUNK_PAGES, PAGE_SIZE};
use dejavm_sandbox::world::World;

use crate::common::{Common, common_setters};
use crate::recording::{self, Taps};
use crate::{Error, Host, Sandbox};

/// Bytes of memory that a bare-metal guest has unless told otherwise.
const MEMORY: u64 = 128 << 20;

/// A bare-metal guest to be run: an ELF64 image, loaded by its physical addresses, or a bzImage.
///
/// It owns its page tables and runs at CPL 0. What it sends to its serial port (COM1) is its standard
/// output, what it sends to the debug port 0xE9 its standard error; it reads its standard input from
/// the ports of [`ports`](dejavm_sandbox::kernel::ports), and ends by the exit port.
///
/// ```no_run
/// let host = dejavm::Host::probe()?;
/// let done = dejavm::Kernel::new("target/guests/hello")
///     .memory(64 << 20)
///     .capture_output()
///     .start(&host)?
///     .run()?;
/// println!("{}", String::from_utf8_lossy(&done.stdout));
/// # Ok::<(), dejavm::Error>(())
/// ```
#[derive(Clone)]
pub struct Kernel {
    image: PathBuf,
    initrd: Option<PathBuf>,
    cmdline: Vec<u8>,
    memory: u64,
    protocol: Option<Protocol>,
    unpack: bool,
    pub(crate) common: Common,
}

impl Kernel {
    /// The image in this file of the host.
    pub fn new(image: impl Into<PathBuf>) -> Kernel {
        Kernel {
            image: image.into(),
            initrd: None,
            cmdline: Vec::new(),
            memory: MEMORY,
            protocol: None,
            unpack: false,
            common: Common::default(),
        }
    }

    /// Puts this file of the host into memory as the initial RAM disk.
    #[must_use]
    pub fn initrd(mut self, path: impl Into<PathBuf>) -> Kernel {
        self.initrd = Some(path.into());
        self
    }

    /// The command line; empty by default.
    #[must_use]
    pub fn cmdline(mut self, text: impl Into<Vec<u8>>) -> Kernel {
        self.cmdline = text.into();
        self
    }

    /// Bytes of memory, from address 0 up, rounded up to 2 MiB; 128 MiB by default, 3 GiB at most.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Kernel {
        self.memory = bytes;
        self
    }

    /// How the image is entered. By default by PVH if it is an ELF image with a PVH note, else by the
    /// Linux 64-bit boot protocol.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Kernel {
        self.protocol = Some(protocol);
        self
    }

    /// Loads the ELF image inside a bzImage, instead of letting the guest unpack it: for hosts whose
    /// KVM emulates CPL 0, where that takes minutes.
    #[must_use]
    pub fn unpack(mut self, unpack: bool) -> Kernel {
        self.unpack = unpack;
        self
    }

    common_setters!();

    /// Records the run in this directory, which is made; if it is there, it must be empty.
    #[must_use]
    pub fn record(mut self, dir: impl Into<PathBuf>) -> Kernel {
        self.common.record = Some(dir.into());
        self
    }

    /// Ends the run when the log of its recording would have more bytes than this: see
    /// [`Program::max_log`](crate::Program::max_log).
    #[must_use]
    pub fn max_log(mut self, bytes: u64) -> Kernel {
        self.common.max_log = Some(bytes);
        self
    }

    /// Loads the image. It has not run yet.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read, [`Error::Image`] when it is no image or does not fit
    /// into memory; those of the host and of the recording.
    pub fn start(self, host: &Host) -> Result<Sandbox, Error> {
        let Kernel { image, initrd, cmdline, memory, protocol, unpack, mut common } = self;
        common.machine.allocator_reads_no_clock = host.allocator_reads_no_clock();
        let mut wiring = common.wiring()?;
        let bytes = read(&image)?;
        let initrd = initrd.as_deref().map(read).transpose()?;
        let boot = Boot {
            image: &bytes,
            initrd: initrd.as_deref(),
            cmdline: &cmdline,
            memory: memory.checked_next_multiple_of(CHUNK_PAGES * PAGE_SIZE as u64).unwrap_or(memory),
            protocol,
            unpack,
        };
        let loaded = load::load(&boot).map_err(|error| Error::Image { path: image.clone(), error })?;
        let name = image.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
        let profile = host.profile();
        let search = search_on(profile, &common.machine)?;
        let state = KernelState::start(&loaded, name, cmdline, profile.cpu.clone(), search);

        let stdin = std::mem::take(&mut common.stdin);
        let world: Box<dyn World> = Box::new(wiring.host_world(Vec::new(), Vec::new(), stdin)?);
        let pages = state.pages();
        let state = MachineState::Kernel(Box::new(state));
        let taps = match &common.record {
            Some(dir) => recording::of_start(dir, &state, &loaded.memory, pages, world, common.log_limits())?,
            None => Taps::none(world),
        };
        let Taps { world, observer, recording } = taps;
        let machine = Machine::start(
            state,
            Memory::Source(Arc::new(loaded.memory)),
            world,
            host.profile().clone(),
            wiring.stop.clone(),
            &common.machine,
        );
        Sandbox::assemble(machine, observer, recording, None, wiring, common)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Io { what: "read", path: path.to_owned(), source })
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").field("image", &self.image).finish_non_exhaustive()
    }
}
