//! What every sandbox needs to know of its host: found out once, by a tiny guest, and shared.

use std::arch::x86_64::__cpuid_count;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use super::known::{Found, Known};
use super::tiny::{Event, Ring, START, Tiny};
use super::walker;
use crate::ram::uffd::{FEATURE_POISON, FEATURE_SIGBUS, FEATURE_WP, Uffd};
use crate::ram::{Marking, PageError};
use crate::vcpu::VcpuError;
use crate::x86::processor::Level;
use crate::x86::xstate;

/// Where guest RAM starts, guest-physical: above everything that KVM keeps for itself.
pub const RAM_BASE: u64 = 1 << 32;

/// A host that cannot run sandboxes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// An eventfd, by which a run can be stopped, was refused.
    #[error("cannot make an eventfd: {0}")]
    Eventfd(#[source] io::Error),
    /// There is no `/dev/kvm`.
    #[error(
        "/dev/kvm does not exist: this machine has no KVM; load kvm_intel or kvm_amd, or enable virtualization"
    )]
    NoKvm,
    /// It may not be opened.
    #[error(
        "no permission to open /dev/kvm; add yourself to its group (often `kvm`), or ask for access to it"
    )]
    NoPermission,
    /// It does not work.
    #[error("/dev/kvm: {what}: {error}")]
    Kvm {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        error: io::Error,
    },
    /// KVM is older than everything that is known.
    #[error("/dev/kvm speaks API version {0}, not 12: this kernel is too old")]
    Version(i32),
    /// A capability is missing.
    #[error("this KVM lacks {0}, which sandboxes need; use a newer kernel")]
    Missing(&'static str),
    /// The CPU is older than any processor that programs are shown.
    #[error("this CPU, as KVM has it, is below x86-64-v2 with XSAVE, which programs are shown at least")]
    Cpu,
    /// A tiny guest did not run as any known host runs it.
    #[error("a test guest did not run: {0}")]
    Guest(String),
}

impl From<PageError> for HostError {
    fn from(e: PageError) -> HostError {
        HostError::Guest(e.to_string())
    }
}

impl From<VcpuError> for HostError {
    fn from(e: VcpuError) -> HostError {
        HostError::Guest(e.to_string())
    }
}

/// Makes a virtual machine, again where a signal comes in between: `KVM_CREATE_VM` registers with the memory
/// manager, which a signal interrupts (`mm_take_all_locks`).
///
/// # Errors
/// What KVM says.
pub fn create_vm(kvm: &Kvm) -> Result<VmFd, HostError> {
    /// So that no stream of signals keeps it up for ever.
    const TRIES: usize = 1000;
    let mut tries = 0..TRIES;
    loop {
        match kvm.create_vm() {
            Err(e) if e.errno() == libc::EINTR && tries.next().is_some() => {}
            made => return made.map_err(|e| HostError::Kvm { what: "KVM_CREATE_VM", error: e.into() }),
        }
    }
}

/// Opens `/dev/kvm`.
///
/// # Errors
/// [`HostError`] with what to do.
pub fn open_kvm() -> Result<Kvm, HostError> {
    let kvm = Kvm::new().map_err(|e| match e.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => HostError::NoKvm,
        libc::EACCES | libc::EPERM => HostError::NoPermission,
        _ => HostError::Kvm { what: "opening it", error: e.into() },
    })?;
    match kvm.get_api_version() {
        12 => Ok(kvm),
        version if version < 0 => {
            Err(HostError::Kvm { what: "asking for its version", error: io::Error::last_os_error() })
        }
        version => Err(HostError::Version(version)),
    }
}

/// The capabilities that sandboxes need and that this KVM lacks, by name.
pub(crate) fn missing_capabilities(kvm: &Kvm) -> Vec<&'static str> {
    const NEEDED: [(Cap, &str); 5] = [
        (Cap::SyncRegs, "KVM_CAP_SYNC_REGS"),
        (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
        (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
        (Cap::Xsave, "KVM_CAP_XSAVE"),
        (Cap::Xcrs, "KVM_CAP_XCRS"),
    ];
    NEEDED.into_iter().filter(|(cap, _)| !kvm.check_extension(*cap)).map(|(_, name)| name).collect()
}

/// Whose ports are opened to programs by the I/O permission bitmap of the TSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum IoMap {
    /// A busy task's: on every CPU, as the task that runs is one.
    Busy,
    /// Only that of a task that is not: QEMU emulates it so (`target/i386/tcg/sysemu/seg_helper.c`, `helper_check_io`).
    Available,
    /// Nobody's.
    Ignored,
}

/// What a host does, as far as running a sandbox depends on it.
#[derive(Clone, Debug)]
pub struct HostProfile {
    /// `SYSCALL` leaves CS as it was: the whole guest runs in hardware ring 3.
    pub syscall_stays_user: bool,
    /// RDTSC faults when the guest's CR4.TSD says so.
    pub tsc_by_cr4: bool,
    /// RDTSC faults only when the thread's own setting says so, too.
    pub tsc_by_thread: bool,
    /// How ports are opened to programs.
    pub io_map: IoMap,
    /// CPUID at CPL 3 gives the table that was set, not the CPU's own values.
    pub cpuid_traps: bool,
    /// Programs may set their segment bases themselves.
    pub fsgsbase: bool,
    /// Extended-state components that the guest gets: XCR0.
    pub xcr0: u64,
    /// Bytes of their XSAVE area.
    pub xsave_bytes: usize,
    /// The CPUID table that the guest gets, where KVM answers CPUID.
    pub cpuid: CpuId,
    /// Poison markers work.
    pub poison: bool,
    /// Missing pages fail without a handler.
    pub missing: bool,
    /// CPUs that this process may use, as of the probe.
    pub cpus: usize,
    /// The best processor that programs can have here.
    pub level: Level,
    /// The CPU, for people and for comparing: vendor, family, model, stepping, features.
    pub cpu: CpuIdentity,
    /// See [`HostProfile::bare_metal`].
    bare_metal: Arc<OnceLock<BareMetal>>,
    /// Where what was found out is kept, if it is.
    known: Option<Arc<Known>>,
    /// Makes machines cheaper to make while it is there.
    idle: Option<Arc<IdleVm>>,
}

/// What a host does with guests at CPL 0 that own their page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BareMetal {
    /// KVM walks the guest's page tables itself and keeps a shadow of them, so that they must not be
    /// absent.
    pub shadow_paging: bool,
    /// When a write of a port exits, RIP is behind the instruction already; elsewhere KVM moves it when
    /// the guest is entered again.
    pub out_retires: bool,
}

/// A virtual machine that never runs. KVM rewrites kernel code on all CPUs when the first vCPU
/// without an in-kernel interrupt controller comes and when the last one goes (the static branch
/// `kvm_has_noapic_vcpu` of `arch/x86/kvm/lapic.c`); with this one around, no other is the first or
/// the last.
struct IdleVm {
    _vcpu: VcpuFd,
    _vm: VmFd,
}

impl std::fmt::Debug for IdleVm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdleVm")
    }
}

impl IdleVm {
    fn new(kvm: &Kvm) -> Result<IdleVm, HostError> {
        let vm = create_vm(kvm)?;
        let vcpu =
            vm.create_vcpu(0).map_err(|e| HostError::Kvm { what: "KVM_CREATE_VCPU", error: e.into() })?;
        Ok(IdleVm { _vcpu: vcpu, _vm: vm })
    }
}

/// What a program can tell of its CPU by CPUID, as far as it decides what code it runs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CpuIdentity {
    /// Vendor string.
    pub vendor: String,
    /// Leaf 1 EAX: family, model, stepping.
    pub signature: u32,
    /// Feature words: leaf 1 EDX and ECX, leaf 7 EBX, ECX and EDX, leaf 0x80000001 ECX.
    pub features: [u32; 6],
    /// XCR0.
    pub xcr0: u64,
}

/// Bytes of a vendor string, in EBX, EDX and ECX of leaf 0.
const VENDOR_BYTES: usize = 12;

impl CpuIdentity {
    /// Whether a CPU can say this of itself: for a state out of a file.
    pub fn is_valid(&self) -> bool {
        let CpuIdentity { vendor, signature: _, features: _, xcr0: _ } = self;
        vendor.len() <= VENDOR_BYTES && vendor.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
    }
}

impl std::fmt::Display for CpuIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:#x}, features", self.vendor, self.signature)?;
        for word in self.features {
            write!(f, " {word:08x}")?;
        }
        write!(f, ", XCR0 {:#x}", self.xcr0)
    }
}

/// x87, SSE, AVX and AVX-512 (Intel SDM volume 1, section 13.1). Protection keys are left out:
/// their register is not saved in a signal frame here.
const XCR0_WANTED: u64 = xstate::X87 | xstate::SSE | xstate::AVX | xstate::AVX512;
/// FSGSBASE in CPUID leaf 7 EBX.
const FSGSBASE: u32 = 1;
/// In leaf 7 EBX: HLE and RTM, whose aborts are not deterministic, and RDSEED.
const LEAF7_EBX_HIDDEN: u32 = 1 << 4 | 1 << 11 | 1 << 18;
/// In leaf 7 ECX: RDPID and the protection keys.
const LEAF7_ECX_HIDDEN: u32 = 1 << 22 | 1 << 3 | 1 << 4;
/// In leaf 1 ECX: RDRAND.
const LEAF1_ECX_HIDDEN: u32 = 1 << 30;
/// In leaf 1 ECX: OSXSAVE, which follows CR4.
const OSXSAVE: u32 = 1 << 27;

fn leaf(cpuid: &CpuId, function: u32, index: u32) -> Option<&kvm_bindings::kvm_cpuid_entry2> {
    cpuid.as_slice().iter().find(|e| e.function == function && e.index == index)
}

/// What the host can give, with what must not be seen taken out.
fn masked(mut cpuid: CpuId) -> CpuId {
    for entry in cpuid.as_mut_slice() {
        match (entry.function, entry.index) {
            (1, _) => {
                entry.ecx = entry.ecx & !LEAF1_ECX_HIDDEN | OSXSAVE;
                // The initial APIC id: that of CPU 0.
                entry.ebx &= 0x00ff_ffff;
            }
            (7, 0) => {
                entry.ebx &= !LEAF7_EBX_HIDDEN;
                entry.ecx &= !LEAF7_ECX_HIDDEN;
            }
            (0xb | 0x1f, _) => entry.edx = 0,
            _ => {}
        }
    }
    cpuid
}

/// The standard XSAVE area's size for a set of components (CPUID leaf 0xD).
fn xsave_bytes(cpuid: &CpuId, xcr0: u64) -> usize {
    const LEGACY_AND_HEADER: u32 = 576;
    (2..63)
        .filter(|component| xcr0 & (1 << component) != 0)
        .filter_map(|component| leaf(cpuid, 0xd, component).map(|e| e.ebx + e.eax))
        .max()
        .unwrap_or(LEGACY_AND_HEADER)
        .max(LEGACY_AND_HEADER) as usize
}

/// The best processor that programs can have with these feature words and components.
fn level(words: [u32; 5], xcr0: u64) -> Option<Level> {
    Level::of(words)
        .into_iter()
        .flat_map(|best| Level::ALL.into_iter().filter(move |level| *level <= best))
        .find(|level| level.xcr0() & !xcr0 == 0)
}

/// The table of a processor, as KVM takes it. With `fsgsbase` it has that as well, which KVM asks for before it lets
/// a program set its segment bases.
pub fn program_table(level: Level, fsgsbase: bool) -> CpuId {
    let entries: Vec<kvm_cpuid_entry2> = level
        .leaves()
        .iter()
        .map(|leaf| kvm_cpuid_entry2 {
            function: leaf.function,
            index: leaf.index.unwrap_or(0),
            flags: leaf.index.map_or(0, |_| KVM_CPUID_FLAG_SIGNIFCANT_INDEX),
            eax: leaf.regs[0],
            ebx: leaf.regs[1] | if fsgsbase && leaf.function == 7 { FSGSBASE } else { 0 },
            ecx: leaf.regs[2],
            edx: leaf.regs[3],
            ..Default::default()
        })
        .collect();
    CpuId::from_entries(&entries).expect("KVM takes more leaves than there are")
}

fn identity(cpuid: &CpuId, xcr0: u64) -> CpuIdentity {
    let word =
        |function, pick: fn(&kvm_bindings::kvm_cpuid_entry2) -> u32| leaf(cpuid, function, 0).map_or(0, pick);
    let vendor: Vec<u8> = [word(0, |e| e.ebx), word(0, |e| e.edx), word(0, |e| e.ecx)]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    CpuIdentity {
        vendor: String::from_utf8_lossy(&vendor).into_owned(),
        signature: word(1, |e| e.eax),
        features: [
            word(1, |e| e.edx),
            word(1, |e| e.ecx),
            word(7, |e| e.ebx),
            word(7, |e| e.ecx),
            word(7, |e| e.edx),
            word(0x8000_0001, |e| e.ecx),
        ],
        xcr0,
    }
}

impl HostProfile {
    /// Finds out. Takes about a millisecond: do it once, and share the result.
    ///
    /// # Errors
    /// [`HostError`] when no sandbox can run here.
    pub fn probe() -> Result<Arc<HostProfile>, HostError> {
        let kvm = open_kvm()?;
        let mut profile = HostProfile::without_guests(&kvm)?;
        profile.idle = Some(Arc::new(IdleVm::new(&kvm)?));
        profile.probe_guest(&kvm)?;
        profile.level = profile.best_level()?;
        Ok(Arc::new(profile))
    }

    /// As [`HostProfile::probe`], for a process that makes one machine and is in a hurry: what takes a
    /// guest to find out is kept in this directory, from one process to the next, until the host's
    /// kernel or CPU is another one. The directory is made if its parent is there. One that another
    /// user owns or can write to is not trusted, nor is one that does not work; that is no error.
    ///
    /// # Errors
    /// As [`HostProfile::probe`].
    pub fn probe_cached(dir: &Path) -> Result<Arc<HostProfile>, HostError> {
        let kvm = open_kvm()?;
        let mut profile = HostProfile::without_guests(&kvm)?;
        let known = Arc::new(Known::at(dir, &profile.cpu));
        match known.read() {
            Some(found) => profile.set_found(found),
            None => {
                profile.probe_guest(&kvm)?;
                known.write(&profile.found());
            }
        }
        profile.level = profile.best_level()?;
        profile.known = Some(known);
        Ok(Arc::new(profile))
    }

    /// The best processor that programs can have: what KVM lists where it traps `CPUID`, what the CPU says of
    /// itself where not, since KVM may list less than there is; and also where the guest runs in hardware ring 3,
    /// as any program of the host does, with all that the CPU has for them.
    fn best_level(&self) -> Result<Level, HostError> {
        let words = if self.cpuid_traps && !self.syscall_stays_user {
            let leaf = |function| leaf(&self.cpuid, function, 0).copied().unwrap_or_default();
            let (first, seventh, extended) = (leaf(1), leaf(7), leaf(0x8000_0001));
            [first.ecx, first.edx, seventh.ebx, extended.ecx, extended.edx]
        } else {
            let [first, seventh, extended] = [1, 7, 0x8000_0001].map(|function| __cpuid_count(function, 0));
            [first.ecx, first.edx, seventh.ebx, extended.ecx, extended.edx]
        };
        level(words, self.xcr0).ok_or(HostError::Cpu)
    }

    /// What guests found out.
    fn found(&self) -> Found {
        Found {
            syscall_stays_user: self.syscall_stays_user,
            tsc_by_cr4: self.tsc_by_cr4,
            tsc_by_thread: self.tsc_by_thread,
            io_map: self.io_map,
            cpuid_traps: self.cpuid_traps,
            bare_metal: self.bare_metal.get().copied(),
        }
    }

    fn set_found(&mut self, found: Found) {
        let Found { syscall_stays_user, tsc_by_cr4, tsc_by_thread, io_map, cpuid_traps, bare_metal } = found;
        self.syscall_stays_user = syscall_stays_user;
        self.tsc_by_cr4 = tsc_by_cr4;
        self.tsc_by_thread = tsc_by_thread;
        self.io_map = io_map;
        self.cpuid_traps = cpuid_traps;
        self.bare_metal = Arc::new(bare_metal.map_or_else(OnceLock::new, OnceLock::from));
    }

    /// What is found out without a guest.
    fn without_guests(kvm: &Kvm) -> Result<HostProfile, HostError> {
        if let Some(name) = missing_capabilities(kvm).first() {
            return Err(HostError::Missing(name));
        }
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|e| HostError::Kvm { what: "KVM_GET_SUPPORTED_CPUID", error: e.into() })?;
        let cpuid = masked(supported);
        let xcr0 =
            leaf(&cpuid, 0xd, 0).map_or(3, |e| u64::from(e.eax) | u64::from(e.edx) << 32) & XCR0_WANTED;
        Ok(HostProfile {
            syscall_stays_user: false,
            io_map: IoMap::Ignored,
            tsc_by_cr4: false,
            tsc_by_thread: false,
            cpuid_traps: false,
            fsgsbase: leaf(&cpuid, 7, 0).is_some_and(|e| e.ebx & FSGSBASE != 0),
            xcr0,
            xsave_bytes: xsave_bytes(&cpuid, xcr0),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            level: Level::V2,
            cpu: identity(&cpuid, xcr0),
            cpuid,
            poison: Uffd::open(FEATURE_WP | FEATURE_POISON).is_ok(),
            missing: Uffd::open(FEATURE_SIGBUS).is_ok(),
            bare_metal: Arc::default(),
            known: None,
            idle: None,
        })
    }

    /// Runs `cpuid; rdtsc; syscall` at CPL 3, once with CR4.TSD set, and where that does not make
    /// RDTSC fault, again from RDTSC on with the thread's setting.
    fn probe_guest(&mut self, kvm: &Kvm) -> Result<(), HostError> {
        /// `mov eax, BRAND; cpuid; mov r8d, eax; rdtsc; syscall`.
        const PROGRAM: [u8; 14] =
            [0xb8, 0x02, 0x00, 0x00, 0x80, 0x0f, 0xa2, 0x41, 0x89, 0xc0, 0x0f, 0x31, 0x0f, 0x05];
        const RDTSC: u64 = START + 10;
        const SYSCALL: u64 = START + 12;

        let cpuid = marked(&self.cpuid);
        let mut guest = Tiny::new(kvm, &cpuid, self.xcr0, self.fsgsbase)?;
        guest.tables.load(&PROGRAM);
        guest.enter(Ring::User, START, true)?;
        self.tsc_by_cr4 = rdtsc_faults(guest.run()?, RDTSC)?;
        self.cpuid_traps = guest.vcpu.regs().r8 == u64::from(MARKER);
        if self.tsc_by_cr4 {
            guest.enter(Ring::User, SYSCALL, true)?;
            match guest.run()? {
                Event::Syscall => {}
                other => return Err(HostError::Guest(format!("SYSCALL at CPL 3 gave {other:?}"))),
            }
        }
        self.syscall_stays_user = guest.vcpu.sregs()?.cs.selector & 3 == 3;
        if !self.tsc_by_cr4 {
            guest.enter(Ring::User, RDTSC, true)?;
            guest.vcpu.trap_tsc_by_thread(true);
            self.tsc_by_thread = rdtsc_faults(guest.run()?, RDTSC)?;
            guest.vcpu.trap_tsc_by_thread(false);
        }
        self.io_map = guest.io_map()?;
        Ok(())
    }

    /// What only bare-metal guests need to know of the host. It is found out when it is first asked
    /// for, in about a millisecond.
    ///
    /// # Errors
    /// When a test guest does not run.
    pub fn bare_metal(&self) -> Result<BareMetal, HostError> {
        if let Some(known) = self.bare_metal.get() {
            return Ok(*known);
        }
        let mut guest = Tiny::new(&open_kvm()?, &self.cpuid, self.xcr0, self.fsgsbase)?;
        let found =
            BareMetal { shadow_paging: walker::is_shadow(&mut guest)?, out_retires: guest.out_retires()? };
        let found = *self.bare_metal.get_or_init(|| found);
        if let Some(known) = &self.known {
            known.write(&self.found());
        }
        Ok(found)
    }

    /// The best way to mark absent pages here.
    pub fn marking(&self) -> Marking {
        if self.poison {
            Marking::Poison
        } else if self.missing {
            Marking::Missing
        } else {
            Marking::Eager
        }
    }
}

/// Whether the guest, which runs RDTSC and then `SYSCALL`, was stopped by the first.
fn rdtsc_faults(event: Event, rdtsc: u64) -> Result<bool, HostError> {
    match event {
        Event::Exception { frame, .. } if frame.rip == rdtsc => Ok(true),
        Event::Syscall => Ok(false),
        other => Err(HostError::Guest(format!("RDTSC and SYSCALL at CPL 3 gave {other:?}"))),
    }
}

/// First leaf of the brand string, which every x86-64 CPU has.
const BRAND: u32 = 0x8000_0002;
/// What no CPU's brand string starts with.
const MARKER: u32 = 0x4d56_4a44;

/// The table with a mark in it that no CPU gives.
fn marked(cpuid: &CpuId) -> CpuId {
    let mut marked = cpuid.clone();
    for entry in marked.as_mut_slice().iter_mut().filter(|e| e.function == BRAND) {
        entry.eax = MARKER;
    }
    marked
}
