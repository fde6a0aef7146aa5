//! What came out of `KVM_RUN`, as one typed value.

use kvm_ioctls::VcpuExit;
use smallvec::SmallVec;

use super::KvmResult;

/// The bytes of an access. They stand inside the value for all but string instructions, so that the
/// way from `KVM_RUN` to a settled fault allocates nothing.
pub type Data = SmallVec<[u8; 8]>;

/// An exit, before anybody has said what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `OUT` to a port.
    Out {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        size: u8,
        /// The bytes written: those of one access, or more of a string instruction.
        data: Data,
    },
    /// `IN` from a port.
    In {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        size: u8,
        /// How many bytes are wanted: those of one access, or more for a string instruction.
        len: usize,
    },
    /// KVM's emulator read an address that it has no memory for.
    MmioRead {
        /// Guest-physical address.
        gpa: u64,
        /// Bytes wanted, 1 to 8.
        len: usize,
    },
    /// KVM's emulator wrote an address that it has no memory for; the instruction has retired.
    MmioWrite {
        /// Guest-physical address.
        gpa: u64,
        /// The bytes.
        data: Data,
    },
    /// `KVM_EXIT_MEMORY_FAULT`.
    MemoryFault {
        /// Guest-physical address.
        gpa: u64,
        /// Bytes of the range that faulted.
        size: u64,
    },
    /// `EFAULT` and no reason: memory that could not be had, at an address that is not told.
    BareFault,
    /// A signal is queued for this thread.
    Signal,
    /// `HLT`.
    Halt,
    /// A triple fault, or what KVM treats as one.
    Shutdown,
    /// `KVM_EXIT_INTERNAL_ERROR`; suberror 1 is a failed emulation.
    InternalError {
        /// `KVM_INTERNAL_ERROR_*`.
        suberror: u32,
        /// What KVM says of it.
        data: Vec<u64>,
    },
    /// The CPU refused the guest's state.
    FailEntry {
        /// The hardware's reason.
        reason: u64,
    },
    /// A debug exception that the monitor asked for.
    Debug,
    /// `KVM_RUN` failed otherwise.
    Failed {
        /// Its error number.
        errno: i32,
    },
    /// An exit that nobody expects.
    Other(String),
}

impl Exit {
    /// From what `kvm-ioctls` made of it.
    pub(super) fn from_kvm(result: KvmResult<'_>) -> Exit {
        match result {
            // The size of one access is in the run area alone.
            Ok(VcpuExit::IoOut(port, data)) => {
                Exit::Out { port, size: data.len() as u8, data: SmallVec::from_slice(data) }
            }
            Ok(VcpuExit::IoIn(port, data)) => Exit::In { port, size: data.len() as u8, len: data.len() },
            Ok(VcpuExit::MmioRead(gpa, data)) => Exit::MmioRead { gpa, len: data.len() },
            Ok(VcpuExit::MmioWrite(gpa, data)) => Exit::MmioWrite { gpa, data: SmallVec::from_slice(data) },
            Ok(VcpuExit::MemoryFault { gpa, size, .. }) => Exit::MemoryFault { gpa, size },
            Ok(VcpuExit::Hlt) => Exit::Halt,
            Ok(VcpuExit::Shutdown) => Exit::Shutdown,
            Ok(VcpuExit::InternalError) => Exit::InternalError { suberror: 0, data: Vec::new() },
            Ok(VcpuExit::FailEntry(reason, _)) => Exit::FailEntry { reason },
            Ok(VcpuExit::Debug(_)) => Exit::Debug,
            Ok(VcpuExit::Intr) => Exit::Signal,
            Ok(other) => Exit::Other(format!("{other:?}")),
            Err(e) => match e.errno() {
                libc::EFAULT => Exit::BareFault,
                libc::EINTR | libc::EAGAIN => Exit::Signal,
                errno => Exit::Failed { errno },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_named() {
        let from = |errno| Exit::from_kvm(Err(kvm_ioctls::Error::new(errno)));
        assert_eq!(from(libc::EFAULT), Exit::BareFault);
        assert_eq!(from(libc::EINTR), Exit::Signal);
        assert_eq!(from(libc::ENOMEM), Exit::Failed { errno: libc::ENOMEM });
    }

    #[test]
    fn data_is_copied_out() {
        let exit = Exit::from_kvm(Ok(VcpuExit::IoOut(0x10, &[7])));
        assert_eq!(exit, Exit::Out { port: 0x10, size: 1, data: SmallVec::from_slice(&[7]) });
    }
}
